"""Every endpoint with its description. Nothing is served from here, only described.

The served ones are in two places, `llmbatch.asgi` and `llmbatch.urls`; a test holds these paths
against both.
"""

from django.urls import path

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
from llmbatch.openapi.describe import describe
from llmbatch.openapi.operations import analytics, chats, health, openai, queries, schema, settings
from llmbatch.openapi.views import SchemaView
from settings_app.views import SettingsView


def endpoint(route: str, view: type, **operations: object) -> object:
    return path(route, describe(view, **operations).as_view())


urlpatterns = [
    endpoint("v1/query", QueryView, post=queries.SUBMIT),
    endpoint(
        "v1/query/<path:request_id>", QueryStateView, get=queries.STATE, delete=queries.CANCEL
    ),
    endpoint("v1/chat", ChatListView, get=chats.LIST),
    endpoint("v1/chat/completions", CompletionsView, post=openai.COMPLETE),
    endpoint("v1/models", ModelsView, get=openai.LIST),
    endpoint("v1/models/<path:name>", ModelsView, get=openai.SHOW),
    endpoint(
        "v1/settings", SettingsView, get=settings.READ, put=settings.PUT, patch=settings.PATCH
    ),
    endpoint("v1/settings/test-key", ModelKeyTestView, post=settings.TEST_KEY),
    endpoint("v1/analytics", AnalyticsView, get=analytics.READ),
    endpoint("v1/schema", SchemaView, get=schema.READ),
    endpoint("health", HealthView, get=health.ALIVE),
    endpoint("health/ready", ReadyView, get=health.READY),
    endpoint("metrics", MetricsView, get=health.METRICS),
]
