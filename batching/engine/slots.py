"""How many model calls may run at once, and which of them are kept for HIGH."""

import asyncio
import heapq
import itertools
from collections.abc import Callable

from batching.engine.lanes import Priority


class CallSlots:
    """`total` calls at once, of which `reserve` only HIGH may use.

    A retry waits here for a slot and goes before new batches; new batches are not formed before
    `may_start` says that a slot is free, so that a queue that grew meanwhile leaves full.
    """

    def __init__(self, total: int, *, on_free: Callable[[], None] = lambda: None) -> None:
        self.total = total
        self.reserve = min(max(1, total // 4), total - 1)
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
        return priority is Priority.HIGH or self._running[False] < self.total - self.reserve

    def take(self, priority: Priority) -> None:
        if not self.may_start(priority):
            raise RuntimeError("no call slot is free")
        self._running[priority is Priority.HIGH] += 1

    async def acquire(self, priority: Priority, *, target: float) -> None:
        """Waits for a slot; the smallest latency target is served first."""
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
            if served.done() and not served.cancelled():
                self.release(priority)
            raise

    def release(self, priority: Priority) -> None:
        self._running[priority is Priority.HIGH] -= 1
        self._serve_waiting()
        self._on_free()

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
