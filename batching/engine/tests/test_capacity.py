"""Tests of the estimated wait, with numbers that were calculated by hand."""

import pytest

from batching.engine.capacity import Capacity, add_capacities, reserve_for_high, update_mean
from batching.engine.tests.traces import HIGH, LOW, MEDIUM, RULES

FOUR = Capacity(slots=4, reserve=1, call_s=(30.0, 20.0, 10.0))


@pytest.mark.parametrize(
    ("ahead", "seconds"), [(0, 10.2), (23, 10.2), (24, 20.2), (47, 20.2), (48, 30.2)]
)
def test_high_may_use_every_slot_in_each_round(ahead: int, seconds: float) -> None:
    assert FOUR.estimate_s(ahead, RULES[HIGH]) == pytest.approx(seconds)


@pytest.mark.parametrize(("ahead", "seconds"), [(0, 21.0), (11, 21.0), (12, 41.0), (24, 61.0)])
def test_other_lanes_use_only_the_slots_that_are_not_reserved(ahead: int, seconds: float) -> None:
    assert FOUR.estimate_s(ahead, RULES[MEDIUM]) == pytest.approx(seconds)
    assert FOUR.estimate_s(ahead, RULES[LOW]) == pytest.approx(4 + 1.5 * (seconds - 1))


def test_estimate_begins_with_the_longer_of_pause_and_window() -> None:
    paused = Capacity(slots=4, reserve=1, call_s=(1.0, 1.0, 1.0), paused_s=7.0)
    assert paused.estimate_s(0, RULES[LOW]) == 8.0
    assert paused.estimate_s(0, RULES[LOW], window_s=9.0) == 10.0
    assert FOUR.estimate_s(0, RULES[HIGH], window_s=0.0) == 10.0


def test_estimate_without_a_measured_call_and_without_a_free_slot() -> None:
    assert Capacity(4, 1).estimate_s(1000, RULES[HIGH]) == 0.2
    assert Capacity(4, 1).call_s == (None, None, None)
    all_reserved = Capacity(1, 1, call_s=(1.0, 1.0, 1.0))
    assert all_reserved.estimate_s(4, RULES[LOW]) == 6.0


def test_capacities_of_several_workers_are_added() -> None:
    one = Capacity(16, 4, call_s=(None, 2.0, 1.0), paused_s=30.0, down=True)
    two = Capacity(8, 2, call_s=(None, None, 3.0), paused_s=5.0, down=True)
    assert add_capacities([one, two]) == Capacity(24, 6, (None, 2.0, 2.0), paused_s=5.0, down=True)
    assert add_capacities([one, Capacity(1, 0)]) == Capacity(17, 4, (None, 2.0, 1.0))
    assert add_capacities([]) is None


def test_newest_duration_has_a_weight_of_one_fifth() -> None:
    assert update_mean(None, 10.0) == 10.0
    assert update_mean(10.0, 20.0) == 12.0
    assert update_mean(10.0, 5.0) == 9.0


def test_reserve_is_a_quarter_at_least_one_and_never_all() -> None:
    assert [reserve_for_high(n) for n in (1, 2, 4, 7, 8, 16)] == [0, 1, 1, 1, 2, 4]
