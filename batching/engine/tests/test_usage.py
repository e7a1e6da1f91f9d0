import pytest
from hypothesis import given
from hypothesis import strategies as st

from batching.engine.usage import TokenUsage, apportion, share_usage

WEIGHTS = st.lists(st.integers(0, 10_000), min_size=1, max_size=10)


@given(st.integers(0, 10**7), WEIGHTS)
def test_parts_sum_to_the_total_and_follow_the_weights(total: int, weights: list[int]) -> None:
    parts = apportion(total, weights)
    assert sum(parts) == total
    whole = sum(weights)
    if whole:
        for part, weight in zip(parts, weights, strict=True):
            assert abs(part - total * weight / whole) < 1


def test_parts_without_weights_are_equal() -> None:
    assert apportion(7, [0, 0, 0]) == [3, 2, 2]


def test_largest_remainder_gets_the_rest() -> None:
    assert apportion(10, [1, 2, 4]) == [1, 3, 6]
    assert apportion(10, [1, 1, 4]) == [2, 2, 6]
    assert apportion(3, [0, 5, 0]) == [0, 3, 0]


def test_weights_of_different_numbers_of_items_are_refused() -> None:
    with pytest.raises(ValueError, match="shorter"):
        share_usage(TokenUsage(prompt=1), prompt_weights=[1, 1], output_weights=[1])


def test_input_follows_prompts_and_output_follows_answers() -> None:
    usage = TokenUsage(prompt=10, output=100, thoughts=9, cached=4)
    shares = share_usage(usage, prompt_weights=[1, 1], output_weights=[0, 3])
    assert shares == [TokenUsage(5, 0, 0, 2), TokenUsage(5, 100, 9, 2)]
    assert shares[0] + shares[1] == usage
    assert usage.total == 119
