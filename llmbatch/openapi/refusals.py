"""Describes the error responses of an endpoint from the list of its error codes."""

import json
from collections.abc import Iterable
from typing import Any

from django.core.exceptions import RequestDataTooBig
from django.http import HttpResponse
from drf_spectacular.utils import OpenApiExample, OpenApiResponse, extend_schema_field
from rest_framework import exceptions, serializers

from batching.api.openai.responses import in_openai_form
from batching.engine.errors import error_from_code
from batching.store.threads import DatabaseUnavailable
from llmbatch.errors import handle_exception


@extend_schema_field(
    {
        "type": "object",
        "additionalProperties": {
            "anyOf": [{"type": "array", "items": {"type": "string"}}, {"type": "object"}]
        },
    }
)
class MessagesField(serializers.JSONField):
    """Maps each field to its messages."""


class ErrorSerializer(serializers.Serializer[Any]):
    """The form of every error."""

    detail = serializers.CharField(help_text="A sentence for people.")
    code = serializers.CharField(help_text="A stable identifier for programs.")
    errors = MessagesField(  # type: ignore[assignment]  # hides a property of Serializer
        required=False,
        help_text="With `invalid`: the messages by field; those of a nested object by its own"
        " fields. `body` holds messages about the whole body.",
    )


def _rate_limited() -> exceptions.Throttled:
    error = exceptions.Throttled(wait=12)
    error.detail = exceptions.ErrorDetail(
        "This API key may send 60 requests per minute; the next one in 12 s."
    )
    return error


KEY_ERRORS = ("not_authenticated", "permission_denied")
BODY_ERRORS = ("invalid", "too_large", "unsupported_media_type")
_REQUEST_ERRORS: dict[str, Exception] = {
    "invalid": exceptions.ValidationError({"prompt": ["This field is required."]}),
    "not_authenticated": exceptions.NotAuthenticated(),
    "permission_denied": exceptions.PermissionDenied(),
    "not_found": exceptions.NotFound(),
    "too_large": RequestDataTooBig(),
    "unsupported_media_type": exceptions.UnsupportedMediaType("text/plain"),
    "rate_limited": _rate_limited(),
}


class OpenAIFailureSerializer(serializers.Serializer[Any]):
    message = serializers.CharField(help_text="A sentence for people.")
    type = serializers.CharField(help_text="OpenAI's name for the kind of error.")
    param = serializers.CharField(allow_null=True, help_text="The invalid parameter.")
    code = serializers.CharField(help_text="The gateway's own code.")


class OpenAIErrorSerializer(serializers.Serializer[Any]):
    """The form of every error for OpenAI's clients."""

    error = OpenAIFailureSerializer()


def describe_refusals(codes: Iterable[str], *, as_openai: bool) -> dict[int, OpenApiResponse]:
    """Returns one response per status, with the real response of each code as an example."""
    replies = {code: _refuse(code) for code in codes}
    # Endpoints that look up a key need the database.
    if "not_authenticated" in replies and DatabaseUnavailable.code not in replies:
        replies[DatabaseUnavailable.code] = handle_exception(DatabaseUnavailable())
    by_status: dict[int, list[OpenApiExample]] = {}
    for code, reply in replies.items():
        content = (in_openai_form(reply) if as_openai else reply).content
        example = OpenApiExample(code, json.loads(content))
        by_status.setdefault(reply.status_code, []).append(example)
    form = OpenAIErrorSerializer if as_openai else ErrorSerializer
    return {
        status: OpenApiResponse(form, " or ".join(f"`{e.name}`" for e in examples), examples)
        for status, examples in sorted(by_status.items())
    }


def _refuse(code: str) -> HttpResponse:
    response = handle_exception(_REQUEST_ERRORS.get(code) or error_from_code(code, ""))
    assert json.loads(response.content)["code"] == code, f"no error has the code {code}"
    return response
