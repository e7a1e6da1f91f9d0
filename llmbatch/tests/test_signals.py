"""An end in order, whatever is still going on (CASES 61 to 63)."""

import asyncio
import json
import signal
import socket
import time
from contextlib import closing
from pathlib import Path

import pytest

from batching.llm.simulated_answers import answer_prompt
from batching.llm.simulated_wire import Pace
from llmbatch.tests.fleet import Clients, fleet_marks, start_workers
from llmbatch.tests.model_server import ModelServer
from llmbatch.tests.raw_http import body, raw_post, talk
from llmbatch.tests.server import Server

pytestmark = [pytest.mark.server, pytest.mark.timeout(120)]
fleet_only = fleet_marks()[-1]

STATES = "from chats.models import Chat; print(Chat.objects.values_list('status', 'attempt'))"


async def test_sigterm_lets_running_requests_be_answered(
    server: Server, model: ModelServer
) -> None:
    model.responder._pace = Pace(0.0, 0.0, total_s=1.0)
    asking = asyncio.create_task(talk(server, raw_post(body("running"))))
    await model.wait_for_calls(1)
    with closing(socket.create_connection(("127.0.0.1", server.port))) as half:
        half.sendall(raw_post(body("half"))[:60])
        code = await asyncio.to_thread(server.terminate, within_s=10)
    assert code == 0
    status, _, text = await asking
    assert (status, json.loads(text)["text"]) == (200, answer_prompt("running"))
    assert "Traceback" not in server.log


async def test_sigterm_past_the_drain_refuses_and_puts_back(
    model: ModelServer, tmp_path: Path
) -> None:
    with Server(tmp_path, GEMINI_BASE_URL=model.url, DRAIN_S="0") as server:
        asking = asyncio.create_task(talk(server, raw_post(body("[[fault:slow-10]] long"))))
        await model.wait_for_calls(1)
        assert await asyncio.to_thread(server.terminate, within_s=10) == 0
        status, head, text = await asking
        assert (status, json.loads(text)["code"]) == (503, "shutting_down")
        assert b"retry-after" in head.lower()
        assert "('queued', 0)" in server.manage("shell", "-c", STATES)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_second_signal_ends_the_drain_at_once(
    model: ModelServer, tmp_path: Path, number: signal.Signals
) -> None:
    with Server(tmp_path, GEMINI_BASE_URL=model.url, DRAIN_S="60") as server:
        asking = asyncio.create_task(talk(server, raw_post(body("[[fault:slow-10]] long"))))
        await model.wait_for_calls(1)
        with closing(socket.create_connection(("127.0.0.1", server.port))) as half:
            half.sendall(raw_post(body("half"))[:60])
            server.process.send_signal(number)
            await asyncio.sleep(0.5)
            assert server.process.poll() is None, "it waits for the answer"
            server.process.send_signal(number)
            assert await asyncio.to_thread(server.process.wait, 10) == 0
        status, _, text = await asking
        assert (status, json.loads(text)["code"]) == (503, "shutting_down")
        assert "('queued', 0)" in server.manage("shell", "-c", STATES)
        assert "Traceback" not in server.log


async def test_queued_request_is_answered_before_the_end(
    model: ModelServer, tmp_path: Path
) -> None:
    with Server(tmp_path, GEMINI_BASE_URL=model.url, DRAIN_S="20") as server:
        asking = asyncio.create_task(talk(server, raw_post(body("queued", priority="LOW"))))
        await asyncio.sleep(1)  # accepted, and its window of 4 s is still open
        assert not model.calls
        assert await asyncio.to_thread(server.terminate, within_s=20) == 0
    status, _, text = await asking
    assert (status, json.loads(text)["text"]) == (200, answer_prompt("queued"))


@fleet_only
async def test_worker_told_twice_hands_its_calls_to_another_with_their_attempt(
    clients: Clients,
) -> None:
    await start_workers(clients, "one")
    prompt = "[[fault:slow-10:1]] Why?"
    asking = asyncio.create_task(clients.ask(prompt))
    await clients.server.wait_for_calls(1)
    clients.fleet.signal("one", signal.SIGTERM)
    await asyncio.sleep(0.3)
    assert clients.fleet.processes["one"].poll() is None
    clients.fleet.signal("one", signal.SIGTERM)
    assert await asyncio.to_thread(clients.fleet.processes["one"].wait, 10) == 0
    assert clients.fleet.query("SELECT status, attempt FROM chats_chat") == [("queued", 0)]
    began = time.monotonic()
    await start_workers(clients, "two")
    assert (await asking).json()["text"] == answer_prompt(prompt)
    assert time.monotonic() - began < 8
    assert clients.fleet.query("SELECT attempt FROM chats_chat") == [(1,)]
