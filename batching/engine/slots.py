"""Limits how many model calls of all batches run at once, and keeps some of them for HIGH."""

import asyncio
import heapq
import itertools
import time
from collections.abc import Callable

from batching.engine.breaker import Breaker
from batching.engine.capacity import Capacity, reserve_for_high, update_mean
from batching.engine.errors import UpstreamUnavailable
from batching.engine.lanes import Priority

# The latency target and the number of a waiting retry, and the future that gets its slot.
Waiting = tuple[float, int, asyncio.Future[bool]]


class CallSlots:
    """At most `total` calls run at once; only HIGH may use `reserve` of them.

    A retry waits here for a slot and goes before new batches. A new batch is formed only once
    `may_start` returns True, so that it is as full as possible. While the breaker is open, no slot
    is free.
    """

    def __init__(
        self,
        total: int,
        *,
        on_free: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.total = total
        self.breaker = Breaker()
        self._clock = clock
        self._call_s: dict[Priority, float] = {}
        self.reserve = reserve_for_high(total)
        self._on_free = on_free
        self._running = {True: 0, False: 0}
        self._waiting: dict[bool, list[Waiting]] = {True: [], False: []}
        self._numbers = itertools.count()

    @property
    def running(self) -> int:
        return sum(self._running.values())

    def may_start(self, priority: Priority) -> bool:
        if self.running >= self.total:
            return False
        if not self.breaker.allows(self._clock()):
            return False
        return priority is Priority.HIGH or self._running[False] < self.total - self.reserve

    def take(self, priority: Priority) -> bool:
        """Takes a slot. Returns True for the probe: pass that to `release`."""
        if not self.may_start(priority):
            raise RuntimeError("no call slot is free")
        self._running[priority is Priority.HIGH] += 1
        return self.breaker.begin()

    async def acquire(self, priority: Priority, *, target: float) -> bool:
        """Waits for a slot and returns as `take` does; the smallest latency target goes first.

        Raises UpstreamUnavailable if a probe fails in the meantime.
        """
        if self.may_start(priority):
            return self.take(priority)
        served: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        entry = (target, next(self._numbers), served)
        heapq.heappush(self._waiting[priority is Priority.HIGH], entry)
        try:
            return await served
        except asyncio.CancelledError:
            # The slot may have been assigned in the tick in which this task was cancelled.
            if served.done() and not served.cancelled() and not served.exception():
                self.release(priority, probe=served.result())
            raise

    @property
    def capacity(self) -> Capacity:
        paused_s = self.breaker.paused_s(self._clock())
        down = self.breaker.probes > 0
        times = [self._call_s.get(priority) for priority in Priority]
        return Capacity(self.total, self.reserve, tuple(times), paused_s, down)

    def report_duration(self, priority: Priority, duration_s: float) -> None:
        """Adds the duration of a call that wrote text to the mean of its lane."""
        self._call_s[priority] = update_mean(self._call_s.get(priority), duration_s)

    def report_reply(self) -> None:
        was_open = self.breaker.is_open
        self.breaker.succeed()
        if was_open:
            self._resume()

    def report_failure(self, *, retry_after_s: float | None, probe: bool = False) -> None:
        """Reports that the service refused a call, and the pause that it may have requested."""
        self.breaker.fail(self._clock(), probe=probe, retry_after_s=retry_after_s)
        if probe:
            self._refuse_waiting()
        self._resume_later()

    def _refuse_waiting(self) -> None:
        """Fails the waiting retries: the service still fails, so they would fail again."""
        text, pause_s = "The model service fails again and again.", self.capacity.paused_s
        for _, _, served in itertools.chain(*self._waiting.values()):
            if not served.done():
                served.set_exception(UpstreamUnavailable(text, retry_after_s=pause_s))

    def _resume_later(self) -> None:
        if paused_s := self.breaker.paused_s(self._clock()):
            # Checks again then, because a timer may fire slightly before its time.
            asyncio.get_running_loop().call_later(paused_s, self._resume_later)
        else:
            self._resume()

    def _resume(self) -> None:
        self._serve_waiting()
        self._on_free()

    def release(self, priority: Priority, *, probe: bool = False) -> None:
        if probe:
            self.breaker.end_probe()
        self._running[priority is Priority.HIGH] -= 1
        self._resume()

    def _serve_waiting(self) -> None:
        while True:
            heads = []
            for high, queue in self._waiting.items():
                while queue and queue[0][2].done():
                    heapq.heappop(queue)
                if queue and self.may_start(Priority.HIGH if high else Priority.LOW):
                    heads.append((queue[0], high))
            if not heads:
                return
            (_, _, served), high = min(heads)
            heapq.heappop(self._waiting[high])
            self._running[high] += 1
            served.set_result(self.breaker.begin())
