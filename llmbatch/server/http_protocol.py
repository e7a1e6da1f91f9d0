"""Daphne's HTTP protocol with bounds on bodies and buffers, and with errors in the API's form.

This code runs on the event loop, before any access check.
"""

import asyncio
from typing import Any

from daphne.http_protocol import HTTPFactory, WebRequest
from django.conf import settings
from django.http import HttpResponse
from twisted.internet.interfaces import IPushProducer
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel
from zope.interface import implementer

from batching.api.openai.responses import in_callers_form
from llmbatch.errors import json_error
from llmbatch.middleware.request_id import HEADER, choose_request_id
from llmbatch.server.connections import Connection, Connections, choose_total
from llmbatch.server.websocket_protocol import BackpressureSocket

# After a 413 the connection stays open for this long, so that the client can read the response.
# An immediate close would reset the connection and lose the response.
LINGER_S = 2.0
# A client that reads nothing of its response for this long is disconnected.
STALL_S = 60.0
# These are answered when no further connection is possible.
PROBES = (b"/health", b"/health/ready", b"/metrics")


@implementer(IPushProducer)
class WriteGate:
    """Closed while the transport's send buffer (64 KB) is full."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.open.set()

    def pauseProducing(self) -> None:
        self.open.clear()

    def resumeProducing(self) -> None:
        self.open.set()

    def stopProducing(self) -> None:
        self.open.set()


class BoundedRequest(WebRequest):  # type: ignore[misc]  # daphne has no types
    # Set once the body has been refused. The rest of the body is discarded.
    _lingering: asyncio.TimerHandle | None = None
    # Exists while a response is sent in several parts.
    _gate: WriteGate | None = None

    def __init__(self, *args: Any, **options: Any) -> None:
        # The application parses forms. Twisted would parse those of any client on the event loop.
        super().__init__(*args, parsePOSTFormSubmission=False, **options)

    def gotLength(self, length: int | None) -> None:
        """Runs after the headers; the length is None for a chunked body."""
        if length is not None and length > settings.DATA_UPLOAD_MAX_MEMORY_SIZE:
            self._refuse_body()
        else:
            super().gotLength(length)

    def handleContentChunk(self, data: bytes) -> None:
        if self._lingering is not None:
            return
        if self.content.tell() + len(data) > settings.DATA_UPLOAD_MAX_MEMORY_SIZE:
            self.content.close()
            self._refuse_body()
        else:
            super().handleContentChunk(data)

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:
        if self._lingering is not None:
            self.finish()
        else:
            super().requestReceived(command, path, version)

    def process(self) -> Any:
        """Runs for HTTP requests and for WebSocket handshakes."""
        # Daphne would let the client choose a prefix that Django removes from the path.
        self.requestHeaders.removeHeader(b"Daphne-Root-Path")
        channel = self.channel
        if channel.connection.in_reserve and self.path not in PROBES:
            self._close_after_response()
            self._send(_no_room(), more_body=False)
            return None
        channel.factory.connections.begin_request(channel.connection)
        result = super().process()
        socket = getattr(channel.transport, "protocol", None)
        if isinstance(socket, BackpressureSocket):  # the connection has become a WebSocket
            socket.on_lost = channel.forget
        return result

    def _refuse_body(self) -> None:
        """Responds with 413 and closes the sending side; `finish` closes the connection."""
        # The channel sets these attributes only after the whole body.
        self.method, self.uri = self.channel._command, self.channel._path
        self.clientproto, self.path = self.channel._version, self.uri.partition(b"?")[0]
        self.requestHeaders.removeHeader(b"Expect")  # else Twisted would send 100 Continue
        self._close_after_response()
        self._lingering = asyncio.get_running_loop().call_later(LINGER_S, self.finish)
        self._send(json_error(413), more_body=True)
        self.transport.loseWriteConnection()

    def _close_after_response(self) -> None:
        self.channel.persistent = False
        self.responseHeaders.setRawHeaders(b"Connection", [b"close"])

    def watch_buffer(self) -> None:
        """Call this before the first of several parts of a response is written."""
        if self._gate is None and self.channel is not None and not self.finished:
            self._gate = WriteGate()
            self.registerProducer(self._gate, True)

    async def wait_until_writable(self) -> None:
        """Returns when the client has read most of what was sent, or is disconnected."""
        if self._gate is None or self._gate.open.is_set():
            return
        try:
            async with asyncio.timeout(STALL_S):
                await self._gate.open.wait()
        except TimeoutError:
            self.transport.abortConnection()

    def finish(self) -> None:
        self._stop_lingering()
        # Before the end of this request, because the next one of the connection may begin in it.
        self.channel.factory.connections.end_request(self.channel.connection)
        if self._gate is not None:
            self.unregisterProducer()
            self._gate.stopProducing()
        super().finish()

    def connectionLost(self, reason: Any) -> None:
        self._stop_lingering()
        if self._gate is not None:
            self._gate.stopProducing()
        super().connectionLost(reason)

    def handle_exception(self, exception: Exception) -> None:
        """Runs when the application failed. A part of a response must not look like a whole one."""
        if not self._response_started:
            super().handle_exception(exception)
        elif self.channel is not None and not self.finished:
            self.transport.abortConnection()

    def _stop_lingering(self) -> None:
        if self._lingering is not None:
            self._lingering.cancel()

    def basic_error(self, status: int, status_text: bytes, body: str) -> None:
        """Sends Daphne's own errors: a bad header, or a path that is not ASCII."""
        self._send(json_error(status, detail=body if status < 500 else None), more_body=False)

    def _send(self, error: HttpResponse, *, more_body: bool) -> None:
        content = in_callers_form(error, self.path.decode("latin-1")).content
        values = self.requestHeaders.getRawHeaders(HEADER, [])
        request_id = choose_request_id((HEADER, value) for value in values)
        headers = [
            (b"Content-Type", b"application/json"),
            (b"Content-Length", str(len(content)).encode()),
            (HEADER, request_id.encode()),
        ]
        if wait := error.get("Retry-After"):
            headers.append((b"Retry-After", wait.encode()))
        start = {"type": "http.response.start", "status": error.status_code, "headers": headers}
        self.handle_reply(start)
        self.handle_reply({"type": "http.response.body", "body": content, "more_body": more_body})


def _no_room() -> HttpResponse:
    detail = "The gateway has as many connections as it can hold."
    headers = {"Retry-After": "5"}
    return json_error(503, code="queue_full", detail=detail, headers=headers)


class BoundedChannel(HTTPChannel):
    """One connection, until it ends or becomes a WebSocket."""

    requestFactory = BoundedRequest
    # The factory sets these two.
    factory: "BoundedRequestFactory"
    connection: Connection

    def forget(self) -> None:
        self.factory.connections.remove(self.connection)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.forget()
        super().connectionLost(reason)  # type: ignore[no-untyped-call]


class BoundedRequestFactory(HTTPFactory):  # type: ignore[misc]  # daphne has no types
    protocol = BoundedChannel

    def __init__(self, server: Any) -> None:
        super().__init__(server)
        self.connections = Connections(
            total=choose_total(),
            per_address=settings.MAX_CONNECTIONS_PER_ADDRESS,
            exempt_all=settings.TLS_PROXY,
        )

    def buildProtocol(self, addr: Any) -> Any:
        """Returns None for a connection that must be closed at once."""
        connection = self.connections.open(getattr(addr, "host", ""))
        if connection is None:
            return None
        channel = super().buildProtocol(addr)
        channel.requestFactory = BoundedRequest
        channel.connection = connection
        connection.close = lambda: channel.transport.abortConnection()
        return channel

    def log(self, request: WebRequest) -> None:
        """Does nothing: Twisted would format an access log line per request and discard it."""
