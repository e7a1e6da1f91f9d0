"""The WebSocket paths."""

from collections.abc import Mapping
from typing import Any

from batching.api.websocket.live import watch
from batching.api.websocket.query import converse
from batching.process.runtime import get_runtime
from batching.sockets.registry import Endpoint

SOCKETS = {
    "/ws/live": Endpoint(watch, staff=True),
    "/ws/query": Endpoint(converse, staff=False),
}


async def serve_socket(scope: Mapping[str, Any], receive: Any, send: Any) -> None:
    runtime = await get_runtime()
    await runtime.sockets.serve(SOCKETS.get(scope["path"]), scope, receive, send)
