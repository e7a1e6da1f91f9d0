"""Makes the reply of the simulated model to a call, from the answers down to the bytes."""

import itertools
import json
import random

from batching.llm.simulated.answers import answer_prompt, count_tokens
from batching.llm.simulated.calls import SimulatedCall
from batching.llm.simulated.faults import NO_FAULT, Fault, Member
from batching.llm.simulated.wire import (
    Event,
    Pace,
    Reply,
    make_error,
    make_json_reply,
    make_stream_reply,
)

REJECTED_KEY = "rejected-key"
UNKNOWN_MODEL = "no-such-model"
INPUT_TOKEN_LIMIT = 1_048_576
OUTPUT_TOKEN_LIMIT = 65_536
THOUGHT_TOKENS = 24

EVENT_CHARS = 80
MIN_EVENTS = 3
MAX_EVENTS = 24


def make_reply(call: SimulatedCall, *, fault: Fault = NO_FAULT, seed: int, pace: Pace) -> Reply:
    reply = _refuse(call) or (
        _generate(call, fault, seed=seed, pace=pace) if call.generates else _describe(call)
    )
    return fault.reply(reply, call)


def _refuse(call: SimulatedCall) -> Reply | None:
    """Refuses what the real service refuses too, whatever the script says."""
    if not call.headers.get("x-goog-api-key"):
        error = make_error(403, "PERMISSION_DENIED", message="The request has no API key.")
    elif call.headers["x-goog-api-key"] == REJECTED_KEY:
        reason = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}
        error = make_error(400, "INVALID_ARGUMENT", message="API key not valid.", details=(reason,))
    elif call.action not in ("get", "list") and not call.generates:
        error = make_error(404, "NOT_FOUND", message=f"There is nothing at {call.path}.")
    elif call.model == UNKNOWN_MODEL:
        error = make_error(404, "NOT_FOUND", message=f"models/{call.model} is not found.")
    elif call.problem:
        error = make_error(400, "INVALID_ARGUMENT", message=call.problem)
    else:
        return None
    return make_json_reply(error["error"]["code"], error)


def _describe(call: SimulatedCall) -> Reply:
    name = call.model or "gemini-3.8-flash"
    model = {
        "name": f"models/{name}",
        "version": "simulated",
        "displayName": f"{name} (simulated)",
        "inputTokenLimit": INPUT_TOKEN_LIMIT,
        "outputTokenLimit": OUTPUT_TOKEN_LIMIT,
        "supportedGenerationMethods": ["generateContent", "countTokens"],
        "thinking": True,
    }
    return make_json_reply(200, model if call.action == "get" else {"models": [model]})


def _generate(call: SimulatedCall, fault: Fault, *, seed: int, pace: Pace) -> Reply:
    rng = random.Random(f"{seed}:{call.number}")
    text, finish_reason = _limit(_format_text(call, fault, rng, seed=seed), call)
    text = fault.text(text, call)
    pieces = _cut_text(text, rng)
    events = fault.events(_format_events(call, pieces, finish_reason), call)
    times = pace.schedule([count_tokens(_visible_text(event)) for event in events])
    return make_stream_reply(events, times=times, seed=f"{seed}:{call.number}:bytes")


def _format_text(call: SimulatedCall, fault: Fault, rng: random.Random, *, seed: int) -> str:
    answers = {key: answer_prompt(prompt, seed=seed) for key, prompt in call.prompts.items()}
    if not call.keys:
        return "\n".join(answers.values())
    # Every second answer is escaped ASCII, the others are UTF-8: a real model writes both.
    first = rng.random() < 0.5
    members = [
        Member(key, json.dumps(answers[key], ensure_ascii=bool(index % 2) == first))
        for index, key in enumerate(call.keys)
    ]
    members = fault.members(members, call)
    return "{" + ", ".join(f"{json.dumps(m.key)}: {m.value}" for m in members) + "}"


def _limit(text: str, call: SimulatedCall) -> tuple[str, str]:
    """Cuts the text at the output limit, which thoughts and text share."""
    if call.max_output_tokens is None:
        return text, "STOP"
    available = max(0, call.max_output_tokens - THOUGHT_TOKENS)
    if count_tokens(text) <= available:
        return text, "STOP"
    return text[: 4 * available], "MAX_TOKENS"


def _cut_text(text: str, rng: random.Random) -> list[str]:
    count = min(max(MIN_EVENTS, len(text) // EVENT_CHARS), MAX_EVENTS, max(1, len(text)))
    cuts = sorted(rng.sample(range(1, len(text)), count - 1)) if count > 1 else []
    return [text[start:end] for start, end in itertools.pairwise([0, *cuts, len(text)])]


def _format_events(call: SimulatedCall, pieces: list[str], finish_reason: str) -> list[Event]:
    prompt_tokens = count_tokens(call.system) + count_tokens(json.dumps([*call.prompts.items()]))
    events: list[Event] = []
    chars = 0
    for position, piece in enumerate(pieces, start=1):
        chars += len(piece)
        end = {"finishReason": finish_reason} if position == len(pieces) else {}
        content = {"role": "model", "parts": [{"text": piece}]}
        events.append(
            {
                "candidates": [{"index": 0, "content": content, **end}],
                "usageMetadata": _count_usage(prompt_tokens, (chars + 3) // 4),
                "modelVersion": call.model,
                "responseId": f"simulated-{call.number}",
            }
        )
    return events


def _count_usage(prompt_tokens: int, output_tokens: int) -> dict[str, int]:
    """Counts from the beginning of the call; leaves out counts of 0, as Gemini does."""
    usage = {
        "promptTokenCount": prompt_tokens,
        "candidatesTokenCount": output_tokens,
        "thoughtsTokenCount": THOUGHT_TOKENS,
        "totalTokenCount": prompt_tokens + output_tokens + THOUGHT_TOKENS,
    }
    return {kind: count for kind, count in usage.items() if count}


def _visible_text(event: Event) -> str:
    """The text whose tokens determine when the event is sent."""
    if isinstance(event, str):
        return ""
    candidate = (event.get("candidates") or [{}])[0]
    return "".join(part.get("text", "") for part in candidate.get("content", {}).get("parts", []))
