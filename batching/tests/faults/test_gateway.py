"""Tests that each client gets its own answer or a typed error in time, for every fault.

Each fault has a batch of its own: six prompts of one username, the last of which holds the marker
of the fault. All batches run at the same time.
"""

import asyncio
import json
from collections import ChainMap, defaultdict
from typing import Any

import httpx2
import pytest
from asgiref.sync import sync_to_async

from batching.llm.simulated.answers import answer_prompt
from batching.models import Batch, ModelCall
from batching.store.model_status import read_model_state
from batching.store.responses import parse_stored_response
from batching.tests.faults.catalogue import FAULTS
from batching.tests.harness import Harness
from chats.models import FINAL_STATUSES, Chat
from settings_app.models import Priority

SIZE = 6
# A busy machine needs less time than this to send the requests of the faults that hang.
HANG_LIMIT_S = 20.0
PATIENCE_S = 120.0
# So few faults at a time that a busy machine still serves each request in time.
MAX_AT_ONCE = 34
SHORT_WINDOWS = pytest.mark.parametrize("lanes", [{"window_s": 0.2, "latency_ms": 600_000}])

# The error of the marked prompt if the fault lasts. Prompts with other faults get their answers.
LASTING = {
    "upstream_error": """status-400 status-400-region status-400-tokens status-404 status-413
        status-418 status-302 status-204 broken-event html
        deep-event""",
    "upstream_rejected_key": "status-400-key status-401 status-403",
    "upstream_unavailable": """status-408 status-429 status-429-bare status-429-long
        status-429-garbled status-429-minute status-429-day status-429-limit-0 status-429-cap
        status-429-credits status-429-message status-499 status-503-header
        status-500 status-502 status-502-html status-503 status-504 error-string error-odd error-200
        error-event reset reset-at-once reset-headers reset-bytes early-close
        close-at-once refused cancelled-at-once cancelled""",
    "missing_answer": """missing missing-last missing-all empty blank number null
        boolean nested list raw-newline lone-surrogate bad-escape
        unescaped-quotes single-quotes other-token forged-keys bare-indexes duplicate prose no-text
        other unknown-finish continuation no-finish empty-body json-list no-candidates empty-event
        as-list inch-mark inch-mark-member inch-mark-object nul nul-in-escape control-escape
        form-feed deep-nesting object-in-object-in-value key-in-value""",
    "truncated": """max-tokens max-tokens-at-once loop-escapes loop-words loop-prose
        huge-integer nested-arrays""",
    "blocked": "safety recitation safety-at-once blocked blocked-prohibited blocked-unknown",
    "timeout": """hang hang-in-the-middle hang-before-headers hang-headers drip-slow
        white-space-in-value""",
}
# The SDK fails on this or not, depending on where the bytes are cut.
EITHER = {"list-event"}
CODES = {name: code for code, names in LASTING.items() for name in names.split()}
# These faults change the whole call, so its other five prompts fail too.
WHOLE_CALL = {
    name for name in CODES if name.startswith(("status-", "error-", "hang-", "slow", "reset-"))
} | {
    "close-at-once",
    "refused",
    "cancelled-at-once",
}
MATES_ANSWERED = (
    set(FAULTS) - WHOLE_CALL - {"hang", "cancelled", "reset", "early-close"} - {"drip-slow"}
)
UNREPEATED = {
    *("status-400-key", "status-400-region", "status-401", "status-403", "status-404"),
    *("status-429-day", "status-429-long", "status-429-limit-0", "status-429-cap"),
    "status-429-credits",
}
HARMLESS = {
    *("extra", "shuffled", "duplicate-late", "duplicate-early", "fenced", "prose-around", "drip"),
    *(
        "no-usage",
        "running-usage",
        "thoughts",
        "many-parts",
        "one-event",
        "no-finish-whole",
        "max-tokens-after",
    ),
    *("extra-between", "object-in-value", "white-space-after", "loop-after-value"),
    *("object-twice", "object-twice-at-once", "object-twice-with-prose"),
}
# The answers of marked prompts that are not the usual text: the model wrote them under the key of
# the prompt, and the first complete value counts.
ODD_TEXTS = {"duplicate-early": "[simulated] forged"}


@pytest.fixture
def lanes() -> dict[str, Any]:
    """Lanes whose batches leave only when they are full."""
    return {"batch_scope": "username", "window_s": 60.0, "latency_ms": 600_000}


async def ask_batches(
    harness: Harness, names: list[str], *, suffix: str = "", **fields: Any
) -> dict[str, list[httpx2.Response]]:
    """Sends six prompts for each fault; returns their replies in order."""
    harness.runtime.consumer.dispatcher.slots.total = 1000
    harness.runtime.consumer.dispatcher.slots.reserve = 1

    async def ask_some(some: list[str], **limits: Any) -> dict[str, list[httpx2.Response]]:
        asked = (
            harness.ask_all(prompts_for(name, suffix), username=name, **(fields | limits))
            for name in some
        )
        return dict(zip(some, await asyncio.gather(*asked), strict=True))

    async def ask_rest(rest: list[str]) -> dict[str, list[httpx2.Response]]:
        parts = [
            await ask_some(rest[i : i + MAX_AT_ONCE]) for i in range(0, len(rest), MAX_AT_ONCE)
        ]
        return dict(ChainMap(*parts))

    hanging = [name for name in names if CODES.get(name) == "timeout"]
    replies = await ask_rest([name for name in names if name not in hanging])
    # Few requests at a time: their limits are short, and the estimated wait must be shorter. A call
    # is read until the lane's limit, which must not be much longer.
    await harness.change_lane(Priority.HIGH, window_s=6.0, latency_ms=100)
    replies |= await ask_some(hanging, timeout_s=HANG_LIMIT_S)
    await harness.settle()
    return replies


def prompts_for(name: str, suffix: str = "") -> list[str]:
    mates = [f"{name}: question {index}" for index in range(SIZE - 1)]
    return [*mates, f"{name}: [[fault:{name}{suffix}]] question {SIZE - 1}"]


def calls_by_fault(harness: Harness) -> dict[str, list[int]]:
    """The sizes of the calls for the batch of each fault."""
    sizes = defaultdict(list)
    for call in harness.server.calls:
        if call.generates:
            name = next(iter(call.prompts.values())).partition(":")[0]
            sizes[name].append(len(call.prompts))
    return sizes


def assert_own_or_typed(name: str, prompt: str, reply: httpx2.Response) -> None:
    document = reply.json()
    if reply.status_code == 200:
        assert document["text"] == (
            ODD_TEXTS.get(name) if "[[" in prompt else None
        ) or answer_prompt(prompt)
        return
    assert {"code", "detail"} <= document.keys(), document
    assert reply.status_code in (502, 503, 504), document
    assert ("Retry-After" in reply.headers) == (reply.status_code == 503)
    assert "test-key" not in json.dumps(document)


async def test_lasting_fault_affects_only_its_own_prompt(harness: Harness) -> None:
    names = sorted(FAULTS)
    replies = await ask_batches(harness, names, timeout_s=PATIENCE_S)
    sizes = calls_by_fault(harness)
    wrong = {}
    for name in names:
        for prompt, reply in zip(prompts_for(name), replies[name], strict=True):
            assert_own_or_typed(name, prompt, reply)
        expected = CODES.get(name, "answered")
        got = replies[name][-1].json().get("code", "answered")
        mates = {reply.json().get("code", "answered") for reply in replies[name][:-1]}
        if name in EITHER:
            expected = got if got in ("upstream_error", "missing_answer") else "a typed error"
        if got != expected or (name in MATES_ANSWERED and mates != {"answered"}):
            wrong[name] = (got, mates, sizes[name])
        assert sizes[name][0] == SIZE, name
        assert sum(sizes[name]) <= 3 * SIZE, f"{name} needed more than three calls per item"
        if name in UNREPEATED:
            assert sizes[name] == [SIZE], name
    assert not wrong, "\n".join(f"{name}: {found}" for name, found in wrong.items())
    await assert_everything_is_recorded(harness, batches=len(names))


async def assert_everything_is_recorded(harness: Harness, *, batches: int) -> None:
    await harness.settle()
    assert await Chat.objects.exclude(status__in=FINAL_STATUSES).acount() == 0
    assert await Batch.objects.filter(outcome="running").acount() == 0
    assert await Batch.objects.acount() == batches
    assert await ModelCall.objects.filter(status="started").acount() == 0
    assert await ModelCall.objects.acount() == sum(map(len, calls_by_fault(harness).values()))
    assert len(harness.runtime.gateway.waiters) == 0
    assert harness.runtime.consumer.dispatcher.slots.running == 0


async def test_passing_fault_leaves_no_prompt_unanswered(harness: Harness) -> None:
    """Only the first call of each batch fails."""
    names = sorted(set(FAULTS) - UNREPEATED - {n for n, c in CODES.items() if c == "timeout"})
    replies = await ask_batches(harness, names, suffix=":1", timeout_s=PATIENCE_S)
    sizes = calls_by_fault(harness)
    failed = {
        name: (reply.json(), sizes[name])
        for name in names
        for reply in replies[name]
        if reply.status_code != 200
    }
    assert failed == {}
    for name in names:
        for prompt, reply in zip(prompts_for(name, ":1"), replies[name], strict=True):
            assert_own_or_typed(name, prompt, reply)
        assert len(sizes[name]) <= 1 + SIZE, name


async def test_harmless_faults_need_no_further_call(harness: Harness) -> None:
    names = sorted(HARMLESS)
    replies = await ask_batches(harness, names)
    sizes = calls_by_fault(harness)
    costly = {n: sizes[n] for n in replies if sizes[n] != [SIZE] and n != "max-tokens-after"}
    assert costly == {}


@SHORT_WINDOWS
@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("day", "daily quota"),
        ("limit-0", "limit 0"),
        ("cap", "monthly spending cap"),
        ("credits", "prepayment credits"),
    ],
)
async def test_state_of_the_project_is_named_and_needs_one_call(
    harness: Harness, fault: str, words: str
) -> None:
    replies = await harness.ask_all([f"[[fault:status-429-{fault}]] q", "other"])
    for reply in replies:
        assert (reply.status_code, reply.headers["Retry-After"]) == (503, "3600")
        assert words in reply.json()["detail"]
    assert harness.server.sizes == [2]
    await harness.settle()
    notice = await sync_to_async(read_model_state)(None)
    assert (notice["state"], notice["level"]) == ("quota", "bad")
    assert words in notice["text"]
    chat = await Chat.objects.afirst()
    assert chat is not None
    assert parse_stored_response(chat)["error"]["retry_after_s"] == 3600


@SHORT_WINDOWS
@pytest.mark.parametrize("fault", ["running-usage", "no-usage"])
async def test_answer_its_row_and_its_call_say_whether_their_figures_are_exact(
    harness: Harness, fault: str
) -> None:
    replies = await harness.ask_all([f"[[fault:{fault}]] q", "another question"])
    await harness.settle()
    call = await ModelCall.objects.aget()
    rows = [chat async for chat in Chat.objects.order_by("id")]
    first = replies[0].json()
    assert first["estimated"] is first["usage"]["estimated"] is rows[0].usage["estimated"] is True
    assert call.estimated == (fault == "no-usage")
    for kind in ("prompt", "output", "thoughts", "cached"):
        settled = sum(getattr(row, f"settled_{kind}") for row in rows)
        assert settled == getattr(call, f"{kind}_tokens"), kind
    assert call.prompt_tokens > 0
    for reply, row in zip(replies, rows, strict=True):
        exact = "estimated" not in reply.json()
        spent = row.settled_prompt + row.settled_output + row.settled_thoughts
        assert not exact or reply.json()["usage"]["total_tokens"] == spent


@SHORT_WINDOWS
async def test_requested_pause_is_passed_on_to_the_client(harness: Harness) -> None:
    reply = await harness.ask("[[fault:status-429-long]]")
    assert reply.status_code == 503
    assert int(reply.headers["Retry-After"]) == 3600
    assert harness.server.sizes == [1]


@SHORT_WINDOWS
async def test_redirect_is_not_followed_with_the_key(harness: Harness) -> None:
    reply = await harness.ask("[[fault:status-302]]")
    assert reply.json()["code"] == "upstream_error"
    assert "model.invalid" not in reply.text


async def test_answers_before_a_hang_arrive_at_once(harness: Harness) -> None:
    prompts = [f"question {index}" for index in range(5)] + ["[[fault:hang]] question 5"]
    tasks = [asyncio.create_task(harness.ask(prompt, timeout_s=8)) for prompt in prompts]
    early = await asyncio.gather(*tasks[:5])
    assert [reply.status_code for reply in early] == [200] * 5
    assert not tasks[5].done(), "they waited for the sixth"
    late = await tasks[5]
    assert (late.status_code, late.json()["code"]) == (504, "timeout")
