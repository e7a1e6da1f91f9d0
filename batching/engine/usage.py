"""Counts the tokens of a call and shares them among the items of its batch."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TokenUsage:
    """Tokens by kind; `cached` is the part of `prompt` that came from the model's cache."""

    prompt: int = 0
    output: int = 0
    thoughts: int = 0
    cached: int = 0

    @property
    def total(self) -> int:
        return self.prompt + self.output + self.thoughts

    def __add__(self, other: "TokenUsage") -> "TokenUsage":
        return TokenUsage(
            self.prompt + other.prompt,
            self.output + other.output,
            self.thoughts + other.thoughts,
            self.cached + other.cached,
        )


def apportion(total: int, weights: Sequence[int]) -> list[int]:
    """Splits `total` in proportion to `weights`; the parts sum to it exactly.

    This is the largest remainder method. If all weights are 0, the parts are as equal as possible.
    """
    if not any(weights):
        weights = [1] * len(weights)
    whole = sum(weights)
    parts = [total * weight // whole for weight in weights]
    by_remainder = sorted(range(len(weights)), key=lambda i: (-(total * weights[i] % whole), i))
    for index in by_remainder[: total - sum(parts)]:
        parts[index] += 1
    return parts


def share_usage(
    usage: TokenUsage, *, prompt_weights: Sequence[int], output_weights: Sequence[int]
) -> list[TokenUsage]:
    """Each item's share: input tokens by prompt length, output tokens by answer length."""
    shares = zip(
        apportion(usage.prompt, prompt_weights),
        apportion(usage.output, output_weights),
        apportion(usage.thoughts, output_weights),
        apportion(usage.cached, prompt_weights),
        strict=True,
    )
    return [TokenUsage(*share) for share in shares]
