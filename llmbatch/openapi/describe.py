"""Puts an operation's description on a view that knows nothing of it."""

from collections.abc import Sequence
from typing import Any

from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.utils import (
    OpenApiExample,
    OpenApiParameter,
    OpenApiResponse,
    extend_schema_view,
)
from rest_framework.views import APIView

from llmbatch.openapi import fields  # noqa: F401 - known to spectacular once imported


class Generator(SchemaGenerator):
    """Reads the described views, not the served ones."""

    def __init__(self, *args: Any, urlconf: str | None = None, **kwargs: Any) -> None:
        super().__init__(*args, urlconf=urlconf or "llmbatch.openapi.urls", **kwargs)


def describe(view: type[APIView], **operations: Any) -> type[APIView]:
    """A subclass for the schema alone, with an `extend_schema` per lower-case method."""
    described = type(view.__name__, (view,), {"__doc__": view.__doc__})
    return extend_schema_view(**operations)(described)


def answer(form: Any, description: str, **examples: Any) -> OpenApiResponse:
    """A successful response and its examples by name."""
    named = [OpenApiExample(name, value, response_only=True) for name, value in examples.items()]
    return OpenApiResponse(form, description, named)


def answer_header(
    name: str, description: str, statuses: Sequence[int], *, of: type = str
) -> OpenApiParameter:
    """A header that the responses of these statuses always have."""
    return OpenApiParameter(
        name,
        of,
        OpenApiParameter.HEADER,
        required=True,
        description=description,
        response=list(statuses),
    )


def retry_after(*statuses: int) -> OpenApiParameter:
    return answer_header("Retry-After", "In so many seconds.", statuses, of=int)


CHALLENGE = answer_header("WWW-Authenticate", "Always `Bearer`.", [401])
