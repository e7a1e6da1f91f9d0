"""Describes the error responses of an endpoint from the list of its error codes."""

import json
from collections.abc import Iterable, Mapping
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


def describe_refusals(codes: Iterable[str]) -> dict[int, OpenApiResponse]:
    """Returns one response per status, with the real response of each code as an example."""
    return _describe(ErrorSerializer, _collect_replies(codes))


def describe_openai_refusals(codes: Iterable[str]) -> dict[int, OpenApiResponse]:
    """Returns the same in the form of OpenAI's clients."""
    replies = {code: in_openai_form(reply) for code, reply in _collect_replies(codes).items()}
    return _describe(OpenAIErrorSerializer, replies)


def _collect_replies(codes: Iterable[str]) -> dict[str, HttpResponse]:
    """Adds the error of an unreachable database to endpoints that look up a key."""
    replies = {code: _refuse(code) for code in codes}
    if "not_authenticated" in replies and DatabaseUnavailable.code not in replies:
        replies[DatabaseUnavailable.code] = handle_exception(DatabaseUnavailable())
    return replies


def _refuse(code: str) -> HttpResponse:
    response = handle_exception(_REQUEST_ERRORS.get(code) or error_from_code(code, ""))
    assert json.loads(response.content)["code"] == code, f"no error has the code {code}"
    return response


def _describe(
    form: type[serializers.Serializer[Any]], replies: Mapping[str, HttpResponse]
) -> dict[int, OpenApiResponse]:
    by_status: dict[int, list[OpenApiExample]] = {}
    for code, response in replies.items():
        example = OpenApiExample(code, json.loads(response.content))
        by_status.setdefault(response.status_code, []).append(example)
    return {
        status: OpenApiResponse(form, " or ".join(f"`{e.name}`" for e in examples), examples)
        for status, examples in sorted(by_status.items())
    }
