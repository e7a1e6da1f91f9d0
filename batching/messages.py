"""What travels over the channel layer. Every message is small, and none is needed for safety."""

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

from django.conf import settings

from batching.engine.deltas import TextDelta
from batching.engine.lanes import Priority
from batching.engine.planner import QueuedItem

logger = logging.getLogger("batching")

BATCHING_CHANNEL = settings.BATCHING_CHANNEL
SEND_TIMEOUT_S = 1.0


Send = Callable[[str, dict[str, Any]], Awaitable[None]]


class Sender:
    """Sends messages over the channel layer. The sweep makes up for a message that is lost."""

    def __init__(self, layer: Any) -> None:
        self._layer = layer

    async def send(self, channel: str, message: dict[str, Any]) -> None:
        try:
            async with asyncio.timeout(SEND_TIMEOUT_S):
                await self._layer.send(channel, message)
        except Exception as error:
            # The layer may be full, unreachable or slow. Nobody waits for it or depends on it.
            logger.warning(
                "A message to %s was lost (%s).",
                channel,
                type(error).__name__,
                extra={"chat_ids": list_chats(message)},
            )


def accepted_message(items: Iterable[QueuedItem], *, process: str, clock: float) -> dict[str, Any]:
    """New items, with their times on the sender's monotonic clock, which shows `clock`."""
    return {
        "type": "requests.accepted",
        "process": process,
        "clock": clock,
        "items": json.dumps(
            [
                [
                    item.id,
                    int(item.priority),
                    item.accepted,
                    item.due,
                    item.deadline,
                    item.target,
                    item.input_tokens,
                    item.output_tokens,
                    item.client,
                    item.username,
                    item.request_id,
                    item.generation,
                ]
                for item in items
            ]
        ),
    }


def parse_accepted(message: Mapping[str, Any], *, process: str, clock: float) -> list[QueuedItem]:
    """The message's items on this process's clock: another machine's counts from elsewhere."""
    shift = 0.0 if message["process"] == process else clock - message["clock"]
    return [
        QueuedItem(
            id=item_id,
            priority=Priority(priority),
            accepted=accepted + shift,
            due=due + shift,
            deadline=deadline + shift,
            target=target + shift,
            input_tokens=input_tokens,
            output_tokens=output_tokens,
            client=client,
            username=username,
            request_id=more[0] if more else "",
            generation=more[1] if len(more) > 1 else 0,
        )
        for (
            item_id,
            priority,
            accepted,
            due,
            deadline,
            target,
            input_tokens,
            output_tokens,
            client,
            username,
            *more,  # a process of an earlier version sends less
        ) in json.loads(message["items"])
    ]


def dispatched_message(chat_ids: Iterable[int]) -> dict[str, Any]:
    return {"type": "requests.dispatched", "ids": list(chat_ids)}


def cancelled_message(chat_ids: Iterable[int]) -> dict[str, Any]:
    return {"type": "requests.cancelled", "ids": list(chat_ids)}


def delta_message(pieces: Iterable[TextDelta]) -> dict[str, Any]:
    """Texts of answers that are still being written."""
    pieces = list(pieces)
    rows = [[piece.item_id, piece.call_id, piece.start, piece.text] for piece in pieces]
    # Beside the rows, because a process of an earlier version takes no longer ones.
    generations = [piece.generation for piece in pieces]
    return {"type": "requests.delta", "pieces": json.dumps(rows), "generations": generations}


def parse_deltas(message: Mapping[str, Any]) -> list[TextDelta]:
    rows = json.loads(message["pieces"])
    generations = message.get(
        "generations", [None] * len(rows)
    )  # a process of an earlier version sends none
    return [
        TextDelta(*row, generation=generation)
        for row, generation in zip(rows, generations, strict=True)
    ]


def finished_message(outcomes: Mapping[int, dict[str, Any]]) -> dict[str, Any]:
    """Each chat's `{"answer": …}` or `{"error": …, "generation": …}`, by id.

    An answer is the row's end for good; after an error the row may have another generation.
    """
    # As text, because the in-memory layer copies a message value by value.
    return {"type": "requests.finished", "outcomes": json.dumps(list(outcomes.items()))}


def parse_finished(message: Mapping[str, Any]) -> list[tuple[int, dict[str, Any]]]:
    return [(chat_id, outcome) for chat_id, outcome in json.loads(message["outcomes"])]


def list_chats(message: Mapping[str, Any]) -> list[int]:
    """Those that the message is about, for the log."""
    for name in ("items", "pieces", "outcomes"):
        if name in message:
            return [row[0] for row in json.loads(message[name])]
    return list(message.get("ids", ()))
