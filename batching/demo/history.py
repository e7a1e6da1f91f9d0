"""Believable history for demos and measurements: how many requests come when, in which batches.

Nothing here touches the database or the clock: the same `random.Random`, `now` and rules give the
same history.
"""

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import accumulate

from batching.demo.batches import make_batch
from batching.demo.rows import DemoBatch, Departure, Weather, make_unsent
from batching.engine.lanes import LaneRule, Priority

HOURS_A_WEEK = 7 * 24
BY_HOUR = (
    *(0.20, 0.16, 0.14, 0.13, 0.15, 0.22, 0.38, 0.62, 0.88, 1.00, 1.08, 1.02),
    *(0.86, 0.96, 1.08, 1.05, 0.96, 0.80, 0.64, 0.55, 0.50, 0.44, 0.35, 0.27),
)
BY_WEEKDAY = (1.0, 1.08, 1.10, 1.04, 0.92, 0.42, 0.36)
FIRST_WEIGHT, LAST_WEIGHT = 0.55, 1.45
"""growth: how busy the first hour is, and how busy the last"""

UNSENT = 0.012
"""of the departures, those of a request that is cancelled or expires in the queue"""
STORMS = 0.005
"""of the hours, those in which the model service is overloaded"""
STORM = Weather(slowness=1.6, refusing=0.3)
SETTLED_S = 60.0
"""beyond the longest deadline: by then everything has surely ended"""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is asked for. `now` is aware and in UTC; the history ends a little before it."""

    chats: int
    weeks: int
    now: datetime
    rules: Mapping[Priority, LaneRule]
    model: str


@dataclass(frozen=True, slots=True)
class _Hour:
    """`busy` is 0 to 1; `weight` is its share of the history, not normed."""

    start: datetime
    weight: float
    busy: float
    storm: bool


@dataclass(frozen=True, slots=True, order=True)
class _Draft:
    at: datetime
    priority: Priority
    size: int
    unsent: bool = field(compare=False)


def generate_history(chance: random.Random, plan: Plan) -> Iterator[DemoBatch]:
    """Exactly `plan.chats` requests, hour by hour, batches in the order of their claims."""
    hours = _plan_hours(chance, plan)
    whole = sum(hour.weight for hour in hours)
    left, owed = plan.chats, 0.0
    for hour in hours:
        owed += plan.chats * hour.weight / whole
        # What rounding left over falls into the last hour.
        due = left if hour is hours[-1] else min(left, round(owed))
        drafts = _draft_hour(chance, hour, due=due, left=left, rules=plan.rules)
        drafted = sum(draft.size for draft in drafts)
        left, owed = left - drafted, owed - drafted
        for draft in drafts:
            yield _make_entry(chance, draft, hour, plan)


def _plan_hours(chance: random.Random, plan: Plan) -> Sequence[_Hour]:
    count = plan.weeks * HOURS_A_WEEK
    waits_s = max(rule.longest_wait_s for rule in plan.rules.values())
    end = plan.now - timedelta(seconds=waits_s + SETTLED_S)
    return [
        _plan_hour(chance, end - timedelta(hours=back), back / count)
        for back in range(count, 0, -1)
    ]


def _plan_hour(chance: random.Random, start: datetime, age: float) -> _Hour:
    """`age` is 1 for the first hour and almost 0 for the last."""
    rhythm = BY_HOUR[start.hour] * BY_WEEKDAY[start.weekday()]
    growth = LAST_WEIGHT + (FIRST_WEIGHT - LAST_WEIGHT) * age
    weight = rhythm * growth * chance.uniform(0.85, 1.15)
    peak = max(BY_HOUR) * max(BY_WEEKDAY) * LAST_WEIGHT * 1.15
    return _Hour(start, weight, weight / peak, storm=chance.random() < STORMS)


def _draft_hour(
    chance: random.Random,
    hour: _Hour,
    *,
    due: int,
    left: int,
    rules: Mapping[Priority, LaneRule],
) -> list[_Draft]:
    """Departures of at least `due` requests, `left` at most, sorted by time."""
    # By day people ask, by night the jobs that nobody waits for.
    low = 0.4 - 0.25 * hour.busy
    priorities = (Priority.HIGH, Priority.MEDIUM, Priority.LOW)
    shares = tuple(accumulate(((1 - low) * 0.4, (1 - low) * 0.6, low)))
    drafts, drafted = [], 0
    while drafted < due:
        (priority,) = chance.choices(priorities, cum_weights=shares)
        unsent = chance.random() < UNSENT
        size = 1 if unsent else _draw_size(chance, rules[priority], busy=hour.busy)
        at = hour.start + timedelta(seconds=3600 * chance.random())
        drafts.append(_Draft(at, priority, min(size, left - drafted), unsent))
        drafted += drafts[-1].size
    return sorted(drafts)


def _draw_size(chance: random.Random, rule: LaneRule, *, busy: float) -> int:
    """One, and each further place is taken with a probability that grows with the traffic."""
    taken = 0.25 + 0.45 * busy
    return 1 + sum(chance.random() < taken for _ in range(rule.max_batch - 1))


def _make_entry(chance: random.Random, draft: _Draft, hour: _Hour, plan: Plan) -> DemoBatch:
    weather = STORM if hour.storm else Weather(slowness=0.85 + 0.3 * hour.busy)
    departure = Departure(draft.at, draft.size, plan.rules[draft.priority], plan.model, weather)
    return make_unsent(chance, departure) if draft.unsent else make_batch(chance, departure)
