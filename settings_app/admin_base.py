"""Rows that the admin shows, and perhaps changes, but that nobody makes or takes away there."""

from typing import Any

from django.contrib import admin
from django.http import HttpRequest


class FixedRowsAdmin(admin.ModelAdmin):
    actions = None

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False
