"""What the workers can do now, and an estimate of how long a request will wait for its batch."""

from collections.abc import Iterable
from dataclasses import dataclass

from batching.engine.lanes import LaneRule, Priority

# The weight of the newest call in the mean duration.
NEWEST_WEIGHT = 0.2


def reserve_for_high(slots: int) -> int:
    """A quarter of the slots, at least one, and never all of them."""
    return min(max(1, slots // 4), slots - 1)


@dataclass(frozen=True, slots=True)
class Capacity:
    """`slots` calls can run at once; `reserve` of them are kept for HIGH.

    `call_s` is the mean duration of recent calls by priority, from LOW to HIGH; None before the
    first call. No call starts for `paused_s`, because the model service fails. `down`: the probe
    failed too.
    """

    slots: int
    reserve: int
    call_s: tuple[float | None, ...] = (None, None, None)
    paused_s: float = 0.0
    down: bool = False

    def estimate_s(self, ahead: int, rule: LaneRule, *, window_s: float | None = None) -> float:
        """Seconds until the answer of a request that has `ahead` requests of its lane before it.

        The sum of the rest of its window (or the pause, if that is longer) and one call for each
        round of slots that these requests fill.
        """
        usable = self.slots if rule.priority is Priority.HIGH else self.slots - self.reserve
        rounds = ahead // (rule.max_batch * max(1, usable)) + 1
        window_s = rule.window_s if window_s is None else window_s
        return max(window_s, self.paused_s) + rounds * (self.call_s[rule.priority] or 0.0)


def add_capacities(capacities: Iterable[Capacity]) -> Capacity | None:
    """The capacity of several workers together; the shortest pause holds for all of them."""
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


def update_mean(mean: float | None, newest: float) -> float:
    """The exponential moving average of the durations of calls."""
    return newest if mean is None else mean + NEWEST_WEIGHT * (newest - mean)
