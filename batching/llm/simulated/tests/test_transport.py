"""Tests of the simulated model, through the real SDK and byte by byte."""

import ast
import asyncio
import gc
import json
from collections import Counter
from pathlib import Path

import httpx2
import pytest
from google.genai import errors
from hypothesis import given, settings
from hypothesis import strategies as st

from batching.llm import simulated
from batching.llm.simulated.answers import MARK
from batching.llm.simulated.calls import SimulatedCall
from batching.llm.simulated.replies import REJECTED_KEY, THOUGHT_TOKENS, UNKNOWN_MODEL
from batching.llm.simulated.transport import Responder
from batching.llm.simulated.wire import Pace, Reply
from batching.llm.tests.recording import RecordingScript, RecordingTransport
from batching.llm.tests.sdk_client import (
    MODEL,
    PROMPTS,
    Time,
    ask,
    ask_model,
    make_client,
    make_config,
    make_transport,
    respond,
)
from batching.tests.harness import wait_until
from settings_app.models import Lane


async def test_each_key_gets_the_answer_to_its_own_prompt_in_order():
    outcome = await ask_model()
    assert outcome.error is None
    assert [*outcome.answers] == [*PROMPTS]
    for key, prompt in PROMPTS.items():
        assert outcome.answers[key].startswith(f'{MARK}On "{prompt}": ')
    assert outcome.finish_reason == "STOP"
    assert len(outcome.chunks) >= 3


@pytest.mark.django_db
def test_full_batches_of_short_prompts_are_answered_within_the_latency_target():
    for lane in Lane.objects.all():
        prompts = {f"{n}_a": f"Name colour {n} of the rainbow." for n in range(lane.max_batch)}
        available_s = lane.latency_ms / 1000 - lane.window_s
        last = respond(prompts).pieces[-1].at_s
        assert last < 0.9 * available_s, "the gateway needs some of the time, too"


async def test_without_a_schema_the_answer_is_plain_text():
    outcome = await ask_model("Why is the sky blue?")
    assert outcome.text.startswith(f'{MARK}On "Why is the sky blue?": ')


async def test_usage_counts_from_the_beginning_of_the_call():
    outcome = await ask_model()
    counts = [chunk.usage_metadata for chunk in outcome.chunks]
    outputs = [usage.candidates_token_count for usage in counts]
    assert outputs == sorted(outputs)
    assert outputs[0] < outputs[-1] == (len(outcome.text) + 3) // 4
    for usage in counts:
        assert usage.thoughts_token_count == THOUGHT_TOKENS
        assert usage.total_token_count == (
            usage.prompt_token_count + usage.candidates_token_count + THOUGHT_TOKENS
        )


async def test_output_limit_cuts_the_text_and_says_so():
    transport, _ = make_transport()
    client = make_client(transport=transport)
    whole = await ask(client, PROMPTS)
    outcome = await ask(client, PROMPTS, max_output_tokens=THOUGHT_TOKENS + 20)
    assert outcome.finish_reason == "MAX_TOKENS"
    assert outcome.usage.candidates_token_count == 20
    assert len(outcome.text) == 80 < len(whole.text)


async def test_words_marker_asks_for_that_many_words():
    outcome = await ask_model({"0_a": "[[words:700]]", "1_b": "short"})
    assert len(outcome.answers["0_a"].removeprefix(MARK).split()) == 700
    assert 'On "short": ' in outcome.answers["1_b"]


async def test_a_long_prompt_is_not_repeated_whole():
    outcome = await ask_model({"0_a": "x" * 100_000})
    assert len(outcome.text) < 1000


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.text(st.characters(codec=None), max_size=40), min_size=1, max_size=6),
    st.integers(0, 10_000),
)
def test_any_prompts_reassemble_from_the_bytes(prompts: list[str], seed: int):
    keyed = {f"{index}_r": prompt for index, prompt in enumerate(prompts)}
    reply = respond(keyed, responder=Responder(seed=seed))
    events = [json.loads(e[6:]) for e in reply.body.decode().split("\r\n\r\n")[:-1]]
    text = "".join(e["candidates"][0]["content"]["parts"][0]["text"] for e in events)
    answers = json.loads(text)
    assert [*answers] == [*keyed]
    for key, prompt in keyed.items():
        assert prompt.encode("utf-8", "replace").decode() in answers[key]


def _classify_cuts(reply: Reply) -> Counter[str]:
    kinds: Counter[str] = Counter()
    for piece in reply.pieces:
        if piece.data.count(b"\r\n\r\n") > 1:
            kinds["several events"] += 1
        if piece.data.endswith(b"\\"):
            kinds["inside an escape"] += 1
        try:
            piece.data.decode()
        except UnicodeDecodeError:
            kinds["inside a character"] += 1
        if not piece.data.endswith(b"\r\n\r\n"):
            kinds["inside an event"] += 1
    return kinds


def test_packets_end_at_every_difficult_position():
    kinds: Counter[str] = Counter()
    for seed in range(50):
        kinds += _classify_cuts(respond(responder=Responder(seed=seed)))
    for kind in ("several events", "inside an escape", "inside a character", "inside an event"):
        assert kinds[kind] >= 10, kinds


def test_only_equal_seeds_lead_to_equal_bytes():
    assert respond(responder=Responder(seed=7)) == respond(responder=Responder(seed=7))
    first, second = (respond(responder=Responder(seed=seed)) for seed in (7, 8))
    assert [len(p.data) for p in first.pieces] != [len(p.data) for p in second.pieces]


async def test_single_short_prompt_takes_a_little_more_than_a_tenth_of_a_second():
    transport, time = make_transport()
    await ask(make_client(transport=transport), {"0_a": "Why is the sky blue?"})
    assert 0.1 < time.now - 100 < 0.2


async def test_the_first_event_comes_long_before_the_last():
    transport, time = make_transport()
    prompts = {f"{index}_a": "[[words:200]]" for index in range(6)}
    chunks = await make_client(transport=transport).aio.models.generate_content_stream(
        model=MODEL, contents=json.dumps(prompts), config=make_config([*prompts])
    )
    times = [time.now - 100 async for _ in chunks]
    assert times[0] < times[-1] / 3
    assert len(set(times)) > 6


@pytest.mark.parametrize("words", [1, 5000])
async def test_a_fixed_model_time_holds_at_any_length(words: int):
    transport, time = make_transport(pace=Pace(total_s=0.3))
    await ask(make_client(transport=transport), {"0_a": f"[[words:{words}]]"})
    assert time.now - 100 == pytest.approx(0.3)


async def test_late_wake_up_delays_no_later_piece():
    time = Time()

    async def oversleep(seconds: float) -> None:
        time.now += seconds + 0.01

    transport = RecordingTransport(sleep=oversleep, clock=time.clock, pace=Pace(total_s=1.0))
    outcome = await ask(make_client(transport=transport), PROMPTS)
    assert len(outcome.chunks) > 2
    assert time.now - 100 == pytest.approx(1.01, abs=0.011)


async def test_model_can_be_described_and_listed():
    transport, _ = make_transport()
    models = make_client(transport=transport).aio.models
    assert (await models.get(model=MODEL)).output_token_limit == 65_536
    assert [model.name async for model in await models.list(config={"page_size": 1})]
    assert [call.action for call in transport.calls] == ["get", "list"]


async def test_an_unknown_model_is_not_found():
    transport, _ = make_transport()
    with pytest.raises(errors.ClientError) as caught:
        await make_client(transport=transport).aio.models.get(model=UNKNOWN_MODEL)
    assert (caught.value.code, caught.value.status) == (404, "NOT_FOUND")


async def test_a_rejected_key_is_a_400_with_its_reason():
    transport, _ = make_transport()
    outcome = await ask(make_client(transport=transport, key=REJECTED_KEY), PROMPTS)
    assert outcome.error.code == 400
    assert outcome.error.details["error"]["details"][0]["reason"] == "API_KEY_INVALID"


@pytest.mark.parametrize(
    "content",
    [
        b"{",
        b"[]",
        b"{}",
        b'{"contents": []}',
        b'{"contents": "hello"}',
        b'{"contents": [{"parts": [{}]}], "generationConfig": {"maxOutputTokens": "9"}}',
        b'{"contents": [{"parts": [{}]}], "generationConfig": {"responseJsonSchema": 7}}',
        b"[" * 100_000,
    ],
)
async def test_request_that_gemini_would_refuse_is_refused(content: bytes):
    transport, _ = make_transport()
    async with httpx2.AsyncClient(transport=transport) as client:
        url = f"http://model.invalid/v1beta/models/{MODEL}:streamGenerateContent"
        answer = await client.post(url, content=content, headers={"x-goog-api-key": "k"})
    assert answer.status_code == 400
    assert answer.json()["error"]["status"] == "INVALID_ARGUMENT"


async def test_missing_key_and_unknown_address_are_refused():
    transport, _ = make_transport()
    async with httpx2.AsyncClient(transport=transport) as client:
        url = "http://model.invalid/v1beta/models/m:streamGenerateContent"
        assert (await client.post(url, json={})).status_code == 403
        headers = {"x-goog-api-key": "k"}
        assert (await client.get("http://model.invalid/", headers=headers)).status_code == 404


async def test_calls_are_recorded_as_they_were_sent():
    transport, _ = make_transport()
    await ask(make_client(transport=transport), PROMPTS, max_output_tokens=500)
    (call,) = transport.calls
    assert call.prompts == PROMPTS
    assert call.keys == tuple(PROMPTS)
    assert (call.number, call.model, call.generates) == (1, MODEL, True)
    assert (call.system, call.max_output_tokens) == ("Answer briefly.", 500)
    assert call.headers["x-goog-api-key"] == "a-key"
    assert (call.state, call.fault) == ("complete", "")
    assert call.ended > call.started


async def test_calls_run_at_once():
    async def sleep_until_all_run(seconds: float) -> None:
        await wait_until(lambda: len(transport.calls) == 5)

    transport = RecordingTransport(sleep=sleep_until_all_run, pace=Pace(total_s=60))
    client = make_client(transport=transport)
    await asyncio.gather(*(ask(client, {"0_a": "b"}) for _ in range(5)))
    latest_start = max(call.started for call in transport.calls)
    assert latest_start < min(call.ended for call in transport.calls)
    assert {call.state for call in transport.calls} == {"complete"}


def test_only_the_last_calls_are_kept():
    script = RecordingScript(kept_calls=10)
    responder = Responder(script)
    for _ in range(50):
        respond(responder=responder)
    assert len(script.calls) <= 20
    assert script.calls[-1].number == responder.count == 50


def test_responder_keeps_no_call():
    responder = Responder()
    respond({"0_a": "a prompt of this test alone"}, responder=responder)
    gc.collect()
    calls = [entry for entry in gc.get_objects() if isinstance(entry, SimulatedCall)]
    assert not [call for call in calls if "a prompt of this test alone" in call.prompts.values()]


async def test_call_of_a_cancelled_client_is_recorded_as_abandoned():
    asked = asyncio.Event()
    transport = RecordingTransport(lambda call: asked.set(), pace=Pace(total_s=60))
    task = asyncio.create_task(ask(make_client(transport=transport), PROMPTS))
    await asked.wait()
    task.cancel()
    await asyncio.wait([task])
    assert transport.calls[0].state == "abandoned"


def test_simulated_model_shares_no_code_with_the_engine():
    sources = list(Path(simulated.__file__).parent.glob("*.py"))
    imported = {
        node.module or ""
        for source in sources
        for node in ast.walk(ast.parse(source.read_text()))
        if isinstance(node, ast.ImportFrom)
    }
    assert len(sources) >= 7
    assert not {name for name in imported if name.startswith(("batching.engine", "django"))}
    assert "batching.llm.simulated.wire" in imported
