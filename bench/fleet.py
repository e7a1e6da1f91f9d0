"""A fleet over Postgres and Redis: throughput, channel layer, group commit, recovery."""

import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import partial

import psutil

from bench.model import ANSWER
from bench.processes import (
    POSTGRES,
    REDIS,
    ROOT,
    FleetProcesses,
    GatewayProcess,
    faulty_model_service,
    find_missing_service,
    fleet,
    gateway,
    migrate,
    model_service,
    postgres_database,
    run_load,
)
from bench.tables import count_failures, milliseconds, percentile, print_note, print_table

SETUPS = ("solo, SQLite", "fleet, 1 web + 1 worker", "fleet, 2 web + 2 workers")
CLIENTS, WARM_S, SECONDS = 600, 3, 10
FILL_SQL = """SELECT count(*), sum(size), max(CAST(settings ->> 'max_batch' AS integer))
    FROM batching_batch WHERE id > {}"""
GROUPS = (1, 10, 50)
EXCHANGES, WARM_EXCHANGES = 1000, 50
OUTCOME = {"answer": {
    "text": ANSWER, "tokens_used": 90, "latency_ms": 512, "queue_ms": 200, "batch_id": 77,
    "completed_at": "2026-01-01T12:00:00.000Z", "finish_reason": "STOP", "batch_size": 6,
    "usage": {"prompt_tokens": 30, "output_tokens": 60, "total_tokens": 90},
}}  # fmt: skip
ROWS_BY_COMMIT = {50: 5000, 1: 1500}
ROUNDS = 3
MODEL_S = 0.3
OWNER_SQL = "SELECT owner FROM chats_chat WHERE status = 'running'"
# The first call with this prompt takes ten seconds longer.
HANGING = "[[fault:slow-10:1]] Why? {}"


def measure_fleet() -> None:
    if missing := find_missing_service():
        print_note(f"\nThe section `fleet` is skipped: {missing}.")
        return
    _compare_throughput()
    _compare_layers()
    _compare_commits()
    _compare_recoveries()


def _compare_throughput() -> None:
    """Measures all setups in each round, because the other load on the machine changes."""
    rows, rounds = [], [[_saturate_setup(count) for count in range(3)] for _ in range(ROUNDS)]
    for count, label in enumerate(SETUPS):
        ratios = sorted(measured[count][0] / measured[0][0] for measured in rounds)
        rate, *rest = sorted(measured[count] for measured in rounds)[ROUNDS // 2]
        spread = f"**{statistics.median(ratios):.2f}** ({ratios[0]:.2f} to {ratios[-1]:.2f})"
        rows.append([label, f"{rate:.0f}", spread if count else "1", *rest])
    print_table(
        "Fleet against solo at saturation: HIGH, model 0.3 s",
        ["", "requests/s", "ratio", "mean fill", "p50", "p99", "server CPU", "failed"],
        rows,
    )
    print_note(
        f"Closed loop of {CLIENTS} clients for {SECONDS} s after a warm-up, from two load"
        f" generators; the median of {ROUNDS} rounds that alternate, the ratio within each. Load,"
        " model service, all servers and, for the fleet, Postgres and Redis share"
        f" {psutil.cpu_count()} cores: more processes hardly get more CPU time here. `server"
        " CPU`, in cores, is that of the gateway's own processes."
    )


def _saturate_setup(count: int) -> tuple:
    """Measures solo, or a fleet of `count` web processes and as many workers."""
    with (
        model_service(MODEL_S) as model,
        fleet(model, web_processes=count, workers=count) if count else gateway(model) as servers,
    ):
        return _saturate(servers)


def _saturate(servers: GatewayProcess | FleetProcesses) -> tuple:
    """Returns the answers per second, then the other columns."""
    _load(servers.urls, seconds=WARM_S)
    ((last_batch,),) = servers.query("SELECT max(id) FROM batching_batch")
    before = servers.cpu_s()
    results = _load(servers.urls, seconds=SECONDS)
    duration = max(result["duration"] for result in results)
    cpu = (servers.cpu_s() - before) / duration
    ((batches, items, most),) = servers.query(FILL_SQL.format(last_batch))
    latencies = [value for result in results for value in result["latencies"].values()]
    failed = sum(map(count_failures, results))
    return (
        (len(latencies) - failed) / duration,
        f"{items / batches:.2f} of {most}",
        *(milliseconds(percentile(latencies, share)) for share in (0.5, 0.99)),
        f"{cpu:.2f}",
        failed,
    )


def _load(urls: list[str], *, seconds: float) -> list[dict]:
    """Runs two load generators, whose clients spread evenly over the addresses."""
    load = partial(run_load, kind="saturate", clients=CLIENTS // 2, seconds=seconds)
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(load, (urls[0], urls[-1])))


def _compare_layers() -> None:
    import uvloop
    from channels.layers import InMemoryChannelLayer
    from channels_redis.pubsub import RedisPubSubChannelLayer

    rows = []
    for label, make in (
        ("in memory", lambda: InMemoryChannelLayer(capacity=20_000)),
        ("Redis", lambda: RedisPubSubChannelLayer(hosts=[REDIS])),
    ):
        for size in GROUPS:
            wall_s, cpu_s = uvloop.run(_time_layer(make(), size))
            figures = (wall_s, wall_s / size, cpu_s / size)
            rows.append([label, size, *(f"{1000 * figure:.3f} ms" for figure in figures)])
    print_table(
        "Channel layer: one announcement and one message of answers per group",
        ["layer", "requests per group", "per group", "per request", "CPU per request"],
        rows,
    )
    print_note(
        f"From send to receive, one group after the other within one process, mean of {EXCHANGES}"
        " groups; building and parsing the messages is included. A fleet sends two more small ones"
        " per batch (dispatched, taken), and every worker reads every announcement."
    )


async def _time_layer(layer, size: int) -> tuple[float, float]:
    """Returns the seconds per group, and the CPU seconds among them."""
    os.environ.setdefault(
        "DJANGO_SETTINGS_MODULE", "llmbatch.settings"
    )  # The settings name the channels.
    from batching import messages

    channel = f"bench.{uuid.uuid4().hex}"
    receiving = asyncio.create_task(layer.receive(channel))
    await asyncio.sleep(0.5)  # Gives the subscription time to begin.
    await layer.send(channel, {"type": "ready"})
    await asyncio.wait_for(receiving, 5)
    items = [_make_item(number) for number in range(size)]
    outcomes = {item.id: OUTCOME for item in items}
    for exchange in range(WARM_EXCHANGES + EXCHANGES):
        if exchange == WARM_EXCHANGES:
            wall_s, cpu_s = time.perf_counter(), time.process_time()
        await layer.send(channel, messages.accepted_message(items, process="web", clock=0.0))
        messages.parse_accepted(await layer.receive(channel), process="worker", clock=0.0)
        await layer.send(channel, messages.finished_message(outcomes))
        messages.parse_finished(await layer.receive(channel))
    wall_s, cpu_s = time.perf_counter() - wall_s, time.process_time() - cpu_s
    await layer.flush()  # Closes the connections.
    return wall_s / EXCHANGES, cpu_s / EXCHANGES


def _make_item(number: int):
    from batching.engine.items import QueuedItem
    from batching.engine.lanes import Priority

    now = time.monotonic()
    return QueuedItem(
        id=1_000_000 + number, priority=Priority.HIGH, accepted=now, due=now + 0.2,
        deadline=now + 30.5, target=now + 0.5, input_tokens=12, output_tokens=500, client=1,
        username="bench",
    )  # fmt: skip


def _compare_commits() -> None:
    with tempfile.TemporaryDirectory() as folder, postgres_database(POSTGRES) as postgres:
        pairs = {
            "SQLite, a file": _run_self(f"sqlite:///{folder}/bench.sqlite3"),
            "Postgres": _run_self(postgres),
        }
    print_table(
        "Submission rows per second: group commit against single inserts",
        ["database", "50 rows a commit", "1 row a commit", "ratio"],
        [
            [label, f"{grouped:.0f} rows/s", f"{single:.0f} rows/s", f"**{grouped / single:.1f}**"]
            for label, (grouped, single) in pairs.items()
        ],
    )
    print_note(
        f"`submit_chats` alone, in one thread, without HTTP; medians of {ROUNDS} rounds of"
        f" {ROWS_BY_COMMIT[50]} and {ROWS_BY_COMMIT[1]} rows that alternate. SQLite with"
        " synchronous=NORMAL does not wait for the disk at a commit; Postgres, as configured, does."
    )


def _run_self(url: str) -> list[float]:
    """Measures submissions in a process whose settings name the database."""
    with tempfile.TemporaryDirectory() as logs:
        variables = {"DATABASE_URL": url, "LOG_DIR": logs, "REDIS_URL": ""}
        variables = os.environ | variables | {"DJANGO_SETTINGS_MODULE": "llmbatch.settings"}
        migrate(variables)
        command = [sys.executable, "-m", "bench.fleet"]
        printed = subprocess.check_output(command, cwd=ROOT, env=variables, text=True)
    return json.loads(printed.splitlines()[-1])


def _accept_rows(per_commit: int) -> float:
    """Returns the rows per second."""
    from chats.submission import submit_chats

    chats = [_make_chat() for _ in range(ROWS_BY_COMMIT[per_commit])]
    began = time.perf_counter()
    for start in range(0, len(chats), per_commit):
        submit_chats(chats[start : start + per_commit], named=set())
    return len(chats) / (time.perf_counter() - began)


def _make_chat():
    from chats.models import Chat

    now = datetime.now(UTC)
    return Chat(
        username="bench", request_id=uuid.uuid4().hex, prompt="Why is the sky blue? " * 5,
        priority=2, created_at=now, received_at=now, due_at=now + timedelta(seconds=0.2),
        deadline=now + timedelta(seconds=30), origin="inbox.0123456789abcdef",
    )  # fmt: skip


def _compare_recoveries() -> None:
    rows = [
        ["another worker, `LEASE_S` 15 (default)", *_recover(15, workers=2)],
        ["another worker, `LEASE_S` 3", *_recover(3, workers=2)],
        ["restarted at once, same `--name`", *_recover(15, workers=1)],
    ]
    header = ["taken over by", *(f"round {k + 1}" for k in range(ROUNDS)), "median"]
    print_table("From a worker's `kill -9` to its waiting client's answer", header, rows)
    print_note(
        f"Killed during its call; the second call takes {MODEL_S} s. Leases are renewed and"
        " checked every quarter of their length; the second sweep, half a second after the first,"
        " claims the requests that were queued again. A restart includes the start of Python and"
        " Django."
    )


def _recover(lease_s: int, *, workers: int) -> list[str]:
    seconds = []
    with (
        faulty_model_service(MODEL_S) as model,
        fleet(model, web_processes=1, workers=workers, LEASE_S=str(lease_s)) as processes,
        ThreadPoolExecutor(1) as pool,
    ):
        for number in range(ROUNDS):
            asking = pool.submit(_ask, processes.urls[0], HANGING.format(number))
            name = _wait_for_owner(processes)
            killed = processes.kill(name)
            if workers == 1:
                processes.start_worker(name)
            seconds.append(asking.result() - killed)
            if workers > 1:
                processes.start_worker(name)
    return [*(f"{value:.1f} s" for value in seconds), f"**{statistics.median(seconds):.1f} s**"]


def _wait_for_owner(processes: FleetProcesses) -> str:
    """Returns the worker that runs the one open request, once its call waits for the reply."""
    limit = time.monotonic() + 10
    while not (rows := processes.query(OWNER_SQL)):
        if time.monotonic() > limit:
            raise TimeoutError("The request was never sent to the model.")
        time.sleep(0.05)
    time.sleep(1)  # The reply would take ten seconds.
    return rows[0][0].partition("#")[0]


def _ask(url: str, prompt: str) -> float:
    """Returns when the answer arrived, on the monotonic clock."""
    body = json.dumps({"username": "bench", "prompt": prompt, "priority": "HIGH"}).encode()
    headers = {"content-type": "application/json"}
    request = urllib.request.Request(f"{url}/v1/query", data=body, headers=headers)
    urllib.request.urlopen(request, timeout=60).read()
    return time.monotonic()


if __name__ == "__main__":
    import django

    django.setup()
    rounds = [(_accept_rows(50), _accept_rows(1)) for _ in range(ROUNDS)]
    print(json.dumps([statistics.median(side) for side in zip(*rounds, strict=True)]))
