"""How many model calls may run at once, and which of them are kept for HIGH."""

import asyncio
import heapq
import itertools
import time
from collections.abc import Callable

from batching.engine.breaker import Breaker
from batching.engine.capacity import Capacity, learn, reserve_for_high
from batching.engine.errors import UpstreamUnavailable
from batching.engine.lanes import Priority


class CallSlots:
    """`total` calls at once, of which `reserve` only HIGH may use.

    A retry waits here for a slot and goes before new batches; new batches are not formed before
    `may_start` says that a slot is free, so that a queue that grew meanwhile leaves full. While the
    breaker is open no slot is.
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
        self._call_s: float | None = None
        self.reserve = reserve_for_high(total)
        self._on_free = on_free
        self._running = {True: 0, False: 0}
        self._waiting: dict[bool, list[tuple[float, int, asyncio.Future[None]]]]
        self._waiting = {True: [], False: []}
        self._ticket = itertools.count()

    @property
    def running(self) -> int:
        return sum(self._running.values())

    def may_start(self, priority: Priority) -> bool:
        if self.running >= self.total:
            return False
        if not self.breaker.allows(self._clock(), running=self.running):
            return False
        return priority is Priority.HIGH or self._running[False] < self.total - self.reserve

    def take(self, priority: Priority) -> None:
        if not self.may_start(priority):
            raise RuntimeError("no call slot is free")
        self._running[priority is Priority.HIGH] += 1

    async def acquire(self, priority: Priority, *, target: float) -> None:
        """Waits for a slot; the smallest latency target is served first.

        Raises UpstreamUnavailable if meanwhile a probe finds that the model service still fails.
        """
        if self.may_start(priority):
            self.take(priority)
            return
        served: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        entry = (target, next(self._ticket), served)
        heapq.heappush(self._waiting[priority is Priority.HIGH], entry)
        try:
            await served
        except asyncio.CancelledError:
            # The slot may have been handed over in the same tick in which the waiter was cancelled.
            if served.done() and not served.cancelled() and not served.exception():
                self.release(priority)
            raise

    @property
    def capacity(self) -> Capacity:
        paused_s = self.breaker.paused_s(self._clock())
        down = self.breaker.probes > 0
        return Capacity(self.total, self.reserve, self._call_s, paused_s, down)

    def report_reply(self, duration_s: float | None = None) -> None:
        """The model service is there; `duration_s` is what the call took, if it wrote text."""
        if duration_s is not None:
            self._call_s = learn(self._call_s, duration_s)
        was_open = self.breaker.is_open
        self.breaker.succeed()
        if was_open:
            self._resume()

    def report_failure(self, *, asked_s: float | None) -> None:
        """The model service did not answer, or asked to be left alone for a while."""
        self.breaker.fail(self._clock(), asked_s=asked_s)
        if self.breaker.probes:
            self._refuse_waiting(retry_after_s=self.breaker.paused_s(self._clock()))
        self._resume_later()

    def _refuse_waiting(self, *, retry_after_s: float) -> None:
        """What waits here has failed before, and would only fail again."""
        for queue in self._waiting.values():
            for _, _, served in queue:
                if not served.done():
                    served.set_exception(
                        UpstreamUnavailable(
                            "The model service fails again and again.", retry_after_s=retry_after_s
                        )
                    )

    def _resume_later(self) -> None:
        if paused_s := self.breaker.paused_s(self._clock()):
            # Looks again, because a timer may ring a moment before its time.
            asyncio.get_running_loop().call_later(paused_s, self._resume_later)
        else:
            self._resume()

    def _resume(self) -> None:
        self._serve_waiting()
        self._on_free()

    def release(self, priority: Priority) -> None:
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
            served.set_result(None)
