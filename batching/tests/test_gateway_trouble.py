"""No answer is lost when settings change at run time or a part fails."""

import asyncio
import logging
from typing import Any

import pytest
from channels.layers import get_channel_layer

from batching.engine.lanes import Priority
from batching.llm.simulated import answers
from batching.messages import BATCHING_CHANNEL
from batching.models import ModelCall
from batching.tests.harness import LIMIT_S, Harness, change, wait_until
from batching.tests.model_gate import use_gate
from chats.models import Chat, Status

answer_prompt = answers.answer_prompt


# --- settings ------------------------------------------------------------------------------------


async def test_lane_change_applies_to_the_next_request(harness: Harness) -> None:
    await harness.change_lane(Priority.HIGH, window_s=25)
    await change(
        harness,
        high_priority={"window_s": 0, "max_batch": 1, "style": "In verse.", "tokens": 77},
    )
    reply = await harness.ask("Why?")
    assert reply.json()["queue_ms"] < 20_000
    (call,) = harness.server.calls
    assert call.system.endswith("In verse.")
    assert 77 < call.max_output_tokens < 77 + 9000


async def test_changed_model_is_called_next(harness: Harness) -> None:
    await change(harness, model="gemini-9-test")
    await harness.ask("Why?")
    assert [call.model for call in harness.server.calls] == ["gemini-9-test"]


async def test_changed_key_lets_running_calls_finish_with_the_old_one(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_gate(monkeypatch, lambda written: len(harness.server.calls) == 2)
    running = asyncio.create_task(harness.ask("old"))
    await wait_until(lambda: harness.server.calls)
    await change(harness, api_key="another-key-987654321")
    assert (await harness.ask("new")).status_code == 200
    assert (await running).status_code == 200
    keys = [call.headers["x-goog-api-key"] for call in harness.server.calls]
    assert keys == ["test-key-0123456789", "another-key-987654321"]
    assert harness.server.sizes == [1, 1], "the old call was not repeated"


async def test_request_is_refused_if_no_key_is_set_outside_debug(
    harness: Harness, settings: Any
) -> None:
    settings.GEMINI_API_KEY = ""
    await change(harness, api_key="")
    reply = await harness.ask("Why?")
    assert (reply.status_code, reply.json()["code"]) == (503, "no_api_key")
    assert "Retry-After" in reply.headers
    assert await Chat.objects.acount() == 0


async def test_server_log_holds_neither_the_key_nor_prompts(
    harness: Harness, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        await harness.ask_all(["a very secret prompt", "[[fault:status-400-key]] x"])
        await harness.settle()
    server = "\n".join(
        r.getMessage() for r in caplog.records if not r.name.startswith("batching.log.")
    )
    for tag in ("[ENQUEUE]", "[DISPATCH]", "[BATCH_START]", "[LLM_BATCH]", "[BATCH_COMPLETE]"):
        assert tag in server
    assert "a very secret prompt" not in server
    assert "test-key-0123456789" not in caplog.text


async def test_log_files_hold_each_call_and_each_request_with_its_response(
    harness: Harness, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        await harness.ask("what is logged?")
        await harness.settle()
    blocks = {r.name: r.getMessage() for r in caplog.records if r.name.startswith("batching.log.")}
    assert "what is logged?" in blocks["batching.log.calls"]
    assert "--- reply" in blocks["batching.log.calls"]
    assert "--- response" in blocks["batching.log.pairs"]


async def test_control_characters_of_a_prompt_reach_no_terminal(
    harness: Harness, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        reply = await harness.ask("\x1b[2J\x9b31m\rwipe\tthe\nscreen\x7f")
        await harness.settle()
    assert reply.json()["text"] == answer_prompt("\x1b[2J\x9b31m\rwipe\tthe\nscreen\x7f")
    block = next(r.getMessage() for r in caplog.records if r.name == "batching.log.pairs")
    assert "\\x1b[2J\\x9b31m\\x0dwipe\tthe\n    screen\\x7f" in block
    assert not set(caplog.text) & {"\x1b", "\x9b", "\r", "\x7f"}


@pytest.mark.parametrize("line_break", ["\n", "\n\n", "\r", "\r\n", "\x85", "\u2028", "\u2029"])
async def test_line_breaks_of_a_prompt_forge_no_entry_of_the_log_files(
    harness: Harness, caplog: pytest.LogCaptureFixture, line_break: str
) -> None:
    forged = ["--- response", "2026-11-26 12:00:00,000 chat=1", "--- error"]
    with caplog.at_level(logging.INFO):
        await harness.ask(line_break.join(["Why?", *forged]))
        await harness.settle()
    blocks = [r.getMessage() for r in caplog.records if r.name.startswith("batching.log.")]
    assert len(blocks) == 2
    for block in blocks:
        head, *lines = block.splitlines()
        assert "=" in head
        headings = [line for line in lines if not line.startswith("    ")]
        assert headings in (
            ["--- instruction", "--- prompts", "--- reply"],
            ["--- request", "--- response"],
        )


@pytest.mark.parametrize("switch", ["LOG_PROMPTS", "store_prompts"])
async def test_prompts_can_be_kept_out_of_the_log_files(
    harness: Harness, caplog: pytest.LogCaptureFixture, settings: Any, switch: str
) -> None:
    if switch == "LOG_PROMPTS":
        settings.LOG_PROMPTS = False
    else:
        await change(harness, store_prompts=False)
    with caplog.at_level(logging.INFO):
        await harness.ask("what is not logged?")
        await harness.settle()
    assert "what is not logged?" not in caplog.text
    assert "status=done" in caplog.text


async def test_key_test_distinguishes_a_good_key_from_a_bad_one(harness: Harness) -> None:
    reply = await harness.client.post("/v1/settings/test-key")
    assert reply.json() == {"ok": True, "reason": ""}
    await change(harness, api_key="rejected-key")
    document = (await harness.client.post("/v1/settings/test-key")).json()
    assert document["ok"] is False
    assert "rejected" in document["reason"]
    await change(harness, api_key="good-key-123456", model="no-such-model")
    document = (await harness.client.post("/v1/settings/test-key")).json()
    assert document["ok"] is False
    assert "model" in document["reason"]


# --- when parts fail -----------------------------------------------------------------------------


async def test_request_whose_announcement_was_lost_is_answered(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer, lost = get_channel_layer(), []
    send = layer.send

    async def drop_first(channel: str, message: dict[str, Any]) -> None:
        if channel == BATCHING_CHANNEL and not lost:
            lost.append(message)
            return
        await send(channel, message)

    monkeypatch.setattr(layer, "send", drop_first)
    reply = await harness.ask("Why?")
    assert lost
    assert reply.json()["text"] == answer_prompt("Why?")
    assert reply.json()["latency_ms"] < 20_000


async def test_batches_are_full_although_most_announcements_are_not_read_yet(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a stall of the event loop: the rows are committed, their messages come later."""
    consumer, layer, withheld = harness.runtime.consumer, get_channel_layer(), []
    send = layer.send

    async def withhold(channel: str, message: dict[str, Any]) -> None:
        if channel == BATCHING_CHANNEL and withheld is not None:
            withheld.append(message)
        else:
            await send(channel, message)

    async def find_nothing() -> None:
        """The sweep does not make up for the messages."""

    monkeypatch.setattr(consumer, "_push_unannounced", find_nothing)
    tasks = [asyncio.create_task(harness.ask("first"))]
    await wait_until(lambda: harness.runtime.gateway.waiters)
    harness.hold()
    monkeypatch.setattr(layer, "send", withhold)
    tasks += [asyncio.create_task(harness.ask(f"question {index}")) for index in range(12)]
    await wait_until(lambda: len(harness.runtime.gateway.waiters) == 13)
    held, withheld = withheld, None
    await harness.release(1)
    await wait_until(lambda: harness.server.sizes)
    for message in held:  # six of these requests run by now
        await send(BATCHING_CHANNEL, message)
    replies = await asyncio.gather(*tasks)
    assert [reply.json()["text"] for reply in replies[1:]] == [
        answer_prompt(f"question {index}") for index in range(12)
    ]
    assert harness.server.sizes == [6, 6, 1]
    await harness.settle()
    assert len(consumer.dispatcher.planner) == 0


async def test_invalid_message_ends_no_receiving_loop(harness: Harness) -> None:
    layer = get_channel_layer()
    for channel in (BATCHING_CHANNEL, harness.runtime.process):
        await layer.send(channel, {"type": "nonsense"})
        await layer.send(channel, {"no": "type"})
        await layer.send(channel, {"type": "requests.accepted", "items": [[1]], "process": ""})
    assert (await harness.ask("Why?")).status_code == 200


async def test_dispatch_loop_that_fails_restarts_and_loses_no_request(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    planner = harness.runtime.consumer.dispatcher.planner
    take, seen = planner.take, asyncio.Event()

    def fail_until_seen(*args: Any) -> Any:
        if not seen.is_set():
            raise ZeroDivisionError
        return take(*args)

    monkeypatch.setattr(planner, "take", fail_until_seen)
    asking = asyncio.create_task(harness.ask("Why?"))
    await wait_until(lambda: harness.runtime.supervisor.failures)
    red = await harness.client.get("/health/ready")
    assert red.status_code == 503
    assert "dispatcher: ZeroDivisionError" in red.json()["detail"]
    seen.set()
    assert (await asking).status_code == 200
    assert (await harness.client.get("/health/ready")).status_code == 200


async def test_answers_that_the_database_refuses_for_a_while_are_not_lost(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    from django.db import OperationalError

    from batching.worker import recorder

    finish, failures = recorder.finish_chats, []

    def fail_twice(finishes: Any, **options: Any) -> Any:
        if len(failures) < 2:
            failures.append(1)
            raise OperationalError("disk full")
        return finish(finishes, **options)

    monkeypatch.setattr(recorder, "finish_chats", fail_twice)
    reply = await harness.ask("Why?")
    assert reply.json()["text"] == answer_prompt("Why?")
    assert len(failures) == 2
    assert harness.server.sizes == [1]


async def test_request_that_the_database_refuses_gets_503_and_is_not_stored(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    from django.db import OperationalError

    from batching.gateway import group_commit

    def fail(*args: Any, **kwargs: Any) -> None:
        raise OperationalError("gone")

    monkeypatch.setattr(group_commit, "submit_chats", fail)
    reply = await harness.ask("Why?")
    assert reply.status_code == 503
    assert "database" in reply.json()["detail"]
    assert len(harness.runtime.gateway.waiters) == 0
    assert harness.runtime.gateway.counts.total(Priority.HIGH) == 0


async def test_refused_request_that_the_database_has_stored_is_not_sent(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection breaks after the commit, before its acknowledgement."""
    from django.db import OperationalError
    from django.db.backends.base.base import BaseDatabaseWrapper

    from chats import submission

    accept, commit, broken = submission._accept, BaseDatabaseWrapper.commit, []

    def accept_and_break(*arguments: Any) -> Any:
        broken.append(False)
        return accept(*arguments)

    def commit_and_break(wrapper: Any) -> None:
        commit(wrapper)
        if broken == [False]:
            broken[0] = True
            raise OperationalError("server closed the connection unexpectedly")

    monkeypatch.setattr(submission, "_accept", accept_and_break)
    monkeypatch.setattr(BaseDatabaseWrapper, "commit", commit_and_break)
    harness.hold()
    reply = await harness.ask("Why?")
    assert reply.status_code == 503
    async with asyncio.timeout(LIMIT_S):
        while not await Chat.objects.filter(status=Status.CANCELLED).aexists():  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    await harness.release()
    assert (await harness.ask("next")).status_code == 200
    assert [list(call.prompts.values()) for call in harness.server.calls] == [["next"]]


async def test_claim_that_fails_is_repeated(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    from django.db import OperationalError

    from batching.worker import claimer

    claim, failures = claimer.claim_batches, []

    def fail_once(*args: Any, **kwargs: Any) -> Any:
        if not failures:
            failures.append(1)
            raise OperationalError("locked")
        return claim(*args, **kwargs)

    monkeypatch.setattr(claimer, "claim_batches", fail_once)
    reply = await harness.ask("Why?")
    assert reply.json()["text"] == answer_prompt("Why?")
    assert harness.server.sizes == [1]


async def test_retry_waits_until_the_database_can_record_it(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    from django.db import OperationalError

    from batching.store import calls

    start, failures = calls.start_call, []

    def fail(*args: Any, **kwargs: Any) -> Any:
        if failures:
            return start(*args, **kwargs)
        failures.append(1)
        start(*args, **kwargs)  # the commit succeeds, its acknowledgement is lost
        raise OperationalError("server closed the connection")

    monkeypatch.setattr(calls, "start_call", fail)
    reply = await harness.ask("[[fault:status-503:1]] Why?")
    assert reply.status_code == 200
    assert harness.server.sizes == [1, 1]
    await harness.settle()
    assert (await Chat.objects.aget()).attempt == await ModelCall.objects.acount() == 2


async def test_answer_that_cannot_be_written_does_not_delay_the_others(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    from batching.worker import recorder

    finish = recorder.finish_chats

    def refuse_one(finishes: Any, **options: Any) -> Any:
        if any("poison" in (f.values.get("text") or "") for f in finishes):
            raise ValueError("cannot be encoded")
        return finish(finishes, **options)

    monkeypatch.setattr(recorder, "finish_chats", refuse_one)
    harness.hold()
    waits = {"good": 25, "poison": 3, "fine": 25}
    tasks = [asyncio.create_task(harness.ask(p, timeout_s=s)) for p, s in waits.items()]
    await harness.release(3)
    replies = await asyncio.gather(*tasks)
    assert [reply.status_code for reply in replies] == [200, 504, 200]
    assert harness.server.sizes == [3]
    monkeypatch.undo()
    assert (await harness.ask("after")).status_code == 200


async def test_lone_surrogate_from_the_model_harms_neither_answer_nor_record(
    harness: Harness, caplog: pytest.LogCaptureFixture
) -> None:
    """The JSON of the event contains the surrogate, so the SDK returns it in the text."""
    from batching.tests.faults.catalogue import FAULTS
    from batching.tests.faults.replies import edit_events

    def spoil(event: dict[str, Any]) -> dict[str, Any]:
        parts = event["candidates"][0]["content"]["parts"]
        parts[-1]["text"] += "\ud83d"
        return event

    FAULTS["wire-surrogate"] = lambda item: edit_events("wire-surrogate", spoil)
    try:
        reply = await harness.ask("[[fault:wire-surrogate:1]] Why?")
    finally:
        del FAULTS["wire-surrogate"]
    await harness.settle()
    assert reply.json()["text"] == answer_prompt("[[fault:wire-surrogate:1]] Why?")
    assert await ModelCall.objects.filter(status="started").acount() == 0
    assert "\\ud83d" in caplog.text
