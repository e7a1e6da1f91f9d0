"""Ends requests that no model call answered: cancelled, expired or abandoned by the client."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db import transaction

from batching.engine.errors import (
    AlreadyDispatched,
    AmbiguousRequest,
    Cancelled,
    RequestNotFound,
)
from batching.engine.lanes import Priority
from batching.engine.planner import QueuedItem
from batching.messages import BATCHING_CHANNEL, cancelled_message, finished_message
from batching.store.queue import find_chats
from batching.store.responses import describe_error
from batching.telemetry import steps
from chats import services
from chats.models import Chat, Status
from chats.services import Wait


def expire_items(
    items: Sequence[QueuedItem], *, now: datetime, code: str, detail: str
) -> list[int]:
    """Gives those that expired. Every worker of a fleet tries; each request is counted by the one
    that finds it queued."""
    waits = {
        item.id: Wait(item.generation, timedelta(seconds=item.deadline - item.accepted))
        for item in items
    }
    expired = services.expire_chats(waits, now=now, code=code, detail=detail)
    lanes = {item.id: item.priority for item in items}
    steps.requests_dropped({pk: lanes[pk] for pk in expired}, code=code)
    return expired


def cancel_chats(ids: Sequence[int], *, now: datetime, code: str, detail: str) -> list[int]:
    """Call it in a transaction; gives those that were still queued."""
    cancelled = services.cancel_chats(ids, now=now, code=code, detail=detail)
    report_dropped(cancelled, code=code)
    return cancelled


def release_chats(
    left: Sequence[tuple[int, int]], *, now: datetime, code: str, detail: str
) -> list[int]:
    """Decrements the holder count of each (chat, generation).

    Returns the chats that were cancelled because no holder is left.
    """
    cancelled = services.release_chats(left, now=now, code=code, detail=detail)
    report_dropped(cancelled, code=code)
    return cancelled


def report_dropped(ids: Sequence[int], *, code: str) -> None:
    """Reports chats that have just ended without an answer from a batch."""
    if ids:
        lanes = Chat.objects.filter(pk__in=ids).values_list("pk", "priority")
        steps.requests_dropped({pk: Priority(lane) for pk, lane in lanes}, code=code)


def find_one(request_id: str, *, client_id: int | None, username: str | None) -> Chat:
    """Raises RequestNotFound or AmbiguousRequest."""
    if "\x00" in request_id + (username or ""):
        raise RequestNotFound()
    chats = find_chats(request_id, client_id=client_id, username=username)
    if not chats:
        raise RequestNotFound()
    if len(chats) > 1:
        raise AmbiguousRequest()
    return chats[0]


def cancel_one(
    request_id: str, *, client_id: int | None, username: str | None
) -> list[tuple[str, dict[str, Any]]]:
    """As `cancel_chat`, of the one request with this id; raises what `find_one` raises, too."""
    return cancel_chat(find_one(request_id, client_id=client_id, username=username))


def cancel_chat(chat: Chat) -> list[tuple[str, dict[str, Any]]]:
    """Cancels what is still queued; raises AlreadyDispatched.

    Gives channels and the messages for them, by which planner and waiters learn of it.
    """
    if chat.status == Status.CANCELLED:
        return []
    error = Cancelled()
    with transaction.atomic():
        cancelled = cancel_chats(
            [chat.pk], now=datetime.now(UTC), code=error.code, detail=str(error)
        )
        if not cancelled:
            raise AlreadyDispatched()
        # It was read without a lock: by now it may be another generation, of another client.
        chat.refresh_from_db(fields=["origin", "received_at"])
    told = {
        chat.pk: {"error": describe_error(error.code, str(error)), "generation": chat.generation}
    }
    return [
        (BATCHING_CHANNEL, cancelled_message(cancelled)),
        (chat.origin, finished_message(told)),
    ]
