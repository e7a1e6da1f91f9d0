"""The endpoints of queries, analytics, metrics and the test of the model key."""

import asyncio
import logging
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any
from urllib.parse import quote

from asgiref.sync import async_to_sync
from channels.layers import get_channel_layer
from django.db import DatabaseError
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from prometheus_client.openmetrics.exposition import CONTENT_TYPE_LATEST as OPENMETRICS
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from batching.analytics.summary import summarize_now
from batching.api.base import AsyncAPIView, charge_key, respond_json
from batching.api.serializers import AnalyticsParameters, parse_plain_query, parse_query
from batching.api.sse import EventStream
from batching.gateway.admission import Query
from batching.messages import send_message
from batching.process.runtime import get_runtime
from batching.store.cancellation import cancel_queued
from batching.store.queue import estimate_wait_s, find_request, queue_position
from batching.store.responses import describe_request, parse_stored_response
from batching.telemetry import log_context
from batching.telemetry.exposition import PLAIN, expose
from chats.models import Chat, Status
from settings_app.access.auth import (
    KeyOrOpenAccess,
    ListedOriginForWrites,
    check_origin,
    client_of,
)

logger = logging.getLogger("batching")

METRICS_DATABASE_TIMEOUT_S = 3.0


class QueryView(AsyncAPIView):
    """POST /v1/query: returns the answer, a stream of it, or 202 without waiting."""

    staff_only = False

    def parse(self, request: HttpRequest) -> Query:
        """Ordinary bodies are parsed without DRF and without the serializer; both are slow."""
        query = None
        if request.content_type == "application/json":
            query = parse_plain_query(request.body)
        return query or parse_query(super().parse(request))

    async def post(self, request: HttpRequest) -> HttpResponseBase:
        query = await charge_key(self.principal, self.parse(request))
        gateway = (await get_runtime()).gateway
        if _prefers_async(request):
            document = await gateway.enqueue(replace(query, respond_async=True))
            response = respond_json(document, status=202)
            response["Location"] = f"/v1/query/{quote(document['request_id'], safe='')}"
            response["Preference-Applied"] = "respond-async"
            return response
        if _accepts_events(request):
            events = gateway.stream(replace(query, streamed=True))
            await anext(events)  # raises a refusal before the status 200 is sent
            return EventStream(events)
        return respond_json(await gateway.submit(query))


# Both search the whole header before they split it: few requests have one of these values.


def _prefers_async(request: HttpRequest) -> bool:
    header = request.headers.get("Prefer", "").lower()
    return "respond-async" in header and "respond-async" in map(str.strip, header.split(","))


def _accepts_events(request: HttpRequest) -> bool:
    header = request.headers.get("Accept", "").lower()
    types = (part.partition(";")[0].strip() for part in header.split(","))
    return "text/event-stream" in header and "text/event-stream" in types


class QueryStateView(APIView):
    """GET and DELETE /v1/query/{request_id}: the state of a request, and its cancellation."""

    permission_classes = [KeyOrOpenAccess, ListedOriginForWrites]

    def get(self, request: Request, request_id: str) -> Response:
        return Response(describe_state(find_requested_chat(request, request_id)))

    def delete(self, request: Request, request_id: str) -> Response:
        chat = find_requested_chat(request, request_id)
        for channel, message in cancel_queued(chat):
            async_to_sync(send_message)(get_channel_layer(), channel, message)
        return Response(describe_state(find_requested_chat(request, request_id)))


def find_requested_chat(request: Request, request_id: str) -> Chat:
    """Raises RequestNotFound or AmbiguousRequest."""
    username = request.query_params.get("username")
    log_context.bind(request_ids=[request_id])
    return find_request(request_id, client_id=client_of(request), username=username)


def describe_state(chat: Chat) -> dict[str, Any]:
    response = parse_stored_response(chat) or {}
    answer, error = response.get("answer"), response.get("error")
    queued = chat.status == Status.QUEUED
    return {
        "request_id": chat.request_id,
        "username": chat.username,
        "status": chat.status,
        "position": queue_position(chat) if queued else None,
        "estimate_s": estimate_wait_s(chat) if queued else None,
        "response": answer and describe_request(chat) | answer,
        "error": error and {"code": error["code"], "detail": error["detail"]},
    }


class AnalyticsView(APIView):
    """GET /v1/analytics."""

    def get(self, request: Request) -> Response:
        parameters = AnalyticsParameters(data=request.query_params)
        parameters.is_valid(raise_exception=True)
        first, to = (parameters.validated_data.get(name) for name in ("from", "to"))
        return Response(summarize_now(first=first, last=to and to - timedelta(days=1)))


class MetricsView(AsyncAPIView):
    """GET /metrics: as OpenMetrics if the client accepts it, else in Prometheus' text format."""

    async def get(self, request: HttpRequest) -> HttpResponse:
        runtime = await get_runtime()
        openmetrics = "application/openmetrics-text" in request.headers.get("Accept", "")
        write = partial(
            expose, runtime.name, runtime.gauges(), openmetrics=openmetrics, fleet=runtime.shared
        )
        try:
            async with asyncio.timeout(METRICS_DATABASE_TIMEOUT_S):
                body = await runtime.database.run(write)
        except (TimeoutError, DatabaseError) as error:
            logger.warning("The metrics omit the queue (%s).", type(error).__name__)
            body = write(database=False)
        return HttpResponse(body, content_type=OPENMETRICS if openmetrics else PLAIN)


class ModelKeyTestView(AsyncAPIView):
    """POST /v1/settings/test-key: checks with the model service that key and model work."""

    async def post(self, request: HttpRequest) -> HttpResponse:
        check_origin(request)
        reason = await (await get_runtime()).test_model_key()
        return respond_json({"ok": not reason, "reason": reason})
