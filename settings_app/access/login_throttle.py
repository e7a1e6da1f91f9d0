"""Who guesses passwords is stopped: a name from one address has five tries, then a pause."""

import logging
from datetime import UTC, datetime
from ipaddress import IPv6Address, IPv6Network, ip_address
from math import ceil
from typing import Any

from axes.backends import AxesStandaloneBackend
from axes.handlers.database import AxesDatabaseHandler
from axes.helpers import get_client_username
from axes.models import AccessAttempt
from django.conf import settings
from django.contrib import admin
from django.db import transaction
from django.db.models import F
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

logger = logging.getLogger("settings_app")

# The place of an address in a row, not one to listen on.
UNKNOWN_ADDRESS = "0.0.0.0"  # noqa: S104  # nosec B104


def log_in(request: HttpRequest) -> HttpResponse:
    """The admin's login, and a page that says so where it is locked.

    In the place of axes' middleware, which every other request would have to pass too.
    """
    response = admin.site.login(request)
    return _refuse(request) if getattr(request, "axes_locked_out", False) else response


class ThrottledLogin(AxesStandaloneBackend):
    """Stands before the backend that looks at the password."""

    def authenticate(self, request: HttpRequest | None, **credentials: Any) -> None:
        if request is not None:  # a command or a shell guesses nothing
            super().authenticate(request, **credentials)


class CountAhead(AxesDatabaseHandler):
    """Counts a login before its password is looked at, and forgets the count if it was right.

    Axes itself counts afterwards: as many guesses as fit into the time of one hash would pass.
    """

    def is_allowed(self, request: Any, credentials: dict[str, Any] | None = None) -> bool:
        name = get_client_username(request, credentials) or ""
        allowed = count_login(name, request.axes_ip_address, now=request.axes_attempt_time)
        request.axes_locked_out = not allowed
        request.axes_credentials = credentials
        return allowed

    def user_login_failed(
        self, sender: Any, credentials: dict[str, Any], request: Any = None, **kwargs: Any
    ) -> None:
        if request is None:
            return
        self.clean_expired_user_attempts(request, credentials)
        if request.axes_locked_out or not self.is_locked(request, credentials):
            return
        request.axes_locked_out = True
        logger.warning(
            "Logins as %r from %s are refused for %d minutes, after %d failures.",
            get_client_username(request, credentials),
            request.axes_ip_address,
            settings.AXES_COOLOFF_TIME.total_seconds() // 60,
            settings.AXES_FAILURE_LIMIT,
            extra={"action": "login_locked"},
        )


def count_login(name: str, address: str, *, now: datetime) -> bool:
    """Counts one more try; False if there is none left, and then nothing is counted."""
    row = {"username": name, "ip_address": address, "user_agent": ""}
    rows = AccessAttempt.objects.filter(**row)
    old = rows.filter(attempt_time__lt=now - settings.AXES_COOLOFF_TIME)
    free = rows.filter(failures_since_start__lt=settings.AXES_FAILURE_LIMIT)
    for _ in range(3):
        with transaction.atomic():
            # What was sent is not kept: neither form nor browser.
            new = AccessAttempt(**row, failures_since_start=0)
            AccessAttempt.objects.bulk_create([new], ignore_conflicts=True)
            old.update(failures_since_start=0, attempt_time=now)
            # One statement compares and counts: of parallel tries each takes a place of its own.
            if free.update(failures_since_start=F("failures_since_start") + 1, attempt_time=now):
                return True
        if rows.exists():
            break
        # A right password took the row away between the two statements: once more.
    return False


def find_address(request: HttpRequest) -> str:
    """Whose tries are counted together: the peer, or whom the TLS proxy names as its own peer.

    Of an IPv6 address the network, because one subscriber has 2**64 addresses of it.
    """
    peer = request.META.get("REMOTE_ADDR", "")
    # Only what the proxy itself appended is true; what stands before it the client could send.
    last = request.META.get("HTTP_X_FORWARDED_FOR", "").rpartition(",")[2].strip()
    return (settings.TLS_PROXY and _group(last)) or _group(peer) or UNKNOWN_ADDRESS


def _group(text: str) -> str:
    """ "" if it is no address."""
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return ""
    if isinstance(address, IPv6Address):
        address = address.ipv4_mapped or IPv6Network((address, 64), strict=False).network_address
    return str(address)


def _refuse(request: HttpRequest) -> HttpResponse:
    left_s = _seconds_left(request)
    shown = {"minutes": ceil(left_s / 60), "limit": settings.AXES_FAILURE_LIMIT}
    response = render(request, "login_locked.html", shown, status=429)
    response["Retry-After"] = str(left_s)
    response["Cache-Control"] = "no-store"
    return response


def _seconds_left(request: Any) -> int:
    name = get_client_username(request, request.axes_credentials) or ""
    tried = AccessAttempt.objects.filter(username=name, ip_address=request.axes_ip_address)
    last = tried.values_list("attempt_time", flat=True).first()
    if last is None:
        return 1  # the lock was lifted meanwhile
    return max(1, ceil((last + settings.AXES_COOLOFF_TIME - datetime.now(UTC)).total_seconds()))
