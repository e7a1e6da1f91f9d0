"""Describes operations, and attaches the descriptions to the views."""

from collections.abc import Iterable, Mapping
from typing import Any

from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.utils import (
    OpenApiExample,
    OpenApiParameter,
    OpenApiResponse,
    extend_schema,
    extend_schema_view,
)
from rest_framework.views import APIView

from llmbatch.openapi import fields  # noqa: F401 - the import registers the extensions
from llmbatch.openapi.refusals import KEY_ERRORS, describe_refusals


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


def answer_header(name: str, description: str, *statuses: int, of: type = str) -> OpenApiParameter:
    """Describes a header that all responses with these statuses have."""
    return OpenApiParameter(
        name, of, "header", required=True, description=description, response=list(statuses)
    )


ERROR_HEADERS = [
    answer_header("WWW-Authenticate", "Always `Bearer`.", 401),
    answer_header("Retry-After", "Seconds before the next attempt.", 429, 503, of=int),
]


def operation(
    tag: str,
    operation_id: str,
    summary: str,
    responses: Mapping[Any, OpenApiResponse],
    *,
    errors: Iterable[str] = (),
    open_to_all: bool = False,
    as_openai: bool = False,
    parameters: Iterable[Any] = (),
    bodies: Mapping[str, Any] | None = None,
    **options: Any,
) -> Any:
    """Returns an `extend_schema` with the given error codes and those of the access check.

    `bodies` are named examples of the request.
    """
    codes = [*errors] if open_to_all else [*KEY_ERRORS, *errors]
    refusals = describe_refusals(codes, as_openai=as_openai)
    headers = [*ERROR_HEADERS]
    if as_openai:
        about = "Whether OpenAI's clients should try again."
        headers.append(answer_header("x-should-retry", about, *refusals))
    return extend_schema(
        tags=[tag],
        operation_id=operation_id,
        summary=summary,
        parameters=[*parameters, *headers],
        responses={**responses, **refusals},
        examples=[OpenApiExample(n, body, request_only=True) for n, body in (bodies or {}).items()],
        auth=[] if open_to_all else None,
        **options,
    )
