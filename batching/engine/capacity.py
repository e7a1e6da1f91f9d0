"""What the processes that run batches can do at this moment, and how long a request will wait."""

from collections.abc import Iterable
from dataclasses import dataclass

from batching.engine.lanes import LaneRule, Priority

LEARNING = 0.2
"""the weight of the newest call in the mean"""


def reserve_for_high(slots: int) -> int:
    """A quarter, but at least one, and never everything."""
    return min(max(1, slots // 4), slots - 1)


@dataclass(frozen=True, slots=True)
class Capacity:
    """`slots` calls at once, of which `reserve` are HIGH's own.

    `call_s` is what recent calls took by priority, from LOW on, None before the first. For
    `paused_s` no call starts, because the model service fails; `down`: it failed also when it was
    tried again.
    """

    slots: int
    reserve: int
    call_s: tuple[float | None, ...] = (None, None, None)
    paused_s: float = 0.0
    down: bool = False

    def estimate_s(self, ahead: int, rule: LaneRule, *, window_s: float | None = None) -> float:
        """Seconds until the answer of a request with `ahead` of its priority before it.

        The rest of its window, the pause, and a call for each round of slots that they fill.
        """
        usable = self.slots if rule.priority is Priority.HIGH else self.slots - self.reserve
        rounds = ahead // (rule.max_batch * max(1, usable)) + 1
        window_s = rule.window_s if window_s is None else window_s
        return max(window_s, self.paused_s) + rounds * (self.call_s[rule.priority] or 0.0)


def add_up(capacities: Iterable[Capacity]) -> Capacity | None:
    """Of several processes: what one of them can start is not held up by another's pause."""
    found = list(capacities)
    if not found:
        return None
    times = [[s for c in found if (s := c.call_s[p]) is not None] for p in Priority]
    return Capacity(
        slots=sum(c.slots for c in found),
        reserve=sum(c.reserve for c in found),
        call_s=tuple(sum(known) / len(known) if known else None for known in times),
        paused_s=min(c.paused_s for c in found),
        down=all(c.down for c in found),
    )


def learn(mean: float | None, newest: float) -> float:
    """The exponential mean of what calls took."""
    return newest if mean is None else mean + LEARNING * (newest - mean)
