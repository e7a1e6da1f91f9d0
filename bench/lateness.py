"""How late a window closes: dispatch minus due time, against the timers of a bare event loop."""

import asyncio

import uvloop

from bench.processes import gateway, model_service, run_load
from bench.tables import count_failures, milliseconds, percentile, print_note, print_table

# At 50 requests/s, a batch of six would be full before its window of 0.2 s ends.
ROOMY = {"high_priority": {"max_batch": 50}}
SQL = """
    SELECT lateness_ms / 1000.0,
           (julianday(dispatched_at) - julianday(min(due_at))) * 86400.0, count(*)
    FROM batching_batch JOIN chats_chat ON batch_id = batching_batch.id
    WHERE "trigger" = 'window' AND batching_batch.id > {} GROUP BY batching_batch.id
"""


def measure_lateness() -> None:
    rows = [_describe("bare event loop, timers of 0.2 s", _time_timers())]
    for label, rate, seconds, settings in (
        ("50 requests/s, max batch 50", 50, 20, ROOMY),
        ("20 requests/s, max batch 6", 20, 10, {}),
    ):
        with model_service(0.3) as model, gateway(model) as server:
            if settings:
                server.change_settings(settings)
            run_load(server.url, "offer", rate=rate, seconds=2)
            ((last_batch,),) = server.query("SELECT max(id) FROM batching_batch")
            result = run_load(server.url, "offer", rate=rate, seconds=seconds)
            measured = server.query(SQL.format(last_batch))
        failed = count_failures(result)
        rows.append(_describe(f"{label}: planner", [row[0] for row in measured], failed))
        rows.append(_describe(f"{label}: claimed", [row[1] for row in measured], failed))
    print_table(
        "Window lateness: dispatch - due, HIGH, window 0.2 s",
        ["load", "p50", "p99", "maximum", "batches", "failed"],
        rows,
    )
    print_note(
        "Batches that left by their window only. `planner` is `Batch.lateness_ms`: when the"
        " planner took the batch, on the monotonic clock. `claimed` is `dispatched_at - due_at` of"
        " the rows: when the claim began; the commit of the rows and the call follow."
    )


def _describe(label: str, lateness: list[float], failed: int = 0) -> list[object]:
    p50, p99 = percentile(lateness, 0.5), percentile(lateness, 0.99)
    worst = max(lateness)
    return [label, *map(milliseconds, (p50, p99, worst)), len(lateness), failed]


def _time_timers() -> list[float]:
    async def collect() -> list[float]:
        loop, late = asyncio.get_running_loop(), []
        for _ in range(20):
            due = loop.time() + 0.2
            await asyncio.sleep(0.2)
            late.append(max(0.0, loop.time() - due))
        return late

    return uvloop.run(collect())
