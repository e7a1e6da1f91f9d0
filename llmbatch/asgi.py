"""The ASGI application: async views for requests that wait, and Django for everything else."""

import os
from collections.abc import Mapping
from typing import Any

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "llmbatch.settings")
django_application = get_asgi_application()

from batching.api.websocket.routes import serve_socket  # noqa: E402 - the models need Django
from batching.process.runtime import get_runtime  # noqa: E402
from llmbatch.middleware.request_id import RequestIdMiddleware  # noqa: E402
from llmbatch.routes import ROUTES  # noqa: E402
from llmbatch.server.async_views import AsyncViewApplication  # noqa: E402
from llmbatch.server.read_limits import ReadLimitApplication  # noqa: E402

read_application = ReadLimitApplication(django_application)
async_views = {r.fixed_part: r.view.as_view() for r in ROUTES if r.is_async}
async_application = AsyncViewApplication(
    async_views, any_host={route.path for route in ROUTES if route.any_host}
)


async def dispatch(scope: Mapping[str, Any], receive: Any, send: Any) -> None:
    """Starts the batch consumer with the first request, unless `serve` has started it."""
    # Plain Daphne lets any client set the root path by a header; Django would cut it off the path.
    scope = {**scope, "root_path": ""}
    if scope["type"] == "websocket":
        await serve_socket(scope, receive, send)
        return
    if scope["type"] != "http":
        raise ValueError(f"The gateway does not support the protocol {scope['type']}.")
    if async_application.find_view(scope["path"]):
        await async_application(scope, receive, send)
        return
    await get_runtime()
    await read_application(scope, receive, send)


application = RequestIdMiddleware(dispatch)
