"""Fills a database with a history of any size within seconds: the database itself repeats rows.

`DATABASE_URL=… python -m bench.pages fill ROWS` fills an empty database.
"""

import time
from datetime import UTC, datetime, timedelta
from itertools import product

DAYS = 28
BATCH_SIZE = 4
TIMESTAMP = {
    "sqlite": "strftime('%Y-%m-%d %H:%M:%f', julianday('now') - ({rows} - n) * {days}.0 / {rows})",
    "postgresql": "now() - ({rows} - n) * {days}.0 / {rows} * interval '1 day'",
}


def fill_history(rows: int, *, wordy: bool = True) -> float:
    """Migrates, then multiplies one chat, one batch and one call. Returns the seconds it took.

    `wordy` texts have a usual length; others are short, if only the number of rows matters.
    """
    from django.core.management import call_command
    from django.db import connection

    began = time.monotonic()
    call_command("migrate", verbosity=0)
    timestamp = TIMESTAMP[connection.vendor].format(rows=rows, days=DAYS)
    length = 10 if wordy else 1
    _fill_batches(rows, timestamp, length)
    _fill_chats(rows, timestamp, length)
    _fill_roll_up(rows)
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("VACUUM ANALYZE")  # In real use, autovacuum does this.
    return time.monotonic() - began


def _fill_batches(rows: int, timestamp: str, length: int) -> None:
    from batching.models import Batch, CallKind, CallStatus, ModelCall, Outcome, Trigger

    now, batches = datetime.now(UTC), rows // BATCH_SIZE
    timestamp = timestamp.replace(str(rows), str(batches))
    lane = {"latency_ms": 500, "window_s": 0.2, "max_batch": BATCH_SIZE}
    batch = Batch.objects.create(
        id=1, priority=1, trigger=Trigger.FULL, size=BATCH_SIZE, model="gemini", settings=lane,
        created_at=now, finished_at=now, outcome=Outcome.DONE, rolled_up=True,
    )  # fmt: skip
    ModelCall.objects.create(
        id=1, batch=batch, priority=1, kind=CallKind.COMBINED, attempt=1, model="gemini",
        item_ids=[1, 2, 3, 4], prompt="Why is the sky blue? " * 4 * length,
        reply="Scattering. " * 20 * length,
        status=CallStatus.COMPLETE, finish_reason="STOP", prompt_tokens=164, output_tokens=800,
        started_at=now, first_token_ms=300, duration_ms=900, rolled_up=True,
    )  # fmt: skip
    changed = {"id": "n", "created_at": timestamp, "finished_at": timestamp, "priority": "n % 3"}
    _multiply(Batch, batches, changed)
    _multiply(
        ModelCall,
        batches,
        {"id": "n", "batch_id": "n", "started_at": timestamp, "priority": "n % 3"},
    )


def _fill_chats(rows: int, timestamp: str, length: int) -> None:
    from chats.models import Chat, Status

    now, number = datetime.now(UTC), f"((n + {BATCH_SIZE - 1}) / {BATCH_SIZE})"
    Chat.objects.create(
        id=1, username="user 1", request_id="r1", prompt="Why is the sky blue? " * length,
        priority=1, status=Status.DONE, batch_id=1, text="Scattering. " * 5 * length,
        created_at=now, received_at=now, due_at=now, deadline=now, dispatched_at=now,
        completed_at=now, tokens_used=240, usage={"total_tokens": 240}, latency_ms=700,
        queue_ms=150, rolled_up=True,
    )  # fmt: skip
    times = ("created_at", "received_at", "due_at", "deadline", "dispatched_at", "completed_at")
    changed = dict.fromkeys(times, timestamp) | {
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
