"""The base of Django middleware for sync and async handlers."""

from collections.abc import Awaitable, Callable
from typing import Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.http import HttpRequest, HttpResponse


class Middleware:
    """Override `respond_early`, which may answer in place of the view, or `adapt_response`.

    Under an async handler both run on the event loop. Django's own `MiddlewareMixin` would move
    each request to a thread and back.
    """

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        self.get_response = get_response
        self._is_async = iscoroutinefunction(get_response)
        if self._is_async:
            markcoroutinefunction(self)

    def respond_early(self, request: HttpRequest) -> HttpResponse | None:
        return None

    async def respond_early_async(self, request: HttpRequest) -> HttpResponse | None:
        return self.respond_early(request)

    def adapt_response(self, request: HttpRequest, response: HttpResponse) -> HttpResponse:
        return response

    def __call__(self, request: HttpRequest) -> HttpResponse | Awaitable[HttpResponse]:
        if self._is_async:
            return self._call_async(request)
        response = self.respond_early(request) or self.get_response(request)
        return self.adapt_response(request, response)

    async def _call_async(self, request: HttpRequest) -> HttpResponse:
        response = await self.respond_early_async(request) or await self.get_response(request)
        return self.adapt_response(request, response)
