"""Who asks, and who may use the API."""

from importlib import import_module
from typing import Any

from asgiref.sync import sync_to_async
from django.conf import settings
from django.contrib.auth import get_user
from django.db import connection
from django.http import HttpRequest
from rest_framework.authentication import BaseAuthentication, SessionAuthentication
from rest_framework.exceptions import AuthenticationFailed, NotAuthenticated, PermissionDenied
from rest_framework.permissions import SAFE_METHODS, BasePermission
from rest_framework.request import Request

from settings_app.access.api_keys import KEY_RING, Principal

BAD_KEY = "This API key is not valid: it is unknown, revoked or expired."


class KeyHolder:
    """What REST framework calls the user of a request with a key."""

    is_authenticated = True
    is_active = True
    pk = None

    def __init__(self, principal: Principal) -> None:
        self.is_staff = principal.is_staff
        self._prefix = principal.prefix

    def get_username(self) -> str:
        return f"key {self._prefix}"


class BearerKey(BaseAuthentication):
    """`Authorization: Bearer KEY`. `request.auth` is then the key's Principal."""

    def authenticate(self, request: Request) -> tuple[KeyHolder, Principal] | None:
        key = parse_bearer(request)
        if key is None:
            return None
        memory = KEY_RING.recall(key)
        principal = KEY_RING.look_up(key) if memory is None else memory.principal
        if principal is None:
            raise AuthenticationFailed(BAD_KEY)
        return KeyHolder(principal), principal

    def authenticate_header(self, request: Request) -> str:
        return "Bearer"


class StaffSession(SessionAuthentication):
    """Django's session; a request without one is 401, not 403."""

    def enforce_csrf(self, request: Request) -> None:
        """Checks Django's own request, whose JSON body it need not parse."""
        super().enforce_csrf(request._request)  # type: ignore[arg-type]  # Django's check takes it

    def authenticate_header(self, request: Request) -> str:
        return "Bearer"


class StaffOrOpenAccess(BasePermission):
    """Everybody under `API_ACCESS=open`; else staff sessions and staff keys."""

    def has_permission(self, request: Request, view: Any) -> bool:
        return settings.API_ACCESS == "open" or bool(request.user and request.user.is_staff)


class KeyOrOpenAccess(BasePermission):
    """Everybody under `API_ACCESS=open`; else staff sessions and every key."""

    def has_permission(self, request: Request, view: Any) -> bool:
        known = isinstance(request.auth, Principal) or bool(request.user and request.user.is_staff)
        return settings.API_ACCESS == "open" or known


class ListedOriginForWrites(BasePermission):
    """A page of another origin may write only if CORS_ALLOWED_ORIGINS lists it by name."""

    def has_permission(self, request: Request, view: Any) -> bool:
        if request.method not in SAFE_METHODS:
            # False would make REST framework ask a client without a key to log in, in vain.
            check_origin(request)
        return True


def check_origin(request: Request | HttpRequest) -> None:
    """Raises PermissionDenied unless the request's origin may write."""
    if not is_listed_origin(request):
        raise PermissionDenied("This origin may not write here; list it in CORS_ALLOWED_ORIGINS.")


def is_listed_origin(request: Request | HttpRequest) -> bool:
    """True too without an Origin (no browser's page sends it) and for the gateway's own host."""
    origin = request.headers.get("Origin")
    if origin is None or origin in settings.CORS_ALLOWED_ORIGINS:
        return True
    # Behind a proxy that ends TLS the scheme differs, the host does not.
    return origin.lower().partition("://")[2] == request.get_host().lower()


def parse_bearer(request: Request | HttpRequest) -> str | None:
    """The key that the request carries; None without one."""
    scheme, _, key = request.headers.get("Authorization", "").partition(" ")
    return key.strip() if scheme.lower() == "bearer" else None


def client_of(request: Request) -> int | None:
    """Whose chats the request may see: its key's client's alone; None is everybody's."""
    return request.auth.client_id if isinstance(request.auth, Principal) else None


async def find_principal(request: HttpRequest) -> Principal | None:
    """Whose key the request carries, None without one; a key seen lately costs no query.

    Raises AuthenticationFailed for a key that is none.
    """
    key = parse_bearer(request)
    if key is None:
        return None
    memory = KEY_RING.recall(key)
    if memory is not None:
        principal = memory.principal
    else:
        principal = await sync_to_async(_look_up, thread_sensitive=False)(key)
    if principal is None:
        error = AuthenticationFailed(BAD_KEY)
        error.auth_header = "Bearer"
        raise error
    return principal


async def check_access(request: HttpRequest, *, staff: bool) -> Principal | None:
    """`KeyOrOpenAccess`, or with `staff` `StaffOrOpenAccess`, for views that wait.

    Only a session costs a query. Raises NotAuthenticated or PermissionDenied.
    """
    principal = await find_principal(request)
    if settings.API_ACCESS == "open" or (principal and (principal.is_staff or not staff)):
        return principal
    if principal is not None:
        raise PermissionDenied()
    authenticated = await sync_to_async(_authenticate, thread_sensitive=False)(request)
    if authenticated is None:
        raise _not_authenticated()
    if not authenticated[0].is_staff:
        raise PermissionDenied()
    return None


def _look_up(key: str) -> Principal | None:
    try:
        return KEY_RING.look_up(key)
    finally:
        connection.close()


def _authenticate(request: HttpRequest) -> tuple[Any, Any] | None:
    """What Django's session and authentication middleware would do."""
    sessions = import_module(settings.SESSION_ENGINE)
    request.session = sessions.SessionStore(request.COOKIES.get(settings.SESSION_COOKIE_NAME))
    try:
        request.user = get_user(request)
        return StaffSession().authenticate(Request(request))
    finally:
        connection.close()


def _not_authenticated() -> NotAuthenticated:
    error = NotAuthenticated()
    error.auth_header = "Bearer"
    return error
