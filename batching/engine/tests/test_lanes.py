import pytest

from batching.engine.lanes import LaneRule, Priority, TokenBudget, estimate_tokens
from batching.engine.tests.traces import rules_with


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("max_batch", 0),
        ("max_batch", -1),
        ("max_batch", 1.5),
        ("max_batch", "a"),
        ("max_batch", True),
        ("tokens", 0),
        ("max_queue", 0),
        ("window_s", -0.1),
        ("window_s", float("nan")),
        ("window_s", float("inf")),
        ("window_s", "1"),
        ("latency_s", 0.0),
    ],
)
def test_rule_that_no_batch_could_obey_is_refused_by_name(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=field):
        rules_with(Priority.HIGH, **{field: value})


def test_smallest_valid_values_are_accepted() -> None:
    rule = LaneRule(Priority.LOW, 0.0, 1, 1, 0.001, 1)
    assert (rule.window_s, rule.max_batch, rule.max_queue) == (0.0, 1, 1)


def test_answers_get_the_output_tokens_that_thinking_leaves() -> None:
    assert TokenBudget(output=100, thinking=30).answers == 70
    assert TokenBudget(output=100, thinking=200).answers == 1


def test_estimate_counts_bytes_because_other_scripts_need_more_tokens() -> None:
    assert estimate_tokens("") == 1
    assert estimate_tokens("a" * 300) == 101
    assert estimate_tokens("漢" * 100) == 101
    assert estimate_tokens("\ud83d") == 1
