"""Postgres or Redis goes away and comes back; doors that know their workers (CASES 70, 71)."""

import asyncio
import json
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator, Coroutine
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from batching.llm.simulated_answers import answer_prompt
from batching.llm.simulated_wire import Pace
from llmbatch.tests.fleet import Clients, Fleet, fleet_marks, start_workers
from llmbatch.tests.model_server import ModelServer
from llmbatch.tests.services import OwnPostgres, OwnRedis, explain_missing_programs

missing = explain_missing_programs()
if missing and os.environ.get("CI"):
    raise RuntimeError(f"CI demands the tests with services of their own: {missing}")
pytestmark = [*fleet_marks(), pytest.mark.skipif(bool(missing), reason=missing)]

DOWN_S = 3.0


@pytest.fixture
async def model() -> AsyncIterator[ModelServer]:
    async with ModelServer(pace=Pace(0.05, 0.0)) as server:
        yield server


async def until_ready(clients: Clients, status: int, *, seconds: float = 20) -> dict[str, str]:
    async with asyncio.timeout(seconds):
        while (reply := await clients.ready()).status_code != status:  # noqa: ASYNC110
            await asyncio.sleep(0.1)
    return reply.json()["checks"]


def refuse_unknown_key(clients: Clients, key: str) -> list[Coroutine[Any, Any, None]]:
    """While nobody can look up a key that no door has seen yet."""
    bearer = {"Authorization": f"Bearer {key}"}

    async def refuse(path: str) -> None:
        reply = await clients.get(path, headers=bearer)
        assert (reply.status_code, reply.headers["Retry-After"]) == (503, "5")

    async def refuse_socket() -> None:
        url = clients.fleet.urls[0].replace("http", "ws") + "/ws/query"
        async with connect(url, additional_headers=bearer) as socket:
            assert json.loads(await socket.recv())["code"] == "upstream_unavailable"
            with pytest.raises(ConnectionClosed) as closed:
                await socket.recv()
        assert closed.value.rcvd
        assert closed.value.rcvd.code == 4503

    paths = ("/v1/models", "/v1/chat", "/v1/query/some")
    return [refuse_socket(), *(refuse(path) for path in paths)]


async def test_postgres_restart_refuses_new_requests_and_answers_the_waiting(
    model: ModelServer, tmp_path: Path
) -> None:
    prompts = [f"[[fault:slow:1]] waiting {index}" for index in range(6)]
    with (
        OwnPostgres() as postgres,
        Fleet(model.url, tmp_path, database_url=postgres.url, LEASE_S="15") as fleet,
    ):
        async with Clients(fleet, model) as clients:
            await start_workers(clients, "one", "two")
            assert (await clients.ask("before")).status_code == 200
            key = fleet.manage("create_api_key", "program").strip()
            waiting = [asyncio.create_task(clients.ask(p, priority="LOW")) for p in prompts]
            await model.wait_for_calls(2)
            await asyncio.to_thread(postgres.stop)
            refused = await clients.ask("refused")
            assert (refused.status_code, refused.json()["code"]) == (503, "upstream_unavailable")
            assert "Retry-After" in refused.headers
            assert (await until_ready(clients, 503))["database"] != "ok"
            # Together, for the leases of what runs must outlast all of it.
            await asyncio.gather(asyncio.sleep(DOWN_S), *refuse_unknown_key(clients, key))
            await asyncio.to_thread(postgres.start)
            replies = await asyncio.gather(*waiting)
            assert [reply.json()["text"] for reply in replies] == [
                answer_prompt(p) for p in prompts
            ]
            await until_ready(clients, 200)
            assert (await clients.ask("after")).status_code == 200
        rows = postgres.query("SELECT status, count(*) FROM chats_chat GROUP BY 1")
        assert rows == [("done", 8)]
        items = postgres.query("SELECT sum(jsonb_array_length(item_ids)) FROM batching_modelcall")
        assert sum(model.sizes) == int(items[0][0]) == 8, "no request was sent twice"


async def test_redis_restart_loses_no_request(model: ModelServer, tmp_path: Path) -> None:
    with OwnRedis() as redis, Fleet(model.url, tmp_path, redis_url=redis.url) as fleet:
        async with Clients(fleet, model) as clients:
            await start_workers(clients, "one", "two")
            assert (await clients.ask("before")).status_code == 200
            waiting = [asyncio.create_task(clients.ask(f"waiting {i}")) for i in range(10)]
            await asyncio.sleep(0.05)
            await asyncio.to_thread(redis.stop)
            during = [asyncio.create_task(clients.ask(f"during {i}")) for i in range(10)]
            replies = await asyncio.gather(*waiting, *during)
            assert Counter(reply.status_code for reply in replies) == {200: 20}
            slowest = max(reply.json()["latency_ms"] for reply in replies)
            assert slowest < 5000, "a lost message costs a sweep and a re-read, not a deadline"
            await asyncio.to_thread(redis.start)
            await until_ready(clients, 200)
            assert (await clients.ask("after")).status_code == 200
    assert sum(model.sizes) == 22


async def test_connections_stay_within_the_pool_and_none_leaks(clients: Clients) -> None:
    def count() -> int:
        sql = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
        return clients.fleet.query(sql)[0][0] - 1  # this one

    await start_workers(clients, "one", "two")
    await asyncio.gather(*(clients.ask(f"q{i}") for i in range(100)))
    first = count()
    for _ in range(3):
        await asyncio.gather(*(clients.ask(f"q{i}") for i in range(100)))
        for path in ("/v1/chat?limit=5", "/v1/analytics", "/v1/query/none"):
            await asyncio.gather(*(clients.get(path) for _ in range(20)))
    assert count() <= first + 2 * 16, "two doors may fill their pools"
    settled = count()
    await asyncio.gather(*(clients.ask(f"q{i}") for i in range(100)))
    await asyncio.gather(*(clients.get("/v1/chat?limit=5") for _ in range(40)))
    assert count() <= settled + 4, "140 requests leave no connection behind"
    for name, process in clients.fleet.processes.items():
        clients.fleet.signal(name, signal.SIGTERM)
        assert await asyncio.to_thread(process.wait, 20) == 0
    assert count() == 0


async def test_door_without_workers_says_so_and_a_worker_makes_it_ready(clients: Clients) -> None:
    checks = await until_ready(clients, 503)
    assert "no batch worker" in checks["batch_consumer"]
    asking = asyncio.create_task(clients.ask("waits for a worker"))
    await asyncio.sleep(0.5)
    await start_workers(clients, "one")
    assert (await until_ready(clients, 200))["batch_consumer"] == "ok"
    assert (await asking).status_code == 200
    clients.fleet.signal("one", signal.SIGTERM)
    await until_ready(clients, 503)
    assert clients.fleet.query("SELECT count(*) FROM batching_worker") == [(0,)]


async def test_both_doors_hold_the_bound_of_one_queue(clients: Clients) -> None:
    """Without a worker nothing leaves the queue."""
    changed = await clients.patch("/v1/settings", {"low_priority": {"max_queue": 10}})
    assert changed.status_code == 200
    await asyncio.sleep(1.0)  # the other door reads it
    waiting = [asyncio.create_task(clients.ask(f"q{i}", priority="LOW", web=0)) for i in range(10)]
    await clients.fleet.until("SELECT count(*) FROM chats_chat", [(10,)])
    await asyncio.sleep(1.0)
    for web in (0, 1):
        refused = await clients.ask("one too many", priority="LOW", web=web)
        assert (refused.status_code, refused.json()["code"]) == (503, "queue_full")
    await start_workers(clients, "one")
    assert {reply.status_code for reply in await asyncio.gather(*waiting)} == {200}


async def test_limit_of_a_key_holds_over_both_doors(clients: Clients) -> None:
    await start_workers(clients, "one")
    key = clients.fleet.manage("create_api_key", "program", "--per-minute", "10").strip()
    await asyncio.sleep(1.0)  # both doors have heard of a change by then
    replies = await asyncio.gather(*(clients.ask(f"q{i}", key=key) for i in range(50)))
    assert Counter(reply.status_code for reply in replies) == {200: 10, 429: 40}
    assert sum(clients.server.sizes) == 10
    revoke = "from settings_app.models import *; ApiKey.objects.update(revoked=True)"
    announce = "from settings_app.services import announce_change; announce_change()"
    clients.fleet.manage("shell", "-c", f"{revoke}; {announce}")
    await asyncio.sleep(1.5)
    for web in (0, 1):
        assert (await clients.ask("revoked", key=key, web=web)).status_code == 401
