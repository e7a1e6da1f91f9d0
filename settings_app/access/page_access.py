"""Checks which users may open the HTML pages."""

from typing import Any

from django.conf import settings
from django.contrib.auth.decorators import user_passes_test
from django.http import HttpRequest


def _is_reader(user: Any) -> bool:
    return settings.API_ACCESS == "open" or bool(user and user.is_staff)


# Decorates views, sync or async: it redirects users that may not read the pages to the login.
for_readers = user_passes_test(_is_reader, login_url="admin:login")


def may_read(request: HttpRequest) -> bool:
    """Returns True for staff, and for everybody under `API_ACCESS=open`."""
    return _is_reader(getattr(request, "user", None))


def may_administer(request: HttpRequest) -> bool:
    """Returns True for staff: only they may follow links into the admin."""
    user = getattr(request, "user", None)
    return bool(user and user.is_staff)
