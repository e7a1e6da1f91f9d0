"""A request that failed or was cancelled may be sent again, as a later generation of its row.

Late messages about the earlier generation must not reach the clients of the later one.
"""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from batching.engine.deltas import TextDelta
from batching.engine.items import QueuedItem
from batching.engine.lanes import Priority
from batching.engine.planner import Batch, Planner, Trigger
from batching.gateway import gateway
from batching.llm.simulated.answers import answer_prompt
from batching.messages import delta_message, finished_message, parse_deltas, parse_finished
from batching.store.cancellation import cancel_queued, expire_items
from batching.store.claiming import ClaimRequest, claim_batches
from batching.store.lane_rules import current_rules
from batching.store.responses import describe_error
from batching.tests.harness import LIMIT_S, Harness, wait_until
from chats.models import Chat, Status
from chats.tests.rows import NOON, make_chat

REFUSED = {"error": describe_error("blocked", "No.")}


async def wait_for_row(status: Status) -> Chat:
    async with asyncio.timeout(LIMIT_S):
        while not await Chat.objects.filter(status=status).aexists():  # noqa: ASYNC110
            await asyncio.sleep(0.005)
    return await Chat.objects.aget()


# --- ends ----------------------------------------------------------------------------------------


async def test_late_cancel_message_does_not_end_a_request_sent_again(harness: Harness) -> None:
    harness.hold()
    first = asyncio.create_task(harness.ask(request_id="r", priority="MEDIUM"))
    chat = await wait_for_row(Status.QUEUED)
    messages = await harness.runtime.database.run(cancel_queued, chat)
    again = asyncio.create_task(harness.ask(request_id="r", priority="MEDIUM"))
    await wait_until(lambda: len(harness.runtime.gateway.waiters) == 2)
    for channel, message in messages:
        await harness.runtime.send(channel, message)
    assert (await first).json()["code"] == "cancelled"
    await harness.release()
    assert (await again).json()["text"] == answer_prompt("Why?")
    assert harness.server.sizes == [1]


async def test_late_failure_message_does_not_end_a_request_sent_again(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[tuple[str, dict[str, Any]]] = []
    send = harness.runtime.layer.send

    async def hold_first(channel: str, message: dict[str, Any]) -> None:
        if message["type"] == "requests.finished" and not held:
            held.append((channel, message))
        else:
            await send(channel, message)

    monkeypatch.setattr(harness.runtime.layer, "send", hold_first)
    # Only the held message may answer the first request, not the look at overdue rows.
    monkeypatch.setattr(gateway, "OVERDUE_S", 3600.0)
    prompt = "[[fault:blocked:1]] Why?"
    first = asyncio.create_task(harness.ask(prompt, request_id="r"))
    await wait_until(lambda: held)
    again = asyncio.create_task(harness.ask(prompt, request_id="r"))
    await wait_until(lambda: len(harness.runtime.gateway.waiters) == 2)
    await send(*held[0])
    assert (await first).json()["code"] == "blocked"
    assert (await again).json()["text"] == answer_prompt(prompt)


async def test_client_that_leaves_late_cancels_no_request_sent_again(harness: Harness) -> None:
    harness.hold()
    first = asyncio.create_task(harness.ask(request_id="r", priority="MEDIUM"))
    chat = await wait_for_row(Status.QUEUED)
    await harness.runtime.database.run(cancel_queued, chat)
    again = asyncio.create_task(harness.ask(request_id="r", priority="MEDIUM"))
    await wait_until(lambda: len(harness.runtime.gateway.waiters) == 2)
    first.cancel()
    await harness.release()
    assert (await again).json()["text"] == answer_prompt("Why?")


@pytest.mark.django_db
def test_cancel_message_names_the_generation_that_it_ended() -> None:
    """The row was found before another client sent the request again through another process."""
    found = make_chat(Status.QUEUED, origin="p1")
    renewed = Chat.objects.get()
    renewed.received_at, renewed.origin = renewed.due_at, "p2"
    renewed.save()
    *_, (channel, message) = cancel_queued(found)
    ((_, outcome),) = parse_finished(message)
    assert (channel, outcome["generation"]) == ("p2", renewed.generation)


# --- what a planner still holds ------------------------------------------------------------------


@pytest.mark.django_db
def test_request_sent_again_replaces_its_earlier_item_in_the_planner() -> None:
    """The planner got no cancel message. The window of the other item still ends later."""
    planner = Planner(current_rules())
    stale = QueuedItem(1, Priority.MEDIUM, 100.0, 101.0, 132.0, 102.0, generation=1)
    mate = replace(stale, id=2, accepted=100.5, due=101.5, generation=1)
    renewed = replace(stale, accepted=100.9, due=101.9, deadline=132.9, generation=2)
    for item in (stale, mate, renewed, renewed):
        planner.push(item)
    assert planner.take(101.1, lambda _: True) is None
    batch = planner.take(101.5, lambda _: True)
    assert batch is not None
    assert batch.items == (renewed, mate)


@pytest.mark.django_db
def test_item_of_an_earlier_generation_expires_no_request_sent_again() -> None:
    chat = make_chat(Status.QUEUED)
    stale = QueuedItem(
        chat.pk, Priority(chat.priority), 100.0, 101.0, 132.0, 102.0, generation=chat.generation - 9
    )
    end = {"code": "timeout", "detail": "Too late."}
    assert expire_items([stale], **end) == []
    assert expire_items([replace(stale, generation=chat.generation)], **end) == [chat.pk]


@pytest.mark.django_db
def test_item_of_an_earlier_generation_is_not_claimed() -> None:
    """Its times are not those of the queued request, which the sweep finds."""
    chat, mate = make_chat(Status.QUEUED), make_chat(Status.QUEUED)
    stale = QueuedItem(
        chat.pk, Priority(chat.priority), 100.0, 101.0, 132.0, 102.0, generation=chat.generation - 9
    )
    items = (stale, replace(stale, id=mate.pk, generation=mate.generation))
    planned = Batch(stale.priority, items, Trigger.WINDOW, at=101.0, lateness_s=0.0)
    request = ClaimRequest(planned, current_rules()[stale.priority], "m")
    (claim,) = claim_batches([request], owner="w")
    assert claim.batch is not None
    assert [work.id for work in claim.batch.items] == [mate.pk]
    chat.refresh_from_db()
    assert chat.status == Status.QUEUED


# --- what names a generation ---


@pytest.mark.django_db
def test_generation_is_the_same_in_memory_in_the_row_and_in_messages() -> None:
    chat = make_chat(Status.QUEUED, received_at=NOON.replace(microsecond=123_457))
    generation = Chat.objects.get().generation
    assert generation == chat.generation
    ((_, outcome),) = parse_finished(finished_message({1: REFUSED | {"generation": generation}}))
    (piece,) = parse_deltas(delta_message([TextDelta(1, 7, 0, "text", generation=generation)]))
    assert (outcome["generation"], piece.generation) == (generation, generation)
