"""The metrics of this process for /metrics. No label holds anything that a client sent."""

import asyncio

from prometheus_client import (
    CollectorRegistry,
    Counter,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
)

from batching.engine.items import CallReport
from batching.engine.lanes import Priority
from batching.engine.planner import Batch, Trigger

disable_created_metrics()  # type: ignore[no-untyped-call]  # the library has no annotation
REGISTRY = CollectorRegistry()
ProcessCollector(registry=REGISTRY)
PlatformCollector(registry=REGISTRY)
GCCollector(registry=REGISTRY)

ANSWERED = "answered"
LAG_INTERVAL_S = 0.25
LANE = ["lane"]
SHORT_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)
LONG_S = (0.1, 0.25, 0.5, 1, 2, 3, 5, 7.5, 10, 15, 20, 30, 60)
SIZES = (1, 2, 3, 4, 5, 6, 8, 12, 16, 32, 64)
TOKEN_KINDS = ("prompt", "output", "thoughts", "cached")


def _histogram(name: str, text: str, labels: list[str], buckets: tuple[float, ...]) -> Histogram:
    return Histogram(f"llmbatch_{name}", text, labels, buckets=buckets, registry=REGISTRY)


def _counter(name: str, text: str, labels: list[str]) -> Counter:
    return Counter(f"llmbatch_{name}_total", text, labels, registry=REGISTRY)


SIZE = _histogram("batch_size", "Requests in a batch when it left.", ["lane", "trigger"], SIZES)
LATENESS = _histogram(
    "window_lateness_seconds",
    "Time from the end of a window to its batch; full batches are not counted.",
    LANE,
    SHORT_S,
)
DURATION = _histogram("model_call_duration_seconds", "Duration of a model call.", LANE, LONG_S)
FIRST_TOKEN = _histogram(
    "model_first_token_seconds",
    "Time from the start of a model call to its first text.",
    LANE,
    LONG_S,
)
ADDED = _histogram(
    "added_seconds",
    "Time that the gateway adds to an answer beside the window and the model's time.",
    LANE,
    SHORT_S,
)
LOOP_LAG = _histogram(
    "event_loop_lag_seconds", "How late a timer of the event loop fired.", [], SHORT_S
)
ENDED = _counter("requests", "Accepted requests by outcome.", ["lane", "outcome"])
CALLS = _counter("model_calls", "Model calls by outcome.", ["lane", "outcome"])
RETRIES = _counter("model_retries", "Model calls beyond the first of their batch.", LANE)
TOKENS = _counter(
    "tokens", "Tokens as the model counted them, or estimates of them.", ["lane", "kind"]
)
CLOSED_CONNECTIONS = _counter(
    "closed_connections", "Connections that the server closed or refused, by reason.", ["reason"]
)
API_ERRORS = _counter("api_errors", "Errors that were returned to clients.", ["code"])


def _create_series() -> None:
    """Shows each lane's series as 0 before its first request: a counter that appears with the
    value 1 hides its first step from Prometheus."""
    for lane in Priority.__members__:
        for family in (LATENESS, DURATION, FIRST_TOKEN, ADDED, RETRIES):
            family.labels(lane)
        for trigger in Trigger:
            SIZE.labels(lane, str(trigger))
        for kind in TOKEN_KINDS:
            TOKENS.labels(lane, kind)
        for outcomes in (ENDED, CALLS):
            outcomes.labels(lane, ANSWERED)
    for reason in ("address", "idle", "slow", "total"):
        CLOSED_CONNECTIONS.labels(reason)


_create_series()


def count_batch(planned: Batch, *, size: int) -> None:
    """Counts a batch whose requests were claimed."""
    SIZE.labels(planned.priority.name, str(planned.trigger)).observe(size)
    if planned.trigger is Trigger.WINDOW:
        LATENESS.labels(planned.priority.name).observe(planned.lateness_s)


def count_call(lane: Priority, report: CallReport) -> None:
    DURATION.labels(lane.name).observe(report.duration_s)
    if report.first_token_s is not None:
        FIRST_TOKEN.labels(lane.name).observe(report.first_token_s)
    CALLS.labels(lane.name, report.error.code if report.error else ANSWERED).inc()
    if report.usage is not None:
        for kind in TOKEN_KINDS:
            TOKENS.labels(lane.name, kind).inc(getattr(report.usage, kind))


async def watch_lag() -> None:
    """Measures how late the event loop runs a timer, until it is cancelled."""
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + LAG_INTERVAL_S
        await asyncio.sleep(LAG_INTERVAL_S)
        LOOP_LAG.observe(max(0.0, loop.time() - due))
