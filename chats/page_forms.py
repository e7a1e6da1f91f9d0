"""The filter form of the page of chats: the parameters of GET /v1/chat and an error code."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from django.http import QueryDict
from rest_framework import serializers

from chats.models import Status
from chats.selectors import ANY_ERROR
from chats.serializers import ChatParameters, QueryParameters
from settings_app.models import Priority

PAGE_SIZE = 50


class PageParameters(ChatParameters):
    error_code = serializers.RegexField(
        r"^[a-z_]+\Z",
        max_length=40,
        required=False,
        error_messages={"invalid": "Must be an error code, or any."},
    )

    @property
    def paging(self) -> dict[str, int]:
        default = {} if "limit" in self.initial_data else {"limit": PAGE_SIZE}
        return super().paging | default


def describe_form(query: QueryDict, parameters: PageParameters) -> dict[str, Any]:
    """Returns what the fields of the filter show, which is the query that was sent."""
    valid = parameters.validated_data if not parameters.errors else {}
    return {
        "priorities": [(p.name, p.label, valid.get("priority") == p) for p in Priority],
        "statuses": [(s.value, s.label, valid.get("status") == s) for s in Status],
        "from": format_for_field(valid.get("from")),
        "to": format_for_field(valid.get("to")),
        **{name: query.get(name, "") for name in ("username", "batch_id", "search", "error_code")},
        "any_error": ANY_ERROR,
    }


def format_query(query: QueryDict, parameters: QueryParameters, *, without: Sequence[str]) -> str:
    """Formats the known, non-empty parameters of a query as a query string."""
    kept = query.copy()
    for name in list(kept):
        if name in without or name not in parameters.fields or not kept[name]:
            kept.pop(name)
    return kept.urlencode()


def format_for_field(value: datetime | None) -> str:
    """Formats for an input field of type datetime-local, in UTC."""
    if value is None:
        return ""
    return value.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="seconds")
