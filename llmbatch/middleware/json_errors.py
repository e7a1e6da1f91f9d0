"""Converts Django's own error responses on API paths to the API's error form."""

from django.http import HttpRequest, HttpResponse

from llmbatch.errors import json_error
from llmbatch.middleware.base import Middleware


class JsonErrorMiddleware(Middleware):
    """Replaces Django's HTML error pages, such as those for a bad Host or an unknown path."""

    def adapt_response(self, request: HttpRequest, response: HttpResponse) -> HttpResponse:
        is_json = "json" in response.headers.get("Content-Type", "")
        if response.status_code < 400 or is_json or not is_api_path(request.path_info):
            return response
        kept = {name: response[name] for name in ("Allow", "WWW-Authenticate") if name in response}
        return json_error(response.status_code, headers=kept)


def is_api_path(path: str) -> bool:
    return path in ("/v1", "/health") or path.startswith(("/v1/", "/health/"))
