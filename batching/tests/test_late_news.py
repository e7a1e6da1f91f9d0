"""A request that failed or was cancelled and is sent again: what is told late is of its row's
earlier life and must not reach who waits for the later one."""

import asyncio
from typing import Any

import pytest

from batching import gateway
from batching.engine.errors import Blocked, Cancelled
from batching.engine.growth import Growth
from batching.engine.lanes import Priority
from batching.inbox import Inbox, Waiter
from batching.llm.simulated_answers import answer_prompt
from batching.messages import finished_message, growing_message, read_finished, read_growing
from batching.outcomes import describe_error
from batching.query_state import cancel_chat
from batching.tests.test_gateway import wait_until
from chats.models import Chat, Status
from chats.tests.rows import NOON, make_chat
from conftest import Harness

REFUSED = {"error": describe_error("blocked", "No.")}


async def wait_for_row(status: Status) -> Chat:
    async with asyncio.timeout(10):
        while not await Chat.objects.filter(status=status).aexists():  # noqa: ASYNC110
            await asyncio.sleep(0.005)
    return await Chat.objects.aget()


def make_waiter(*, life: int) -> Waiter:
    return Waiter(1, Priority.HIGH, due=0.0, life=life)


# --- ends ----------------------------------------------------------------------------------------


async def test_late_news_of_a_cancel_ends_no_request_sent_again(harness: Harness) -> None:
    first = asyncio.create_task(harness.ask(request_id="r", priority="MEDIUM"))
    chat = await wait_for_row(Status.QUEUED)
    messages = await harness.runtime.database.run(cancel_chat, chat)
    again = asyncio.create_task(harness.ask(request_id="r", priority="MEDIUM"))
    await wait_until(lambda: len(harness.runtime.gateway.inbox) == 2)
    for channel, message in messages:
        await harness.runtime.gateway.send(channel, message)
    assert (await first).json()["code"] == "cancelled"
    assert (await again).json()["text"] == answer_prompt("Why?")
    assert harness.server.sizes == [1]


async def test_late_news_of_a_failure_ends_no_request_sent_again(
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
    prompt = "[[fault:blocked:1]] Why?"
    first = asyncio.create_task(harness.ask(prompt, request_id="r"))
    await wait_until(lambda: held)
    again = asyncio.create_task(harness.ask(prompt, request_id="r"))
    await wait_until(lambda: len(harness.runtime.gateway.inbox) == 2)
    await send(*held[0])
    assert (await first).json()["code"] == "blocked"
    assert (await again).json()["text"] == answer_prompt(prompt)


@pytest.mark.django_db
def test_cancel_tells_of_the_life_that_it_ended() -> None:
    """It found the row before another client renewed it through another process."""
    found = make_chat(Status.QUEUED, origin="p1")
    renewed = Chat.objects.get()
    renewed.received_at, renewed.origin = renewed.due_at, "p2"
    renewed.save()
    *_, (channel, message) = cancel_chat(found)
    ((_, outcome),) = read_finished(message)
    assert (channel, outcome["life"]) == ("p2", renewed.life)


async def test_reading_the_row_again_ends_only_who_waited_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(gateway, "REREAD_INTERVAL_S", 0.001)
    reading, go_on = asyncio.Event(), asyncio.Event()

    class Database:
        async def run(self, *_: Any) -> dict[int, Any]:
            reading.set()
            await go_on.wait()
            return {1: REFUSED}

    database: Any = Database()
    door = gateway.Gateway(layer=None, database=database, process="p")
    earlier, later = make_waiter(life=1), make_waiter(life=2)
    door.inbox.add(earlier)
    task = asyncio.create_task(door.reread())
    await reading.wait()
    door.inbox.add(later)  # the row was renewed after it was read
    go_on.set()
    with pytest.raises(Blocked):
        await asyncio.wait_for(earlier.answer, 5)
    assert not later.answer.done()
    task.cancel()


async def test_end_of_another_life_is_left_to_the_row() -> None:
    """Its own news was lost: then what the row says now is the end."""
    inbox = Inbox()
    inbox.add(waiter := make_waiter(life=1))
    assert not inbox.deliver(1, REFUSED | {"life": 2})
    assert inbox.list_overdue(1.0) == [waiter]


# --- growing texts -------------------------------------------------------------------------------


async def test_text_of_an_earlier_life_reaches_no_reader_of_a_later_one() -> None:
    inbox = Inbox()
    inbox.add(earlier := make_waiter(life=1))
    inbox.grow(Growth(1, 7, 0, "old", life=1))
    inbox.add(later := make_waiter(life=2))
    assert inbox.find_growing(later) is None, "what was there when it came"
    inbox.deliver(1, REFUSED | {"life": 1})
    inbox.grow(Growth(1, 7, 3, " and late", life=1))
    assert inbox.find_growing(later) is None, "what came late"
    inbox.grow(Growth(1, 8, 0, "new", life=2))
    growing = inbox.find_growing(later)
    assert growing is not None
    assert growing.text == "new"
    assert inbox.find_growing(earlier) is None


# --- what names a life ---------------------------------------------------------------------------


@pytest.mark.django_db
def test_life_is_the_same_in_memory_in_the_row_and_in_messages() -> None:
    chat = make_chat(Status.QUEUED, received_at=NOON.replace(microsecond=123_457))
    life = Chat.objects.get().life
    assert life == chat.life
    ((_, outcome),) = read_finished(finished_message({1: REFUSED | {"life": life}}))
    (piece,) = read_growing(growing_message([Growth(1, 7, 0, "text", life=life)]))
    assert (outcome["life"], piece.life) == (life, life)


async def test_news_of_an_earlier_version_reaches_everybody() -> None:
    inbox = Inbox()
    waiters = [make_waiter(life=1), make_waiter(life=2)]
    for waiter in waiters:
        inbox.add(waiter)
    message = growing_message([Growth(1, 7, 0, "text")])
    del message["lives"]
    for piece in read_growing(message):
        inbox.grow(piece)
    assert all(inbox.find_growing(waiter) for waiter in waiters)
    assert inbox.deliver(1, {"error": describe_error("cancelled", "Gone.")}) == waiters
    for waiter in waiters:
        with pytest.raises(Cancelled):
            await waiter.answer
