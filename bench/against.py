"""Measures the gateway of another revision and that of the working tree in turns.

Load generator, model service and hello-world are those of the working tree in both cases, so only
the gateway differs. The ratio within a pair is comparable; absolute figures are not.
"""

import re
import statistics
import subprocess
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from bench.processes import GATEWAY_ROOT, ROOT
from bench.tables import PRINTED, print_note, print_table

PAIRS = 3
_NUMBER = re.compile(r"-?[0-9][0-9,]*\.?[0-9]*")
# A figure: the title of its table, the first cell of its row and its column.
Figure = tuple[str, str, str]


def measure_against(revision: str, sections: Sequence[Callable[[], None]]) -> None:
    found: dict[str, dict[Figure, list[float]]] = {"base": {}, "head": {}}
    with _checkout(revision) as base:
        for _ in range(PAIRS):
            for name, folder in (("base", base), ("head", ROOT)):
                print_note(f"\n## {name}")
                GATEWAY_ROOT[0] = folder
                for figure, value in _measure(sections):
                    found[name].setdefault(figure, []).append(value)
    GATEWAY_ROOT[0] = ROOT
    _print_ratios(revision, found["base"], found["head"])


@contextmanager
def _checkout(revision: str) -> Iterator[Path]:
    git = ["git", "-C", str(ROOT), "worktree"]
    with tempfile.TemporaryDirectory() as parent:
        folder = Path(parent) / "base"
        subprocess.run([*git, "add", "--quiet", "--detach", str(folder), revision], check=True)
        try:
            yield folder
        finally:
            subprocess.run([*git, "remove", "--force", str(folder)], check=True)


def _measure(sections: Sequence[Callable[[], None]]) -> Iterator[tuple[Figure, float]]:
    """The numbers of all tables that the sections print."""
    PRINTED.clear()
    for section in sections:
        section()
    for title, header, rows in PRINTED:
        for index, row in enumerate(rows):
            named = len(rows) > 1  # by its first cell
            label = str(row[0]) if named else f"row {index + 1}"
            for place in range(named, len(row)):
                if number := _NUMBER.search(str(row[place])):
                    column = header[place]
                    if header.count(column) > 1:
                        column = f"{column}, column {place + 1}"
                    yield (title, label, column), float(number[0].replace(",", ""))


def _print_ratios(
    revision: str, base: dict[Figure, list[float]], head: dict[Figure, list[float]]
) -> None:
    tables: dict[str, list[list[object]]] = defaultdict(list)
    for figure, values in head.items():
        pairs = [h / b for h, b in zip(values, base.get(figure, []), strict=False) if b]
        if pairs:
            title, row, column = figure
            middle, low, high = statistics.median(pairs), min(pairs), max(pairs)
            medians = [f"{statistics.median(v):g}" for v in (base[figure], values)]
            spread = f"{low:.2f} to {high:.2f}"
            tables[title].append([row, column, *medians, f"**{middle:.2f}**", spread])
    for title, rows in tables.items():
        header = ["row", "figure", f"{revision}, median", "here, median", "ratio", "spread"]
        print_table(f"{title}, against {revision}", header, rows)
