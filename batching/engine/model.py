"""What the runner asks of a model, and how a call may fail."""

import enum
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Protocol

from batching.engine.errors import GatewayError
from batching.engine.prompt import CombinedPrompt
from batching.engine.usage import TokenUsage


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a streamed reply. `usage` counts from the call's beginning."""

    text: str = ""
    finish_reason: str | None = None
    block_reason: str | None = None
    usage: TokenUsage | None = None


class Remedy(enum.Enum):
    """What to do with the items that a call left without an answer."""

    AGAIN = "the same items together, after a pause"
    SINGLES = "each item alone, at once"
    FAIL = "no call can help"


class CallFailed(Exception):
    """A call broke off or was refused.

    `error` is what its items are told if no further call is made. `billable`: the model's side may
    have counted the call although its reply did not arrive whole.
    """

    def __init__(
        self,
        error: GatewayError,
        remedy: Remedy,
        *,
        retry_after_s: float | None = None,
        billable: bool = False,
    ) -> None:
        super().__init__(str(error))
        self.error = error
        self.remedy = remedy
        self.retry_after_s = retry_after_s
        self.billable = billable


class Model(Protocol):
    def stream(self, prompt: CombinedPrompt, *, timeout_s: float) -> AsyncGenerator[Piece, None]:
        """Makes one call and yields its reply; raises CallFailed."""
        ...
