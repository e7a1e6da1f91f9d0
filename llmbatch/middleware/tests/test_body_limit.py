"""The limit of a body's size, with and without a Content-Length."""

from typing import Any, ClassVar

import pytest
from asgiref.sync import sync_to_async
from asgiref.testing import ApplicationCommunicator
from django.core.handlers.asgi import ASGIHandler
from django.http import HttpRequest, HttpResponse
from django.test import AsyncClient, Client
from rest_framework.views import APIView

from llmbatch.server.async_views import AsyncViewApplication
from settings_app.snapshot import refresh_snapshot

JSON = "application/json"


@pytest.fixture(autouse=True)
def _open_access(settings: Any) -> None:
    settings.API_ACCESS = "open"


@pytest.mark.parametrize("path", ["/v1/settings", "/v1/chat", "/v1/analytics", "/v1/nothing"])
@pytest.mark.parametrize("method", ["GET", "POST", "PATCH", "DELETE"])
def test_larger_body_is_413_at_every_path(client: Client, path: str, method: str) -> None:
    response = client.generic(method, path, b" " * 1_000_001, JSON)
    assert response.json()["code"] == "too_large"
    assert response.status_code == 413


async def test_larger_body_is_413_on_the_async_handler_too(async_client: AsyncClient) -> None:
    response = await async_client.generic("PATCH", "/v1/settings", b" " * 1_000_001, JSON)
    assert response.json()["code"] == "too_large"


@pytest.mark.django_db
def test_pages_accept_larger_bodies(client: Client) -> None:
    response = client.post("/admin/login/", b" " * 1_000_001, "application/x-www-form-urlencoded")
    assert response.status_code == 200


async def patch_in_chunks(
    chunks: list[bytes], path: str = "/v1/settings", application: Any = None
) -> int:
    """The status of a PATCH without a Content-Length."""
    scope = {
        "type": "http",
        "method": "PATCH",
        "path": path,
        "headers": [(b"host", b"testserver"), (b"content-type", b"application/json")],
        "query_string": b"",
    }
    communicator = ApplicationCommunicator(application or ASGIHandler(), scope)
    for chunk in chunks:
        await communicator.send_input({"type": "http.request", "body": chunk, "more_body": True})
    await communicator.send_input({"type": "http.request", "body": b"", "more_body": False})
    start = await communicator.receive_output(timeout=60)
    await communicator.receive_output(timeout=60)
    await communicator.wait(timeout=60)
    return start["status"]


@pytest.mark.django_db(transaction=True)
async def test_chunked_body_is_read() -> None:
    status = await patch_in_chunks([b'{"model": ', b'"in-chunks"}'])
    assert (await read_model()) == "in-chunks"
    assert status == 200


@pytest.mark.django_db(transaction=True)
async def test_chunked_body_over_the_limit_is_413() -> None:
    before = await read_model()
    status = await patch_in_chunks([b'{"model": "x"}', *[b" " * 100_000] * 11])
    assert (await read_model()) == before
    assert status == 413


async def test_chunked_body_over_the_limit_is_413_at_an_unknown_path() -> None:
    assert await patch_in_chunks([b" " * 100_000] * 11, path="/v1/nothing") == 413


class KeepingView(APIView):
    """Records the bodies that it receives."""

    bodies: ClassVar[list[Any]] = []

    async def dispatch(self, request: HttpRequest) -> HttpResponse:
        self.bodies.append(self.initialize_request(request).data)
        return HttpResponse(status=204)


async def test_chunked_body_is_read_by_async_views_too() -> None:
    KeepingView.bodies.clear()
    application = AsyncViewApplication({"/v1/kept": KeepingView.as_view()})
    status = await patch_in_chunks([b'{"a": ', b"[1]}"], path="/v1/kept", application=application)
    assert KeepingView.bodies == [{"a": [1]}]
    assert status == 204


async def read_model() -> str:
    return (await sync_to_async(refresh_snapshot)()).model
