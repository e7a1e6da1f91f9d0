"""Daphne's HTTP protocol with a bound on bodies and with errors in the API's form.

This code runs on the event loop, before any access check.
"""

import asyncio
from typing import Any

from daphne.http_protocol import HTTPFactory, WebRequest
from django.conf import settings
from django.http import HttpResponse

from batching.api.openai.responses import in_callers_form
from llmbatch.errors import json_error
from llmbatch.middleware.request_id import HEADER, choose_request_id

# After a 413 the connection stays open for this long, so that the client can read the response.
# An immediate close would reset the connection and lose the response.
LINGER_S = 2.0


class BoundedRequest(WebRequest):  # type: ignore[misc]  # daphne has no types
    # Set once the body has been refused. The rest of the body is discarded.
    _lingering: asyncio.TimerHandle | None = None

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
        return super().process()

    def _refuse_body(self) -> None:
        """Responds with 413 and closes the sending side; `finish` closes the connection."""
        # The channel sets these attributes only after the whole body.
        self.method, self.uri = self.channel._command, self.channel._path
        self.clientproto, self.path = self.channel._version, self.uri.partition(b"?")[0]
        self.requestHeaders.removeHeader(b"Expect")  # else Twisted would send 100 Continue
        self.channel.persistent = False
        self.responseHeaders.setRawHeaders(b"Connection", [b"close"])
        self._lingering = asyncio.get_running_loop().call_later(LINGER_S, self.finish)
        self._send(json_error(413), more_body=True)
        self.transport.loseWriteConnection()

    def finish(self) -> None:
        self._stop_lingering()
        super().finish()

    def connectionLost(self, reason: Any) -> None:
        self._stop_lingering()
        super().connectionLost(reason)

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
        start = {"type": "http.response.start", "status": error.status_code, "headers": headers}
        self.handle_reply(start)
        self.handle_reply({"type": "http.response.body", "body": content, "more_body": more_body})


class BoundedRequestFactory(HTTPFactory):  # type: ignore[misc]  # daphne has no types
    def buildProtocol(self, addr: Any) -> Any:
        protocol = super().buildProtocol(addr)
        protocol.requestFactory = BoundedRequest
        return protocol

    def log(self, request: WebRequest) -> None:
        """Does nothing: Twisted would format an access log line per request and discard it."""
