"""Parses the parameters of GET /v1/chat and describes its entries."""

from datetime import datetime
from typing import Any

from django.http import QueryDict
from rest_framework import serializers

from chats.id_ranges import MAX_ID
from chats.models import MAX_NAME_LENGTH, Chat, Status
from chats.selectors import DEFAULT_PAGE, MAX_PAGE, ChatFilter
from chats.timestamps import format_time
from settings_app.fields import PriorityField, TimestampField

MAX_SEARCH_LENGTH = 200
CURSORS = ("before", "after")
PAGING = (*CURSORS, "limit")
# The pages show these labels in place of the parameters' names.
LABELS = {"batch_id": "batch", "error_code": "error"}


class QueryParameters(serializers.Serializer[Any]):
    """Validates a query string; an empty parameter counts as absent, a repeated one is an error."""

    def to_internal_value(self, data: QueryDict) -> Any:
        repeated = [name for name, _ in self.fields.items() if len(data.getlist(name)) > 1]
        if repeated:
            reason = "This parameter may be given only once."
            raise serializers.ValidationError({name: [reason] for name in repeated})
        return super().to_internal_value(data)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if "from" in attrs and "to" in attrs and attrs["from"] > attrs["to"]:
            raise serializers.ValidationError({"to": ["Must not be before `from`."]})
        return attrs

    @property
    def problems(self) -> list[str]:
        """One sentence per error, for a page."""
        return [
            f"{LABELS.get(name, name).capitalize()}: {reason}"
            for name, reasons in self.errors.items()
            for reason in reasons
        ]


class StatusField(serializers.ChoiceField):
    def __init__(self, **kwargs: Any) -> None:
        super().__init__(Status.choices, **kwargs)

    def to_internal_value(self, data: Any) -> Status:
        return Status(super().to_internal_value(data.strip().lower()))


class TimestampParameter(TimestampField):
    """A timestamp in a query string, where an offset's plus sign may have become a space."""

    def to_internal_value(self, value: Any) -> datetime:
        return super().to_internal_value(value.replace(" ", "+") if "T" in value else value)


class ChatParameters(QueryParameters):
    username = serializers.CharField(
        max_length=MAX_NAME_LENGTH, trim_whitespace=False, required=False
    )
    priority = PriorityField(required=False)
    status = StatusField(required=False)
    batch_id = serializers.IntegerField(min_value=1, max_value=MAX_ID, required=False)
    to = TimestampParameter(required=False)
    search = serializers.CharField(
        max_length=MAX_SEARCH_LENGTH, trim_whitespace=False, required=False
    )
    limit = serializers.IntegerField(min_value=1, max_value=MAX_PAGE, default=DEFAULT_PAGE)
    before = serializers.IntegerField(min_value=1, max_value=MAX_ID, required=False)
    after = serializers.IntegerField(min_value=0, max_value=MAX_ID - 1, required=False)

    def get_fields(self) -> dict[str, serializers.Field[Any, Any, Any, Any]]:
        return super().get_fields() | {"from": TimestampParameter(required=False)}

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if "before" in attrs and "after" in attrs:
            raise serializers.ValidationError({"after": ["Give `before` or `after`, not both."]})
        return super().validate(attrs)

    @property
    def which(self) -> ChatFilter:
        names = {"from": "received_from", "to": "received_until"}
        given = {k: v for k, v in self.validated_data.items() if k not in PAGING}
        return ChatFilter(**{names.get(name, name): value for name, value in given.items()})

    @property
    def paging(self) -> dict[str, int]:
        """`limit`, and `before` or `after` if one was given."""
        return {k: v for k, v in self.validated_data.items() if k in PAGING}


def describe_chat(chat: Chat) -> dict[str, Any]:
    """Describes one entry of the list; an open request has neither a response nor an error."""
    name = {"request_id": chat.request_id, "username": chat.username}
    created_at = format_time(chat.created_at)
    response = error = None
    if chat.status == Status.DONE:
        response = name | {
            "text": chat.text,
            "tokens_used": chat.tokens_used,
            "latency_ms": chat.latency_ms,
            "created_at": created_at,
            "completed_at": format_time(chat.completed_at),
        }
    if chat.error_code:
        error = {"code": chat.error_code, "detail": chat.error_detail}
    request = name | {"prompt": chat.prompt, "priority": chat.priority, "created_at": created_at}
    return {
        "timestamp": format_time(chat.received_at),
        "batch_id": chat.batch_id,
        "status": chat.status,
        "request": request,
        "response": response,
        "suspect": chat.suspect or None,
        "error": error,
    }
