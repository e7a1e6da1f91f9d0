"""Response documents of chats: the same for a running batch and for a stored row."""

from collections.abc import Mapping, Sequence
from typing import Any

from django.db.models import F

from batching.engine.errors import error_from_code
from batching.llm.limits import PROJECT_STATE_WAIT_S, PROJECT_STATES
from chats.models import FINAL_STATUSES, Chat, Status
from chats.timestamps import format_time

ANSWER_COLUMNS = ["text", "tokens_used", "latency_ms", "completed_at", "queue_ms"]
ANSWER_COLUMNS += ["finish_reason", "usage"]


def describe_request(chat: Chat) -> dict[str, Any]:
    """The part of the 200 document that describes the request."""
    return {
        "request_id": chat.request_id,
        "username": chat.username,
        "created_at": format_time(chat.created_at),
    }


def describe_answer(
    values: Mapping[str, Any], *, batch_id: int | None, batch_size: int | None
) -> dict[str, Any]:
    """The part of the 200 document that describes the answer; `values` holds `ANSWER_COLUMNS`."""
    document = {name: values[name] for name in ANSWER_COLUMNS}
    document["completed_at"] = format_time(values["completed_at"])
    document |= {"batch_id": batch_id, "batch_size": batch_size}
    if (values["usage"] or {}).get("estimated"):
        document["estimated"] = True
    return document


def describe_error(code: str, detail: str, retry_after_s: float | None = None) -> dict[str, Any]:
    return {"code": code, "detail": detail, "retry_after_s": retry_after_s}


def parse_stored_response(chat: Chat) -> dict[str, Any] | None:
    """`{"answer": …}` or `{"error": …}` of a chat; None while the chat is open.

    Without the annotation `batch_size` the answer has none either.
    """
    if chat.status == Status.DONE:
        values = {name: getattr(chat, name) for name in ANSWER_COLUMNS}
        size = getattr(chat, "batch_size", None)
        return {"answer": describe_answer(values, batch_id=chat.batch_id, batch_size=size)}
    if chat.status in FINAL_STATUSES:
        wait_s = PROJECT_STATE_WAIT_S if chat.error_detail in PROJECT_STATES else None
        error = error_from_code(chat.error_code, chat.error_detail, wait_s)
        return {"error": describe_error(error.code, str(error), error.retry_after_s)}
    return None


def read_responses(chat_ids: Sequence[int]) -> dict[int, dict[str, Any]]:
    """The response of each chat that has ended, by id."""
    ended = Chat.objects.filter(pk__in=chat_ids, status__in=FINAL_STATUSES)
    rows = ended.annotate(batch_size=F("batch__size"))
    return {
        chat.pk: response for chat in rows if (response := parse_stored_response(chat)) is not None
    }
