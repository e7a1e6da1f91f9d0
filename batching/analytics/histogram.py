"""Logarithmic histograms of whole milliseconds: small, mergeable, with bounded relative error.

Bucket 0 holds zeros; bucket i > 0 holds the values in (GROWTH^(i-2), GROWTH^(i-1)]. Each value of
a bucket is within `ERROR` of the bucket's estimate (DDSketch: Masson, Rim and Lee, VLDB 2019).
Keys are text because histograms are stored as JSON.
"""

import math
from collections.abc import Mapping

ERROR = 0.04  # leaves room for rounding below the promised 5 %
GROWTH = (1 + ERROR) / (1 - ERROR)
_LOG_GROWTH = math.log(GROWTH)

Histogram = dict[str, int]


def bucket_of(value: int) -> int:
    if value < 0:
        raise ValueError("A histogram holds no negative values.")
    return 0 if value == 0 else 1 + math.ceil(math.log(value) / _LOG_GROWTH)


def estimate_of(bucket: int) -> float:
    """The value whose error is at most `ERROR` for every value of the bucket."""
    return 0.0 if bucket == 0 else 2 * GROWTH ** (bucket - 1) / (GROWTH + 1)


def add_value(histogram: Histogram, value: int) -> None:
    key = str(bucket_of(value))
    histogram[key] = histogram.get(key, 0) + 1


def merge(total: Histogram, part: Mapping[str, int]) -> None:
    """Adds the counts of `part` to `total`, in place."""
    for key, count in part.items():
        total[key] = total.get(key, 0) + count


def count_values(histogram: Mapping[str, int]) -> int:
    return sum(histogram.values())


def percentile(histogram: Mapping[str, int], percent: int) -> float | None:
    """The nearest-rank percentile, 0 to 100; None for an empty histogram."""
    # Ceiling division of integers: with floats 0.07 * 100 would round up to rank 8.
    rank = max(1, -(-percent * count_values(histogram) // 100))
    seen = 0
    for bucket in sorted(int(key) for key in histogram):
        seen += histogram[str(bucket)]
        if seen >= rank:
            return round(estimate_of(bucket), 2)
    return None
