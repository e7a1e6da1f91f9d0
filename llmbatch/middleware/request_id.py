"""`X-Request-Id`: names one HTTP exchange in the log and in its response.

It is not the `request_id` of a body: a proxy may give one name to a client's every attempt, or to
several requests, and must not decide by it which answer is replayed.
"""

import uuid
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

from batching.telemetry.log_context import begin_exchange

HEADER = b"X-Request-Id"
LONGEST = 200

Application = Callable[[Mapping[str, Any], Any, Any], Awaitable[None]]


class NamedExchanges:
    """ASGI, outermost: so that whatever answers, and however it fails, carries the name."""

    def __init__(self, application: Application) -> None:
        self._application = application

    async def __call__(self, scope: Mapping[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self._application(scope, receive, send)
            return
        name = choose_name(scope["headers"])

        async def send_named(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start":
                headers = [*message.get("headers", ()), (HEADER, name.encode())]
                message = message | {"headers": headers}
            await send(message)

        with begin_exchange(name):
            await self._application(scope, receive, send_named)


def choose_name(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """The client's, if it is printable ASCII and not too long; else a new one."""
    for name, value in headers:
        if name.lower() == b"x-request-id":
            text = value.decode("latin-1").strip()
            if 0 < len(text) <= LONGEST and text.isascii() and text.isprintable():
                return text
            break
    return uuid.uuid4().hex
