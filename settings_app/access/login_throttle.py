"""Stops password guessing: after five failed logins, a username is refused from that address.

After twenty failures an address is refused for every username.
"""

import logging
import re
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
from django.db.models import F, QuerySet, Sum
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

logger = logging.getLogger("settings_app")

# Failed logins of an address, with any usernames, within AXES_COOLOFF_TIME.
ADDRESS_LIMIT = 20
# Stored in place of an unknown address; nothing listens on it.
UNKNOWN_ADDRESS = "0.0.0.0"  # noqa: S104  # nosec B104


def log_in(request: HttpRequest) -> HttpResponse:
    """Shows the admin's login, or a page with status 429 while the login is locked.

    This replaces axes' middleware, which every other request would pass through too.
    """
    response = admin.site.login(request)
    return _refuse(request) if getattr(request, "axes_locked_out", False) else response


class ThrottledLogin(AxesStandaloneBackend):  # type: ignore[misc]  # axes has no types
    """Runs before the backend that checks the password."""

    def authenticate(self, request: HttpRequest | None, **credentials: Any) -> None:
        if request is not None:  # Commands and the shell do not guess passwords.
            super().authenticate(request, **credentials)


class CountAhead(AxesDatabaseHandler):  # type: ignore[misc]  # axes has no types
    """Counts a login before its password is checked; axes resets the count if it was right.

    Axes itself counts afterwards, so parallel guesses could pass while one password is hashed.
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
        self._log_locked_address(request)
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

    @staticmethod
    def _log_locked_address(request: Any) -> None:
        address = request.axes_ip_address
        if not request.axes_locked_out and _is_locked_address(
            address, now=request.axes_attempt_time
        ):
            logger.warning(
                "Logins from %s are refused for every name, after %d failures.",
                address,
                ADDRESS_LIMIT,
                extra={"action": "login_locked"},
            )


def count_login(name: str, address: str, *, now: datetime) -> bool:
    """Counts one more login; returns False, without counting, if a limit is reached."""
    if _is_locked_address(address, now=now):
        return False
    row = {"username": name, "ip_address": address, "user_agent": ""}
    rows = AccessAttempt.objects.filter(**row)
    old = rows.filter(attempt_time__lt=now - settings.AXES_COOLOFF_TIME)
    free = rows.filter(failures_since_start__lt=settings.AXES_FAILURE_LIMIT)
    for _ in range(3):
        with transaction.atomic():
            # The form and the browser of the login are not stored.
            new = AccessAttempt(**row, failures_since_start=0)
            AccessAttempt.objects.bulk_create([new], ignore_conflicts=True)
            old.update(failures_since_start=0, attempt_time=now)
            # One statement compares and counts, so parallel logins cannot exceed the limit.
            if free.update(failures_since_start=F("failures_since_start") + 1, attempt_time=now):
                return True
        if rows.exists():
            break
        # A successful login deleted the row between the two statements, so try again.
    return False


def _is_locked_address(address: str, *, now: datetime) -> bool:
    failed = _recent_attempts(address, now=now).aggregate(sum=Sum("failures_since_start"))["sum"]
    return (failed or 0) >= ADDRESS_LIMIT


def _recent_attempts(address: str, *, now: datetime) -> QuerySet[AccessAttempt]:
    since = now - settings.AXES_COOLOFF_TIME
    recent: QuerySet[AccessAttempt] = AccessAttempt.objects.filter(
        ip_address=address, attempt_time__gte=since
    )
    return recent


def find_address(request: HttpRequest) -> str:
    """Returns the address whose logins are counted: the peer's, or the one the TLS proxy names.

    An IPv6 address is reduced to its /64 network, because one subscriber owns all addresses of it.
    """
    named = ""
    if settings.TLS_PROXY:
        header = request.META.get("HTTP_X_FORWARDED_FOR", "")
        entries = [entry for entry in map(str.strip, header.split(",")) if entry]
        # Each trusted proxy appended one entry; the client can forge all entries before those.
        named = next(iter(entries[-settings.TRUSTED_PROXIES :]), "")
    return (
        group_address(named)
        or group_address(request.META.get("REMOTE_ADDR", ""))
        or UNKNOWN_ADDRESS
    )


# An address with a port, as some proxies write it: [IPv6]:port, [IPv6] or IPv4:port.
_WITH_PORT = re.compile(r"\[([^\[\]]+)\](?::\d+)?|([\d.]+):\d+")


def group_address(text: str) -> str:
    """Returns "" for text that is not an IP address. Port and zone (`%eth0`) do not count."""
    text = text.strip('"')
    if found := _WITH_PORT.fullmatch(text):
        text = found[1] or found[2]
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return ""
    if isinstance(address, IPv6Address):
        address = address.ipv4_mapped or IPv6Network((address, 64), strict=False).network_address
    return str(address)


def _refuse(request: HttpRequest) -> HttpResponse:
    name = get_client_username(request, getattr(request, "axes_credentials", None)) or ""
    now, address = datetime.now(UTC), request.axes_ip_address  # type: ignore[attr-defined]
    recent = _recent_attempts(address, now=now).order_by("attempt_time")
    full = recent.filter(username=name, failures_since_start__gte=settings.AXES_FAILURE_LIMIT)
    by_address = not full and _is_locked_address(address, now=now)
    left_s = _seconds_left(recent if by_address else full, now=now)
    shown = {
        "minutes": ceil(left_s / 60),
        "limit": ADDRESS_LIMIT if by_address else settings.AXES_FAILURE_LIMIT,
        "by_address": by_address,
    }
    response = render(request, "login_locked.html", shown, status=429)
    response["Retry-After"] = str(left_s)
    response["Cache-Control"] = "no-store"
    return response


def _seconds_left(attempts: QuerySet[AccessAttempt], *, now: datetime) -> int:
    """Returns when the oldest of the attempts no longer counts; 1 if the lock was lifted since."""
    last: datetime | None = attempts.values_list("attempt_time", flat=True).first()
    if last is None:
        return 1
    return max(1, ceil((last + settings.AXES_COOLOFF_TIME - now).total_seconds()))
