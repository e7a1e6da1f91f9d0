"""Bounds what one client may read at once, so that others and waiting requests are not delayed."""

from collections.abc import Awaitable, Callable, Hashable, Mapping
from contextlib import AsyncExitStack
from io import BytesIO
from typing import Any

from django.conf import settings
from django.core.exceptions import SuspiciousOperation
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, HttpResponse
from django.template import loader
from rest_framework.exceptions import APIException

from batching.store.threads import CONNECTION_ERRORS
from llmbatch.errors import json_error
from llmbatch.middleware.json_errors import is_api_path
from llmbatch.server.async_views import send_response
from settings_app.access.auth import find_principal
from settings_app.access.login_throttle import find_address
from settings_app.access.read_slots import CLIENT, LOGINS, MAX_WAIT_S, READS, TooManyReads

Application = Callable[[dict[str, Any], Any, Any], Awaitable[None]]

LOGIN_PATH = "/admin/login/"


class ReadLimitApplication:
    """Wraps Django's application: each of its requests takes a slot until its response begins."""

    def __init__(self, application: Application) -> None:
        self._application = application

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["path"].startswith(f"/{settings.STATIC_URL.strip('/')}/"):
            await self._application(scope, receive, send)
            return
        client = await _find_client(scope)
        CLIENT.set(client)
        is_login = scope["path"] == LOGIN_PATH and scope["method"] == "POST"
        slots = LOGINS if is_login else READS
        async with AsyncExitStack() as stack:

            async def send_and_release(message: dict[str, Any]) -> None:
                await stack.aclose()  # a client that reads slowly needs no slot
                await send(message)

            try:
                await stack.enter_async_context(slots.take(client, wait_s=MAX_WAIT_S))
            except TooManyReads as error:
                await send_response(_refuse(scope["path"], error), send)
                return
            await self._application(scope, receive, send_and_release)


async def _find_client(scope: Mapping[str, Any]) -> Hashable:
    """The client of a valid key; else, under open access, the username, else the address."""
    try:
        request = ASGIRequest(scope, BytesIO())
        if principal := await find_principal(request):
            return "client", principal.client_id
    except (APIException, SuspiciousOperation, UnicodeError, *CONNECTION_ERRORS):
        return "address", _peer(scope)
    return _find_visitor(request)


def _find_visitor(request: HttpRequest) -> Hashable:
    try:
        username = request.GET.get("username")
    except (SuspiciousOperation, UnicodeError):
        username = None
    if settings.API_ACCESS == "open" and username:
        return "username", username
    return "address", find_address(request)


def _peer(scope: Mapping[str, Any]) -> str:
    return str((scope.get("client") or [""])[0])


def _refuse(path: str, error: TooManyReads) -> HttpResponse:
    cause = str(error.__doc__)
    headers = {"Retry-After": str(error.retry_after_s)}
    if is_api_path(path):
        return json_error(503, code="queue_full", detail=cause, headers=headers)
    page = loader.render_to_string("500.html", {"cause": cause})
    return HttpResponse(page, status=503, headers=headers)
