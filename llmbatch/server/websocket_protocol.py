"""Daphne's WebSockets with bounds on what waits in both directions, and a reason for their end."""

import asyncio
from typing import Any

from autobahn.twisted.websocket import ConnectionDeny
from daphne.ws_protocol import WebSocketProtocol
from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer

PIECE_BYTES = 1024
"""are taken apart in one turn of the loop; they may hold more than a hundred frames"""
MAX_UNREAD = 16
"""frames that the application has not taken yet, and those of one more piece"""
PATIENCE_S = 0.005


@implementer(IPushProducer)
class Flow:
    """Told by the transport when its buffer is full (64 KB) and when it is empty again.

    While it is full nothing is read either: who takes no answers may ask nothing. Nor is anything
    read while `hold` says so.
    """

    def __init__(self, transport: Any) -> None:
        self._transport = transport
        self._held = False
        self.free = asyncio.Event()
        self.free.set()

    def pauseProducing(self) -> None:
        self.free.clear()
        self._transport.pauseProducing()

    def resumeProducing(self) -> None:
        self.free.set()
        if not self._held:
            self._transport.resumeProducing()

    def stopProducing(self) -> None:
        self.free.set()

    def hold(self, held: bool) -> None:
        if held and not self._held:
            self._transport.pauseProducing()
        elif self._held and not held and self.free.is_set():
            self._transport.resumeProducing()
        self._held = held


class GatewaySocket(WebSocketProtocol):
    server: Any = None
    """Daphne's, once the handshake has come to `onConnect`"""
    flow: Flow | None = None
    _rest = b""
    """what was received and is not taken apart yet"""

    def onConnect(self, request: Any) -> Any:
        if not request.headers.get("sec-websocket-protocol", "").isascii():
            # Daphne would log it as a fault of the server's, and answer 500.
            raise ConnectionDeny(400, "Sec-WebSocket-Protocol is not ASCII")
        return super().onConnect(request)

    def onClose(self, wasClean: bool, code: int, reason: str) -> None:
        if self.server is not None:  # else the handshake was refused before Daphne knew of it
            super().onClose(wasClean, code, reason)

    def onOpen(self) -> None:
        super().onOpen()
        self.unregisterProducer()  # the HTTP channel, which this socket was
        self.flow = Flow(self.transport)
        self.registerProducer(self.flow, True)

    def dataReceived(self, data: bytes) -> None:
        """Piece by piece: 64 KB of tiny frames would keep the loop from everybody for 0.1 s."""
        if self.flow is None:  # the handshake
            super().dataReceived(data)
            return
        going_on, self._rest = bool(self._rest), self._rest + data
        if not going_on:
            self._take_piece(self.flow)

    def connectionLost(self, reason: Any) -> None:
        self._rest = b""
        super().connectionLost(reason)

    def _take_piece(self, flow: Flow) -> None:
        """Goes on by itself until nothing is left, and lets nothing more be read before."""
        loop = asyncio.get_running_loop()
        if self._is_ahead(flow):
            flow.hold(True)
            loop.call_later(PATIENCE_S, self._take_piece, flow)
            return
        size = max(PIECE_BYTES, self._count_missing())
        piece, self._rest = self._rest[:size], self._rest[size:]
        super().dataReceived(piece)
        flow.hold(bool(self._rest))
        if self._rest:
            loop.call_soon(self._take_piece, flow)

    def _is_ahead(self, flow: Flow) -> bool:
        """Whether the client has sent more than the application reads, or takes no answers."""
        if self.state != self.STATE_OPEN:
            return False
        return self.application_queue.qsize() >= MAX_UNREAD or not flow.free.is_set()

    def _count_missing(self) -> int:
        """Bytes of a frame that is not complete yet; however many, it is one frame."""
        if self.current_frame is None:
            return 0
        return self.current_frame.length - self.current_frame_masker.pointer()

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        if self.state == self.STATE_OPEN:  # else the application has closed it and reads no more
            super().onMessage(payload, isBinary)

    def handle_reply(self, message: dict[str, Any]) -> None:
        if message["type"] == "websocket.close" and self.state == self.STATE_OPEN:
            # `sendClose` would refuse the standard's own codes, as if a browser had called it.
            reason = str(message.get("reason") or "").encode()
            self.sendCloseFrame(message.get("code", 1000), reason)
        elif message["type"] != "websocket.send" or self.state == self.STATE_OPEN:
            super().handle_reply(message)

    async def wait_until_free(self) -> None:
        """Returns when the client has read enough, or is gone."""
        if self.flow is not None:
            await self.flow.free.wait()
