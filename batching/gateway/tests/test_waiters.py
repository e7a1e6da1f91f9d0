"""A waiter receives only messages about its own request, and knows whether it is queued."""

import asyncio
from typing import Any

import pytest

from batching.engine.deltas import TextDelta
from batching.engine.errors import Blocked, GatewayError, ShuttingDown
from batching.engine.lanes import Priority
from batching.gateway import gateway
from batching.gateway.waiters import PartialText, Waiter, Waiters
from batching.store.responses import describe_error
from batching.tests.harness import LIMIT_S

REFUSED = {"error": describe_error("blocked", "No.")}


def add_waiter(waiters: Waiters, *, generation: int, chat_id: int = 1) -> Waiter:
    waiter = waiters.open(Priority.HIGH, due=0.0)
    waiters.add(waiter, chat_id=chat_id, generation=generation)
    return waiter


# --- the count of queued requests ----------------------------------------------------------------


async def test_request_counts_as_queued_from_before_its_commit_until_its_batch_leaves() -> None:
    waiters = Waiters()
    waiter = waiters.open(Priority.LOW, due=0.0)
    assert waiters.count_queued(Priority.LOW) == 1
    waiters.add(waiter, chat_id=1, generation=1)
    waiters.mark_dispatched([1, 1, 2])
    assert waiters.count_queued(Priority.LOW) == 0
    waiters.deliver(1, {"answer": {"text": "yes"}})
    waiters.remove(waiter)
    assert waiters.count_queued(Priority.LOW) == 0
    assert waiter.answer.result() == {"text": "yes"}


@pytest.mark.parametrize(
    "end",
    [
        lambda waiters, waiter: waiters.remove(waiter),
        lambda waiters, waiter: waiters.leave_queue(waiter),
        lambda waiters, waiter: waiters.deliver(1, REFUSED),
        lambda waiters, waiter: waiters.deliver_to(waiter, REFUSED),
        lambda waiters, waiter: waiters.refuse_all(ShuttingDown()),
    ],
)
async def test_every_end_of_a_wait_leaves_the_queue_once(end: Any) -> None:
    waiters = Waiters()
    waiter = add_waiter(waiters, generation=1)
    add_waiter(waiters, generation=1, chat_id=2)
    end(waiters, waiter)
    waiters.remove(waiter)
    assert waiters.count_queued(Priority.HIGH) == len(waiters)


async def test_refused_waiters_get_the_error_and_an_answered_one_keeps_its_answer() -> None:
    waiters = Waiters()
    waiting, answered = (add_waiter(waiters, generation=n) for n in (1, 2))
    answered.answer.set_result({"text": "yes"})
    waiters.refuse_all(ShuttingDown())
    assert isinstance(waiting.answer.exception(), GatewayError)
    assert answered.answer.result() == {"text": "yes"}
    assert len(waiters) == 0


# --- generations ---------------------------------------------------------------------------------


async def test_reading_a_row_ends_only_waits_that_began_before_the_read(
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
    taker = gateway.Gateway(layer=None, send=None, database=database, process="p")
    earlier = add_waiter(taker.waiters, generation=1)
    task = asyncio.create_task(taker.reread())
    await reading.wait()
    later = add_waiter(taker.waiters, generation=2)  # the request was sent again after the read
    go_on.set()
    with pytest.raises(Blocked):
        await asyncio.wait_for(earlier.answer, LIMIT_S)
    assert not later.answer.done()
    task.cancel()


async def test_error_of_another_generation_ends_no_wait_and_the_row_is_read_instead() -> None:
    waiters = Waiters()
    waiter = add_waiter(waiters, generation=1)
    waiters.deliver(1, REFUSED | {"generation": 2})
    assert not waiter.answer.done()
    assert waiters.list_overdue(1.0) == [waiter]


async def test_answer_without_a_generation_reaches_every_waiter() -> None:
    waiters = Waiters()
    both = [add_waiter(waiters, generation=n) for n in (1, 2)]
    waiters.deliver(1, {"answer": {"text": "yes"}})
    assert [waiter.answer.result() for waiter in both] == [{"text": "yes"}] * 2
    assert len(waiters) == 0


async def test_text_of_an_earlier_generation_reaches_no_client_of_a_later_one() -> None:
    waiters = Waiters()
    earlier = add_waiter(waiters, generation=1)
    waiters.add_delta(TextDelta(1, 7, 0, "old", generation=1))
    later = add_waiter(waiters, generation=2)
    assert waiters.find_partial_text(later) is None, "what was there when it came"
    waiters.deliver(1, REFUSED | {"generation": 1})
    waiters.add_delta(TextDelta(1, 7, 3, " and late", generation=1))
    assert waiters.find_partial_text(later) is None, "what came late"
    waiters.add_delta(TextDelta(1, 8, 0, "new", generation=2))
    partial = waiters.find_partial_text(later)
    assert partial is not None
    assert partial.text == "new"
    assert waiters.find_partial_text(earlier) is None


# --- partial texts -------------------------------------------------------------------------------


def test_deltas_are_appended_only_where_they_continue_the_text() -> None:
    partial = PartialText(7)
    partial.add(0, "ab")
    partial.add(4, "ef")
    assert partial.text == "ab", "nothing continues the text after a lost delta"
    partial.add(1, "bcd")
    partial.add(0, "a")
    assert partial.text == "abcd"


async def test_deltas_of_an_earlier_call_and_of_no_waiter_are_ignored() -> None:
    waiters = Waiters()
    waiter = add_waiter(waiters, generation=1)
    waiters.add_delta(TextDelta(1, 8, 0, "new"))
    waiters.add_delta(TextDelta(1, 7, 0, "old and longer"))
    waiters.add_delta(TextDelta(2, 8, 0, "nobody's"))
    partial = waiters.find_partial_text(waiter)
    assert partial is not None
    assert partial.text == "new"
    assert list(waiters._partial_texts) == [1]


async def test_ten_thousand_late_answers_use_no_memory() -> None:
    waiters = Waiters()
    for chat_id in range(10_000):
        waiters.deliver(chat_id, {"answer": {"text": "late"}})
    assert waiters._waiters == waiters._partial_texts == {}
