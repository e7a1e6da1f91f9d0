"""Counts finished chats, batches and calls into DailyStat, each row exactly once."""

from collections import Counter
from datetime import UTC, date, datetime
from typing import TypeVar

from django.db import transaction
from django.db.models import JSONField, PositiveBigIntegerField, QuerySet

from batching.analytics.histogram import add_value, merge
from batching.models import Batch, CallStatus, DailyStat, ModelCall, Outcome
from chats.models import OPEN_STATUSES, Chat, Status
from settings_app.models import Lane

# A transaction counts at most so many chats, batches and calls each, so that it stays short.
CHUNK = 200

# The columns of DailyStat that hold one count, and those that hold a count for each of their keys.
COLUMNS = DailyStat._meta.local_fields
COUNTERS = [field.name for field in COLUMNS if isinstance(field, PositiveBigIntegerField)]
COUNTS_BY_KEY = [field.name for field in COLUMNS if isinstance(field, JSONField)]
TOKENS = ("prompt_tokens", "output_tokens", "thoughts_tokens", "cached_tokens")
# The columns of the rows that are counted.
CHAT_COLUMNS = ["priority", "status", "received_at", "batch_id", "error_code"]
CHAT_COLUMNS += ["latency_ms", "queue_ms"]
BATCH_COLUMNS = ("priority", "size", "settings", "created_at")
CALL_COLUMNS = (*TOKENS, "started_at", "priority")

DayAndLane = tuple[date, int]
Row = TypeVar("Row", Chat, Batch, ModelCall)


def roll_up_pending(*, limit: int = CHUNK) -> int:
    """Rolls up chunk by chunk until nothing is pending or `limit` rows are counted.

    Returns the number of rows. Several processes may run it at the same time, because each row is
    marked in the transaction that counts it.
    """
    count = 0
    while count < limit:
        rows = _roll_up_chunk(min(CHUNK, limit))
        if not rows:
            break
        count += rows
    return count


def _roll_up_chunk(size: int) -> int:
    if not any(rows.exists() for rows in (_pending_chats(), _pending_batches(), _pending_calls())):
        return 0  # without taking the write lock
    with transaction.atomic():
        chats = _lock(_pending_chats(), size=size)
        batches = _lock(_pending_batches(), size=size)
        calls = _lock(_pending_calls(), size=size)
        count_rows(measure_rows(chats=chats, batches=batches, calls=calls))
        return _mark(chats) + _mark(batches) + _mark(calls)


def add_stat(total: DailyStat, part: DailyStat) -> None:
    """Adds `part` to `total` in memory. Their days and lanes may differ."""
    for name in COUNTERS:
        setattr(total, name, getattr(total, name) + getattr(part, name))
    for name in COUNTS_BY_KEY:
        merge(getattr(total, name), getattr(part, name))


def _pending_chats() -> QuerySet[Chat]:
    pending = Chat.objects.filter(rolled_up=False)
    for status in OPEN_STATUSES:
        pending = pending.exclude(status=status)  # exactly the condition of the index
    return pending.only(*CHAT_COLUMNS)


def _pending_batches() -> QuerySet[Batch]:
    pending = Batch.objects.filter(rolled_up=False).exclude(outcome=Outcome.RUNNING)
    return pending.only(*BATCH_COLUMNS)


def _pending_calls() -> QuerySet[ModelCall]:
    pending = ModelCall.objects.filter(rolled_up=False).exclude(status=CallStatus.STARTED)
    return pending.only(*CALL_COLUMNS)


def _lock(rows: QuerySet[Row], *, size: int) -> list[Row]:
    """Locks rows, without those that another process holds. SQLite has one writer at a time."""
    return list(rows.select_for_update(skip_locked=True).order_by("pk")[:size])


def measure_rows(
    *, chats: list[Chat], batches: list[Batch], calls: list[ModelCall]
) -> dict[DayAndLane, DailyStat]:
    """The counts of finished rows by day and lane, as unsaved DailyStat rows."""
    batch_ids = {chat.batch_id for chat in chats if chat.batch_id is not None}
    origins = Batch.objects.only("settings").in_bulk(batch_ids)
    targets = dict(Lane.objects.values_list("priority", "latency_ms"))
    added: dict[DayAndLane, DailyStat] = {}
    for batch in batches:
        _add_batch(_stat_of(added, batch.created_at, batch.priority), batch)
    for call in calls:
        _add_call(_stat_of(added, call.started_at, call.priority), call)
    for chat in chats:
        stat = _stat_of(added, chat.received_at, chat.priority)
        origin = origins.get(chat.batch_id) if chat.batch_id is not None else None
        rule = origin.settings if origin else {}
        _add_chat(stat, chat, target_ms=rule.get("latency_ms", targets[chat.priority]))
    return added


def _stat_of(added: dict[DayAndLane, DailyStat], at: datetime, priority: int) -> DailyStat:
    key = (at.astimezone(UTC).date(), priority)
    if key not in added:
        added[key] = DailyStat(day=key[0], priority=priority)
    return added[key]


def _add_batch(stat: DailyStat, batch: Batch) -> None:
    stat.batches += 1
    stat.batched_requests += batch.size
    if max_batch := batch.settings.get("max_batch"):
        stat.fill_requests += batch.size
        stat.fill_capacity += max_batch


def _add_chat(stat: DailyStat, chat: Chat, *, target_ms: int) -> None:
    stat.requests += 1
    if chat.status != Status.DONE:
        stat.failures[chat.error_code] = stat.failures.get(chat.error_code, 0) + 1
        return
    stat.answered += 1
    if chat.latency_ms is not None:
        stat.in_time += chat.latency_ms <= target_ms
        stat.latency_ms_sum += chat.latency_ms
        add_value(stat.latency_hist, chat.latency_ms)
    if chat.queue_ms is not None:
        stat.queue_ms_sum += chat.queue_ms
        add_value(stat.queue_hist, chat.queue_ms)


def _add_call(stat: DailyStat, call: ModelCall) -> None:
    stat.model_calls += 1
    for name in TOKENS:
        setattr(stat, name, getattr(stat, name) + (getattr(call, name) or 0))


def count_rows(added: dict[DayAndLane, DailyStat]) -> None:
    """Adds to the stored rows. Missing ones are created first, so that every row can be locked."""
    if not added:
        return
    keys = sorted(added)
    empty = [DailyStat(day=day, priority=priority) for day, priority in keys]
    DailyStat.objects.bulk_create(empty, ignore_conflicts=True)
    locked = DailyStat.objects.select_for_update().filter(day__in={day for day, _ in keys})
    for stored in locked.order_by("day", "priority"):
        if (stored.day, stored.priority) in added:
            add_stat(added[stored.day, stored.priority], stored)
    DailyStat.objects.bulk_create(
        [added[key] for key in keys],
        update_conflicts=True,
        unique_fields=["day", "priority"],
        update_fields=[*COUNTERS, *COUNTS_BY_KEY],
    )


def uncount_rows(parts: dict[DayAndLane, DailyStat]) -> None:
    """Subtracts from the stored rows, and deletes those that count nothing any more."""
    for (day, priority), part in sorted(parts.items()):
        rows = DailyStat.objects.select_for_update().filter(day=day, priority=priority)
        for stored in rows:
            for name in COUNTERS:
                # Never below zero: the stored row may lack what is subtracted.
                setattr(stored, name, max(0, getattr(stored, name) - getattr(part, name)))
            for name in COUNTS_BY_KEY:
                # The difference of counters drops counts that are not positive.
                counts = Counter(getattr(stored, name)) - Counter(getattr(part, name))
                setattr(stored, name, dict(counts))
            if any(getattr(stored, name) for name in COUNTERS):
                stored.save()
            else:
                stored.delete()


def _mark(rows: list[Row]) -> int:
    if not rows:
        return 0
    ids = [row.pk for row in rows]
    return type(rows[0]).objects.filter(pk__in=ids, rolled_up=False).update(rolled_up=True)
