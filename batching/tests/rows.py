"""Makes stored batches and model calls, as the functions of the store write them."""

from datetime import datetime
from typing import Any

from batching.models import Batch, CallKind, CallStatus, ModelCall, Outcome, Trigger
from chats.tests.rows import NOON
from settings_app.models import Priority


def make_batch(
    priority: Priority = Priority.MEDIUM, *, at: datetime = NOON, size: int = 1, **columns: Any
) -> Batch:
    values: dict[str, Any] = {
        "trigger": Trigger.WINDOW,
        "model": "m",
        "settings": {"latency_ms": 2000},
        "outcome": Outcome.DONE,
    }
    return Batch.objects.create(priority=priority, size=size, created_at=at, **(values | columns))


def make_call(batch: Batch, *, at: datetime | None = None, **columns: Any) -> ModelCall:
    values: dict[str, Any] = {
        "priority": batch.priority,
        "kind": CallKind.COMBINED,
        "attempt": 1,
        "model": "m",
        "item_ids": [],
        "status": CallStatus.COMPLETE,
        "started_at": at or batch.created_at,
    }
    return ModelCall.objects.create(batch=batch, **(values | columns))
