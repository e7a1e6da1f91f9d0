"""Daphne's WebSockets with a bound on what waits to be sent, and a reason for their end."""

import asyncio
from typing import Any

from autobahn.twisted.websocket import ConnectionDeny
from daphne.ws_protocol import WebSocketProtocol
from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer


@implementer(IPushProducer)
class Flow:
    """Told by the transport when its buffer is full (64 KB) and when it is empty again.

    While it is full nothing is read either: who takes no answers may ask nothing.
    """

    def __init__(self, transport: Any) -> None:
        self._transport = transport
        self.free = asyncio.Event()
        self.free.set()

    def pauseProducing(self) -> None:
        self.free.clear()
        self._transport.pauseProducing()

    def resumeProducing(self) -> None:
        self.free.set()
        self._transport.resumeProducing()

    def stopProducing(self) -> None:
        self.free.set()


class GatewaySocket(WebSocketProtocol):
    server: Any = None
    """Daphne's, once the handshake has come to `onConnect`"""
    flow: Flow | None = None

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
