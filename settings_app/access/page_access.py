"""Checks who may open the HTML pages."""

from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any

from django.conf import settings
from django.contrib.auth.views import redirect_to_login
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.urls import reverse

View = Callable[..., HttpResponse]
AsyncView = Callable[..., Coroutine[Any, Any, HttpResponseBase]]


def may_read(request: HttpRequest) -> bool:
    """Returns True for staff, and for everybody under `API_ACCESS=open`."""
    return settings.API_ACCESS == "open" or may_administer(request)


def may_administer(request: HttpRequest) -> bool:
    """Returns True for staff, who may follow links into the admin."""
    user = getattr(request, "user", None)
    return bool(user and user.is_staff)


def for_readers(view: View) -> View:
    """Redirects everybody who may not read the pages to the login."""

    @wraps(view)
    def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        return view(request, *args, **kwargs) if may_read(request) else _ask_to_log_in(request)

    return guarded


def for_readers_async(view: AsyncView) -> AsyncView:
    """The same for async views."""

    @wraps(view)
    async def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if settings.API_ACCESS == "open" or (await request.auser()).is_staff:
            return await view(request, *args, **kwargs)
        return _ask_to_log_in(request)

    return guarded


def _ask_to_log_in(request: HttpRequest) -> HttpResponse:
    return redirect_to_login(request.get_full_path(), reverse("admin:login"))
