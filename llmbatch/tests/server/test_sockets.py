"""WebSockets of a real server process have bounded memory and close on SIGTERM."""

import asyncio
import contextlib
import json
import socket
import time
from typing import Any

import httpx2
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from llmbatch.tests.fixtures.raw_http import HANDSHAKE
from llmbatch.tests.fixtures.server import PATIENCE_S, Server

pytestmark = pytest.mark.server


def live(server: Server) -> str:
    return server.url.replace("http", "ws") + "/ws/live"


async def listen(connection) -> None:
    while True:
        await asyncio.wait_for(connection.recv(), PATIENCE_S)


async def end_of(connection) -> tuple[int, str]:
    """Returns the code and the reason of the server's close frame."""
    with pytest.raises(ConnectionClosed) as closed:
        await listen(connection)
    assert closed.value.rcvd
    return closed.value.rcvd.code, closed.value.rcvd.reason


def connect_silent(server: Server, path: str = "/ws/live") -> socket.socket:
    """Opens a WebSocket that never replies, not even to a close frame."""
    silent = socket.socket()
    silent.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    silent.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    silent.connect(("127.0.0.1", server.port))
    silent.sendall(HANDSHAKE.replace(b"/ws/live", path.encode()))
    assert b"101" in silent.recv(1000)
    return silent


async def test_sigterm_closes_sockets_without_waiting_for_silent_clients(own_server: Server):
    with connect_silent(own_server):
        async with connect(live(own_server)) as polite:
            began = time.monotonic()
            ended = asyncio.create_task(end_of(polite))
            status = await asyncio.to_thread(own_server.terminate)
            assert await ended == (1001, "The gateway is shutting down.")
    assert status == 0
    assert time.monotonic() - began < PATIENCE_S / 2, "the silent socket must not use up the drain"
    assert "Traceback" not in own_server.log


async def test_frame_over_two_megabytes_closes_only_its_own_connection(server: Server):
    async with connect(live(server)) as large, connect(live(server)) as other:
        await large.send("x" * 2_100_000)
        with pytest.raises((ConnectionClosed, ConnectionResetError)):
            await listen(large)
        await other.send("[]")
        while '"type": "error"' not in await asyncio.wait_for(other.recv(), PATIENCE_S):
            pass


async def test_page_of_another_origin_gets_403_before_the_handshake(server: Server):
    with pytest.raises(InvalidStatus) as refused:
        await connect(live(server), origin="https://evil.example")
    assert refused.value.response.status_code == 403


def format_frame(document: Any) -> bytes:
    """Returns a client's frame of less than 126 bytes."""
    text = json.dumps(document).encode()
    return b"\x81" + bytes([0x80 | len(text)]) + b"\0\0\0\0" + text


CANCEL = format_frame({"type": "cancel", "request_id": "x"})


def ask_and_never_read(silent: socket.socket, frames: int) -> None:
    """Sends frames that each need a reply, with at most 19 invalid ones in a row.

    Raises TimeoutError when the server stops reading.
    """
    silent.settimeout(1)
    for _ in range(0, frames, 20):
        silent.sendall(format_frame({}) * 19 + CANCEL)


async def test_server_stops_reading_from_a_client_that_does_not_read(server: Server):
    before = server.memory_mb
    with connect_silent(server, "/ws/query") as silent:
        with pytest.raises(TimeoutError):
            await asyncio.to_thread(ask_and_never_read, silent, 150_000)
        assert server.memory_mb - before < 20
        assert server.answers()


async def test_flood_of_cancels_does_not_delay_other_clients(server: Server):
    """The server stops reading from the senders, so that its memory stays bounded."""
    before = server.memory_mb
    with (
        connect_silent(server, "/ws/query") as first,
        connect_silent(server, "/ws/query") as second,
    ):
        for flooding in (first, second):
            flooding.settimeout(1)
            with pytest.raises(TimeoutError):
                await asyncio.to_thread(flooding.sendall, CANCEL * 50_000)
        async with httpx2.AsyncClient(base_url=server.url, timeout=PATIENCE_S) as client:
            body = {"username": "ann", "prompt": "Why?", "priority": "HIGH"}
            assert (await client.post("/v1/query", json=body)).status_code == 200
        assert server.memory_mb - before < 20


async def test_burst_of_tiny_frames_does_not_delay_other_clients(server: Server):
    """Frames that arrive after the close of their socket must not delay other clients either."""
    async with httpx2.AsyncClient(base_url=server.url, timeout=PATIENCE_S) as client:
        with contextlib.ExitStack() as stack:
            crowd = [stack.enter_context(connect_silent(server, "/ws/query")) for _ in range(8)]
            for bursting in crowd:
                bursting.setblocking(False)
                bursting.send(format_frame({}) * 50_000)
            slowest = 0.0
            for _ in range(20):
                began = time.monotonic()
                await client.get("/health")
                slowest = max(slowest, time.monotonic() - began)
    assert slowest < 2.0
