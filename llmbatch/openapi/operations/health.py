"""Describes /health and /metrics."""

from drf_spectacular.types import OpenApiTypes

from llmbatch.openapi.describe import answer, operation
from llmbatch.openapi.documents import HealthSerializer, NotReadySerializer, ReadySerializer

CHECKS = {"database": "ok", "channel_layer": "ok", "batch_consumer": "ok", "model_key": "ok"}
CHECKS |= {"log_files": "ok"}
NOT_READY = {
    "status": "unavailable",
    "checks": CHECKS | {"model_key": "no model key is set"},
    "detail": "model_key: no model key is set",
    "code": "not_ready",
}
SCRAPE = "Metrics with help texts; in OpenMetrics format if `Accept` asks for it."
EXAMPLE = """\
# HELP llmbatch_queue_depth Requests that wait for a batch.
# TYPE llmbatch_queue_depth gauge
llmbatch_queue_depth{lane="HIGH"} 3.0
"""

ALIVE = operation(
    "Health",
    "get_health",
    "Check that the process is alive",
    {200: answer(HealthSerializer, "The process is alive.", alive={"status": "ok"})},
    open_to_all=True,
)

READY = operation(
    "Health",
    "get_readiness",
    "Check that the process can answer prompts",
    {
        200: answer(ReadySerializer, "All parts work.", ready={"status": "ok", "checks": CHECKS}),
        503: answer(NotReadySerializer, "`detail` names the failing parts.", failing=NOT_READY),
    },
    open_to_all=True,
)

METRICS = operation(
    "Health",
    "get_metrics",
    "Get the metrics of all processes, for Prometheus",
    {
        (200, "text/plain"): answer(OpenApiTypes.STR, SCRAPE, scrape=EXAMPLE),
        (200, "application/openmetrics-text"): answer(OpenApiTypes.STR, SCRAPE),
    },
)
