"""Lane rules and a planner that is filled by hand, for the tests of the engine."""

import itertools

from batching.engine.items import QueuedItem
from batching.engine.lanes import DEFAULT_BUDGET, LaneRule, Priority, Scope, TokenBudget
from batching.engine.planner import Batch, Planner

HIGH, MEDIUM, LOW = Priority.HIGH, Priority.MEDIUM, Priority.LOW
RULES = {
    HIGH: LaneRule(HIGH, 0.2, 6, 1000, 0.5, 10_000),
    MEDIUM: LaneRule(MEDIUM, 1.0, 4, 5000, 2.0, 10_000),
    LOW: LaneRule(LOW, 4.0, 4, 10_000, 5.0, 10_000),
}


def rules_with(priority: Priority = HIGH, **changes: object) -> dict[Priority, LaneRule]:
    """The default rules with one lane changed."""
    old = RULES[priority]
    values = {name: getattr(old, name) for name in LaneRule.__dataclass_fields__} | changes
    return RULES | {priority: LaneRule(**values)}


class Trace:
    """A planner whose items are pushed and taken at given times."""

    def __init__(
        self,
        rules: dict[Priority, LaneRule] | None = None,
        *,
        budget: TokenBudget = DEFAULT_BUDGET,
    ) -> None:
        self.rules = rules or RULES
        self.planner = Planner(self.rules, budget=budget)
        self._ids = itertools.count(1)

    def push(
        self,
        priority: Priority = HIGH,
        *,
        at: float = 0.0,
        count: int = 1,
        wait_s: float = 30.0,
        input_tokens: int = 1,
        output_tokens: int | None = None,
        client: int = 1,
        username: str = "",
        tenant: str = "",
    ) -> list[int]:
        rule = self.rules[priority]
        ids = list(itertools.islice(self._ids, count))
        for item_id in ids:
            self.planner.push(
                QueuedItem(
                    id=item_id,
                    priority=priority,
                    accepted=at,
                    due=at + rule.window_s,
                    deadline=at + wait_s,
                    target=at + rule.latency_s,
                    input_tokens=input_tokens,
                    output_tokens=1 if output_tokens is None else output_tokens,
                    client=client,
                    username=username,
                    tenant=tenant,
                )
            )
        return ids

    def change(self, rules: dict[Priority, LaneRule]) -> None:
        self.rules = rules
        self.planner.configure(rules)

    def take(self, at: float, *, only: Priority | None = None) -> list[Batch]:
        """Every batch that may leave at this time."""
        batches = []
        while batch := self.planner.take(at, lambda p: only is None or p is only):
            batches.append(batch)
        return batches

    def take_ids(self, at: float) -> list[list[int]]:
        return [[item.id for item in batch.items] for batch in self.take(at)]


__all__ = ["HIGH", "LOW", "MEDIUM", "RULES", "Scope", "TokenBudget", "Trace", "rules_with"]
