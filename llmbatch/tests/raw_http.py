"""HTTP as bytes, for what no client library would send."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from llmbatch.tests.server import Server

HANDSHAKE = (
    b"GET /ws/live HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


def body(prompt: str, **fields: object) -> bytes:
    return json.dumps({"username": "ann", "prompt": prompt, "priority": "HIGH"} | fields).encode()


def raw_post(content: bytes, *, path: str = "/v1/query") -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content


@asynccontextmanager
async def connect(server: Server) -> AsyncIterator[tuple[asyncio.StreamReader, Any]]:
    """A connection that is gone with the block, whatever was left unsent."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()
        with suppress(OSError):
            await writer.wait_closed()


async def talk(server: Server, data: bytes, *, seconds: float = 60) -> tuple[int, bytes, bytes]:
    """Sends raw bytes; gives the status, the head and the body of the reply."""
    async with asyncio.timeout(seconds), connect(server) as (reader, writer):
        writer.write(data)
        head = await reader.readuntil(b"\r\n\r\n")
        lower = head.lower()
        if b"content-length:" in lower:
            length = int(lower.partition(b"content-length:")[2].split(b"\r\n")[0])
            content = await reader.readexactly(length)
        elif b"chunked" not in lower:
            content = await reader.read()
        else:
            content = b""
            while size := int(await reader.readline(), 16):
                content += (await reader.readexactly(size + 2))[:-2]
        return int(head[9:12]), head, content
