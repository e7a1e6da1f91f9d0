"""GET /metrics."""

from django.http import HttpResponse
from prometheus_client.openmetrics.exposition import CONTENT_TYPE_LATEST as OPENMETRICS
from rest_framework.request import Request

from batching.exposition import PLAIN, describe_state, expose
from batching.runtime import get_runtime
from batching.views import AsyncAPIView


class MetricsView(AsyncAPIView):
    """In OpenMetrics for whoever asks for it, else in Prometheus' text format."""

    async def get(self, request: Request) -> HttpResponse:
        runtime = await get_runtime()
        openly = "application/openmetrics-text" in request.headers.get("Accept", "")
        body = await runtime.database.run(
            expose,
            runtime.name,
            describe_state(runtime),
            openly=openly,
            fleet=runtime.shared,
        )
        return HttpResponse(body, content_type=OPENMETRICS if openly else PLAIN)
