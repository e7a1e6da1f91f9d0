"""The error form, and which of its codes an endpoint may answer."""

import json
from collections.abc import Iterable, Mapping

from django.core.exceptions import RequestDataTooBig
from django.http import HttpResponse
from drf_spectacular.utils import OpenApiExample, OpenApiResponse, extend_schema_field
from rest_framework import exceptions, serializers

from batching.api.openai.responses import in_openai_form
from batching.engine.errors import error_from_code
from batching.store.threads import DatabaseAway
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
    """Messages by field."""


class ErrorSerializer(serializers.Serializer):
    """The one form of every error."""

    detail = serializers.CharField(help_text="A sentence for people.")
    code = serializers.CharField(help_text="By this programs tell errors apart.")
    errors = MessagesField(
        required=False,
        help_text="With `invalid`: the messages by field, those of a nested object by its own"
        " fields; what concerns the whole body stands under `body`.",
    )


def _rate_limited() -> exceptions.Throttled:
    error = exceptions.Throttled(wait=12)
    error.detail = "This API key may send 60 requests per minute; the next one in 12 s."
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


class OpenAIFailureSerializer(serializers.Serializer):
    message = serializers.CharField(help_text="A sentence for people.")
    type = serializers.CharField(help_text="OpenAI's name for the kind.")
    param = serializers.CharField(allow_null=True, help_text="The parameter that is wrong.")
    code = serializers.CharField(help_text="The gateway's own code.")


class OpenAIErrorSerializer(serializers.Serializer):
    """Every error in the form of OpenAI's clients."""

    error = OpenAIFailureSerializer()


def describe_refusals(codes: Iterable[str]) -> dict[int, OpenApiResponse]:
    """A response per status, with what the API really says for each of its codes."""
    return _describe(ErrorSerializer, _collect_replies(codes))


def describe_openai_refusals(codes: Iterable[str]) -> dict[int, OpenApiResponse]:
    """The same as OpenAI's clients are told it."""
    replies = {code: in_openai_form(reply) for code, reply in _collect_replies(codes).items()}
    return _describe(OpenAIErrorSerializer, replies)


def _collect_replies(codes: Iterable[str]) -> dict[str, HttpResponse]:
    """Where a key has to be looked up, the database may be away."""
    replies = {code: _refuse(code) for code in codes}
    if "not_authenticated" in replies and DatabaseAway.code not in replies:
        replies[DatabaseAway.code] = handle_exception(DatabaseAway())
    return replies


def _refuse(code: str) -> HttpResponse:
    response = handle_exception(_REQUEST_ERRORS.get(code) or error_from_code(code, ""))
    assert json.loads(response.content)["code"] == code, f"no error has the code {code}"
    return response


def _describe(
    form: type[serializers.Serializer], replies: Mapping[str, HttpResponse]
) -> dict[int, OpenApiResponse]:
    by_status: dict[int, list[OpenApiExample]] = {}
    for code, response in replies.items():
        example = OpenApiExample(code, json.loads(response.content))
        by_status.setdefault(response.status_code, []).append(example)
    return {
        status: OpenApiResponse(form, " or ".join(f"`{e.name}`" for e in examples), examples)
        for status, examples in sorted(by_status.items())
    }
