"""A period's figures, by lane and in total, each beside the same figure of the period before.

Both come from the document of GET /v1/analytics; here they are only subtracted.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from batching.pages.charts import format_number
from batching.pages.links import RowLinks, Rows
from settings_app.models import Priority

Summary = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Metric:
    """`name` is its place in the document; `better` is which direction is good news."""

    name: str
    label: str
    rows: Rows
    unit: str = ""
    better: Literal["more", "less", ""] = ""


METRICS = (
    Metric("requests", "Requests", "chats"),
    Metric("answered", "Answered", "answered"),
    Metric("failed", "Failed", "failed", better="less"),
    Metric("batches", "Batches", "batches"),
    Metric("model_calls", "Model calls", "calls"),
    Metric("calls_saved", "Calls saved", "calls", better="more"),
    Metric("mean_batch_size", "Mean batch size", "batches", better="more"),
    Metric("fill", "Fill of batches", "batches", "%", better="more"),
    Metric("slo_attainment", "Within latency target", "answered", "%", better="more"),
    Metric("queue_ms.p50", "Wait in queue, p50", "answered", "ms", better="less"),
    Metric("queue_ms.p95", "Wait in queue, p95", "answered", "ms", better="less"),
    Metric("latency_ms.p50", "Latency, p50", "answered", "ms", better="less"),
    Metric("latency_ms.p95", "Latency, p95", "answered", "ms", better="less"),
    Metric("tokens.prompt", "Prompt tokens", "calls"),
    Metric("tokens.cached", "of them cached", "calls"),
    Metric("tokens.output", "Output tokens", "calls"),
    Metric("tokens.thoughts", "Thought tokens", "calls"),
)
TOP = (
    *("requests", "answered", "failed", "batches", "model_calls", "calls_saved"),
    *("mean_batch_size", "fill", "slo_attainment", "queue_ms.p95", "latency_ms.p95"),
)


@dataclass(frozen=True, slots=True)
class Delta:
    """`css` is better, worse or plain; the text says it too."""

    text: str
    css: str


@dataclass(frozen=True, slots=True)
class Figure:
    name: str
    label: str
    value: Any
    text: str
    link: str = ""
    delta: Delta | None = None


@dataclass(frozen=True, slots=True)
class LaneRow:
    label: str
    figures: Sequence[Figure]


def find_value(summary: Any, name: str) -> Any:
    """What stands at a dotted place of the document, such as `by_day.0.batches`."""
    for part in name.split("."):
        summary = summary[int(part)] if isinstance(summary, list) else summary[part]
    return summary


def format_figure(value: Any, unit: str) -> str:
    if unit == "%" and value is not None:
        return f"{value * 100:.1f} %"
    return format_number(value, unit=unit)


def list_figures(summary: Summary, *, before: Summary | None, links: RowLinks) -> list[Figure]:
    """The figures that stand on top, of all lanes together."""
    by_name = {metric.name: metric for metric in METRICS}
    return [_figure(by_name[name], summary, before, links) for name in TOP]


def compare_lanes(summary: Summary, *, before: Summary | None, links: RowLinks) -> list[LaneRow]:
    """A row for each metric: the total, then each lane."""
    return [
        LaneRow(
            metric.label,
            [
                _figure(metric, summary, before, links, priority=priority)
                for priority in (None, *Priority)
            ],
        )
        for metric in METRICS
    ]


def _figure(
    metric: Metric,
    summary: Summary,
    before: Summary | None,
    links: RowLinks,
    *,
    priority: Priority | None = None,
) -> Figure:
    name = metric.name if priority is None else f"by_priority.{priority.name}.{metric.name}"
    value = find_value(summary, name)
    return Figure(
        name=name,
        label=metric.label,
        value=value,
        text=format_figure(value, metric.unit),
        link=links.find(metric.rows, priority=priority) if value else "",
        delta=None if before is None else compare(value, find_value(before, name), metric),
    )


def compare(value: float | None, before: float | None, metric: Metric) -> Delta:
    """Shares in points, everything else in per cent of what it was."""
    if value is None or before is None:
        return Delta("none before" if value is not None else "none now", "plain")
    change = value - before
    if not change:
        return Delta("as before", "plain")
    if metric.unit == "%":
        text = f"{change * 100:+.1f} points"
    elif before > 0:
        text = f"{change / before * 100:+.0f} %"
    else:
        text = f"{change:+,.6g}"
    if not float(text.partition(" ")[0].replace(",", "")):
        return Delta("almost as before", "plain")
    return _judge(text.replace("-", "−"), more=change > 0, better=metric.better)


def _judge(text: str, *, more: bool, better: str) -> Delta:
    if not better:
        return Delta(f"{text}, {'more' if more else 'fewer'}", "plain")
    is_better = more == (better == "more")
    word = "better" if is_better else "worse"
    return Delta(f"{text}, {word}", word)
