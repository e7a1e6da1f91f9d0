"""The messages that processes send over the channel layer, and how they are received.

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
from batching.engine.items import QueuedItem
from batching.engine.lanes import Priority

logger = logging.getLogger("batching")

BATCHING_CHANNEL = settings.BATCHING_CHANNEL
SEND_TIMEOUT_S = 1.0
PING_INTERVAL_S = 1.0
PING_TIMEOUT_S = 1.0
# One ping may also be late because this process stood still.
MAX_MISSED_PINGS = 2
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


class Subscription:
    """The messages that this process receives from one channel.

    A subscription may fail without an error: Redis refuses it later, or the layer takes one that
    failed for made. Pings, which travel like any message, show that it works.
    """

    def __init__(self, layer: Any, channel: str) -> None:
        self._layer = layer
        self._channel = channel
        self._heard = asyncio.Event()
        self._wait: asyncio.Timeout | None = None

    async def receive(self) -> Mapping[str, Any]:
        """Returns the next message that is not a ping. One task may call it."""
        while True:
            message = await self._receive_any()
            if message is not None:
                self._heard.set()
                if message.get("type") != "ping":
                    return message

    async def ping(self) -> None:
        """Returns when a message has arrived. Only a running `receive` makes it arrive."""
        self._heard.clear()
        await self._layer.send(self._channel, {"type": "ping"})
        await self._heard.wait()

    async def watch(self) -> None:
        """Subscribes again whenever pings are sent but do not arrive, until it is cancelled."""
        missed = 0
        while True:
            await asyncio.sleep(PING_INTERVAL_S)
            missed = missed + 1 if await self._is_silent() else 0
            if missed >= MAX_MISSED_PINGS and self._wait is not None:
                missed = 0
                logger.warning("No message arrives on %s. It is subscribed again.", self._channel)
                self._wait.reschedule(asyncio.get_running_loop().time())

    async def _receive_any(self) -> Mapping[str, Any] | None:
        """Returns None if `watch` ended the wait. The layer has unsubscribed then."""
        self._wait = wait = asyncio.timeout(None)
        try:
            async with wait:
                message: Mapping[str, Any] = await self._layer.receive(self._channel)
                return message
        except TimeoutError:
            if not wait.expired():
                raise
            return None
        finally:
            self._wait = None

    async def _is_silent(self) -> bool:
        """Whether no message has arrived since the last call, not even a ping that was sent."""
        if self._heard.is_set():
            self._heard.clear()
            return False
        try:
            async with asyncio.timeout(SEND_TIMEOUT_S):
                await self._layer.send(self._channel, {"type": "ping"})
        except Exception:
            return False  # Redis is away, which says nothing about the subscription.
        try:
            async with asyncio.timeout(PING_TIMEOUT_S):
                await self._heard.wait()
        except TimeoutError:
            return True
        return False


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
