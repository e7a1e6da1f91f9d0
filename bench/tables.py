"""Percentiles, and tables in Markdown."""

import math
from collections.abc import Iterable, Sequence

# Every table so far: its title, its header and its rows. `bench against` compares them.
PRINTED: list[tuple[str, Sequence[str], list[Sequence[object]]]] = []


def percentile(values: Iterable[float], share: float) -> float:
    """Returns the smallest value that at least `share` of the values do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.1f} ms"


def print_table(title: str, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    rows = list(rows)
    PRINTED.append((title, header, rows))
    print(f"\n### {title}\n")
    print(f"| {' | '.join(header)} |")
    print("|" + "---|" * len(header))
    for row in rows:
        print(f"| {' | '.join(str(cell) for cell in row)} |")
    print(flush=True)


def print_note(text: str) -> None:
    print(text, flush=True)


def count_failures(result: dict) -> int:
    return sum(status != 200 for status in result["statuses"].values())
