"""One scrape of any door shows what every process of the fleet counted, while it lives."""

import asyncio
import signal
import socket
import time

from llmbatch.tests.fleet import Clients, fleet_marks, start_workers
from llmbatch.tests.scrape import Scrape, promtool_mark, run_promtool

pytestmark = [*fleet_marks(), promtool_mark()]


async def scrape_until(clients: Clients, web: int, processes: set[str], answered: int) -> str:
    """Other processes' numbers are two seconds old at most, and this test gives them some more."""
    limit = time.monotonic() + 8
    while True:
        text = (await clients.get("/metrics", web=web)).text
        seen = Scrape(text)
        if (
            seen.values_of("process") == processes
            and seen.sum("llmbatch_requests_total", outcome="answered") == answered
        ):
            return text
        assert time.monotonic() < limit, text
        await asyncio.sleep(0.1)


async def test_scrape_shows_doors_and_workers_until_they_are_gone(clients: Clients) -> None:
    await start_workers(clients, "one", "two")
    doors = {f"{socket.gethostname()[:34]}:{url.rpartition(':')[2]}" for url in clients.fleet.urls}
    replies = await asyncio.gather(*(clients.ask(f"question {index}") for index in range(24)))
    assert {reply.status_code for reply in replies} == {200}
    everybody = doors | {"one", "two"}
    for web in (0, 1):
        text = await scrape_until(clients, web, everybody, answered=24)
        assert run_promtool("check", "metrics", text=text) == ""
        seen = Scrape(text)
        assert seen.sum("llmbatch_batch_size_sum", lane="HIGH") == 24
        assert seen.sum("llmbatch_queue_depth") == 0
        waiting = {key for key in seen.samples if key[0] == "llmbatch_waiting_clients"}
        assert {dict(labels)["process"] for _, labels in waiting} == doors
        slots = {key for key in seen.samples if key[0] == "llmbatch_call_slots"}
        assert {dict(labels)["process"] for _, labels in slots} == {"one", "two"}
        assert seen.sum("process_resident_memory_bytes", process="two") > 1e7

    clients.fleet.signal("one", signal.SIGTERM)
    await asyncio.to_thread(clients.fleet.processes["one"].wait, 15)
    seen = Scrape((await clients.get("/metrics")).text)
    assert seen.values_of("process") == everybody - {"one"}, "who stops in order is gone at once"

    clients.fleet.signal("two", signal.SIGKILL)
    await asyncio.to_thread(clients.fleet.processes["two"].wait)
    seen = Scrape((await clients.get("/metrics")).text)
    assert "two" in seen.values_of("process")
    clients.fleet.query(
        "UPDATE batching_processnumbers SET seen_at = seen_at - interval '5 s' WHERE name = 'two'"
        " RETURNING name"
    )
    seen = Scrape((await clients.get("/metrics")).text)
    assert seen.values_of("process") == doors
