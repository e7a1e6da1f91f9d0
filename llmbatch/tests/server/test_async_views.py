"""Every request to the async views gets a response."""

import asyncio
import json
from typing import Any

from asgiref.testing import ApplicationCommunicator
from django.http import HttpRequest, HttpResponse
from rest_framework.views import APIView

from llmbatch.server.async_views import AsyncViewApplication

SCOPE: dict[str, Any] = {"type": "http", "method": "GET", "headers": [(b"host", b"localhost")]}


class CancelledView(APIView):
    async def dispatch(self, request: HttpRequest) -> HttpResponse:
        raise asyncio.CancelledError


async def test_cancellation_that_nobody_requested_is_an_internal_error() -> None:
    """A library may raise CancelledError by itself. Without a response the client would wait."""
    application = AsyncViewApplication({"/v1/cancelled": CancelledView.as_view()})
    exchange = ApplicationCommunicator(
        application, SCOPE | {"path": "/v1/cancelled", "query_string": b""}
    )
    await exchange.send_input({"type": "http.request", "body": b"", "more_body": False})
    start = await exchange.receive_output(timeout=60)
    body = await exchange.receive_output(timeout=60)
    assert start["status"] == 500
    assert json.loads(body["body"])["code"] == "internal_error"
