"""The base of every view that waits on the event loop, and its JSON responses."""

import json
from collections.abc import Awaitable
from dataclasses import replace
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from rest_framework.exceptions import MethodNotAllowed
from rest_framework.views import APIView

from batching.gateway.admission import Query
from settings_app.access.api_keys import Principal
from settings_app.access.auth import check_access
from settings_app.access.rate_limits import check_rate_limit

# Built once, because building it takes as long as encoding an answer.
_ENCODER = json.JSONEncoder(ensure_ascii=False)


class AsyncAPIView(APIView):
    """A view whose requests wait on the event loop, without a thread for each of them.

    It uses DRF's parsers and exception handler, but neither its renderers (a handler returns its
    finished response) nor its permission classes (`check_access` is async). Handlers get Django's
    request. `principal` is the caller's key, None without one.
    """

    open_to_all = False
    staff_only = True
    principal: Principal | None = None

    async def dispatch(  # type: ignore[override]  # Django awaits an async view; its stubs do not
        self, request: HttpRequest, *args: Any, **kwargs: Any
    ) -> HttpResponseBase:
        method = (request.method or "").lower()
        try:
            handler = getattr(self, method, None)
            if handler is None or method not in self.http_method_names:
                raise MethodNotAllowed(method.upper())
            if not self.open_to_all:
                self.principal = await self.admit(request)
            response: HttpResponseBase = await handler(request, *args, **kwargs)
        except Exception as error:
            response = self.respond_error(error)
        return response

    def admit(self, request: HttpRequest) -> Awaitable[Principal | None]:
        """Returns the caller's key; raises REST framework's errors for a caller without access."""
        return check_access(request, staff=self.staff_only)

    def parse(self, request: HttpRequest) -> Any:
        """The document of the body; raises ParseError or UnsupportedMediaType."""
        return self.initialize_request(request).data

    def respond_error(self, error: Exception) -> HttpResponse:
        """Makes the API's error document."""
        context = self.get_exception_handler_context()
        response: HttpResponse = self.get_exception_handler()(error, context)
        if response.status_code == 405:
            response["Allow"] = ", ".join(self.allowed_methods)
        return response

    async def options(  # type: ignore[override]  # Django awaits an async view; its stubs do not
        self, request: HttpRequest, *args: Any, **kwargs: Any
    ) -> HttpResponse:
        response = HttpResponse(status=204, headers={"Allow": ", ".join(self.allowed_methods)})
        del response["Content-Type"]  # there is no content
        return response


async def charge_key(principal: Principal | None, query: Query) -> Query:
    """Counts the query against the key's limit, and returns it with the id of the key's client.

    Raises Throttled.
    """
    if principal is None:
        return query
    await check_rate_limit(principal)
    return replace(query, client_id=principal.client_id)


def respond_json(document: Any, *, status: int = 200) -> HttpResponse:
    body = _ENCODER.encode(document).encode()
    return HttpResponse(body, status=status, content_type="application/json")
