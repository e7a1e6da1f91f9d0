"""A worker that cannot renew its leases stops its batches, because another one will claim them."""

import asyncio
import time
from typing import Any

import pytest
from django.db import OperationalError

from batching.tests.harness import LIMIT_S, Harness, post_async, wait_until
from batching.tests.model_gate import use_gate
from batching.worker import leases
from chats.leases import renew_leases
from chats.models import Chat, Status


def fail_to_renew(*args: Any, **kwargs: Any) -> None:
    raise OperationalError("gone")


def hang(*args: Any, **kwargs: Any) -> None:
    time.sleep(1.5)


@pytest.mark.parametrize("fail", [fail_to_renew, hang])
async def test_worker_that_cannot_renew_cancels_its_batches(
    harness: Harness, monkeypatch: pytest.MonkeyPatch, settings: Any, fail: Any
) -> None:
    monkeypatch.setattr(leases, "renew_leases", fail)
    settings.LEASE_S = 0.2
    consumer = harness.runtime.consumer
    await post_async(harness, "[[fault:hang-before-headers]] Why?")
    await wait_until(lambda: harness.server.calls)
    renewing = asyncio.create_task(consumer.leases.renew())
    await wait_until(lambda: consumer.running_batches == 0)
    renewing.cancel()
    await consumer.recorder.flush()
    assert consumer.recorder.open_chats == set()
    assert consumer.dispatcher.slots.running == 0
    chat = await Chat.objects.aget()
    assert chat.status in (Status.RUNNING, Status.QUEUED), "lease recovery will requeue it"


async def test_worker_that_can_renew_again_keeps_the_batches_that_it_claims_then(
    harness: Harness, monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    expired, renewed = asyncio.Event(), []

    def renew(chat_ids: list[int], **fields: Any) -> int:
        if not expired.is_set():
            raise OperationalError("gone")
        renewed.extend(chat_ids)
        return renew_leases(chat_ids, **fields)

    def handle_error(message: str, *args: Any, **kwargs: Any) -> None:
        if message.startswith("The leases expired"):
            settings.LEASE_S = 6.0
            expired.set()

    monkeypatch.setattr(leases, "renew_leases", renew)
    monkeypatch.setattr(leases.logger, "error", handle_error)
    settings.LEASE_S = 0.4
    renewing = asyncio.create_task(harness.runtime.consumer.leases.renew())
    async with asyncio.timeout(LIMIT_S):
        await expired.wait()
    use_gate(monkeypatch, lambda written: renewed)
    reply = await harness.ask("Why?")
    renewing.cancel()
    assert renewed
    assert reply.status_code == 200
    assert len(harness.server.calls) == 1
