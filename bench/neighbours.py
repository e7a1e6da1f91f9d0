"""How long a HIGH request takes beside one client that takes what it can get."""

import asyncio
import http.client
import json
import multiprocessing
import sqlite3
import statistics
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from urllib.parse import urlsplit

from bench.processes import GatewayProcess, gateway, model_service
from bench.tables import milliseconds, print_note, print_table

MODEL_S = 0.3
# Alternating rounds without and with the neighbour, because the speed of shared cores changes.
ROUNDS = 3
ROUND_S = 4.0
PAUSE_S = 0.15
ROWS = 20_000
FILL = """
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows})
INSERT INTO chats_chat (client_id, username, request_id, prompt, prompt_digest, priority, status,
  created_at, received_at, due_at, deadline, attempt, owner, origin, streamed, respond_async,
  waiters, text, finish_reason, error_code, error_detail, suspect, settled_prompt, settled_output,
  settled_thoughts, settled_cached, rolled_up)
SELECT (SELECT min(id) FROM settings_app_apiclient), 'old', 'old-' || i, hex(zeroblob(2000)), '',
  1, 'done', '2026-03-10', '2026-03-10', '2026-03-10', '2026-03-10', 1, '', '', 0, 0, 1, 'short',
  'STOP', '', '', '', 0, 0, 0, 0, 1 FROM n
"""

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Neighbour:
    """Keeps many connections busy until it is cancelled."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._address = (parts.hostname, parts.port)

    async def open(self, data: bytes = b"", *, reads: bool = True) -> Connection:
        reader, writer = await asyncio.open_connection(*self._address)
        if not reads:
            writer.transport.pause_reading()
        writer.write(data)
        return reader, writer

    async def repeat(self, data: bytes) -> None:
        """Sends the same request on new connections until it is cancelled."""
        while True:
            with suppress(OSError, asyncio.IncompleteReadError):
                reader, writer = await self.open(data)
                await reader.read()
                writer.close()

    async def _hold(self, count: int, data: bytes) -> None:
        """Keeps connections open and reads nothing."""
        kept = [await self.open(data, reads=False) for _ in range(count)]
        await asyncio.sleep(3600)
        del kept

    async def bodies(self) -> None:
        """10 MB each, although the server refuses them."""
        head = b"POST /v1/query HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10000000\r\n\r\n"
        await asyncio.gather(*(self.repeat(head + b"x" * 10_000_000) for _ in range(2)))

    async def slow_bodies(self) -> None:
        head = b"POST /v1/query HTTP/1.1\r\nHost: localhost\r\nContent-Length: 900000\r\n\r\n"
        writers = [(await self.open(head))[1] for _ in range(300)]
        while True:
            for writer in writers:
                writer.write(b" ")
            await asyncio.sleep(1)

    async def slow_streams(self) -> None:
        body = json.dumps({"username": "slow", "prompt": "p" * 5000, "priority": "LOW"}).encode()
        head = b"POST /v1/query HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n"
        head += b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
        await self._hold(40, head + body)

    async def slow_sockets(self) -> None:
        shake = b"GET /ws/live HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\n"
        shake += b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        shake += b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        await self._hold(50, shake)

    async def half_open(self) -> None:
        await self._hold(500, b"")

    async def searches(self) -> None:
        get = b"GET /v1/chat?username=old&search=nothing HTTP/1.1\r\n"
        get += b"Host: localhost\r\nConnection: close\r\n\r\n"
        await asyncio.gather(*(self.repeat(get) for _ in range(40)))

    async def logins(self) -> None:
        await asyncio.gather(*(self.repeat(self._login(n)) for n in range(5)))

    @staticmethod
    def _login(number: int) -> bytes:
        token = b"a" * 64
        form = b"csrfmiddlewaretoken=%s&username=made-up-%d&password=wrong" % (token, number)
        head = b"POST /admin/login/ HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        head += b"Content-Type: application/x-www-form-urlencoded\r\nCookie: csrftoken=" + token
        return head + b"\r\nContent-Length: %d\r\n\r\n" % len(form) + form

    async def stalled_exports(self) -> None:
        get = b"GET /chats/export.json HTTP/1.1\r\nHost: localhost\r\n\r\n"
        await self._hold(20, get)


KINDS: dict[str, Callable[[Neighbour], Coroutine[None, None, None]]] = {
    "2 × 10 MB bodies, again and again": Neighbour.bodies,
    "300 bodies, a byte a second each": Neighbour.slow_bodies,
    "40 streams that nobody reads": Neighbour.slow_streams,
    "50 sockets that nobody reads": Neighbour.slow_sockets,
    "500 connections without a byte": Neighbour.half_open,
    "40 searches at a time": Neighbour.searches,
    "5 wrong logins at a time": Neighbour.logins,
    "20 exports that nobody reads": Neighbour.stalled_exports,
}


def measure_neighbours() -> None:
    rows = []
    for name in KINDS:
        with model_service(MODEL_S) as model, gateway(model) as server:
            _fill(server)
            rows.append([name, *_compare(server, name)])
    print_table(
        f"HIGH requests of one client beside another client, model {MODEL_S} s",
        ["the other client", "alone, median", "beside it", "ratio"],
        rows,
    )
    print_note(f"{ROUNDS} rounds of {ROUND_S:.0f} s each, alternating; one request at a time.")


def _fill(server: GatewayProcess) -> None:
    with sqlite3.connect(server.database, timeout=30) as database:
        database.execute(FILL.format(rows=ROWS))


def _compare(server: GatewayProcess, name: str) -> list[str]:
    alone: list[float] = []
    beside: list[float] = []
    _ask(server.url, [], 1.0)
    for _ in range(ROUNDS):
        _ask(server.url, alone, ROUND_S)
        neighbour = multiprocessing.Process(target=_disturb, args=(server.url, name))
        neighbour.start()
        time.sleep(1)
        _ask(server.url, beside, ROUND_S)
        neighbour.terminate()
        neighbour.join()
    ratio = statistics.median(beside) / statistics.median(alone)
    times = [milliseconds(statistics.median(values)) for values in (alone, beside)]
    return [*times, f"**{ratio:.2f}**"]


def _disturb(url: str, name: str) -> None:
    asyncio.run(KINDS[name](Neighbour(url)))


def _ask(url: str, times: list[float], seconds: float) -> None:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=60)
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        body = json.dumps({"username": "ann", "prompt": f"p {time.time()}", "priority": "HIGH"})
        began = time.perf_counter()
        connection.request("POST", "/v1/query", body, {"content-type": "application/json"})
        response = connection.getresponse()
        response.read()
        times.append(time.perf_counter() - began)
        assert response.status == 200, response.status
        time.sleep(PAUSE_S)
