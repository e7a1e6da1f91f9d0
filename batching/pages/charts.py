"""The charts of the document of GET /v1/analytics, positioned in per cent of the chart's frame."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from batching.pages.figures import Figure, Summary, format_number
from batching.pages.links import RowLinks
from settings_app.models import Priority
from settings_app.snapshot import LaneSettings

# The share of a day's width that is empty between two days.
GAP = 0.2
SHOWN_PERCENTILES = ("p50", "p95", "p99")
TOKEN_LABELS = {
    "prompt": "Prompt",
    "output": "Output",
    "thoughts": "Thoughts",
    "cached": "Cached (part of prompt)",
}


@dataclass(frozen=True)
class Series:
    """One colour of a column chart; the i-th cell belongs to the i-th label."""

    label: str
    css: str
    cells: Sequence[Figure]


class Column(NamedTuple):
    x: float
    y: float
    width: float
    height: float
    css: str
    text: str


@dataclass(frozen=True)
class Columns:
    """A chart over days, with a table of the same values."""

    title: str
    labels: Sequence[str]
    series: Sequence[Series]
    columns: Sequence[Column]
    rows: Sequence[tuple[str, Sequence[Figure]]]
    highest: str
    lowest: str
    zero_y: float
    template = "charts/columns.html"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar(Figure):
    """`target` draws a mark, `scale` fills the width."""

    css: str
    target: float | None = None
    scale: float = 1

    @property
    def width(self) -> float:
        return round((self.value or 0) / self.scale * 100, 2)

    @property
    def mark(self) -> float | None:
        return None if self.target is None else round(self.target / self.scale * 100, 2)


@dataclass(frozen=True)
class Bars:
    title: str
    bars: Sequence[Bar]
    note: str = ""
    template = "charts/bars.html"


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


def draw_columns(title: str, *, labels: Sequence[str], series: Sequence[Series]) -> Columns:
    values = [cell.value or 0 for one in series for cell in one.cells]
    top, bottom = max([0, *values]), min([0, *values])
    span = (top - bottom) or 1
    step = 100 / max(1, len(labels))
    width = step * (1 - GAP) / max(1, len(series))
    columns = [
        Column(
            x=round(day * step + step * GAP / 2 + index * width, 3),
            y=round((top - max(cell.value or 0, 0)) / span * 100, 2),
            width=round(width, 3),
            height=round(abs(cell.value or 0) / span * 100, 2),
            css=one.css,
            text=f"{labels[day]}: {cell.text} {one.label}",
        )
        for index, one in enumerate(series)
        for day, cell in enumerate(one.cells)
    ]
    return Columns(
        title=title,
        labels=labels,
        series=series,
        columns=columns,
        rows=[(label, [one.cells[day] for one in series]) for day, label in enumerate(labels)],
        highest=format_number(top),
        lowest=format_number(bottom) if bottom else "0",
        zero_y=round(top / span * 100, 2),
    )


def draw_bars(title: str, *, bars: Sequence[Bar], note: str = "") -> Bars:
    """All bars on one scale, which begins at zero."""
    ends = [end for bar in bars for end in (bar.value, bar.target) if end]
    scale = max(ends, default=0) or 1
    return Bars(title, [replace(bar, scale=scale) for bar in bars], note)


def _draw_days(
    title: str,
    path: str,
    days: Sequence[Mapping[str, Any]],
    columns: Sequence[tuple[str, str, str]],
    daily_links: Sequence[str],
) -> Columns:
    """A series for each of `columns`: its name in a day's document, its label and its CSS class."""
    linked = list(enumerate(zip(days, daily_links, strict=True)))
    series = [
        Series(
            label,
            css,
            [
                Figure(f"{path}.{index}.{column}", label, day[column], link=link)
                for index, (day, link) in linked
            ],
        )
        for column, label, css in columns
    ]
    return draw_columns(title, labels=[day["date"] for day in days], series=series)


def _draw_priorities(summary: Summary, links: RowLinks) -> Bars:
    bars = [
        Bar(
            f"priority_distribution.{index}.value",
            row["name"],
            row["value"],
            link=links.find("batches", priority=Priority[row["name"].upper()]),
            css=f"lane-{row['name'].lower()}",
        )
        for index, row in enumerate(summary["priority_distribution"])
    ]
    return draw_bars("Batches by priority", bars=bars)


def _draw_tokens(summary: Summary, links: RowLinks) -> Bars:
    link = links.find("calls")
    bars = [
        Bar(f"tokens.{kind}", label, summary["tokens"][kind], link=link, css="tone-1")
        for kind, label in TOKEN_LABELS.items()
    ]
    return draw_bars("Tokens by kind", bars=bars, note="The counts of the model service.")


def _draw_failures(summary: Summary, links: RowLinks) -> Bars:
    by_count = sorted(summary["failures"].items(), key=lambda item: (-item[1], item[0]))
    bars = [
        Bar(f"failures.{code}", code, count, link=links.find("failed", error_code=code), css="bad")
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
            f"by_priority.{priority.name}.{kind}.{percent}",
            f"{label} {percent}",
            times[kind][percent],
            "ms",
            link,
            css=css,
            target=target,
        )
        for kind, label, css, target in (
            ("queue_ms", "Wait", "tone-2", None),
            ("latency_ms", "Latency", f"lane-{priority.label.lower()}", lane.latency_ms),
        )
        for percent in SHOWN_PERCENTILES
    ]
    share = format_number(times["slo_attainment"], unit="%")
    target = format_number(lane.latency_ms, unit="ms")
    note = f"The mark is the current target, {target}. Answered within the target then: {share}."
    return draw_bars(f"{priority.label}: waits and latencies", bars=bars, note=note)
