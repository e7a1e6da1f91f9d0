"""What combining costs in tokens: an estimate, because the model service counts calls as a whole.

Beside the prompts a call carries the rules and the lane's style once, and for each request a key in
the prompt and in the reply. Their tokens are estimated as everywhere (`estimate_tokens`), which
errs upwards.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from batching.engine.lanes import LaneRule, Priority, TokenBudget, estimate_tokens
from batching.engine.prompt import combine
from batching.models import DailyStat
from batching.store.lane_rules import current_rules

SAMPLE_KEY = "0123456789"


@dataclass(frozen=True, slots=True)
class Frame:
    """Estimated tokens of a call's instruction, and of one key with its quotes."""

    instruction: int
    key: int


@lru_cache(maxsize=8)
def measure_frame(style: str) -> Frame:
    prompt = combine(
        [""], model="", style=style, output_tokens=1, draw=lambda: SAMPLE_KEY, budget=TokenBudget()
    )
    return Frame(estimate_tokens(prompt.system), estimate_tokens(prompt.contents))


def estimate_overhead(
    stats: Mapping[int, DailyStat], rules: Mapping[Priority, LaneRule] | None = None
) -> dict[int, int]:
    """By priority: calls × instruction + 2 × requests × key, with today's style of the lane.

    Requests that were asked for again count once, so retries make it a little too low.
    """
    rules = rules or current_rules()
    frames = {priority: measure_frame(rules[Priority(priority)].style) for priority in stats}
    return {
        priority: stat.model_calls * frames[priority].instruction
        + 2 * stat.batched_requests * frames[priority].key
        for priority, stat in stats.items()
    }
