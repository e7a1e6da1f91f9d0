"""A WebSocket client in the same process, connected to the whole ASGI application."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from asgiref.testing import ApplicationCommunicator

from batching.tests.harness import LIMIT_S
from llmbatch.asgi import application


async def serve_without_reader(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Runs the application with a client that reads no frame, so that every send blocks."""

    async def send_no_frame(message: dict[str, Any]) -> None:
        if message["type"] == "websocket.send":
            await asyncio.Event().wait()
        await send(message)

    await application(scope, receive, send_no_frame)


class SocketClient:
    """`accepted` and `subprotocol` are None until `connect` has returned."""

    def __init__(
        self,
        path: str,
        *,
        headers: dict[str, str] | None = None,
        offer: tuple[str, ...] = (),
        reads: bool = True,
    ) -> None:
        named = {"host": "localhost"} | (headers or {})
        scope = {
            "type": "websocket",
            "path": path,
            "query_string": b"",
            "headers": [(k.encode(), v.encode("latin-1")) for k, v in named.items()],
            "client": ["127.0.0.1", 1],
            "subprotocols": list(offer),
        }
        served = application if reads else serve_without_reader
        self._communicator = ApplicationCommunicator(served, scope)
        self.accepted: bool | None = None
        self.subprotocol: str | None = None

    async def connect(self) -> None:
        await self._communicator.send_input({"type": "websocket.connect"})
        message = await self._communicator.receive_output(LIMIT_S)
        self.accepted = message["type"] == "websocket.accept"
        self.subprotocol = message.get("subprotocol")

    async def send(self, text: str | bytes) -> None:
        kind = "text" if isinstance(text, str) else "bytes"
        await self._communicator.send_input({"type": "websocket.receive", kind: text})

    async def receive(self, seconds: float = LIMIT_S) -> dict[str, Any]:
        """The next frame; `{"closed": code, "reason": …}` if the socket was closed."""
        message = await self._communicator.receive_output(seconds)
        if message["type"] == "websocket.close":
            disconnect = {"type": "websocket.disconnect", "code": message["code"]}
            await self._communicator.send_input(disconnect)
            return {"closed": message["code"], "reason": message["reason"]}
        return json.loads(message["text"])

    async def leave(self) -> None:
        await self._communicator.send_input({"type": "websocket.disconnect", "code": 1000})
        await self._communicator.wait(LIMIT_S)


@asynccontextmanager
async def connected(path: str = "/ws/live", **options: Any) -> AsyncIterator[SocketClient]:
    """`options` are those of SocketClient."""
    client = SocketClient(path, **options)
    await client.connect()
    yield client
    await client.leave()
