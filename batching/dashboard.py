"""The document of GET /v1/analytics as figures and charts for people: nothing is computed here."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from batching.charts import Bars, Columns, Entry, Series, draw_bars, draw_columns, write_number
from settings_app.models import Priority
from settings_app.snapshot import LaneSettings

Summary = Mapping[str, Any]
SHOWN_PERCENTILES = ("p50", "p95", "p99")
TOKEN_LABELS = {
    "prompt": "Prompt",
    "output": "Output",
    "thoughts": "Thoughts",
    "cached": "Cached (part of prompt)",
}
FIGURES = {
    "requests": ("Requests", ""),
    "answered": ("Answered", ""),
    "batches": ("Batches", ""),
    "model_calls": ("Model calls", ""),
    "calls_saved": ("Calls saved", ""),
    "mean_batch_size": ("Mean batch size", ""),
    "slo_attainment": ("Within latency target", "%"),
    "queue_ms.p95": ("Wait in queue, p95", "ms"),
    "latency_ms.p95": ("Latency, p95", "ms"),
}


@dataclass(frozen=True)
class Figure:
    name: str
    label: str
    value: Any
    text: str


def list_figures(summary: Summary) -> list[Figure]:
    return [
        Figure(name, label, value, _write_figure(value, unit))
        for name, (label, unit) in FIGURES.items()
        for value in [find_value(summary, name)]
    ]


def find_value(summary: Any, name: str) -> Any:
    """What stands at a dotted place of the document, such as `by_day.0.batches`."""
    for part in name.split("."):
        summary = summary[int(part)] if isinstance(summary, list) else summary[part]
    return summary


def draw_charts(summary: Summary, *, lanes: Mapping[int, LaneSettings]) -> list[Columns | Bars]:
    return [
        _draw_batches(summary),
        _draw_calls(summary),
        _draw_priorities(summary),
        *(_draw_lane(summary, priority, lanes[priority]) for priority in Priority),
        _draw_tokens(summary),
        _draw_failures(summary),
    ]


def _write_figure(value: Any, unit: str) -> str:
    if unit == "%" and value is not None:
        return f"{value * 100:.1f} %"
    return write_number(value, unit=unit)


def _draw_batches(summary: Summary) -> Columns:
    days = summary["request_count_over_time"]
    names = [f"request_count_over_time.{place}.count" for place in range(len(days))]
    series = Series("batches", "tone-1", names, [day["count"] for day in days])
    return draw_columns("Batches per day", labels=[d["date"] for d in days], series=[series])


def _draw_calls(summary: Summary) -> Columns:
    days = summary["by_day"]
    series = [
        Series(
            label,
            css,
            [f"by_day.{place}.{column}" for place in range(len(days))],
            [day[column] for day in days],
        )
        for column, label, css in (
            ("model_calls", "model calls", "tone-2"),
            ("calls_saved", "calls saved", "tone-3"),
        )
    ]
    return draw_columns(
        "Model calls made and saved per day", labels=[d["date"] for d in days], series=series
    )


def _draw_priorities(summary: Summary) -> Bars:
    entries = [
        Entry(
            row["name"],
            f"priority_distribution.{place}.value",
            row["value"],
            f"lane-{row['name'].lower()}",
        )
        for place, row in enumerate(summary["priority_distribution"])
    ]
    return draw_bars("Batches by priority", entries=entries)


def _draw_tokens(summary: Summary) -> Bars:
    entries = [
        Entry(label, f"tokens.{kind}", summary["tokens"][kind], "tone-1")
        for kind, label in TOKEN_LABELS.items()
    ]
    return draw_bars("Tokens by kind", entries=entries, note="As the model service counted them.")


def _draw_failures(summary: Summary) -> Bars:
    most_first = sorted(summary["failures"].items(), key=lambda item: (-item[1], item[0]))
    entries = [Entry(code, f"failures.{code}", count, "bad") for code, count in most_first]
    return draw_bars(
        "Failed requests by cause", entries=entries, note="" if entries else "None failed."
    )


def _draw_lane(summary: Summary, priority: Priority, lane: LaneSettings) -> Bars:
    """Waits and latencies on one scale; the mark at the latencies is the target of today."""
    times = summary["by_priority"][priority.name]
    entries = [
        Entry(
            f"{label} {percent}",
            f"by_priority.{priority.name}.{kind}.{percent}",
            times[kind][percent],
            css,
            unit="ms",
            target=target,
        )
        for kind, label, css, target in (
            ("queue_ms", "Wait", "tone-2", None),
            ("latency_ms", "Latency", f"lane-{priority.label.lower()}", lane.latency_ms),
        )
        for percent in SHOWN_PERCENTILES
    ]
    share = _write_figure(times["slo_attainment"], "%")
    note = f"Target now: {write_number(lane.latency_ms)} ms (the mark). Answered in time: {share}."
    return draw_bars(f"{priority.label}: waits and latencies", entries=entries, note=note)
