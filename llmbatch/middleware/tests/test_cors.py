"""Pages of other origins may call the simulated model, but not spend money with a real key."""

from typing import Any

import pytest
from django.test import Client

from batching.tests.harness import Harness, change
from settings_app.snapshot import forget_snapshot, refresh_snapshot

FOREIGN = ["https://evil.example", "http://localhost.evil.example", "null", "http://127.0.0.2"]
LOCAL = ["http://localhost", "http://localhost:5173", "https://127.0.0.1:8443", "http://[::1]:3000"]
PATHS = ["/v1/query", "/v1/chat/completions", "/v1/chat", "/v1/settings", "/health"]


@pytest.fixture(autouse=True)
def _development(settings: Any) -> None:
    settings.DEBUG = True
    settings.API_ACCESS = "open"
    settings.CORS_BY_MODEL = True
    settings.CORS_ALLOWED_ORIGINS = []
    settings.CORS_PREFLIGHT_MAX_AGE = 0
    settings.GEMINI_API_KEY = settings.GEMINI_BASE_URL = ""


async def list_allowed(harness: Harness, origins: list[str]) -> set[str]:
    """The origins whose pages may read every path and may send JSON there."""
    allowed = set(origins)
    for path in PATHS:
        for origin in origins:
            preflight = {"Origin": origin, "Access-Control-Request-Method": "POST"}
            asked = await harness.client.options(path, headers=preflight)
            reply = await harness.client.get(path, headers={"Origin": origin})
            named = {r.headers.get("access-control-allow-origin") for r in (asked, reply)}
            assert len(named) == 1, path
            if named != {origin}:
                assert named == {None}
                allowed.discard(origin)
    return allowed


@pytest.fixture
def simulated(harness: Harness, settings: Any) -> Harness:
    settings.GEMINI_API_KEY = settings.GEMINI_BASE_URL = ""
    return harness


async def test_every_origin_is_allowed_only_while_answers_are_simulated(
    simulated: Harness, settings: Any
) -> None:
    await change(simulated, model="")  # reads the settings again, now without a key
    assert await list_allowed(simulated, FOREIGN + LOCAL) == set(FOREIGN + LOCAL)
    await change(simulated, api_key="a-real-key-0123456789")
    assert await list_allowed(simulated, FOREIGN + LOCAL) == set(LOCAL)
    await change(simulated, api_key="")
    assert await list_allowed(simulated, FOREIGN) == set(FOREIGN)
    settings.GEMINI_API_KEY = "a-real-key-0123456789"
    await change(simulated, model="gemini-x")
    assert await list_allowed(simulated, FOREIGN + LOCAL) == set(LOCAL)


async def test_listed_origins_replace_the_rule(harness: Harness, settings: Any) -> None:
    settings.CORS_BY_MODEL = False
    settings.CORS_ALLOWED_ORIGINS = ["https://app.example"]
    assert await list_allowed(harness, ["https://app.example", *LOCAL]) == {"https://app.example"}


async def test_preflight_has_no_content_type_and_is_not_remembered(simulated: Harness) -> None:
    await change(simulated, model="")
    headers = {"Origin": "https://a.example", "Access-Control-Request-Method": "POST"}
    for path in PATHS:
        reply = await simulated.client.options(path, headers=headers)
        assert (reply.status_code, reply.content) == (200, b"")
        assert "content-type" not in reply.headers
        assert "access-control-max-age" not in reply.headers


@pytest.mark.django_db
def test_unknown_settings_allow_no_foreign_origin(client: Client) -> None:
    forget_snapshot()
    headers = {"Origin": "https://a.example"}
    assert "Access-Control-Allow-Origin" not in client.get("/v1/nothing", headers=headers)
    refresh_snapshot()
    reply = client.get("/v1/nothing", headers=headers)
    assert reply["Access-Control-Allow-Origin"] == "https://a.example"


async def test_body_without_a_json_type_needs_no_preflight_and_is_refused(
    simulated: Harness,
) -> None:
    await change(simulated, model="")
    body = b'{"username": "ann", "prompt": "Why?", "messages": [{"role": "user", "content": "a"}]}'
    for path in ("/v1/query", "/v1/chat/completions"):
        for kind in ({}, {"Content-Type": "text/plain"}, {"Content-Type": "multipart/form-data"}):
            reply = await simulated.client.post(path, content=body, headers=kind)
            assert reply.status_code == 415, (path, kind)
    assert simulated.server.calls == []
