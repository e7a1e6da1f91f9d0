"""A service that fails is left alone, and tried again by one call at a time (CASES 46)."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batching.engine.breaker import (
    FIRST_PAUSE_S,
    LONGEST_ASKED_S,
    LONGEST_PAUSE_S,
    THRESHOLD,
    Breaker,
)
from batching.engine.errors import UpstreamError, UpstreamRejectedKey, UpstreamUnavailable
from batching.engine.lanes import Priority
from batching.engine.model import CallFailed, Piece, Remedy
from batching.engine.slots import CallSlots
from batching.engine.tests.scripted import Bench, Step, whole
from batching.engine.tests.test_runner import overloaded
from batching.engine.tests.traces import HIGH
from batching.engine.tests.virtual import run_virtual


def open_breaker(*, now: float = 0.0) -> Breaker:
    breaker = Breaker()
    for _ in range(THRESHOLD):
        breaker.fail(now)
    return breaker


def test_opens_at_the_last_of_enough_failures_in_a_row() -> None:
    breaker = Breaker()
    for _ in range(THRESHOLD - 1):
        breaker.fail(0.0)
        assert breaker.allows(0.0, running=15)
        assert not breaker.is_open
    breaker.fail(0.0)
    assert breaker.is_open
    assert not breaker.allows(0.0, running=0)


def test_a_reply_in_between_starts_the_count_anew() -> None:
    breaker = Breaker()
    for _ in range(THRESHOLD - 1):
        breaker.fail(0.0)
    breaker.succeed()
    for _ in range(THRESHOLD - 1):
        breaker.fail(0.0)
    assert not breaker.is_open


def test_after_the_pause_one_call_may_start_and_only_alone() -> None:
    breaker = open_breaker()
    assert breaker.paused_s(0.25) == FIRST_PAUSE_S - 0.25
    assert not breaker.allows(FIRST_PAUSE_S - 0.001, running=0)
    assert breaker.allows(FIRST_PAUSE_S, running=0)
    assert not breaker.allows(FIRST_PAUSE_S, running=1)
    assert breaker.paused_s(FIRST_PAUSE_S) == 0.0


def test_each_failed_probe_doubles_the_pause_up_to_the_longest() -> None:
    breaker, now, pauses = open_breaker(), 0.0, []
    for _ in range(8):
        pauses.append(breaker.paused_s(now))
        now += pauses[-1]
        breaker.fail(now)
    assert pauses == [1, 2, 4, 8, 16, 30, 30, 30]
    assert breaker.probes == 8
    breaker.succeed()
    assert (breaker.probes, breaker.is_open) == (0, False)
    assert pauses[-1] == LONGEST_PAUSE_S


def test_failure_of_a_call_from_before_the_opening_changes_nothing() -> None:
    breaker = open_breaker()
    breaker.fail(0.5)
    assert breaker.probes == 0
    assert breaker.paused_s(0.5) == FIRST_PAUSE_S - 0.5


@pytest.mark.parametrize(
    ("asked", "pause"), [(None, 1.0), (0.2, 1.0), (12.0, 12.0), (3600.0, 60.0)]
)
def test_pause_is_as_long_as_the_service_asks_within_reason(
    asked: float | None, pause: float
) -> None:
    breaker = Breaker()
    for _ in range(THRESHOLD):
        breaker.fail(0.0, asked_s=asked)
    assert breaker.paused_s(0.0) == pause
    assert LONGEST_ASKED_S == 60.0


@given(st.lists(st.sampled_from(["start", "fail", "reply", "wait"]), max_size=80))
def test_while_it_is_open_calls_run_one_at_a_time(events: list[str]) -> None:
    async def main() -> None:
        now = 0.0
        slots = CallSlots(16, clock=lambda: now)
        since_open = 0
        for event in events + ["fail"] * THRESHOLD + events:
            if event == "wait":
                now += 0.7
            elif event == "start" and slots.may_start(Priority.HIGH):
                slots.take(Priority.HIGH)
                since_open += slots.breaker.is_open
            elif event != "start" and slots.running:
                if event == "fail":
                    slots.report_failure(asked_s=None)
                else:
                    slots.report_reply(0.1)
                slots.release(Priority.HIGH)
                since_open = max(0, since_open - 1)
            if not slots.breaker.is_open:
                since_open = 0
            assert since_open <= 1

    asyncio.run(main())


def test_of_twenty_that_wait_exactly_one_probes_a_recovering_service() -> None:
    async def main() -> list[int]:
        slots = CallSlots(16, clock=asyncio.get_running_loop().time)
        for _ in range(THRESHOLD):
            slots.report_failure(asked_s=None)
        running: list[int] = []

        async def call() -> None:
            await slots.acquire(HIGH, target=0)
            running.append(slots.running)
            await asyncio.sleep(5)
            slots.report_reply(5.0)
            slots.release(HIGH)

        calls = [asyncio.create_task(call()) for _ in range(20)]
        await asyncio.sleep(FIRST_PAUSE_S + 4.9)
        assert len(running) == 1
        await asyncio.gather(*calls)
        assert len(running) == 20
        return running

    assert max(run_virtual(main())) == 16


def test_failed_probe_refuses_the_other_retries_and_the_next_waits_longer() -> None:
    async def main() -> tuple[list[float], list[float]]:
        loop = asyncio.get_running_loop()
        began, starts, refused = loop.time(), [], []
        slots = CallSlots(16, clock=loop.time)
        for _ in range(THRESHOLD):
            slots.report_failure(asked_s=None)

        async def call() -> None:
            try:
                await slots.acquire(HIGH, target=0)
            except UpstreamUnavailable as error:
                refused.append(error.retry_after_s or 0.0)
                return
            starts.append(round(loop.time() - began, 3))
            slots.report_failure(asked_s=None)
            slots.release(HIGH)

        for _ in range(4):
            await asyncio.gather(*(call() for _ in range(3)))
        assert slots.running == 0
        return starts, refused

    starts, refused = run_virtual(main())
    assert starts == [1, 3, 7, 15]
    assert [round(wait) for wait in refused] == [2, 2, 4, 4, 8, 8, 16, 16]


def test_batches_that_wait_for_a_retry_fail_with_the_probe() -> None:
    async def main() -> Bench:
        bench = Bench(lambda n, prompt: [overloaded()], wait_s=30.0)
        for _ in range(THRESHOLD - 1):
            bench.slots.report_failure(asked_s=None)
        other = asyncio.create_task(probe_in_vain(bench.slots))
        bench.slots.take(HIGH)
        await bench.runner.run(bench.batch)
        await other
        return bench

    async def probe_in_vain(slots: CallSlots) -> None:
        await asyncio.sleep(FIRST_PAUSE_S - 0.001)
        await slots.acquire(HIGH, target=0)
        await asyncio.sleep(0.5)
        slots.report_failure(asked_s=None)
        slots.release(HIGH)

    bench = run_virtual(main())
    assert set(bench.codes.values()) == {"upstream_unavailable"}
    assert len(bench.model.calls) == 1
    assert round(bench.elapsed(0), 1) == 1.5
    assert round(bench.journal.errors[0].retry_after_s or 0) == 2


def test_retries_wait_for_the_pause_and_are_answered_after_it() -> None:
    async def main() -> Bench:
        bench = Bench(lambda n, prompt: [overloaded()] if n == 1 else whole(prompt))
        for _ in range(THRESHOLD - 1):
            bench.slots.report_failure(asked_s=9.0)
        return await bench.run()

    bench = run_virtual(main())
    assert len(bench.journal.answers) == 6
    assert bench.model.times[1] - bench.model.times[0] >= FIRST_PAUSE_S
    assert not bench.slots.breaker.is_open


def test_retry_whose_deadline_ends_before_the_pause_fails_at_once() -> None:
    async def main() -> Bench:
        bench = Bench(lambda n, prompt: [overloaded(retry_after_s=40.0)], wait_s=30.0)
        for _ in range(THRESHOLD - 1):
            bench.slots.report_failure(asked_s=None)
        bench.slots.take(HIGH)
        await bench.runner.run(bench.batch)
        return bench

    bench = run_virtual(main())
    assert set(bench.codes.values()) == {"upstream_unavailable"}
    assert bench.elapsed(0) == 0
    assert bench.journal.errors[0].retry_after_s >= 40.0


def test_retry_that_gets_no_turn_within_its_deadline_ends_there() -> None:
    async def main() -> Bench:
        bench = Bench(lambda n, prompt: [0.1, overloaded()], wait_s=3.0, slots=1)
        bench.slots.take(HIGH)
        other = asyncio.create_task(bench.slots.acquire(HIGH, target=0))
        await bench.runner.run(bench.batch)
        assert other.done()
        assert bench.slots.running == 1
        return bench

    bench = run_virtual(main())
    assert set(bench.codes.values()) == {"timeout"}
    assert {round(bench.elapsed(index), 6) for index in range(6)} == {3.0}
    assert len(bench.model.calls) == 1


@pytest.mark.parametrize(
    ("reply", "effect"),
    [
        pytest.param([overloaded()], "counts", id="an overloaded service"),
        pytest.param(
            [Piece("{"), overloaded()], "ends the row", id="text came before it broke off"
        ),
        pytest.param(
            [CallFailed(UpstreamRejectedKey(), Remedy.FAIL)], "ends the row", id="a refused key"
        ),
        pytest.param(
            [CallFailed(UpstreamError("400"), Remedy.SINGLES)],
            "ends the row",
            id="a refused prompt",
        ),
        pytest.param([60.0], "tells nothing", id="nothing came, and nobody waits any more"),
    ],
)
def test_what_counts_as_a_failure_of_the_service(reply: list[Step], effect: str) -> None:
    async def main() -> int:
        bench = Bench(lambda n, prompt: reply, count=1, wait_s=0.2)
        bench.slots.take(HIGH)
        bench.slots.report_failure(asked_s=None)
        await bench.runner.run(bench.batch)
        return bench.slots.breaker.failures

    effects = {0: "ends the row", 1: "tells nothing", 2: "counts"}
    assert effects[run_virtual(main())] == effect


def test_mean_call_time_comes_from_calls_that_wrote_text() -> None:
    async def main() -> float | None:
        bench = Bench(lambda n, prompt: [overloaded()] if n == 1 else [2.0, *whole(prompt)])
        assert bench.slots.capacity.call_s is None
        await bench.run()
        return bench.slots.capacity.call_s

    assert run_virtual(main()) == 2.0
