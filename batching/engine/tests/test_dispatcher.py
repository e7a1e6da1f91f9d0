"""The loop around the planner: exact to the timer, woken by arrivals, bound by slots."""

import asyncio
import random
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from batching.engine.dispatcher import Dispatcher
from batching.engine.planner import Batch, Planner, QueuedItem
from batching.engine.tests.traces import HIGH, LOW, MEDIUM, RULES, rules_with
from batching.engine.tests.virtual_loop import run_virtual


class Hall:
    """A dispatcher whose batches are calls of a fixed length."""

    def __init__(self, *, slots: int = 16, call_s: float = 0.0) -> None:
        loop = asyncio.get_running_loop()
        self.clock: Callable[[], float] = loop.time
        self.began = loop.time()
        self.left: list[tuple[float, Batch]] = []
        self.expired: list[tuple[float, int]] = []
        self.call_s = call_s
        self.dispatcher = Dispatcher(
            planner=Planner(RULES),
            slots=slots,
            start=self._start,
            expire=lambda items: self.expired.extend((self.elapsed(), i.id) for i in items),
            clock=loop.time,
        )
        self._ids = iter(range(1, 10**9))
        self._calls: set[asyncio.Task[None]] = set()

    def elapsed(self) -> float:
        return self.clock() - self.began

    def push(self, priority: Any = HIGH, *, count: int = 1, wait_s: float = 30.0) -> None:
        now, rule = self.clock(), RULES[priority]
        self.dispatcher.push(
            QueuedItem(
                id=next(self._ids),
                priority=priority,
                accepted=now,
                due=now + rule.window_s,
                deadline=now + wait_s,
                target=now + rule.latency_s,
            )
            for _ in range(count)
        )

    def _start(self, batch: Batch) -> None:
        self.left.append((self.elapsed(), batch))
        task = asyncio.get_running_loop().create_task(self._call(batch))
        self._calls.add(task)
        task.add_done_callback(self._calls.discard)

    async def _call(self, batch: Batch) -> None:
        await asyncio.sleep(self.call_s)
        self.dispatcher.slots.release(batch.priority)

    @property
    def shape(self) -> list[tuple[float, str, int]]:
        return [(round(t, 6), b.priority.name, len(b.items)) for t, b in self.left]


def play(body: Callable[[Hall], Coroutine[Any, Any, None]], **kwargs: Any) -> Hall:
    async def main() -> Hall:
        hall = Hall(**kwargs)
        loop = asyncio.create_task(hall.dispatcher.run())
        await body(hall)
        loop.cancel()
        await asyncio.wait([loop])
        return hall

    return run_virtual(main())


def test_batches_leave_exactly_at_their_due_time() -> None:
    async def body(hall: Hall) -> None:
        rng = random.Random(4)
        for _ in range(1000):
            await asyncio.sleep(rng.expovariate(40))
            hall.push(rng.choice([HIGH, MEDIUM, LOW]))
        await asyncio.sleep(5)

    hall = play(body)
    assert sum(len(batch.items) for _, batch in hall.left) == 1000
    for at, batch in hall.left:
        due = min(item.due for item in batch.items) - hall.began
        full = len(batch.items) == RULES[batch.priority].max_batch
        assert at == pytest.approx(due, abs=1e-6) or (full and at <= due)


def test_arrival_in_the_tick_of_the_expiry_is_in_exactly_one_batch() -> None:
    async def body(hall: Hall) -> None:
        hall.push()
        asyncio.get_running_loop().call_later(0.2, hall.push)
        await asyncio.sleep(1)

    hall = play(body)
    ids = [item.id for _, batch in hall.left for item in batch.items]
    assert sorted(ids) == [1, 2]


def test_batch_is_formed_only_when_a_slot_is_free() -> None:
    async def body(hall: Hall) -> None:
        hall.push()
        await asyncio.sleep(0.3)
        assert hall.shape == [(0.2, "HIGH", 1)]
        hall.push()
        await asyncio.sleep(1)
        hall.push(count=8)
        await asyncio.sleep(20)

    hall = play(body, slots=1, call_s=5.0)
    assert hall.shape == [(0.2, "HIGH", 1), (5.2, "HIGH", 6), (10.2, "HIGH", 3)]


def test_request_expires_at_its_deadline_although_the_slots_are_busy() -> None:
    async def body(hall: Hall) -> None:
        hall.push()
        await asyncio.sleep(0.5)
        hall.push(wait_s=2.0)
        await asyncio.sleep(10)

    hall = play(body, slots=1, call_s=10.0)
    assert hall.expired == [(pytest.approx(2.5), 2)]
    assert hall.shape == [(0.2, "HIGH", 1)]


def test_low_calls_leave_a_slot_for_high() -> None:
    async def body(hall: Hall) -> None:
        hall.push(LOW, count=40)
        await asyncio.sleep(1)
        hall.push(HIGH, count=6)
        await asyncio.sleep(1)

    hall = play(body, slots=4, call_s=60.0)
    assert hall.shape == [(0.0, "LOW", 4)] * 3 + [(1.0, "HIGH", 6)]


def test_changed_rules_wake_a_batch_that_they_make_full() -> None:
    async def body(hall: Hall) -> None:
        hall.push(LOW, count=3)
        await asyncio.sleep(1)
        hall.dispatcher.configure(rules_with(LOW, max_batch=3))
        await asyncio.sleep(1)

    assert play(body).shape == [(1.0, "LOW", 3)]


def test_loop_without_work_sleeps_until_it_is_woken() -> None:
    async def body(hall: Hall) -> None:
        assert hall.dispatcher.alive_at == hall.began
        await asyncio.sleep(0.1)
        first = hall.dispatcher.alive_at
        await asyncio.sleep(3600)
        assert hall.dispatcher.alive_at == first
        hall.dispatcher.wake()
        await asyncio.sleep(0.1)
        assert hall.dispatcher.alive_at > first

    assert play(body).left == []


def test_closed_dispatcher_lets_nothing_leave_and_keeps_what_waits() -> None:
    async def body(hall: Hall) -> None:
        hall.push()
        hall.dispatcher.close()
        hall.push(count=8)
        await asyncio.sleep(5)
        assert len(hall.dispatcher.planner) == 9

    assert play(body).left == []


def test_failure_of_the_loop_loses_nothing_when_it_is_run_again() -> None:
    async def main() -> Hall:
        hall = Hall()
        hall.push()
        hall.dispatcher._expire = lambda items: 1 / 0
        hall.push(wait_s=0.1)
        with pytest.raises(ZeroDivisionError):
            await hall.dispatcher.run()
        again = asyncio.create_task(hall.dispatcher.run())
        await asyncio.sleep(1)
        again.cancel()
        return hall

    assert run_virtual(main()).shape == [(0.2, "HIGH", 1)]
