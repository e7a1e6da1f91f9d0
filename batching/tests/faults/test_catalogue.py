"""Tests of scripts, of markers in prompts, and of combined faults."""

import json

import pytest
from google.genai import errors

from batching.llm.simulated.answers import MARK
from batching.llm.tests.sdk_client import (
    MODEL,
    PROMPTS,
    ask,
    ask_model,
    make_client,
    make_transport,
)
from batching.tests.faults import answers as faults
from batching.tests.faults import replies
from batching.tests.faults.catalogue import MarkedFaults, find_fault, poison

KEYS = [*PROMPTS]


async def test_list_of_faults_has_one_entry_per_call():
    transport, _ = make_transport(script=[find_fault("status-503"), None])
    client = make_client(transport=transport)
    outcomes = [await ask(client, PROMPTS) for _ in range(3)]
    assert [bool(outcome.error) for outcome in outcomes] == [True, False, False]
    assert [call.fault for call in transport.calls] == ["status-503", "", ""]


async def test_script_receives_the_call():
    seen = []
    transport, _ = make_transport(script=seen.append)
    await ask(make_client(transport=transport), PROMPTS)
    assert (seen[0].number, seen[0].keys, seen[0].prompts) == (1, tuple(KEYS), PROMPTS)
    assert seen[0].body["generationConfig"]["responseMimeType"] == "application/json"


async def test_faults_can_be_combined():
    both = faults.missing(0) | faults.wrap("Well: ", "") | replies.finish("OTHER")
    outcome = await ask_model(script=[both])
    assert [*json.loads(outcome.text.removeprefix("Well: "))] == KEYS[1:]
    assert outcome.finish_reason == "OTHER"


async def test_poisoned_prompt_blocks_every_call_that_holds_it():
    transport, _ = make_transport(script=poison("joke"))
    client = make_client(transport=transport)
    blocked = await ask(client, PROMPTS)
    fine = await ask(client, {"0_a": PROMPTS[KEYS[0]]})
    assert blocked.chunks[0].prompt_feedback.block_reason is not None
    assert fine.answers["0_a"].startswith(MARK)


async def test_marker_changes_the_item_whose_prompt_holds_it():
    prompts = {"0_a": "a", "1_b": "b [[fault:number]]", "2_c": "c [[fault:missing]]"}
    answers = (await ask_model(prompts, script=MarkedFaults())).answers
    assert answers["0_a"].startswith(MARK)
    assert answers["1_b"] == 42
    assert "2_c" not in answers


async def test_marker_with_a_number_changes_only_so_many_calls():
    transport, _ = make_transport(script=MarkedFaults())
    client = make_client(transport=transport)
    outcomes = [await ask(client, {"0_a": "[[fault:status-503:2]]"}) for _ in range(4)]
    assert [bool(outcome.error) for outcome in outcomes] == [True, True, False, False]


async def test_unknown_marker_is_refused_by_name():
    outcome = await ask_model({"0_a": "[[fault:no-such]]"}, script=MarkedFaults())
    assert outcome.error.code == 400
    assert "no-such" in outcome.error.message


async def test_faults_also_apply_to_requests_about_models():
    transport, _ = make_transport(script=[find_fault("status-403")])
    with pytest.raises(errors.ClientError) as caught:
        await make_client(transport=transport).aio.models.get(model=MODEL)
    assert caught.value.code == 403
