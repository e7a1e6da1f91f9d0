"""Attaches the description of an operation to a view."""

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

from llmbatch.openapi import fields  # noqa: F401 - the import registers the extensions


class Generator(SchemaGenerator):
    """Reads the views with descriptions in place of the served ones."""

    def __init__(self, *args: Any, urlconf: str | None = None, **kwargs: Any) -> None:
        urlconf = urlconf or "llmbatch.openapi.urls"
        super().__init__(*args, urlconf=urlconf, **kwargs)  # type: ignore[no-untyped-call]  # no types


def describe(view: type[APIView], **operations: Any) -> type[APIView]:
    """Returns a subclass for the schema, with one `extend_schema` per lower-case method."""
    described = type(view.__name__, (view,), {"__doc__": view.__doc__})
    return extend_schema_view(**operations)(described)


def answer(form: Any, description: str, **examples: Any) -> OpenApiResponse:
    """Describes a successful response; the keyword arguments are its named examples."""
    named = [OpenApiExample(name, value, response_only=True) for name, value in examples.items()]
    return OpenApiResponse(form, description, named)


def answer_header(
    name: str, description: str, statuses: Sequence[int], *, of: type = str
) -> OpenApiParameter:
    """Describes a header that all responses with these statuses have."""
    return OpenApiParameter(
        name,
        of,
        OpenApiParameter.HEADER,
        required=True,
        description=description,
        response=list(statuses),
    )


def retry_after(*statuses: int) -> OpenApiParameter:
    return answer_header("Retry-After", "Seconds before the next attempt.", statuses, of=int)


CHALLENGE = answer_header("WWW-Authenticate", "Always `Bearer`.", [401])
