"""The positions of columns and bars, against values computed by hand."""

import pytest

from batching.pages.charts import Bar, Series, draw_bars, draw_columns
from batching.pages.figures import Figure, format_number
from batching.templatetags.figures import breakable


def test_negative_columns_start_at_the_axis():
    series = Series("saved", "tone-1", [Figure("a", "saved", 3), Figure("b", "saved", -1)])
    chart = draw_columns("Saved", labels=["Mon", "Tue"], series=[series])
    up, down = chart.columns
    assert (chart.zero_y, chart.highest, chart.lowest) == (75, "3", "-1")
    assert (up.x, up.y, up.width, up.height) == (5, 0, 40, 75)
    assert (down.x, down.y, down.height) == (55, 75, 25)


def test_columns_of_zeros_have_no_height():
    series = Series("n", "c", [Figure("a", "n", 0)])
    chart = draw_columns("None", labels=["Mon"], series=[series])
    assert [(column.y, column.height) for column in chart.columns] == [(0, 0)]


def test_bars_share_one_scale_with_their_targets():
    bars = [
        Bar("a", "p50", 100.0, css="c", target=400),
        Bar("b", "p95", 200.0, css="c"),
        Bar("d", "p99", None, css="c"),
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
