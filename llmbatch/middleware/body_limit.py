"""Bounds the bodies of API requests before any view reads them."""

from django.conf import settings
from django.http import HttpRequest, HttpResponse

from llmbatch.errors import json_error
from llmbatch.middleware.base import Middleware
from llmbatch.middleware.json_errors import is_api_path


class BodyLimitMiddleware(Middleware):
    """Answers 413 to a body over `MAX_BODY_BYTES`, with or without a Content-Length.

    A chunked body has no Content-Length, and REST framework would treat it as empty: a change of
    the settings would seem to succeed and change nothing. The middleware therefore adds the header.
    """

    def respond_early(self, request: HttpRequest) -> HttpResponse | None:
        return json_error(413) if _is_too_large(request) else None


def _is_too_large(request: HttpRequest) -> bool:
    if not is_api_path(request.path_info):
        return False
    announced = request.META.get("CONTENT_LENGTH") or ""
    if announced.isascii() and announced.isdigit():
        return int(announced[:20]) > settings.MAX_BODY_BYTES
    body = request.read(settings.MAX_BODY_BYTES + 1)
    request._body = body
    request.META["CONTENT_LENGTH"] = str(len(body))
    return len(body) > settings.MAX_BODY_BYTES
