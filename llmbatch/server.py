"""Daphne with the batch consumer beside it, errors in the API's form, and an orderly end."""

import asyncio
import contextvars
import logging
import signal
from collections.abc import Awaitable, Callable
from functools import lru_cache
from typing import Any

import daphne.server as daphne_server
from daphne.http_protocol import WebRequest
from daphne.server import Server
from django.conf import settings
from twisted.internet import defer
from twisted.web import http

from batching.runtime import Runtime
from llmbatch.daphne_sockets import GatewaySocket
from llmbatch.errors import json_error
from llmbatch.exchange import HEADER, choose_name

logger = logging.getLogger("batching")

BACKLOG = 4096
"""Twisted's own 50 loses clients of a burst"""


class GatewayServer(Server):
    def __init__(
        self,
        application: Any,
        *,
        host: str,
        port: int,
        start: Callable[[], Awaitable[Runtime]],
    ) -> None:
        interface = host.replace(":", r"\:")
        super().__init__(
            application,
            endpoints=[f"tcp:port={port}:interface={interface}:backlog={BACKLOG}"],
            ready_callable=self._start,
            server_name="llmbatch",
            verbosity=1,
            # The application says of a frame that it is too large; this one ends the connection.
            websocket_max_message_size=2 * settings.MAX_BODY_BYTES,
            websocket_max_frame_size=2 * settings.MAX_BODY_BYTES,
        )
        self._start_runtime = start
        self._runtime: Runtime | None = None
        self._ports: list[Any] = []
        self.failure = ""
        WebRequest.basic_error = _write_json_error
        # Twisted builds an e-mail message to read each request's content type: a tenth of its work.
        http._parseContentType = lru_cache(maxsize=100)(http._parseContentType)

    def _start(self) -> None:
        self.http_factory.log = _log_nothing
        self.ws_factory.protocol = GatewaySocket
        loop = daphne_server.twisted_loop
        self._starting = loop.create_task(
            self._keep_runtime(), name="start", context=contextvars.Context()
        )

    async def _keep_runtime(self) -> None:
        try:
            self._runtime = await self._start_runtime()
        except Exception as error:
            logger.exception("The batch consumer could not be started.")
            self.failure = f"The batch consumer could not be started: {error}"
            self.stop()

    async def handle_reply(self, protocol: Any, message: dict[str, Any]) -> None:
        """A sender to a WebSocket waits for a client that does not read; memory stays bounded."""
        await super().handle_reply(protocol, message)
        if isinstance(protocol, GatewaySocket) and message["type"] == "websocket.send":
            await protocol.wait_until_free()

    def listen_success(self, port: Any) -> None:
        self._ports.append(port)
        super().listen_success(port)

    def listen_error(self, failure: Any) -> None:
        self.failure = f"The gateway cannot listen: {failure.getErrorMessage()}"
        super().listen_error(failure)

    def kill_all_applications(self) -> Any:
        """Runs when the reactor is about to end, and holds it until everything is in order."""
        return defer.Deferred.fromFuture(asyncio.ensure_future(self._end()))

    async def _end(self) -> None:
        """Stops listening, lets the waiting be answered, then ends every task of the loop.

        Tasks that were left running when the loop closes have crashed the interpreter at exit.
        """
        for port in self._ports:
            port.stopListening()
        if self._runtime is not None:
            # Twisted's own handler would only complain that the reactor is stopped already.
            for number in (signal.SIGTERM, signal.SIGINT):
                asyncio.get_running_loop().add_signal_handler(number, self._runtime.hurry)
        try:
            if self._runtime is not None:
                await self._runtime.drain(seconds=settings.DRAIN_S)
                await self._runtime.stop()
        except Exception:
            logger.exception("The gateway did not end in order.")
        own = asyncio.current_task()
        left = [task for task in asyncio.all_tasks() if task is not own]
        for task in left:
            task.cancel()
        if left:
            await asyncio.wait(left, timeout=2)


def _log_nothing(request: WebRequest) -> None:
    """Twisted would word an access log line for each request and throw it away."""


def _write_json_error(request: WebRequest, status: int, status_text: bytes, body: str) -> None:
    """Daphne's own refusals (a bad header, a path that is not ASCII) in the API's error form."""
    response = json_error(status, detail=body if status < 500 else None)
    sent = request.requestHeaders.getRawHeaders(HEADER, [])
    name = choose_name((HEADER, value) for value in sent)
    headers = [(b"Content-Type", b"application/json"), (HEADER, name.encode())]
    request.handle_reply({"type": "http.response.start", "status": status, "headers": headers})
    request.handle_reply({"type": "http.response.body", "body": response.content})
