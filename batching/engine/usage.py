"""Counts the tokens of a call and shares them among the items of its batch."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from batching.engine.lanes import estimate_tokens


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


class UsageMeter:
    """The tokens of one call, as the service reports them while the reply is written.

    Some services send running figures with every piece, others none. Only figures that follow the
    last text of a reply that has ended are exact; all others are estimates.
    """

    def __init__(self, prompts: Sequence[str], *, whole_prompt: str) -> None:
        self._prompt_weights = [len(prompt) for prompt in prompts]
        self._whole_prompt = whole_prompt
        self._reported: TokenUsage | None = None
        self._ended = False
        self.covers_text = False  # no text came after the last figures

    @property
    def exact(self) -> bool:
        return self._ended and self.covers_text

    def add_piece(self, usage: TokenUsage | None, text: str) -> None:
        self._reported = usage or self._reported
        self.covers_text = usage is not None or (self.covers_text and not text)

    def end(self) -> None:
        """The reply has ended; nothing more will be reported."""
        self._ended = True

    def measure_call(self, reply: str) -> TokenUsage | None:
        """None if nothing was reported and no text came."""
        if self.exact or not reply:
            return self._reported
        known = self._known
        return replace(known, output=max(known.output, estimate_tokens(reply)))

    def measure_answer(
        self, index: int, text: str, *, reply: str, lengths: Sequence[int]
    ) -> TokenUsage:
        """The share of one answer. Before the end of the reply its output is that of its text."""
        if self._ended:
            return self.share(self.measure_call(reply) or self._known, lengths)[index]
        share = self.share(self._known, lengths)[index]
        thoughts = self._known.thoughts // len(lengths)
        return replace(share, output=estimate_tokens(text), thoughts=thoughts)

    def share(self, usage: TokenUsage, lengths: Sequence[int]) -> list[TokenUsage]:
        """`lengths` are those of the answers that have arrived."""
        return share_usage(usage, prompt_weights=self._prompt_weights, output_weights=lengths)

    @property
    def _known(self) -> TokenUsage:
        return self._reported or TokenUsage(prompt=estimate_tokens(self._whole_prompt))
