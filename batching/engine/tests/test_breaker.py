"""Tests that a failing service is called no more for a while, and then by one call at a time."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batching.engine.breaker import (
    FIRST_PAUSE_S,
    MAX_PAUSE_S,
    MAX_REQUESTED_PAUSE_S,
    MIN_FAILING_S,
    MIN_FAILURES,
    Breaker,
)
from batching.engine.errors import UpstreamError, UpstreamRejectedKey, UpstreamUnavailable
from batching.engine.model import CallFailed, Piece, Remedy
from batching.engine.slots import CallSlots
from batching.engine.tests.scripted import Bench, Step, overloaded, whole
from batching.engine.tests.traces import HIGH, LOW
from batching.engine.tests.virtual_loop import run_virtual


def open_breaker(*, retry_after_s: float | None = None) -> Breaker:
    """A breaker that opened at the time 0."""
    breaker = Breaker()
    for now in [-MIN_FAILING_S] * (MIN_FAILURES - 1) + [0.0]:
        breaker.fail(now, retry_after_s=retry_after_s)
    assert breaker.is_open
    return breaker


async def break_down(slots: CallSlots, *, retry_after_s: float | None = None) -> None:
    for _ in range(MIN_FAILURES - 1):
        slots.report_failure(retry_after_s=retry_after_s)
    await asyncio.sleep(MIN_FAILING_S)
    slots.report_failure(retry_after_s=retry_after_s)
    assert slots.breaker.is_open


def make_slots(total: int = 16) -> CallSlots:
    return CallSlots(total, clock=asyncio.get_running_loop().time)


def test_opens_after_enough_failures_without_a_reply_for_long_enough() -> None:
    breaker = Breaker()
    for _ in range(3 * MIN_FAILURES):
        breaker.fail(0.0)
    assert not breaker.is_open, "all failures came at the same time"
    breaker.fail(MIN_FAILING_S - 0.001)
    assert breaker.allows(MIN_FAILING_S)
    breaker.fail(MIN_FAILING_S)
    assert breaker.is_open
    assert not breaker.allows(MIN_FAILING_S)


def test_few_failures_do_not_open_it_however_long_they_take() -> None:
    breaker = Breaker()
    for number in range(MIN_FAILURES - 1):
        breaker.fail(100.0 * number)
    assert not breaker.is_open


def test_reply_resets_the_count_and_the_time() -> None:
    breaker = Breaker()
    for _ in range(MIN_FAILURES):
        breaker.fail(0.0)
    breaker.succeed()
    for _ in range(MIN_FAILURES):
        breaker.fail(MIN_FAILING_S)
    assert not breaker.is_open
    breaker.fail(2 * MIN_FAILING_S)
    assert breaker.is_open


def test_after_the_pause_one_call_may_start_and_only_one() -> None:
    breaker = open_breaker()
    assert breaker.paused_s(0.25) == FIRST_PAUSE_S - 0.25
    assert not breaker.allows(FIRST_PAUSE_S - 0.001)
    assert breaker.allows(FIRST_PAUSE_S)
    assert breaker.begin()
    assert not breaker.allows(FIRST_PAUSE_S)
    breaker.end_probe()
    assert breaker.allows(FIRST_PAUSE_S), "the probe ended without a result"
    assert not Breaker().begin()


def test_each_failed_probe_doubles_the_pause_up_to_the_longest() -> None:
    breaker, now, pauses = open_breaker(), 0.0, []
    for _ in range(8):
        pauses.append(breaker.paused_s(now))
        now += pauses[-1]
        breaker.begin()
        breaker.fail(now, probe=True)
        breaker.end_probe()
    assert pauses == [1, 2, 4, 8, 16, 30, 30, 30]
    assert pauses[-1] == MAX_PAUSE_S
    assert breaker.probes == 8
    breaker.succeed()
    assert (breaker.probes, breaker.is_open) == (0, False)


@pytest.mark.parametrize("now", [0.5, FIRST_PAUSE_S, 5.0])
def test_failure_of_a_call_from_before_the_opening_changes_nothing(now: float) -> None:
    breaker = open_breaker()
    breaker.fail(now)
    assert (breaker.probes, breaker.failures) == (0, MIN_FAILURES)
    assert breaker.paused_s(now) == max(0.0, FIRST_PAUSE_S - now)


@pytest.mark.parametrize(
    ("asked", "pause"), [(None, 1.0), (0.2, 1.0), (12.0, 12.0), (3600.0, 60.0)]
)
def test_pause_is_as_long_as_the_service_requests_up_to_a_bound(
    asked: float | None, pause: float
) -> None:
    assert open_breaker(retry_after_s=asked).paused_s(0.0) == pause
    assert MAX_REQUESTED_PAUSE_S == 60.0


EVENTS = st.lists(st.sampled_from(["start", "fail", "reply", "nothing", "wait"]), max_size=80)


@given(EVENTS)
def test_while_it_is_open_probes_run_one_at_a_time(events: list[str]) -> None:
    async def main() -> None:
        slots, probes, old = make_slots(), 0, 2
        for _ in range(old):
            slots.take(HIGH)
        await break_down(slots)
        for event in events:
            if event == "wait":
                await asyncio.sleep(0.7)
            elif event == "start" and slots.may_start(HIGH):
                assert slots.take(HIGH) == slots.breaker.is_open
                probes += 1
                assert probes == 1
            elif event != "start" and probes:
                if event == "fail":
                    slots.report_failure(retry_after_s=None, probe=True)
                elif event == "reply":
                    slots.report_reply()
                slots.release(HIGH, probe=True)
                probes = 0
            if not slots.breaker.is_open:
                return

    run_virtual(main())


def test_one_of_twenty_waiting_calls_probes_a_recovering_service() -> None:
    async def main() -> list[int]:
        slots = make_slots()
        await break_down(slots)
        running: list[int] = []

        async def call() -> None:
            probe = await slots.acquire(HIGH, target=0)
            running.append(slots.running)
            await asyncio.sleep(5)
            slots.report_reply()
            slots.release(HIGH, probe=probe)

        calls = [asyncio.create_task(call()) for _ in range(20)]
        await asyncio.sleep(FIRST_PAUSE_S + 4.9)
        assert len(running) == 1
        await asyncio.gather(*calls)
        assert slots.running == 0
        return running

    running = run_virtual(main())
    assert len(running) == 20
    assert max(running) == 16


def test_long_call_from_before_the_opening_does_not_hold_up_the_probe() -> None:
    async def main() -> float:
        slots = make_slots()
        slots.take(LOW)  # This call never ends.
        await break_down(slots)
        began = asyncio.get_running_loop().time()
        assert await slots.acquire(HIGH, target=0)
        return asyncio.get_running_loop().time() - began

    assert run_virtual(main()) == FIRST_PAUSE_S


def test_failed_probe_refuses_the_other_retries_and_the_next_waits_longer() -> None:
    async def main() -> tuple[list[float], list[float]]:
        loop, slots = asyncio.get_running_loop(), make_slots()
        starts: list[float] = []
        refused: list[float] = []
        await break_down(slots)
        began = loop.time()

        async def call() -> None:
            try:
                probe = await slots.acquire(HIGH, target=0)
            except UpstreamUnavailable as error:
                refused.append(error.retry_after_s or 0.0)
                return
            starts.append(round(loop.time() - began, 3))
            slots.report_failure(retry_after_s=None, probe=probe)
            slots.release(HIGH, probe=probe)

        for _ in range(4):
            await asyncio.gather(*(call() for _ in range(3)))
        assert slots.running == 0
        return starts, refused

    starts, refused = run_virtual(main())
    assert starts == [1, 3, 7, 15]
    assert [round(wait) for wait in refused] == [2, 2, 4, 4, 8, 8, 16, 16]


def test_batches_that_wait_for_a_retry_fail_with_the_probe() -> None:
    async def probe_in_vain(slots: CallSlots) -> None:
        await asyncio.sleep(FIRST_PAUSE_S - 0.001)
        probe = await slots.acquire(HIGH, target=0)
        await asyncio.sleep(0.5)
        slots.report_failure(retry_after_s=None, probe=probe)
        slots.release(HIGH, probe=probe)

    async def main() -> Bench:
        bench = Bench(lambda n, prompt: [MIN_FAILING_S, overloaded()], wait_s=30.0)
        for _ in range(MIN_FAILURES - 1):
            bench.slots.report_failure(retry_after_s=None)
        bench.slots.take(HIGH)
        running = asyncio.create_task(bench.runner.run(bench.batch))
        await asyncio.sleep(MIN_FAILING_S)
        await asyncio.gather(running, probe_in_vain(bench.slots))
        return bench

    bench = run_virtual(main())
    assert set(bench.codes.values()) == {"upstream_unavailable"}
    assert len(bench.model.calls) == 1
    assert round(bench.elapsed(0), 1) == MIN_FAILING_S + 1.5
    assert round(bench.recorder.errors[0].retry_after_s or 0) == 2


def run_broken(script: object, **kwargs: object) -> Bench:
    """Runs a batch whose own failure opens the breaker."""

    async def main() -> Bench:
        bench = Bench(script, **kwargs)
        for _ in range(MIN_FAILURES - 1):
            bench.slots.report_failure(retry_after_s=None)
        bench.slots.take(HIGH)
        await bench.runner.run(bench.batch)
        assert bench.slots.running == 0
        return bench

    return run_virtual(main())


def test_retries_wait_for_the_pause_and_are_answered_after_it() -> None:
    bench = run_broken(
        lambda n, prompt: (
            [MIN_FAILING_S, overloaded(retry_after_s=9.0)] if n == 1 else whole(prompt)
        )
    )
    assert len(bench.recorder.answers) == 6
    assert bench.model.times[1] - bench.model.times[0] >= MIN_FAILING_S + 9.0
    assert not bench.slots.breaker.is_open


def test_retry_whose_deadline_ends_before_the_pause_fails_at_once() -> None:
    bench = run_broken(
        lambda n, prompt: [MIN_FAILING_S, overloaded(retry_after_s=40.0)], wait_s=30.0
    )
    assert set(bench.codes.values()) == {"upstream_unavailable"}
    assert bench.elapsed(0) == MIN_FAILING_S
    assert (bench.recorder.errors[0].retry_after_s or 0) >= 40.0


def test_retry_that_gets_no_slot_before_its_deadline_times_out() -> None:
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


HANG = [60.0]
UNREADABLE = CallFailed(UpstreamError("html"), Remedy.ALONE, perhaps_billed=True)
BROKE_OFF = CallFailed(UpstreamUnavailable("reset"), Remedy.TOGETHER, perhaps_billed=True)


@pytest.mark.parametrize(
    ("reply", "probe", "effect"),
    [
        pytest.param([overloaded()], False, "counts", id="a refusal"),
        pytest.param([overloaded()], True, "counts", id="a refused probe"),
        pytest.param([BROKE_OFF], False, "changes nothing", id="a broken stream"),
        pytest.param([BROKE_OFF], True, "counts", id="a broken stream of a probe"),
        pytest.param([UNREADABLE], False, "changes nothing", id="an unreadable reply"),
        pytest.param([UNREADABLE], True, "counts", id="an unreadable reply to a probe"),
        pytest.param([Piece("{"), overloaded()], False, "resets the count", id="text came before"),
        pytest.param(
            [CallFailed(UpstreamRejectedKey(), Remedy.FAIL)],
            False,
            "resets the count",
            id="bad key",
        ),
        pytest.param(
            [CallFailed(UpstreamError("400"), Remedy.ALONE_ONCE)],
            False,
            "resets the count",
            id="400",
        ),
        pytest.param(HANG, False, "changes nothing", id="nothing came in time"),
    ],
)
def test_breaker_counts_only_failures_of_the_service(
    reply: list[Step], probe: bool, effect: str
) -> None:
    async def main() -> int:
        bench = Bench(lambda n, prompt: reply, count=1, wait_s=0.2)
        bench.slots.take(HIGH)
        bench.slots.report_failure(retry_after_s=None)
        batch = bench.batch
        object.__setattr__(batch, "probe", probe)
        await bench.runner.run(batch)
        return bench.slots.breaker.failures

    effects = {0: "resets the count", 1: "changes nothing", 2: "counts"}
    assert effects[run_virtual(main())] == effect


def test_mean_duration_of_each_lane_counts_only_calls_that_wrote_text() -> None:
    async def main() -> tuple[float | None, ...]:
        bench = Bench(lambda n, prompt: [overloaded()] if n == 1 else [2.0, *whole(prompt)])
        assert bench.slots.capacity.call_s == (None, None, None)
        await bench.run()
        return bench.slots.capacity.call_s

    assert run_virtual(main()) == (None, None, 2.0)


def test_reply_that_never_ends_after_its_last_answer_is_abandoned() -> None:
    async def main() -> float:
        bench = Bench(lambda n, prompt: [*whole(prompt), *[4.0, Piece(" ")] * 500])
        await bench.run()
        return asyncio.get_running_loop().time() - bench.began

    assert run_virtual(main()) < 10
