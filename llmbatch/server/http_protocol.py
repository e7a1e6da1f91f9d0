"""Daphne's HTTP requests with a bound on their bodies, and refusals in the API's error form.

Whatever happens here happens on the event loop, to requests that nobody has looked at yet.
"""

import asyncio
from typing import Any

from daphne.http_protocol import HTTPFactory, WebRequest
from django.conf import settings
from django.http import HttpResponse

from batching.api.openai.responses import in_callers_form
from llmbatch.errors import json_error
from llmbatch.middleware.request_id import HEADER, choose_request_id

LINGER_S = 2.0
"""for the client of a refused body to notice: closing at once would reset its connection, and the
answer with it"""


class GatewayRequest(WebRequest):
    _lingering: asyncio.TimerHandle | None = None
    """set once the body is refused; whatever more of it arrives is dropped"""

    def __init__(self, *args: Any, **options: Any) -> None:
        # Forms are the application's to read: Twisted would parse them for anyone, on the loop.
        super().__init__(*args, parsePOSTFormSubmission=False, **options)

    def gotLength(self, length: int | None) -> None:
        """All headers are here; the length is None if the body comes in chunks."""
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
        """Both for HTTP and for the handshake of a WebSocket, which gets the same headers."""
        # By this one Daphne lets a client choose what Django cuts off the path.
        self.requestHeaders.removeHeader(b"Daphne-Root-Path")
        return super().process()

    def _refuse_body(self) -> None:
        """Answers 413 and half closes the connection; the rest follows with `finish`."""
        # The channel tells the request its first line only when the whole body has come.
        self.method, self.uri = self.channel._command, self.channel._path
        self.clientproto, self.path = self.channel._version, self.uri.partition(b"?")[0]
        self.requestHeaders.removeHeader(b"Expect")  # or a 100 would follow, and ask for the body
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
        """Daphne's own refusals: a bad header, a path that is not ASCII."""
        self._send(json_error(status, detail=body if status < 500 else None), more_body=False)

    def _send(self, error: HttpResponse, *, more_body: bool) -> None:
        content = in_callers_form(error, self.path.decode("latin-1")).content
        sent = self.requestHeaders.getRawHeaders(HEADER, [])
        name = choose_request_id((HEADER, value) for value in sent)
        headers = [
            (b"Content-Type", b"application/json"),
            (b"Content-Length", str(len(content)).encode()),
            (HEADER, name.encode()),
        ]
        start = {"type": "http.response.start", "status": error.status_code, "headers": headers}
        self.handle_reply(start)
        self.handle_reply({"type": "http.response.body", "body": content, "more_body": more_body})


class GatewayFactory(HTTPFactory):
    def buildProtocol(self, addr: Any) -> Any:
        protocol = super().buildProtocol(addr)
        protocol.requestFactory = GatewayRequest
        return protocol

    def log(self, request: WebRequest) -> None:
        """Twisted would word an access log line for each request and throw it away."""
