"""The admin's lists of users, groups and failed logins."""

from axes.models import AccessAttempt
from django.contrib import admin
from django.contrib.auth import admin as django_accounts
from django.contrib.auth.models import Group, User

from settings_app.admin_base import ReadOnlyAdmin

admin.site.unregister([User, Group])
admin.site.site_url = None  # The header already has links to the pages.


@admin.register(User)
class UserAdmin(django_accounts.UserAdmin):  # type: ignore[type-arg]  # not generic at run time
    """Shows plain lists, because screen readers cannot name Django's two-column choosers."""

    filter_horizontal = ()
    readonly_fields = ("last_login", "date_joined")


@admin.register(Group)
class GroupAdmin(django_accounts.GroupAdmin):
    filter_horizontal = ()


@admin.register(AccessAttempt)
class LoginAttemptAdmin(ReadOnlyAdmin):
    """Shows which users are locked out. `./gateway axes_reset` lifts the locks."""

    list_display = ("attempt_time", "username", "ip_address", "failures_since_start")
    fields = list_display
    search_fields = ("username", "ip_address")
