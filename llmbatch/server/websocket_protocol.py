"""Daphne's WebSocket protocol with bounded buffers in both directions and with close reasons."""

import asyncio
from collections.abc import Callable
from typing import Any

from autobahn.websocket.types import ConnectionDeny
from daphne.ws_protocol import WebSocketProtocol
from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer

# Bytes parsed per event-loop iteration. They may contain more than a hundred frames.
PIECE_BYTES = 1024
# Parsing pauses while this many frames wait for the application.
MAX_UNREAD = 16
# Seconds between two checks whether parsing can continue.
POLL_INTERVAL_S = 0.005


@implementer(IPushProducer)
class ReadGate:
    """Stops reading from a client that does not read its answers, or while it is held.

    The transport calls `pauseProducing` when its send buffer (64 KB) is full, and
    `resumeProducing` when the buffer is empty again.
    """

    def __init__(self, transport: Any) -> None:
        self._transport = transport
        self._held = False
        self.writable = asyncio.Event()
        self.writable.set()

    def pauseProducing(self) -> None:
        self.writable.clear()
        self._transport.pauseProducing()

    def resumeProducing(self) -> None:
        self.writable.set()
        if not self._held:
            self._transport.resumeProducing()

    def stopProducing(self) -> None:
        self.writable.set()

    def hold(self, held: bool) -> None:
        if held and not self._held:
            self._transport.pauseProducing()
        elif self._held and not held and self.writable.is_set():
            self._transport.resumeProducing()
        self._held = held


class BackpressureSocket(WebSocketProtocol):  # type: ignore[misc]  # daphne has no types
    # Daphne's server; set when the handshake reaches `onConnect`.
    server: Any = None
    # None until the handshake is complete.
    gate: ReadGate | None = None
    # Called when the connection ends.
    on_lost: Callable[[], None] | None = None
    # Received bytes that have not been parsed yet.
    _rest = b""

    def onConnect(self, request: Any) -> Any:
        if not request.headers.get("sec-websocket-protocol", "").isascii():
            # Daphne would treat it as a server error and respond with 500.
            raise ConnectionDeny(400, "Sec-WebSocket-Protocol is not ASCII")
        return super().onConnect(request)

    def onClose(self, wasClean: bool, code: int, reason: str) -> None:
        if self.server is not None:  # else the handshake failed before `onConnect`
            super().onClose(wasClean, code, reason)

    def onOpen(self) -> None:
        super().onOpen()
        self.unregisterProducer()  # the HTTP channel of the handshake
        self.gate = ReadGate(self.transport)
        self.registerProducer(self.gate, True)

    def dataReceived(self, data: bytes) -> None:
        """Parses in pieces: 64 KB of tiny frames would block the event loop for 0.1 s."""
        if self.gate is None:  # the handshake
            super().dataReceived(data)
            return
        is_parsing, self._rest = bool(self._rest), self._rest + data
        if not is_parsing:
            self._take_piece(self.gate)

    def connectionLost(self, reason: Any) -> None:
        self._rest = b""
        if self.on_lost is not None:
            self.on_lost()
        super().connectionLost(reason)

    def _take_piece(self, gate: ReadGate) -> None:
        """Parses a piece and schedules the next one. Until the last one, reading is paused."""
        loop = asyncio.get_running_loop()
        if self._is_ahead(gate):
            gate.hold(True)
            loop.call_later(POLL_INTERVAL_S, self._take_piece, gate)
            return
        size = max(PIECE_BYTES, self._count_missing())
        piece, self._rest = self._rest[:size], self._rest[size:]
        super().dataReceived(piece)
        gate.hold(bool(self._rest))
        if self._rest:
            loop.call_soon(self._take_piece, gate)

    def _is_ahead(self, gate: ReadGate) -> bool:
        """Whether frames wait for the application, or the client does not read its answers."""
        if self.state != self.STATE_OPEN:
            return False
        has_unread: bool = self.application_queue.qsize() >= MAX_UNREAD
        return has_unread or not gate.writable.is_set()

    def _count_missing(self) -> int:
        """Returns the missing bytes of an incomplete frame, which may be parsed in one piece."""
        if self.current_frame is None:
            return 0
        missing: int = self.current_frame.length - self.current_frame_masker.pointer()
        return missing

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        # The application reads no frame after it has closed the socket.
        if self.state == self.STATE_OPEN:
            super().onMessage(payload, isBinary)

    def handle_reply(self, message: dict[str, Any]) -> None:
        if message["type"] == "websocket.close" and self.state == self.STATE_OPEN:
            # `sendClose` would reject the codes that browsers may not send, such as 1008.
            reason = str(message.get("reason") or "").encode()
            self.sendCloseFrame(message.get("code", 1000), reason)
        elif message["type"] != "websocket.send" or self.state == self.STATE_OPEN:
            super().handle_reply(message)

    async def wait_until_writable(self) -> None:
        """Returns when the send buffer is empty or the connection is closed."""
        if self.gate is not None:
            await self.gate.writable.wait()
