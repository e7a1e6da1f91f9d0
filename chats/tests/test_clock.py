"""The estimate of the database's clock follows samples, skew and jumps; nothing here waits."""

from datetime import UTC, datetime

import pytest

from chats.clock import DatabaseClock

START = 1_000_000.0  # on the wall clock, when the monotonic clock shows 0


class Clocks:
    """Both clocks of a process, and a clock that relates them to the database's."""

    def __init__(self, *, skew_s: float = 0.0) -> None:
        self.monotonic = 0.0
        self.ahead = START + skew_s
        self.clock = DatabaseClock(
            wall=lambda: self.monotonic + self.ahead, monotonic=lambda: self.monotonic
        )

    def sample(self, stamp: float, *, took: float = 0.0) -> None:
        self.clock.add_sample(stamp, began=self.monotonic - took)


def at(stamp: float) -> datetime:
    return datetime.fromtimestamp(stamp, UTC)


@pytest.fixture
def clocks() -> Clocks:
    return Clocks()


def test_without_samples_the_wall_clock_is_the_databases(clocks: Clocks) -> None:
    clocks.monotonic = 5.0
    assert clocks.clock.now() == at(START + 5)
    clocks.ahead += 3600
    assert clocks.clock.now() == at(START + 3605)
    assert clocks.clock.skew_s == 0


@pytest.mark.parametrize("skew_s", [-30.0, 30.0])
def test_sample_decides_against_the_wall_clock(skew_s: float) -> None:
    clocks = Clocks(skew_s=skew_s)
    assert clocks.clock.now() == at(START + skew_s)
    clocks.sample(START)
    clocks.monotonic = 2.0
    assert clocks.clock.now() == at(START + 2)
    assert clocks.clock.skew_s == skew_s
    assert clocks.clock.steady_s == float("inf"), "the first sample is no jump"


def test_jump_of_the_wall_clock_changes_only_the_skew(clocks: Clocks) -> None:
    clocks.sample(START)
    clocks.ahead += 3600
    assert clocks.clock.now() == at(START)
    assert clocks.clock.skew_s == 3600


def test_slow_sample_does_not_move_the_estimate(clocks: Clocks) -> None:
    clocks.sample(START)
    clocks.monotonic = 10.0
    clocks.sample(START + 4, took=9.0)
    assert clocks.clock.now() == at(START + 10)


def test_faster_sample_corrects_a_slow_one(clocks: Clocks) -> None:
    clocks.monotonic = 2.0
    clocks.sample(START + 2, took=1.0)
    assert clocks.clock.now() == at(START + 2.5)
    clocks.sample(START + 2, took=0.01)
    assert clocks.clock.now() == at(START + 2.01)
    assert clocks.clock.steady_s == float("inf")


@pytest.mark.parametrize("jump_s", [3600.0, -3600.0])
@pytest.mark.parametrize("sampled", [False, True])
def test_row_keeps_its_age_over_a_jump(clocks: Clocks, jump_s: float, sampled: bool) -> None:
    def read_clock() -> None:
        if sampled:
            clocks.sample(clocks.monotonic + clocks.ahead)

    read_clock()
    clocks.monotonic = 10.0
    row = clocks.clock.now()
    clocks.monotonic = 20.0
    clocks.ahead += jump_s
    read_clock()
    assert clocks.clock.now() == at(START + 20 + jump_s)
    assert clocks.clock.to_monotonic(row) == pytest.approx(10.0)
    clocks.monotonic = 25.0
    later = clocks.clock.now()
    clocks.monotonic = 30.0
    assert clocks.clock.to_monotonic(later) == pytest.approx(25.0)
    assert clocks.clock.steady_s == pytest.approx(10.0)


def test_row_of_the_future_is_as_new_as_possible(clocks: Clocks) -> None:
    clocks.monotonic = 7.0
    assert clocks.clock.to_monotonic(at(START + 3600)) == 7.0


def test_row_from_before_the_start_has_its_age(clocks: Clocks) -> None:
    assert clocks.clock.to_monotonic(at(START - 60)) == pytest.approx(-60.0)


def test_drift_is_no_jump(clocks: Clocks) -> None:
    for _ in range(100):
        clocks.monotonic += 1.0
        clocks.ahead += 0.05
        clocks.clock.now()
    assert clocks.clock.now() == at(START + 105)
    assert clocks.clock.steady_s == float("inf")
