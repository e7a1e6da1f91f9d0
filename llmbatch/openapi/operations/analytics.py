"""Describes /v1/analytics."""

from typing import Any

from drf_spectacular.utils import extend_schema

from batching.api.serializers import AnalyticsParameters
from llmbatch.openapi.describe import CHALLENGE, answer, retry_after
from llmbatch.openapi.documents import AnalyticsSerializer
from llmbatch.openapi.refusals import describe_refusals

TIMES = {"p50": 512.0, "p90": 690.2, "p95": 731.9, "p99": 850.0, "mean": 548.31}
NO_TIMES = dict.fromkeys(TIMES)
NO_FIGURES: dict[str, Any] = {
    "requests": 0,
    "answered": 0,
    "failed": 0,
    "batches": 0,
    "model_calls": 0,
    "calls_saved": 0,
    "mean_batch_size": None,
    "fill": None,
    "tokens": {"prompt": 0, "output": 0, "thoughts": 0, "cached": 0},
    "latency_ms": NO_TIMES,
    "queue_ms": NO_TIMES,
    "slo_attainment": None,
    "failures": {},
}
FIGURES = NO_FIGURES | {
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
UNUSED_LANE = NO_FIGURES | {"combining": {"overhead_tokens": 0, "estimated": True, "waited_s": 0.0}}
DOCUMENT = USED_LANE | {
    "total_requests": 10,
    "high_priority": 10,
    "medium_priority": 0,
    "low_priority": 0,
    "request_count_over_time": [{"date": "2026-11-23", "count": 10}],
    "priority_distribution": [
        {"name": "High", "value": 10},
        {"name": "Medium", "value": 0},
        {"name": "Low", "value": 0},
    ],
    "by_priority": {
        "HIGH": USED_LANE,
        "MEDIUM": UNUSED_LANE,
        "LOW": UNUSED_LANE,
    },
    "by_day": [FIGURES | {"date": "2026-11-23"}],
}

READ = extend_schema(
    tags=["Records"],
    operation_id="get_analytics",
    summary="Get the figures of batching",
    description=(
        "Covers the UTC days from `from` to `to`, `to` excluded. `total_requests`, the three"
        " `…_priority` counts, `request_count_over_time` and `priority_distribution` count"
        " batches, not requests."
    ),
    parameters=[AnalyticsParameters, CHALLENGE, retry_after(503)],
    responses={
        200: answer(AnalyticsSerializer, "The figures.", figures=DOCUMENT),
        **describe_refusals(["invalid", "not_authenticated", "permission_denied"]),
    },
)
