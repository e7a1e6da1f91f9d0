"""An answer as a stream: what a client reads while the model writes, never a letter twice."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator
from typing import Any

from batching.engine.errors import GatewayError, TimedOut
from batching.gateway.partial_text import PartialText
from batching.gateway.waiters import Waiter, Waiters
from batching.telemetry.metrics import count_api_error

Event = dict[str, Any]
"""of type `accepted`, `position` (in the queue), `dispatched`, `text` (`content` is a piece of it),
`restart` (what was read is void), and at the end `done` or `error` (`code`, `detail`)"""


class Reader:
    """What one client has read."""

    def __init__(self) -> None:
        self._call_id: int | None = None
        self._read = ""

    def follow(self, growing: PartialText) -> Iterator[Event]:
        """The events that bring the client up to date."""
        if self._call_id != growing.call_id:
            yield from self._restart()
            self._call_id = growing.call_id
        yield from self._extend(growing.text)

    def end(self, text: str) -> Iterator[Event]:
        """The rest of the whole answer, or all of it if another one was begun."""
        if not text.startswith(self._read):
            yield from self._restart()
        yield from self._extend(text)

    def _extend(self, text: str) -> Iterator[Event]:
        if len(text) > len(self._read):
            yield {"type": "text", "content": text[len(self._read) :]}
            self._read = text

    def _restart(self) -> Iterator[Event]:
        if self._read:
            yield {"type": "restart"}
            self._read = ""


async def follow(
    waiter: Waiter, waiters: Waiters, *, until: float, clock: Callable[[], float]
) -> AsyncGenerator[Event, None]:
    """What happens to a request, and its text, until that is told whole; raises GatewayError."""
    reader, position, queued = Reader(), waiter.position, waiter.queued
    while not waiter.answer.done():
        if queued and not waiter.queued:
            queued = False
            yield {"type": "dispatched"}
        elif waiter.position != position:
            position = waiter.position
            yield {"type": "position", "position": position}
        growing = waiters.find_partial_text(waiter)
        if growing is not None:
            for event in reader.follow(growing):
                yield event
        try:
            async with asyncio.timeout(until - clock()):
                await waiter.wait_for_change()
        except TimeoutError:
            raise TimedOut() from None
    for event in reader.end(waiter.answer.result()["text"]):
        yield event


def describe_failure(error: GatewayError) -> Event:
    count_api_error(error.code)
    return {"type": "error", "code": error.code, "detail": str(error)}
