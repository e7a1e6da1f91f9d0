"""A response is written as fast as its client reads, so slow clients cost little memory."""

import asyncio
import sqlite3
from contextlib import closing
from types import SimpleNamespace
from typing import Any

import pytest
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport

from llmbatch.server import http_protocol
from llmbatch.server.daphne import DrainingServer
from llmbatch.server.http_protocol import BoundedRequest, BoundedRequestFactory
from llmbatch.tests.fixtures.raw_http import connect
from llmbatch.tests.fixtures.server import PATIENCE_S, Server

START = {"type": "http.response.start", "status": 200, "headers": []}
PART = {"type": "http.response.body", "body": b"x" * 1000, "more_body": True}
END = {"type": "http.response.body", "body": b""}


class Transport(StringTransport):  # type: ignore[misc]
    aborted = False

    def abortConnection(self) -> None:
        self.aborted = True


class Exchange:
    """One request over a transport in memory, and the application's side of the server."""

    def __init__(self) -> None:
        self.server = DrainingServer.__new__(DrainingServer)
        self.server.__dict__ |= {"connections": {}, "proxy_forwarded_address_header": None}
        self.server.__dict__ |= {"root_path": "", "server_name": "", "request_buffer_size": 8192}
        self.server.__dict__ |= {"http_timeout": None, "action_logger": None}
        self.server.create_application = self._create  # type: ignore[method-assign]
        factory = BoundedRequestFactory(self.server)
        factory.reactor = Clock()
        self.transport = Transport()
        self.channel = factory.buildProtocol(None)
        self.channel.makeConnection(self.transport)
        self.channel.dataReceived(b"GET /chats/export.json HTTP/1.1\r\nHost: localhost\r\n\r\n")

    def _create(self, protocol: BoundedRequest, scope: dict[str, Any]) -> asyncio.Queue[Any]:
        self.protocol = protocol
        return asyncio.Queue()

    async def send(self, message: dict[str, Any]) -> None:
        await self.server.handle_reply(self.protocol, message)


async def test_writer_waits_until_its_reader_has_read() -> None:
    exchange = Exchange()
    await exchange.send(START)
    await exchange.send(PART)
    exchange.transport.producer.pauseProducing()
    sending = asyncio.create_task(exchange.send(PART), name="send")
    await asyncio.sleep(0)
    assert not sending.done()
    exchange.transport.producer.resumeProducing()
    await asyncio.wait_for(sending, PATIENCE_S)
    await exchange.send(END)
    assert exchange.transport.value().endswith(b"0\r\n\r\n")


async def test_writer_to_a_client_that_left_returns() -> None:
    exchange = Exchange()
    await exchange.send(START)
    await exchange.send(PART)
    exchange.transport.producer.pauseProducing()
    sending = asyncio.create_task(exchange.send(PART), name="send")
    await asyncio.sleep(0)
    exchange.channel.connectionLost(SimpleNamespace(value=None))
    await asyncio.wait_for(sending, PATIENCE_S)


async def test_client_that_reads_nothing_is_disconnected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_protocol, "STALL_S", 0)
    exchange = Exchange()
    await exchange.send(START)
    await exchange.send(PART)
    exchange.transport.producer.pauseProducing()
    await asyncio.wait_for(exchange.send(PART), PATIENCE_S)
    assert exchange.transport.aborted


async def test_response_that_breaks_off_does_not_look_complete() -> None:
    exchange = Exchange()
    await exchange.send(START)
    await exchange.send(PART)
    exchange.protocol.handle_exception(RuntimeError())
    assert exchange.transport.aborted
    assert not exchange.transport.value().endswith(b"0\r\n\r\n")


INSERT = """
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 80)
INSERT INTO chats_chat (client_id, username, request_id, prompt, prompt_digest, priority, status,
  created_at, received_at, due_at, deadline, attempt, owner, origin, streamed, respond_async,
  waiters, text, finish_reason, error_code, error_detail, suspect, settled_prompt, settled_output,
  settled_thoughts, settled_cached, rolled_up)
SELECT (SELECT min(id) FROM settings_app_apiclient), 'large', 'large-' || i,
  hex(zeroblob(450000)), '', 1, 'done', '2026-03-10', '2026-03-10', '2026-03-10', '2026-03-10',
  1, '', '', 0, 0, 1, 'short', 'STOP', '', '', '', 0, 0, 0, 0, 1 FROM n
"""


async def read_all(server: Server, path: str) -> int:
    async with connect(server) as (reader, writer):
        writer.write(
            f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()
        )
        size = 0
        while part := await asyncio.wait_for(reader.read(1 << 16), PATIENCE_S):
            size += len(part)
        return size


@pytest.mark.server
async def test_large_rows_and_stalled_readers_cost_little_memory(server: Server) -> None:
    with closing(sqlite3.connect(server.folder / "gateway.sqlite3")) as database, database:
        database.execute(INSERT)
    try:
        before_mb = server.memory_mb
        server.forget_peak()
        async with connect(server) as (_, stalled), connect(server) as (_, other):
            for writer, path in ((stalled, "/chats/export.json"), (other, "/v1/chat")):
                query = "?username=large&limit=1000"
                writer.transport.pause_reading()
                writer.write(f"GET {path}{query} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            # By then the others would have been buffered, too.
            assert await read_all(server, "/chats/export.json?username=large") > 70_000_000
            assert await read_all(server, "/v1/chat?username=large&limit=1000") < 11_000_000
        assert server.peak_mb - before_mb < 50
    finally:
        with closing(sqlite3.connect(server.folder / "gateway.sqlite3")) as database, database:
            database.execute("DELETE FROM chats_chat WHERE username = 'large'")
