"""Serves async views whose requests wait, at the price of no thread per waiting client.

Django's own ASGI handler opens a thread for each request: for its signal receivers, for any sync
middleware, for the log line of an error. This one has none of them. It is meant for API views
alone: no session, no CSRF cookie, no template.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Container, Mapping
from contextlib import aclosing
from io import BytesIO
from typing import Any

from corsheaders.middleware import CorsMiddleware
from django.conf import settings
from django.core.exceptions import SuspiciousOperation
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase

from batching.api.openai.responses import in_callers_form
from batching.api.sse import EventStream
from batching.gateway.events import Event
from llmbatch.errors import json_error

logger = logging.getLogger(__name__)

View = Callable[[HttpRequest], Awaitable[HttpResponse]]


class ClientGone(Exception):
    """The client closed its connection before the answer."""


class LeanApplication:
    """An ASGI application over `{path: async view}`; a path with / at its end is others' beginning.

    The paths of `any_host` answer whatever the Host header says: probes ask by address.
    """

    def __init__(self, views: Mapping[str, View], *, any_host: Container[str] = ()) -> None:
        self._views = views
        self._any_host = any_host
        self._chain = CorsMiddleware(self._respond)

    def find_view(self, path: str) -> View | None:
        if path in self._views:
            return self._views[path]
        beginnings = (v for p, v in self._views.items() if p.endswith("/") and path.startswith(p))
        return next(beginnings, None)

    async def __call__(self, scope: Mapping[str, Any], receive: Any, send: Any) -> None:
        try:
            body = await _read_body(receive)
        except ClientGone:
            return
        if body is None:
            await _send_response(in_callers_form(json_error(413), scope["path"]), send)
            return
        listener = asyncio.create_task(receive(), name="listen for disconnect")
        request_task = asyncio.current_task()
        assert request_task is not None
        listener.add_done_callback(lambda task: _leave(task, request_task))
        try:
            response = await self._answer(scope, body)
            if isinstance(response, EventStream):
                await _send_events(response, send)  # its client may leave in the middle
                return
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
            response = json_error(400, detail=str(error).partition("\n")[0])
        except Exception:
            # Daphne would let the client hang until its next look at dead applications.
            logger.exception("A request failed.")
            response = json_error(500)
        return in_callers_form(response, scope["path"])

    async def _respond(self, request: HttpRequest) -> HttpResponse:
        view = self.find_view(request.path_info)
        assert view is not None, "the router has found it"
        return await view(request)


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
        # Daphne keeps the headers back until the first body, and an empty one will do.
        await send({"type": "http.response.body", "body": b"", "more_body": True})
        async for event in _survive(events):
            if frame := response.format_event(event):
                await send({"type": "http.response.body", "body": frame, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


async def _survive(events: AsyncGenerator[Event, None]) -> AsyncGenerator[Event, None]:
    """The status has gone out as 200: a failure of the gateway's own can only be an event."""
    try:
        async for event in events:
            yield event
    except Exception:
        logger.exception("A stream broke off.")
        yield {
            "type": "error",
            "code": "internal_error",
            "detail": "The gateway failed on this request; the server log has the cause.",
        }


def _list_headers(response: HttpResponseBase) -> list[tuple[bytes, bytes]]:
    return [(k.encode("latin-1"), v.encode("latin-1")) for k, v in response.items()]
