"""A real server process under load, half-sent requests and hostile bytes."""

import asyncio
import json
import resource
import socket
import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path

import httpx2
import pytest

from batching.llm.simulated.answers import answer_prompt
from llmbatch.tests.fixtures.model_thread import ModelThread
from llmbatch.tests.fixtures.raw_http import body, raw_post, talk
from llmbatch.tests.fixtures.server import PATIENCE_S, Server

pytestmark = pytest.mark.server


async def test_burst_of_thousands_is_answered_with_few_threads(
    model: ModelThread, tmp_path: Path
) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    clients = min(1500, (hard - 500) // 3)
    most_threads = 0

    async def watch(server: Server) -> None:
        nonlocal most_threads
        while True:
            most_threads = max(most_threads, server.threads)
            await asyncio.sleep(0.1)

    with Server(tmp_path, GEMINI_BASE_URL=model.url, MODEL_CALL_SLOTS="1000") as server:
        watching = asyncio.create_task(watch(server))
        replies = await asyncio.gather(
            *(
                talk(server, raw_post(body(f"question {index}")), seconds=300)
                for index in range(clients)
            )
        )
        watching.cancel()
        memory_mb = server.memory_mb
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert Counter(status for status, _, _ in replies) == {200: clients}
    for index, (_, _, text) in enumerate(replies):
        assert json.loads(text)["text"] == answer_prompt(f"question {index}")
    assert most_threads < 40
    assert memory_mb < 500


async def test_half_sent_requests_do_not_delay_other_clients(server: Server) -> None:
    whole = raw_post(body("half"))
    halves = []
    for index in range(200):
        connection = socket.create_connection(("127.0.0.1", server.port))
        connection.sendall(whole[: 20 + index % (len(whole) - 40)])
        halves.append(connection)
    replies = await asyncio.gather(*(talk(server, raw_post(body(f"q{i}"))) for i in range(12)))
    assert [status for status, _, _ in replies] == [200] * 12
    for connection in halves:
        connection.close()


async def test_hanging_sync_view_does_not_delay_other_clients(
    server: Server,
) -> None:
    """The view waits for the database's write lock, which this test holds."""
    with closing(sqlite3.connect(server.folder / "gateway.sqlite3")) as database:
        database.execute("BEGIN IMMEDIATE")
        async with httpx2.AsyncClient(base_url=server.url, timeout=2) as http:
            patching = asyncio.create_task(http.patch("/v1/settings", json={"model": "held"}))
            await asyncio.sleep(0.3)
            for _ in range(20):
                assert (await http.get("/health", timeout=10)).status_code == 200
            with pytest.raises(httpx2.TimeoutException):
                await patching  # the client disconnects
            for _ in range(100):
                assert (await http.get("/health", timeout=10)).status_code == 200
                await asyncio.sleep(0.02)
        database.rollback()
    status, _, text = await talk(server, raw_post(body("after")))
    assert (status, json.loads(text)["text"]) == (200, answer_prompt("after"))


HOSTILE = {
    "empty": (b"", 400),
    "no json": (b"{", 400),
    "list": (b"[]", 400),
    "number": (b"7", 400),
    "null": (b"null", 400),
    "not utf-8": (b'{"username": "\xff", "prompt": "x"}', 400),
    "brackets": (b"[" * 900_000, 400),
    "braces": (b'{"a":' * 150_000, 400),
    "huge integer": (b'{"username": "a", "prompt": "b", "timeout_s": ' + b"9" * 5000 + b"}", 400),
    "nan": (b'{"username": "a", "prompt": "b", "timeout_s": NaN}', 400),
    "nul": (b'{"username": "a", "prompt": "b\\u0000"}', 400),
    "surrogate": (b'{"username": "a", "prompt": "\\ud83d"}', 400),
    "missing": (b'{"username": "a"}', 400),
    "wrong types": (b'{"username": 1, "prompt": {}, "priority": []}', 400),
    "unknown priority": (b'{"username": "a", "prompt": "b", "priority": "NOW"}', 400),
    "too large": (b'{"username": "a", "prompt": "' + b"x" * 3_000_000 + b'"}', 413),
}


async def test_hostile_bodies_get_an_error_with_a_code(server: Server) -> None:
    for name, (content, expected) in HOSTILE.items():
        for path, method in (("/v1/query", b"POST"), ("/v1/settings", b"PATCH")):
            data = raw_post(content, path=path).replace(b"POST", method, 1)
            status, head, text = await talk(server, data)
            if (name, path) == ("empty", "/v1/settings"):
                assert status == 200, "an empty change is valid"
                continue
            assert status == expected, (name, path, text)
            assert b"application/json" in head.lower(), (name, path)
            assert {"detail", "code"} <= json.loads(text).keys(), (name, path)
    assert server.answers()


HOSTILE_REQUESTS = [
    (b"GET /v1/query HTTP/1.1\r\nHost: localhost\r\n\r\n", {405}),
    (b"BREW /v1/query HTTP/1.1\r\nHost: localhost\r\n\r\n", {405}),
    (b"GET /v1/nothing HTTP/1.1\r\nHost: localhost\r\n\r\n", {404}),
    (b"GET /v1/query/%00 HTTP/1.1\r\nHost: localhost\r\n\r\n", {404}),
    (b"GET /v1/query/%ff HTTP/1.1\r\nHost: localhost\r\n\r\n", {404}),
    (b"GET /v1/chat?search=%00 HTTP/1.1\r\nHost: localhost\r\n\r\n", {200, 400}),
    (b"GET /v1/chat?limit=x&from=9 HTTP/1.1\r\nHost: localhost\r\n\r\n", {400}),
    (b"GET /v1/chat?before=99999999999999999999 HTTP/1.1\r\nHost: localhost\r\n\r\n", {400}),
    (b"GET /v1/analytics?from=0000-00-00 HTTP/1.1\r\nHost: localhost\r\n\r\n", {400}),
    (b"GET /v1/chat HTTP/1.1\r\nHost: evil.example\r\n\r\n", {400}),
    (b"POST /v1/query HTTP/1.1\r\nHost: evil.example\r\nContent-Length: 2\r\n\r\n{}", {400}),
    (b"GET /v1/\xff HTTP/1.1\r\nHost: localhost\r\n\r\n", {400}),
    (b"GET /v1/chat HTTP/1.1\r\nHost: localhost\r\nBad Header: x\r\n\r\n", {400}),
    (b"POST /v1/query HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}", {415}),
    (b"GET /v1/chat/ HTTP/1.1\r\nHost: localhost\r\n\r\n", {404}),
    (b"DELETE /v1/settings HTTP/1.1\r\nHost: localhost\r\n\r\n", {405}),
]


async def test_hostile_requests_never_get_a_500_or_html(server: Server) -> None:
    for data, statuses in HOSTILE_REQUESTS:
        status, head, text = await talk(server, data)
        assert status in statuses, (data, status, text)
        if not text:
            continue  # Twisted rejects bytes that are not HTTP without a body
        assert b"application/json" in head.lower(), data
        assert head.lower().count(b"\r\nx-request-id: ") == 1, data
        if status >= 400:
            assert {"detail", "code"} <= json.loads(text).keys(), data
    assert "failed" not in server.log, "a view failed"


async def test_consumer_runs_before_the_first_request(server: Server) -> None:
    async with httpx2.AsyncClient(timeout=60) as http:
        ready = await http.get(f"{server.url}/health/ready")
    assert ready.status_code == 200
    assert "The gateway runs as" in server.whole_log


async def wait_for_count(http: httpx2.AsyncClient, url: str, count: int) -> None:
    while (await http.get(url)).json()["count"] != count:  # noqa: ASYNC110
        await asyncio.sleep(0.05)


async def test_requests_of_disconnected_clients_are_cancelled(
    server: Server, model: ModelThread
) -> None:
    leaving = []
    for index in range(3):
        connection = socket.create_connection(("127.0.0.1", server.port))
        connection.sendall(raw_post(body(f"gone {index}", username="leaver", priority="LOW")))
        leaving.append(connection)
    async with httpx2.AsyncClient(timeout=60) as http:
        async with asyncio.timeout(PATIENCE_S):
            await wait_for_count(http, f"{server.url}/v1/chat?username=leaver&status=queued", 3)
        for connection in leaving:
            connection.close()
        async with asyncio.timeout(PATIENCE_S):
            await wait_for_count(http, f"{server.url}/v1/chat?username=leaver&status=cancelled", 3)
    assert model.sizes == []


async def test_application_runs_under_plain_daphne(plain_daphne: Server) -> None:
    status, _, text = await talk(plain_daphne, raw_post(body("Why?")))
    assert (status, json.loads(text)["text"]) == (200, answer_prompt("Why?"))


async def test_restricted_gateway_admits_only_staff(guarded_server: Server) -> None:
    server = guarded_server
    printed = server.manage("create_first_admin")
    password = printed.split("password ")[1].split(" ")[0].rstrip(".,")
    assert "password" not in server.manage("create_first_admin")
    async with httpx2.AsyncClient(base_url=server.url, timeout=60) as http:
        for path in ("/v1/chat", "/v1/settings", "/v1/analytics"):
            refused = await http.get(path)
            assert (refused.status_code, refused.json()["code"]) == (401, "not_authenticated")
        refused = await http.post("/v1/query", json={"username": "a", "prompt": "b"})
        assert (refused.status_code, refused.json()["code"]) == (401, "not_authenticated")
        assert (await http.get("/health")).status_code == 200
        await http.get("/admin/login/")
        form = {"username": "admin", "password": password, "next": "/admin/"}
        form["csrfmiddlewaretoken"] = http.cookies["csrftoken"]
        await http.post("/admin/login/", data=form)
        assert (await http.get("/v1/settings")).status_code == 200
        token = {"X-CSRFToken": http.cookies["csrftoken"]}
        answered = await http.post(
            "/v1/query",
            json={"username": "a", "prompt": "b", "priority": "HIGH"},
            headers=token,
        )
        assert answered.json()["text"] == answer_prompt("b")
        page = (await http.get("/admin/")).text
        for link in {part.split('"')[0] for part in page.split('href="/admin/')[1:]}:
            assert (await http.get(f"/admin/{link}")).status_code in (200, 302, 405), link
