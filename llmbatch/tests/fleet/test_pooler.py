"""A fleet works behind PgBouncer in transaction mode, where no session belongs to a process."""

import asyncio
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect

from llmbatch.tests.fixtures.fleet import Clients, Fleet, fleet_marks, start_workers
from llmbatch.tests.fixtures.model_thread import ModelThread
from llmbatch.tests.fixtures.server import PATIENCE_S
from llmbatch.tests.fixtures.services import OwnPgBouncer

installed = shutil.which("pgbouncer")
if not installed and os.environ.get("CI"):
    raise RuntimeError("CI requires pgbouncer")
pytestmark = [*fleet_marks(), pytest.mark.skipif(not installed, reason="no pgbouncer")]

ITERATE = "from chats.models import Chat; print('rows', len(list(Chat.objects.iterator())))"
PATHS = ("/v1/chat?limit=5", "/v1/analytics", "/v1/settings", "/metrics", "/health/ready")
MANY = 60


def read_logs(folder: Path) -> str:
    return "".join(path.read_text() for path in folder.glob("*.log"))


async def send(socket: ClientConnection, frame_type: str, request_id: str, **fields: Any) -> None:
    frame = {"type": frame_type, "request_id": request_id, "username": "ann"} | fields
    await socket.send(json.dumps(frame))


async def receive(socket: ClientConnection, frame_type: str, request_id: str) -> dict[str, Any]:
    async with asyncio.timeout(PATIENCE_S):
        while True:
            frame = json.loads(await socket.recv())
            if (frame["type"], frame["request_id"]) == (frame_type, request_id):
                return frame


async def test_fleet_behind_a_pooler_in_transaction_mode(
    fleet_model: ModelThread, tmp_path: Path
) -> None:
    with (
        OwnPgBouncer() as pooler,
        Fleet(fleet_model.url, tmp_path, pooled=pooler.pool) as fleet,
    ):
        async with (
            Clients(fleet, fleet_model) as clients,
            connect(fleet.urls[0].replace("http", "ws") + "/ws/query") as socket,
        ):
            for name in ("first", "second"):
                await send(socket, "query", name, prompt=name, priority="HIGH")
                await receive(socket, "accepted", name)
            await send(socket, "cancel", "first")
            assert (await receive(socket, "position", "second"))["position"] == 1
            await start_workers(clients, "one", "two")
            replies = await asyncio.gather(*(clients.ask(f"q{i}") for i in range(MANY)))
            assert {reply.status_code for reply in replies} == {200}
            assert await receive(socket, "done", "second")
            for path in PATHS:
                assert (await clients.get(path)).status_code == 200, path
            assert f"rows {MANY + 2}" in fleet.manage("shell", "-c", ITERATE)
    assert "will be started again" not in read_logs(tmp_path), "no background task failed"
