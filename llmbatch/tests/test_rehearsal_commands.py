"""quick_batch_test and live_batch_test against a real gateway, and against what is none."""

import asyncio
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx2
import pytest

from llmbatch.tests.server import ROOT, Server, free_port

pytestmark = [pytest.mark.server, pytest.mark.timeout(120)]


def run(command: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "manage.py", command, *arguments],
        cwd=ROOT,
        env=os.environ | {"DJANGO_DEBUG": "true"},
        capture_output=True,
        text=True,
    )


async def run_beside(command: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The model server answers in this test's own event loop."""
    return await asyncio.to_thread(run, command, *arguments)


class Liar(BaseHTTPRequestHandler):
    """Answers everybody out of one batch, whatever the priority."""

    def do_GET(self) -> None:
        lane = {"window_s": 0.2, "max_batch": 6}
        names = ("high_priority", "medium_priority", "low_priority")
        self._answer(dict.fromkeys(names, lane))

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        same = {"batch_id": 1, "batch_size": 8, "queue_ms": 200, "latency_ms": 300}
        self._answer({"request_id": body["request_id"], "username": body["username"], **same})

    def _answer(self, document: dict[str, Any]) -> None:
        content = json.dumps(document).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *arguments: object) -> None:
        pass


class Page(Liar):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"<html>another server</html>")


@contextmanager
def serve(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


async def test_quick_test_shows_who_shared_a_batch(server: Server) -> None:
    done = await run_beside("quick_batch_test", "--url", server.url)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [line.split() for line in done.stdout.splitlines() if " ms" in line]
    assert [row[2] for row in rows] == ["HIGH"] * 3 + ["MEDIUM"] * 3 + ["LOW"] * 2
    assert [row[5] for row in rows] == ["3"] * 6 + ["2"] * 2
    assert "as the rules say" in done.stdout


async def test_live_test_plays_every_scenario_and_restores_the_settings(server: Server) -> None:
    before = httpx2.get(f"{server.url}/v1/settings").json()
    done = await run_beside("live_batch_test", "--url", server.url)
    assert done.returncode == 0, done.stdout + done.stderr
    for name in ("window only", "size only", "overflow", "mixed load", "burst", "settings change"):
        assert f"{name} " in done.stdout
    assert "NOT" not in done.stdout
    assert httpx2.get(f"{server.url}/v1/settings").json() == before
    only = await run_beside("live_batch_test", "--url", server.url, "--only", "window only")
    assert only.stdout.count("as the rules say") == 2


async def test_settings_are_restored_although_a_scenario_fails(server: Server) -> None:
    """HIGH's window is so long that no answer comes in time."""
    lane = {"window_s": 60, "max_batch": 6}
    assert httpx2.patch(f"{server.url}/v1/settings", json={"high_priority": lane}).is_success
    slow = ["--url", server.url, "--timeout", "0.3", "--only", "settings change"]
    done = await run_beside("live_batch_test", *slow)
    assert done.returncode == 1
    assert "was not answered" in done.stdout
    after = httpx2.get(f"{server.url}/v1/settings").json()["high_priority"]
    assert (after["window_s"], after["max_batch"]) == (60, 6)


@pytest.mark.parametrize("command", ["quick_batch_test", "live_batch_test"])
def test_batches_against_the_rules_end_with_status_1(command: str) -> None:
    with serve(Liar) as url:
        done = run(command, "--url", url, *(["--only", "mixed load"] if "live" in command else []))
    assert done.returncode == 1
    assert "Batch 1 mixes" in done.stdout
    assert "not as the rules say" in done.stderr


def test_what_is_no_gateway_gets_one_sentence() -> None:
    nobody = f"http://127.0.0.1:{free_port()}"
    with serve(Page) as page:
        for url in (nobody, page, "no url at all"):
            done = run("quick_batch_test", "--url", url)
            assert done.returncode == 1
            assert "Traceback" not in done.stderr
            assert done.stderr.startswith("CommandError: ")
            assert len(done.stderr.splitlines()) == 1
    assert "make run" in run("quick_batch_test", "--url", nobody).stderr


async def test_closed_gateway_asks_for_a_key(model: Any, tmp_path: Any) -> None:
    with Server(tmp_path, GEMINI_BASE_URL=model.url, API_ACCESS="key") as server:
        done = await run_beside("quick_batch_test", "--url", server.url)
        assert done.returncode == 1
        assert "--api-key" in done.stderr
        key = server.manage("create_api_key", "operator", "--staff").strip()
        done = await run_beside("quick_batch_test", "--url", server.url, "--api-key", key)
        assert done.returncode == 0, done.stdout + done.stderr
