"""Every change of a chat's row."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.db.models import F
from django.db.models.functions import Greatest

from chats.bulk_sql import BulkUpdate
from chats.leases import lock_free
from chats.models import Chat, Status
from chats.prompts import drop_prompts
from chats.timestamps import count_microseconds

CLOCK_STEP = timedelta(seconds=5)
"""by which the wall clock may go back against the monotonic one"""
ROUNDING = timedelta(milliseconds=1)
"""by which the same wait may differ between the two"""
_FINISH_COLUMNS = [
    "status",
    "text",
    "tokens_used",
    "usage",
    "finish_reason",
    "latency_ms",
    "queue_ms",
    "completed_at",
    "error_code",
    "error_detail",
    "lease_until",
]
_UNSET = dict.fromkeys(_FINISH_COLUMNS) | dict.fromkeys(
    ["finish_reason", "error_code", "error_detail"], ""
)
_SETTLED_COLUMNS = ["settled_prompt", "settled_output", "settled_thoughts", "settled_cached"]
_START = BulkUpdate(
    Chat,
    assign=["status", "batch", "owner", "dispatched_at", "lease_until"],
    add=["attempt"],
)
_FINISH = BulkUpdate(Chat, assign=_FINISH_COLUMNS)
_SETTLE = BulkUpdate(Chat, add=_SETTLED_COLUMNS)


@dataclass(frozen=True, slots=True)
class Requester:
    """The request's sender, its process's channel (`origin`), and the row's `generation`."""

    origin: str
    username: str
    request_id: str
    generation: int


@dataclass(frozen=True, slots=True)
class QueuedRow:
    """A queued chat, locked.

    `wait_s`: how long the request may wait from its acceptance; a client that joins it may make it
    longer.
    """

    prompt: str
    attempt: int
    requester: Requester
    client_id: int
    streamed: bool
    wait_s: float


def lock_queued(ids: Sequence[int]) -> dict[int, QueuedRow]:
    """Those of the chats that still wait, locked until the transaction ends."""
    rows = lock_free(Chat.objects.filter(pk__in=ids, status=Status.QUEUED)).values_list(
        "pk",
        "prompt",
        "attempt",
        "client_id",
        "streamed",
        "received_at",
        "deadline",
        "origin",
        "username",
        "request_id",
    )
    return {
        pk: QueuedRow(
            prompt,
            attempt,
            Requester(origin, username, request_id, count_microseconds(received_at)),
            client_id,
            streamed,
            (deadline - received_at).total_seconds(),
        )
        for (
            pk,
            prompt,
            attempt,
            client_id,
            streamed,
            received_at,
            deadline,
            origin,
            username,
            request_id,
        ) in rows
    }


def start_chats(
    batched: Sequence[tuple[int, int]], *, owner: str, now: datetime, lease_until: datetime
) -> None:
    """Locked queued chats become running: pairs of a chat's and its batch's id."""
    _START.run(
        [
            (str(Status.RUNNING), batch_id, owner, now, lease_until, 1, chat_id)
            for chat_id, batch_id in batched
        ]
    )


def count_attempt(ids: Sequence[int], *, owner: str) -> int:
    """A further call of running chats begins."""
    return Chat.objects.filter(pk__in=ids, status=Status.RUNNING, owner=owner).update(
        attempt=F("attempt") + 1
    )


@dataclass(frozen=True, slots=True)
class Finish:
    """How a running chat ends; the columns in `values` are set if owner and attempt still hold."""

    chat_id: int
    owner: str
    attempt: int
    values: dict[str, Any]


def finish_chats(finishes: Sequence[Finish]) -> set[int]:
    """Gives the ids that were finished; a chat that meanwhile has another owner is left alone.

    Call it in a transaction: the rows are locked before they are looked at.
    """
    rows = Chat.objects.select_for_update().filter(
        pk__in=[finish.chat_id for finish in finishes], status=Status.RUNNING
    )
    held = set(rows.values_list("pk", "owner", "attempt"))
    held_by_us = [f for f in finishes if (f.chat_id, f.owner, f.attempt) in held]
    _FINISH.run(
        [
            [*(f.values.get(name, _UNSET[name]) for name in _FINISH_COLUMNS), f.chat_id]
            for f in held_by_us
        ]
    )
    finished = {finish.chat_id for finish in held_by_us}
    drop_prompts(list(finished))
    return finished


def mark_suspect(reasons: Mapping[int, str]) -> None:
    """Why an answer to each chat was not trusted, by chat."""
    for chat_id, reason in reasons.items():
        Chat.objects.filter(pk=chat_id).update(suspect=reason[:100])


def settle_shares(shares: Sequence[tuple[int, int, int, int, int]]) -> None:
    """Adds parts of ended calls: prompt, output, thoughts and cached tokens, then the chat's id."""
    _SETTLE.run(shares)


@dataclass(frozen=True, slots=True)
class Wait:
    """How long a chat was to wait in one of its generations; 0 is an unknown `generation`."""

    generation: int
    length: timedelta

    def is_over(self, received_at: datetime, deadline: datetime) -> bool:
        """Not if the row was renewed since, or joined by somebody who waits for longer."""
        # By its length, because a deadline moved by less than a clock's step looks passed, too.
        same = self.generation in (count_microseconds(received_at), 0)
        return same and deadline - received_at <= self.length + ROUNDING


def expire_chats(waits: Mapping[int, Wait], *, now: datetime, code: str, detail: str) -> list[int]:
    """Queued chats whose waits, by id, are over will never be sent; gives those."""
    with transaction.atomic():
        queued = Chat.objects.select_for_update().filter(pk__in=list(waits), status=Status.QUEUED)
        over = queued.filter(deadline__lte=now + CLOCK_STEP)
        expired = [
            pk
            for pk, *times in over.values_list("pk", "received_at", "deadline")
            if waits[pk].is_over(*times)
        ]
        Chat.objects.filter(pk__in=expired).update(
            status=Status.EXPIRED, completed_at=now, error_code=code, error_detail=detail
        )
        drop_prompts(expired)
    return expired


def cancel_chats(ids: Sequence[int], *, now: datetime, code: str, detail: str) -> list[int]:
    """Takes queued chats out of the queue; gives those that still were in it.

    Call it in a transaction.
    """
    queued = Chat.objects.select_for_update().filter(pk__in=ids, status=Status.QUEUED)
    cancelled = list(queued.values_list("pk", flat=True))
    Chat.objects.filter(pk__in=cancelled).update(
        status=Status.CANCELLED, completed_at=now, error_code=code, error_detail=detail
    )
    drop_prompts(cancelled)
    return cancelled


def release_chats(
    left: Sequence[tuple[int, int]], *, now: datetime, code: str, detail: str
) -> list[int]:
    """Decrements the holder count of each (chat, generation).

    Returns the chats that were cancelled because no holder is left.
    """
    with transaction.atomic():
        rows = Chat.objects.select_for_update().filter(pk__in=[pk for pk, _ in left])
        # The waiters of a generation that has ended are gone; a later one's hold the row now.
        generations = {
            pk: count_microseconds(at) for pk, at in rows.values_list("pk", "received_at")
        }
        counts = Counter(pk for pk, generation in left if generations.get(pk) == generation)
        for number in set(counts.values()):
            held = Chat.objects.filter(pk__in=[pk for pk in counts if counts[pk] == number])
            held.update(waiters=Greatest(F("waiters") - number, 0))
        unheld = Chat.objects.filter(pk__in=list(counts), waiters=0, status=Status.QUEUED)
        ids = list(unheld.values_list("pk", flat=True))
        return cancel_chats(ids, now=now, code=code, detail=detail)


def hand_back_chats(ended_calls: Mapping[int, int], *, owner: str) -> int:
    """All that this owner runs and will not finish waits again.

    `ended_calls` says how many calls of a chat have ended; one in flight is given back.
    """
    back = {"status": Status.QUEUED, "owner": "", "lease_until": None, "batch": None}
    held = Chat.objects.filter(status=Status.RUNNING, owner=owner)
    count = 0
    for ended in set(ended_calls.values()):
        ids = [chat_id for chat_id, number in ended_calls.items() if number == ended]
        count += held.filter(pk__in=ids).update(**back, attempt=ended)
    rest = held.filter(attempt__gte=1)  # claimed, and no call of it had begun
    return count + rest.update(**back, attempt=F("attempt") - 1)
