"""A key grants access to its own client's requests only, and its rate limit is exact."""

import asyncio
from typing import Any

import httpx2
import pytest
from django.contrib.auth import get_user_model
from django.db import OperationalError
from django.test import AsyncClient

from batching.engine.lanes import Priority
from batching.llm.simulated.answers import answer_prompt
from batching.tests.harness import LIMIT_S, Harness
from batching.worker.consumer import SWEEP_INTERVAL_S
from chats.models import Chat
from settings_app.access.tests.rows import create_api_key
from settings_app.models import ApiKey
from settings_app.snapshot import refresh_if_stale


@pytest.fixture(autouse=True)
def _closed(harness: Harness, settings: Any) -> None:
    settings.API_ACCESS = "key"


async def make_key(**fields: Any) -> dict[str, str]:
    """The Authorization header of a new key."""
    _, key = await asyncio.to_thread(lambda: create_api_key(**{"name": "k"} | fields))
    await asyncio.to_thread(refresh_if_stale)
    return {"Authorization": f"Bearer {key}"}


async def ask(harness: Harness, headers: dict[str, str], **fields: Any) -> httpx2.Response:
    body = {"username": "ann", "prompt": "Why?", "priority": "HIGH"} | fields
    return await harness.client.post("/v1/query", json=body, headers=headers)


async def test_key_grants_access_and_its_client_is_stored(harness: Harness) -> None:
    key = await make_key()
    reply = await ask(harness, key)
    assert (reply.status_code, reply.json()["text"]) == (200, answer_prompt("Why?"))
    assert (await Chat.objects.aget()).client_id == (await ApiKey.objects.aget()).client_id
    unusual = await ask(harness, key, timeout_s=20)  # the full parser
    assert unusual.status_code == 200


@pytest.mark.parametrize(
    "header",
    [
        "Bearer nothing",
        "Bearer ",
        "Bearer abcdefgh.0123",
        "bearer \ud83d".encode("utf-8", "replace").decode(),
    ],
)
async def test_wrong_key_is_401_everywhere(harness: Harness, header: str, settings: Any) -> None:
    for access in ("key", "open"):
        settings.API_ACCESS = access
        for method, path in (
            ("POST", "/v1/query"),
            ("GET", "/v1/query/some"),
            ("DELETE", "/v1/query/some"),
            ("GET", "/v1/chat"),
            ("GET", "/v1/settings"),
            ("PATCH", "/v1/settings"),
            ("POST", "/v1/settings/test-key"),
            ("GET", "/v1/analytics"),
        ):
            reply = await harness.client.request(
                method,
                path,
                headers={"Authorization": header},
                json={"username": "a", "prompt": "b"} if method in ("POST", "PATCH") else None,
            )
            assert (reply.status_code, reply.json()["code"]) == (401, "not_authenticated"), path
            assert reply.headers["WWW-Authenticate"] == "Bearer"
    assert await Chat.objects.acount() == 0


async def test_second_client_sees_and_cancels_nothing_of_the_first(harness: Harness) -> None:
    await harness.change_lane(Priority.LOW, window_s=20)
    first, second = await make_key(name="first"), await make_key(name="second")
    await ask(harness, first, request_id="done", prompt="a secret")
    headers = first | {"Prefer": "respond-async"}
    waiting = await ask(harness, headers, request_id="waiting", priority="LOW")
    assert waiting.status_code == 202
    get, delete = harness.client.get, harness.client.delete
    for name in ("done", "waiting"):
        assert (await get(f"/v1/query/{name}", headers=second)).status_code == 404
        assert (await get(f"/v1/query/{name}?username=ann", headers=second)).status_code == 404
        assert (await delete(f"/v1/query/{name}", headers=second)).status_code == 404
    for path in (
        "/v1/chat",
        "/v1/chat?username=ann",
        "/v1/chat?search=secret",
        "/v1/chat?batch_id=1",
    ):
        page = (await get(path, headers=second)).json()
        assert (page["chats"], page["count"]) == ([], 0)
    page = (await get("/v1/chat", headers=first)).json()
    assert [chat["request"]["request_id"] for chat in page["chats"]] == ["done"]
    assert (await get("/v1/query/waiting", headers=first)).json()["status"] == "queued"
    assert (await delete("/v1/query/waiting", headers=first)).json()["status"] == "cancelled"


async def test_same_id_of_another_client_is_another_request(harness: Harness) -> None:
    first, second = await make_key(name="first"), await make_key(name="second")
    one = await ask(harness, first, request_id="same", prompt="one")
    two = await ask(harness, second, request_id="same", prompt="two")
    assert (one.json()["text"], two.json()["text"]) == (answer_prompt("one"), answer_prompt("two"))
    assert (await harness.client.get("/v1/query/same", headers=second)).json()["response"][
        "text"
    ] == answer_prompt("two")


async def test_settings_and_analytics_require_a_staff_key(harness: Harness) -> None:
    plain, staff = await make_key(), await make_key(name="staff", is_staff=True)
    client = harness.client
    for path in ("/v1/settings", "/v1/analytics"):
        assert (await client.get(path, headers=plain)).status_code == 403
        assert (await client.get(path, headers=staff)).status_code == 200
    for call in (client.patch, client.put):
        assert (await call("/v1/settings", json={}, headers=plain)).status_code == 403
    assert (await client.post("/v1/settings/test-key", headers=plain)).status_code == 403
    assert (await client.post("/v1/settings/test-key", headers=staff)).status_code == 200
    changed = await client.patch(
        "/v1/settings", json={"high_priority": {"max_batch": 5}}, headers=staff
    )
    assert changed.json()["high_priority"]["max_batch"] == 5
    assert (await client.get("/dashboard", headers=staff)).status_code == 302, "pages want a login"


@pytest.mark.parametrize("origin", ["https://unlisted.example", "null", "http://[", "x"])
@pytest.mark.parametrize("visitor", ["anybody", "session", "staff key"])
async def test_page_of_an_unlisted_origin_may_not_test_the_model_key(
    harness: Harness, settings: Any, visitor: str, origin: str
) -> None:
    settings.API_ACCESS = "open" if visitor == "anybody" else "key"
    headers = await make_key(is_staff=True) if visitor == "staff key" else {}
    if visitor == "session":
        user = await get_user_model().objects.acreate(username="ann", is_staff=True)
        browser = AsyncClient()
        await browser.aforce_login(user)
        headers = {"Cookie": f"sessionid={browser.cookies['sessionid'].value}"}
    reply = await harness.client.post(
        "/v1/settings/test-key", headers={**headers, "Origin": origin}
    )
    assert (reply.status_code, reply.json()["code"]) == (403, "permission_denied")
    assert visitor == "session" or "CORS_ALLOWED_ORIGINS" in reply.json()["detail"]


async def test_answer_without_content_has_no_content_type(harness: Harness, settings: Any) -> None:
    settings.API_ACCESS = "open"
    for path in ("/v1/query", "/v1/chat/completions", "/v1/settings/test-key", "/health"):
        reply = await harness.client.options(path)
        assert (reply.status_code, reply.content) == (204, b""), path
        assert "content-type" not in reply.headers
        assert "OPTIONS" in reply.headers["allow"]


async def test_revoked_key_is_refused_within_a_second(harness: Harness) -> None:
    key = await make_key()
    assert (await ask(harness, key)).status_code == 200

    def revoke_elsewhere() -> None:
        from settings_app import services

        ApiKey.objects.update(revoked=True)
        services.GatewaySettings.objects.update(version=10_000)  # as another process would

    await asyncio.to_thread(revoke_elsewhere)
    assert SWEEP_INTERVAL_S < 1
    async with asyncio.timeout(LIMIT_S):
        while (await harness.client.get("/v1/chat", headers=key)).status_code != 401:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    assert (await ask(harness, key)).status_code == 401


async def test_fifty_concurrent_requests_do_not_exceed_the_limit(harness: Harness) -> None:
    key, other = await make_key(requests_per_minute=10), await make_key(name="other")
    replies = await asyncio.gather(*(ask(harness, key, prompt=f"q{i}") for i in range(50)))
    answered = [reply for reply in replies if reply.status_code == 200]
    refused = [reply for reply in replies if reply.status_code == 429]
    assert (len(answered), len(refused)) == (10, 40)
    assert sum(harness.server.sizes) == 10
    for reply in refused:
        assert reply.json()["code"] == "rate_limited"
        assert "10 requests per minute" in reply.json()["detail"]
        assert 50 <= int(reply.headers["Retry-After"]) <= 60
    assert (await ask(harness, other)).status_code == 200
    assert await Chat.objects.acount() == 11, "a refused request leaves no trace"


async def test_key_under_open_access_only_limits_the_chats_that_are_shown(
    harness: Harness, settings: Any
) -> None:
    settings.API_ACCESS = "open"
    key = await make_key()
    assert (await ask(harness, {}, request_id="nobody's")).status_code == 200
    assert (await ask(harness, key, request_id="mine")).status_code == 200
    listed = (await harness.client.get("/v1/chat", headers=key)).json()["chats"]
    assert [chat["request"]["request_id"] for chat in listed] == ["mine"]
    assert (await harness.client.get("/v1/chat")).json()["count"] == 2


async def test_unreachable_database_does_not_lock_known_keys_out(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = await make_key()
    assert (await ask(harness, key, request_id="a")).status_code == 200

    def fail(*args: object) -> None:
        raise AssertionError("a known key needs no query")

    monkeypatch.setattr("settings_app.access.api_keys._find_principal", fail)
    assert (await ask(harness, key, request_id="b")).status_code == 200


async def test_key_that_cannot_be_looked_up_is_503_everywhere(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = await make_key()

    def fail(*args: object) -> None:
        raise OperationalError("connection refused")

    monkeypatch.setattr("settings_app.access.api_keys._find_principal", fail)
    for method, path in (
        ("POST", "/v1/query"),
        ("GET", "/v1/query/some"),
        ("GET", "/v1/chat"),
        ("GET", "/v1/settings"),
        ("GET", "/v1/models"),
        ("POST", "/v1/chat/completions"),
    ):
        body = {"username": "ann", "prompt": "Why?"} if method == "POST" else None
        reply = await harness.client.request(method, path, headers=key, json=body)
        assert reply.status_code == 503, path
        assert reply.headers["Retry-After"] == "5"
        error = reply.json().get("error", reply.json())  # or in OpenAI's form
        assert error["code"] == "upstream_unavailable"
