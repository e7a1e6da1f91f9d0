"""Base classes of admins whose rows are not made by hand."""

from typing import Any

from django import forms
from django.contrib import admin
from django.http import HttpRequest


class FixedRowsAdmin(admin.ModelAdmin):  # type: ignore[type-arg]  # not generic at run time
    """Shows rows that nobody may add or delete in the admin."""

    actions = None

    def formfield_for_dbfield(self, *args: Any, **kwargs: Any) -> forms.Field | None:
        """Adds the shown value to the form, so that only edited fields are written."""
        field = super().formfield_for_dbfield(*args, **kwargs)
        if field is not None:
            field.show_hidden_initial = True
        return field

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class ReadOnlyAdmin(FixedRowsAdmin):
    """Shows rows that nobody may change in the admin either."""

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False
