"""Who may log in, and who is locked out, in the admin."""

from typing import Any

from axes.models import AccessAttempt
from django.contrib import admin
from django.contrib.auth import admin as django_accounts
from django.contrib.auth.models import Group, User
from django.http import HttpRequest

from settings_app.admin_base import FixedRowsAdmin

admin.site.unregister([User, Group])
admin.site.site_url = None  # the pages have their own links in the header


@admin.register(User)
class UserAdmin(django_accounts.UserAdmin):
    """Plain lists in place of Django's two-column choosers, which a screen reader cannot name."""

    filter_horizontal = ()
    readonly_fields = ("last_login", "date_joined")


@admin.register(Group)
class GroupAdmin(django_accounts.GroupAdmin):
    filter_horizontal = ()


@admin.register(AccessAttempt)
class LoginAttemptAdmin(FixedRowsAdmin):
    """Of the last minutes, to see who is locked out. `manage.py axes_reset` lifts locks."""

    list_display = ("attempt_time", "username", "ip_address", "failures_since_start")
    fields = list_display
    search_fields = ("username", "ip_address")

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False
