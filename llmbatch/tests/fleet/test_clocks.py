"""Workers whose wall clocks differ, and a worker that is frozen for longer than a lease."""

import asyncio
import signal
import time

import pytest

from batching.llm.simulated.answers import answer_prompt
from llmbatch.tests.fixtures.fleet import Clients, fleet_marks, set_workers
from llmbatch.tests.fixtures.scrape import Scrape
from llmbatch.tests.fixtures.server import PATIENCE_S

pytestmark = fleet_marks()

HOUR_S = 3600.0
REPEATED = "SELECT count(*) FROM chats_chat WHERE attempt <> 1"
SKEW = "llmbatch_clock_skew_seconds"


async def test_workers_with_other_wall_clocks_repeat_no_call(clients: Clients) -> None:
    """Each of two workers runs a call while the other one looks for expired leases."""
    await set_workers(clients)
    start = clients.fleet.start_worker
    await asyncio.gather(
        asyncio.to_thread(start, "ahead", skew_s=HOUR_S),
        asyncio.to_thread(start, "behind", skew_s=-HOUR_S),
    )
    for index, idle in enumerate(("ahead", "behind"), start=1):
        clients.fleet.signal(idle, signal.SIGSTOP)
        asking = asyncio.create_task(clients.ask("[[fault:slow]] Why?"))
        await clients.server.wait_for_calls(index)
        clients.fleet.signal(idle, signal.SIGCONT)
        assert (await asking).status_code == 200
    assert clients.server.sizes == [1, 1]
    assert clients.fleet.query(REPEATED) == [(0,)]
    owners = "SELECT split_part(owner, '#', 1) FROM batching_batch ORDER BY id"
    assert clients.fleet.query(owners) == [("behind",), ("ahead",)]
    odd = "SELECT count(*) FROM chats_chat WHERE completed_at - received_at > interval '30 m'"
    assert clients.fleet.query(odd) == [(0,)], "all rows are written on one clock"
    await until_skew(clients, ahead=HOUR_S, behind=-HOUR_S)


async def until_skew(clients: Clients, **expected: float) -> None:
    """Waits until each worker has reported its metrics."""
    limit = time.monotonic() + PATIENCE_S
    while True:
        text = (await clients.get("/metrics")).text
        found = {name: Scrape(text).sum(SKEW, process=name) for name in expected}
        if found == pytest.approx(expected, abs=60):
            return
        assert time.monotonic() < limit, found
        await asyncio.sleep(0.2)


async def test_thawed_worker_continues_what_it_claimed_before_and_after(clients: Clients) -> None:
    await set_workers(clients)
    await asyncio.to_thread(clients.fleet.start_worker, "short", LEASE_S="2")
    running = asyncio.create_task(clients.ask("[[fault:slow]] Why?"))
    await clients.server.wait_for_calls(1)
    clients.fleet.signal("short", signal.SIGSTOP)
    await clients.fleet.until("SELECT lease_until < now() FROM chats_chat", [(True,)])
    queued = asyncio.create_task(clients.ask("Why not?"))
    await clients.fleet.until("SELECT count(*) FROM chats_chat WHERE status = 'queued'", [(1,)])
    clients.fleet.signal("short", signal.SIGCONT)
    assert (await running).json()["text"] == answer_prompt("[[fault:slow]] Why?")
    assert (await queued).json()["text"] == answer_prompt("Why not?")
    assert clients.server.sizes == [1, 1]
    assert clients.fleet.query(REPEATED) == [(0,)]
    await clients.fleet.demand_agreeing_books()
