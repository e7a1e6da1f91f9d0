"""The views that wait for the model, and the test of its key."""

import json
from dataclasses import replace
from typing import Any
from urllib.parse import quote

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from rest_framework.exceptions import PermissionDenied
from rest_framework.request import Request
from rest_framework.views import APIView

from batching.api.serializers import parse_plain_query, parse_query
from batching.gateway.admission import Query
from batching.gateway.events import EventStream
from batching.process.runtime import get_runtime
from settings_app.access.api_keys import Principal
from settings_app.access.auth import (
    ListedOriginForWrites,
    check_access,
    find_principal,
    is_listed_origin,
)
from settings_app.access.rate_limits import take_turn


class AsyncAPIView(APIView):
    """A DRF view whose request waits on the event loop.

    Keeps DRF's parsers and exception handler. What DRF would do in threads is left out: rendering
    (a handler returns its finished response) and permission classes (`check_access` is async).
    """

    open_to_all = False
    staff_only = True

    async def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        try:
            self.request = self.initialize_request(request, *args, **kwargs)
            handler = getattr(self, request.method.lower(), None)
            if handler is None or request.method.lower() not in self.http_method_names:
                self.http_method_not_allowed(self.request)
            if not self.open_to_all:
                self.principal = await self.admit(self.request)
            response = await handler(self.request, *args, **kwargs)
        except Exception as error:
            response = self.get_exception_handler()(error, self.get_exception_handler_context())
        if response.status_code == 405:
            response["Allow"] = ", ".join(self.allowed_methods)
        return response

    async def admit(self, request: Request) -> Principal | None:
        """Who asks, None without a key; raises what REST framework raises for whom it refuses."""
        return await check_access(request, staff=self.staff_only)

    async def options(self, request: Request, *args: Any, **kwargs: Any) -> HttpResponse:
        return HttpResponse(status=204, headers={"Allow": ", ".join(self.allowed_methods)})


class QueryView(AsyncAPIView):
    """POST /v1/query: waits until the request's own answer is there."""

    staff_only = False

    async def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """The short way for an ordinary body; DRF's way for every other, and for its errors."""
        query = None
        if request.content_type == "application/json" and request.method == "POST":
            query = parse_plain_query(request.body)
        try:
            principal = await find_principal(request) if query else None
            if query is None or (principal is None and settings.API_ACCESS != "open"):
                return await super().dispatch(request, *args, **kwargs)
            return await self._answer(request, query, principal)
        except Exception as error:
            return self.get_exception_handler()(error, {"request": request})

    async def post(self, request: Request) -> HttpResponse:
        return await self._answer(request, parse_query(request.data), self.principal)

    async def _answer(
        self, request: HttpRequest | Request, query: Query, principal: Principal | None
    ) -> HttpResponseBase:
        if principal is not None:
            await take_turn(principal)
            query = replace(query, client_id=principal.client_id)
        gateway = (await get_runtime()).gateway
        if _accepts_events(request) and not _prefers_async(request):
            events = gateway.stream(replace(query, streamed=True))
            await anext(events)  # a refusal keeps its HTTP status
            return EventStream(events)
        if not _prefers_async(request):
            return respond_json(await gateway.submit(query))
        document = await gateway.enqueue(replace(query, respond_async=True))
        response = respond_json(document, status=202)
        response["Location"] = f"/v1/query/{quote(document['request_id'], safe='')}"
        response["Preference-Applied"] = "respond-async"
        return response


class ModelKeyTestView(AsyncAPIView):
    """POST /v1/settings/test-key: asks the model service whether key and model work."""

    async def post(self, request: Request) -> HttpResponse:
        if not is_listed_origin(request):
            raise PermissionDenied(ListedOriginForWrites.message)
        reason = await (await get_runtime()).test_model_key()
        return respond_json({"ok": not reason, "reason": reason})


def _prefers_async(request: HttpRequest | Request) -> bool:
    wishes = request.headers.get("Prefer", "")
    return any(wish.strip().lower() == "respond-async" for wish in wishes.split(","))


def _accepts_events(request: HttpRequest | Request) -> bool:
    kinds = request.headers.get("Accept", "").lower().split(",")
    return any(kind.partition(";")[0].strip() == "text/event-stream" for kind in kinds)


def respond_json(document: Any, *, status: int = 200) -> HttpResponse:
    body = json.dumps(document, ensure_ascii=False).encode()
    return HttpResponse(body, status=status, content_type="application/json")
