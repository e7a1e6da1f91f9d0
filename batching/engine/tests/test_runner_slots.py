"""Tests that the further calls of a batch wait for call slots as first calls do."""

import asyncio
from collections.abc import Sequence

import pytest

from batching.engine.lanes import Priority
from batching.engine.model import Piece
from batching.engine.prompt import CombinedPrompt
from batching.engine.tests.scripted import Bench, Step, count_startable, whole
from batching.engine.tests.virtual_loop import run_virtual


def no_json(n: int, prompt: CombinedPrompt) -> Sequence[Step]:
    """The first call returns no usable answer, the others do."""
    return [Piece("no json", finish_reason="STOP")] if n == 1 else whole(prompt)


def test_single_calls_wait_for_slots() -> None:
    async def main() -> Bench:
        bench = Bench(lambda n, p: [1.0, *no_json(n, p)])
        for _ in range(14):
            bench.slots.take(Priority.HIGH)
        task = asyncio.create_task(bench.runner.run(bench.batch))
        bench.slots.take(Priority.HIGH)
        await task
        assert bench.slots.running == 14
        return bench

    bench = run_virtual(main())
    assert len(bench.recorder.answers) == 6
    assert bench.model.most_running == 2


def test_single_calls_are_made_even_if_little_time_is_left() -> None:
    async def main() -> Bench:
        return await Bench(no_json, wait_s=0.5).run()

    bench = run_virtual(main())
    assert len(bench.recorder.answers) == 6


def test_retry_of_high_may_use_the_slots_that_are_kept_for_high() -> None:
    async def main() -> Bench:
        bench = Bench(no_json, count=1)
        while bench.slots.may_start(Priority.LOW):
            bench.slots.take(Priority.LOW)
        bench.slots.take(Priority.HIGH)
        await bench.runner.run(bench.batch)
        return bench

    bench = run_virtual(main())
    assert bench.elapsed(0) == 0
    assert bench.slots.running == 12


def test_retry_with_an_earlier_target_goes_before_an_older_one() -> None:
    order: list[str] = []

    def script(n: int, prompt: CombinedPrompt) -> Sequence[Step]:
        order.append(f"call {n}")
        return no_json(n, prompt)

    async def main() -> None:
        bench = Bench(script, count=1, slots=1)
        bench.slots.take(Priority.HIGH)
        first = asyncio.create_task(bench.slots.acquire(Priority.HIGH, target=-1.0))
        later = asyncio.create_task(bench.slots.acquire(Priority.HIGH, target=bench.began + 9))
        later.add_done_callback(lambda _: order.append("later"))
        run = asyncio.create_task(bench.runner.run(bench.batch))
        await first
        await asyncio.sleep(1)
        bench.slots.release(Priority.HIGH)
        await asyncio.gather(run, later)

    run_virtual(main())
    assert order == ["call 1", "call 2", "later"]


@pytest.mark.parametrize("wait_s", [3.0, 5.0])
def test_item_whose_deadline_passes_before_its_retry_gets_a_timeout(wait_s: float) -> None:
    async def main() -> Bench:
        bench = Bench(no_json, count=1, wait_s=wait_s, slots=2)
        bench.slots.take(Priority.HIGH)
        bench.slots.take(Priority.HIGH)
        task = asyncio.create_task(bench.runner.run(bench.batch))
        # Another call takes the only slot as soon as it is free, and keeps it for too long.
        other = asyncio.create_task(bench.slots.acquire(Priority.HIGH, target=-1.0))
        await other
        await asyncio.sleep(5)
        bench.slots.release(Priority.HIGH)
        await task
        return bench

    bench = run_virtual(main())
    assert bench.codes == {0: "timeout"}
    assert bench.model.sizes == [1]
    assert bench.recorder.starts == []
    assert bench.slots.running == 1
    bench.slots.release(Priority.HIGH)
    assert count_startable(bench.slots, Priority.LOW) == 1
