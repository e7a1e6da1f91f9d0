"""Summarizes a period from DailyStat, with one query for any length of history."""

from collections.abc import Iterable
from datetime import date, timedelta
from typing import Any

from batching.analytics.histogram import count_values, percentile
from batching.analytics.overhead import estimate_overhead
from batching.analytics.rollup import TOKENS, add_stat, roll_up_pending
from batching.models import DailyStat
from settings_app.models import Priority

MAX_DAYS = 3660
PERCENTILES = (50, 90, 95, 99)
# Rows that a request rolls up at most before it reads the summary.
MAX_ROLLED_UP = 2000


def summarize(*, first: date | None = None, last: date | None = None) -> dict[str, Any]:
    """The document of GET /v1/analytics for the UTC days `first` to `last`, both included.

    `total_requests`, the three `…_priority` counts, `request_count_over_time` and
    `priority_distribution` count batches. A value without any record is null.
    """
    stats = _read(first, last)
    by_priority = {
        priority: _total(stat for stat in stats if stat.priority == priority)
        for priority in Priority
    }
    total = _total(by_priority.values())
    overhead = estimate_overhead(by_priority)
    days = _by_day(stats)
    return {
        "total_requests": total.batches,
        **{f"{p.name.lower()}_priority": stat.batches for p, stat in by_priority.items()},
        "request_count_over_time": _batches_over_time(days),
        "priority_distribution": [
            {"name": priority.label, "value": stat.batches}
            for priority, stat in by_priority.items()
        ],
        **describe_stat(total),
        "combining": _describe_cost(total, overhead=sum(overhead.values())),
        "by_priority": {
            p.name: describe_stat(stat) | {"combining": _describe_cost(stat, overhead=overhead[p])}
            for p, stat in by_priority.items()
        },
        "by_day": [{"date": stat.day.isoformat(), **describe_stat(stat)} for stat in days],
    }


def summarize_now(*, first: date | None = None, last: date | None = None) -> dict[str, Any]:
    """`summarize` after a roll-up, so that rows that have just ended are counted."""
    roll_up_pending(limit=MAX_ROLLED_UP)
    return summarize(first=first, last=last)


def _read(first: date | None, last: date | None) -> list[DailyStat]:
    bounds = {"day__gte": first, "day__lte": last}
    stats = DailyStat.objects.filter(**{name: v for name, v in bounds.items() if v is not None})
    return list(stats.order_by("day"))


def _total(stats: Iterable[DailyStat]) -> DailyStat:
    total = DailyStat()
    for stat in stats:
        add_stat(total, stat)
    return total


def _by_day(stats: list[DailyStat]) -> list[DailyStat]:
    """The sums over all lanes, for every day between the first and the last."""
    if not stats:
        return []
    first, length = stats[0].day, (stats[-1].day - stats[0].day).days + 1
    dates = [first + timedelta(days=n) for n in range(length)]
    days = {day: DailyStat(day=day) for day in dates}
    for stat in stats:
        add_stat(days[stat.day], stat)
    return list(days.values())


def _batches_over_time(days: list[DailyStat]) -> list[dict[str, Any]]:
    """From the first day with batches to the last."""
    filled = [index for index, stat in enumerate(days) if stat.batches]
    between = days[filled[0] : filled[-1] + 1] if filled else []
    return [{"date": stat.day.isoformat(), "count": stat.batches} for stat in between]


def describe_stat(stat: DailyStat) -> dict[str, Any]:
    """`calls_saved` = requests that left in batches - model calls made for them.

    Retries count as calls, so the number can be negative. `slo_attainment` = requests answered
    within their lane's `latency_ms` / all answered requests. `fill` = requests / maximum batch
    sizes, over the batches whose lane's maximum at dispatch is known.
    """
    return {
        "requests": stat.requests,
        "answered": stat.answered,
        "failed": stat.requests - stat.answered,
        "batches": stat.batches,
        "model_calls": stat.model_calls,
        "calls_saved": stat.batched_requests - stat.model_calls,
        "mean_batch_size": _ratio(stat.batched_requests, stat.batches),
        "fill": _ratio(stat.fill_requests, stat.fill_capacity),
        "tokens": {name.removesuffix("_tokens"): getattr(stat, name) for name in TOKENS},
        "latency_ms": _describe_times(stat.latency_hist, total=stat.latency_ms_sum),
        "queue_ms": _describe_times(stat.queue_hist, total=stat.queue_ms_sum),
        "slo_attainment": _ratio(stat.in_time, stat.answered),
        "failures": stat.failures,
    }


def _describe_cost(stat: DailyStat, *, overhead: int) -> dict[str, Any]:
    """The cost of combining: tokens (see `overhead`), and the sum of all waits in the queue."""
    return {
        "overhead_tokens": overhead,
        "estimated": True,
        "waited_s": round(stat.queue_ms_sum / 1000, 3),
    }


def _describe_times(histogram: dict[str, int], *, total: int) -> dict[str, float | None]:
    """Percentiles have an error of at most 5 % (see `histogram`), the mean is exact."""
    percentiles = {f"p{percent}": percentile(histogram, percent) for percent in PERCENTILES}
    return percentiles | {"mean": _ratio(total, count_values(histogram))}


def _ratio(part: int, whole: int) -> float | None:
    return round(part / whole, 4) if whole else None
