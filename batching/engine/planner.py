"""Decides when a batch leaves. Pure: time is an argument, nothing waits here.

All times are seconds on one monotonic clock. A group is what may share a batch: the waiting items
of one priority and, where the lane's scope says so, of one client or username.
"""

import enum
import heapq
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from batching.engine.lanes import LaneRule, Priority, TokenBudget

GroupKey = tuple[Priority, str]


class Trigger(enum.StrEnum):
    """Why a batch left."""

    FULL = "full"
    WINDOW = "window"


@dataclass(frozen=True, slots=True)
class QueuedItem:
    """A waiting request. Ids grow with acceptance, so the smallest id is the oldest item."""

    id: int
    priority: Priority
    accepted: float
    due: float
    deadline: float
    target: float
    """accepted plus the lane's latency target: among due lanes the smallest goes first"""
    input_tokens: int = 0
    output_tokens: int = 0
    client: int = 0
    username: str = ""
    request_id: str = ""
    exchange: str = ""
    """the HTTP exchange that brought it, where that is known"""
    generation: int = 0
    """names the request among those that had this id one after another; 0 where it is not known"""


@dataclass(frozen=True, slots=True)
class Batch:
    priority: Priority
    items: tuple[QueuedItem, ...]
    trigger: Trigger
    at: float
    """when it was taken"""
    lateness_s: float
    """how long after its due time it was taken; 0 for a batch that left full"""
    probe: bool = False
    """its first call probes a failing service"""


class Group:
    """The waiting items that may share a batch, oldest first."""

    def __init__(self) -> None:
        self.items: dict[int, QueuedItem] = {}
        self.input_tokens = 0
        self.output_tokens = 0
        self._order: list[int] = []
        self._dues: list[tuple[float, int]] = []

    def push(self, item: QueuedItem) -> None:
        self.items[item.id] = item
        self.input_tokens += item.input_tokens
        self.output_tokens += item.output_tokens
        heapq.heappush(self._order, item.id)
        heapq.heappush(self._dues, (item.due, item.id))

    def remove(self, item: QueuedItem) -> None:
        del self.items[item.id]
        self.input_tokens -= item.input_tokens
        self.output_tokens -= item.output_tokens

    @property
    def oldest(self) -> QueuedItem:
        while self._order[0] not in self.items:
            heapq.heappop(self._order)
        return self.items[self._order[0]]

    @property
    def first_due(self) -> float:
        """The earliest due time; after a change of settings it need not be the oldest item's."""
        # Of an id that came anew, the entry of its earlier generation is still here.
        while (item := self.items.get(self._dues[0][1])) is None or item.due != self._dues[0][0]:
            heapq.heappop(self._dues)
        return self._dues[0][0]

    def is_full(self, rule: LaneRule, budget: TokenBudget) -> bool:
        return (
            len(self.items) >= rule.max_batch
            or self.input_tokens > budget.input
            or self.output_tokens > budget.answers
        )

    def take(self, rule: LaneRule, budget: TokenBudget) -> tuple[QueuedItem, ...]:
        """Removes the oldest items that fit one call; the first that does not stays the head."""
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
    """Holds what waits and says which batch may leave now and when to look again."""

    def __init__(
        self, rules: Mapping[Priority, LaneRule], *, budget: TokenBudget | None = None
    ) -> None:
        self.budget = budget or TokenBudget()
        self._rules = dict(rules)
        self._items: dict[int, QueuedItem] = {}
        self._depths = dict.fromkeys(Priority, 0)
        self._groups: dict[GroupKey, Group] = {}
        self._alarms: list[tuple[float, int]] = []
        self._deadlines: list[tuple[float, int]] = []
        self._ready: dict[Priority, list[tuple[float, int, str]]] = {p: [] for p in Priority}
        self._marked: set[GroupKey] = set()

    def __len__(self) -> int:
        return len(self._items)

    def __contains__(self, item_id: int) -> bool:
        return item_id in self._items

    def depth(self, priority: Priority) -> int:
        return self._depths[priority]

    @property
    def depths(self) -> Mapping[Priority, int]:
        return self._depths

    def configure(self, rules: Mapping[Priority, LaneRule]) -> None:
        """Applies changed rules; waiting items keep their due times, but are grouped anew."""
        items = [self._items[item_id] for item_id in sorted(self._items)]
        for item in items:
            self.discard(item.id)
        self._rules = dict(rules)
        for item in items:
            self.push(item)

    def push(self, item: QueuedItem) -> None:
        """Adds an item. It replaces an item with its id only if their generations differ."""
        known = self._items.get(item.id)
        if known is not None and known.generation == item.generation:
            return
        self.discard(item.id)  # the news that it ended, before it was sent again, is not here yet
        self._items[item.id] = item
        self._depths[item.priority] += 1
        key = self._key_of(item)
        group = self._groups.setdefault(key, Group())
        group.push(item)
        heapq.heappush(self._alarms, (item.due, item.id))
        heapq.heappush(self._deadlines, (item.deadline, item.id))
        if group.is_full(self._rules[item.priority], self.budget):
            self._mark_ready(key)

    def discard(self, item_id: int) -> bool:
        """Takes out an item that nobody wants any more; False if it is not waiting here."""
        item = self._items.get(item_id)
        if item is None:
            return False
        key = self._key_of(item)
        self._groups[key].remove(item)
        self._forget([item], key)
        return True

    def expire(self, now: float) -> list[QueuedItem]:
        """Takes out what has passed its deadline."""
        expired = []
        while (entry := self._first(self._deadlines)) and entry[0] <= now:
            item = self._items[entry[1]]
            if item.deadline > entry[0]:
                heapq.heappop(self._deadlines)  # of the same id when it was here before
                continue
            expired.append(item)
            self.discard(item.id)
        return expired

    def take(self, now: float, may_start: Callable[[Priority], bool]) -> Batch | None:
        """The batch that leaves now, if one is due and its priority has a free call slot.

        Among due groups the one whose oldest item has the earliest latency target goes first; a tie
        goes to the higher priority, then to the older item.
        """
        self._ring_alarms(now)
        best: tuple[float, int, int, str] | None = None
        for priority in Priority:
            if self._ready[priority] and may_start(priority):
                top = self._first_ready(priority, now)
                if top is not None:
                    candidate = (top[0], -priority, top[1], top[2])
                    best = candidate if best is None else min(best, candidate)
        if best is None:
            return None
        return self._leave((Priority(-best[1]), best[3]), now)

    def next_wakeup(self) -> float | None:
        """When something becomes due or expires by itself; None while nothing waits."""
        heads = [
            entry[0] for heap in (self._alarms, self._deadlines) if (entry := self._first(heap))
        ]
        return min(heads) if heads else None

    def _leave(self, key: GroupKey, now: float) -> Batch:
        rule, group = self._rules[key[0]], self._groups[key]
        heapq.heappop(self._ready[key[0]])  # `take` found this group at the top
        self._marked.discard(key)
        full = group.is_full(rule, self.budget)
        lateness = max(0.0, now - group.first_due)
        items = group.take(rule, self.budget)
        self._forget(items, key)
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
        if key in self._marked:
            return
        self._marked.add(key)
        oldest = self._groups[key].oldest
        heapq.heappush(self._ready[key[0]], (oldest.target, oldest.id, key[1]))

    def _first_ready(self, priority: Priority, now: float) -> tuple[float, int, str] | None:
        """The group to go first; entries that a departure or a removal made untrue are dropped."""
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
                self._marked.discard((priority, name))
        return None

    def _ring_alarms(self, now: float) -> None:
        while (entry := self._first(self._alarms)) and entry[0] <= now:
            heapq.heappop(self._alarms)
            self._mark_ready(self._key_of(self._items[entry[1]]))

    def _first(self, heap: list[tuple[float, int]]) -> tuple[float, int] | None:
        while heap and heap[0][1] not in self._items:
            heapq.heappop(heap)
        return heap[0] if heap else None

    def _forget(self, items: Iterable[QueuedItem], key: GroupKey) -> None:
        for item in items:
            del self._items[item.id]
            self._depths[item.priority] -= 1
        if not self._groups[key].items:
            del self._groups[key]
