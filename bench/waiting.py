"""Threads and memory of the server while thousands of clients wait."""

import threading
from contextlib import contextmanager
from dataclasses import dataclass

import psutil

from bench.processes import GatewayProcess, gateway, model_service, run_load
from bench.tables import count_failures, print_note, print_table

# Longer than the server needs to accept all requests.
MODEL_S = 10.0
CLIENTS = (1000, 5000)
INTERVALS_SQL = """
    SELECT (julianday(received_at) - 2440587.5) * 86400.0,
           (julianday(completed_at) - 2440587.5) * 86400.0
    FROM chats_chat WHERE completed_at IS NOT NULL
"""


@dataclass(slots=True)
class Usage:
    threads: int = 0
    rss: int = 0


def measure_waiting() -> None:
    print_table(
        f"Clients that wait at the same time: HIGH, model {MODEL_S:.0f} s",
        [
            "clients",
            "at once",
            "answered",
            "threads idle",
            "threads",
            "RSS idle",
            "RSS",
            "RSS per client",
            "last answer after",
            "batches",
        ],
        [_wait_together(clients) for clients in CLIENTS],
    )
    print_note(
        "All sent at once, each on a connection of its own; 1000 call slots, so that every batch's"
        " call is open too. Threads and memory are the server process's maximum. `at once`"
        " counts stored rows between acceptance and answer."
    )


def _wait_together(clients: int) -> list[object]:
    with model_service(MODEL_S) as model, gateway(model, MODEL_CALL_SLOTS="1000") as server:
        run_load(server.url, "burst", clients=1)
        idle = _observe(server)
        with _maximum_usage(server) as most:
            result = run_load(server.url, "burst", clients=clients)
        ((batches,),) = server.query("SELECT count(*) FROM batching_batch WHERE id > 1")
        together = _count_together(server.query(INTERVALS_SQL))
    megabyte = 1 << 20
    return [
        clients,
        together,
        len(result["statuses"]) - count_failures(result),
        idle.threads,
        most.threads,
        f"{idle.rss / megabyte:.0f} MiB",
        f"{most.rss / megabyte:.0f} MiB",
        f"{(most.rss - idle.rss) / clients / 1024:.0f} KiB",
        f"{result['duration']:.1f} s",
        batches,
    ]


def _observe(server: GatewayProcess) -> Usage:
    return Usage(server.process.num_threads(), server.process.memory_info().rss)


@contextmanager
def _maximum_usage(server: GatewayProcess):
    most, done = Usage(), threading.Event()

    def watch() -> None:
        while not done.wait(0.1):
            try:
                now = _observe(server)
            except psutil.NoSuchProcess:
                return
            most.threads, most.rss = max(most.threads, now.threads), max(most.rss, now.rss)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield most
    finally:
        done.set()
        watcher.join()


def _count_together(intervals: list[tuple[float, float]]) -> int:
    changes = sorted([(start, 1) for start, _ in intervals] + [(end, -1) for _, end in intervals])
    most = now = 0
    for _, change in changes:
        now += change
        most = max(most, now)
    return most
