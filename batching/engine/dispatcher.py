"""Waits for the planner's next moment and lets its batches go: timers and wake-ups, no polling."""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from batching.engine.lanes import LaneRule, Priority
from batching.engine.planner import Batch, Planner, QueuedItem
from batching.engine.slots import CallSlots


class Dispatcher:
    """`start` gets each batch that leaves, its call slot taken; `expire` what waited too long.

    Both must return at once.
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
        self.alive_at = clock()
        """when the loop last went round"""

    def push(self, items: Iterable[QueuedItem]) -> None:
        for item in items:
            self.planner.push(item)
        self._wake.set()

    def configure(self, rules: Mapping[Priority, LaneRule]) -> None:
        self.planner.configure(rules)
        self._wake.set()

    def close(self) -> None:
        """From now on no batch leaves; what waits is left for others."""
        self._closed = True

    def wake(self) -> None:
        self._wake.set()

    async def run(self) -> None:
        while True:
            # Cleared before looking: whatever arrives from here on wakes the loop once more.
            self._wake.clear()
            self.alive_at = self._clock()
            if expired := self.planner.expire(self._clock()):
                self._expire(expired)
            while not self._closed and (
                batch := self.planner.take(self._clock(), self.slots.may_start)
            ):
                self._start(replace(batch, probe=self.slots.take(batch.priority)))
            # Closed, it would look again at once and for ever at what is due and does not leave.
            await self._sleep_until(None if self._closed else self.planner.next_wakeup())

    async def _sleep_until(self, moment: float | None) -> None:
        alarm = None
        if moment is not None:
            loop = asyncio.get_running_loop()
            alarm = loop.call_later(max(0.0, moment - self._clock()), self._wake.set)
        try:
            await self._wake.wait()
        finally:
            if alarm is not None:
                alarm.cancel()
