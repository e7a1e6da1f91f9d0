"""The waiting items that may share a batch, and the order in which they leave."""

import heapq
from collections.abc import Callable, Sized
from operator import attrgetter
from typing import TypeVar

from batching.engine.items import QueuedItem
from batching.engine.lanes import LaneRule, TokenBudget
from batching.engine.turns import Turns

Head = tuple[int, int, str]  # a turn, the id of the item that leaves then, and its tenant
# A heap with fewer entries of ended items than this is not rebuilt.
MIN_STALE = 64
_Entry = TypeVar("_Entry", int, tuple[float, int])


def compact(heap: list[_Entry], live: int, keep: Callable[[_Entry], bool]) -> None:
    """Drops the entries of ended items once they outnumber the `live` ones.

    Between two such runs at least as many items end as entries are dropped.
    """
    if is_stale(heap, live):
        heap[:] = set(filter(keep, heap))
        heapq.heapify(heap)


def is_stale(heap: Sized, live: int) -> bool:
    return len(heap) > 2 * live + MIN_STALE


class Group:
    """The waiting items that may share a batch. `turns` are those of the lane's tenants."""

    def __init__(self, turns: Turns) -> None:
        self.items: dict[int, QueuedItem] = {}
        self.input_tokens = 0
        self.output_tokens = 0
        self._turns = turns
        self._queues: dict[str, list[int]] = {}  # the ids of each tenant, as a heap
        self._sizes: dict[str, int] = {}  # how many of them wait
        self._heads: list[Head] = []
        self._dues: list[tuple[float, int]] = []

    def push(self, item: QueuedItem) -> None:
        self.items[item.id] = item
        self.input_tokens += item.input_tokens
        self.output_tokens += item.output_tokens
        queue = self._queues.setdefault(item.tenant, [])
        self._sizes[item.tenant] = self._sizes.get(item.tenant, 0) + 1
        heapq.heappush(queue, item.id)
        if queue[0] == item.id:
            heapq.heappush(self._heads, (self._turns[item.tenant], item.id, item.tenant))
        heapq.heappush(self._dues, (item.due, item.id))

    def remove(self, item: QueuedItem) -> None:
        del self.items[item.id]
        self.input_tokens -= item.input_tokens
        self.output_tokens -= item.output_tokens
        self._sizes[item.tenant] -= 1
        if self._sizes[item.tenant]:
            queue = self._queues[item.tenant]
            compact(queue, self._sizes[item.tenant], self.items.__contains__)
        else:
            del self._queues[item.tenant], self._sizes[item.tenant]
        if is_stale(self._heads, len(self._queues)):
            self._heads = [self._find_head(tenant) for tenant in self._queues]
            heapq.heapify(self._heads)
        compact(self._dues, len(self.items), self._waits)

    def _waits(self, entry: tuple[float, int]) -> bool:
        """Returns False for an entry of an ended item, or of an earlier generation of its id."""
        item = self.items.get(entry[1])
        return item is not None and item.due == entry[0]

    def _find_head(self, tenant: str) -> Head:
        queue = self._queues[tenant]
        while queue[0] not in self.items:
            heapq.heappop(queue)
        return self._turns[tenant], queue[0], tenant

    @property
    def head(self) -> Head:
        """The item that leaves first: the oldest one of the tenant whose turn it is."""
        while (entry := self._heads[0])[2] not in self._queues:
            heapq.heappop(self._heads)
        # A tenant's turn only rises while it waits, so an outdated entry is never too late.
        while (current := self._find_head(entry[2])) != entry:
            heapq.heapreplace(self._heads, current)
            while (entry := self._heads[0])[2] not in self._queues:
                heapq.heappop(self._heads)
        return entry

    @property
    def first_due(self) -> float:
        """The earliest due time; after a change of the settings it may not be the oldest item's."""
        return self.earliest.due

    @property
    def earliest(self) -> QueuedItem:
        """The item that is due first."""
        while not self._waits(self._dues[0]):
            heapq.heappop(self._dues)
        return self.items[self._dues[0][1]]

    def is_full(self, rule: LaneRule, budget: TokenBudget) -> bool:
        return (
            len(self.items) >= rule.max_batch
            or self.input_tokens > budget.input
            or self.output_tokens > budget.answers
        )

    def take(self, rule: LaneRule, budget: TokenBudget) -> tuple[QueuedItem, ...]:
        """Removes the items that leave first and fit into one call; returns them oldest first."""
        taken: list[QueuedItem] = []
        used_input = used_output = 0
        while self.items and len(taken) < rule.max_batch:
            item = self.items[self.head[1]]
            used_input += item.input_tokens
            used_output += item.output_tokens
            if taken and (used_input > budget.input or used_output > budget.answers):
                break
            self._turns.serve(item.tenant)
            self.remove(item)
            taken.append(item)
        return tuple(sorted(taken, key=attrgetter("id")))
