"""The charts of the document of GET /v1/analytics. Nothing is computed here."""

from collections.abc import Mapping, Sequence
from typing import Any

from batching.pages.charts import (
    Bar,
    Bars,
    Cell,
    Columns,
    Series,
    draw_bars,
    draw_columns,
    format_number,
)
from batching.pages.figures import format_figure
from batching.pages.links import RowLinks
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


def draw_charts(
    summary: Summary, *, lanes: Mapping[int, LaneSettings], links: RowLinks
) -> list[Columns | Bars]:
    batch_days, days = summary["request_count_over_time"], summary["by_day"]
    return [
        _draw_days(
            "Batches per day",
            "request_count_over_time",
            batch_days,
            [("count", "batches", "tone-1")],
            links.find_daily("batches", batch_days),
        ),
        _draw_days(
            "Model calls made and saved per day",
            "by_day",
            days,
            [("model_calls", "model calls", "tone-2"), ("calls_saved", "calls saved", "tone-3")],
            links.find_daily("calls", days),
        ),
        _draw_priorities(summary, links),
        *(_draw_lane(summary, priority, lanes[priority], links) for priority in Priority),
        _draw_tokens(summary, links),
        _draw_failures(summary, links),
    ]


def _draw_days(
    title: str,
    path: str,
    days: Sequence[Mapping[str, Any]],
    columns: Sequence[tuple[str, str, str]],
    daily_links: Sequence[str],
) -> Columns:
    """A series for each of `columns`: its name in a day's document, its label and its CSS class."""
    series = [
        Series(
            label,
            css,
            [
                Cell(f"{path}.{index}.{column}", day[column], link)
                for index, (day, link) in enumerate(zip(days, daily_links, strict=True))
            ],
        )
        for column, label, css in columns
    ]
    return draw_columns(title, labels=[day["date"] for day in days], series=series)


def _draw_priorities(summary: Summary, links: RowLinks) -> Bars:
    bars = [
        Bar(
            row["name"],
            f"priority_distribution.{index}.value",
            row["value"],
            f"lane-{row['name'].lower()}",
            link=links.find("batches", priority=Priority[row["name"].upper()]),
        )
        for index, row in enumerate(summary["priority_distribution"])
    ]
    return draw_bars("Batches by priority", bars=bars)


def _draw_tokens(summary: Summary, links: RowLinks) -> Bars:
    link = links.find("calls")
    bars = [
        Bar(label, f"tokens.{kind}", summary["tokens"][kind], "tone-1", link=link)
        for kind, label in TOKEN_LABELS.items()
    ]
    return draw_bars("Tokens by kind", bars=bars, note="The counts of the model service.")


def _draw_failures(summary: Summary, links: RowLinks) -> Bars:
    by_count = sorted(summary["failures"].items(), key=lambda item: (-item[1], item[0]))
    bars = [
        Bar(code, f"failures.{code}", count, "bad", link=links.find("failed", error_code=code))
        for code, count in by_count
    ]
    note = "" if bars else "No request failed."
    return draw_bars("Failed requests by cause", bars=bars, note=note)


def _draw_lane(summary: Summary, priority: Priority, lane: LaneSettings, links: RowLinks) -> Bars:
    """Waits and latencies on one scale. The mark at the latencies is today's target."""
    times = summary["by_priority"][priority.name]
    link = links.find("answered", priority=priority)
    bars = [
        Bar(
            f"{label} {percent}",
            f"by_priority.{priority.name}.{kind}.{percent}",
            times[kind][percent],
            css,
            unit="ms",
            target=target,
            link=link,
        )
        for kind, label, css, target in (
            ("queue_ms", "Wait", "tone-2", None),
            ("latency_ms", "Latency", f"lane-{priority.label.lower()}", lane.latency_ms),
        )
        for percent in SHOWN_PERCENTILES
    ]
    share = format_figure(times["slo_attainment"], "%")
    target = format_number(lane.latency_ms, unit="ms")
    note = f"The mark is the target now, {target}. Answered within the target of the time: {share}."
    return draw_bars(f"{priority.label}: waits and latencies", bars=bars, note=note)
