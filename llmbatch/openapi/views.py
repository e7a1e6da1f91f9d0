"""GET /v1/schema, and GET /v1/docs, its browsable page.

Both are open to everybody: they contain no secrets, and client generators have no key.
"""

from functools import cache

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.views import APIView

YAML_TYPES = ("application/yaml", "application/x-yaml", "text/yaml", "vnd.oai.openapi;", "+yaml")
MAX_AGE_S = 300


class SchemaView(APIView):
    authentication_classes = ()
    permission_classes = ()

    def get(self, request: Request) -> HttpResponse:
        form = _choose_form(request)
        response = HttpResponse(format_schema(form), content_type=f"application/{form}")
        response["Cache-Control"] = f"max-age={MAX_AGE_S}"
        response["Vary"] = "Accept"
        return response


@require_safe
def docs(request: HttpRequest) -> HttpResponse:
    return render(request, "docs.html")


@cache
def format_schema(form: str) -> bytes:
    """Returns the document as `json` or `yaml`. Cached, because it takes a tenth of a second."""
    # Imported here because it takes half a second, and most processes never need it.
    from drf_spectacular.renderers import OpenApiJsonRenderer, OpenApiYamlRenderer

    from llmbatch.openapi.describe import Generator

    generator = Generator()
    schema = generator.get_schema(public=True)  # type: ignore[no-untyped-call]  # no types
    renderer = OpenApiYamlRenderer() if form == "yaml" else OpenApiJsonRenderer()
    rendered: bytes = renderer.render(schema, renderer_context={})
    return rendered


def _choose_form(request: Request) -> str:
    wanted = request.query_params.get("format")
    if not wanted:
        accepted = request.headers.get("Accept", "").lower()
        return "yaml" if any(kind in accepted for kind in YAML_TYPES) else "json"
    if wanted not in ("json", "yaml"):
        raise ValidationError({"format": ["Must be json or yaml."]})
    return wanted
