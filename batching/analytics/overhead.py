"""Estimates the tokens that combining adds: an instruction per call, and two keys per request.

The model service reports only the tokens of a whole call.
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import TypeVar

from batching.engine.lanes import Priority, TokenBudget, estimate_tokens
from batching.engine.prompt import combine
from batching.models import DailyStat
from batching.store.lane_rules import current_rules

SAMPLE_KEY = "0123456789"

Lane = TypeVar("Lane", bound=int)


@lru_cache(maxsize=8)
def estimate_frame(style: str) -> tuple[int, int]:
    """Estimates the tokens of a call's instruction, and of one key with its quotes."""
    prompt = combine(
        [""], model="", style=style, output_tokens=1, draw=lambda: SAMPLE_KEY, budget=TokenBudget()
    )
    return estimate_tokens(prompt.system), estimate_tokens(prompt.contents)


def estimate_overhead(stats: Mapping[Lane, DailyStat]) -> dict[Lane, int]:
    """By priority: calls × instruction + 2 × requests × key, with the lane's current style.

    The estimate is slightly too low after retries, because it counts a retried request once.
    """
    rules, overhead = current_rules(), {}
    for lane, stat in stats.items():
        instruction, key = estimate_frame(rules[Priority(lane)].style)
        overhead[lane] = stat.model_calls * instruction + 2 * stat.batched_requests * key
    return overhead
