"""Decides when a batch leaves and which requests it holds. Pure: time is an argument.

All times are seconds of one monotonic clock. The items of a group may share a batch: they wait in
one lane and, where the scope of the lane demands it, belong to one client or username. The tenants
of a lane take turns; the items of one tenant leave in the order of acceptance.
"""

import enum
import heapq
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from batching.engine.groups import Group, compact, is_stale
from batching.engine.items import QueuedItem
from batching.engine.lanes import DEFAULT_BUDGET, LaneRule, Priority, TokenBudget
from batching.engine.turns import Turns

GroupKey = tuple[Priority, str]


class Trigger(enum.StrEnum):
    """Why a batch left."""

    FULL = "full"
    WINDOW = "window"


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


class Planner:
    """Holds the waiting items; returns the batch that may leave now and the time to ask again."""

    def __init__(
        self, rules: Mapping[Priority, LaneRule], *, budget: TokenBudget = DEFAULT_BUDGET
    ) -> None:
        self.budget = budget
        self._rules = dict(rules)
        self._items: dict[int, QueuedItem] = {}
        self.depths = dict.fromkeys(Priority, 0)  # the number of waiting items of each lane
        self.turns = {priority: Turns() for priority in Priority}
        self._groups: dict[GroupKey, Group] = {}
        self._dues: list[tuple[float, int]] = []
        self._deadlines: list[tuple[float, int]] = []
        # The groups that may leave, each with its first turn, the id of that item, and its name.
        self._ready: dict[Priority, list[tuple[int, int, str]]] = {p: [] for p in Priority}
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
        self.turns[item.priority].add(item.tenant)
        group = self._groups.get(key)
        if group is None:
            group = self._groups[key] = Group(self.turns[item.priority])
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

        Within a lane the tenants take turns. Of several lanes, the one whose oldest item has the
        earliest latency target goes first; of equal ones, the higher priority, then the older item.
        """
        self._mark_due_groups(now)
        tops = [
            (oldest.target, -priority, oldest.id, name)
            for priority in Priority
            if self._ready[priority]
            and may_start(priority)
            and (name := self._first_ready(priority, now)) is not None
            and (oldest := self._groups[priority, name].earliest)
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
        turn, item_id, _ = self._groups[key].head
        heapq.heappush(self._ready[key[0]], (turn, item_id, key[1]))

    def _first_ready(self, priority: Priority, now: float) -> str | None:
        """The name of the group that goes first; outdated entries are dropped or corrected."""
        ready, rule = self._ready[priority], self._rules[priority]
        while ready:
            name = ready[0][2]
            group = self._groups.get((priority, name))
            if group is not None and self._is_due(group, rule, now):
                turn, item_id, _ = group.head
                if (turn, item_id, name) == ready[0]:
                    return name
                heapq.heapreplace(ready, (turn, item_id, name))
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
            self.turns[item.priority].remove(item.tenant)
        if not self._groups[key].items:
            del self._groups[key]
        self._compact_heaps(key[0])

    def _compact_heaps(self, lane: Priority) -> None:
        items, groups, ready = self._items, self._groups, self._ready[lane]
        count = len(items)
        compact(self._dues, count, lambda e: e[1] in items and items[e[1]].due == e[0])
        compact(self._deadlines, count, lambda e: e[1] in items and items[e[1]].deadline == e[0])
        if is_stale(ready, len(groups)):
            ready[:] = {entry for entry in ready if (lane, entry[2]) in groups}
            heapq.heapify(ready)
            self._ready_names[lane] = {name for *_, name in ready}
