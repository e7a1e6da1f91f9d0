"""Hostile bodies, headers and handshakes cost the gateway almost no time and memory."""

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import httpx2
import pytest

from llmbatch.tests.fixtures.raw_http import HANDSHAKE, connect, raw_post, talk
from llmbatch.tests.fixtures.server import PATIENCE_S, Server

pytestmark = pytest.mark.server

HEAD = b"POST %b HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
CHUNK = b"186a0\r\n" + b"x" * 100_000 + b"\r\n"
# Holds on a busy machine, too, unless something blocks the event loop.
QUICK_S = 3.0
HEALTH = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"


@dataclass
class Watch:
    """Measurements of one process: its slowest response and the growth of its memory."""

    slowest_s: float = 0.0
    grown_mb: float = 0.0


@asynccontextmanager
async def watching(server: Server) -> AsyncIterator[Watch]:
    watch = Watch()
    before_mb = server.memory_mb
    server.forget_peak()

    done = threading.Event()

    def measure() -> None:
        while not done.wait(0.01):
            began = time.monotonic()
            assert server.answers()
            watch.slowest_s = max(watch.slowest_s, time.monotonic() - began)

    measuring = asyncio.create_task(asyncio.to_thread(measure))
    try:
        await asyncio.sleep(0.1)
        yield watch
        await asyncio.sleep(0.1)
    finally:
        done.set()
        await measuring
    watch.grown_mb = server.peak_mb - before_mb


async def exchange(server: Server, data: bytes) -> bytes:
    """Sends bytes and returns everything until the server closes the connection."""
    async with asyncio.timeout(PATIENCE_S), connect(server) as (reader, writer):
        writer.write(data)
        return await reader.read()


def code_of(reply: bytes) -> str:
    return json.loads(reply.partition(b"\r\n\r\n")[2])["code"]


PART = b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\nb\r\n'
FORMS = {
    b"application/x-www-form-urlencoded": b"".join(b"%x=1&" % i for i in range(250_000)),
    b"multipart/form-data; boundary=x": PART * 36_000 + b"--x--\r\n",
}


@pytest.mark.parametrize("kind", FORMS)
async def test_large_form_is_refused_without_being_parsed(server: Server, kind: bytes) -> None:
    data = raw_post(FORMS[kind]).replace(b"application/json", kind, 1)
    async with watching(server) as watch:
        replies = await asyncio.gather(*(talk(server, data) for _ in range(4)))
    for status, _, text in replies:
        assert (status, json.loads(text)["code"]) == (413, "too_large")
    assert watch.slowest_s < QUICK_S
    assert watch.grown_mb < 40


async def test_multipart_content_type_with_a_json_body_is_415(server: Server) -> None:
    data = raw_post(b"{}").replace(b"application/json", b"multipart/form-data", 1)
    status, _, text = await talk(server, data)
    assert (status, json.loads(text)["code"]) == (415, "unsupported_media_type")


async def test_login_reads_a_form_that_is_too_large_for_the_api(server: Server) -> None:
    async with httpx2.AsyncClient(base_url=server.url, timeout=PATIENCE_S) as http:
        await http.get("/admin/login/")
        form = {"username": "nobody", "password": "wrong", "next": "/" + "x" * 1_500_000}
        form["csrfmiddlewaretoken"] = http.cookies["csrftoken"]
        answered = await http.post("/admin/login/", data=form)
    assert "Please enter the correct username and password" in answered.text
    assert answered.status_code == 200


async def test_body_between_the_bounds_is_413_and_the_connection_stays_open(
    server: Server,
) -> None:
    large = raw_post(b"x" * 1_500_000)
    reply = await exchange(
        server, large + HEALTH.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    )
    assert [part[:3] for part in reply.split(b"HTTP/1.1 ")[1:]] == [b"413", b"200"]


@pytest.mark.parametrize("path", [b"/v1/query", b"/admin/login/", b"/nothing"])
async def test_body_over_both_bounds_is_413_before_it_is_sent(server: Server, path: bytes) -> None:
    announced = b"Content-Length: 300000000\r\nExpect: 100-continue\r\nX-Request-Id: mine\r\n\r\n"
    reply = await exchange(server, HEAD % path + announced)
    assert reply.startswith(b"HTTP/1.1 413 "), "a 100 would request the body"
    assert b"\r\nConnection: close\r\n" in reply
    assert b"\r\nX-Request-Id: mine\r\n" in reply
    assert code_of(reply) == "too_large"


async def test_chunked_body_is_413_as_soon_as_it_exceeds_the_bound(server: Server) -> None:
    data = HEAD % b"/v1/query" + b"Transfer-Encoding: chunked\r\n\r\n" + CHUNK * 21
    reply = await exchange(server, data)
    assert (reply[9:12], code_of(reply)) == (b"413", "too_large")


async def test_api_answers_a_chunked_body_between_the_bounds(server: Server) -> None:
    head = HEAD % b"/v1/query" + b"Transfer-Encoding: chunked\r\n\r\n"
    status, _, text = await talk(server, head + CHUNK * 19 + b"0\r\n\r\n")
    assert (status, json.loads(text)["code"]) == (413, "too_large")


async def test_openai_clients_get_errors_in_their_own_form(server: Server) -> None:
    reply = await exchange(
        server, HEAD % b"/v1/chat/completions" + b"Content-Length: 2000001\r\n\r\n"
    )
    assert json.loads(reply.partition(b"\r\n\r\n")[2])["error"]["code"] == "too_large"


@pytest.mark.parametrize("framing", [b"Content-Length: 60000000", b"Transfer-Encoding: chunked"])
async def test_rest_of_a_refused_body_is_discarded_and_its_sender_gets_the_response(
    server: Server, framing: bytes
) -> None:
    chunked = framing.endswith(b"chunked")
    content = CHUNK * 600 if chunked else b"x" * 60_000_000
    data = HEAD % b"/v1/query" + framing + b"\r\n\r\n" + content
    async with watching(server) as watch:
        status, _, text = await talk(server, data)
    assert (status, json.loads(text)["code"]) == (413, "too_large")
    assert watch.grown_mb < 15
    assert watch.slowest_s < QUICK_S


async def test_bytes_after_a_refused_body_are_not_parsed_as_a_request(server: Server) -> None:
    refused = HEAD % b"/v1/query" + b"Transfer-Encoding: chunked\r\n\r\n" + CHUNK * 21
    reply = await exchange(server, HEALTH + refused + b"0\r\n\r\n" + HEALTH)
    assert [part[:3] for part in reply.split(b"HTTP/1.1 ")[1:]] == [b"200", b"413"]


async def send_endlessly(server: Server) -> None:
    async with connect(server) as (_, writer):
        writer.write(HEAD % b"/v1/query" + b"Content-Length: 9000000000\r\n\r\n")
        while True:
            writer.write(b"x" * 1000)
            await writer.drain()
            await asyncio.sleep(0.05)


async def test_connection_of_an_endless_sender_is_closed(server: Server) -> None:
    with pytest.raises(ConnectionError):
        await asyncio.wait_for(send_endlessly(server), PATIENCE_S)
    assert "Traceback" not in server.log


def get_under(path: str, root_path: bytes) -> bytes:
    head = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nDaphne-Root-Path: ".encode()
    return head + root_path + b"\r\n\r\n"


ROOT_PATHS = {
    "/v1/models": (b"/v1", b"/v1/models", b"/innocent", b"/%ff", b"\xff"),
    "/metrics": (b"/met",),
    "/health": (b"/health", b"\xff"),
}


@pytest.mark.parametrize("path", ROOT_PATHS)
async def test_client_cannot_choose_the_root_path(server: Server, path: str) -> None:
    for chosen in ROOT_PATHS[path]:
        status, _, _ = await talk(server, get_under(path, chosen))
        assert status == 200, chosen
    assert "Traceback" not in server.log


async def test_root_path_cannot_disguise_a_path(server: Server) -> None:
    status, _, _ = await talk(server, get_under("/innocent/admin/login/", b"/innocent"))
    assert status == 404
    status, _, page = await talk(server, get_under("/admin/login/", b"/innocent"))
    assert status == 200
    assert b"innocent" not in page


async def shake_hands(server: Server, header: bytes) -> bytes:
    """Returns the head of the response to a WebSocket handshake with one more header."""
    async with asyncio.timeout(PATIENCE_S), connect(server) as (reader, writer):
        writer.write(HANDSHAKE.replace(b"\r\n\r\n", b"\r\n" + header + b"\r\n\r\n"))
        return await reader.readuntil(b"\r\n\r\n")


async def test_socket_opens_with_any_root_path(server: Server) -> None:
    for chosen in (b"/ws", b"/ws/live", b"/%ff", b"\xff"):
        reply = await shake_hands(server, b"Daphne-Root-Path: " + chosen)
        assert reply.startswith(b"HTTP/1.1 101 "), chosen
    assert "Traceback" not in server.log


async def test_client_of_plain_daphne_cannot_choose_the_root_path(plain_daphne: Server) -> None:
    server = plain_daphne
    first = b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    assert (await talk(server, first))[0] == 200, "the first request starts the runtime"
    assert (await talk(server, get_under("/metrics", b"/met")))[0] == 200
    assert (await talk(server, get_under("/innocent/admin/login/", b"/innocent")))[0] == 404
    assert "Traceback" not in server.log


@pytest.mark.parametrize("offer", [b"\xff", b"bearer, \xc3\xa4"])
async def test_subprotocol_that_is_not_ascii_is_400_and_logs_no_traceback(
    server: Server, offer: bytes
) -> None:
    reply = await shake_hands(server, b"Sec-WebSocket-Protocol: " + offer)
    assert reply.startswith(b"HTTP/1.1 400 ")
    assert "Traceback" not in server.log
