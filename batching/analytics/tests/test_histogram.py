"""Histograms keep percentiles within 5 % of the exact ones."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batching.analytics.histogram import (
    Histogram,
    add_value,
    bucket_of,
    count_values,
    estimate_of,
    merge,
    percentile,
)

PROMISED_ERROR = 0.05
times = st.integers(min_value=0, max_value=2**31)


def histogram_of(values: list[int]) -> Histogram:
    histogram: Histogram = {}
    for value in values:
        add_value(histogram, value)
    return histogram


def exact_percentile(values: list[int], percent: int) -> int:
    return sorted(values)[max(1, math.ceil(percent * len(values) / 100)) - 1]


@given(times)
def test_bucket_estimates_each_value_within_the_promised_error(value):
    assert estimate_of(bucket_of(value)) == pytest.approx(value, rel=PROMISED_ERROR, abs=0)


@given(times, times)
def test_a_larger_value_is_never_in_a_smaller_bucket(one, other):
    small, large = sorted((one, other))
    assert bucket_of(small) <= bucket_of(large)


@given(st.lists(times, min_size=1), st.integers(min_value=0, max_value=100))
def test_percentile_is_within_the_promised_error(values, percent):
    exact = exact_percentile(values, percent)
    assert percentile(histogram_of(values), percent) == pytest.approx(
        exact, rel=PROMISED_ERROR, abs=0
    )


@given(st.lists(times), st.lists(times))
def test_merged_histogram_counts_all_values(some, others):
    merged = histogram_of(some)
    merge(merged, histogram_of(others))
    assert merged == histogram_of(some + others)
    assert count_values(merged) == len(some) + len(others)


def test_merging_does_not_change_the_part():
    part = histogram_of([5])
    merge(histogram_of([5]), part)
    assert part == histogram_of([5])


def test_zero_is_exactly_zero():
    assert percentile(histogram_of([0, 0, 0]), 99) == 0


def test_empty_histogram_has_no_percentile():
    assert percentile({}, 50) is None


def test_an_hour_of_milliseconds_needs_few_buckets():
    assert bucket_of(3_600_000) < 200


def test_a_negative_time_is_refused():
    with pytest.raises(ValueError, match="negative"):
        bucket_of(-1)


@pytest.mark.parametrize(("percent", "exact"), [(0, 1), (7, 7), (50, 50), (99, 99), (100, 100)])
def test_the_rank_is_the_nearest_one(percent, exact):
    assert percentile(histogram_of(list(range(1, 101))), percent) == round(
        estimate_of(bucket_of(exact)), 2
    )
