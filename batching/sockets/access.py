"""Who may open a WebSocket, and whether they still may."""

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
from settings_app.access.auth import check_access, is_listed_origin, parse_bearer

SUBPROTOCOL = "bearer"
SESSION_CHECK_S = 30.0
"""a session costs a query each time; a key costs none"""


class SocketRefused(Exception):
    """The socket is not for them; `close_code` is 4000 and the HTTP status of such a request."""

    def __init__(self, close_code: int, code: str, detail: str) -> None:
        super().__init__(detail)
        self.close_code = close_code
        self.code = code


@dataclass(slots=True)
class Visitor:
    """Who is at the other end; `principal` is None without a key."""

    request: HttpRequest
    staff: bool
    principal: Principal | None = None
    checked_at: float = 0.0

    @property
    def client_id(self) -> int | None:
        """Whose requests and chats it may see: its key's client's alone; None is everybody's."""
        return self.principal.client_id if self.principal else None

    async def authorize(self) -> None:
        """Raises SocketRefused for whom the same HTTP request would be refused."""
        try:
            await self._check()
        except CONNECTION_ERRORS as error:
            away = log_unavailable(error)
            raise SocketRefused(4000 + away.status, away.code, str(away))

    async def _check(self) -> None:
        self.checked_at = time.monotonic()
        try:
            self.principal = await check_access(self.request, staff=self.staff)
        except PermissionDenied as error:
            raise SocketRefused(4403, "permission_denied", str(error.detail))
        except APIException as error:
            raise SocketRefused(4401, "not_authenticated", str(error.detail))

    async def authorize_again(self) -> None:
        """Cheap for a key that is known; raises SocketRefused for whom it is over."""
        wait_s = 0.0 if parse_bearer(self.request) else SESSION_CHECK_S
        if time.monotonic() - self.checked_at < wait_s:
            return
        try:
            await self._check()
        except (DatabaseError, InterfaceError):
            pass  # nobody is thrown out because the database is away


def parse_visitor(scope: Mapping[str, Any], *, staff: bool) -> Visitor:
    """A browser's script can set no header but the subprotocols: `bearer` and then the key."""
    headers = list(scope["headers"])
    offered = scope.get("subprotocols", [])
    named = {name for name, _ in headers}
    if len(offered) == 2 and offered[0] == SUBPROTOCOL and b"authorization" not in named:
        headers.append((b"authorization", f"Bearer {offered[1]}".encode("latin-1", "replace")))
    request = ASGIRequest({**scope, "method": "GET", "headers": headers}, BytesIO())
    return Visitor(request, staff)


def is_from_here(visitor: Visitor) -> bool:
    """False for a host that is not the gateway's and for a page of an origin that is not listed.

    In every mode: browsers send cookies along with any page's socket, and ask nobody first.
    """
    try:
        visitor.request.get_host()
        return is_listed_origin(visitor.request)
    except SuspiciousOperation:
        return False
