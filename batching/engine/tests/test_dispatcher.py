"""Tests that batches leave exactly when they are due, are full, or get a free slot."""

import asyncio
import random
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from batching.engine.dispatcher import Dispatcher
from batching.engine.items import QueuedItem
from batching.engine.planner import Batch, Planner
from batching.engine.tests.traces import HIGH, LOW, MEDIUM, RULES, rules_with
from batching.engine.tests.virtual_loop import run_virtual


class Scene:
    """A dispatcher whose batches take `call_s` each."""

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


def play(body: Callable[[Scene], Coroutine[Any, Any, None]], **kwargs: Any) -> Scene:
    async def main() -> Scene:
        scene = Scene(**kwargs)
        loop = asyncio.create_task(scene.dispatcher.run())
        await body(scene)
        loop.cancel()
        await asyncio.wait([loop])
        return scene

    return run_virtual(main())


def test_batches_leave_exactly_at_their_due_time() -> None:
    async def body(scene: Scene) -> None:
        rng = random.Random(4)
        for _ in range(1000):
            await asyncio.sleep(rng.expovariate(40))
            scene.push(rng.choice([HIGH, MEDIUM, LOW]))
        await asyncio.sleep(5)

    scene = play(body)
    assert sum(len(batch.items) for _, batch in scene.left) == 1000
    for at, batch in scene.left:
        due = min(item.due for item in batch.items) - scene.began
        full = len(batch.items) == RULES[batch.priority].max_batch
        assert at == pytest.approx(due, abs=1e-6) or (full and at <= due)


def test_item_that_arrives_when_the_window_ends_is_in_exactly_one_batch() -> None:
    async def body(scene: Scene) -> None:
        scene.push()
        asyncio.get_running_loop().call_later(0.2, scene.push)
        await asyncio.sleep(1)

    scene = play(body)
    ids = [item.id for _, batch in scene.left for item in batch.items]
    assert sorted(ids) == [1, 2]


def test_batch_is_formed_only_when_a_slot_is_free() -> None:
    async def body(scene: Scene) -> None:
        scene.push()
        await asyncio.sleep(0.3)
        assert scene.shape == [(0.2, "HIGH", 1)]
        scene.push()
        await asyncio.sleep(1)
        scene.push(count=8)
        await asyncio.sleep(20)

    scene = play(body, slots=1, call_s=5.0)
    assert scene.shape == [(0.2, "HIGH", 1), (5.2, "HIGH", 6), (10.2, "HIGH", 3)]


def test_request_expires_at_its_deadline_although_the_slots_are_busy() -> None:
    async def body(scene: Scene) -> None:
        scene.push()
        await asyncio.sleep(0.5)
        scene.push(wait_s=2.0)
        await asyncio.sleep(10)

    scene = play(body, slots=1, call_s=10.0)
    assert scene.expired == [(pytest.approx(2.5), 2)]
    assert scene.shape == [(0.2, "HIGH", 1)]


def test_low_calls_leave_a_slot_for_high() -> None:
    async def body(scene: Scene) -> None:
        scene.push(LOW, count=40)
        await asyncio.sleep(1)
        scene.push(HIGH, count=6)
        await asyncio.sleep(1)

    scene = play(body, slots=4, call_s=60.0)
    assert scene.shape == [(0.0, "LOW", 4)] * 3 + [(1.0, "HIGH", 6)]


def test_changed_rules_wake_a_batch_that_they_make_full() -> None:
    async def body(scene: Scene) -> None:
        scene.push(LOW, count=3)
        await asyncio.sleep(1)
        scene.dispatcher.configure(rules_with(LOW, max_batch=3))
        await asyncio.sleep(1)

    assert play(body).shape == [(1.0, "LOW", 3)]


def test_loop_without_items_sleeps_until_it_is_woken() -> None:
    async def body(scene: Scene) -> None:
        assert scene.dispatcher.alive_at == scene.began
        await asyncio.sleep(0.1)
        first = scene.dispatcher.alive_at
        await asyncio.sleep(3600)
        assert scene.dispatcher.alive_at == first
        scene.dispatcher.wake()
        await asyncio.sleep(0.1)
        assert scene.dispatcher.alive_at > first

    assert play(body).left == []


def test_closed_dispatcher_keeps_its_items() -> None:
    async def body(scene: Scene) -> None:
        scene.push()
        scene.dispatcher.close()
        scene.push(count=8)
        await asyncio.sleep(5)
        assert len(scene.dispatcher.planner) == 9

    assert play(body).left == []


def test_loop_that_failed_and_runs_again_loses_no_item() -> None:
    async def main() -> Scene:
        scene = Scene()
        scene.push()
        scene.dispatcher._expire = lambda items: 1 / 0
        scene.push(wait_s=0.1)
        with pytest.raises(ZeroDivisionError):
            await scene.dispatcher.run()
        again = asyncio.create_task(scene.dispatcher.run())
        await asyncio.sleep(1)
        again.cancel()
        return scene

    assert run_virtual(main()).shape == [(0.2, "HIGH", 1)]
