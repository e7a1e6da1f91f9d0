"""Requests through SQLite, the channel layer, the SDK and a model server."""

import asyncio
import json

import pytest

from batching.engine.lanes import Priority
from batching.llm.simulated import answers
from batching.models import Batch, DailyStat, ModelCall
from batching.process.maintenance import ROLL_UP_INTERVAL_S
from batching.tests.harness import LIMIT_S, Harness, change, wait_until
from batching.tests.model_gate import use_gate
from chats.models import Chat, Status
from settings_app.models import Lane

answer_prompt = answers.answer_prompt


# --- batches -------------------------------------------------------------------------------------


async def test_single_request_is_answered_with_every_promised_field(harness: Harness) -> None:
    reply = await harness.ask("Why?", request_id="r-1", created_at="2026-01-02T03:04:05")
    document = reply.json()
    assert document["text"] == answer_prompt("Why?")
    chat = await Chat.objects.select_related("batch").aget()
    assert (chat.status, chat.text, chat.batch.trigger) == ("done", document["text"], "window")
    assert document["request_id"] == "r-1"
    assert document["username"] == "ann"
    assert document["created_at"] == "2026-01-02T03:04:05Z"
    assert document["batch_id"] == chat.batch_id
    assert document["batch_size"] == 1
    assert document["queue_ms"] >= 200
    assert document["latency_ms"] >= document["queue_ms"]
    assert document["tokens_used"] == document["usage"]["total_tokens"] == chat.tokens_used
    assert document["finish_reason"] == "STOP"
    assert document["completed_at"].endswith("Z")


async def test_thirteen_requests_make_three_calls(harness: Harness) -> None:
    prompts = [f"question {index}" for index in range(13)]
    replies = await harness.ask_all(prompts)
    assert [reply.json()["text"] for reply in replies] == [answer_prompt(p) for p in prompts]
    assert sorted(harness.server.sizes) == [1, 6, 6]
    sizes = [batch.size async for batch in Batch.objects.order_by("id")]
    assert sizes == [6, 6, 1]


async def test_priorities_never_share_a_call(harness: Harness) -> None:
    lanes = {"HIGH": 3, "MEDIUM": 3, "LOW": 2}
    harness.hold()
    tasks = [
        asyncio.create_task(harness.ask(f"{priority} {index}", priority=priority))
        for priority, count in lanes.items()
        for index in range(count)
    ]
    await harness.release(8)
    replies = await asyncio.gather(*tasks)
    assert {reply.status_code for reply in replies} == {200}
    found = {
        frozenset(prompt.split()[0] for prompt in call.prompts.values())
        for call in harness.server.calls
    }
    assert found == {frozenset({"HIGH"}), frozenset({"MEDIUM"}), frozenset({"LOW"})}
    assert sorted(harness.server.sizes) == [2, 3, 3]


async def test_order_of_acceptance_is_the_order_in_the_prompt(harness: Harness) -> None:
    prompts = [f"question {index}" for index in range(6)]
    await harness.ask_all(prompts)
    (call,) = harness.server.calls
    assert list(call.prompts.values()) == prompts


async def test_scope_username_keeps_users_apart(harness: Harness) -> None:
    await change(harness, high_priority={"batch_scope": "username"})
    harness.hold()
    tasks = [
        asyncio.create_task(harness.ask(f"{name} {i}", username=name))
        for name in ("ann", "bob")
        for i in range(2)
    ]
    await harness.release(4)
    await asyncio.gather(*tasks)
    for call in harness.server.calls:
        assert len({prompt.split()[0] for prompt in call.prompts.values()}) == 1
    assert harness.server.sizes == [2, 2]


async def test_full_lane_does_not_block_the_others(harness: Harness) -> None:
    await change(harness, low_priority={"max_queue": 1, "window_s": 20})
    low = asyncio.create_task(harness.ask("low", priority="LOW"))
    await wait_until(lambda: harness.runtime.gateway.counts.total(Priority.LOW) == 1)
    refused = await harness.ask("low", priority="LOW")
    assert (refused.status_code, refused.json()["code"]) == (503, "queue_full")
    assert refused.headers["Retry-After"] == "20"
    for priority in ("HIGH", "MEDIUM"):
        assert (await harness.ask("other", priority=priority)).status_code == 200
    await change(harness, low_priority={"max_batch": 1})  # it is full, and need not wait
    assert (await low).status_code == 200


async def test_queue_refuses_exactly_the_requests_beyond_its_limit(harness: Harness) -> None:
    await change(harness, medium_priority={"max_queue": 3, "max_batch": 100})
    replies = await harness.ask_all([f"q{i}" for i in range(5)], priority="MEDIUM")
    codes = sorted(reply.status_code for reply in replies)
    assert codes == [200, 200, 200, 503, 503]
    assert await Chat.objects.acount() == 3, "a refused request leaves no trace"
    assert harness.server.sizes == [3]
    assert harness.runtime.gateway.counts.total(Priority.MEDIUM) == 0


async def test_queue_depth_rises_and_falls_with_each_request(harness: Harness) -> None:
    gateway = harness.runtime.gateway
    harness.hold()
    tasks = [asyncio.create_task(harness.ask(f"q{i}", priority="MEDIUM")) for i in range(3)]
    await wait_until(lambda: gateway.counts.total(Priority.MEDIUM) == 3)
    assert gateway.counts.total(Priority.HIGH) == 0
    await harness.release(3)
    await asyncio.gather(*tasks)
    assert gateway.counts.total(Priority.MEDIUM) == 0
    assert len(gateway.waiters) == 0


async def test_flood_of_one_user_neither_keeps_another_out_nor_waiting(harness: Harness) -> None:
    """The queue of the lane is full of one user's requests when the other one sends."""
    await change(harness, high_priority={"max_queue": 60, "max_batch": 3})
    harness.hold()
    flood = [asyncio.create_task(harness.ask(f"flood {i}", username="flood")) for i in range(60)]
    await wait_until(lambda: harness.runtime.gateway.counts.total(Priority.HIGH) == 60)
    refused = await harness.ask("one too many", username="flood")
    assert (refused.status_code, refused.json()["code"]) == (503, "queue_full")
    quiet = asyncio.create_task(harness.ask("quiet", username="quiet"))
    await harness.release(61)
    assert (await quiet).status_code == 200
    assert {reply.status_code for reply in await asyncio.gather(*flood)} == {200}
    first = harness.server.calls[0].prompts.values()
    assert "quiet" in first, "it waits behind one request of the flood, not behind all"


# --- time ----------------------------------------------------------------------------------------


async def test_request_that_expires_in_the_queue_is_never_sent(harness: Harness) -> None:
    await harness.change_lane(Priority.LOW, window_s=20)
    reply = await harness.ask("too late", priority="LOW", timeout_s=2)
    assert (reply.status_code, reply.json()["code"]) == (504, "timeout")
    await harness.settle()
    chat = await Chat.objects.aget()
    assert (chat.status, chat.error_code) == (Status.EXPIRED, "timeout")
    assert chat.completed_at is not None
    assert harness.server.calls == []
    assert await ModelCall.objects.acount() == 0


async def test_request_expires_at_its_deadline_while_every_slot_is_busy(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = asyncio.Event()
    use_gate(monkeypatch, lambda written: ended.is_set())
    slots = harness.runtime.consumer.dispatcher.slots
    slots.total, slots.reserve = 1, 0
    slow = asyncio.create_task(harness.ask("first"))
    await wait_until(lambda: harness.server.calls)
    reply = await harness.ask("second", timeout_s=2)
    assert reply.status_code == 504
    assert not slow.done()
    ended.set()
    assert (await slow).status_code == 200
    await harness.settle()
    assert harness.server.sizes == [1]


async def test_timeout_of_the_client_only_shortens_the_wait(harness: Harness) -> None:
    lane = await Lane.objects.aget(priority=2)
    await harness.ask("long", timeout_s=80_000, request_id="long")
    await harness.ask("short", timeout_s=5, request_id="short")
    assert (await harness.ask("huge", timeout_s=1e300, request_id="huge")).status_code == 200
    waits = {
        chat.request_id: (chat.deadline - chat.received_at).total_seconds()
        async for chat in Chat.objects.all()
    }
    policy_s = lane.latency_ms / 1000 + 30
    assert waits == {"long": policy_s, "huge": policy_s, "short": 5}


async def test_answer_after_its_client_gave_up_is_stored_and_leaks_nothing(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = asyncio.Event()
    use_gate(monkeypatch, lambda written: gone.is_set())
    harness.hold()
    patient = asyncio.create_task(harness.ask("patient"))
    hasty = asyncio.create_task(harness.ask("hasty", timeout_s=4))
    await harness.release(2)
    assert (await hasty).status_code == 504
    gone.set()
    assert (await patient).status_code == 200
    await harness.settle()
    chats = {chat.prompt: chat async for chat in Chat.objects.all()}
    assert chats["hasty"].status == Status.DONE
    assert chats["hasty"].text == answer_prompt("hasty")
    assert len(harness.runtime.gateway.waiters) == 0


@pytest.mark.parametrize("how", ["times out", "leaves"])
async def test_call_of_a_client_that_is_gone_is_read_to_its_end(
    harness: Harness, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    use_gate(monkeypatch, lambda written: gone.is_set())
    gone = asyncio.Event()
    asking = asyncio.create_task(harness.ask("Why?", request_id="r", timeout_s=3))
    await wait_until(lambda: harness.server.calls)
    if how == "leaves":
        asking.cancel()
    await asyncio.wait([asking])
    assert asking.cancelled() or asking.result().status_code == 504
    await asyncio.sleep(3 if how == "leaves" else 0.5)  # past the client's own timeout
    gone.set()
    await harness.settle()
    chat = await Chat.objects.aget()
    assert (chat.status, chat.text) == (Status.DONE, answer_prompt("Why?"))
    again = await harness.ask("Why?", request_id="r")
    assert (again.status_code, again.json()["text"]) == (200, answer_prompt("Why?"))
    assert harness.server.sizes == [1]


# --- clients -------------------------------------------------------------------------------------


async def test_client_that_leaves_is_removed_and_its_batch_mates_are_answered(
    harness: Harness,
) -> None:
    harness.hold()
    leaving = asyncio.create_task(harness.ask("leaving", priority="LOW"))
    staying = asyncio.create_task(harness.ask("staying", priority="LOW"))
    await wait_until(lambda: len(harness.runtime.gateway.waiters) == 2)
    leaving.cancel()
    await wait_until(lambda: len(harness.runtime.gateway.waiters) == 1)
    await wait_until(lambda: harness.runtime.gateway.counts.total(Priority.LOW) == 1)
    await harness.release(1)
    assert (await staying).json()["text"] == answer_prompt("staying")
    assert len(harness.runtime.gateway.waiters) == 0


async def test_used_request_id_is_a_conflict_and_changes_nothing(harness: Harness) -> None:
    first = await harness.ask("one", request_id="same")
    second = await harness.ask("two", request_id="same")
    assert (second.status_code, second.json()["code"]) == (409, "request_conflict")
    assert await Chat.objects.acount() == 1
    assert (await harness.ask("two", request_id="same", username="bob")).status_code == 200
    assert first.json()["text"] == answer_prompt("one")


# --- what is stored ------------------------------------------------------------------------------


async def test_call_is_recorded_before_it_is_made(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_gate(monkeypatch, lambda written: seen)
    seen: list[tuple[str, int]] = []

    async def look() -> None:
        await wait_until(lambda: harness.server.calls)
        row = await ModelCall.objects.aget()
        seen.append((row.status, len(row.item_ids)))

    looking = asyncio.create_task(look())
    await harness.ask_all(["a", "b"])
    await looking
    assert seen == [("started", 2)]
    await harness.settle()
    row = await ModelCall.objects.aget()
    assert (row.status, row.kind, row.finish_reason) == ("complete", "combined", "STOP")
    assert json.loads(row.prompt.partition("\n\n")[2])
    assert json.loads(row.reply).keys() == set(harness.server.calls[0].keys)


async def test_settled_shares_add_up_to_the_usage_of_all_calls(harness: Harness) -> None:
    await harness.ask_all([f"q{i}" for i in range(5)] + ["[[fault:missing:1]] q5"])
    await harness.settle()
    calls = [call async for call in ModelCall.objects.all()]
    chats = [chat async for chat in Chat.objects.all()]
    assert len(calls) == 2
    for settled, column in (
        ("settled_prompt", "prompt_tokens"),
        ("settled_output", "output_tokens"),
        ("settled_thoughts", "thoughts_tokens"),
    ):
        total = sum(getattr(call, column) for call in calls)
        assert total > 0
        assert sum(getattr(chat, settled) for chat in chats) == total


async def test_batch_records_its_outcome(harness: Harness) -> None:
    await harness.ask_all(["good", "[[fault:blocked]] bad"])
    await harness.ask("[[fault:blocked]] bad")
    await harness.settle()
    outcomes = [batch.outcome async for batch in Batch.objects.order_by("id")]
    assert outcomes == ["partial", "failed"]
    batch = await Batch.objects.afirst()
    assert batch.settings["max_batch"] == 6
    assert batch.settings["latency_ms"] == 500


async def test_ended_requests_are_rolled_up_within_a_second(harness: Harness) -> None:
    await harness.ask_all([f"q{index}" for index in range(6)])
    counted = {"requests": 6, "answered": 6, "batches": 1, "model_calls": 1}
    async with asyncio.timeout(LIMIT_S):
        while not await DailyStat.objects.filter(**counted).aexists():  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    assert await DailyStat.objects.acount() == 1
    assert ROLL_UP_INTERVAL_S < 1
