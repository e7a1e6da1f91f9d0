"""Ends requests that no model call answered: cancelled, expired or abandoned by the client."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import transaction

from batching.engine.errors import AlreadyDispatched, Cancelled
from batching.engine.items import QueuedItem
from batching.engine.lanes import Priority
from batching.messages import BATCHING_CHANNEL, cancelled_message, finished_message
from batching.store.queue import find_request
from batching.store.responses import describe_error
from batching.telemetry import steps
from chats import services
from chats.clock import CLOCK
from chats.models import Chat, Status
from chats.services import Wait


def expire_items(items: Sequence[QueuedItem], *, code: str, detail: str) -> list[int]:
    """Expires those of the items that are still queued, and returns their ids.

    Every worker of a fleet tries this. Only the one that expires a request counts it. A single
    process trusts its planner, so that a jump of the clock delays nothing.
    """
    waits = {
        item.id: Wait(item.generation, timedelta(seconds=item.deadline - item.accepted))
        for item in items
    }
    expired = services.expire_chats(
        waits, check_clock=bool(settings.REDIS_URL), code=code, detail=detail
    )
    lanes = {item.id: item.priority for item in items}
    steps.requests_dropped({pk: lanes[pk] for pk in expired}, code=code)
    return expired


def release_chats(
    left: Sequence[tuple[int, int]], *, now: datetime, code: str, detail: str
) -> list[int]:
    """`chats.services.release_chats`; also reports the chats that it cancelled."""
    cancelled = services.release_chats(left, now=now, code=code, detail=detail)
    report_dropped(cancelled, code=code)
    return cancelled


def report_dropped(ids: Sequence[int], *, code: str) -> None:
    """Reports chats that have just ended without an answer from a batch."""
    if ids:
        lanes = Chat.objects.filter(pk__in=ids).values_list("pk", "priority")
        steps.requests_dropped({pk: Priority(lane) for pk, lane in lanes}, code=code)


def cancel_request(
    request_id: str, *, client_id: int | None, username: str | None
) -> list[tuple[str, dict[str, Any]]]:
    """`cancel_queued` for the chat that `find_request` finds; raises the errors of both."""
    return cancel_queued(find_request(request_id, client_id=client_id, username=username))


def cancel_queued(chat: Chat) -> list[tuple[str, dict[str, Any]]]:
    """Cancels a queued chat; raises AlreadyDispatched if it is not queued any more.

    Returns pairs of a channel and a message that notify the workers and the waiting clients.
    """
    if chat.status == Status.CANCELLED:
        return []
    error = Cancelled()
    with transaction.atomic():
        cancelled = services.cancel_chats(
            [chat.pk], now=CLOCK.now(), code=error.code, detail=str(error)
        )
        if not cancelled:
            raise AlreadyDispatched()
        report_dropped(cancelled, code=error.code)
        # The row was read without a lock: its generation and its origin may have changed since.
        chat.refresh_from_db(fields=["origin", "received_at"])
    response = {"error": describe_error(error.code, str(error)), "generation": chat.generation}
    return [
        (BATCHING_CHANNEL, cancelled_message(cancelled)),
        (chat.origin, finished_message({chat.pk: response})),
    ]
