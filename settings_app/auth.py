"""Who may use the API."""

from importlib import import_module
from typing import Any

from asgiref.sync import sync_to_async
from django.conf import settings
from django.contrib.auth import get_user
from django.db import connection
from django.http import HttpRequest
from rest_framework.authentication import SessionAuthentication
from rest_framework.exceptions import NotAuthenticated, PermissionDenied
from rest_framework.permissions import SAFE_METHODS, BasePermission
from rest_framework.request import Request


class StaffSession(SessionAuthentication):
    """Django's session; a request without one is 401, not 403."""

    def authenticate_header(self, request: Request) -> str:
        return "Session"


class StaffOrOpenAccess(BasePermission):
    """Everybody under `API_ACCESS=open`, staff sessions otherwise."""

    def has_permission(self, request: Request, view: Any) -> bool:
        return settings.API_ACCESS == "open" or bool(request.user and request.user.is_staff)


class ListedOriginForWrites(BasePermission):
    """A page of another origin may write only if CORS_ALLOWED_ORIGINS lists it by name."""

    def has_permission(self, request: Request, view: Any) -> bool:
        if request.method in SAFE_METHODS or is_listed_origin(request):
            return True
        # Not False: REST framework would ask a nameless client to log in, which would not help.
        raise PermissionDenied("This origin may not write here; list it in CORS_ALLOWED_ORIGINS.")


def is_listed_origin(request: Request | HttpRequest) -> bool:
    """True too without an Origin (no browser's page sends it) and for the gateway's own host."""
    origin = request.headers.get("Origin")
    if origin is None or origin in settings.CORS_ALLOWED_ORIGINS:
        return True
    # Behind a proxy that ends TLS the scheme differs, the host does not.
    return origin.lower().partition("://")[2] == request.get_host().lower()


async def check_access(request: Request) -> None:
    """`StaffOrOpenAccess` for views that wait; only a closed gateway costs a query.

    Raises NotAuthenticated or PermissionDenied.
    """
    if settings.API_ACCESS == "open":
        return
    authenticated = await sync_to_async(_authenticate, thread_sensitive=False)(request)
    if authenticated is None:
        raise _not_authenticated()
    if not authenticated[0].is_staff:
        raise PermissionDenied()


def _authenticate(request: Request) -> tuple[Any, Any] | None:
    """What Django's session and authentication middleware would do."""
    http = request._request
    sessions = import_module(settings.SESSION_ENGINE)
    http.session = sessions.SessionStore(http.COOKIES.get(settings.SESSION_COOKIE_NAME))
    try:
        http.user = get_user(http)
        return StaffSession().authenticate(request)
    finally:
        connection.close()


def _not_authenticated() -> NotAuthenticated:
    error = NotAuthenticated()
    error.auth_header = "Session"
    return error
