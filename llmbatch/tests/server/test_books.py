"""After kills and stops the books agree, and no request was asked too often."""

import asyncio
import signal
import sqlite3
from contextlib import closing
from pathlib import Path

import httpx2
import pytest

from batching.engine.runner import MAX_ATTEMPTS
from llmbatch.tests.fixtures.model_thread import ModelThread
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
