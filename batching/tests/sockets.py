"""A WebSocket's client inside the process, before the whole ASGI application."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from asgiref.testing import ApplicationCommunicator

from batching.tests.harness import LIMIT_S
from llmbatch.asgi import application


async def answer_nobody(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """The application before a client that reads no frame."""

    async def send_no_frame(message: dict[str, Any]) -> None:
        if message["type"] == "websocket.send":
            await asyncio.Event().wait()
        await send(message)

    await application(scope, receive, send_no_frame)


class SocketClient:
    """`accepted` and `subprotocol` are None until `connect` has been answered."""

    def __init__(
        self,
        path: str,
        *,
        headers: dict[str, str] | None = None,
        offer: tuple[str, ...] = (),
        deaf: bool = False,
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
        self._talk = ApplicationCommunicator(answer_nobody if deaf else application, scope)
        self.accepted: bool | None = None
        self.subprotocol: str | None = None

    async def connect(self) -> None:
        await self._talk.send_input({"type": "websocket.connect"})
        message = await self._talk.receive_output(LIMIT_S)
        self.accepted = message["type"] == "websocket.accept"
        self.subprotocol = message.get("subprotocol")

    async def send(self, text: str | bytes) -> None:
        kind = "text" if isinstance(text, str) else "bytes"
        await self._talk.send_input({"type": "websocket.receive", kind: text})

    async def receive(self, seconds: float = LIMIT_S) -> dict[str, Any]:
        """The next frame; `{"closed": code, "reason": …}` when there is none."""
        message = await self._talk.receive_output(seconds)
        if message["type"] == "websocket.close":
            await self._talk.send_input({"type": "websocket.disconnect", "code": message["code"]})
            return {"closed": message["code"], "reason": message["reason"]}
        return json.loads(message["text"])

    async def leave(self) -> None:
        await self._talk.send_input({"type": "websocket.disconnect", "code": 1000})
        await self._talk.wait(LIMIT_S)


@asynccontextmanager
async def connected(
    path: str = "/ws/live",
    *,
    headers: dict[str, str] | None = None,
    offer: tuple[str, ...] = (),
    deaf: bool = False,
) -> AsyncIterator[SocketClient]:
    client = SocketClient(path, headers=headers, offer=offer, deaf=deaf)
    await client.connect()
    yield client
    await client.leave()
