"""Authenticates requests by API key or session, and checks their permissions."""

import logging
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from typing import Any

from asgiref.sync import sync_to_async
from django.conf import settings
from django.contrib.auth import get_permission_codename, get_user
from django.core.exceptions import DisallowedHost
from django.db import connection
from django.db.models import Model
from django.http import HttpRequest, QueryDict
from rest_framework.authentication import BaseAuthentication, SessionAuthentication
from rest_framework.exceptions import NotAuthenticated, PermissionDenied
from rest_framework.permissions import SAFE_METHODS, BasePermission
from rest_framework.request import Request

from settings_app.access.api_keys import KEY_CACHE, Principal

# Unknown keys and sessions cost a query each. A flood of them must not use all connections.
_LOOKUPS = ThreadPoolExecutor(4, thread_name_prefix="access")


class LoginRequired(NotAuthenticated):
    auth_header = "Bearer"


class BearerKey(BaseAuthentication):
    """Reads `Authorization: Bearer KEY`; the key's Principal is `request.user` and `.auth`."""

    def authenticate(self, request: Request) -> tuple[Principal, Principal] | None:
        key = parse_bearer(request)
        if key is None:
            return None
        principal = KEY_CACHE.find_cached(key) or KEY_CACHE.read_principal(key)
        return principal, principal

    def authenticate_header(self, request: Request) -> str:
        return "Bearer"


class StaffSession(SessionAuthentication):
    """Reads Django's session; a request without a session gets a 401, not a 403."""

    def enforce_csrf(self, request: Request) -> None:
        """Checks Django's own request without its body: the token comes in a header.

        Django would parse a form to find a token in it, and raise errors that the API cannot name.
        """
        request._request.POST = QueryDict()
        super().enforce_csrf(request._request)  # type: ignore[arg-type]  # Django's check takes it

    def authenticate_header(self, request: Request) -> str:
        return "Bearer"


class StaffOrOpenAccess(BasePermission):
    """Allows staff sessions and staff keys, and everybody under `API_ACCESS=open`."""

    def has_permission(self, request: Request, view: Any) -> bool:
        return settings.API_ACCESS == "open" or bool(request.user and request.user.is_staff)


class KeyOrOpenAccess(StaffOrOpenAccess):
    """Allows every key as well."""

    def has_permission(self, request: Request, view: Any) -> bool:
        return isinstance(request.auth, Principal) or super().has_permission(request, view)


class ListedOriginForWrites(BasePermission):
    """Refuses writes by a page of another origin that CORS_ALLOWED_ORIGINS does not list."""

    def has_permission(self, request: Request, view: Any) -> bool:
        if request.method not in SAFE_METHODS:
            # Returning False would ask an anonymous client to log in, which would not help.
            check_origin(request)
        return True


def check_origin(request: Request | HttpRequest) -> None:
    """Raises PermissionDenied unless the request's origin may write."""
    if not is_listed_origin(request):
        raise PermissionDenied("This origin may not write here; list it in CORS_ALLOWED_ORIGINS.")


def check_host(request: HttpRequest) -> None:
    """Raises DisallowedHost, and logs it as Django's handler does, for requests outside of it."""
    try:
        request.get_host()
    except DisallowedHost as error:
        logger = logging.getLogger("django.security.DisallowedHost")
        logger.error("%s", error, extra={"request": request})
        raise


def is_listed_origin(request: Request | HttpRequest) -> bool:
    """Also True for the gateway's host, and without Origin: browsers send it with every write."""
    origin = request.headers.get("Origin")
    if origin is None or origin in settings.CORS_ALLOWED_ORIGINS:
        return True
    # Behind a proxy that ends TLS only the scheme differs, so only the host is compared.
    return origin.lower().partition("://")[2] == request.get_host().lower()


def check_may_change(request: Request, *models: type[Model]) -> None:
    """Raises PermissionDenied for a staff user who may not change these models in the admin.

    Staff keys and, under open access, everybody may change them.
    """
    if settings.API_ACCESS == "open" or isinstance(request.auth, Principal):
        return
    for meta in (model._meta for model in models):
        if not request.user.has_perm(f"{meta.app_label}.{get_permission_codename('change', meta)}"):
            raise PermissionDenied(f"Your account may not change {meta.verbose_name_plural}.")


def parse_bearer(request: Request | HttpRequest) -> str | None:
    """Returns the key that the request carries, or None."""
    scheme, _, key = request.headers.get("Authorization", "").partition(" ")
    return key.strip() if scheme.lower() == "bearer" else None


def client_of(request: Request) -> int | None:
    """Returns the client whose chats the request may see; None means the chats of all clients."""
    return request.auth.client_id if isinstance(request.auth, Principal) else None


async def find_principal(request: HttpRequest) -> Principal | None:
    """Returns the principal of the request's key, or None without a key.

    A cached key needs no query. Raises InvalidKey.
    """
    key = parse_bearer(request)
    if key is None:
        return None
    return KEY_CACHE.find_cached(key) or await _read_principal(key)


async def check_access(request: HttpRequest, *, staff: bool) -> Principal | None:
    """Checks `KeyOrOpenAccess`, or `StaffOrOpenAccess` if `staff`, for async views.

    Only a session needs a query. Raises InvalidKey, LoginRequired or PermissionDenied.
    """
    principal = await find_principal(request)
    if settings.API_ACCESS == "open" or (principal and (principal.is_staff or not staff)):
        return principal
    if principal is not None:
        raise PermissionDenied
    authenticated = await _authenticate(request)
    if authenticated is None:
        raise LoginRequired
    if not authenticated[0].is_staff:
        raise PermissionDenied
    return None


@sync_to_async(thread_sensitive=False, executor=_LOOKUPS)
def _read_principal(key: str) -> Principal:
    try:
        return KEY_CACHE.read_principal(key)
    finally:
        connection.close()


@sync_to_async(thread_sensitive=False, executor=_LOOKUPS)
def _authenticate(request: HttpRequest) -> tuple[Any, Any] | None:
    """Does the work of Django's session and authentication middleware."""
    sessions = import_module(settings.SESSION_ENGINE)
    request.session = sessions.SessionStore(request.COOKIES.get(settings.SESSION_COOKIE_NAME))
    try:
        request.user = get_user(request)
        return StaffSession().authenticate(Request(request))
    finally:
        connection.close()
