"""After kills, stops and a locked database the books agree, and nothing was asked too often."""

import asyncio
import json
import signal
import sqlite3
from contextlib import closing
from pathlib import Path

import httpx2
import pytest

from batching.engine.runner import MAX_ATTEMPTS
from batching.llm.simulated.answers import answer_prompt
from batching.llm.simulated.wire import Pace
from llmbatch.tests.fixtures.model_thread import ModelThread
from llmbatch.tests.fixtures.raw_http import body, raw_post, talk
from llmbatch.tests.fixtures.server import PATIENCE_S, Server

pytestmark = pytest.mark.server

LEASE_S = 2
OPEN = "SELECT count(*) FROM chats_chat WHERE status IN ('queued', 'running')"


def query(server: Server, sql: str) -> list[tuple]:
    with closing(sqlite3.connect(server.folder / "gateway.sqlite3", timeout=PATIENCE_S)) as rows:
        return rows.execute(sql).fetchall()


async def post_async(server: Server, prompt: str) -> None:
    async with httpx2.AsyncClient(base_url=server.url, timeout=PATIENCE_S) as http:
        document = {"username": "ann", "prompt": prompt, "priority": "HIGH"}
        reply = await http.post("/v1/query", json=document, headers={"Prefer": "respond-async"})
        assert reply.status_code == 202


async def test_books_agree_after_kills_and_stops(model: ModelThread, tmp_path: Path) -> None:
    with Server(tmp_path, GEMINI_BASE_URL=model.url, LEASE_S=f"{LEASE_S}", DRAIN_S="0") as server:
        for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGKILL):
            calls = len(model.calls)
            for index in range(7):
                await post_async(server, f"question {index}")
            await post_async(server, f"[[fault:hang:1]] Why {calls}?")
            await model.wait_for_calls(calls + 2)
            server.process.send_signal(number)
            await asyncio.to_thread(server.process.wait, PATIENCE_S)
            await asyncio.to_thread(server.start)
        async with asyncio.timeout(PATIENCE_S):
            while query(server, OPEN) != [(0,)]:  # noqa: ASYNC110
                await asyncio.sleep(0.1)
        assert server.check_books() == "The books agree.\n"
        assert max(query(server, "SELECT max(attempt) FROM chats_chat")) <= (MAX_ATTEMPTS,)


async def test_answer_is_kept_while_another_process_locks_the_database(
    model: ModelThread, tmp_path: Path
) -> None:
    model.set_pace(Pace(total_s=1.5))
    with Server(tmp_path, GEMINI_BASE_URL=model.url, LEASE_S=f"{LEASE_S}") as server:
        asking = asyncio.create_task(talk(server, raw_post(body("Why?"))))
        await model.wait_for_calls(1)
        with closing(sqlite3.connect(tmp_path / "gateway.sqlite3", timeout=PATIENCE_S)) as other:
            other.execute("BEGIN IMMEDIATE")
            await asyncio.sleep(3 * LEASE_S)
            assert not asking.done()
        status, _, text = await asking
        assert (status, json.loads(text)["text"]) == (200, answer_prompt("Why?"))
        assert len(model.calls) == 1
        assert server.check_books() == "The books agree.\n"
