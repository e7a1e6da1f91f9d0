"""What a batch needs of a model: one streamed call, and the ways in which it may fail."""

import enum
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Protocol

from batching.engine.errors import GatewayError
from batching.engine.prompt import CombinedPrompt
from batching.engine.usage import TokenUsage


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a streamed reply. `usage` counts from the beginning of the call.

    `thinks`: it holds thoughts of the model, which are no part of the text.
    """

    text: str = ""
    finish_reason: str | None = None
    block_reason: str | None = None
    usage: TokenUsage | None = None
    thinks: bool = False


class Remedy(enum.Enum):
    """What to do with the items that a call left without an answer."""

    TOGETHER = "the same items in one call, after a pause"
    ALONE = "each item in a call of its own, at once"
    ALONE_ONCE = "the same, unless the item was already alone in its call"
    APART = "at once, the item that caused it alone and the others in one call"
    FAIL = "no call can help"


class CallFailed(Exception):
    """A call broke off, was refused, or left items without an answer.

    These items fail with `error` if no further call is made. `perhaps_billed`: the service may bill
    the call although its reply did not arrive whole.
    """

    def __init__(
        self,
        error: GatewayError,
        remedy: Remedy,
        *,
        retry_after_s: float | None = None,
        perhaps_billed: bool = False,
    ) -> None:
        super().__init__(str(error))
        self.error = error
        self.remedy = remedy
        self.retry_after_s = retry_after_s
        self.perhaps_billed = perhaps_billed

    @property
    def is_no_reply(self) -> bool:
        """The service cannot be reached, is overloaded, or its reply broke off or is unreadable."""
        unreadable = self.remedy is Remedy.ALONE and self.perhaps_billed
        return self.remedy is Remedy.TOGETHER or unreadable


class Model(Protocol):
    def stream(self, prompt: CombinedPrompt, *, timeout_s: float) -> AsyncGenerator[Piece, None]:
        """Makes one call and yields its reply; raises CallFailed."""
        ...
