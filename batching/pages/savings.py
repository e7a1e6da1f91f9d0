"""Was batching worth it? What it saved, beside what it cost."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from batching.pages.charts import format_number
from batching.pages.figures import Figure, find_value
from batching.pages.links import RowLinks, Rows
from settings_app.models import Priority

Summary = Mapping[str, Any]
COLUMNS: tuple[tuple[str, str, str, Rows], ...] = (
    ("calls_saved", "Calls saved", "", "calls"),
    ("combining.overhead_tokens", "Tokens added (estimate)", "", "calls"),
    ("combining.waited_s", "Waiting, all requests together", "s", "answered"),
    ("queue_ms.mean", "Mean wait of a request", "ms", "answered"),
)


@dataclass(frozen=True, slots=True)
class Savings:
    """`decision` in a sentence; `rows` by lane, the total first."""

    decision: str
    labels: Sequence[str]
    rows: Sequence[tuple[str, Sequence[Figure]]]


def summarize_savings(summary: Summary, *, links: RowLinks) -> Savings:
    lanes: list[tuple[str, str, Priority | None]] = [
        ("All lanes", "", None),
        *((p.label, f"by_priority.{p.name}.", p) for p in Priority),
    ]
    return Savings(
        decision=_judge(summary),
        labels=[label for _, label, _, _ in COLUMNS],
        rows=[(label, _list_figures(summary, place, links, lane)) for label, place, lane in lanes],
    )


def _list_figures(
    summary: Summary, place: str, links: RowLinks, lane: Priority | None
) -> list[Figure]:
    return [
        Figure(
            place + name,
            label,
            value,
            format_number(value, unit=unit),
            link=links.find(rows, priority=lane) if value else "",
        )
        for name, label, unit, rows in COLUMNS
        for value in [find_value(summary, place + name)]
    ]


def _judge(summary: Summary) -> str:
    saved, calls = summary["calls_saved"], summary["model_calls"]
    if not calls:
        return "No model call was made in this period."
    if saved <= 0:
        return (
            "No call was saved in this period: with its retries, batching made at least as many"
            " calls as one for each request would have been."
        )
    cost = summary["combining"]
    tokens = sum(summary["tokens"][kind] for kind in ("prompt", "output", "thoughts"))
    share = f", {cost['overhead_tokens'] / tokens * 100:.0f} % of those counted" if tokens else ""
    return (
        f"One call for each request would have been {format_number(saved + calls)} calls;"
        f" {format_number(saved)} ({saved / (saved + calls) * 100:.0f} %) were saved. Each saved"
        f" call cost {format_number(cost['waited_s'] / saved, unit='s')} of waiting, spread over"
        f" the requests, and about {format_number(cost['overhead_tokens'] // saved)} tokens"
        f" (an estimate{share})."
    )
