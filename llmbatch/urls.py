"""The URL patterns of everything but the async endpoints, which `asgi.py` serves."""

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.urls import include, path, re_path
from django.views.decorators.csrf import csrf_exempt

from llmbatch.errors import json_error, page_error
from llmbatch.openapi.views import docs
from llmbatch.routes import ROUTES
from settings_app.access.login_throttle import log_in


@csrf_exempt
def unknown_api_path(request: HttpRequest, rest: str = "") -> HttpResponse:
    return json_error(404)


handler500 = page_error
urlpatterns = [
    *(route.to_url() for route in ROUTES if not route.is_async),
    path("", include("chats.urls")),
    path("", include("batching.urls")),
    path("v1/docs", docs, name="docs"),
    path("admin/login/", log_in),
    path("admin/", admin.site.urls),
    re_path(r"^(?:v1|health)(?:/(?P<rest>.*))?$", unknown_api_path),
]
