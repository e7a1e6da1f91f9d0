"""What the page of chats may be asked: the parameters of GET /v1/chat, and an error's code."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from django.http import QueryDict
from rest_framework import serializers

from chats.models import Status
from chats.selectors import ANY_ERROR, ChatFilter
from chats.serializers import ChatParameters, QueryParameters
from settings_app.models import Priority

SHOWN_AT_ONCE = 50
WAYS = ("before", "after")
PLACE = (*WAYS, "limit")


class PageParameters(ChatParameters):
    error_code = serializers.RegexField(
        r"^[a-z_]+\Z",
        max_length=40,
        required=False,
        error_messages={"invalid": "Must be an error's code, or any."},
    )

    @property
    def which(self) -> ChatFilter:
        return replace(super().which, error_code=self.validated_data.get("error_code"))

    @property
    def place(self) -> dict[str, int]:
        return {"limit": SHOWN_AT_ONCE} | {
            name: value
            for name, value in super().place.items()
            if name != "limit" or "limit" in self.initial_data
        }


def describe_form(asked: QueryDict, parameters: PageParameters) -> dict[str, Any]:
    """What the filter's fields show: what was asked, moments as their fields want them."""
    valid = parameters.validated_data if not parameters.errors else {}
    return {
        "priorities": [(p.name, p.label, valid.get("priority") == p) for p in Priority],
        "statuses": [(s.value, s.label, valid.get("status") == s) for s in Status],
        "from": format_for_field(valid.get("from")),
        "to": format_for_field(valid.get("to")),
        **{name: asked.get(name, "") for name in ("username", "batch_id", "search", "error_code")},
        "any_error": ANY_ERROR,
    }


def format_query(asked: QueryDict, parameters: QueryParameters, *, without: Sequence[str]) -> str:
    """What was asked of the known parameters, as a query string."""
    kept = asked.copy()
    for name in list(kept):
        if name in without or name not in parameters.fields or not kept[name]:
            kept.pop(name)
    return kept.urlencode()


def format_for_field(value: datetime | None) -> str:
    """As a field of type datetime-local holds it, in UTC."""
    if value is None:
        return ""
    return value.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="seconds")
