"""A running gateway for tests, and what they wait for and change in it."""

import asyncio
from collections.abc import Callable
from typing import Any

import httpx2

from batching.process.runtime import Runtime
from chats.models import OPEN_STATUSES, Chat
from llmbatch.asgi import application
from llmbatch.tests.fixtures.model_server import ModelServer
from settings_app.models import Lane, Priority
from settings_app.snapshot import refresh_snapshot

LIMIT_S = 30.0
"""only a hang takes longer, however slow the machine is"""


async def wait_until(true: Callable[[], Any], *, seconds: float = LIMIT_S) -> None:
    async with asyncio.timeout(seconds):
        while not true():  # noqa: ASYNC110 - there is no event to wait for
            await asyncio.sleep(0.005)


class Harness:
    """A running gateway in this event loop, spoken to over HTTP, before a model server."""

    def __init__(self, runtime: Runtime, server: ModelServer) -> None:
        self.runtime = runtime
        self.server = server
        self.client = httpx2.AsyncClient(
            transport=httpx2.ASGITransport(app=application),
            base_url="http://localhost",
            timeout=120,
        )

    async def ask(self, prompt: str = "Why?", **fields: Any) -> httpx2.Response:
        body = {"username": "ann", "prompt": prompt, "priority": "HIGH"} | fields
        return await self.client.post("/v1/query", json=body)

    async def ask_all(self, prompts: list[str], **fields: Any) -> list[httpx2.Response]:
        """No batch leaves before all of them wait, so their batches do not depend on time."""
        self.hold()
        tasks = [asyncio.create_task(self.ask(prompt, **fields)) for prompt in prompts]
        dispatcher = self.runtime.consumer.dispatcher
        await wait_until(
            lambda: len(dispatcher.planner) + sum(t.done() for t in tasks) >= len(tasks)
        )
        await self.release()
        return await asyncio.gather(*tasks)

    def hold(self) -> None:
        """Until `release` no batch leaves, and none expires in the queue."""
        self.runtime.consumer.dispatcher.close()

    async def release(self, waiting: int = 0) -> None:
        """What is held leaves by its rules once so many requests wait."""
        dispatcher = self.runtime.consumer.dispatcher
        await wait_until(lambda: len(dispatcher.planner) >= waiting)
        dispatcher._closed = False
        dispatcher.wake()

    async def change_lane(self, priority: Priority, **fields: Any) -> None:
        """Applies to the next request, and at once to those that wait."""
        await Lane.objects.filter(priority=priority).aupdate(**fields)
        await asyncio.to_thread(refresh_snapshot)
        await self.runtime.consumer._apply_settings()

    async def settle(self) -> None:
        """Returns when no request is open any more and everything is written down."""
        consumer = self.runtime.consumer
        open_chats = Chat.objects.filter(status__in=OPEN_STATUSES)
        while consumer.running_batches or await open_chats.aexists():  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        await consumer.recorder.flush()


async def change(harness: Harness, **document: Any) -> None:
    reply = await harness.client.patch("/v1/settings", json=document)
    assert reply.status_code == 200, reply.text


ASYNC = {"Prefer": "respond-async"}


async def post_async(harness: Harness, prompt: str, **fields: Any) -> httpx2.Response:
    body = {"username": "ann", "prompt": prompt, "priority": "HIGH"} | fields
    return await harness.client.post("/v1/query", json=body, headers=ASYNC)
