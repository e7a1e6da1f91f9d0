"""Tests of each fault through the real SDK."""

import asyncio
import json
import warnings

import httpx2
import pytest
from google.genai import errors

from batching.llm.gemini import parse_chunk
from batching.llm.simulated.answers import MARK
from batching.llm.simulated.transport import Responder
from batching.llm.simulated.wire import Pace
from batching.llm.tests.sdk_client import (
    PROMPTS,
    Outcome,
    ask,
    ask_model,
    make_client,
    make_transport,
    respond,
)
from batching.tests.faults import replies
from batching.tests.faults.catalogue import FAULTS, find_fault
from batching.tests.harness import wait_until

KEYS = [*PROMPTS]
# The item that the faults below change.
ITEM = 1


async def ask_with(name: str, **options) -> Outcome:
    return await ask_model(script=[find_fault(name, ITEM)], **options)


@pytest.mark.parametrize("name", sorted(FAULTS))
def test_every_fault_changes_the_reply(name: str):
    usual = respond(responder=Responder())
    faulty = respond(responder=Responder(lambda call: find_fault(name, ITEM)))
    assert faulty != usual


@pytest.mark.parametrize(
    ("name", "kind", "code", "status"),
    [
        ("status-400", errors.ClientError, 400, "INVALID_ARGUMENT"),
        ("status-400-key", errors.ClientError, 400, "INVALID_ARGUMENT"),
        ("status-400-region", errors.ClientError, 400, "FAILED_PRECONDITION"),
        ("status-401", errors.ClientError, 401, "UNAUTHENTICATED"),
        ("status-403", errors.ClientError, 403, "PERMISSION_DENIED"),
        ("status-404", errors.ClientError, 404, "NOT_FOUND"),
        ("status-408", errors.ClientError, 408, "REQUEST_TIMEOUT"),
        ("status-429", errors.ClientError, 429, "RESOURCE_EXHAUSTED"),
        ("status-500", errors.ServerError, 500, "INTERNAL"),
        ("status-502-html", errors.ServerError, 502, "Bad Gateway"),
        ("status-503", errors.ServerError, 503, "UNAVAILABLE"),
        ("status-504", errors.ServerError, 504, "DEADLINE_EXCEEDED"),
        ("status-302", errors.APIError, 302, "UNKNOWN"),
    ],
)
async def test_status_is_raised_as_its_error(name, kind, code, status):
    outcome = await ask_with(name)
    assert type(outcome.error) is kind
    assert (outcome.error.code, outcome.error.status) == (code, status)


@pytest.mark.parametrize(
    ("name", "detail"),
    [
        ("status-400-key", {"reason": "API_KEY_INVALID"}),
        ("status-429", {"retryDelay": "0.05s"}),
        ("status-429-long", {"retryDelay": "3600s"}),
    ],
)
async def test_error_holds_the_details_of_the_service(name, detail):
    outcome = await ask_with(name)
    (given,) = outcome.error.details["error"]["details"]
    assert detail.items() <= given.items()


@pytest.mark.parametrize(("name", "per"), [("day", "PerDay"), ("minute", "PerMinute")])
async def test_used_up_quota_names_its_period(name, per):
    outcome = await ask_with(f"status-429-{name}")
    assert per in json.dumps(outcome.error.details["error"]["details"])


async def test_bare_429_has_no_details():
    outcome = await ask_with("status-429-bare")
    assert "details" not in outcome.error.details["error"]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("html", ValueError),
        ("broken-event", ValueError),
        ("deep-event", RecursionError),
        ("error-event", errors.ServerError),
        ("reset", httpx2.ReadError),
        ("reset-at-once", httpx2.ReadError),
        ("reset-headers", httpx2.ReadError),
        ("reset-bytes", httpx2.ReadError),
        ("early-close", httpx2.RemoteProtocolError),
        ("close-at-once", httpx2.RemoteProtocolError),
        ("refused", httpx2.ConnectError),
        ("cancelled", asyncio.CancelledError),
        ("cancelled-at-once", asyncio.CancelledError),
    ],
)
async def test_broken_reply_is_raised(name, kind):
    outcome = await ask_with(name)
    assert isinstance(outcome.error, kind), outcome.error


@pytest.mark.parametrize("name", ["empty-body", "json-list", "no-candidates", "empty-event"])
async def test_some_broken_replies_look_like_empty_ones(name):
    outcome = await ask_with(name)
    assert outcome.error is None
    assert outcome.text == ""
    assert not any(chunk.candidates for chunk in outcome.chunks)


@pytest.mark.parametrize(
    ("name", "reason"), [("blocked", "SAFETY"), ("blocked-prohibited", "PROHIBITED_CONTENT")]
)
async def test_blocked_prompt_has_feedback_and_no_candidates(name, reason):
    (chunk,) = (await ask_with(name)).chunks
    assert chunk.prompt_feedback.block_reason.value == reason
    assert chunk.candidates is None
    assert chunk.usage_metadata.prompt_token_count == chunk.usage_metadata.total_token_count > 0


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("empty", ""),
        ("blank", " \n\t \u00a0"),
        ("number", 42),
        ("null", None),
        ("boolean", True),
        ("list", ["[simulated] listed"]),
        ("nul", "a\0b"),
    ],
)
async def test_value_can_be_of_the_wrong_type(name, value):
    answers = (await ask_with(name)).answers
    assert answers[KEYS[ITEM]] == value
    assert [*answers] == KEYS
    assert all(answers[key].startswith(MARK) for key in KEYS if key != KEYS[ITEM])


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("missing", [KEYS[0], KEYS[2]]),
        ("missing-first", KEYS[1:]),
        ("missing-last", KEYS[:2]),
        ("missing-all", []),
        ("shuffled", KEYS[::-1]),
        ("extra", ["99_0", *KEYS, "extra"]),
        ("other-token", [KEYS[0], "1_0000", KEYS[2]]),
        ("forged", ["1_0000", *KEYS]),
        ("forged-keys", ["0_0000", "1_0000", "2_0000"]),
        ("bare-indexes", ["0", "1", "2"]),
        ("duplicate", [KEYS[1], *KEYS]),
        ("duplicate-early", [KEYS[1], *KEYS]),
        ("duplicate-late", [*KEYS, KEYS[0]]),
    ],
)
async def test_keys_can_be_wrong(name, keys):
    outcome = await ask_with(name)
    pairs = json.loads(outcome.text, object_pairs_hook=list)
    assert [key for key, _ in pairs] == keys
    assert (len(outcome.chunks) == 1) == (name == "duplicate")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("raw-newline", "a raw\nnewline"),
        ("lone-surrogate", r"a half \ud83d "),
        ("bad-escape", r"a \x41 "),
        ("unescaped-quotes", 'a "quoted" word'),
        ("single-quotes", "'[simulated] quoted otherwise'"),
        ("deep-nesting", "[[[[["),
        ("huge-integer", "99999"),
        ("fenced", "```json\n{"),
        ("prose-around", "Sure! Here is the JSON"),
        ("prose", "I would rather answer in prose."),
    ],
)
async def test_text_can_be_malformed_or_unreadable_json(name, expected):
    outcome = await ask_with(name)
    assert outcome.error is None
    assert expected in outcome.text
    try:
        parsed = json.loads(outcome.text)
        json.dumps(parsed, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        return
    pytest.fail("the text is well-formed")


async def test_reply_can_be_a_list_instead_of_an_object():
    assert len(json.loads((await ask_with("as-list")).text)) == 3


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("max-tokens", "MAX_TOKENS"),
        ("safety", "SAFETY"),
        ("recitation", "RECITATION"),
        ("other", "OTHER"),
        ("continuation", "CONTINUATION"),
        ("no-finish", None),
        ("reset", None),
        ("early-close", None),
    ],
)
async def test_reply_can_be_cut_inside_an_item(name, reason):
    outcome = await ask_with(name)
    text = outcome.text
    assert f'", "{KEYS[1]}": "{MARK}' in text, (
        "the item before is complete, and the changed item has begun"
    )
    assert not text.endswith('"')
    assert KEYS[2] not in text
    assert outcome.finish_reason == reason


@pytest.mark.parametrize("name", ["max-tokens-after", "no-finish-after", "reset-after"])
async def test_reply_can_be_cut_after_an_item(name):
    text = (await ask_with(name)).text
    assert [*json.loads(text + "}")] == KEYS[:2]


async def test_unknown_finish_reason_only_warns():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        outcome = await ask_with("unknown-finish")
    assert outcome.finish_reason == "SOMETHING_NEW"
    assert any("SOMETHING_NEW" in str(warning.message) for warning in caught)


async def test_continuation_is_not_followed_if_it_is_disabled():
    transport, _ = make_transport(script=lambda call: find_fault("continuation"))
    outcome = await ask(make_client(transport=transport), PROMPTS)
    assert len(transport.calls) == 1
    assert outcome.chunks[-1].candidates[0].continuation_token == b"go on"


@pytest.mark.parametrize("name", ["thoughts", "many-parts", "no-usage", "one-event", "drip"])
async def test_unusual_form_does_not_change_the_text(name):
    outcome = await ask_with(name)
    assert [*outcome.answers] == KEYS
    parts = [part for c in outcome.chunks for part in c.candidates[0].content.parts or []]
    assert any(part.thought for part in parts) == (name == "thoughts")
    assert any(part.text == "" for part in parts) == (name == "many-parts")
    assert (outcome.usage is None) == (name == "no-usage")
    assert (len(outcome.chunks) == 1) == (name == "one-event")


async def test_thoughts_are_marked_and_no_part_of_the_text():
    pieces = [parse_chunk(chunk) for chunk in (await ask_with("thoughts")).chunks]
    assert [piece.text for piece in pieces if piece.thinks] == ["", ""]
    assert any(piece.text for piece in pieces if not piece.thinks)


@pytest.mark.parametrize("name", ["hang", "hang-after", "hang-at-end", "hang-before-headers"])
async def test_hang_ends_by_the_timeout_of_the_client(name):
    transport, _ = make_transport(script=[find_fault(name, ITEM)])
    outcome = await ask(make_client(transport=transport), PROMPTS, timeout_s=0.05)
    assert isinstance(outcome.error, httpx2.ReadTimeout)
    assert bool(outcome.chunks) == (name != "hang-before-headers")
    assert transport.calls[0].state == "abandoned"


async def test_hang_ends_by_cancellation():
    transport, _ = make_transport(script=[find_fault("hang-before-headers")])
    asking = asyncio.create_task(ask(make_client(transport=transport), "a"))
    await wait_until(lambda: transport.calls)
    asking.cancel()
    assert isinstance((await asking).error, asyncio.CancelledError)
    assert transport.calls[0].state == "abandoned"


async def test_slow_reply_is_sent_byte_by_byte():
    reply = respond(responder=Responder(lambda call: replies.drip(0.5)))
    assert {len(piece.data) for piece in reply.pieces} == {1}
    assert reply.pieces[9].at_s == 5.0


async def test_delay_applies_to_the_headers_too():
    transport, time = make_transport(script=[replies.delay(30)], pace=Pace(total_s=1))
    await ask(make_client(transport=transport), PROMPTS)
    assert time.now - 100 == pytest.approx(31)
