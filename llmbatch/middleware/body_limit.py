"""Bounds the bodies of API requests before any view reads them."""

from collections.abc import Awaitable, Callable
from typing import Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.conf import settings
from django.http import HttpRequest, HttpResponse

from llmbatch.errors import is_api_path, json_error


class BodyLimitMiddleware:
    """413 for a body over `MAX_BODY_BYTES`, whether its length was announced or not.

    A chunked body has no Content-Length, and REST framework takes its absence for an empty body:
    a change of settings would seem to succeed and change nothing. So the length is filled in.
    """

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        self.get_response = get_response
        if iscoroutinefunction(get_response):
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> HttpResponse | Awaitable[HttpResponse]:
        if iscoroutinefunction(self):
            return self._call_async(request)
        return json_error(413) if _is_too_large(request) else self.get_response(request)

    async def _call_async(self, request: HttpRequest) -> HttpResponse:
        return json_error(413) if _is_too_large(request) else await self.get_response(request)


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
