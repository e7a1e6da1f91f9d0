"""The rules of one priority."""

import enum
import math
from dataclasses import dataclass

# A client waits for at most its lane's latency target and this long.
GRACE_S = 30.0


class Priority(enum.IntEnum):
    LOW = 0
    MEDIUM = 1
    HIGH = 2


class Scope(enum.StrEnum):
    """Whose prompts may share a model call."""

    EVERYONE = "everyone"
    CLIENT = "client"
    USERNAME = "username"


@dataclass(frozen=True, slots=True)
class LaneRule:
    """When a batch of this priority leaves, and what its call may cost.

    Raises ValueError, naming the field, for a rule that no batch could obey.
    """

    priority: Priority
    window_s: float
    """how long the oldest request waits for others"""
    max_batch: int
    tokens: int
    """output tokens of one answer"""
    latency_s: float
    """the target from acceptance to answer"""
    max_queue: int
    scope: Scope = Scope.EVERYONE
    style: str = ""
    hold: bool = False
    """answers wait until the whole reply has been checked"""

    def __post_init__(self) -> None:
        for name in ("max_batch", "tokens", "max_queue"):
            value = getattr(self, name)
            if type(value) is not int or value < 1:
                raise ValueError(f"{name} must be a whole number of at least 1, not {value!r}")
        for name, least in (("window_s", 0.0), ("latency_s", 0.001)):
            value = getattr(self, name)
            if type(value) not in (int, float) or not math.isfinite(value) or value < least:
                raise ValueError(f"{name} must be a number of at least {least}, not {value!r}")

    @property
    def longest_wait_s(self) -> float:
        """How long a client waits for its answer at most."""
        return self.latency_s + GRACE_S

    def group_of(self, client: int, username: str) -> str:
        """Requests of this lane may share a call if this is the same for them."""
        match self.scope:
            case Scope.CLIENT:
                return f"{client}"
            case Scope.USERNAME:
                return f"{client}:{username}"
        return ""


@dataclass(frozen=True, slots=True)
class TokenBudget:
    """What one model call can hold, in tokens."""

    input: int = 1_000_000
    output: int = 65_536
    thinking: int = 8_192
    """kept free of the output limit, because thinking counts against it"""

    @property
    def answers(self) -> int:
        """Output tokens that are left for answers."""
        return max(1, self.output - self.thinking)


DEFAULT_BUDGET = TokenBudget()


def estimate_tokens(text: str) -> int:
    """At least what a tokenizer would count for most languages: a token per three UTF-8 bytes."""
    return len(text.encode("utf-8", "replace")) // 3 + 1
