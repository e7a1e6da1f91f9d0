"""`X-Request-Id`: identifies one HTTP exchange in the log and in its response.

It differs from the `request_id` of a body, which decides which answer is replayed: a proxy may
send one `X-Request-Id` with several requests, or with every attempt of one client.
"""

import uuid
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

from batching.telemetry.log_context import begin_exchange

HEADER = b"X-Request-Id"
MAX_LENGTH = 200

Application = Callable[[Mapping[str, Any], Any, Any], Awaitable[None]]


class RequestIdMiddleware:
    """The outermost ASGI application, so that every response carries the header."""

    def __init__(self, application: Application) -> None:
        self._application = application

    async def __call__(self, scope: Mapping[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self._application(scope, receive, send)
            return
        request_id = choose_request_id(scope["headers"])

        async def send_with_id(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start":
                headers = [*message.get("headers", ()), (HEADER, request_id.encode())]
                message = message | {"headers": headers}
            await send(message)

        with begin_exchange(request_id):
            await self._application(scope, receive, send_with_id)


def choose_request_id(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """Returns the client's ID if it is printable ASCII and not too long, else a new one."""
    for name, value in headers:
        if name.lower() == b"x-request-id":
            text = value.decode("latin-1").strip()
            if 0 < len(text) <= MAX_LENGTH and text.isascii() and text.isprintable():
                return text
            break
    return uuid.uuid4().hex
