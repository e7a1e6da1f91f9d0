"""Ends of requests that no call answered: stored, and counted by lane."""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta

from batching.engine.lanes import Priority
from batching.engine.planner import Item
from batching.telemetry import metrics
from batching.telemetry.live_events import REPORTER
from chats import services
from chats.models import Chat
from chats.services import Wait


def expire_items(items: Sequence[Item], *, now: datetime, code: str, detail: str) -> list[int]:
    """Gives those that expired. Every worker of a fleet tries; each request is counted by the one
    that finds it queued."""
    waits = {
        item.id: Wait(item.life, timedelta(seconds=item.deadline - item.accepted)) for item in items
    }
    expired = services.expire_chats(waits, now=now, code=code, detail=detail)
    REPORTER.left(expired, code)
    lanes = {item.id: item.priority for item in items}
    for lane, number in Counter(lanes[pk] for pk in expired).items():
        metrics.count_end(lane, code, number=number)
    return expired


def cancel_chats(ids: Sequence[int], *, now: datetime, code: str, detail: str) -> list[int]:
    """Call it in a transaction; gives those that were still queued."""
    cancelled = services.cancel_chats(ids, now=now, code=code, detail=detail)
    count_ended(cancelled, code)
    return cancelled


def release_chats(
    left: Sequence[tuple[int, int]], *, now: datetime, code: str, detail: str
) -> list[int]:
    """One waiter less for each chat in the life that is named; gives those that nobody holds now
    and that were cancelled."""
    cancelled = services.release_chats(left, now=now, code=code, detail=detail)
    count_ended(cancelled, code)
    return cancelled


def count_ended(ids: Sequence[int], outcome: str) -> None:
    """Of chats that have just ended."""
    REPORTER.left(ids, outcome)
    lanes = Chat.objects.filter(pk__in=ids).values_list("priority", flat=True) if ids else ()
    for lane, number in Counter(lanes).items():
        metrics.count_end(Priority(lane), outcome, number=number)
