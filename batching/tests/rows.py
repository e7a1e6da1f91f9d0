"""Makes stored batches and model calls, as the functions of the store write them."""

from datetime import UTC, datetime, timedelta
from typing import Any

from batching.models import Batch, CallKind, CallStatus, ModelCall, Outcome, Trigger
from chats.models import Chat, Status
from chats.tests.rows import NOON, make_chat
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


def make_running(owner: str, *, attempt: int = 1, lease_s: float = -1.0) -> Chat:
    """A chat that runs alone in a batch of this worker, with its call."""
    now = datetime.now(UTC)
    batch = make_batch(Priority.HIGH, at=now, owner=owner, outcome=Outcome.RUNNING)
    chat = make_chat(
        Status.RUNNING,
        priority=Priority.HIGH,
        owner=owner,
        attempt=attempt,
        batch=batch,
        lease_until=now + timedelta(seconds=lease_s),
        received_at=now,
        deadline=now + timedelta(seconds=300),
    )
    columns = {"kind": CallKind.SINGLE, "status": CallStatus.STARTED, "attempt": attempt}
    make_call(batch, item_ids=[chat.pk], **columns)
    return chat
