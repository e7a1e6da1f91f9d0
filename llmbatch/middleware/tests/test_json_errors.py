"""Django's own errors on API paths have the form of the API's errors."""

import json
from typing import Any

import pytest
from django.http import HttpRequest, HttpResponse
from django.test import AsyncClient, Client
from django.urls import path
from rest_framework.request import Request
from rest_framework.views import APIView

from llmbatch.middleware.json_errors import is_api_path
from llmbatch.urls import urlpatterns as product_urls


def read_code(response: HttpResponse) -> str:
    """Checks the form of the error and returns its code."""
    assert response["Content-Type"] == "application/json"
    document = json.loads(response.content)
    assert set(document) - {"errors"} == {"detail", "code"}
    assert document["detail"].strip()
    return document["code"]


@pytest.mark.parametrize("api_path", ["/v1", "/v1/", "/v1/query", "/health", "/health/ready"])
def test_path_belongs_to_the_api(api_path: str) -> None:
    assert is_api_path(api_path)


@pytest.mark.parametrize("page", ["/", "/admin/", "/v10", "/healthy", "/static/v1/x"])
def test_page_does_not_belong_to_the_api(page: str) -> None:
    assert not is_api_path(page)


def fail(request: HttpRequest) -> HttpResponse:
    raise KeyError("a-secret")


class EchoView(APIView):
    permission_classes = ()

    def post(self, request: Request) -> HttpResponse:
        return HttpResponse(str(request.data))


urlpatterns = [path("v1/fails", fail), path("v1/echo", EchoView.as_view()), *product_urls]


@pytest.mark.parametrize("debug", [False, True])
class TestOverHttp:
    @pytest.fixture(autouse=True)
    def _settings(self, settings: Any, debug: bool) -> None:
        settings.ROOT_URLCONF = __name__
        settings.API_ACCESS = "open"
        settings.DEBUG = debug

    def test_exception_of_a_django_view(self) -> None:
        response = Client(raise_request_exception=False).get("/v1/fails")
        assert read_code(response) == "internal_error"
        assert "a-secret" not in response.content.decode()
        assert response.status_code == 500

    @pytest.mark.parametrize("missing", ["/v1", "/v1/", "/v1/nothing", "/health/x", "/v1/%00"])
    @pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "BREW"])
    def test_unknown_path(self, client: Client, missing: str, method: str) -> None:
        response = client.generic(method, missing)
        assert read_code(response) == "not_found"
        assert response.status_code == 404

    def test_unknown_host(self, client: Client) -> None:
        response = client.get("/v1/nothing", headers={"host": "evil.example"})
        assert read_code(response) == "invalid"
        assert response.status_code == 400

    def test_unknown_page_stays_html(self, client: Client) -> None:
        assert client.get("/nothing")["Content-Type"].startswith("text/html")

    @pytest.mark.parametrize("body", [b"[" * 999_999, b"[" * 100_000 + b"]" * 100_000])
    def test_deeply_nested_brackets_are_400(self, client: Client, body: bytes) -> None:
        response = client.post("/v1/echo", body, "application/json")
        assert read_code(response) == "invalid"
        assert response.status_code == 400

    async def test_unknown_path_below_the_async_handler(self, async_client: AsyncClient) -> None:
        response = await async_client.get("/v1/nothing")
        assert read_code(response) == "not_found"
