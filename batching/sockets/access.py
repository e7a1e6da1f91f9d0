"""Checks who may open a WebSocket, and whether an open one may stay."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from typing import Any

from django.core.exceptions import SuspiciousOperation
from django.core.handlers.asgi import ASGIRequest
from django.db import DatabaseError, InterfaceError
from django.http import HttpRequest
from rest_framework.exceptions import APIException, PermissionDenied

from batching.store.threads import CONNECTION_ERRORS, log_unavailable
from settings_app.access.api_keys import Principal
from settings_app.access.auth import check_access, check_host, is_listed_origin, parse_bearer

SUBPROTOCOL = "bearer"
# Each check of a session costs a query; a check of a key costs none.
SESSION_CHECK_S = 30.0


class SocketRefused(Exception):
    """The client may not use the socket. `close_code` is 4000 plus the HTTP status."""

    def __init__(self, close_code: int, code: str, detail: str) -> None:
        super().__init__(detail)
        self.close_code = close_code
        self.code = code


@dataclass(slots=True)
class Visitor:
    """The client of a socket. `principal` is None without a key."""

    request: HttpRequest
    staff: bool
    principal: Principal | None = None
    checked_at: float = 0.0

    async def authorize(self) -> None:
        """Raises SocketRefused where an HTTP request would be refused."""
        try:
            await self._check()
        except CONNECTION_ERRORS as error:
            unavailable = log_unavailable(error)
            raise SocketRefused(4000 + unavailable.status, unavailable.code, str(unavailable))

    async def _check(self) -> None:
        self.checked_at = time.monotonic()
        try:
            self.principal = await check_access(self.request, staff=self.staff)
        except PermissionDenied as error:
            raise SocketRefused(4403, "permission_denied", str(error.detail))
        except APIException as error:
            raise SocketRefused(4401, "not_authenticated", str(error.detail))

    async def authorize_again(self) -> None:
        """Raises SocketRefused if the client may no longer use the socket."""
        wait_s = 0.0 if parse_bearer(self.request) else SESSION_CHECK_S
        if time.monotonic() - self.checked_at < wait_s:
            return
        try:
            await self._check()
        except (DatabaseError, InterfaceError):
            pass  # an unreachable database closes no socket


def parse_visitor(scope: Mapping[str, Any], *, staff: bool) -> Visitor:
    """Accepts a key as the second subprotocol too, after `bearer`.

    A script in a browser can set no other header of a WebSocket.
    """
    headers = list(scope["headers"])
    offered = scope.get("subprotocols", [])
    named = {name for name, _ in headers}
    if len(offered) == 2 and offered[0] == SUBPROTOCOL and b"authorization" not in named:
        headers.append((b"authorization", f"Bearer {offered[1]}".encode("latin-1", "replace")))
    request = ASGIRequest({**scope, "method": "GET", "headers": headers}, BytesIO())
    return Visitor(request, staff)


def has_listed_origin(visitor: Visitor) -> bool:
    """False for a Host that is not the gateway's, and for a page whose origin is not listed.

    This holds under open access too: a browser lets the script of any page open a socket with the
    user's cookies, without the preflight request that it sends for HTTP.
    """
    try:
        check_host(visitor.request)
        return is_listed_origin(visitor.request)
    except SuspiciousOperation:
        return False
