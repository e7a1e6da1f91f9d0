"""Registry of this process's open WebSockets: accepts, authorises and closes them."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from batching.sockets.access import (
    SUBPROTOCOL,
    SocketRefused,
    Visitor,
    has_listed_origin,
    parse_visitor,
)
from batching.sockets.socket import GOING_AWAY, INTERNAL_ERROR, Socket, SocketClosed

logger = logging.getLogger("batching")

CHECK_INTERVAL_S = 2.0
NORMAL = 1000
LEAVING = "The gateway is shutting down."

Handler = Callable[[Socket], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """`handle` serves one client; the socket is closed when it returns."""

    handle: Handler
    staff: bool


class SocketRegistry:
    def __init__(self) -> None:
        self._sockets: set[Socket] = set()
        self._draining = False
        self._leaving: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._sockets)

    async def serve(
        self, endpoint: Endpoint | None, scope: Mapping[str, Any], receive: Any, send: Any
    ) -> None:
        """An ASGI application for one socket; without an endpoint it refuses the client."""
        visitor = parse_visitor(scope, staff=endpoint.staff if endpoint else False)
        await receive()  # websocket.connect
        if not has_listed_origin(visitor):  # the handshake fails with 403 and without a reason
            await send({"type": "websocket.close"})
            return
        chosen = SUBPROTOCOL if SUBPROTOCOL in scope.get("subprotocols", []) else None
        # The handshake succeeds before access is checked, because a script in a browser sees
        # neither the status nor the body of a failed handshake.
        await send({"type": "websocket.accept", "subprotocol": chosen})
        socket = Socket(receive, send, visitor)
        try:
            await self._admit(endpoint, socket, visitor)
        except SocketClosed:
            pass

    async def _admit(self, endpoint: Endpoint | None, socket: Socket, visitor: Visitor) -> None:
        try:
            if endpoint is None:
                raise SocketRefused(4404, "not_found", "There is nothing at this path.")
            await visitor.authorize()
        except SocketRefused as error:
            await socket.refuse(error)
            return
        if self._draining:
            await socket.leave(LEAVING)
            return
        self._sockets.add(socket)
        try:
            await endpoint.handle(socket)
            await socket.close(NORMAL, "")
        except SocketClosed:
            raise
        except Exception:
            logger.exception("A WebSocket failed.")
            await socket.close(INTERNAL_ERROR, "The gateway failed; its log has the cause.")
        finally:
            self._sockets.discard(socket)

    async def guard(self) -> None:
        """Closes the sockets of clients that may no longer use them."""
        while True:
            await asyncio.sleep(CHECK_INTERVAL_S)
            for socket in [each for each in self._sockets if not each.closed]:
                try:
                    await socket.visitor.authorize_again()
                except SocketRefused as error:
                    self._refuse(socket, error)

    def _refuse(self, socket: Socket, error: SocketRefused) -> None:
        """Refuses in its own task: a client that does not read must not delay the others."""
        task = asyncio.create_task(socket.refuse(error), name="refuse a socket")
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)

    def start_drain(self) -> None:
        """Refuses new sockets; closes each open one as soon as its answers are sent."""
        self._draining = True
        self._leaving |= {
            asyncio.create_task(socket.leave(LEAVING), name="close a drained socket")
            for socket in self._sockets
        }

    async def close(self) -> None:
        """Closes the sockets that are still open."""
        self._draining = True
        for task in self._leaving:
            task.cancel()
        await asyncio.gather(*self._leaving, return_exceptions=True)
        for socket in list(self._sockets):
            await socket.close(GOING_AWAY, LEAVING)
