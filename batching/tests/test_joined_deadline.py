"""A client that joins a queued request may wait longer than the client that sent it first."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from batching.engine.items import QueuedItem
from batching.engine.lanes import LaneRule, Priority
from batching.engine.planner import Batch, Trigger
from batching.llm.simulated.answers import answer_prompt
from batching.store.cancellation import expire_items
from batching.store.claiming import ClaimRequest, claim_batches
from batching.store.lane_rules import current_rules
from batching.tests.harness import ASYNC, Harness, wait_until
from batching.tests.model_gate import use_gate
from batching.worker import consumer
from chats.models import Chat, Status
from chats.tests.rows import make_chat

PROMPT = "[[words:50]]"


async def test_call_continues_for_a_client_that_joined_in_the_queue(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first client times out while the call runs."""
    use_gate(monkeypatch, lambda written: first.done())
    harness.hold()
    fields = {"prompt": PROMPT, "request_id": "r", "priority": "MEDIUM"}
    first = asyncio.create_task(harness.ask(**fields, timeout_s=3))
    await wait_until(lambda: len(harness.runtime.gateway.waiters) == 1)
    joined = asyncio.create_task(harness.ask(**fields))
    kept = await harness.client.post("/v1/query", json=fields | {"username": "ann"}, headers=ASYNC)
    assert kept.status_code == 202
    await harness.release(1)
    assert (await joined).json()["text"] == answer_prompt(PROMPT)
    assert (await first).json()["code"] == "timeout"
    assert (await Chat.objects.aget()).status == Status.DONE
    assert harness.server.sizes == [1]


async def test_client_that_joined_before_the_first_timed_out_is_answered(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second client's own timeout is short, too."""
    await harness.change_lane(Priority.MEDIUM, window_s=3.5)
    monkeypatch.setattr(consumer, "SWEEP_INTERVAL_S", 3600.0)  # it takes two sweeps to find it
    fields = {"request_id": "r", "priority": "MEDIUM"}
    first = asyncio.create_task(harness.ask(**fields, timeout_s=3))
    await wait_until(lambda: len(harness.runtime.gateway.waiters) == 1)
    joined = await harness.ask(**fields, timeout_s=20)
    assert (await first).json()["code"] == "timeout"
    assert joined.json()["text"] == answer_prompt("Why?")
    assert harness.server.sizes == [1]


# --- the planner's time and the row's -------------------------------------------------------------


def make_item(chat: Chat, **changes: float) -> QueuedItem:
    """The planner's item of the chat, accepted at 100 on the planner's clock."""
    wait_s = (chat.deadline - chat.received_at).total_seconds()
    lane, deadline = Priority(chat.priority), 100.0 + wait_s
    item = QueuedItem(chat.pk, lane, 100.0, 101.0, deadline, 102.0, generation=chat.generation)
    return replace(item, **changes)


def claim_deadline(item: QueuedItem) -> float:
    rule: LaneRule = current_rules()[item.priority]
    planned = Batch(item.priority, (item,), Trigger.WINDOW, at=101.0, lateness_s=0.0)
    (claim,) = claim_batches([ClaimRequest(planned, rule, "m")], owner="w")
    assert claim.batch is not None
    return claim.batch.items[0].deadline


@pytest.mark.django_db
def test_claim_takes_the_rows_deadline_on_the_planners_clock() -> None:
    chat = make_chat(Status.QUEUED)
    item = make_item(chat)
    chat.deadline += timedelta(seconds=3600)
    chat.save()
    assert claim_deadline(item) == pytest.approx(item.deadline + 3600)


@pytest.mark.django_db
def test_claim_never_shortens_the_planners_deadline() -> None:
    item = make_item(make_chat(Status.QUEUED), deadline=500.0)
    assert claim_deadline(item) == 500.0


@pytest.mark.django_db
@pytest.mark.parametrize("moved_s", [0.5, 4.0, 3600.0])
def test_item_does_not_expire_while_a_joined_client_waits(moved_s: float) -> None:
    chat, other = make_chat(Status.QUEUED), make_chat(Status.QUEUED)
    items = [make_item(chat), make_item(other)]
    chat.deadline += timedelta(seconds=moved_s)
    chat.save()
    expire_items(items, code="timeout", detail="Too late.")
    chat.refresh_from_db()
    other.refresh_from_db()
    assert (chat.status, other.status) == (Status.QUEUED, Status.EXPIRED)
