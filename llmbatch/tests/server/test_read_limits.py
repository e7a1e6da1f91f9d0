"""Reads of one client delay neither those of others nor waiting requests."""

import asyncio
from typing import Any

import pytest
from channels.db import database_sync_to_async

from llmbatch.server import read_limits
from llmbatch.server.read_limits import ReadLimitApplication
from settings_app.access.read_slots import ReadSlots
from settings_app.access.tests.rows import create_api_key
from settings_app.snapshot import refresh_snapshot

pytestmark = pytest.mark.django_db(transaction=True)
LIMIT_S = 30


class Views:
    """An application whose views end when the test lets them."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.end = asyncio.Event()
        self.application = ReadLimitApplication(self._serve)

    async def _serve(self, scope: Any, receive: Any, send: Any) -> None:
        self.begun.append(scope["query_string"].decode())
        await self.end.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def get(self, query: str, path: str = "/v1/chat", **headers: str) -> tuple[int, Any]:
        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)

        listed = [(b"host", b"localhost")]
        listed += [(name.encode(), value.encode()) for name, value in headers.items()]
        scope = {"type": "http", "method": "GET", "path": path, "query_string": query.encode()}
        scope |= {"headers": listed, "client": ["192.0.2.1", 1], "http_version": "1.1"}
        await asyncio.wait_for(self.application(scope, None, send), LIMIT_S)
        return sent[0]["status"], dict(sent[0]["headers"])

    async def begin(self, count: int) -> None:
        async with asyncio.timeout(LIMIT_S):
            while len(self.begun) < count:  # noqa: ASYNC110 - real threads look up the keys
                await asyncio.sleep(0.01)


@pytest.fixture(autouse=True)
def slots(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read_limits, "READS", ReadSlots(total=3, per_client=2))


async def test_key_with_many_reads_leaves_room_for_another_key(settings: Any) -> None:
    settings.API_ACCESS = "key"
    await database_sync_to_async(refresh_snapshot)()  # the start of the runtime does it
    (_, first), (_, second) = [
        await database_sync_to_async(create_api_key)(name=name) for name in ("first", "second")
    ]
    views = Views()
    bearer = {"authorization": f"Bearer {first}"}
    flood = [asyncio.create_task(views.get(f"n={n}", **bearer)) for n in range(10)]
    await views.begin(2)
    other = asyncio.create_task(views.get("other", authorization=f"Bearer {second}"))
    await views.begin(3)
    assert views.begun[2] == "other", "the flood takes only its part"
    views.end.set()
    assert {status for status, _ in await asyncio.gather(*flood, other)} == {200}


async def test_client_that_waits_too_long_gets_503_with_retry_after(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.API_ACCESS = "open"
    monkeypatch.setattr(read_limits, "MAX_WAIT_S", 0)
    views = Views()
    flood = [asyncio.create_task(views.get("username=ann")) for _ in range(2)]
    await views.begin(2)
    for path in ("/v1/chat", "/chats"):
        status, headers = await views.get("username=ann", path)
        assert status == 503
        assert int(headers[b"Retry-After"]) > 0
    bob = asyncio.create_task(views.get("username=bob"))
    await views.begin(3)
    views.end.set()
    assert {status for status, _ in await asyncio.gather(*flood, bob)} == {200}


async def test_wrong_key_counts_as_its_address(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.API_ACCESS = "key"
    monkeypatch.setattr(read_limits, "MAX_WAIT_S", 0)
    await database_sync_to_async(refresh_snapshot)()  # the start of the runtime does it
    views = Views()
    wrong = [asyncio.create_task(views.get("", authorization=f"Bearer {n}")) for n in range(2)]
    await views.begin(2)
    assert (await views.get("", authorization="Bearer other"))[0] == 503
    views.end.set()
    assert {status for status, _ in await asyncio.gather(*wrong)} == {200}


async def test_response_that_is_being_sent_holds_no_slot(settings: Any) -> None:
    settings.API_ACCESS = "open"
    views = Views()
    views.end.set()
    never = asyncio.Event()

    async def stall(message: Any) -> None:
        await never.wait()

    scope = {"type": "http", "method": "GET", "path": "/chats", "query_string": b"", "headers": []}
    scope["client"] = ["192.0.2.1", 1]
    stalled = [asyncio.create_task(views.application(scope, None, stall)) for _ in range(5)]
    await views.begin(5)
    assert (await views.get(""))[0] == 200
    for task in stalled:
        task.cancel()
    await asyncio.gather(*stalled, return_exceptions=True)
