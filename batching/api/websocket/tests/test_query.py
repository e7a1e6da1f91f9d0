"""WS /ws/query: answers, cancels, positions in the queue, and access."""

import asyncio
import json
from contextlib import AsyncExitStack
from typing import Any

import pytest

from batching.api.websocket import query
from batching.engine.lanes import Priority
from batching.gateway import gateway as gateway_module
from batching.llm.simulated.answers import answer_prompt
from batching.store.cancellation import cancel_queued, cancel_request
from batching.store.queue import find_request
from batching.tests.event_streams import join_text
from batching.tests.harness import LIMIT_S, Harness, change, wait_until
from batching.tests.model_gate import TextEventCounter, use_gate
from batching.tests.sockets import SocketClient, connected
from chats.models import Chat
from settings_app.access.tests.rows import create_api_key_async

PATH = "/ws/query"


async def ask(client: SocketClient, prompt: str, **fields: Any) -> None:
    frame = {"type": "query", "username": "ann", "prompt": prompt, "priority": "HIGH"} | fields
    await client.send(json.dumps(frame))


async def cancel(client: SocketClient, request_id: Any, **fields: Any) -> None:
    await client.send(json.dumps({"type": "cancel", "request_id": request_id} | fields))


async def receive_frame(client: SocketClient, kind: str) -> dict[str, Any]:
    """The next frame of the type."""
    while (frame := await client.receive())["type"] != kind:
        assert "closed" not in frame
    return frame


async def hear_all(client: SocketClient, count: int) -> list[dict[str, Any]]:
    """Every frame until so many queries have ended."""
    frames = []
    while count:
        frames.append(await client.receive())
        count -= frames[-1]["type"] in ("done", "error")
    return frames


async def test_answer_equals_that_of_the_post_and_follows_its_events(harness: Harness) -> None:
    async with connected(PATH) as client:
        await ask(client, "Why?", request_id="r-1", ref="a")
        frames = await hear_all(client, 1)
    replay = (await harness.ask("Why?", request_id="r-1")).json()
    assert [frame["type"] for frame in frames] == ["accepted", "dispatched", "done"]
    assert frames[-1] == {"type": "done", "ref": "a"} | replay
    assert frames[0]["position"] == 1
    assert {frame["ref"] for frame in frames} == {"a"}


async def test_many_queries_of_one_socket_share_batches(harness: Harness) -> None:
    harness.hold()
    async with connected(PATH) as client:
        for index in range(12):
            await ask(client, f"question {index}", ref=str(index))
        await harness.release(12)
        frames = await hear_all(client, 12)
    answers = {frame["ref"]: frame["text"] for frame in frames if frame["type"] == "done"}
    assert answers == {str(index): answer_prompt(f"question {index}") for index in range(12)}
    assert harness.server.sizes == [6, 6]


async def test_no_answer_waits_for_another(harness: Harness) -> None:
    await harness.change_lane(Priority.LOW, window_s=20)
    async with connected(PATH) as client:
        await ask(client, "slow", priority="LOW", ref="slow")
        await ask(client, "quick", ref="quick")
        assert (await receive_frame(client, "done"))["ref"] == "quick"


async def test_text_is_streamed_only_for_queries_that_ask_for_it(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    text_events = TextEventCounter(monkeypatch)
    use_gate(monkeypatch, lambda written: written == 4 or text_events.total >= written)
    harness.hold()
    async with connected(PATH) as client:
        await ask(client, "[[words:300]]", ref="grows", stream=True)
        await ask(client, "Why?", ref="whole")
        await harness.release(2)
        frames = await hear_all(client, 2)
    streamed = [frame for frame in frames if frame["ref"] == "grows"]
    assert len([frame for frame in streamed if frame["type"] == "text"]) > 2
    assert join_text(streamed) == answer_prompt("[[words:300]]")
    assert "text" not in streamed[-1]
    assert not [f for f in frames if f["ref"] == "whole" and f["type"] == "text"]


async def test_cancel_cancels_only_queued_requests(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = asyncio.Event()
    use_gate(monkeypatch, lambda written: refused.is_set())
    await harness.change_lane(Priority.LOW, window_s=20)
    async with connected(PATH) as client:
        await ask(client, "Why?", request_id="waits", priority="LOW")
        await receive_frame(client, "accepted")
        await cancel(client, "waits", ref="c")
        frames = [await client.receive(), await client.receive()]
        kinds = {frame["type"]: frame for frame in frames}
        assert kinds["cancel"] == {
            "type": "cancel",
            "request_id": "waits",
            "ref": "c",
            "status": "cancelled",
        }
        assert (kinds["error"]["code"], kinds["error"]["request_id"]) == ("cancelled", "waits")
        await ask(client, "Why?", request_id="runs")
        await receive_frame(client, "dispatched")
        await cancel(client, "runs")
        assert (await receive_frame(client, "cancel"))["code"] == "already_dispatched"
        refused.set()
        await receive_frame(client, "done")
        await cancel(client, "nowhere")
        assert (await receive_frame(client, "cancel"))["code"] == "not_found"
    assert sum(harness.server.sizes) == 1


async def test_cancels_run_one_by_one_per_socket_and_two_at_once_in_all(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_work, most = 0, {1: 0, 5: 0}
    run = harness.runtime.database.run

    async def count(function: Any, *args: Any, **kwargs: Any) -> Any:
        nonlocal at_work
        cancelling = function in (find_request, cancel_queued, cancel_request)
        at_work += cancelling
        most[sockets] = max(most[sockets], at_work)
        try:
            return await run(function, *args, **kwargs)
        finally:
            at_work -= cancelling

    monkeypatch.setattr(harness.runtime.database, "run", count)
    for sockets in most:
        async with AsyncExitStack() as stack:
            clients = [await stack.enter_async_context(connected(PATH)) for _ in range(sockets)]
            for client in clients:
                for index in range(40):
                    await cancel(client, "nowhere", ref=str(index))
            assert (await harness.ask("Why?")).status_code == 200
            for client in clients:
                refs = [(await receive_frame(client, "cancel"))["ref"] for _ in range(40)]
                assert refs == [str(index) for index in range(40)]
    assert most == {1: 1, 5: 2}


async def test_query_behind_many_cancels_of_its_own_socket_is_answered(harness: Harness) -> None:
    async with connected(PATH) as client:
        for _ in range(100):
            await cancel(client, "nowhere")
        await ask(client, "Why?")
        assert (await receive_frame(client, "done"))["text"] == answer_prompt("Why?")


async def test_position_in_the_queue_moves_up(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gateway_module, "POSITION_INTERVAL_S", 0.02)
    harness.runtime.supervisor.start("locate again", harness.runtime.gateway.locate)
    await change(harness, low_priority={"max_batch": 50, "window_s": 20})
    async with connected(PATH) as client:
        for index in range(3):
            await ask(client, f"{index}", request_id=f"r-{index}", priority="LOW")
            assert (await receive_frame(client, "accepted"))["position"] == index + 1
        await cancel(client, "r-0")
        moved = [await receive_frame(client, "position") for _ in range(2)]
    assert {(f["request_id"], f["position"]) for f in moved} == {("r-1", 1), ("r-2", 2)}


async def test_disconnect_cancels_the_queued_queries_of_the_socket(harness: Harness) -> None:
    await harness.change_lane(Priority.LOW, window_s=20)
    async with connected(PATH) as client:
        await ask(client, "Why?", priority="LOW")
        await receive_frame(client, "accepted")
    await harness.settle()
    assert (await Chat.objects.aget()).status == "cancelled"
    assert harness.server.sizes == []


@pytest.mark.parametrize(
    ("frame", "field"),
    [
        ({}, "type"),
        ({"type": "shout"}, "type"),
        ({"type": ["query"]}, "type"),
        ({"type": "query", "username": "ann"}, "prompt"),
        ({"type": "query", "username": "ann", "prompt": 5}, "prompt"),
        ({"type": "query", "username": "ann", "prompt": "a", "ref": 5}, "ref"),
        ({"type": "query", "username": "ann", "prompt": "a", "ref": "x" * 201}, "ref"),
        ({"type": "query", "username": "ann", "prompt": "a", "stream": "yes"}, "stream"),
        ({"type": "query", "username": "ann", "prompt": "a", "priority": []}, "priority"),
        ({"type": "cancel"}, "request_id"),
        ({"type": "cancel", "request_id": {}}, "request_id"),
        ({"type": "cancel", "request_id": "a", "username": 1}, "username"),
    ],
)
async def test_invalid_frame_gets_an_error_and_stores_nothing(
    harness: Harness, frame: dict[str, Any], field: str
) -> None:
    async with connected(PATH) as client:
        await client.send(json.dumps(frame))
        error = await client.receive()
        assert (error["type"], error["code"]) == ("error", "invalid")
        assert list(error["errors"]) == [field]
        await ask(client, "Why?")
        assert (await receive_frame(client, "done"))["text"] == answer_prompt("Why?")


async def test_twenty_refused_frames_in_a_row_close_the_socket(harness: Harness) -> None:
    refused = ["[]", "{}", '{"type": "cancel"}', '{"type": "query", "username": "ann"}'] * 5
    async with connected(PATH) as client:
        for frame in [*refused[:19], '{"type": "cancel", "request_id": "nowhere"}', *refused]:
            await client.send(frame)
        kinds = [(await client.receive())["type"] for _ in range(40)]
        assert kinds == ["error"] * 19 + ["cancel"] + ["error"] * 20
        assert (await client.receive())["closed"] == 1008


async def test_other_tasks_run_between_the_frames_of_a_burst(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(query, "MAX_OPEN", 0)  # each frame is answered without a wait
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async with connected(PATH) as client:
        for _ in range(200):
            await ask(client, "Why?")
        counting = asyncio.create_task(count())
        for _ in range(200):
            await receive_frame(client, "error")
        counting.cancel()
    assert turns >= 200


async def test_hostile_texts_affect_no_other_query(harness: Harness) -> None:
    async with connected(PATH) as client:
        await client.send(r'{"type": "query", "username": "ann", "prompt": "a", "ref": "\ud800"}')
        await client.send(r'{"type": "cancel", "request_id": "a\u0000b"}')
        kinds = {(await client.receive())["type"] for _ in range(2)}
        assert kinds <= {"error", "accepted", "cancel"}
        await ask(client, "Why?", ref="b")
        while (frame := await receive_frame(client, "done")).get("ref") != "b":
            pass
        assert frame["text"] == answer_prompt("Why?")


async def test_number_of_open_queries_of_a_socket_is_limited(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(query, "MAX_OPEN", 2)
    await harness.change_lane(Priority.LOW, window_s=20)
    async with connected(PATH) as client:
        for index in range(3):
            await ask(client, "Why?", ref=str(index), priority="LOW")
        refused = await receive_frame(client, "error")
    assert (refused["code"], refused["ref"]) == ("queue_full", "2")
    assert refused["retry_after_s"] >= 1


async def test_each_key_sees_and_cancels_only_its_own_requests(
    harness: Harness, settings: Any
) -> None:
    settings.API_ACCESS = "key"
    _, ann = await create_api_key_async(name="ann")
    _, bob = await create_api_key_async(name="bob", requests_per_minute=1)
    async with (
        connected(PATH, offer=("bearer", ann)) as first,
        connected(PATH, offer=("bearer", bob)) as second,
    ):
        await ask(first, "Why?", request_id="r-1", priority="LOW")
        await receive_frame(first, "accepted")
        await cancel(second, "r-1")
        assert (await second.receive())["code"] == "not_found"
        await ask(second, "Why?", request_id="r-2")
        await receive_frame(second, "accepted")
        await ask(second, "Why?", request_id="r-3")
        refused = await receive_frame(second, "error")
        assert (refused["code"], refused["request_id"]) == ("rate_limited", "r-3")
        await receive_frame(first, "done")
    clients = {c.request_id: c.client_id async for c in Chat.objects.all()}
    assert len(set(clients.values())) == 2


async def test_drain_answers_open_queries_and_then_closes(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_gate(monkeypatch, lambda written: harness.runtime.gateway.draining)
    async with connected(PATH) as client:
        await ask(client, "Why?")
        await receive_frame(client, "dispatched")
        draining = asyncio.create_task(harness.runtime.drain(seconds=LIMIT_S))
        assert (await receive_frame(client, "done"))["text"] == answer_prompt("Why?")
        assert (await client.receive())["closed"] == 1001
        await draining
    await wait_until(lambda: len(harness.runtime.sockets) == 0)
