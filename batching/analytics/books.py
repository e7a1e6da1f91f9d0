"""Recomputes outcomes, attempts, tokens and daily figures from the rows they follow from."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, time, timedelta
from typing import Any

from django.conf import settings
from django.db import connection, transaction
from django.db.models import Count, Max, Q, QuerySet

from batching.analytics.rollup import (
    BATCH_COLUMNS,
    CALL_COLUMNS,
    CHAT_COLUMNS,
    COUNTERS,
    COUNTS_BY_KEY,
    DayAndLane,
    Row,
    add_stat,
    measure_rows,
)
from batching.analytics.settlement import PAGE, check_settlement
from batching.models import Batch, CallStatus, DailyStat, ModelCall, Outcome
from batching.store.calls import find_outcome
from chats.clock import CLOCK
from chats.models import Chat, Status
from settings_app.models import Priority


def check_books() -> Iterator[str]:
    """Yields each contradiction as a sentence that begins with the row's name and id.

    All queries see the database at the same instant, so processes that write meanwhile cause no
    contradictions. The memory that it needs does not depend on the number of rows.
    """
    with _frozen_view():
        deleted_until = _find_deleted_until()
        yield from _check_batches(deleted_until=deleted_until)
        yield from _check_open_calls()
        yield from check_settlement(deleted_until=deleted_until)
        yield from _check_days()


@contextmanager
def _frozen_view() -> Iterator[None]:
    """Makes all queries see the same state of the database, without keeping others from writing."""
    if connection.in_atomic_block:
        yield
    elif connection.vendor == "sqlite":
        with connection.cursor() as cursor:
            cursor.execute("BEGIN")  # `atomic` would take the write lock.
            try:
                yield
            finally:
                cursor.execute("ROLLBACK")
    else:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            yield


def _find_deleted_until() -> datetime:
    """The time before which rows may have been deleted by the retention setting or `prune`."""
    newest = DailyStat.objects.filter(rows_deleted=True).aggregate(day=Max("day"))["day"]
    if newest is None:
        return datetime.min.replace(tzinfo=UTC)
    # A batch or a call may begin on the day after its request.
    return datetime.combine(newest + timedelta(days=2), time.min, tzinfo=UTC)


def _check_batches(*, deleted_until: datetime) -> Iterator[str]:
    CLOCK.sample()
    silent_since = CLOCK.now() - timedelta(seconds=2 * settings.LEASE_S)
    for page in _read_pages(Batch.objects.only("size", "outcome", "created_at")):
        chats = Chat.objects.filter(batch__in=[batch.pk for batch in page]).order_by()
        counts = chats.values("batch").annotate(
            chats=Count("pk"),
            done=Count("pk", filter=Q(status=Status.DONE)),
            running=Count("pk", filter=Q(status=Status.RUNNING)),
            ended_at=Max("completed_at"),
        )
        by_batch = {row["batch"]: row for row in counts}
        nothing = {"chats": 0, "done": 0, "running": 0, "ended_at": None}
        for batch in page:
            found = by_batch.get(batch.pk, nothing)
            ended_at = max(found["ended_at"] or batch.created_at, batch.created_at)
            if batch.outcome == Outcome.RUNNING and (found["running"] or ended_at > silent_since):
                continue
            deleted = batch.created_at < deleted_until
            if problem := _check_outcome(batch, found, rows_deleted=deleted):
                yield f"batch {batch.pk}: {problem}"


def _check_outcome(batch: Batch, found: dict[str, Any], *, rows_deleted: bool) -> str:
    if found["running"]:
        return f"its outcome is {batch.outcome}, but {found['running']} of its requests run."
    done, size = found["done"], batch.size
    unknown = max(0, size - found["chats"]) if rows_deleted else 0
    possible = {find_outcome(done + number, size=size) for number in range(unknown + 1)}
    if batch.outcome in possible:
        return ""
    expected = " or ".join(sorted(possible))
    return (
        f"its outcome is {batch.outcome}, expected {expected}:"
        f" it answered {done} of {size} requests."
    )


def _check_open_calls() -> Iterator[str]:
    started = ModelCall.objects.filter(status=CallStatus.STARTED)
    rows = started.exclude(batch__outcome=Outcome.RUNNING).values_list("pk", "batch_id")
    for pk, batch_id in rows.order_by("pk").iterator():
        yield (
            f"call {pk}: its status is started, expected complete or failed:"
            f" batch {batch_id} has ended."
        )


def _check_days() -> Iterator[str]:
    expected: dict[DayAndLane, DailyStat] = {}
    for chats in _read_pages(Chat.objects.filter(rolled_up=True).only(*CHAT_COLUMNS)):
        _add(expected, measure_rows(chats=chats, batches=[], calls=[]))
    for batches in _read_pages(Batch.objects.filter(rolled_up=True).only(*BATCH_COLUMNS)):
        _add(expected, measure_rows(chats=[], batches=batches, calls=[]))
    for calls in _read_pages(ModelCall.objects.filter(rolled_up=True).only(*CALL_COLUMNS)):
        _add(expected, measure_rows(chats=[], batches=[], calls=calls))
    stored = {(stat.day, stat.priority): stat for stat in DailyStat.objects.all()}
    for day, priority in sorted(expected.keys() | stored.keys()):
        empty = DailyStat(day=day, priority=priority)
        stat = stored.get((day, priority), empty)
        for problem in _compare(stat, expected.get((day, priority), empty)):
            yield f"figures of {day} {Priority(priority).name}: {problem}"


def _add(total: dict[DayAndLane, DailyStat], parts: dict[DayAndLane, DailyStat]) -> None:
    for (day, priority), part in parts.items():
        add_stat(total.setdefault((day, priority), DailyStat(day=day, priority=priority)), part)


def _compare(stored: DailyStat, expected: DailyStat) -> Iterator[str]:
    found, wanted = _flatten(stored), _flatten(expected)
    failures = [name for name in found.keys() | wanted.keys() if name.startswith("failures")]
    repeated = sum(found.get(name, 0) - wanted.get(name, 0) for name in failures)
    for name in sorted(found.keys() | wanted.keys()):
        value, least = found.get(name, 0), wanted.get(name, 0)
        if value == least or (stored.rows_deleted and value > least):
            continue
        # A failed request that was sent again counts twice, but has one row.
        if value > least and name in failures:
            continue
        if name == "requests" and value - least == repeated > 0:
            continue
        yield f"{name} is {value}, expected {least}."


def _flatten(stat: DailyStat) -> dict[str, int]:
    """All counts of one day and lane, by column or by column and key."""
    counts = {name: getattr(stat, name) for name in COUNTERS}
    for name in COUNTS_BY_KEY:
        counts |= {f"{name}[{key}]": count for key, count in getattr(stat, name).items()}
    return counts


def _read_pages(rows: QuerySet[Row]) -> Iterator[list[Row]]:
    page = list(rows.order_by("pk")[:PAGE])
    while page:
        yield page
        page = list(rows.filter(pk__gt=page[-1].pk).order_by("pk")[:PAGE])
