"""What this process counts for /metrics. No label holds anything that a client sent.

Every lane's children are made once, here: on a request's way a number is added and nothing else.
"""

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

from batching.engine.call import CallReport
from batching.engine.lanes import Priority
from batching.engine.planner import Batch, Trigger

disable_created_metrics()
REGISTRY = CollectorRegistry()
"""of this process alone"""
ProcessCollector(registry=REGISTRY)
PlatformCollector(registry=REGISTRY)
GCCollector(registry=REGISTRY)

ANSWERED = "answered"
LAG_INTERVAL_S = 0.25
SHORT_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)
LONG_S = (0.1, 0.25, 0.5, 1, 2, 3, 5, 7.5, 10, 15, 20, 30, 60)
SIZES = (1, 2, 3, 4, 5, 6, 8, 12, 16, 32, 64)
TOKEN_KINDS = ("prompt", "output", "thoughts", "cached")


def _histogram(name: str, text: str, labels: list[str], buckets: tuple[float, ...]) -> Histogram:
    return Histogram(f"llmbatch_{name}", text, labels, buckets=buckets, registry=REGISTRY)


def _counter(name: str, text: str, labels: list[str]) -> Counter:
    return Counter(f"llmbatch_{name}_total", text, labels, registry=REGISTRY)


def _by_lane(family: Histogram) -> dict[Priority, Histogram]:
    return {lane: family.labels(lane.name) for lane in Priority}


_sizes = _histogram("batch_size", "Requests in a batch when it left.", ["lane", "trigger"], SIZES)
_lateness = _histogram(
    "window_lateness_seconds",
    "How long after the end of its window a batch was formed that did not leave full.",
    ["lane"],
    SHORT_S,
)
_durations = _histogram(
    "model_call_duration_seconds", "A model call from its start to its end.", ["lane"], LONG_S
)
_first_tokens = _histogram(
    "model_first_token_seconds", "A model call until its first text came.", ["lane"], LONG_S
)
_added = _histogram(
    "added_seconds",
    "Of an answered request the time that was neither its window's nor the model's.",
    ["lane"],
    SHORT_S,
)
_ended = _counter("requests", "Accepted requests by how they ended.", ["lane", "outcome"])
_calls = _counter("model_calls", "Model calls by how they ended.", ["lane", "outcome"])
_retries = _counter("model_retries", "Model calls beyond the first of their batch.", ["lane"])
_tokens = _counter("tokens", "Tokens as the model counted them.", ["lane", "kind"])
_errors = _counter("api_errors", "Errors that clients were told.", ["code"])

SIZE = {
    (lane, trigger): _sizes.labels(lane.name, str(trigger))
    for lane in Priority
    for trigger in Trigger
}
LATENESS = _by_lane(_lateness)
DURATION = _by_lane(_durations)
FIRST_TOKEN = _by_lane(_first_tokens)
ADDED = _by_lane(_added)
RETRIES = {lane: _retries.labels(lane.name) for lane in Priority}
TOKENS = {
    lane: {kind: _tokens.labels(lane.name, kind) for kind in TOKEN_KINDS} for lane in Priority
}
LOOP_LAG = _histogram(
    "event_loop_lag_seconds", "How late a timer of the event loop rang.", [], SHORT_S
)
# What no request had yet is shown as 0: a counter that begins at 1 hides its first step.
ENDED = {(lane, ANSWERED): _ended.labels(lane.name, ANSWERED) for lane in Priority}
CALLS = {(lane, ANSWERED): _calls.labels(lane.name, ANSWERED) for lane in Priority}


def count_batch(planned: Batch, *, size: int) -> None:
    """A batch whose requests were claimed."""
    SIZE[planned.priority, planned.trigger].observe(size)
    if planned.trigger is Trigger.WINDOW:
        LATENESS[planned.priority].observe(planned.lateness_s)


def count_retry(lane: Priority) -> None:
    RETRIES[lane].inc()


def count_call(lane: Priority, report: CallReport) -> None:
    DURATION[lane].observe(report.duration_s)
    if report.first_token_s is not None:
        FIRST_TOKEN[lane].observe(report.first_token_s)
    outcome = report.error.code if report.error else ANSWERED
    if (lane, outcome) not in CALLS:
        CALLS[lane, outcome] = _calls.labels(lane.name, outcome)
    CALLS[lane, outcome].inc()
    if report.usage is not None:
        for kind, child in TOKENS[lane].items():
            child.inc(getattr(report.usage, kind))


def count_ends(lane: Priority, outcome: str, *, number: int = 1) -> None:
    """Counts ended requests. `outcome` is `answered` or the code of an error."""
    if (lane, outcome) not in ENDED:
        ENDED[lane, outcome] = _ended.labels(lane.name, outcome)
    ENDED[lane, outcome].inc(number)


def observe_added(lane: Priority, seconds: float) -> None:
    ADDED[lane].observe(max(0.0, seconds))


def count_api_error(code: str) -> None:
    _errors.labels(code).inc()


async def watch_lag() -> None:
    """Measures for ever how long the event loop keeps a timer waiting."""
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + LAG_INTERVAL_S
        await asyncio.sleep(LAG_INTERVAL_S)
        LOOP_LAG.observe(max(0.0, loop.time() - due))
