"""Serves async views whose requests wait, at the price of no thread per waiting client.

Django's own ASGI handler opens a thread for each request: for its signal receivers, for any sync
middleware, for the log line of an error. This one has none of them. It is meant for API views
alone: no session, no CSRF cookie, no template.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Container, Mapping
from io import BytesIO
from typing import Any

from corsheaders.middleware import CorsMiddleware
from django.conf import settings
from django.core.exceptions import SuspiciousOperation
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, HttpResponse

from llmbatch.errors import json_error

logger = logging.getLogger(__name__)

View = Callable[[HttpRequest], Awaitable[HttpResponse]]


class ClientGone(Exception):
    """The client closed its connection before the answer."""


class LeanApplication:
    """An ASGI application over `{path: async view}`.

    The paths of `any_host` answer whatever the Host header says: probes ask by address.
    """

    def __init__(self, views: Mapping[str, View], *, any_host: Container[str] = ()) -> None:
        self._views = views
        self._any_host = any_host
        self._chain = CorsMiddleware(self._respond)

    async def __call__(self, scope: Mapping[str, Any], receive: Any, send: Any) -> None:
        try:
            body = await _read_body(receive)
        except ClientGone:
            return
        if body is None:
            await _send_response(json_error(413), send)
            return
        listener = asyncio.create_task(receive(), name="listen for disconnect")
        request_task = asyncio.current_task()
        assert request_task is not None
        listener.add_done_callback(lambda task: _leave(task, request_task))
        try:
            response = await self._answer(scope, body)
        finally:
            listener.cancel()
        await _send_response(response, send)

    async def _answer(self, scope: Mapping[str, Any], body: bytes) -> HttpResponse:
        try:
            request = ASGIRequest(scope, BytesIO(body))
            # A chunked body has none, which REST framework would take for an empty body.
            request.META["CONTENT_LENGTH"] = str(len(body))
            if request.path_info not in self._any_host:
                request.get_host()
            return await self._chain(request)
        except (SuspiciousOperation, UnicodeError) as error:
            return json_error(400, detail=str(error).partition("\n")[0])
        except Exception:
            # Daphne would let the client hang until its next look at dead applications.
            logger.exception("A request failed.")
            return json_error(500)

    async def _respond(self, request: HttpRequest) -> HttpResponse:
        return await self._views[request.path_info](request)


def _leave(listener: asyncio.Task[Any], request_task: asyncio.Task[Any]) -> None:
    if not listener.cancelled() and listener.result().get("type") == "http.disconnect":
        request_task.cancel()


async def _read_body(receive: Any) -> bytes | None:
    """The whole body; None if it is larger than a request may be."""
    chunks, size = [], 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        chunk = message.get("body", b"")
        size += len(chunk)
        if size <= settings.MAX_BODY_BYTES:
            chunks.append(chunk)
        if not message.get("more_body", False):
            return b"".join(chunks) if size <= settings.MAX_BODY_BYTES else None


async def _send_response(response: HttpResponse, send: Any) -> None:
    headers = [(k.encode("latin-1"), v.encode("latin-1")) for k, v in response.items()]
    headers.append((b"Content-Length", str(len(response.content)).encode()))
    await send({"type": "http.response.start", "status": response.status_code, "headers": headers})
    await send({"type": "http.response.body", "body": response.content})
