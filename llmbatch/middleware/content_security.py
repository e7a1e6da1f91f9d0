"""What a browser may load and run on the gateway's pages: their own files, and nothing else."""

from collections.abc import Awaitable, Callable
from typing import Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.conf import settings
from django.http import HttpRequest, HttpResponse

# Django's admin needs no exception: since 5.2 nothing of it is inline, and its scripts set styles
# through the DOM, which a policy does not forbid.
PAGE_POLICY = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    ]
)


class PagePolicyMiddleware:
    """Gives every HTML response the policy.

    Not those in which Django explains an error under DEBUG: their style and script are inline.
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
        return _add_policy(self.get_response(request))

    async def _call_async(self, request: HttpRequest) -> HttpResponse:
        return _add_policy(await self.get_response(request))


def _add_policy(response: HttpResponse) -> HttpResponse:
    explained = settings.DEBUG and response.status_code in (404, 500)
    if response.headers.get("Content-Type", "").startswith("text/html") and not explained:
        response.headers["Content-Security-Policy"] = PAGE_POLICY
    return response
