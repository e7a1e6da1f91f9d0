"""quick_batch_test and live_batch_test against a real gateway, and against other servers."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import StringIO
from typing import Any

import httpx2
import pytest
from django.core.management import CommandError, call_command

from batching.llm.simulated.wire import Pace
from llmbatch.tests.fixtures.model_thread import ModelThread
from llmbatch.tests.fixtures.server import PATIENCE_S, PATIENT, ROOT, Server, free_port

pytestmark = pytest.mark.server

# Eight requests arrive within these windows on a busy machine, too.
WINDOWS = f"""{PATIENT};
    UPDATE settings_app_lane SET window_s = 3 WHERE priority = 2;
    UPDATE settings_app_lane SET window_s = 5 WHERE priority < 2"""
# `manage.py` that tolerates the delays of a busy machine. The limits have tests of their own.
PROGRAM = """import sys
from batching.smoke_test import rules
rules.LATE_S, rules.REACTION_S = 60.0, 60.0
from django.core.management import execute_from_command_line
execute_from_command_line(["manage.py", *sys.argv[1:]])"""
LANE = {"window_s": 0.2, "max_batch": 6, "tokens": 1000, "batch_scope": "everyone"}


def run(command: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    with start(command, *arguments) as process:
        out, errors = process.communicate()
    return subprocess.CompletedProcess(process.args, process.returncode, out, errors)


def call(command: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs the command in this process, which is faster than starting another."""
    out, errors, code = StringIO(), "", 0
    try:
        call_command(command, *arguments, stdout=out)
    except CommandError as error:
        errors, code = f"CommandError: {error}\n", error.returncode
    return subprocess.CompletedProcess([command, *arguments], code, out.getvalue(), errors)


async def run_beside(command: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return await asyncio.to_thread(run, command, *arguments)


def start(command: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, command, *arguments],
        cwd=ROOT,
        env=os.environ | {"DJANGO_DEBUG": "true", "DJANGO_SETTINGS_MODULE": "llmbatch.settings"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def read_high(url: str) -> tuple[float, int]:
    lane = httpx2.get(f"{url}/v1/settings", timeout=PATIENCE_S).json()["high_priority"]
    return lane["window_s"], lane["max_batch"]


@pytest.fixture(scope="module")
def _smoke_tested(
    _model_of_servers: ModelThread, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("smoke-test")
    with Server(folder, prepare=WINDOWS, GEMINI_BASE_URL=_model_of_servers.url) as server:
        yield server


@pytest.fixture
def server(model: ModelThread, _smoke_tested: Server) -> Server:
    """A gateway that has no other clients during the test."""
    return _smoke_tested


class Liar(BaseHTTPRequestHandler):
    """Pretends that all requests shared one batch, whatever their priority."""

    settings: Any = dict.fromkeys(("high_priority", "medium_priority", "low_priority"), LANE)

    def do_GET(self) -> None:
        self._answer(200, self.settings)

    def do_PATCH(self) -> None:
        self._read()
        self._answer(200, self.settings)

    def do_POST(self) -> None:
        body = self._read()
        same = {"batch_id": 1, "batch_size": 8, "queue_ms": 200, "latency_ms": 300}
        given = {name: body[name] for name in ("request_id", "username")}
        at = {"created_at": "2026-01-01T00:00:00Z", "text": body["prompt"]}
        self._answer(200, given | at | same)

    def _read(self) -> Any:
        return json.loads(self.rfile.read(int(self.headers["Content-Length"])))

    def _answer(self, status: int, document: Any) -> None:
        content = json.dumps(document).encode()
        self.send_response(status)
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


class Stranger(Liar):
    settings = {"high_priority": 1}


class Keyless(Liar):
    def do_POST(self) -> None:
        self._read()
        self._answer(503, {"code": "no_api_key", "detail": "No model key is set."})


class Stubborn(Liar):
    """Returns its settings, but ignores changes."""

    def do_PATCH(self) -> None:
        self._read()
        self._answer(403, {"code": "permission_denied", "detail": "You may not do this."})


class Forgetful(Liar):
    """Changes its settings once, and never restores them."""

    changes = 0

    def do_PATCH(self) -> None:
        body = self._read()
        Forgetful.changes += 1
        if Forgetful.changes > 1:
            return self._answer(500, {"code": "internal_error", "detail": "The disk is full."})
        lane = LANE | body["high_priority"]
        return self._answer(200, self.settings | {"high_priority": lane})


@contextmanager
def serve(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


async def test_quick_test_shows_which_requests_shared_a_batch(server: Server) -> None:
    done = await run_beside("quick_batch_test", "--url", server.url)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [line.split() for line in done.stdout.splitlines() if " ms" in line]
    found = Counter((priority, size) for _, _, priority, _, size, *_ in rows)
    assert found == {("HIGH", "3"): 3, ("MEDIUM", "3"): 3, ("LOW", "2"): 2}
    assert len({row[3] for row in rows}) == 3
    assert "as quick-batch-test-" in done.stdout
    assert "obey the rules" in done.stdout


async def test_live_test_runs_every_scenario_and_restores_the_settings(server: Server) -> None:
    before = httpx2.get(f"{server.url}/v1/settings").json()
    done = await run_beside("live_batch_test", "--url", server.url)
    assert done.returncode == 0, done.stdout + done.stderr
    for name in ("window only", "size only", "overflow", "mixed load", "burst", "settings change"):
        assert f"{name} " in done.stdout
    assert "VIOLATES" not in done.stdout
    assert httpx2.get(f"{server.url}/v1/settings").json() == before
    only = await run_beside("live_batch_test", "--url", server.url, "--only", "window only")
    assert "obeys the rules" in only.stdout
    assert "obey the rules" in only.stdout


async def test_settings_are_restored_if_a_scenario_fails(
    server: Server, model: ModelThread
) -> None:
    """The model answers after the client's timeout."""
    model.set_pace(Pace(total_s=20.0))
    before = read_high(server.url)
    slow = ["--url", server.url, "--timeout", "3", "--only", "settings change"]
    done = await run_beside("live_batch_test", *slow)
    assert read_high(server.url) == before
    assert done.returncode == 1
    assert "was not answered: no reply ReadTimeout" in done.stdout


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_settings_are_restored_after_a_signal(
    server: Server, model: ModelThread, number: int
) -> None:
    model.set_pace(Pace(total_s=20.0))  # so that the command is still waiting when it is stopped
    before = read_high(server.url)
    with start("live_batch_test", "--url", server.url, "--only", "settings change") as process:
        async with asyncio.timeout(PATIENCE_S):
            while read_high(server.url) == before:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        process.send_signal(number)
        process.send_signal(number)
        _, errors = await asyncio.to_thread(process.communicate)
    assert read_high(server.url) == before
    assert (process.returncode, errors) == (130, "CommandError: Interrupted.\n")


def test_settings_that_cannot_be_restored_are_reported() -> None:
    with serve(Forgetful) as url:
        done = call("live_batch_test", "--url", url, "--only", "settings change")
    assert done.returncode == 1
    assert "set window_s to 0.2 and max_batch to 6 again" in done.stderr
    assert "The disk is full." in done.stderr


def test_refused_change_of_settings_is_left_out() -> None:
    with serve(Stubborn) as url:
        done = call("live_batch_test", "--url", url, "--only", "settings change")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "settings change  left out. The gateway refuses PATCH" in done.stdout


def test_live_test_without_a_scenario_fails() -> None:
    only = ["--only", "settings change", "--no-settings-change"]
    with serve(Liar) as url:
        assert call("live_batch_test", "--url", url, *only).returncode == 1


@pytest.mark.parametrize("command", ["quick_batch_test", "live_batch_test"])
def test_batches_that_violate_the_rules_end_with_status_1(command: str) -> None:
    with serve(Liar) as url:
        done = call(command, "--url", url, *(["--only", "mixed load"] if "live" in command else []))
    assert done.returncode == 1
    assert "Batch 1 mixes" in done.stdout
    assert "violate the rules" in done.stderr


def test_other_servers_are_reported_in_one_sentence() -> None:
    nobody = f"http://127.0.0.1:{free_port()}"
    with serve(Page) as page, serve(Stranger) as stranger, serve(Keyless) as keyless:
        for url in (nobody, page, stranger, keyless, "no url at all"):
            done = call("quick_batch_test", "--url", url)
            assert done.returncode == 1
            assert done.stderr.startswith("CommandError: ")
            assert len(done.stderr.splitlines()) == 1
    done = run("quick_batch_test", "--url", nobody)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "make run" in done.stderr


async def test_gateway_with_restricted_access_needs_a_key(guarded_server: Server) -> None:
    server = guarded_server
    done = await run_beside("quick_batch_test", "--url", server.url)
    assert done.returncode == 1
    assert "--api-key" in done.stderr
    key = server.manage("create_api_key", "operator", "--staff").strip()
    arguments = ["--url", server.url, "--api-key", key, "--only", "window only"]
    done = await run_beside("live_batch_test", *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
