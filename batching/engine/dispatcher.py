"""Lets each batch leave at its time: it sleeps until the planner's next wake-up and never polls."""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import replace

from batching.engine.items import QueuedItem
from batching.engine.lanes import LaneRule, Priority
from batching.engine.planner import Batch, Planner
from batching.engine.slots import CallSlots


class Dispatcher:
    """Calls `start` with each batch that leaves and `expire` with the items that waited too long.

    The call slot of a batch is taken before `start`. Both functions must return at once.
    """

    def __init__(
        self,
        *,
        planner: Planner,
        slots: int,
        start: Callable[[Batch], None],
        expire: Callable[[list[QueuedItem]], None],
        clock: Callable[[], float],
    ) -> None:
        self.planner = planner
        self._wake = asyncio.Event()
        self.slots = CallSlots(slots, on_free=self._wake.set, clock=clock)
        self._start = start
        self._expire = expire
        self._clock = clock
        self._closed = False
        self.alive_at = clock()  # the start of the loop's latest round

    def push(self, items: Iterable[QueuedItem]) -> None:
        for item in items:
            self.planner.push(item)
        self._wake.set()

    def configure(self, rules: Mapping[Priority, LaneRule]) -> None:
        self.planner.configure(rules)
        self._wake.set()

    def close(self) -> None:
        """Lets no further batch leave; other workers will claim the waiting items."""
        self._closed = True

    def wake(self) -> None:
        self._wake.set()

    async def run(self) -> None:
        while True:
            # Cleared first, so that whatever arrives from here on starts another round.
            self._wake.clear()
            self.alive_at = self._clock()
            if expired := self.planner.expire(self._clock()):
                self._expire(expired)
            while not self._closed and (
                batch := self.planner.take(self._clock(), self.slots.may_start)
            ):
                self._start(replace(batch, probe=self.slots.take(batch.priority)))
            # The items of a closed dispatcher stay in the planner, so its next wake-up may be over:
            # sleeping until then would make this loop spin.
            await self._sleep_until(None if self._closed else self.planner.next_wakeup())

    async def _sleep_until(self, wake_at: float | None) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(None if wake_at is None else wake_at - self._clock()):
                await self._wake.wait()
