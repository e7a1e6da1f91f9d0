"""The messages that processes send over the channel layer.

No promise depends on a message: what a lost one announced is found in the database later.
"""

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import fields
from operator import attrgetter
from typing import Any

from django.conf import settings

from batching.engine.deltas import TextDelta
from batching.engine.lanes import Priority
from batching.engine.planner import QueuedItem

logger = logging.getLogger("batching")

BATCHING_CHANNEL = settings.BATCHING_CHANNEL
SEND_TIMEOUT_S = 1.0
_ITEM_TIMES = ("accepted", "due", "deadline", "target")
# The fields of an item that "requests.accepted" carries; `id` is the first.
_ITEM_FIELDS = [field.name for field in fields(QueuedItem) if field.name != "exchange"]
_get_values = attrgetter(*_ITEM_FIELDS)

Send = Callable[[str, dict[str, Any]], Awaitable[None]]


async def send_message(layer: Any, channel: str, message: dict[str, Any]) -> None:
    """Sends a message over the channel layer; logs a message that is lost and goes on."""
    try:
        async with asyncio.timeout(SEND_TIMEOUT_S):
            await layer.send(channel, message)
    except Exception as error:
        # The layer may be full, unreachable or slow. No caller depends on the message.
        extra = {"chat_ids": list_chat_ids(message)}
        cause = type(error).__name__
        logger.warning("A message to %s was lost (%s).", channel, cause, extra=extra)


def accepted_message(items: Iterable[QueuedItem], *, process: str, clock: float) -> dict[str, Any]:
    """Announces new items. Their times are on the sender's monotonic clock, which shows `clock`."""
    rows = json.dumps([_get_values(item) for item in items])
    return {"type": "requests.accepted", "process": process, "clock": clock, "items": rows}


def parse_accepted(message: Mapping[str, Any], *, process: str, clock: float) -> list[QueuedItem]:
    """The announced items, with their times on this process's clock.

    The monotonic clocks of two processes may count from different starts. The sender's clock is
    therefore taken to show now what it showed when the message was sent.
    """
    shift = 0.0 if message["process"] == process else clock - message["clock"]
    items = []
    for row in json.loads(message["items"]):
        values = dict(zip(_ITEM_FIELDS, row, strict=True))
        values["priority"] = Priority(values["priority"])
        for name in _ITEM_TIMES:
            values[name] += shift
        items.append(QueuedItem(**values))
    return items


def dispatched_message(chat_ids: Iterable[int]) -> dict[str, Any]:
    return {"type": "requests.dispatched", "ids": list(chat_ids)}


def cancelled_message(chat_ids: Iterable[int]) -> dict[str, Any]:
    return {"type": "requests.cancelled", "ids": list(chat_ids)}


def delta_message(deltas: Iterable[TextDelta]) -> dict[str, Any]:
    """Carries new text of answers that the model is still writing."""
    rows = [[d.item_id, d.call_id, d.start, d.text, d.generation] for d in deltas]
    return {"type": "requests.delta", "deltas": json.dumps(rows)}


def parse_deltas(message: Mapping[str, Any]) -> list[TextDelta]:
    return [TextDelta(*row) for row in json.loads(message["deltas"])]


def finished_message(responses: Mapping[int, dict[str, Any]]) -> dict[str, Any]:
    """Carries each chat's `{"answer": …}` or `{"error": …, "generation": …}`, by id.

    An answer is final. After an error the request may be sent again, as another generation.
    """
    # As text, because the in-memory layer copies a message value by value.
    return {"type": "requests.finished", "responses": json.dumps(list(responses.items()))}


def parse_finished(message: Mapping[str, Any]) -> list[tuple[int, dict[str, Any]]]:
    return [(chat_id, response) for chat_id, response in json.loads(message["responses"])]


def list_chat_ids(message: Mapping[str, Any]) -> list[int]:
    """The ids of the chats that the message is about, for the log."""
    for name in ("items", "deltas", "responses"):
        if name in message:
            return [row[0] for row in json.loads(message[name])]
    return list(message.get("ids", ()))
