"""Describes /v1/schema."""

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema

from llmbatch.openapi.describe import answer
from llmbatch.openapi.refusals import describe_refusals

READ = extend_schema(
    tags=["Schema"],
    operation_id="get_schema",
    summary="Get this document",
    description="JSON, or YAML if `format` or `Accept` asks for it. Open to everybody.",
    auth=[],
    parameters=[OpenApiParameter("format", {"type": "string", "enum": ["json", "yaml"]})],
    responses={
        (200, "application/json"): answer(OpenApiTypes.OBJECT, "OpenAPI 3.1."),
        (200, "application/yaml"): answer(OpenApiTypes.OBJECT, "OpenAPI 3.1."),
        **describe_refusals(["invalid"]),
    },
)
