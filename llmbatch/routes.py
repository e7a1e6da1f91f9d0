"""The table of the API's endpoints: path, view and description.

The server's async views (`asgi.py`), the URL patterns (`urls.py`) and the OpenAPI document
(`openapi/urls.py`) are all made from it. The HTML pages are in the `urls.py` of their apps.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from django.urls import URLPattern, path, re_path
from rest_framework.views import APIView

from batching.api.openai.views import CompletionsView, ModelsView
from batching.api.views import (
    AnalyticsView,
    MetricsView,
    ModelKeyTestView,
    QueryStateView,
    QueryView,
)
from chats.views import ChatListView
from llmbatch.health import HealthView, ReadyView
from llmbatch.openapi.views import SchemaView
from settings_app.views import SettingsView


@dataclass(frozen=True)
class Route:
    """One endpoint.

    A `path` may end in a parameter in braces, which matches the whole rest of the path, even
    slashes and line breaks. `operations` maps HTTP methods to names in `openapi/operations/`, not
    to the descriptions themselves: importing them takes a while, and few processes need them.
    Templates use the `name`. A route with `any_host` ignores the Host header, because probes
    address the process by its IP.
    """

    path: str
    view: type[APIView]
    operations: Mapping[str, str]
    name: str = ""
    any_host: bool = False

    @property
    def is_async(self) -> bool:
        """Whether `asgi.py` serves it, without a thread per waiting client."""
        return bool(self.view.view_is_async)

    @property
    def fixed_part(self) -> str:
        return self.path.partition("{")[0]

    def to_url(self) -> URLPattern:
        view, start = self.view.as_view(), self.fixed_part.removeprefix("/")
        if parameter := self.path.removeprefix(self.fixed_part).strip("{}"):
            return re_path(rf"^{start}(?P<{parameter}>[\s\S]+)$", view, name=self.name)
        return path(start, view, name=self.name)


ROUTES = [
    Route("/v1/query", QueryView, {"post": "queries.SUBMIT"}),
    Route(
        "/v1/query/{request_id}",
        QueryStateView,
        {"get": "queries.STATE", "delete": "queries.CANCEL"},
    ),
    Route("/v1/chat", ChatListView, {"get": "chats.LIST"}),
    Route("/v1/chat/completions", CompletionsView, {"post": "openai.COMPLETE"}),
    Route("/v1/models", ModelsView, {"get": "openai.LIST"}),
    Route("/v1/models/{name}", ModelsView, {"get": "openai.SHOW"}),
    Route(
        "/v1/settings",
        SettingsView,
        {"get": "settings.READ", "put": "settings.PUT", "patch": "settings.PATCH"},
    ),
    Route("/v1/settings/test-key", ModelKeyTestView, {"post": "settings.TEST_KEY"}),
    Route("/v1/analytics", AnalyticsView, {"get": "analytics.READ"}, name="analytics"),
    Route("/v1/schema", SchemaView, {"get": "schema.READ"}, name="schema"),
    Route("/health", HealthView, {"get": "health.ALIVE"}, any_host=True),
    Route("/health/ready", ReadyView, {"get": "health.READY"}, any_host=True),
    Route("/metrics", MetricsView, {"get": "health.METRICS"}),
]
