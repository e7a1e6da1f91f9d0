"""Describes /health and /metrics."""

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema

from llmbatch.openapi.describe import CHALLENGE, answer, retry_after
from llmbatch.openapi.documents import HealthSerializer, NotReadySerializer, ReadySerializer
from llmbatch.openapi.refusals import describe_refusals

TAGS = ["Health"]
CHECKS = {"database": "ok", "channel_layer": "ok", "batch_consumer": "ok", "model_key": "ok"}
READY_DOCUMENT = {"status": "ok", "checks": CHECKS}
NOT_READY = {
    "status": "unavailable",
    "checks": CHECKS | {"model_key": "no model key is set"},
    "detail": "model_key: no model key is set",
    "code": "not_ready",
}
SCRAPE = "Metrics with help texts; in OpenMetrics format if `Accept` asks for it."
EXAMPLE = "\n".join(
    [
        "# HELP llmbatch_queue_depth Requests that wait for a batch.",
        "# TYPE llmbatch_queue_depth gauge",
        'llmbatch_queue_depth{lane="HIGH"} 3.0',
        "",
    ]
)

ALIVE = extend_schema(
    tags=TAGS,
    operation_id="get_health",
    summary="Check that the process is alive",
    auth=[],
    responses={200: answer(HealthSerializer, "The process is alive.", alive={"status": "ok"})},
)

READY = extend_schema(
    tags=TAGS,
    operation_id="get_readiness",
    summary="Check that the process can answer prompts",
    auth=[],
    parameters=[retry_after(503)],
    responses={
        200: answer(ReadySerializer, "All parts work.", ready={"status": "ok", "checks": CHECKS}),
        503: answer(NotReadySerializer, "`detail` names the failing parts.", failing=NOT_READY),
    },
)

METRICS = extend_schema(
    tags=TAGS,
    operation_id="get_metrics",
    summary="Get the metrics of all processes, for Prometheus",
    parameters=[CHALLENGE, retry_after(503)],
    responses={
        (200, "text/plain"): answer(OpenApiTypes.STR, SCRAPE, scrape=EXAMPLE),
        (200, "application/openmetrics-text"): answer(OpenApiTypes.STR, SCRAPE),
        **describe_refusals(["not_authenticated", "permission_denied"]),
    },
)
