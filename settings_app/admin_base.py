"""Base classes of admins whose rows are not made by hand."""

from typing import Any

from django.contrib import admin
from django.http import HttpRequest


class FixedRowsAdmin(admin.ModelAdmin):  # type: ignore[type-arg]  # not generic at run time
    """Shows rows that nobody may add or delete in the admin."""

    actions = None

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class ReadOnlyAdmin(FixedRowsAdmin):
    """Shows rows that nobody may change in the admin either."""

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False
