"""Restarts of Postgres and Redis lose no request, and web processes know their workers."""

import asyncio
import json
import os
import secrets
import signal
from collections import Counter
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import httpx2
import pytest
import redis
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from batching.llm.simulated.answers import answer_prompt
from llmbatch.tests.fixtures.fleet import Clients, Fleet, fleet_marks, set_workers, start_workers
from llmbatch.tests.fixtures.model_thread import ModelThread
from llmbatch.tests.fixtures.server import PATIENCE_S
from llmbatch.tests.fixtures.services import OwnPostgres, OwnRedis, explain_missing_programs

missing = explain_missing_programs()
if missing and os.environ.get("CI"):
    raise RuntimeError(f"CI requires the tests with private services: {missing}")
pytestmark = [*fleet_marks(), pytest.mark.skipif(bool(missing), reason=missing)]

LEASE_S, DOWN_S = "4", 6.0  # Postgres is down for longer than a lease.
# A web process reads changed settings and the requests of others within a second.
SETTLE_S = 3.0


@pytest.fixture(scope="module")
def postgres() -> Iterator[OwnPostgres]:
    with OwnPostgres() as postgres:
        yield postgres


@pytest.fixture(scope="module")
def _postgres_fleet(
    _model_of_fleets: ModelThread,
    postgres: OwnPostgres,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Fleet]:
    folder = tmp_path_factory.mktemp("postgres_fleet")
    with Fleet(_model_of_fleets.url, folder, database_url=postgres.url, LEASE_S=LEASE_S) as fleet:
        yield fleet


@pytest.fixture
async def postgres_clients(
    fleet_model: ModelThread, _postgres_fleet: Fleet
) -> AsyncIterator[Clients]:
    """Clients of a fleet whose Postgres server the test may stop."""
    _postgres_fleet.clear()
    async with Clients(_postgres_fleet, fleet_model) as clients:
        yield clients


async def until_ready(clients: Clients, status: int, *, web: int = 0) -> dict[str, str]:
    async with asyncio.timeout(PATIENCE_S):
        while (reply := await clients.ready(web=web)).status_code != status:  # noqa: ASYNC110
            await asyncio.sleep(0.1)
    return reply.json()["checks"]


async def until_read_only(clients: Clients, *, web: int) -> None:
    """Waits for readiness to say so. At first it reports the sessions that the server ended."""
    async with asyncio.timeout(PATIENCE_S):
        while (await until_ready(clients, 503, web=web))["database"] != "InternalError":  # noqa: ASYNC110
            await asyncio.sleep(0.1)


def refuse_unknown_key(clients: Clients, key: str) -> list[Coroutine[Any, Any, None]]:
    """Asserts 503 for a key that no web process has cached: it cannot be looked up now."""
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


async def log_in(clients: Clients) -> httpx2.Response:
    """Sends a wrong password, which is counted in the database."""
    async with httpx2.AsyncClient(base_url=clients.fleet.urls[0], timeout=PATIENCE_S) as http:
        await http.get("/admin/login/")
        form = {"username": secrets.token_hex(8), "password": "wrong"}
        form["csrfmiddlewaretoken"] = http.cookies["csrftoken"]
        return await http.post("/admin/login/", data=form)


async def expect_refused_writes(clients: Clients) -> None:
    """The API answers with its 503, pages too; reading works."""
    asked = await clients.ask("refused")
    patched = await clients.patch("/v1/settings", {"low_priority": {"max_queue": 12}})
    for reply in (asked, patched):
        assert (reply.status_code, reply.json()["code"]) == (503, "upstream_unavailable")
        assert "database" in reply.json()["detail"]
        assert reply.headers["Retry-After"] == "5"
    login = await log_in(clients)
    assert (login.status_code, login.headers["Retry-After"]) == (503, "5")
    assert "database" in login.text
    assert (await clients.get("/v1/chat")).status_code == 200


async def until_writable(clients: Clients) -> None:
    """Waits until no session of a web process is read-only any more."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            replies = await asyncio.gather(*(clients.ask(f"again {i}") for i in range(20)))
            logins = [await log_in(clients) for _ in range(4)]
            if {reply.status_code for reply in (*replies, *logins)} == {200}:
                return
            await asyncio.sleep(0.1)


async def test_read_only_postgres_refuses_writes_and_is_used_again_when_it_takes_them(
    postgres: OwnPostgres, postgres_clients: Clients
) -> None:
    clients = postgres_clients
    await start_workers(clients, "one", "two")
    waiting = asyncio.create_task(clients.ask("[[fault:slow:1]] waiting"))
    await clients.server.wait_for_calls(1)
    await asyncio.to_thread(postgres.refuse_writes)
    for web in (0, 1):
        await until_read_only(clients, web=web)
    await asyncio.gather(asyncio.sleep(DOWN_S), expect_refused_writes(clients))
    await asyncio.to_thread(postgres.accept_writes)
    await until_writable(clients)
    for web in (0, 1):
        await until_ready(clients, 200, web=web)
    assert (await waiting).json()["text"] == answer_prompt("[[fault:slow:1]] waiting")
    attempts = postgres.query("SELECT attempt FROM chats_chat WHERE prompt LIKE '%waiting'")
    assert attempts == [(1,)], "its answer was kept until it could be stored"


async def test_postgres_restart_refuses_new_requests_and_keeps_waiting_ones(
    postgres: OwnPostgres, postgres_clients: Clients
) -> None:
    clients, model = postgres_clients, postgres_clients.server
    prompts = [f"[[fault:slow:1]] waiting {index}" for index in range(6)]
    await start_workers(clients, "one", "two")
    assert (await clients.ask("before")).status_code == 200
    key = clients.fleet.manage("create_api_key", "program").strip()
    waiting = [asyncio.create_task(clients.ask(p, priority="LOW")) for p in prompts]
    await model.wait_for_calls(2)
    await asyncio.to_thread(postgres.stop)
    refused = await clients.ask("refused")
    assert (refused.status_code, refused.json()["code"]) == (503, "upstream_unavailable")
    assert "Retry-After" in refused.headers
    assert (await until_ready(clients, 503))["database"] != "ok"
    await asyncio.gather(asyncio.sleep(DOWN_S), *refuse_unknown_key(clients, key))
    await asyncio.to_thread(postgres.start)
    replies = await asyncio.gather(*waiting)
    assert [reply.json()["text"] for reply in replies] == [answer_prompt(p) for p in prompts]
    await until_ready(clients, 200)
    assert (await clients.ask("after")).status_code == 200
    await clients.fleet.demand_agreeing_books()
    rows = postgres.query("SELECT status, count(*) FROM chats_chat GROUP BY 1")
    assert rows == [("done", 8)]
    items = postgres.query("SELECT sum(jsonb_array_length(item_ids)) FROM batching_modelcall")
    assert sum(model.sizes) == int(items[0][0]) == 8, "no request was sent twice"


async def until_subscribed(fleet: Fleet) -> None:
    """Waits for the subscriptions of two web processes and two workers, and for no other."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            with suppress(redis.RedisError):
                counts = dict(fleet.redis.pubsub_numsub(*fleet.redis.pubsub_channels()))
                # The inbox of each web process, the workers' channel, and one of all processes.
                if sorted(counts.values()) == [1, 1, 2, 4]:
                    return
            await asyncio.sleep(0.1)


async def ask_while_redis_stops(clients: Clients, server: OwnRedis) -> None:
    waiting = [asyncio.create_task(clients.ask(f"waiting {i}")) for i in range(10)]
    await asyncio.sleep(0.05)
    await asyncio.to_thread(server.stop)
    during = [asyncio.create_task(clients.ask(f"during {i}")) for i in range(10)]
    replies = await asyncio.gather(*waiting, *during)
    assert Counter(reply.status_code for reply in replies) == {200: 20}
    slowest = max(reply.json()["latency_ms"] for reply in replies)
    assert slowest < PATIENCE_S * 1000, "a lost message costs a sweep and a re-read, not a deadline"


async def test_redis_that_starts_late_and_restarts_loses_no_request(
    fleet_model: ModelThread, tmp_path: Path
) -> None:
    with OwnRedis() as server, ExitStack() as stack:
        await asyncio.to_thread(server.stop)
        fleet = stack.enter_context(Fleet(fleet_model.url, tmp_path, redis_url=server.url))
        async with Clients(fleet, fleet_model) as clients:
            await start_workers(clients, "one", "two")
            assert (await until_ready(clients, 503))["channel_layer"] != "ok"
            assert (await clients.ask("before")).status_code == 200
            await asyncio.to_thread(server.start)
            await until_subscribed(fleet)
            await until_ready(clients, 200)
            await ask_while_redis_stops(clients, server)
            await asyncio.to_thread(server.start)
            await until_ready(clients, 200)
            await asyncio.gather(*(clients.ready() for _ in range(20)))
            await until_subscribed(fleet)
            assert (await clients.ask("after")).status_code == 200
    assert sum(fleet_model.sizes) == 22


async def test_connections_stay_within_the_pool_and_none_leaks(own_clients: Clients) -> None:
    def count() -> int:
        sql = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
        return own_clients.fleet.query(sql)[0][0] - 1  # the connection of this query

    await start_workers(own_clients, "one", "two")
    await asyncio.gather(*(own_clients.ask(f"q{i}") for i in range(100)))
    first = count()
    for _ in range(3):
        await asyncio.gather(*(own_clients.ask(f"q{i}") for i in range(100)))
        for path in ("/v1/chat?limit=5", "/v1/analytics", "/v1/query/none"):
            await asyncio.gather(*(own_clients.get(path) for _ in range(20)))
    assert count() <= first + 2 * 16, "two web processes may fill their pools"
    settled = count()
    await asyncio.gather(*(own_clients.ask(f"q{i}") for i in range(100)))
    await asyncio.gather(*(own_clients.get("/v1/chat?limit=5") for _ in range(40)))
    assert count() <= settled + 4, "140 requests leave no connection behind"
    for name, process in own_clients.fleet.processes.items():
        own_clients.fleet.signal(name, signal.SIGTERM)
        assert await asyncio.to_thread(process.wait, PATIENCE_S) == 0
    assert count() == 0


async def test_web_process_is_ready_only_with_a_worker(clients: Clients) -> None:
    await set_workers(clients)
    checks = await until_ready(clients, 503)
    assert "no batch worker" in checks["batch_consumer"]
    asking = asyncio.create_task(clients.ask("waits for a worker"))
    await asyncio.sleep(0.5)
    await start_workers(clients, "one")
    assert (await until_ready(clients, 200))["batch_consumer"] == "ok"
    assert (await asking).status_code == 200
    await asyncio.to_thread(clients.fleet.stop_workers)
    await until_ready(clients, 503)
    assert clients.fleet.query("SELECT count(*) FROM batching_worker") == [(0,)]


async def test_both_web_processes_enforce_the_bound_of_one_queue(clients: Clients) -> None:
    """At first there is no worker, so no request leaves the queue."""
    await set_workers(clients)
    before = (await clients.get("/v1/settings")).json()["low_priority"]["max_queue"]
    changed = await clients.patch("/v1/settings", {"low_priority": {"max_queue": 12}})
    assert changed.status_code == 200
    await asyncio.sleep(SETTLE_S)
    waiting = [asyncio.create_task(clients.ask(f"q{i}", priority="LOW", web=0)) for i in range(12)]
    await clients.fleet.until("SELECT count(*) FROM chats_chat", [(12,)])
    await asyncio.sleep(SETTLE_S)
    for web in (0, 1):
        refused = await clients.ask("one too many", priority="LOW", web=web)
        assert (refused.status_code, refused.json()["code"]) == (503, "queue_full")
    await start_workers(clients, "one")
    assert {reply.status_code for reply in await asyncio.gather(*waiting)} == {200}
    restored = await clients.patch("/v1/settings", {"low_priority": {"max_queue": before}})
    assert restored.status_code == 200


async def until_refused(clients: Clients, key: str, *, web: int) -> None:
    """Waits until a web process has read the change, which usually takes a second at most."""
    async with asyncio.timeout(PATIENCE_S):
        while (await clients.ask("revoked", key=key, web=web)).status_code != 401:  # noqa: ASYNC110
            await asyncio.sleep(0.1)


async def test_both_web_processes_share_the_rate_limit_of_a_key(clients: Clients) -> None:
    await set_workers(clients, "one")
    key = clients.fleet.manage("create_api_key", "program", "--per-minute", "10").strip()
    replies = await asyncio.gather(*(clients.ask(f"q{i}", key=key) for i in range(24)))
    assert Counter(reply.status_code for reply in replies) == {200: 10, 429: 14}
    assert sum(clients.server.sizes) == 10
    revoke = "from settings_app.models import *; ApiKey.objects.update(revoked=True)"
    announce = "from settings_app.services import announce_change; announce_change()"
    clients.fleet.manage("shell", "-c", f"{revoke}; {announce}")
    await until_refused(clients, key, web=0)
    await until_refused(clients, key, web=1)
