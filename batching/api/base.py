"""The base of every view that waits on the event loop, and its JSON response."""

import json
from typing import Any

from django.http import HttpRequest, HttpResponse
from rest_framework.request import Request
from rest_framework.views import APIView

from settings_app.access.api_keys import Principal
from settings_app.access.auth import check_access


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
        """The caller's key, None without one; raises what REST framework raises for a refusal."""
        return await check_access(request, staff=self.staff_only)

    async def options(self, request: Request, *args: Any, **kwargs: Any) -> HttpResponse:
        return HttpResponse(status=204, headers={"Allow": ", ".join(self.allowed_methods)})


def respond_json(document: Any, *, status: int = 200) -> HttpResponse:
    body = json.dumps(document, ensure_ascii=False).encode()
    return HttpResponse(body, status=status, content_type="application/json")
