"""The error form, and which of its codes an endpoint may answer."""

import json
from collections.abc import Iterable

from django.core.exceptions import RequestDataTooBig
from drf_spectacular.utils import OpenApiExample, OpenApiResponse, extend_schema_field
from rest_framework import exceptions, serializers

from batching.engine.errors import error_from_code
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


def describe_refusals(codes: Iterable[str]) -> dict[int, OpenApiResponse]:
    """A response per status, with what the API really says for each of its codes."""
    by_status: dict[int, list[OpenApiExample]] = {}
    for code in codes:
        response = handle_exception(_REQUEST_ERRORS.get(code) or error_from_code(code, ""))
        document = json.loads(response.content)
        assert document["code"] == code, f"no error has the code {code}"
        by_status.setdefault(response.status_code, []).append(OpenApiExample(code, document))
    return {
        status: OpenApiResponse(
            ErrorSerializer,
            description=" or ".join(f"`{example.name}`" for example in examples),
            examples=examples,
        )
        for status, examples in sorted(by_status.items())
    }
