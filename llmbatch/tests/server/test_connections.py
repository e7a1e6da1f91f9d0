"""Idle connections give way to new ones, and health checks always find room."""

import asyncio
import json
import logging
import resource
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from batching.telemetry.metrics import REGISTRY
from llmbatch.server import connections
from llmbatch.server.connections import RESERVE, Connection, Connections, raise_file_limit
from llmbatch.tests.fixtures.model_thread import ModelThread
from llmbatch.tests.fixtures.raw_http import HANDSHAKE, connect, talk
from llmbatch.tests.fixtures.server import PATIENCE_S, Server

GUEST = "192.0.2.1"


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


class Peers:
    """Opens connections, and records which of them were closed."""

    def __init__(self, **bounds: int) -> None:
        self.clock = Clock()
        self.connections = Connections(**({"per_address": 1000} | bounds), clock=self.clock)
        self.closed: list[Connection] = []

    def open(self, address: str = "127.0.0.1") -> Connection | None:
        connection = self.connections.open(address)
        if connection is not None:
            connection.close = lambda: self.closed.append(connection)
        return connection

    def open_busy(self, address: str = "127.0.0.1") -> Connection:
        connection = self.open(address)
        assert connection is not None
        self.connections.begin_request(connection)
        return connection


def closed_total(reason: str) -> float:
    name = "llmbatch_closed_connections_total"
    return REGISTRY.get_sample_value(name, {"reason": reason}) or 0.0


def test_longest_idle_connection_gives_way_to_a_new_one() -> None:
    peers = Peers(total=3)
    first, second, third = peers.open(), peers.open_busy(), peers.open()
    before = closed_total("idle")
    assert peers.open()
    assert peers.closed == [first]
    peers.connections.end_request(second)
    assert peers.open()
    assert peers.closed == [first, third], "the second was used since"
    assert (len(peers.connections), closed_total("idle") - before) == (3, 2)


def test_beyond_the_bound_connections_serve_probes_until_the_reserve_is_used_up() -> None:
    peers = Peers(total=2)
    assert not peers.open_busy().in_reserve
    assert not peers.open_busy().in_reserve
    reserved = [peers.open_busy() for _ in range(RESERVE)]
    assert all(each.in_reserve for each in reserved)
    assert peers.open() is None
    assert peers.closed == []
    peers.connections.remove(reserved[0])
    assert peers.open() is not None


def test_idle_connections_never_fill_the_reserve() -> None:
    peers = Peers(total=2)
    for _ in range(3 * RESERVE):
        assert peers.open() is not None
    assert len(peers.connections) == 2


def test_address_holds_only_its_part_and_this_machine_any_number() -> None:
    peers = Peers(total=100, per_address=3)
    held = [peers.open(GUEST) for _ in range(3)]
    assert peers.open(GUEST) is None
    assert peers.open("192.0.2.2") is not None
    for peer in ("127.0.0.1", "::1"):
        assert all(peers.open(peer) for _ in range(5))
    assert held[0] is not None
    peers.connections.remove(held[0])
    peers.connections.remove(held[0])
    assert peers.open(GUEST) is not None
    assert peers.open(GUEST) is None


def test_address_holds_at_most_half_of_all_and_a_subscriber_is_one_address() -> None:
    peers = Peers(total=4)
    assert peers.open("2001:db8::1")
    assert peers.open("2001:db8::2")
    assert peers.open("2001:db8::3") is None


def test_proxy_may_open_any_number() -> None:
    trusted = Connections(total=100, per_address=1, exempt_all=True)
    assert all(trusted.open(GUEST) for _ in range(5))


def test_connection_without_a_whole_request_is_closed_in_time() -> None:
    peers = Peers(total=10)
    slow, busy = peers.open(), peers.open_busy()
    peers.clock.now += connections.RECEIVE_S - 1
    late = peers.open()
    peers.connections.close_slow()
    assert peers.closed == []
    peers.clock.now += 1
    peers.connections.close_slow()
    assert peers.closed == [slow]
    assert len(peers.connections) == 2
    assert {busy, late}


def test_log_has_one_line_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    peers = Peers(total=10, per_address=1)
    peers.open(GUEST)
    with caplog.at_level(logging.WARNING):
        for _ in range(100):
            peers.open(GUEST)
        peers.clock.now += connections.LOG_INTERVAL_S
        peers.open(GUEST)
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 2
    assert lines[0].startswith(
        "1 connections were closed or refused; the last one was of 192.0.2.1"
    )
    assert lines[1].startswith("100 connections")


def test_file_limit_is_raised_to_the_hard_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = [(1024, 524_288)]
    monkeypatch.setattr(resource, "getrlimit", lambda kind: limits[-1])
    monkeypatch.setattr(resource, "setrlimit", lambda kind, pair: limits.append(pair))
    raise_file_limit()
    assert limits[-1] == (524_288, 524_288)
    assert connections.choose_total() == connections.MAX_CONNECTIONS
    limits.append((1024, 1024))
    assert connections.choose_total() == 1024 - connections.OTHER_FILES


HEALTH = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
CHATS = b"GET /v1/chat HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.mark.server
async def test_server_with_few_files_keeps_room_for_clients_and_probes(
    model: ModelThread, tmp_path: Path
) -> None:
    command = ["sh", "-c", 'ulimit -n 320; exec .venv/bin/python manage.py serve "$@"', "serve"]
    with Server(tmp_path, command=command, GEMINI_BASE_URL=model.url) as server:
        async with AsyncExitStack() as stack:
            for _ in range(100):
                await stack.enter_async_context(connect(server))
            assert (await talk(server, CHATS))[0] == 200, "an idle connection gave way"
            for _ in range(64):  # sockets are never idle
                reader, writer = await stack.enter_async_context(connect(server))
                writer.write(HANDSHAKE)
                head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE_S)
                assert head.startswith(b"HTTP/1.1 101 ")
            status, head, text = await talk(server, CHATS)
            assert (status, json.loads(text)["code"]) == (503, "queue_full")
            assert b"Retry-After: " in head
            assert (await talk(server, HEALTH))[0] == 200
            metrics = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n"
            _, _, text = await talk(server, metrics)
            assert b"llmbatch_closed_connections_total{" in text
        assert "connections were closed or refused" in server.log
        assert "Traceback" not in server.log
        async with asyncio.timeout(PATIENCE_S):
            while (await talk(server, CHATS))[0] != 200:  # noqa: ASYNC110 - sockets end meanwhile
                await asyncio.sleep(0.05)
