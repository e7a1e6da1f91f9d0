"""POST /v1/query with `Accept: text/event-stream` through all parts, with a slow model."""

import asyncio
from typing import Any

import pytest

from batching.engine.lanes import Priority
from batching.gateway.admission import Query
from batching.gateway.events import SentText
from batching.llm.simulated.answers import answer_prompt
from batching.llm.simulated.faults import Script
from batching.llm.simulated.wire import Pace
from batching.tests.event_streams import EVENTS, join_text, parse_frames
from batching.tests.faults.catalogue import find_fault
from batching.tests.harness import Harness, change, wait_until
from batching.tests.model_gate import TextEventCounter, use_gate
from chats.models import Chat


async def stream(harness: Harness, prompt: str, **fields: Any) -> list[dict[str, Any]]:
    body = {"username": "ann", "prompt": prompt, "priority": "HIGH"} | fields
    reply = await harness.client.post("/v1/query", json=body, headers=EVENTS)
    assert reply.status_code == 200, reply.text
    assert reply.headers["content-type"] == "text/event-stream"
    return parse_frames(reply.text)


async def stream_all(harness: Harness, prompts: list[str]) -> list[list[dict[str, Any]]]:
    """The prompts share a batch if they fit into one."""
    harness.hold()
    tasks = [asyncio.create_task(stream(harness, prompt)) for prompt in prompts]
    await harness.release(len(prompts))
    return await asyncio.gather(*tasks)


def streamed(prompt: str) -> Query:
    return Query("ann", prompt, Priority.HIGH, streamed=True)


def slow_down(harness: Harness, *, seconds: float) -> None:
    harness.server.responder.pace = Pace(total_s=seconds)


# --- what a client reads -------------------------------------------------------------------------


async def test_every_client_of_a_batch_receives_its_own_text(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    text_events = TextEventCounter(monkeypatch)
    use_gate(monkeypatch, lambda written: text_events.total > written)
    prompts = [f"question {index} [[words:300]]" for index in range(6)]
    all_events = await stream_all(harness, prompts)
    assert harness.server.sizes == [6]
    for prompt, events in zip(prompts, all_events, strict=True):
        assert [event["type"] for event in events[:-1]].count("text") == len(events) - 1
        assert join_text(events) == answer_prompt(prompt)
    assert sum(map(len, all_events)) > 2 * 6, "text arrived while the model wrote it"


async def test_done_event_has_every_field_of_the_plain_answer_but_the_text(
    harness: Harness,
) -> None:
    events = await stream(harness, "Why?", request_id="r-1")
    replay = (await harness.ask("Why?", request_id="r-1")).json()
    assert join_text(events) == replay.pop("text")
    assert events[-1] == {"type": "done"} | replay


async def test_text_arrives_before_the_answer_is_complete(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = asyncio.Event()
    use_gate(monkeypatch, lambda written: seen.is_set())
    events = harness.runtime.gateway.stream(streamed("[[words:200]]"))
    assert (await anext(events))["type"] == "accepted"
    assert (await anext(events)) == {"type": "dispatched"}
    first = await anext(events)
    assert first["type"] == "text"
    chat = await Chat.objects.aget()
    assert (chat.status, chat.text) == ("running", None)
    seen.set()
    rest = [event async for event in events]
    assert join_text([first, *rest]) == answer_prompt("[[words:200]]")


async def test_stored_answer_is_replayed_in_one_piece(harness: Harness) -> None:
    text = (await harness.ask("Why?", request_id="r-1")).json()["text"]
    events = await stream(harness, "Why?", request_id="r-1")
    assert [event["type"] for event in events] == ["text", "done"]
    assert events[0]["content"] == text
    assert len(harness.server.sizes) == 1


async def test_client_that_joins_during_the_call_receives_the_text_from_its_start(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    text_events = TextEventCounter(monkeypatch)
    use_gate(monkeypatch, lambda written: written == 4 or text_events.count_least(2) >= written)
    prompt = "[[words:300]]"
    first = asyncio.create_task(stream(harness, prompt, request_id="r-1"))
    await wait_until(lambda: len(harness.runtime.gateway.waiters._partial_texts) == 1)
    joined = await stream(harness, prompt, request_id="r-1")
    assert join_text(joined) == join_text(await first) == answer_prompt(prompt)
    assert len([event for event in joined if event["type"] == "text"]) > 2
    assert harness.server.sizes == [1]


async def test_stream_that_joins_a_plain_request_receives_partial_text(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    text_events = TextEventCounter(monkeypatch)
    use_gate(monkeypatch, lambda written: written == 4 or text_events.total >= written)
    prompt = "[[words:300]]"
    harness.hold()
    plain = asyncio.create_task(harness.ask(prompt, request_id="r-1", priority="MEDIUM"))
    await wait_until(lambda: len(harness.runtime.gateway.waiters) == 1)
    streaming = asyncio.create_task(stream(harness, prompt, request_id="r-1", priority="MEDIUM"))
    await wait_until(lambda: len(harness.runtime.gateway.waiters) == 2)
    await harness.release(1)
    events = await streaming
    assert len(events) > 3
    assert join_text(events) == (await plain).json()["text"]


async def test_lane_that_holds_answers_sends_the_text_in_one_event(harness: Harness) -> None:
    await change(harness, high_priority={"hold_until_checked": True})
    slow_down(harness, seconds=0.3)
    both = await stream_all(harness, ["[[words:90]]", "Why?"])
    assert [[event["type"] for event in events] for events in both] == [["text", "done"]] * 2


# --- errors --------------------------------------------------------------------------------------


class Faulty:
    """The named fault affects the first call."""

    name = ""
    calls = 0

    def __call__(self, call: Any) -> Any:
        self.calls += 1
        return find_fault(self.name) if self.name and self.calls <= 1 else None


@pytest.fixture
def script() -> Script:
    return Faulty()


@pytest.mark.parametrize("fault", ["reset", "early-close"])
async def test_retry_sends_a_restart_event(
    harness: Harness, script: Faulty, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    text_events = TextEventCounter(monkeypatch)
    use_gate(monkeypatch, lambda written: written < 4 or text_events.total)
    script.name = fault
    prompts = [f"{index} [[words:300]]" for index in range(3)]
    all_events = await stream_all(harness, prompts)
    assert script.calls > 1
    for prompt, events in zip(prompts, all_events, strict=True):
        assert events[-1]["type"] == "done"
        assert join_text(events) == answer_prompt(prompt)
    restarts = [event for events in all_events for event in events if event["type"] == "restart"]
    assert len(restarts) >= 1


async def test_refusal_keeps_its_status_and_its_form(harness: Harness) -> None:
    body = {"username": "ann", "prompt": ""}
    reply = await harness.client.post("/v1/query", json=body, headers=EVENTS)
    assert (reply.status_code, reply.json()["code"]) == (400, "invalid")
    await stream(harness, "Why?", request_id="r-1")
    body = {"username": "ann", "prompt": "Other", "priority": "HIGH", "request_id": "r-1"}
    reply = await harness.client.post("/v1/query", json=body, headers=EVENTS)
    assert (reply.status_code, reply.json()["code"]) == (409, "request_conflict")


@pytest.mark.parametrize(
    ("fault", "code"), [("blocked", "blocked"), ("status-400-key", "upstream_rejected_key")]
)
async def test_failure_ends_the_stream_with_its_code(
    harness: Harness, script: Faulty, fault: str, code: str
) -> None:
    script.name = fault
    events = await stream(harness, "Why?", request_id="r-1")
    (event,) = events
    assert (event["type"], event["code"], event["request_id"]) == ("error", code, "r-1")
    assert event["detail"]


async def test_timeout_ends_the_stream(harness: Harness, script: Faulty) -> None:
    script.name = "hang"
    *texts, end = await stream(harness, "Why?", timeout_s=2)
    assert {event["type"] for event in texts} <= {"text"}
    assert (end["type"], end["code"]) == ("error", "timeout")


async def test_respond_async_takes_precedence_over_a_stream(harness: Harness) -> None:
    body = {"username": "ann", "prompt": "Why?", "priority": "HIGH"}
    headers = EVENTS | {"prefer": "respond-async"}
    reply = await harness.client.post("/v1/query", json=body, headers=headers)
    assert reply.status_code == 202


# --- clients that leave, messages that are lost ---------------------------------------------------


async def test_stream_closed_in_the_queue_cancels_its_request(harness: Harness) -> None:
    await harness.change_lane(Priority.LOW, window_s=20)
    events = harness.runtime.gateway.stream(Query("ann", "Why?", Priority.LOW))
    await anext(events)
    await events.aclose()
    await harness.settle()
    assert (await Chat.objects.aget()).status == "cancelled"
    assert harness.server.sizes == []
    assert len(harness.runtime.gateway.waiters) == 0


async def test_answer_of_a_closed_stream_is_stored(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = asyncio.Event()
    use_gate(monkeypatch, lambda written: left.is_set())
    events = harness.runtime.gateway.stream(streamed("[[words:90]]"))
    await anext(events)
    await anext(events)
    await events.aclose()
    assert harness.runtime.gateway.waiters._partial_texts == {}
    left.set()
    await harness.settle()
    assert (await Chat.objects.aget()).text == answer_prompt("[[words:90]]")


async def test_lost_messages_lose_no_character(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_gate(monkeypatch, lambda written: count >= written)
    layer, count = harness.runtime.layer, 0
    send = layer.send

    async def lose_some(channel: str, message: dict[str, Any]) -> None:
        nonlocal count
        if message["type"] == "requests.delta":
            count += 1
            if count % 3 == 0:
                return
        await send(channel, message)

    monkeypatch.setattr(layer, "send", lose_some)
    events = await stream(harness, "[[words:200]]")
    assert count > 3
    assert join_text(events) == answer_prompt("[[words:200]]")
    assert "restart" not in [event["type"] for event in events]


async def test_internal_error_ends_the_stream(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SentText, "complete", lambda *_: 1 / 0)
    *_, end = await stream(harness, "Why?")
    assert (end["type"], end["code"]) == ("error", "internal_error")
