"""Every path but those that wait, which `asgi.py` answers in front of these."""

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.urls import include, path, re_path
from django.views.decorators.csrf import csrf_exempt

from llmbatch.errors import json_error
from llmbatch.openapi.views import SchemaView, docs
from settings_app.access.login_throttle import log_in


@csrf_exempt
def unknown_api_path(request: HttpRequest, rest: str = "") -> HttpResponse:
    return json_error(404)


urlpatterns = [
    path("", include("settings_app.urls")),
    path("", include("chats.urls")),
    path("", include("batching.urls")),
    path("v1/schema", SchemaView.as_view(), name="schema"),
    path("v1/docs", docs, name="docs"),
    path("admin/login/", log_in),
    path("admin/", admin.site.urls),
    re_path(r"^(?:v1|health)(?:/(?P<rest>.*))?$", unknown_api_path),
]
