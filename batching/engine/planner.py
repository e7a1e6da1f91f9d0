"""Decides when a batch leaves and which requests it holds. Pure: time is an argument.

All times are seconds of one monotonic clock. The items of a group may share a batch: they wait in
one lane and, where the scope of the lane demands it, belong to one client or username.
"""

import enum
import heapq
from collections.abc import Callable, Iterable, Mapping, Sized
from dataclasses import dataclass
from typing import TypeVar

from batching.engine.lanes import DEFAULT_BUDGET, LaneRule, Priority, TokenBudget

GroupKey = tuple[Priority, str]
# A heap with fewer entries of ended items than this is not rebuilt.
MIN_STALE = 64
_Entry = TypeVar("_Entry", int, tuple[float, int], tuple[float, int, str])


class Trigger(enum.StrEnum):
    """Why a batch left."""

    FULL = "full"
    WINDOW = "window"


@dataclass(frozen=True, slots=True)
class QueuedItem:
    """A waiting request. Ids rise in the order of acceptance: the oldest item has the smallest id.
    (Of requests that are committed together, those with a chosen request id are sorted by it.)

    `target` is the time of acceptance plus the latency target of the lane; among due lanes the one
    with the smallest target goes first. `exchange` names the HTTP exchange that brought the
    request. `generation` distinguishes requests that used the same id one after another. Both are
    empty where they are not known.
    """

    id: int
    priority: Priority
    accepted: float
    due: float
    deadline: float
    target: float
    input_tokens: int = 0
    output_tokens: int = 0
    client: int = 0
    username: str = ""
    request_id: str = ""
    exchange: str = ""
    generation: int = 0


@dataclass(frozen=True, slots=True)
class Batch:
    """Items that leave at the time `at`, `lateness_s` after they were due (0 if the batch is full).

    `probe`: the first call of the batch probes a failing service.
    """

    priority: Priority
    items: tuple[QueuedItem, ...]
    trigger: Trigger
    at: float
    lateness_s: float
    probe: bool = False


def _compact(heap: list[_Entry], live: Sized, keep: Callable[[_Entry], bool]) -> bool:
    """Drops the entries of ended items once they outnumber the `live` ones; returns True if so.

    Between two such runs at least as many items end as entries are dropped.
    """
    if len(heap) <= 2 * len(live) + MIN_STALE:
        return False
    heap[:] = set(filter(keep, heap))
    heapq.heapify(heap)
    return True


class Group:
    """The waiting items that may share a batch, oldest first."""

    def __init__(self) -> None:
        self.items: dict[int, QueuedItem] = {}
        self.input_tokens = 0
        self.output_tokens = 0
        self._ids: list[int] = []
        self._dues: list[tuple[float, int]] = []

    def push(self, item: QueuedItem) -> None:
        self.items[item.id] = item
        self.input_tokens += item.input_tokens
        self.output_tokens += item.output_tokens
        heapq.heappush(self._ids, item.id)
        heapq.heappush(self._dues, (item.due, item.id))

    def remove(self, item: QueuedItem) -> None:
        del self.items[item.id]
        self.input_tokens -= item.input_tokens
        self.output_tokens -= item.output_tokens
        _compact(self._ids, self.items, self.items.__contains__)
        _compact(self._dues, self.items, self._waits)

    def _waits(self, entry: tuple[float, int]) -> bool:
        """Returns False for an entry of an ended item, or of an earlier generation of its id."""
        item = self.items.get(entry[1])
        return item is not None and item.due == entry[0]

    @property
    def oldest(self) -> QueuedItem:
        while self._ids[0] not in self.items:
            heapq.heappop(self._ids)
        return self.items[self._ids[0]]

    @property
    def first_due(self) -> float:
        """The earliest due time; after a change of the settings it may not be the oldest item's."""
        while not self._waits(self._dues[0]):
            heapq.heappop(self._dues)
        return self._dues[0][0]

    def is_full(self, rule: LaneRule, budget: TokenBudget) -> bool:
        return (
            len(self.items) >= rule.max_batch
            or self.input_tokens > budget.input
            or self.output_tokens > budget.answers
        )

    def take(self, rule: LaneRule, budget: TokenBudget) -> tuple[QueuedItem, ...]:
        """Removes and returns the oldest items that fit into one call."""
        taken = [self.oldest]
        self.remove(taken[0])
        used_input, used_output = taken[0].input_tokens, taken[0].output_tokens
        while self.items and len(taken) < rule.max_batch:
            item = self.oldest
            used_input += item.input_tokens
            used_output += item.output_tokens
            if used_input > budget.input or used_output > budget.answers:
                break
            self.remove(item)
            taken.append(item)
        return tuple(taken)


class Planner:
    """Holds the waiting items; returns the batch that may leave now and the time to ask again."""

    def __init__(
        self, rules: Mapping[Priority, LaneRule], *, budget: TokenBudget = DEFAULT_BUDGET
    ) -> None:
        self.budget = budget
        self._rules = dict(rules)
        self._items: dict[int, QueuedItem] = {}
        self.depths = dict.fromkeys(Priority, 0)  # the number of waiting items of each lane
        self._groups: dict[GroupKey, Group] = {}
        self._dues: list[tuple[float, int]] = []
        self._deadlines: list[tuple[float, int]] = []
        self._ready: dict[Priority, list[tuple[float, int, str]]] = {p: [] for p in Priority}
        self._ready_names: dict[Priority, set[str]] = {p: set() for p in Priority}

    def __len__(self) -> int:
        return len(self._items)

    def __contains__(self, item_id: int) -> bool:
        return item_id in self._items

    def configure(self, rules: Mapping[Priority, LaneRule]) -> None:
        """Applies changed rules; waiting items keep their due times but get new groups."""
        items = [self._items[item_id] for item_id in sorted(self._items)]
        for item in items:
            self.discard(item.id)
        self._rules = dict(rules)
        for item in items:
            self.push(item)

    def push(self, item: QueuedItem) -> None:
        """Adds an item, unless it waits here already; replaces one of another generation."""
        known = self._items.get(item.id)
        if known is not None and known.generation == item.generation:
            return
        self.discard(item.id)  # An earlier generation whose end is not known here.
        self._items[item.id] = item
        self.depths[item.priority] += 1
        key = self._key_of(item)
        group = self._groups.setdefault(key, Group())
        group.push(item)
        heapq.heappush(self._dues, (item.due, item.id))
        heapq.heappush(self._deadlines, (item.deadline, item.id))
        if group.is_full(self._rules[item.priority], self.budget):
            self._mark_ready(key)

    def discard(self, item_id: int) -> bool:
        """Removes an item that has ended; returns False if it does not wait here."""
        item = self._items.get(item_id)
        if item is None:
            return False
        key = self._key_of(item)
        self._groups[key].remove(item)
        self._drop([item], key)
        return True

    def expire(self, now: float) -> list[QueuedItem]:
        """Removes and returns the items whose deadline has passed."""
        expired = []
        while (entry := self._peek(self._deadlines)) and entry[0] <= now:
            item = self._items[entry[1]]
            if item.deadline > entry[0]:
                heapq.heappop(self._deadlines)  # An earlier generation left this entry.
                continue
            expired.append(item)
            self.discard(item.id)
        return expired

    def take(self, now: float, may_start: Callable[[Priority], bool]) -> Batch | None:
        """Removes and returns the batch that leaves now, if one is due and may start.

        The due group whose oldest item has the earliest latency target goes first. Of equal ones,
        the higher priority goes first, then the older item.
        """
        self._mark_due_groups(now)
        tops = [
            (top[0], -priority, top[1], top[2])
            for priority in Priority
            if self._ready[priority]
            and may_start(priority)
            and (top := self._first_ready(priority, now))
        ]
        if not tops:
            return None
        _, negative_priority, _, name = min(tops)
        return self._form_batch((Priority(-negative_priority), name), now)

    def next_wakeup(self) -> float | None:
        """The next time at which an item becomes due or expires; None while nothing waits."""
        heads = [entry[0] for heap in (self._dues, self._deadlines) if (entry := self._peek(heap))]
        return min(heads) if heads else None

    def _form_batch(self, key: GroupKey, now: float) -> Batch:
        rule, group = self._rules[key[0]], self._groups[key]
        heapq.heappop(self._ready[key[0]])  # `take` found this group at the top of the heap.
        self._ready_names[key[0]].discard(key[1])
        full = group.is_full(rule, self.budget)
        lateness = max(0.0, now - group.first_due)
        items = group.take(rule, self.budget)
        self._drop(items, key)
        if key in self._groups and self._is_due(group, rule, now):
            self._mark_ready(key)
        return Batch(
            priority=key[0],
            items=items,
            trigger=Trigger.FULL if full else Trigger.WINDOW,
            at=now,
            lateness_s=0.0 if full else lateness,
        )

    def _is_due(self, group: Group, rule: LaneRule, now: float) -> bool:
        return group.first_due <= now or group.is_full(rule, self.budget)

    def _key_of(self, item: QueuedItem) -> GroupKey:
        rule = self._rules[item.priority]
        return item.priority, rule.group_of(item.client, item.username)

    def _mark_ready(self, key: GroupKey) -> None:
        if key[1] in self._ready_names[key[0]]:
            return
        self._ready_names[key[0]].add(key[1])
        oldest = self._groups[key].oldest
        heapq.heappush(self._ready[key[0]], (oldest.target, oldest.id, key[1]))

    def _first_ready(self, priority: Priority, now: float) -> tuple[float, int, str] | None:
        """The entry of the group that goes first; outdated entries are dropped or corrected."""
        ready, rule = self._ready[priority], self._rules[priority]
        while ready:
            target, item_id, name = ready[0]
            group = self._groups.get((priority, name))
            if group is not None and self._is_due(group, rule, now):
                oldest = group.oldest
                if (oldest.target, oldest.id) == (target, item_id):
                    return ready[0]
                heapq.heapreplace(ready, (oldest.target, oldest.id, name))
            else:
                heapq.heappop(ready)
                self._ready_names[priority].discard(name)
        return None

    def _mark_due_groups(self, now: float) -> None:
        while (entry := self._peek(self._dues)) and entry[0] <= now:
            heapq.heappop(self._dues)
            self._mark_ready(self._key_of(self._items[entry[1]]))

    def _peek(self, heap: list[tuple[float, int]]) -> tuple[float, int] | None:
        while heap and heap[0][1] not in self._items:
            heapq.heappop(heap)
        return heap[0] if heap else None

    def _drop(self, items: Iterable[QueuedItem], key: GroupKey) -> None:
        for item in items:
            del self._items[item.id]
            self.depths[item.priority] -= 1
        if not self._groups[key].items:
            del self._groups[key]
        self._compact_heaps(key[0])

    def _compact_heaps(self, lane: Priority) -> None:
        items, groups, ready = self._items, self._groups, self._ready[lane]
        _compact(self._dues, items, lambda e: e[1] in items and items[e[1]].due == e[0])
        _compact(self._deadlines, items, lambda e: e[1] in items and items[e[1]].deadline == e[0])
        if _compact(ready, groups, lambda entry: (lane, entry[2]) in groups):
            self._ready_names[lane] = {name for *_, name in ready}
