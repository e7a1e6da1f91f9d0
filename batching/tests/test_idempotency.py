"""A request whose id is known joins the running request or gets the stored answer."""

import asyncio
from typing import Any

import pytest
from django.db import OperationalError

from batching.gateway import gateway as gateway_module
from batching.llm.simulated.answers import answer_prompt
from batching.models import Batch
from batching.process.runtime import Runtime, use_runtime
from batching.tests.harness import LIMIT_S, Harness, post_async, wait_until
from batching.tests.model_gate import use_gate
from chats.models import Chat, Status


def items_sent(harness: Harness) -> int:
    return sum(harness.server.sizes)


async def test_same_id_by_fifty_clients_at_once_costs_one_item(harness: Harness) -> None:
    replies = await asyncio.gather(
        *(harness.ask("Why?", request_id="same", priority="MEDIUM") for _ in range(50))
    )
    assert {reply.status_code for reply in replies} == {200}
    assert len({reply.text for reply in replies}) == 1
    assert replies[0].json()["text"] == answer_prompt("Why?")
    assert items_sent(harness) == 1
    assert await Chat.objects.acount() == 1


async def test_same_id_while_the_call_runs_joins_it(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_gate(monkeypatch, lambda written: len(harness.runtime.gateway.waiters) == 2)
    first = asyncio.create_task(harness.ask("Why?", request_id="same"))
    await wait_until(lambda: harness.server.calls)
    second = await harness.ask("Why?", request_id="same")
    assert second.json() == (await first).json()
    assert items_sent(harness) == 1


async def test_same_id_later_replays_the_stored_answer_unchanged(harness: Harness) -> None:
    first = await harness.ask("Why?", request_id="same")
    later = await harness.ask("Why?", request_id="same", created_at="2020-01-01T00:00:00")
    assert later.status_code == 200
    assert later.json() == first.json()
    assert items_sent(harness) == 1
    assert harness.runtime.gateway.counts.total(2) == 0


async def test_answer_is_replayed_after_a_restart(harness: Harness) -> None:
    first = await harness.ask("Why?", request_id="same")
    await harness.settle()
    again = Runtime()
    await again.start()
    use_runtime(again)
    try:
        later = await harness.ask("Why?", request_id="same")
    finally:
        await again.stop()
        use_runtime(harness.runtime)
    assert later.json() == first.json()
    assert items_sent(harness) == 1


async def test_other_prompt_or_priority_under_the_same_id_conflicts(harness: Harness) -> None:
    await harness.ask("Why?", request_id="same")
    for change in ({"prompt": "How?"}, {"priority": "LOW"}):
        reply = await harness.ask(**({"prompt": "Why?", "request_id": "same"} | change))
        assert (reply.status_code, reply.json()["code"]) == (409, "request_conflict")
    assert await Chat.objects.acount() == 1
    assert items_sent(harness) == 1


async def test_conflict_within_one_commit_group_keeps_the_first(harness: Harness) -> None:
    one, two = await asyncio.gather(
        harness.ask("one", request_id="same"), harness.ask("two", request_id="same")
    )
    assert sorted([one.status_code, two.status_code]) == [200, 409]


async def test_other_user_may_use_the_same_id(harness: Harness) -> None:
    await harness.ask("Why?", request_id="same")
    other = await harness.ask("How?", request_id="same", username="bob")
    assert other.json()["text"] == answer_prompt("How?")


async def test_failed_request_may_be_sent_again_under_its_id(harness: Harness) -> None:
    prompt = "[[fault:blocked:1]] Why?"
    assert (await harness.ask(prompt, request_id="same")).status_code == 502
    again = await harness.ask(prompt, request_id="same")
    assert again.json()["text"] == answer_prompt(prompt)
    chat = await Chat.objects.aget()
    assert (chat.status, chat.error_code) == (Status.DONE, "")


async def test_joined_clients_all_receive_a_failure(harness: Harness) -> None:
    replies = await asyncio.gather(
        *(harness.ask("[[fault:blocked]] x", request_id="same") for _ in range(3))
    )
    assert {reply.json()["code"] for reply in replies} == {"blocked"}


# --- asynchronous use ----------------------------------------------------------------------------


async def test_async_request_is_accepted_at_once_and_answered_later(harness: Harness) -> None:
    harness.hold()
    accepted = await post_async(harness, "Why?", request_id="a/b c")
    assert accepted.status_code == 202
    assert accepted.json() == {"request_id": "a/b c", "status": "queued"}
    assert accepted.headers["Location"] == "/v1/query/a%2Fb%20c"
    state = (await harness.client.get(accepted.headers["Location"])).json()
    assert (state["status"], state["position"], state["response"]) == ("queued", 1, None)
    assert state["estimate_s"] > 0
    await harness.release(1)
    await harness.settle()
    state = (await harness.client.get(accepted.headers["Location"])).json()
    assert (state["status"], state["position"], state["error"]) == ("done", None, None)
    assert state["response"]["text"] == answer_prompt("Why?")
    assert state["response"]["batch_size"] == 1
    assert harness.runtime.gateway.counts.total(2) == 0
    assert len(harness.runtime.gateway.waiters) == 0


async def test_async_request_has_its_own_deadline(harness: Harness, settings: Any) -> None:
    settings.ASYNC_DEADLINE_S = 1234
    await post_async(harness, "Why?")
    chat = await Chat.objects.aget()
    assert (chat.deadline - chat.received_at).total_seconds() == 1234


async def test_failed_request_shows_its_error(harness: Harness) -> None:
    await post_async(harness, "[[fault:blocked]] x", request_id="r")
    await harness.settle()
    state = (await harness.client.get("/v1/query/r")).json()
    assert (state["status"], state["response"]) == ("failed", None)
    assert state["error"]["code"] == "blocked"


async def test_unknown_and_ambiguous_ids_get_different_errors(harness: Harness) -> None:
    assert (await harness.client.get("/v1/query/none")).status_code == 404
    await post_async(harness, "x", request_id="r", username="ann")
    await post_async(harness, "x", request_id="r", username="bob")
    both = await harness.client.get("/v1/query/r")
    assert (both.status_code, both.json()["code"]) == (409, "ambiguous_request")
    one = await harness.client.get("/v1/query/r?username=bob")
    assert one.json()["username"] == "bob"
    assert (await harness.client.get("/v1/query/r?username=eve")).status_code == 404


# --- cancellation ---------------------------------------------------------------------------------


async def test_cancelled_request_is_not_sent_and_its_batch_mate_is_answered(
    harness: Harness,
) -> None:
    harness.hold()
    gone = asyncio.create_task(harness.ask("gone", request_id="gone", priority="MEDIUM"))
    mate = asyncio.create_task(harness.ask("mate", priority="MEDIUM"))
    await wait_until(lambda: len(harness.runtime.gateway.waiters) == 2)
    state = await harness.client.delete("/v1/query/gone")
    assert (state.status_code, state.json()["status"]) == (200, "cancelled")
    refused = await gone
    assert (refused.status_code, refused.json()["code"]) == (409, "cancelled")
    await harness.release(1)
    assert (await mate).status_code == 200
    assert [list(call.prompts.values()) for call in harness.server.calls] == [["mate"]]
    again = await harness.client.delete("/v1/query/gone")
    assert again.json()["status"] == "cancelled"


async def test_batch_whose_requests_are_all_cancelled_makes_no_call(harness: Harness) -> None:
    names = ["a", "b", "c"]
    harness.hold()
    for name in names:
        await post_async(harness, name, request_id=name, priority="MEDIUM")
    for name in names:
        assert (await harness.client.delete(f"/v1/query/{name}")).json()["status"] == "cancelled"
    await harness.release()
    await asyncio.sleep(1.2)  # past their window
    assert harness.server.calls == []
    assert not await Batch.objects.aexists()
    assert (await harness.ask("next")).status_code == 200


async def test_failed_request_cannot_be_cancelled_and_the_next_batch_works(
    harness: Harness,
) -> None:
    failed = await harness.ask("[[fault:blocked]] x", request_id="r")
    assert failed.status_code == 502
    late = await harness.client.delete("/v1/query/r")
    assert (late.status_code, late.json()["code"]) == (409, "already_dispatched")
    assert (await harness.client.get("/v1/query/r")).json()["status"] == "failed"
    assert (await harness.ask("next")).status_code == 200


async def test_request_in_flight_cannot_be_cancelled(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = asyncio.Event()
    use_gate(monkeypatch, may_begin=refused.is_set)
    running = asyncio.create_task(harness.ask("x", request_id="r"))
    await wait_until(lambda: harness.server.calls)
    late = await harness.client.delete("/v1/query/r")
    assert (late.status_code, late.json()["code"]) == (409, "already_dispatched")
    refused.set()
    assert (await running).status_code == 200
    assert (await harness.client.delete("/v1/query/r")).status_code == 409


async def test_request_whose_client_leaves_the_queue_is_cancelled(harness: Harness) -> None:
    harness.hold()
    tasks = [
        asyncio.create_task(harness.ask(f"q{index}", priority="MEDIUM", request_id=f"r{index}"))
        for index in range(2)
    ]
    await wait_until(lambda: len(harness.runtime.gateway.waiters) == 2)
    for task in tasks:
        task.cancel()
    await harness.settle()
    assert harness.server.calls == []
    statuses = {chat.status async for chat in Chat.objects.all()}
    assert statuses == {Status.CANCELLED}
    await wait_until(lambda: harness.runtime.gateway.counts.total(1) == 0)


async def test_request_whose_client_left_while_the_database_was_away_is_cancelled(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    release, failures = gateway_module.release_chats, []

    def release_later(*arguments: Any, **named: Any) -> Any:
        if not failures:
            failures.append(arguments)
            raise OperationalError("gone")
        return release(*arguments, **named)

    monkeypatch.setattr(gateway_module, "release_chats", release_later)
    harness.hold()
    asking = asyncio.create_task(harness.ask("gone", priority="MEDIUM"))
    await wait_until(lambda: len(harness.runtime.gateway.waiters) == 1)
    asking.cancel()
    await asyncio.wait_for(harness.settle(), LIMIT_S)
    assert (await Chat.objects.aget()).status == Status.CANCELLED
    assert len(failures) == 1


async def test_client_that_leaves_in_the_tick_of_its_commit_leaves_nothing_behind(
    harness: Harness, monkeypatch: Any
) -> None:
    group_commit = harness.runtime.gateway.group_commit
    settle = group_commit._settle

    def settle_and_leave(entry: Any, submission: Any) -> None:
        settle(entry, submission)
        task.cancel()

    monkeypatch.setattr(group_commit, "_settle", settle_and_leave)
    harness.hold()
    task = asyncio.create_task(harness.ask("gone", priority="MEDIUM"))
    await asyncio.wait([task])
    assert task.cancelled()
    assert len(harness.runtime.gateway.waiters) == 0
    await wait_until(lambda: harness.runtime.gateway.counts.total(1) == 0)
    await harness.settle()
    assert (await Chat.objects.aget()).status == Status.CANCELLED
    assert harness.server.calls == []


async def test_request_that_another_client_waits_for_is_not_cancelled(harness: Harness) -> None:
    harness.hold()
    first = asyncio.create_task(harness.ask("Why?", request_id="same", priority="MEDIUM"))
    await wait_until(lambda: len(harness.runtime.gateway.waiters) == 1)
    second = asyncio.create_task(harness.ask("Why?", request_id="same", priority="MEDIUM"))
    await wait_until(lambda: len(harness.runtime.gateway.waiters) == 2)
    first.cancel()
    await harness.release(1)
    assert (await second).json()["text"] == answer_prompt("Why?")


async def test_async_request_is_not_cancelled_if_a_joined_client_leaves(harness: Harness) -> None:
    harness.hold()
    await post_async(harness, "Why?", request_id="kept", priority="MEDIUM")
    joined = asyncio.create_task(harness.ask("Why?", request_id="kept", priority="MEDIUM"))
    await wait_until(lambda: len(harness.runtime.gateway.waiters) == 2)
    joined.cancel()
    await harness.release(1)
    await harness.settle()
    chat = await Chat.objects.aget()
    assert (chat.status, chat.text) == (Status.DONE, answer_prompt("Why?"))


async def test_answer_of_a_client_that_left_during_the_call_is_stored(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_gate(monkeypatch, lambda written: leaving.done())
    harness.hold()
    leaving = asyncio.create_task(harness.ask("leaving", request_id="gone"))
    mates = [asyncio.create_task(harness.ask(f"mate {index}")) for index in range(5)]
    await harness.release(6)
    await wait_until(lambda: harness.server.calls)
    leaving.cancel()
    assert {reply.status_code for reply in await asyncio.gather(*mates)} == {200}
    await harness.settle()
    state = (await harness.client.get("/v1/query/gone")).json()
    assert state["response"]["text"] == answer_prompt("leaving")


async def test_answer_whose_message_was_lost_is_read_from_the_row(
    harness: Harness, monkeypatch: Any
) -> None:
    waiters, lost = harness.runtime.process, []
    send = harness.runtime.layer.send

    async def drop_answers(channel: str, message: dict[str, Any]) -> None:
        if channel == waiters and message["type"] == "requests.finished":
            lost.append(message)
            return
        await send(channel, message)

    monkeypatch.setattr(harness.runtime.layer, "send", drop_answers)
    reply = await harness.ask("Why?")
    assert lost
    assert reply.json()["text"] == answer_prompt("Why?")
    assert reply.elapsed.total_seconds() < 25, "long before its deadline"
