"""Access to WebSockets, hostile frames, and the end of sockets."""

from contextlib import AsyncExitStack

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth import get_user_model
from django.db import InterfaceError, OperationalError
from django.test import Client

from batching.sockets import registry as room_module
from batching.tests.harness import LIMIT_S, wait_until
from batching.tests.sockets import connected
from chats.models import Chat
from settings_app.access.tests.rows import create_api_key_async
from settings_app.models import ApiKey
from settings_app.services import announce_change
from settings_app.snapshot import refresh_if_stale


@sync_to_async
def log_in(name: str, *, is_staff: bool) -> str:
    client = Client()
    client.force_login(get_user_model().objects.create_user(name, is_staff=is_staff))
    return f"sessionid={client.cookies['sessionid'].value}"


def revoke(row: ApiKey) -> None:
    ApiKey.objects.filter(pk=row.pk).update(revoked=True)
    announce_change()
    refresh_if_stale()


@pytest.fixture
def closed_gateway(harness, settings):
    settings.API_ACCESS = "key"
    return harness


@pytest.fixture
async def guard_at_once(monkeypatch, harness):
    monkeypatch.setattr(room_module, "CHECK_INTERVAL_S", 0.01)
    harness.runtime.supervisor.start("guard", harness.runtime.sockets.guard)


async def outcome(**connection) -> str:
    """Returns the code of the first frame or of the refused handshake."""
    async with connected(**connection) as client:
        if not client.accepted:
            return "403"
        await client.send("[")  # an admitted client gets the error for invalid JSON
        frame = await client.receive()
        while frame["type"] != "error":
            frame = await client.receive()
        if frame["code"] == "invalid":
            return "open"
        closed = await client.receive()
        assert closed["reason"] == frame["detail"]
        return f"{closed['closed']} {frame['code']}"


@pytest.mark.usefixtures("closed_gateway")
async def test_only_staff_may_watch():
    _, key = await create_api_key_async(name="program")
    _, staff_key = await create_api_key_async(name="operator", is_staff=True)
    user, staff = await log_in("bob", is_staff=False), await log_in("ann", is_staff=True)
    wrong = f"{key[:-1]}!"
    cases = [
        ({}, (), "4401 not_authenticated"),
        ({"authorization": f"Bearer {wrong}"}, (), "4401 not_authenticated"),
        ({"authorization": f"Bearer {key}"}, (), "4403 permission_denied"),
        ({"authorization": f"Bearer {staff_key}"}, (), "open"),
        ({}, ("bearer", staff_key), "open"),
        ({}, ("bearer", wrong), "4401 not_authenticated"),
        ({}, ("bearer",), "4401 not_authenticated"),
        ({}, (staff_key,), "4401 not_authenticated"),
        ({"authorization": "Bearer"}, ("bearer", staff_key), "4401 not_authenticated"),
        ({"cookie": user}, (), "4403 permission_denied"),
        ({"cookie": staff}, (), "open"),
        ({"cookie": "sessionid=x"}, (), "4401 not_authenticated"),
        # the key takes precedence over the browser's session
        ({"cookie": staff, "authorization": f"Bearer {key}"}, (), "4403 permission_denied"),
    ]
    for headers, offer, expected in cases:
        assert (headers, offer, await outcome(headers=headers, offer=offer)) == (
            headers,
            offer,
            expected,
        )


async def test_key_that_cannot_be_looked_up_closes_the_socket_with_4503(
    closed_gateway, monkeypatch, caplog
):
    _, key = await create_api_key_async(name="program")

    def fail(*args):
        raise OperationalError("connection refused")

    monkeypatch.setattr("settings_app.access.api_keys._find_principal", fail)
    monkeypatch.setattr("settings_app.access.auth._authenticate", fail)
    caplog.set_level("WARNING")
    for visitor in ({"offer": ("bearer", key)}, {"headers": {"cookie": "sessionid=x"}}):
        caplog.clear()
        assert await outcome(path="/ws/query", **visitor) == "4503 upstream_unavailable"
        (record,) = caplog.records
        assert (record.levelname, record.exc_info) == ("WARNING", None)


@pytest.mark.parametrize("access", ["open", "key"])
async def test_only_own_and_listed_origins_may_connect(harness, settings, access):
    settings.API_ACCESS = access
    settings.CORS_ALLOWED_ORIGINS = ["https://app.example"]
    cookie = await log_in("ann", is_staff=True)
    cases = [
        ({}, "open"),
        ({"origin": "http://localhost"}, "open"),
        ({"origin": "https://localhost"}, "open"),
        ({"origin": "https://app.example"}, "open"),
        ({"origin": "http://app.example"}, "403"),
        ({"origin": "http://localhost:81"}, "403"),
        ({"origin": "https://localhost.evil.example"}, "403"),
        ({"origin": "null"}, "403"),
        ({"origin": ""}, "403"),
        ({"host": "evil.example"}, "403"),
        ({"host": "evil.example", "origin": "http://evil.example"}, "403"),
    ]
    for headers, expected in cases:
        found = await outcome(headers={"cookie": cookie} | headers)
        assert (headers, found) == (headers, expected)


async def test_debug_allows_any_origin_for_requests_but_not_for_sockets(harness, settings):
    settings.CORS_ALLOW_ALL_ORIGINS = True
    assert await outcome(headers={"origin": "https://evil.example"}) == "403"


async def test_open_access_admits_every_client_without_a_wrong_key(harness):
    assert await outcome() == "open"
    wrong = {"authorization": "Bearer nonsense"}
    assert await outcome(headers=wrong) == "4401 not_authenticated"


async def test_offered_subprotocol_is_accepted_as_browsers_require(closed_gateway):
    _, key = await create_api_key_async(name="operator", is_staff=True)
    for offer, chosen in [(("bearer", key), "bearer"), (("chat",), None), ((), None)]:
        async with connected(offer=offer) as client:
            assert (client.accepted, client.subprotocol) == (True, chosen)


async def test_unknown_path_is_refused_with_4404(harness):
    for path in ("/ws/nothing", "/ws/live/", "/v1/query", "/"):
        assert await outcome(path=path) == "4404 not_found"


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        ("", "invalid"),
        ("{", "invalid"),
        ("[]", "invalid"),
        ("null", "invalid"),
        ('{"a": NaN}', "invalid"),
        ("[" * 100_000, "invalid"),
        ('{"a": ' + "9" * 5000 + "}", "invalid"),
        ('"' + "x" * 1_000_000 + '"', "too_large"),
        ('"' + "ü" * 500_000 + '"', "too_large"),
        (b"\x00\xff", "unsupported_media_type"),
        ('{"type": "ask"}', "invalid"),
    ],
)
async def test_hostile_frame_gets_an_error_frame_and_the_socket_stays(harness, frame, code):
    async with connected() as client:
        for _ in range(2):
            await client.send(frame)
            answer = await client.receive()
            while answer["type"] != "error":
                answer = await client.receive()
            assert set(answer) == {"type", "code", "detail"}
            assert answer["code"] == code


@pytest.mark.parametrize("bad", ["{", "{}", b"\x00"])
async def test_twenty_bad_frames_in_a_row_close_the_socket(harness, bad):
    async with connected() as client:
        frames = []
        for _ in range(25):
            await client.send(bad)
        while "closed" not in (frame := await client.receive()):
            frames += [frame] if frame["type"] == "error" else []
    assert len(frames) == 20
    assert frame["closed"] == 1008


@pytest.mark.usefixtures("guard_at_once")
async def test_revoked_key_closes_its_socket_and_no_other(closed_gateway):
    row, key = await create_api_key_async(name="operator", is_staff=True)
    _, other = await create_api_key_async(name="other", is_staff=True)
    room = closed_gateway.runtime.sockets
    async with connected(offer=("bearer", key)) as client, connected(offer=("bearer", other)):
        await wait_until(lambda: len(room) == 2)
        await sync_to_async(revoke)(row)
        while (frame := await client.receive())["type"] != "error":
            pass
        assert frame["code"] == "not_authenticated"
        assert (await client.receive())["closed"] == 4401
        await wait_until(lambda: len(room) == 1)
    await wait_until(lambda: len(room) == 0)


@pytest.mark.usefixtures("guard_at_once")
async def test_clients_that_read_nothing_do_not_delay_the_refusal_of_a_revoked_key(closed_gateway):
    row, key = await create_api_key_async(name="program")
    bearer = {"path": "/ws/query", "offer": ("bearer", key)}
    room = closed_gateway.runtime.sockets
    async with AsyncExitStack() as stack:
        deaf = [await stack.enter_async_context(connected(reads=False, **bearer)) for _ in range(5)]
        polite = [await stack.enter_async_context(connected(**bearer)) for _ in range(5)]
        await wait_until(lambda: len(room) == 10)
        await sync_to_async(revoke)(row)
        for client in polite:
            assert (await client.receive())["code"] == "not_authenticated"
            assert (await client.receive())["closed"] == 4401
        for client in deaf:
            await client.send('{"type": "query", "username": "ann", "prompt": "Why?"}')
        await wait_until(lambda: len(room) == 5)
    assert await Chat.objects.acount() == 0


@pytest.mark.parametrize("away", [OperationalError, InterfaceError])
async def test_unreachable_database_closes_no_socket(
    closed_gateway, guard_at_once, monkeypatch, away
):
    asked = []

    def fail(request):
        asked.append(request)
        raise away("the connection is closed")

    monkeypatch.setattr("batching.sockets.access.SESSION_CHECK_S", 0.0)
    async with connected(headers={"cookie": await log_in("ann", is_staff=True)}) as client:
        await client.receive()
        monkeypatch.setattr("settings_app.access.auth._authenticate", fail)
        await wait_until(lambda: len(asked) > 2)
        assert len(closed_gateway.runtime.sockets) == 1
    assert not closed_gateway.runtime.supervisor.failures


async def test_session_that_ended_closes_its_socket(closed_gateway, guard_at_once, monkeypatch):
    monkeypatch.setattr("batching.sockets.access.SESSION_CHECK_S", 0.0)
    async with connected(headers={"cookie": await log_in("ann", is_staff=True)}) as client:
        await sync_to_async(get_user_model().objects.update)(is_staff=False)
        while "closed" not in (frame := await client.receive()):
            pass
        assert frame["closed"] == 4403


async def test_drain_closes_idle_sockets_at_once_and_admits_none(harness):
    async with connected() as client:
        await client.send("{")
        await client.receive()
        await harness.runtime.drain(seconds=LIMIT_S)
        while "closed" not in (frame := await client.receive()):
            pass
        assert frame == {"closed": 1001, "reason": "The gateway is shutting down."}
    async with connected() as late:
        assert (await late.receive())["closed"] == 1001
