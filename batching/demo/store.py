"""Writes demo history together with its figures per day, and takes both away again.

Rows are stored as counted already, in the transaction that adds them to DailyStat: a running server
does not count them again, and whatever breaks off leaves figures that are true.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, date, datetime
from typing import Any

from django.db import transaction
from django.db.models import QuerySet

from batching.analytics.histogram import add_value
from batching.analytics.rollup import COUNTERS, COUNTS_BY_KEY, add_batch, add_stat
from batching.demo.rows import DEMO_OWNER, DemoBatch
from batching.demo.texts import USERNAME_PREFIX
from batching.models import Batch, DailyStat, ModelCall
from chats.bulk_sql import BulkInsert
from chats.models import Chat, Status

ROWS_A_STATEMENT = 200
PAGE = 500

_INSERT_BATCH = BulkInsert(Batch)
_INSERT_CHAT = BulkInsert(Chat)
_INSERT_CALL = BulkInsert(ModelCall)

Figures = dict[tuple[date, int], DailyStat]


def count_real_chats() -> int:
    """The chats that are not demo history."""
    return Chat.objects.exclude(username__startswith=USERNAME_PREFIX).count()


def count_demo_chats() -> int:
    """The chats that `remove_history` would delete."""
    return Chat.objects.filter(owner=DEMO_OWNER).count()


def store_history(entries: Sequence[DemoBatch]) -> None:
    """One transaction. Ids follow the times."""
    batches = [entry.batch for entry in entries if entry.batch is not None]
    chats = [chat for entry in entries for chat in entry.chats]
    figures = measure_history(entries)
    with transaction.atomic():
        _insert(_INSERT_BATCH, batches)
        for entry in entries:
            for chat in entry.chats:
                chat.batch_id = entry.batch.pk if entry.batch else None
        _insert(_INSERT_CHAT, sorted(chats, key=lambda chat: chat.received_at))
        _insert(_INSERT_CALL, sorted(_place_calls(entries), key=lambda call: call.started_at))
        _change_figures(figures, add_stat)


def _place_calls(entries: Iterable[DemoBatch]) -> Iterator[ModelCall]:
    """The calls, with the ids of their rows."""
    for entry in entries:
        for call in entry.calls:
            call.batch_id = entry.batch.pk
            call.item_ids = [entry.chats[place].pk for place in call.item_ids]
            yield call


def _insert(statement: BulkInsert, rows: Sequence[Any]) -> None:
    for start in range(0, len(rows), ROWS_A_STATEMENT):
        statement.run(rows[start : start + ROWS_A_STATEMENT])


def measure_history(entries: Iterable[DemoBatch]) -> Figures:
    """What `rollup.roll_up_pending` would count of them."""
    figures: Figures = {}
    for entry in entries:
        if entry.batch is not None:
            stat = _stat_of(figures, entry.batch.created_at, entry.batch.priority)
            add_batch(stat, entry.batch)
        for call in entry.calls:
            _measure_call(_stat_of(figures, call.started_at, entry.batch.priority), call)
        for chat in entry.chats:
            stat = _stat_of(figures, chat.received_at, chat.priority)
            stat.requests += 1
            if chat.status == Status.DONE:
                _measure_answer(stat, chat, target_ms=entry.batch.settings["latency_ms"])
            else:
                stat.failures[chat.error_code] = stat.failures.get(chat.error_code, 0) + 1
    return figures


def _stat_of(figures: Figures, moment: datetime, priority: int) -> DailyStat:
    key = (moment.astimezone(UTC).date(), priority)
    if key not in figures:
        figures[key] = DailyStat(day=key[0], priority=priority)
    return figures[key]


def _measure_call(stat: DailyStat, call: ModelCall) -> None:
    stat.model_calls += 1
    stat.prompt_tokens += call.prompt_tokens or 0
    stat.output_tokens += call.output_tokens or 0
    stat.thoughts_tokens += call.thoughts_tokens or 0
    stat.cached_tokens += call.cached_tokens or 0


def _measure_answer(stat: DailyStat, chat: Chat, *, target_ms: int) -> None:
    stat.answered += 1
    stat.in_time += chat.latency_ms <= target_ms
    stat.latency_ms_sum += chat.latency_ms
    stat.queue_ms_sum += chat.queue_ms
    add_value(stat.latency_hist, chat.latency_ms)
    add_value(stat.queue_hist, chat.queue_ms)


def _change_figures(figures: Figures, change: Callable[[DailyStat, DailyStat], None]) -> None:
    """Applies each part to its stored row; a row that counts nothing any more goes."""
    for key in sorted(figures):  # in the order in which the roll-up locks them
        day, priority = key
        DailyStat.objects.get_or_create(day=day, priority=priority)
        stored = DailyStat.objects.select_for_update().get(day=day, priority=priority)
        change(stored, figures[key])
        if any(getattr(stored, name) for name in COUNTERS):
            stored.save()
        else:
            stored.delete()


def _subtract_stat(total: DailyStat, part: DailyStat) -> None:
    for name in COUNTERS:
        # Not below zero: figures that are newer than the history were never added.
        setattr(total, name, max(0, getattr(total, name) - getattr(part, name)))
    for name in COUNTS_BY_KEY:
        counts = Counter(getattr(total, name))
        counts.subtract(getattr(part, name))
        setattr(total, name, {key: count for key, count in counts.items() if count})


def remove_history() -> Iterator[Counter[str]]:
    """Deletes what `store_history` wrote, a transaction at a time; gives what each one took.

    It subtracts from DailyStat what it deletes, so the figures of all other requests stay exact.
    What the retention or `prune` deleted before stays counted, as theirs always does.
    """
    yield from _remove_pages(Batch.objects.filter(owner=DEMO_OWNER), _remove_batches)
    yield from _remove_pages(Chat.objects.filter(owner=DEMO_OWNER, batch=None), _remove_unsent)


def _remove_pages(
    rows: QuerySet[Any], remove: Callable[[list[int]], Counter[str]]
) -> Iterator[Counter[str]]:
    last = 0
    while page := list(rows.filter(pk__gt=last).order_by("pk").values_list("pk", flat=True)[:PAGE]):
        last = page[-1]
        yield remove(page)


def _remove_batches(ids: list[int]) -> Counter[str]:
    entries: dict[int, DemoBatch] = {}
    with transaction.atomic():
        chats, calls = Chat.objects.filter(batch__in=ids), ModelCall.objects.filter(batch__in=ids)
        for batch in Batch.objects.filter(pk__in=ids).select_for_update():
            entries[batch.pk] = DemoBatch(batch, [], [])
        for chat in chats.defer("prompt", "text").select_for_update():
            entries[chat.batch_id].chats.append(chat)
        for call in calls.defer("prompt", "reply").select_for_update():
            entries[call.batch_id].calls.append(call)
        _change_figures(measure_history(entries.values()), _subtract_stat)
        for rows in (chats, calls, Batch.objects.filter(pk__in=ids)):
            rows.delete()
    return Counter(
        chats=sum(len(entry.chats) for entry in entries.values()),
        batches=len(entries),
        calls=sum(len(entry.calls) for entry in entries.values()),
    )


def _remove_unsent(ids: list[int]) -> Counter[str]:
    with transaction.atomic():
        rows = Chat.objects.filter(pk__in=ids, batch=None, owner=DEMO_OWNER)
        chats = list(rows.defer("prompt").select_for_update())
        _change_figures(measure_history([DemoBatch(None, chats, [])]), _subtract_stat)
        rows.delete()
    return Counter(chats=len(chats))
