"""The columns and bars of charts, in per cent of the chart's frame; the templates draw them.

`name` is the number's path in the document of GET /v1/analytics, such as `tokens.prompt`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

# The share of a day's width that is empty between two days.
GAP = 0.2


@dataclass(frozen=True)
class Cell:
    """`link` leads to the rows behind the value."""

    name: str
    value: float
    link: str = ""

    @property
    def text(self) -> str:
        return format_number(self.value)


@dataclass(frozen=True)
class Series:
    """One colour of a column chart; the i-th cell belongs to the i-th label."""

    label: str
    css: str
    cells: Sequence[Cell]


@dataclass(frozen=True)
class Column:
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
    rows: Sequence[tuple[str, Sequence[Cell]]]
    highest: str
    lowest: str
    zero_y: float
    template = "charts/columns.html"


@dataclass(frozen=True)
class Bar:
    """`target` draws a mark, `link` leads to the rows behind the value, `scale` fills the width."""

    label: str
    name: str
    value: float | None
    css: str
    unit: str = ""
    target: float | None = None
    link: str = ""
    scale: float = 1

    @property
    def text(self) -> str:
        return format_number(self.value, unit=self.unit)

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


def format_number(value: float | None, *, unit: str = "") -> str:
    """1,234 or 3.25; a dash for None."""
    if value is None:
        return "–"
    if isinstance(value, float) and abs(value) >= 10:
        value = round(value)  # the numbers with more digits are estimates
    text = f"{value:,.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else f"{value:,}"
    return f"{text} {unit}".strip()


def draw_columns(title: str, *, labels: Sequence[str], series: Sequence[Series]) -> Columns:
    values = [cell.value for one in series for cell in one.cells]
    top, bottom = max([0, *values]), min([0, *values])
    span = (top - bottom) or 1
    zero_y = round(top / span * 100, 2)
    step = 100 / max(1, len(labels))
    width = step * (1 - GAP) / max(1, len(series))
    columns = [
        Column(
            x=round(day * step + step * GAP / 2 + index * width, 3),
            y=round((top - max(cell.value, 0)) / span * 100, 2),
            width=round(width, 3),
            height=round(abs(cell.value) / span * 100, 2),
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
        zero_y=zero_y,
    )


def draw_bars(title: str, *, bars: Sequence[Bar], note: str = "") -> Bars:
    """All bars on one scale, which begins at zero."""
    ends = [end for bar in bars for end in (bar.value, bar.target) if end]
    scale = max(ends, default=0) or 1
    return Bars(title, [replace(bar, scale=scale) for bar in bars], note)
