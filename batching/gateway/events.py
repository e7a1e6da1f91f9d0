"""The events of one request while it is answered."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator
from typing import Any

from batching.engine.errors import GatewayError, TimedOut
from batching.gateway.waiters import PartialText, Waiter, Waiters
from batching.telemetry.metrics import API_ERRORS

# The `type` of an event is `accepted`, `position` (in the queue), `dispatched`, `text` (`content`
# continues the text), `restart` (the text so far is void), or, at the end, `done` or `error`.
Event = dict[str, Any]


class SentText:
    """The text that one client has received so far. No character is sent twice."""

    def __init__(self) -> None:
        self._call_id: int | None = None
        self._text = ""

    def catch_up(self, partial: PartialText) -> Iterator[Event]:
        """Yields the events that send the client the rest of the partial text."""
        if self._call_id != partial.call_id:
            yield from self._restart()
            self._call_id = partial.call_id
        yield from self._extend(partial.text)

    def complete(self, text: str) -> Iterator[Event]:
        """Yields the events that send the client the rest of the whole text."""
        if not text.startswith(self._text):
            yield from self._restart()
        yield from self._extend(text)

    def _extend(self, text: str) -> Iterator[Event]:
        if len(text) > len(self._text):
            yield {"type": "text", "content": text[len(self._text) :]}
            self._text = text

    def _restart(self) -> Iterator[Event]:
        if self._text:
            yield {"type": "restart"}
            self._text = ""


async def follow_answer(
    waiter: Waiter, waiters: Waiters, *, until: float, clock: Callable[[], float]
) -> AsyncGenerator[Event, None]:
    """Yields events until the whole text has been yielded; raises GatewayError."""
    sent, position, queued = SentText(), waiter.position, waiter.queued
    while not waiter.answer.done():
        if queued and not waiter.queued:
            queued = False
            yield {"type": "dispatched"}
        elif waiter.position != position:
            position = waiter.position
            yield {"type": "position", "position": position}
        partial = waiters.find_partial_text(waiter)
        if partial is not None:
            for event in sent.catch_up(partial):
                yield event
        try:
            async with asyncio.timeout(until - clock()):
                await waiter.wait_for_change()
        except TimeoutError:
            raise TimedOut() from None
    for event in sent.complete(waiter.answer.result()["text"]):
        yield event


def describe_failure(error: GatewayError) -> Event:
    """The event that ends a stream with an error; counts the error in the metrics."""
    API_ERRORS.labels(error.code).inc()
    return {"type": "error", "code": error.code, "detail": str(error)}
