"""A scrape of any web process shows the metrics of every running process of the fleet."""

import asyncio
import signal
import socket
import time

from llmbatch.tests.fixtures.fleet import Clients, fleet_marks, set_workers
from llmbatch.tests.fixtures.scrape import Scrape, promtool_mark, run_promtool
from llmbatch.tests.fixtures.server import PATIENCE_S

pytestmark = [*fleet_marks(), promtool_mark()]


ANSWERED = "llmbatch_requests_total"
SILENT = "UPDATE batching_processnumbers SET seen_at = now() - interval '{} s' WHERE name = 'two'"


async def scrape_until(clients: Clients, web: int, processes: set[str], answered: float) -> str:
    """Repeats the scrape: metrics of other processes may be two seconds old, or more under load."""
    limit = time.monotonic() + PATIENCE_S
    while True:
        text = (await clients.get("/metrics", web=web)).text
        seen = Scrape(text)
        if (
            seen.values_of("process") == processes
            and seen.sum(ANSWERED, outcome="answered") == answered
            and seen.sum("llmbatch_batch_size_sum", lane="HIGH") == 24
        ):
            return text
        assert time.monotonic() < limit, text
        await asyncio.sleep(0.1)


async def count_answered(clients: Clients, web_processes: list[str]) -> float:
    """Sums what each web process reports about itself, which is always current."""
    counts = []
    for web, name in enumerate(web_processes):
        seen = Scrape((await clients.get("/metrics", web=web)).text)
        counts.append(seen.sum(ANSWERED, outcome="answered", process=name))
    return sum(counts)


async def test_scrape_shows_all_processes_until_they_end(clients: Clients) -> None:
    await set_workers(clients)
    await set_workers(clients, "one", "two")  # new workers, whose counters are 0
    host = socket.gethostname()[:34]
    named = [f"{host}:{url.rpartition(':')[2]}" for url in clients.fleet.urls]
    before = await count_answered(clients, named)
    replies = await asyncio.gather(*(clients.ask(f"question {index}") for index in range(24)))
    assert {reply.status_code for reply in replies} == {200}
    web_processes = set(named)
    everybody = web_processes | {"one", "two"}
    for web in (0, 1):
        text = await scrape_until(clients, web, everybody, answered=before + 24)
        assert run_promtool("check", "metrics", text=text) == ""
        seen = Scrape(text)
        assert seen.sum("llmbatch_queue_depth") == 0
        waiting = {key for key in seen.samples if key[0] == "llmbatch_waiting_clients"}
        assert {dict(labels)["process"] for _, labels in waiting} == web_processes
        slots = {key for key in seen.samples if key[0] == "llmbatch_call_slots"}
        assert {dict(labels)["process"] for _, labels in slots} == {"one", "two"}
        assert seen.sum("process_resident_memory_bytes", process="two") > 1e7

    clients.fleet.signal("one", signal.SIGTERM)
    await asyncio.to_thread(clients.fleet.processes["one"].wait, PATIENCE_S)
    seen = Scrape((await clients.get("/metrics")).text)
    assert "one" not in seen.values_of("process"), "a worker that stops in order disappears at once"
    assert "two" in seen.values_of("process")

    clients.fleet.kill("two")
    clients.fleet.execute(SILENT.format(-PATIENCE_S))
    seen = Scrape((await clients.get("/metrics")).text)
    assert "two" in seen.values_of("process")
    clients.fleet.execute(SILENT.format(5))
    seen = Scrape((await clients.get("/metrics")).text)
    assert "two" not in seen.values_of("process")
