"""A running gateway for tests, with helpers that wait for it and change its settings."""

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

# Even on a slow machine, only a hang takes longer.
LIMIT_S = 30.0


async def wait_until(true: Callable[[], Any], *, seconds: float = LIMIT_S) -> None:
    async with asyncio.timeout(seconds):
        while not true():  # noqa: ASYNC110 - there is no event to wait for
            await asyncio.sleep(0.005)


class Harness:
    """A gateway and a model server in this event loop, and an HTTP client of the gateway."""

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
        """Holds all batches until every request is queued, so that no batch depends on time."""
        self.hold()
        tasks = [asyncio.create_task(self.ask(prompt, **fields)) for prompt in prompts]
        dispatcher = self.runtime.consumer.dispatcher
        await wait_until(
            lambda: len(dispatcher.planner) + sum(t.done() for t in tasks) >= len(tasks)
        )
        await self.release()
        return await asyncio.gather(*tasks)

    def hold(self) -> None:
        """Until `release`, no batch leaves and no request expires in the queue."""
        self.runtime.consumer.dispatcher.close()

    async def release(self, waiting: int = 0) -> None:
        """Lets batches leave by their rules again, once `waiting` requests are queued."""
        dispatcher = self.runtime.consumer.dispatcher
        await wait_until(lambda: len(dispatcher.planner) >= waiting)
        dispatcher._closed = False
        dispatcher.wake()

    async def change_lane(self, priority: Priority, **fields: Any) -> None:
        """Changes the lane for later requests and for those in the queue."""
        await Lane.objects.filter(priority=priority).aupdate(**fields)
        await asyncio.to_thread(refresh_snapshot)
        await self.runtime.consumer._apply_settings()

    async def settle(self) -> None:
        """Returns when every request has ended and is recorded."""
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
