"""Writes the state changes of chats: start, end, cancellation."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.db.models import F, Q
from django.db.models.functions import Greatest

from chats.bulk_sql import BulkUpdate
from chats.clock import CLOCK
from chats.leases import end_chats, lock_available
from chats.models import Chat, Status
from chats.prompts import drop_prompts
from chats.timestamps import count_microseconds

# Deadlines are stored by a process whose estimate of the database's clock may be off by this much.
CLOCK_STEP = timedelta(seconds=5)
# The same wait may differ by this much between the two clocks.
ROUNDING = timedelta(milliseconds=1)
_TEXT_COLUMNS = ["finish_reason", "error_code", "error_detail"]
_FINISH_COLUMNS = ["status", "text", "tokens_used", "usage", "latency_ms", "queue_ms"]
_FINISH_COLUMNS += ["completed_at", "lease_until", *_TEXT_COLUMNS]
_UNSET: dict[str, Any] = dict.fromkeys(_FINISH_COLUMNS) | dict.fromkeys(_TEXT_COLUMNS, "")
SETTLED_COLUMNS = ["settled_prompt", "settled_output", "settled_thoughts", "settled_cached"]
_START = BulkUpdate(
    Chat,
    assign=["status", "batch", "owner", "dispatched_at", "lease_until"],
    add=["attempt"],
)
_FINISH = BulkUpdate(Chat, assign=_FINISH_COLUMNS)
_SETTLE = BulkUpdate(Chat, add=SETTLED_COLUMNS)


@dataclass(frozen=True, slots=True)
class Requester:
    """Identifies a request, and the channel (`origin`) of the process where its client waits."""

    origin: str
    username: str
    request_id: str
    generation: int


@dataclass(frozen=True, slots=True)
class QueuedRow:
    """The columns of a locked queued chat that a claim needs.

    The request may wait for `wait_s` from its acceptance; a client that joins it may prolong that.
    `locked_at` is the time on the database's clock, and its window ends `due_in_s` later.
    """

    prompt: str
    attempt: int
    requester: Requester
    client_id: int
    streamed: bool
    respond_async: bool
    wait_s: float
    locked_at: datetime
    due_in_s: float


def lock_queued(ids: Sequence[int]) -> dict[int, QueuedRow]:
    """Locks those of the chats that are still queued, and returns them by id."""
    columns = ["pk", "prompt", "attempt", "client_id", "streamed", "respond_async", "due_at"]
    columns += ["received_at", "deadline", "origin", "username", "request_id", "locked_at"]
    queued = lock_available(Chat.objects.filter(pk__in=ids, status=Status.QUEUED))
    rows = queued.annotate(locked_at=CLOCK.sql_now()).values_list(*columns, named=True)
    return {row.pk: make_queued_row(row) for row in rows}


def lock_oldest_queued(
    columns: Mapping[str, object], *, without: Collection[int], limit: int
) -> list[Chat]:
    """Locks and returns the oldest queued chats with these column values that may still wait."""
    now = CLOCK.sql_now()
    queued = Chat.objects.filter(**columns, status=Status.QUEUED, deadline__gt=now)
    queued = queued.annotate(locked_at=now).exclude(pk__in=without).order_by("pk")
    return list(lock_available(queued)[:limit])


def make_queued_row(row: Any) -> QueuedRow:
    """Takes a chat or a row with the same columns, and with `locked_at`."""
    return QueuedRow(
        row.prompt,
        row.attempt,
        Requester(row.origin, row.username, row.request_id, count_microseconds(row.received_at)),
        row.client_id,
        row.streamed,
        row.respond_async,
        (row.deadline - row.received_at).total_seconds(),
        row.locked_at,
        _remaining_s(row.due_at, row),
    )


def _remaining_s(at: datetime, row: Any) -> float:
    """0 if the database's clock was set back after the acceptance: then a row cannot tell."""
    return (at - row.locked_at).total_seconds() if row.received_at <= row.locked_at else 0.0


def start_chats(
    batched: Sequence[tuple[int, int]], *, owner: str, now: datetime, lease_until: datetime
) -> None:
    """Marks locked queued chats as running; `batched` pairs the ids of a chat and its batch."""
    _START.run(
        [
            (str(Status.RUNNING), batch_id, owner, now, lease_until, 1, chat_id)
            for chat_id, batch_id in batched
        ]
    )


def lock_running(ids: Sequence[int], *, owner: str) -> dict[int, int]:
    """Locks those of the chats that the owner still runs; returns the attempts of each."""
    held = Chat.objects.filter(pk__in=ids, status=Status.RUNNING, owner=owner)
    return dict(held.order_by("pk").select_for_update().values_list("pk", "attempt"))


def count_attempt(ids: Sequence[int]) -> None:
    """Counts one more model call of locked running chats."""
    Chat.objects.filter(pk__in=ids).update(attempt=F("attempt") + 1)


@dataclass(frozen=True, slots=True)
class Finish:
    """The end of a running chat: `values` are stored if owner and attempt are still the same."""

    chat_id: int
    owner: str
    attempt: int
    values: dict[str, Any]


def finish_chats(finishes: Sequence[Finish], *, also_lock: Collection[int] = ()) -> set[int]:
    """Ends chats and returns their ids; a chat that has another owner by now stays unchanged.

    A chat that is already ended with these values counts, too: the acknowledgement of a commit was
    lost. Call it in a transaction, because it locks the rows before it compares them. `also_lock`:
    the chats that the transaction will change otherwise; all are locked in the order of their ids.
    """
    ids = {finish.chat_id for finish in finishes}.union(also_lock)
    locked = Chat.objects.filter(pk__in=ids).order_by("pk").select_for_update()
    rows = locked.values_list("pk", "owner", "attempt", "status", "completed_at")
    states = {row[:3]: row[3:] for row in rows}
    found = [(f, states.get((f.chat_id, f.owner, f.attempt))) for f in finishes]
    held_by_us = [f for f, state in found if state is not None and state[0] == Status.RUNNING]
    _FINISH.run(
        [
            [*(f.values.get(name, _UNSET[name]) for name in _FINISH_COLUMNS), f.chat_id]
            for f in held_by_us
        ]
    )
    finished = {finish.chat_id for finish in held_by_us}
    drop_prompts(list(finished))
    stored = [f for f, state in found if state == (f.values["status"], f.values["completed_at"])]
    return finished | {finish.chat_id for finish in stored}


def mark_suspect(reasons: Mapping[int, str]) -> None:
    """Stores for each chat id why an answer to it failed a leak check."""
    for chat_id, reason in reasons.items():
        Chat.objects.filter(pk=chat_id).update(suspect=reason[:100])


def settle_shares(shares: Sequence[tuple[int, int, int, int, int]]) -> None:
    """Adds shares of ended calls: prompt, output, thoughts and cached tokens, and a chat's id."""
    _SETTLE.run(shares)


@dataclass(frozen=True, slots=True)
class Wait:
    """The wait that a chat was allowed in one generation."""

    generation: int
    length: timedelta

    def is_over(self, received_at: datetime, deadline: datetime) -> bool:
        """Returns False if the row began another generation or a joined client prolonged it."""
        # The lengths are compared, because the deadline has a tolerance of a whole clock step.
        same = self.generation == count_microseconds(received_at)
        return same and deadline - received_at <= self.length + ROUNDING


def expire_chats(
    waits: Mapping[int, Wait], *, check_clock: bool, code: str, detail: str
) -> list[int]:
    """Expires those queued chats whose waits are over; returns their ids.

    With `check_clock`, the deadline must also have passed on the database's clock, unless that
    clock was set back after the acceptance.
    """
    with transaction.atomic():
        queued = Chat.objects.select_for_update().filter(pk__in=list(waits), status=Status.QUEUED)
        if check_clock:
            now = CLOCK.sql_now()
            queued = queued.filter(Q(deadline__lte=now + CLOCK_STEP) | Q(received_at__gt=now))
        expired = [
            pk
            for pk, *times in queued.values_list("pk", "received_at", "deadline")
            if waits[pk].is_over(*times)
        ]
        end_chats(expired, Status.EXPIRED, now=CLOCK.now(), code=code, detail=detail)
    return expired


def cancel_chats(ids: Sequence[int], *, now: datetime, code: str, detail: str) -> list[int]:
    """Cancels those of the chats that are still queued; returns their ids.

    Call it in a transaction.
    """
    queued = Chat.objects.select_for_update().filter(pk__in=ids, status=Status.QUEUED)
    cancelled = list(queued.values_list("pk", flat=True))
    end_chats(cancelled, Status.CANCELLED, now=now, code=code, detail=detail)
    return cancelled


def release_chats(
    left: Sequence[tuple[int, int]], *, now: datetime, code: str, detail: str
) -> list[int]:
    """Decrements the number of waiters of each (chat, generation) pair in `left`.

    Returns the ids of the chats that were cancelled because no waiter is left.
    """
    with transaction.atomic():
        rows = Chat.objects.select_for_update().filter(pk__in=[pk for pk, _ in left])
        # The waiters of an earlier generation are not counted: the row was reset since.
        generations = {
            pk: count_microseconds(at) for pk, at in rows.values_list("pk", "received_at")
        }
        counts = Counter(pk for pk, generation in left if generations.get(pk) == generation)
        for number in set(counts.values()):
            chats = Chat.objects.filter(pk__in=[pk for pk in counts if counts[pk] == number])
            chats.update(waiters=Greatest(F("waiters") - number, 0))
        abandoned = Chat.objects.filter(pk__in=list(counts), waiters=0, status=Status.QUEUED)
        ids = list(abandoned.values_list("pk", flat=True))
        return cancel_chats(ids, now=now, code=code, detail=detail)


def return_attempts(unsent: Mapping[int, int], *, owner: str) -> None:
    """Lowers the attempts of running chats by the number of their calls that were never sent."""
    held = Chat.objects.filter(status=Status.RUNNING, owner=owner)
    for number in set(unsent.values()):
        ids = [chat_id for chat_id, calls in unsent.items() if calls == number]
        held.filter(pk__in=ids).update(attempt=F("attempt") - number)
