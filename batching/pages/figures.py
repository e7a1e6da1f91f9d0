"""A period's figures: in total, by lane, against the period before, and what batching saved.

All of them come from the document of GET /v1/analytics; here they are only compared and formatted.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from batching.pages.links import RowLinks, Rows
from settings_app.models import Priority

Summary = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Metric:
    """`name` is its path in the document; `rows` are the rows behind it.

    `better` is the direction of an improvement; "" for a figure that is neither good nor bad.
    """

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
    Metric("tokens.cached", "Cached prompt tokens", "calls"),
    Metric("tokens.output", "Output tokens", "calls"),
    Metric("tokens.thoughts", "Thought tokens", "calls"),
)
TOP_METRICS = (
    *("requests", "answered", "failed", "batches", "model_calls", "calls_saved"),
    *("mean_batch_size", "fill", "slo_attainment", "queue_ms.p95", "latency_ms.p95"),
)
SAVINGS = (
    Metric("calls_saved", "Calls saved", "calls"),
    Metric("combining.overhead_tokens", "Tokens added (estimate)", "calls"),
    Metric("combining.waited_s", "Waiting, all requests together", "answered", "s"),
    Metric("queue_ms.mean", "Mean wait of a request", "answered", "ms"),
)


class Delta(NamedTuple):
    """A change against the period before. `css` is better, worse or plain; the text says it too."""

    text: str
    css: str


@dataclass(frozen=True, slots=True)
class Figure:
    """`name` is its path in the document; `link` leads to the rows behind it."""

    name: str
    label: str
    value: float | None
    unit: str = ""
    link: str = ""
    delta: Delta | None = None

    @property
    def text(self) -> str:
        return format_number(self.value, unit=self.unit)


class FigureRow(NamedTuple):
    label: str
    figures: Sequence[Figure]


def find_value(summary: Any, name: str) -> Any:
    """The value at a dotted path of the document, such as `by_day.0.batches`."""
    for part in name.split("."):
        summary = summary[int(part)] if isinstance(summary, list) else summary[part]
    return summary


def format_number(value: float | None, *, unit: str = "") -> str:
    """1,234 or 3.25; 50.0 % for a share of 0.5; a dash for None."""
    if value is None:
        return "–"
    if unit == "%":
        return f"{value * 100:.1f} %"
    if isinstance(value, float) and abs(value) >= 10:
        value = round(value)  # the numbers with more digits are estimates
    text = f"{value:,.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else f"{value:,}"
    return f"{text} {unit}".strip()


def list_figures(summary: Summary, *, before: Summary | None, links: RowLinks) -> list[Figure]:
    """The figures at the top of a page, over all lanes."""
    top = [metric for metric in METRICS if metric.name in TOP_METRICS]
    return [_make_figure(metric, summary, links, before=before) for metric in top]


def compare_lanes(summary: Summary, *, before: Summary | None, links: RowLinks) -> list[FigureRow]:
    """A row for each metric: the total, then each lane."""
    return [
        FigureRow(
            metric.label,
            [
                _make_figure(metric, summary, links, before=before, priority=priority)
                for priority in (None, *Priority)
            ],
        )
        for metric in METRICS
    ]


def list_savings(summary: Summary, *, links: RowLinks) -> list[FigureRow]:
    """What batching saved and cost, in a row for the total and for each lane."""
    return [
        FigureRow(
            "All lanes" if priority is None else priority.label,
            [_make_figure(metric, summary, links, priority=priority) for metric in SAVINGS],
        )
        for priority in (None, *Priority)
    ]


def compare(value: float | None, before: float | None, metric: Metric) -> Delta:
    """The change of a share in points, of everything else in per cent of its earlier value."""
    if value is None or before is None:
        return Delta("no earlier value" if value is not None else "no value now", "plain")
    change = value - before
    if not change:
        return Delta("no change", "plain")
    if metric.unit == "%":
        text = f"{change * 100:+.1f} points"
    elif before > 0:
        text = f"{change / before * 100:+.0f} %"
    else:
        text = f"{change:+,.6g}"
    if not float(text.partition(" ")[0].replace(",", "")):
        return Delta("almost no change", "plain")
    more, text = change > 0, text.replace("-", "−")
    if not metric.better:
        return Delta(f"{text}, {'more' if more else 'fewer'}", "plain")
    word = "better" if more == (metric.better == "more") else "worse"
    return Delta(f"{text}, {word}", word)


def _make_figure(
    metric: Metric,
    summary: Summary,
    links: RowLinks,
    *,
    before: Summary | None = None,
    priority: Priority | None = None,
) -> Figure:
    name = metric.name if priority is None else f"by_priority.{priority.name}.{metric.name}"
    value = find_value(summary, name)
    return Figure(
        name=name,
        label=metric.label,
        value=value,
        unit=metric.unit,
        link=links.find(metric.rows, priority=priority) if value else "",
        delta=None if before is None else compare(value, find_value(before, name), metric),
    )


def describe_savings(summary: Summary) -> str:
    saved, calls = summary["calls_saved"], summary["model_calls"]
    if not calls:
        return "No model call was made in this period."
    if saved <= 0:
        return (
            "No call was saved in this period: with its retries, batching made at least as many"
            " calls as one call per request would have been."
        )
    cost = summary["combining"]
    tokens = sum(summary["tokens"][kind] for kind in ("prompt", "output", "thoughts"))
    share = f", {cost['overhead_tokens'] / tokens * 100:.0f} % of all tokens" if tokens else ""
    return (
        f"One call per request would have been {format_number(saved + calls)} calls. Batching saved"
        f" {format_number(saved)} of them ({saved / (saved + calls) * 100:.0f} %). Each saved call"
        f" cost {format_number(cost['waited_s'] / saved, unit='s')} of waiting, spread over the"
        f" requests, and about {format_number(cost['overhead_tokens'] // saved)} tokens"
        f" (an estimate{share})."
    )
