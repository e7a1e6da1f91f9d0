"""SIGTERM and SIGINT end a process in an orderly way, even with running and queued requests."""

import asyncio
import json
import signal
import socket
import time
from contextlib import closing
from pathlib import Path

import httpx2
import pytest

from batching.llm.simulated.answers import answer_prompt
from batching.llm.simulated.wire import Pace
from llmbatch.tests.fixtures.fleet import LEASE_S, Clients, fleet_marks, set_workers, start_workers
from llmbatch.tests.fixtures.model_thread import ModelThread
from llmbatch.tests.fixtures.raw_http import body, raw_post, talk
from llmbatch.tests.fixtures.server import PATIENCE_S, PATIENT, Server

pytestmark = pytest.mark.server
fleet_only = fleet_marks()[-1]

STATES = "from chats.models import Chat; print(Chat.objects.values_list('status', 'attempt'))"


async def test_running_requests_are_answered_after_sigterm(
    own_server: Server, model: ModelThread
) -> None:
    server = own_server
    model.set_pace(Pace(total_s=3.0))
    asking = asyncio.create_task(talk(server, raw_post(body("running"))))
    await model.wait_for_calls(1)
    with closing(socket.create_connection(("127.0.0.1", server.port))) as half:
        half.sendall(raw_post(body("half"))[:60])
        code = await asyncio.to_thread(server.terminate)
    assert code == 0
    status, _, text = await asking
    assert (status, json.loads(text)["text"]) == (200, answer_prompt("running"))
    assert "Traceback" not in server.log


async def test_request_beyond_the_drain_gets_503_and_returns_to_the_queue(
    model: ModelThread, tmp_path: Path
) -> None:
    with Server(tmp_path, GEMINI_BASE_URL=model.url, DRAIN_S="0") as server:
        asking = asyncio.create_task(talk(server, raw_post(body("[[fault:slow-10]] long"))))
        await model.wait_for_calls(1)
        assert await asyncio.to_thread(server.terminate) == 0
        status, head, text = await asking
        assert (status, json.loads(text)["code"]) == (503, "shutting_down")
        assert b"retry-after" in head.lower()
        assert "('queued', 1)" in server.manage("shell", "-c", STATES)


async def wait_until_draining(server: Server) -> None:
    """Returns when the server refuses connections, so that it handles the second signal."""
    async with asyncio.timeout(PATIENCE_S):
        while _listens(server):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    await asyncio.sleep(0.5)


def _listens(server: Server) -> bool:
    try:
        socket.create_connection(("127.0.0.1", server.port)).close()
    except OSError:
        return False
    return True


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_second_signal_ends_the_drain_at_once(
    model: ModelThread, tmp_path: Path, number: signal.Signals
) -> None:
    with Server(tmp_path, GEMINI_BASE_URL=model.url, DRAIN_S="60") as server:
        asking = asyncio.create_task(talk(server, raw_post(body("[[fault:slow-10]] long"))))
        await model.wait_for_calls(1)
        with closing(socket.create_connection(("127.0.0.1", server.port))) as half:
            half.sendall(raw_post(body("half"))[:60])
            server.process.send_signal(number)
            await wait_until_draining(server)
            assert server.process.poll() is None, "the process waits for the answer"
            server.process.send_signal(number)
            assert await asyncio.to_thread(server.process.wait, PATIENCE_S) == 0
        status, _, text = await asking
        assert (status, json.loads(text)["code"]) == (503, "shutting_down")
        assert "('queued', 1)" in server.manage("shell", "-c", STATES)
        assert "Traceback" not in server.log


async def test_queued_request_is_answered_before_the_process_ends(
    model: ModelThread, tmp_path: Path
) -> None:
    window = f"{PATIENT}; UPDATE settings_app_lane SET window_s = 8 WHERE priority = 0"
    with Server(tmp_path, prepare=window, GEMINI_BASE_URL=model.url, DRAIN_S="60") as server:
        asking = asyncio.create_task(talk(server, raw_post(body("queued", priority="LOW"))))
        async with httpx2.AsyncClient(base_url=server.url, timeout=PATIENCE_S) as http:
            while (  # noqa: ASYNC110
                await http.get("/v1/chat?status=queued")
            ).json()["count"] != 1:
                await asyncio.sleep(0.05)
        assert not model.calls
        assert await asyncio.to_thread(server.terminate) == 0
    status, _, text = await asking
    assert (status, json.loads(text)["text"]) == (200, answer_prompt("queued"))


@fleet_only
async def test_second_signal_requeues_the_calls_of_a_worker_and_counts_them(
    clients: Clients,
) -> None:
    await set_workers(clients, "one")
    prompt = "[[fault:hang:1]] Why?"
    asking = asyncio.create_task(clients.ask(prompt))
    await clients.server.wait_for_calls(1)
    clients.fleet.signal("one", signal.SIGTERM)
    await asyncio.sleep(2)
    assert clients.fleet.processes["one"].poll() is None
    clients.fleet.signal("one", signal.SIGTERM)
    assert await asyncio.to_thread(clients.fleet.processes["one"].wait, PATIENCE_S) == 0
    assert clients.fleet.query("SELECT status, attempt FROM chats_chat") == [("queued", 1)]
    began = time.monotonic()
    await start_workers(clients, "two")
    assert (await asking).json()["text"] == answer_prompt(prompt)
    assert time.monotonic() - began < LEASE_S / 2, "no wait for the end of the lease"
    assert clients.fleet.query("SELECT attempt FROM chats_chat") == [(2,)]
    await clients.fleet.demand_agreeing_books()
