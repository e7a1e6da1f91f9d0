"""Describes /v1/analytics."""

from batching.analytics.summary import describe_stat
from batching.api.serializers import AnalyticsParameters
from batching.models import DailyStat
from llmbatch.openapi.describe import answer, operation
from llmbatch.openapi.documents import AnalyticsSerializer

TIMES = {"p50": 512.0, "p90": 690.2, "p95": 731.9, "p99": 850.0, "mean": 548.31}
FIGURES = {
    "requests": 60,
    "answered": 59,
    "failed": 1,
    "batches": 10,
    "model_calls": 11,
    "calls_saved": 49,
    "mean_batch_size": 6.0,
    "fill": 1.0,
    "tokens": {"prompt": 9840, "output": 2160, "thoughts": 1440, "cached": 0},
    "latency_ms": TIMES,
    "queue_ms": TIMES | {"p50": 201.0},
    "slo_attainment": 0.4915,
    "failures": {"blocked": 1},
}
USED_LANE = FIGURES | {"combining": {"overhead_tokens": 1310, "estimated": True, "waited_s": 12.06}}
UNUSED_LANE = describe_stat(DailyStat()) | {
    "combining": {"overhead_tokens": 0, "estimated": True, "waited_s": 0.0}
}
BATCHES = {"High": 10, "Medium": 0, "Low": 0}
DOCUMENT = USED_LANE | {
    "total_requests": 10,
    **{f"{name.lower()}_priority": value for name, value in BATCHES.items()},
    "request_count_over_time": [{"date": "2026-11-23", "count": 10}],
    "priority_distribution": [{"name": name, "value": value} for name, value in BATCHES.items()],
    "by_priority": {"HIGH": USED_LANE, "MEDIUM": UNUSED_LANE, "LOW": UNUSED_LANE},
    "by_day": [FIGURES | {"date": "2026-11-23"}],
}

READ = operation(
    "Records",
    "get_analytics",
    "Get the figures of batching",
    {200: answer(AnalyticsSerializer, "The figures.", figures=DOCUMENT)},
    description="Covers the UTC days from `from` to `to`, `to` excluded. `total_requests`, the"
    " three `…_priority` counts, `request_count_over_time` and `priority_distribution` count"
    " batches, not requests.",
    parameters=[AnalyticsParameters],
    errors=["invalid"],
)
