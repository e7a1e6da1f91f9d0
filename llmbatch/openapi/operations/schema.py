"""Describes /v1/schema."""

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter

from llmbatch.openapi.describe import answer, operation

FORMATS = ("json", "yaml")

READ = operation(
    "Schema",
    "get_schema",
    "Get this document",
    {(200, f"application/{name}"): answer(OpenApiTypes.OBJECT, "OpenAPI 3.1.") for name in FORMATS},
    description="JSON, or YAML if `format` or `Accept` asks for it. Open to everybody.",
    parameters=[OpenApiParameter("format", enum=FORMATS)],
    errors=["invalid"],
    open_to_all=True,
)
