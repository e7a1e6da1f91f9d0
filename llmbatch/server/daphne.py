"""Daphne with the batch consumer beside it, and an orderly end."""

import asyncio
import contextvars
import logging
import signal
from collections.abc import Awaitable, Callable
from typing import Any

import daphne.server as daphne_server
from daphne.server import Server
from django.conf import settings
from twisted.internet import defer

from batching.process.runtime import Runtime
from llmbatch.server.http_protocol import GatewayFactory
from llmbatch.server.websocket_protocol import GatewaySocket

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
        daphne_server.HTTPFactory = GatewayFactory  # `run` makes one and asks for no other

    def _start(self) -> None:
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
