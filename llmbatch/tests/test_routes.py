"""Every endpoint is served once: by the async application or by Django."""

import pytest
from django.urls import Resolver404, resolve

from llmbatch.asgi import async_application
from llmbatch.routes import ROUTES, Route
from llmbatch.urls import unknown_api_path


def example(route: Route) -> str:
    """Returns a path of the route whose parameter holds a slash and a line break."""
    return route.fixed_part + ("a/b\nc" if "{" in route.path else "")


def find_django_view(path: str) -> type | None:
    """Returns the view class; None if Django does not know the path."""
    try:
        found = resolve(path).func
    except Resolver404:
        return None
    return None if found is unknown_api_path else found.cls


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.path)
def test_either_asgi_or_django_serves_a_route(route: Route) -> None:
    path = example(route)
    async_view = async_application.find_view(path)
    assert (async_view is not None) is route.is_async
    assert getattr(async_view, "cls", None) is (route.view if route.is_async else None)
    assert find_django_view(path) is (None if route.is_async else route.view)


def test_only_probes_may_name_any_host() -> None:
    assert {route.path for route in ROUTES if route.any_host} == {"/health", "/health/ready"}
