"""The rules of a lane: how long and how full its batches get, and what one model call can hold."""

import enum
import math
from dataclasses import dataclass

# A client waits at most this much longer than its lane's latency target.
GRACE_S = 30.0


class Priority(enum.IntEnum):
    LOW = 0
    MEDIUM = 1
    HIGH = 2


class Scope(enum.StrEnum):
    """Which requests may share a model call."""

    EVERYONE = "everyone"
    CLIENT = "client"
    USERNAME = "username"


@dataclass(frozen=True, slots=True)
class LaneRule:
    """When a batch of this priority leaves, and what its call may cost.

    The oldest request waits `window_s` for others. `tokens` limits the output of one answer.
    While others wait, one client may hold `queue_share` percent of `max_queue` places.
    `latency_s` is the target time from acceptance to answer. `hold`: no answer is released before
    the whole reply has been checked. Raises ValueError, which names the field, for a rule that no
    batch could obey.
    """

    priority: Priority
    window_s: float
    max_batch: int
    tokens: int
    latency_s: float
    max_queue: int
    queue_share: int = 50
    scope: Scope = Scope.EVERYONE
    style: str = ""
    hold: bool = False

    def __post_init__(self) -> None:
        for name in ("max_batch", "tokens", "max_queue", "queue_share"):
            value = getattr(self, name)
            if type(value) is not int or value < 1:
                raise ValueError(f"{name} must be a whole number of at least 1, not {value!r}")
        for name, minimum in (("window_s", 0.0), ("latency_s", 0.001)):
            value = getattr(self, name)
            if type(value) not in (int, float) or not math.isfinite(value) or value < minimum:
                raise ValueError(f"{name} must be a number of at least {minimum}, not {value!r}")

    @property
    def longest_wait_s(self) -> float:
        """The maximum time that a client waits for its answer."""
        return self.latency_s + GRACE_S

    @property
    def share(self) -> int:
        """How many queued requests one client may hold while others wait, at least one."""
        return max(1, self.max_queue * self.queue_share // 100)

    def group_of(self, client: int, username: str) -> str:
        """The name of the group: requests of this lane with the same name may share a call."""
        match self.scope:
            case Scope.CLIENT:
                return f"{client}"
            case Scope.USERNAME:
                return f"{client}:{username}"
        return ""


@dataclass(frozen=True, slots=True)
class TokenBudget:
    """What one model call can hold, in tokens. Thinking counts against the output limit."""

    input: int = 1_000_000
    output: int = 65_536
    thinking: int = 8_192

    @property
    def answers(self) -> int:
        """Output tokens that are left for answers."""
        return max(1, self.output - self.thinking)


DEFAULT_BUDGET = TokenBudget()


def estimate_tokens(text: str) -> int:
    """One token per three UTF-8 bytes: for most languages not fewer than a tokenizer counts."""
    return len(text.encode("utf-8", "replace")) // 3 + 1
