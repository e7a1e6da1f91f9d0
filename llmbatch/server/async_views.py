"""Serves async views whose requests wait, without a thread for each waiting client.

Django's own ASGI handler opens a thread for each request: for its signal receivers, for sync
middleware, and for the log line of an error. This application has none of them. It is only for API
views, which use no session, no CSRF cookie and no template.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Container, Mapping
from contextlib import aclosing
from io import BytesIO
from typing import Any

from django.conf import settings
from django.core.exceptions import SuspiciousOperation
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase

from batching.api.openai.responses import in_callers_form
from batching.api.sse import EventStream
from batching.engine.tasks import is_being_cancelled
from batching.gateway.events import Event
from llmbatch.errors import json_error
from llmbatch.middleware.cors import CorsMiddleware
from settings_app.access.auth import check_host

logger = logging.getLogger(__name__)

# An async view. Django's stubs describe what `as_view()` returns as if it were always sync.
View = Callable[[HttpRequest], Any]
AsyncResponse = HttpResponse | EventStream


class ClientGone(Exception):
    """The client closed its connection before its request was complete."""


class AsyncViewApplication:
    """An ASGI application over `{path: async view}`. A path that ends in / is a prefix.

    The paths of `any_host` accept every Host header, because probes connect to an IP address.
    """

    def __init__(self, views: Mapping[str, View], *, any_host: Container[str] = ()) -> None:
        self._views = views
        self._any_host = any_host
        self._chain: View = CorsMiddleware(self._respond)

    def find_view(self, path: str) -> View | None:
        if path in self._views:
            return self._views[path]
        prefixes = (v for p, v in self._views.items() if p.endswith("/") and path.startswith(p))
        return next(prefixes, None)

    async def __call__(self, scope: Mapping[str, Any], receive: Any, send: Any) -> None:
        try:
            body = await _read_body(receive)
        except ClientGone:
            return
        if body is None:
            await send_response(in_callers_form(json_error(413), scope["path"]), send)
            return
        listener = asyncio.create_task(receive(), name="listen for disconnect")
        request_task = asyncio.current_task()
        assert request_task is not None
        listener.add_done_callback(lambda task: _cancel_if_left(task, request_task))
        try:
            response = await self._answer(scope, body)
            if isinstance(response, EventStream):
                await _send_events(response, send)  # cancelled if its client leaves meanwhile
                return
        finally:
            listener.cancel()
        await send_response(response, send)

    async def _answer(self, scope: Mapping[str, Any], body: bytes) -> AsyncResponse:
        try:
            request = ASGIRequest(scope, BytesIO(body))
            # REST framework treats a body without a length (a chunked body) as empty.
            request.META["CONTENT_LENGTH"] = str(len(body))
            if request.path_info not in self._any_host:
                check_host(request)
            response: AsyncResponse = await self._chain(request)
            return response
        except (SuspiciousOperation, UnicodeError) as error:
            refused = json_error(400, detail=str(error).partition("\n")[0])
        except (Exception, asyncio.CancelledError):
            if is_being_cancelled():
                raise
            # Without a response the client would wait without end.
            logger.exception("A request failed.")
            refused = json_error(500)
        return in_callers_form(refused, scope["path"])

    async def _respond(self, request: HttpRequest) -> AsyncResponse:
        view = self.find_view(request.path_info)
        assert view is not None, "the router has found it"
        response: AsyncResponse = await view(request)
        return response


def _cancel_if_left(listener: asyncio.Task[Any], request_task: asyncio.Task[Any]) -> None:
    if not listener.cancelled() and listener.result().get("type") == "http.disconnect":
        request_task.cancel()


async def _read_body(receive: Any) -> bytes | None:
    """Returns the whole body, or None if it is larger than allowed."""
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


async def send_response(response: HttpResponse, send: Any) -> None:
    headers = _list_headers(response)
    headers.append((b"Content-Length", str(len(response.content)).encode()))
    await send({"type": "http.response.start", "status": response.status_code, "headers": headers})
    await send({"type": "http.response.body", "body": response.content})


async def _send_events(response: EventStream, send: Any) -> None:
    headers = _list_headers(response)
    async with aclosing(response.events) as events:
        await send(
            {"type": "http.response.start", "status": response.status_code, "headers": headers}
        )
        # Daphne sends the headers together with the first body, so an empty one goes first.
        await send({"type": "http.response.body", "body": b"", "more_body": True})
        async for event in _end_with_error(events):
            if frame := response.format_event(event):
                await send({"type": "http.response.body", "body": frame, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


async def _end_with_error(events: AsyncGenerator[Event, None]) -> AsyncGenerator[Event, None]:
    """Reports a failure of the gateway as an event, because the status 200 is already sent."""
    try:
        async for event in events:
            yield event
    except (Exception, asyncio.CancelledError):
        if is_being_cancelled():
            raise
        logger.exception("An event stream failed.")
        yield {
            "type": "error",
            "code": "internal_error",
            "detail": "The gateway failed on this request; the server log has the cause.",
        }


def _list_headers(response: HttpResponseBase) -> list[tuple[bytes, bytes]]:
    return [(k.encode("latin-1"), v.encode("latin-1")) for k, v in response.items()]
