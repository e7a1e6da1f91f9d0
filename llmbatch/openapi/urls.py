"""URL patterns with descriptions. The generator of the document reads them; nothing serves them."""

from django.urls import URLPattern, path
from django.utils.module_loading import import_string

from llmbatch.openapi import operations
from llmbatch.openapi.describe import describe
from llmbatch.routes import ROUTES, Route


def describe_route(route: Route) -> URLPattern:
    described = {
        method: import_string(f"{operations.__name__}.{name}")
        for method, name in route.operations.items()
    }
    pattern = route.path.removeprefix("/").replace("{", "<path:").replace("}", ">")
    return path(pattern, describe(route.view, **described).as_view())


urlpatterns = [describe_route(route) for route in ROUTES]
