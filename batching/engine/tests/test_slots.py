import asyncio

import pytest

from batching.engine.lanes import Priority
from batching.engine.slots import CallSlots
from batching.engine.tests.scripted import count_startable
from batching.engine.tests.traces import HIGH, LOW, MEDIUM
from batching.engine.tests.virtual_loop import run_virtual


@pytest.mark.parametrize(("total", "reserve"), [(1, 0), (2, 1), (4, 1), (6, 1), (8, 2), (16, 4)])
def test_a_quarter_of_the_slots_is_kept_for_high_but_never_all(total: int, reserve: int) -> None:
    slots = CallSlots(total)
    assert slots.reserve == reserve
    started = 0
    while slots.may_start(LOW):
        slots.take(LOW)
        started += 1
    assert started == total - reserve
    assert not slots.may_start(MEDIUM)
    assert slots.may_start(HIGH) == (reserve > 0)


def test_high_may_use_every_slot() -> None:
    slots = CallSlots(4)
    for _ in range(4):
        slots.take(HIGH)
    assert slots.running == 4
    with pytest.raises(RuntimeError, match=r"^no call slot is free$"):
        slots.take(HIGH)
    slots.release(HIGH)
    assert slots.may_start(LOW)


def test_release_notifies_that_a_slot_is_free() -> None:
    calls = []
    slots = CallSlots(1, on_free=lambda: calls.append(1))
    slots.take(HIGH)
    slots.release(HIGH)
    assert calls == [1]


def test_waiting_retries_are_served_by_target_and_before_new_batches() -> None:
    async def main() -> list[str]:
        slots, served = CallSlots(1), []
        slots.take(HIGH)

        async def wait(name: str, target: float) -> None:
            await slots.acquire(HIGH, target=target)
            served.append(name)
            slots.release(HIGH)

        tasks = [asyncio.create_task(wait("late", 9)), asyncio.create_task(wait("early", 1))]
        await asyncio.sleep(1)
        slots.release(HIGH)
        assert not slots.may_start(HIGH), "the slot went to a retry"
        await asyncio.gather(*tasks)
        assert slots.running == 0
        return served

    assert run_virtual(main()) == ["early", "late"]


def test_low_retry_waits_for_a_shared_slot_while_high_starts() -> None:
    async def main() -> None:
        slots = CallSlots(2)
        slots.take(LOW)
        low = asyncio.create_task(slots.acquire(LOW, target=0))
        await asyncio.sleep(1)
        await slots.acquire(HIGH, target=5)
        slots.release(HIGH)
        assert not low.done()
        slots.release(LOW)
        await low
        assert slots.running == 1

    run_virtual(main())


def test_high_retry_gets_the_slot_that_is_kept_for_high() -> None:
    async def main() -> None:
        slots = CallSlots(2)
        slots.take(LOW)
        slots.take(HIGH)
        low = asyncio.create_task(slots.acquire(LOW, target=0))
        high = asyncio.create_task(slots.acquire(HIGH, target=1))
        await asyncio.sleep(1)
        slots.release(HIGH)
        await asyncio.sleep(1)
        assert high.done()
        assert not low.done()
        low.cancel()

    run_virtual(main())


@pytest.mark.parametrize("priority", [HIGH, LOW])
def test_cancelled_retry_releases_a_slot_that_was_just_assigned_to_it(priority: Priority) -> None:
    async def main() -> None:
        slots = CallSlots(4)
        while slots.may_start(priority):
            slots.take(priority)
        busy = slots.running
        retry = asyncio.create_task(slots.acquire(priority, target=0))
        await asyncio.sleep(1)
        slots.release(priority)
        retry.cancel()
        await asyncio.wait([retry])
        assert slots.running == busy - 1
        while slots.running > 0:
            slots.release(priority)
        assert count_startable(slots, LOW) == 3
        assert count_startable(slots, HIGH) == 4

    run_virtual(main())


def test_retry_that_was_cancelled_before_its_turn_is_skipped() -> None:
    async def main() -> None:
        slots = CallSlots(1)
        slots.take(HIGH)
        gone = asyncio.create_task(slots.acquire(HIGH, target=0))
        retry = asyncio.create_task(slots.acquire(HIGH, target=1))
        await asyncio.sleep(1)
        gone.cancel()
        slots.release(HIGH)
        await retry
        assert gone.cancelled()
        assert slots.running == 1

    run_virtual(main())
