"""The positions of columns and bars, against values computed by hand."""

import pytest

from batching.pages.charts import Bar, Cell, Series, draw_bars, draw_columns, format_number
from batching.templatetags.figures import breakable


def test_negative_columns_start_at_the_axis():
    series = Series("saved", "tone-1", [Cell("a", 3), Cell("b", -1)])
    chart = draw_columns("Saved", labels=["Mon", "Tue"], series=[series])
    up, down = chart.columns
    assert (chart.zero_y, chart.highest, chart.lowest) == (75, "3", "-1")
    assert (up.x, up.y, up.width, up.height) == (5, 0, 40, 75)
    assert (down.x, down.y, down.height) == (55, 75, 25)


def test_columns_of_zeros_have_no_height():
    chart = draw_columns("None", labels=["Mon"], series=[Series("n", "c", [Cell("a", 0)])])
    assert [(column.y, column.height) for column in chart.columns] == [(0, 0)]


def test_bars_share_one_scale_with_their_targets():
    bars = [
        Bar("p50", "a", 100.0, "c", target=400),
        Bar("p95", "b", 200.0, "c"),
        Bar("p99", "d", None, "c"),
    ]
    chart = draw_bars("Latency", bars=bars)
    assert [(bar.width, bar.mark) for bar in chart.bars] == [(25, 100), (50, None), (0, None)]
    assert [bar.text for bar in chart.bars] == ["100", "200", "–"]


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (1234, "1,234"), (3.0, "3"), (2.256, "2.26"), (2260.45, "2,260"), (None, "–")],
)
def test_numbers_are_formatted(value, text):
    assert format_number(value) == text


def test_long_code_breaks_after_its_underscores_and_is_escaped():
    assert breakable("missing_answer") == "missing_<wbr>answer"
    assert breakable("<b>") == "&lt;b&gt;"
