"""GET /metrics."""

import asyncio
import logging
from functools import partial

from django.db import DatabaseError
from django.http import HttpResponse
from prometheus_client.openmetrics.exposition import CONTENT_TYPE_LATEST as OPENMETRICS
from rest_framework.request import Request

from batching.api.views import AsyncAPIView
from batching.process.runtime import get_runtime
from batching.telemetry.exposition import PLAIN, expose

logger = logging.getLogger("batching")

DATABASE_TIMEOUT_S = 3.0


class MetricsView(AsyncAPIView):
    """In OpenMetrics for whoever asks for it, else in Prometheus' text format."""

    async def get(self, request: Request) -> HttpResponse:
        runtime = await get_runtime()
        openly = "application/openmetrics-text" in request.headers.get("Accept", "")
        write = partial(expose, runtime.name, runtime.gauges(), openly=openly, fleet=runtime.shared)
        try:
            async with asyncio.timeout(DATABASE_TIMEOUT_S):
                body = await runtime.database.run(write)
        except (TimeoutError, DatabaseError) as error:
            logger.warning("The metrics lack the queue (%s).", type(error).__name__)
            body = write(database=False)
        return HttpResponse(body, content_type=OPENMETRICS if openly else PLAIN)
