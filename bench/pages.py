"""Pages over a small and over a large history: what growth by a hundred costs, and the queries."""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import product

import psycopg

from bench.processes import POSTGRES, ROOT, postgres_database
from bench.tables import milliseconds, print_note, print_table

SMALL, LARGE = 10_000, 1_000_000
DAYS = 28
BATCH_SIZE = 4
ROUNDS, REQUESTS = 3, 15
PAGES = {
    "/v1/analytics": "/v1/analytics",
    "/dashboard": "/dashboard?days=30",
    "/v1/chat, newest": "/v1/chat",
    "/v1/chat, middle": "/v1/chat?before={middle}",
    "/v1/chat, oldest": "/v1/chat?before=150",
    "/v1/chat, one username": "/v1/chat?username=rare",
    "/v1/chat, failed": "/v1/chat?status=failed",
    "/admin/": "/admin/",
    "admin chats, first": "/admin/chats/chat/",
    "admin chats, page 150": "/admin/chats/chat/?p=150",
    "admin chats, failed": "/admin/chats/chat/?status__exact=failed",
    "admin chats, search": "/admin/chats/chat/?q=r777",
    "admin batches, first": "/admin/batching/batch/",
    "admin batches, HIGH": "/admin/batching/batch/?priority__exact=2",
    "admin model calls, first": "/admin/batching/modelcall/",
    "admin roll-up": "/admin/batching/dailystat/",
    "a batch's page": "/admin/batching/batch/1000/change/",
}
MOMENT = {
    "sqlite": "strftime('%Y-%m-%d %H:%M:%f', julianday('now') - ({rows} - n) * {days}.0 / {rows})",
    "postgresql": "now() - ({rows} - n) * {days}.0 / {rows} * interval '1 day'",
}


def measure_pages() -> None:
    _measure_database("SQLite", _sqlite_database)
    try:
        with postgres_database(POSTGRES):
            pass
    except psycopg.Error:
        print_note(f"No Postgres at {POSTGRES}: only SQLite was measured.")
    else:
        _measure_database("Postgres", partial(postgres_database, POSTGRES))


def _measure_database(name: str, database) -> None:
    with database() as small, database() as large:
        filled_s = [_run_self(url, "fill", rows) for url, rows in ((small, SMALL), (large, LARGE))]
        rounds = [
            (_run_self(small, "measure", SMALL), _run_self(large, "measure", LARGE))
            for _ in range(ROUNDS)
        ]
    print_table(
        f"Pages at {SMALL:,} and {LARGE:,} chats: {name}",
        ["page", f"{SMALL:,}", f"{LARGE:,}", "ratio", "queries"],
        [_describe(page, rounds) for page in PAGES],
    )
    print_note(
        f"Medians of {REQUESTS} requests, the lower of {ROUNDS} rounds that alternate between the"
        " histories; inside one process, through Django's test client, so without the web server."
        f" The large history was filled in {filled_s[1]:.0f} s."
    )


def _describe(page: str, rounds: list[tuple[dict, dict]]) -> list[object]:
    small, large = (min(pair[side][page]["seconds"] for pair in rounds) for side in (0, 1))
    queries = sorted({pair[side][page]["queries"] for pair in rounds for side in (0, 1)})
    counts = " or ".join(str(count) for count in queries)
    return [page, milliseconds(small), milliseconds(large), f"{large / small:.2f}", counts]


@contextmanager
def _sqlite_database() -> Iterator[str]:
    with tempfile.TemporaryDirectory() as folder:
        yield f"sqlite:///{folder}/bench.sqlite3"


def _run_self(url: str, task: str, rows: int):
    """Runs `task` in a process whose settings name the database; gives what it printed."""
    with tempfile.TemporaryDirectory() as logs:
        variables = {"DATABASE_URL": url, "LOG_DIR": logs, "REDIS_URL": "", "API_ACCESS": "open"}
        variables |= {"DJANGO_DEBUG": "false", "TLS_PROXY": "false", "DJANGO_ALLOWED_HOSTS": ""}
        done = subprocess.run(
            [sys.executable, "-m", "bench.pages", task, str(rows)],
            cwd=ROOT,
            env=os.environ | variables | {"DJANGO_SETTINGS_MODULE": "llmbatch.settings"},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
    return json.loads(done.stdout.splitlines()[-1])


def _fill(rows: int) -> float:
    """Migrates, then multiplies one chat, one batch and one call; gives the seconds."""
    from django.core.management import call_command
    from django.db import connection

    began = time.monotonic()
    call_command("migrate", verbosity=0)
    moment = MOMENT[connection.vendor].format(rows=rows, days=DAYS)
    _fill_batches(rows, moment)
    _fill_chats(rows, moment)
    _fill_roll_up(rows)
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("VACUUM ANALYZE")  # as autovacuum would have by then
    return time.monotonic() - began


def _fill_batches(rows: int, moment: str) -> None:
    from batching.models import Batch, CallKind, CallStatus, ModelCall, Outcome, Trigger

    now, batches = datetime.now(UTC), rows // BATCH_SIZE
    moment = moment.replace(str(rows), str(batches))
    lane = {"latency_ms": 500, "window_s": 0.2, "max_batch": BATCH_SIZE}
    batch = Batch.objects.create(
        id=1, priority=1, trigger=Trigger.FULL, size=BATCH_SIZE, model="gemini", settings=lane,
        created_at=now, finished_at=now, outcome=Outcome.DONE, folded=True,
    )  # fmt: skip
    ModelCall.objects.create(
        id=1, batch=batch, priority=1, kind=CallKind.COMBINED, attempt=1, model="gemini",
        item_ids=[1, 2, 3, 4], prompt="Why is the sky blue? " * 40, reply="Scattering. " * 200,
        status=CallStatus.COMPLETE, finish_reason="STOP", prompt_tokens=164, output_tokens=800,
        started_at=now, first_token_ms=300, duration_ms=900, folded=True,
    )  # fmt: skip
    changed = {"id": "n", "created_at": moment, "finished_at": moment, "priority": "n % 3"}
    _multiply(Batch, batches, changed)
    _multiply(
        ModelCall, batches, {"id": "n", "batch_id": "n", "started_at": moment, "priority": "n % 3"}
    )


def _fill_chats(rows: int, moment: str) -> None:
    from chats.models import Chat, Status

    now, number = datetime.now(UTC), f"((n + {BATCH_SIZE - 1}) / {BATCH_SIZE})"
    Chat.objects.create(
        id=1, username="user 1", request_id="r1", prompt="Why is the sky blue? " * 10,
        priority=1, status=Status.DONE, batch_id=1, text="Scattering. " * 50,
        created_at=now, received_at=now, due_at=now, deadline=now, dispatched_at=now,
        completed_at=now, tokens_used=240, usage={"total_tokens": 240}, latency_ms=700,
        queue_ms=150, folded=True,
    )  # fmt: skip
    times = ("created_at", "received_at", "due_at", "deadline", "dispatched_at", "completed_at")
    changed = dict.fromkeys(times, moment) | {
        "id": "n",
        "username": "CASE WHEN n % 100 = 7 AND n < 10000 THEN 'rare' ELSE 'user ' || n % 50 END",
        "request_id": "'r' || n",
        "batch_id": number,
        "priority": f"{number} % 3",
        "status": "CASE WHEN n % 50 = 0 THEN 'failed' ELSE 'done' END",
        "error_code": "CASE WHEN n % 50 = 0 THEN 'blocked' ELSE '' END",
    }
    _multiply(Chat, rows, changed)


def _multiply(model, rows: int, changed: dict[str, str]) -> None:
    """Copies row 1 into the rows 2 to `rows`, with `changed` columns as expressions of `n`."""
    from django.db import connection

    table = model._meta.db_table
    columns = [field.column for field in model._meta.concrete_fields]
    values = ", ".join(changed.get(column, f'"{column}"') for column in columns)
    names = ", ".join(f'"{column}"' for column in columns)
    with connection.cursor() as cursor:
        cursor.execute(f"CREATE TEMP TABLE first_row AS SELECT * FROM {table} WHERE id = 1")
        cursor.execute(
            f"INSERT INTO {table} ({names})"
            " WITH RECURSIVE numbers(n) AS"
            f" (SELECT 2 UNION ALL SELECT n + 1 FROM numbers WHERE n < {rows})"
            f" SELECT {values} FROM numbers CROSS JOIN first_row"
        )
        cursor.execute("DROP TABLE first_row")


def _fill_roll_up(rows: int) -> None:
    from batching.models import DailyStat

    share, today = rows // (DAYS * 3), datetime.now(UTC).date()
    buckets = {str(bucket): share // 40 + 1 for bucket in range(60, 100)}
    DailyStat.objects.bulk_create(
        DailyStat(
            day=today - timedelta(days=back), priority=priority, requests=share,
            answered=share * 49 // 50, in_time=share // 2, batches=share // BATCH_SIZE,
            batched_requests=share, model_calls=share // BATCH_SIZE, latency_hist=buckets,
            queue_hist=buckets, failures={"blocked": share // 50},
        )
        for back, priority in product(range(DAYS), (0, 1, 2))
    )  # fmt: skip


def _measure(rows: int) -> dict[str, dict]:
    from django.contrib.auth.models import User
    from django.test import Client

    client = Client(SERVER_NAME="localhost")
    staff, _ = User.objects.get_or_create(username="bench", is_staff=True, is_superuser=True)
    client.force_login(staff)
    return {page: _time_page(client, path.format(middle=rows // 2)) for page, path in PAGES.items()}


def _time_page(client, path: str) -> dict:
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    for _ in range(3):
        response = client.get(path)
        assert response.status_code == 200, (path, response.status_code)
    with CaptureQueriesContext(connection) as captured:
        client.get(path)
    queries = len(captured)  # at once: the next request empties the log
    seconds = []
    for _ in range(REQUESTS):
        began = time.perf_counter()
        client.get(path)
        seconds.append(time.perf_counter() - began)
    return {"seconds": statistics.median(seconds), "queries": queries}


if __name__ == "__main__":
    import django

    django.setup()
    task = {"fill": _fill, "measure": _measure}[sys.argv[1]]
    print(json.dumps(task(int(sys.argv[2]))))
