"""The ASGI application: waiting requests on the lean path, everything else on Django's."""

import os
from collections.abc import Mapping
from typing import Any

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "llmbatch.settings")
django_application = get_asgi_application()

from batching.api.openai.views import CompletionsView, ModelsView  # noqa: E402 - needs models
from batching.api.views import MetricsView, ModelKeyTestView, QueryView  # noqa: E402
from batching.api.websocket.routes import serve_socket  # noqa: E402
from batching.process.runtime import get_runtime  # noqa: E402
from llmbatch.health import HealthView, ReadyView  # noqa: E402
from llmbatch.middleware.request_id import RequestIdMiddleware  # noqa: E402
from llmbatch.server.async_views import LeanApplication  # noqa: E402

LEAN_VIEWS = {
    "/v1/query": QueryView.as_view(),
    "/v1/chat/completions": CompletionsView.as_view(),
    "/v1/models": ModelsView.as_view(),
    "/v1/models/": ModelsView.as_view(),
    "/v1/settings/test-key": ModelKeyTestView.as_view(),
    "/metrics": MetricsView.as_view(),
    "/health": HealthView.as_view(),
    "/health/ready": ReadyView.as_view(),
}
lean_application = LeanApplication(LEAN_VIEWS, any_host={"/health", "/health/ready"})


async def route(scope: Mapping[str, Any], receive: Any, send: Any) -> None:
    """Starts the batch consumer with the first request of any kind, if `serve` has not yet."""
    # Plain Daphne takes it from a header of anyone's, and Django would cut it off the path.
    scope = {**scope, "root_path": ""}
    if scope["type"] == "websocket":
        await serve_socket(scope, receive, send)
        return
    if scope["type"] != "http":
        raise ValueError(f"The gateway does not speak {scope['type']}.")
    if lean_application.find_view(scope["path"]):
        await lean_application(scope, receive, send)
        return
    await get_runtime()
    await django_application(scope, receive, send)


application = RequestIdMiddleware(route)
