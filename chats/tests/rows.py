"""Creates chats in any state, as the gateway stores them."""

from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

from chats.models import Chat, Status
from settings_app.models import Priority

NOON = datetime(2026, 3, 10, 12, tzinfo=UTC)
_numbers = count(1)


def make_chat(status: Status = Status.DONE, **columns: Any) -> Chat:
    """Stores a chat that was received at `received_at` (default `NOON`) and is in `status`."""
    received_at = columns.setdefault("received_at", NOON)
    values: dict[str, Any] = {
        "username": "ann",
        "request_id": f"r{next(_numbers)}",
        "prompt": "Why is the sky blue?",
        "priority": Priority.MEDIUM,
        "created_at": received_at,
        "due_at": received_at + timedelta(seconds=1),
        "deadline": received_at + timedelta(seconds=32),
    }
    values |= _ending(status, received_at)
    return Chat.objects.create(status=status, **(values | columns))


def _ending(status: Status, received_at: datetime) -> dict[str, Any]:
    if status in (Status.QUEUED, Status.RUNNING):
        return {}
    ended = {"completed_at": received_at + timedelta(milliseconds=800)}
    if status != Status.DONE:
        codes = {Status.FAILED: "blocked", Status.CANCELLED: "cancelled", Status.EXPIRED: "timeout"}
        return ended | {"error_code": codes[status], "error_detail": "No answer."}
    answer = {"text": "Because of Rayleigh scattering.", "tokens_used": 42}
    return ended | answer | {"latency_ms": 800, "queue_ms": 300, "usage": {"total_tokens": 42}}
