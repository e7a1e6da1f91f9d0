"""Daphne with the batch consumer in the same process and with an orderly shutdown."""

import asyncio
import contextvars
import errno
import logging
import signal
from collections.abc import Awaitable, Callable
from typing import Any

import daphne.server as daphne_server
from daphne.server import Server
from django.conf import settings
from twisted.internet import defer

from batching.process.runtime import Runtime
from llmbatch.server.http_protocol import BoundedRequest, BoundedRequestFactory
from llmbatch.server.websocket_protocol import BackpressureSocket

logger = logging.getLogger("batching")

# Twisted's default of 50 refuses clients in a burst.
BACKLOG = 4096


class DrainingServer(Server):  # type: ignore[misc]  # daphne has no types
    def __init__(
        self,
        application: Any,
        *,
        host: str,
        port: int,
        start: Callable[[], Awaitable[Runtime]],
        on_listening: Callable[[], object],
    ) -> None:
        interface = host.replace(":", r"\:")
        super().__init__(
            application,
            endpoints=[f"tcp:port={port}:interface={interface}:backlog={BACKLOG}"],
            ready_callable=self._start,
            server_name="llmbatch",
            verbosity=1,
            # The application refuses frames over half of this; a larger one closes the connection.
            websocket_max_message_size=2 * settings.MAX_BODY_BYTES,
            websocket_max_frame_size=2 * settings.MAX_BODY_BYTES,
        )
        self._start_runtime = start
        self._on_listening = on_listening
        self._address = (host, port)
        self._runtime: Runtime | None = None
        self._ports: list[Any] = []
        self.failure = ""
        daphne_server.HTTPFactory = BoundedRequestFactory  # `run` has no parameter for it

    def _start(self) -> None:
        self.ws_factory.protocol = BackpressureSocket
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
        """Suspends the sender to a client that does not read, which bounds memory."""
        in_parts = message.get("more_body", False) or message["type"] == "websocket.send"
        if in_parts and isinstance(protocol, BoundedRequest):
            protocol.watch_buffer()
        await super().handle_reply(protocol, message)
        if in_parts:
            await protocol.wait_until_writable()

    def timeout_checker(self) -> None:
        """Runs every two seconds."""
        self.http_factory.connections.close_slow()
        super().timeout_checker()

    def listen_success(self, port: Any) -> None:
        self._ports.append(port)
        super().listen_success(port)
        self._on_listening()

    def listen_error(self, failure: Any) -> None:
        self.failure = _explain_listen_error(failure.value, *self._address)
        self.stop()

    def kill_all_applications(self) -> Any:
        """Delays the end of the reactor until the shutdown is complete."""
        return defer.Deferred.fromFuture(asyncio.ensure_future(self._shut_down()))

    async def _shut_down(self) -> None:
        """Stops listening, lets running requests finish, then cancels every task of the loop.

        A task that still runs when the loop closes can crash the interpreter at exit.
        """
        for port in self._ports:
            port.stopListening()
        if self._runtime is not None:
            # Twisted's own handlers would only log that the reactor has been stopped already.
            for number in (signal.SIGTERM, signal.SIGINT):
                asyncio.get_running_loop().add_signal_handler(number, self._runtime.hurry)
        try:
            if self._runtime is not None:
                await self._runtime.drain(seconds=settings.DRAIN_S)
                await self._runtime.stop()
        except Exception:
            logger.exception("The shutdown failed.")
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        if others:
            await asyncio.wait(others, timeout=2)


def _explain_listen_error(error: Exception, host: str, port: int) -> str:
    cause = getattr(error, "socketError", error)  # of Twisted's CannotListenError
    match getattr(cause, "errno", None):
        case errno.EADDRINUSE:
            return (
                f"Another program listens on port {port} of {host}: stop it, or choose another port"
                " with PORT or --port."
            )
        case errno.EACCES:
            return f"This user may not listen on port {port}: choose a PORT above 1023."
    reason = getattr(cause, "strerror", None) or cause
    return f"HOST={host} is no address that this machine can listen on ({reason})."
