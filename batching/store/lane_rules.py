"""Turns the lanes of the settings into the rules of the engine."""

import dataclasses
from functools import lru_cache

from django.conf import settings

from batching.engine.lanes import LaneRule, Priority, Scope
from settings_app.snapshot import Snapshot, current_snapshot


@lru_cache(maxsize=2)
def make_rules(snapshot: Snapshot) -> dict[Priority, LaneRule]:
    return {
        Priority(lane.priority): LaneRule(
            priority=Priority(lane.priority),
            window_s=lane.window_s,
            max_batch=lane.max_batch,
            tokens=lane.tokens,
            latency_s=lane.latency_ms / 1000,
            max_queue=lane.max_queue,
            queue_share=lane.queue_share,
            scope=Scope(lane.batch_scope),
            style=lane.style,
            hold=lane.hold_until_checked,
        )
        for lane in snapshot.lanes.values()
    }


def current_rules() -> dict[Priority, LaneRule]:
    return make_rules(current_snapshot())


def longest_wait_s(rule: LaneRule, *, respond_async: bool) -> float:
    """The maximum time from acceptance to answer, whatever the client's own timeout."""
    return settings.ASYNC_DEADLINE_S if respond_async else rule.longest_wait_s


def describe_rule(rule: LaneRule) -> dict[str, object]:
    """The rule as a batch stores it: a JSON object with the latency target in milliseconds."""
    described = dataclasses.asdict(rule)
    described["latency_ms"] = round(described.pop("latency_s") * 1000)
    return described
