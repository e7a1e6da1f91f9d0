"""A jump of the wall clock of a single process loses, repeats and delays no request."""

import asyncio
import threading
import time
from datetime import timedelta

import pytest
from django.db.models import F

from batching.llm.simulated.answers import answer_prompt
from batching.store import queue
from batching.tests.harness import Harness, post_async, wait_until
from batching.tests.model_gate import use_gate
from batching.worker import consumer
from chats.clock import CLOCK
from chats.models import Chat, Status

DAY_S = 86400.0
HOUR = timedelta(hours=1)

jumps = pytest.mark.parametrize("jump_s", [DAY_S, -DAY_S])


@pytest.fixture(autouse=True)
def _own_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CLOCK, "_offsets", ())


def move_wall_clock(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    monkeypatch.setattr(CLOCK, "_wall", lambda: time.time() + seconds)
    CLOCK.now()


@jumps
async def test_running_and_queued_requests_are_answered_once(
    harness: Harness, monkeypatch: pytest.MonkeyPatch, jump_s: float
) -> None:
    gate = threading.Event()
    use_gate(monkeypatch, lambda written: gate.is_set())
    running = asyncio.create_task(harness.ask("a"))
    await wait_until(lambda: harness.server.calls)
    harness.hold()
    queued = asyncio.create_task(harness.ask("b"))
    await wait_until(lambda: len(harness.runtime.consumer.dispatcher.planner))
    move_wall_clock(monkeypatch, jump_s)
    keeper = harness.runtime.consumer.leases
    await keeper._take_back(starting=True)  # as if the clock had not just jumped
    await keeper.renew_once()
    await harness.release()
    gate.set()
    for asking, prompt in ((running, "a"), (queued, "b")):
        answer = (await asking).json()
        assert answer["text"] == answer_prompt(prompt)
        assert answer["queue_ms"] < 60_000, "it is measured with the monotonic clock"
    assert harness.server.sizes == [1, 1]


@jumps
async def test_request_whose_announcement_was_lost_keeps_its_age(
    harness: Harness, monkeypatch: pytest.MonkeyPatch, jump_s: float
) -> None:
    """The sweep finds it after the jump."""
    planner = harness.runtime.consumer.dispatcher.planner
    harness.hold()
    asking = asyncio.create_task(harness.ask("a"))
    await wait_until(lambda: len(planner))
    [chat] = [chat async for chat in Chat.objects.all()]
    known = planner._items[chat.pk]
    planner.discard(chat.pk)
    move_wall_clock(monkeypatch, jump_s)
    await wait_until(lambda: len(planner))
    found = planner._items[chat.pk]
    assert (found.accepted, found.deadline) == pytest.approx(
        (known.accepted, known.deadline), abs=0.1
    )
    await harness.release()
    assert (await asking).status_code == 200


@jumps
async def test_request_expires_at_its_time(
    harness: Harness, monkeypatch: pytest.MonkeyPatch, jump_s: float
) -> None:
    harness.hold()
    await post_async(harness, "a", timeout_s=1)
    move_wall_clock(monkeypatch, jump_s)
    async with asyncio.timeout(30):
        while (await Chat.objects.aget()).status != Status.EXPIRED:  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def test_request_that_the_database_does_not_let_expire_is_tried_once_per_sweep(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The database's clock was set back: there the deadline is later than for the worker."""
    sweeps, tries = [], []
    list_ids = queue.list_queued_ids
    monkeypatch.setattr(queue, "list_queued_ids", lambda: sweeps.append(0) or list_ids())
    monkeypatch.setattr(consumer, "expire_items", lambda *_, **__: tries.append(0) or [])
    harness.hold()
    await post_async(harness, "a")
    past = {"received_at": F("received_at") - HOUR, "deadline": F("received_at") - HOUR / 2}
    await Chat.objects.aupdate(**past)
    worker = harness.runtime.consumer
    ids = [chat.pk async for chat in Chat.objects.all()]
    worker.dispatcher.planner.discard(ids[0])
    await worker._push_queued(ids)
    await wait_until(lambda: tries)
    before = len(sweeps)
    await wait_until(lambda: len(sweeps) >= before + 4)
    assert len(tries) <= len(sweeps) + 1
