"""Faults of the replies that hold the answers: statuses, events, bytes and connections."""

import gzip
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from batching.llm.simulated.calls import SimulatedCall
from batching.llm.simulated.faults import Fault
from batching.llm.simulated.wire import (
    Ending,
    Event,
    Piece,
    Reply,
    make_error,
    make_json_reply,
)

_RPC = "type.googleapis.com/google.rpc."
_STATUS_NAMES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    408: "REQUEST_TIMEOUT",
    409: "ABORTED",
    429: "RESOURCE_EXHAUSTED",
    499: "CANCELLED",
    500: "INTERNAL",
    502: "BAD_GATEWAY",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}


def status(
    code: int,
    name: str = "",
    *,
    message: str = "",
    details: tuple[dict[str, Any], ...] = (),
    headers: dict[str, str] | None = None,
) -> Fault:
    """Replies with an HTTP status and the error document of Gemini."""
    document = make_error(
        code, name or _STATUS_NAMES.get(code, "UNKNOWN"), message=message, details=details
    )
    answer = make_json_reply(code, document)
    answer = replace(answer, headers=answer.headers | (headers or {}))
    return Fault(f"status-{code}", reply=lambda reply, call: answer)


def error_info(reason: str) -> dict[str, Any]:
    return {"@type": f"{_RPC}ErrorInfo", "reason": reason, "domain": "googleapis.com"}


def retry_info(delay: str) -> dict[str, Any]:
    return {"@type": f"{_RPC}RetryInfo", "retryDelay": delay}


def quota_failure(per: str) -> dict[str, Any]:
    """`per` is `PerDay` or `PerMinute`."""
    quota = f"GenerateRequests{per}PerProjectPerModel-FreeTier"
    return {"@type": f"{_RPC}QuotaFailure", "violations": [{"quotaId": quota}]}


def body(content: bytes, *, code: int = 200, content_type: str = "text/event-stream") -> Fault:
    """Sends `content` instead of the reply."""
    answer = Reply(code, {"content-type": content_type}, [Piece(content, 0.0)] if content else [])
    return Fault(f"body-{code}", reply=lambda reply, call: answer)


def reframe(name: str, *lines: str, head: bytes = b"", tail: bytes = b"", end: str = "\n") -> Fault:
    """Sends each event as these lines, with its JSON in the place of `{}`."""

    def apply(reply: Reply, call: SimulatedCall) -> Reply:
        events = [e.removeprefix(b"data: ") for e in reply.body.split(b"\r\n\r\n") if e]
        form = end.join([*lines, "", ""]).encode()
        frames = [form.replace(b"{}", event) for event in events]
        last_s = reply.pieces[-1].at_s
        return replace(reply, pieces=[Piece(part, last_s) for part in (head, *frames, tail)])

    return Fault(name, reply=apply)


def spread_lines() -> Fault:
    """Sends each event as indented JSON, with a data field for each of its lines."""

    def spread(event: Event) -> Event:
        return json.dumps(event, indent=1).replace("\n", "\ndata:")

    return Fault("spread", events=lambda events, call: [spread(event) for event in events])


def compress() -> Fault:
    def apply(reply: Reply, call: SimulatedCall) -> Reply:
        headers = reply.headers | {"content-encoding": "gzip"}
        pieces = [Piece(gzip.compress(reply.body), reply.pieces[-1].at_s)]
        return replace(reply, headers=headers, pieces=pieces)

    return Fault("compress", reply=apply)


def finish(reason: str | None, **extra: str) -> Fault:
    """Changes the finish reason of the last event, or removes it; adds `extra` fields."""

    def edit(events: list[Event], call: SimulatedCall) -> list[Event]:
        *head, last = events
        if not isinstance(last, dict) or not last.get("candidates"):
            return events
        candidate = {k: v for k, v in last["candidates"][0].items() if k != "finishReason"}
        if reason is not None:
            candidate |= {"finishReason": reason, **extra}
        return [*head, last | {"candidates": [candidate]}]

    return Fault(f"finish-{reason}", events=edit)


def block(reason: str = "PROHIBITED_CONTENT") -> Fault:
    """Blocks the prompt: the reply has feedback and no candidates."""
    return only_event({"promptFeedback": {"blockReason": reason}})


def only_event(document: dict[str, Any], *, usage: bool = True) -> Fault:
    """Sends one event instead of the reply; its usage counts only the tokens of the prompt."""

    def make(events: list[Event], call: SimulatedCall) -> list[Event]:
        first = events[0]
        given = first.get("usageMetadata", {}) if isinstance(first, dict) else {}
        prompt = given.get("promptTokenCount", 0)
        counted = {"usageMetadata": {"promptTokenCount": prompt, "totalTokenCount": prompt}}
        return [document | counted if usage else document]

    return Fault("only-event", events=make)


def add_event(event: Event, *, at: float = 0.5) -> Fault:
    """Inserts `event` after the share `at` of the other events."""

    def add(events: list[Event], call: SimulatedCall) -> list[Event]:
        position = int(len(events) * at)
        return [*events[:position], event, *events[position:]]

    return Fault("add-event", events=add)


def stop_at(event: Event, *, at: float = 0.5) -> Fault:
    """Ends the reply with `event` after the share `at` of the other events."""

    def add(events: list[Event], call: SimulatedCall) -> list[Event]:
        return [*events[: int(len(events) * at)], event]

    return Fault("stop-at", events=add)


def one_event() -> Fault:
    """Sends the whole reply in one event, so that the client receives all of it at once."""
    return Fault("one-event", events=lambda events, call: [_merge_events(events)])


def _merge_events(events: Sequence[Event]) -> dict[str, Any]:
    """Merges the events into one, as `generateContent` would."""
    merged: dict[str, Any] = {}
    parts: list[dict[str, Any]] = []
    candidate: dict[str, Any] = {}
    for event in events:
        if isinstance(event, dict):
            merged |= event
            for given in event.get("candidates", [])[:1]:
                parts += given.get("content", {}).get("parts", [])
                candidate |= given
    if "content" in candidate:
        candidate["content"] = {"role": "model", "parts": parts}
    return merged | ({"candidates": [candidate]} if candidate else {})


def edit_events(name: str, edit: Callable[[dict[str, Any]], dict[str, Any]]) -> Fault:
    def apply(events: list[Event], call: SimulatedCall) -> list[Event]:
        return [edit(event) if isinstance(event, dict) else event for event in events]

    return Fault(name, events=apply)


def end(ending: Ending, *, after_bytes: int | None = None, silent: bool = False) -> Fault:
    """Ends the connection after so many bytes of the body; if `silent`, before the headers."""

    def apply(reply: Reply, call: SimulatedCall) -> Reply:
        pieces = reply.pieces if after_bytes is None else _take(reply.pieces, after_bytes)
        return replace(reply, pieces=[] if silent else pieces, ending=ending, silent=silent)

    return Fault(ending.name.lower(), reply=apply)


def drip(interval_s: float) -> Fault:
    """Sends the reply byte by byte."""

    def apply(reply: Reply, call: SimulatedCall) -> Reply:
        parts = [bytes([byte]) for byte in reply.body]
        return replace(reply, pieces=[Piece(b, i * interval_s) for i, b in enumerate(parts, 1)])

    return Fault("drip", reply=apply)


def trickle(text: str, *, interval_s: float, count: int) -> Fault:
    """Sends `text` again and again after the reply."""
    event = {"candidates": [{"content": {"role": "model", "parts": [{"text": text}]}}]}
    data = f"data: {json.dumps(event)}\r\n\r\n".encode()

    def apply(reply: Reply, call: SimulatedCall) -> Reply:
        last_s = reply.pieces[-1].at_s if reply.pieces else 0.0
        more = [Piece(data, last_s + i * interval_s) for i in range(1, count + 1)]
        return replace(reply, pieces=[*reply.pieces, *more])

    return Fault("trickle", reply=apply)


def delay(seconds: float) -> Fault:
    """Delays the whole reply, with its headers."""

    def apply(reply: Reply, call: SimulatedCall) -> Reply:
        return replace(reply, pieces=[Piece(p.data, p.at_s + seconds) for p in reply.pieces])

    return Fault("delay", reply=apply)


def _take(pieces: list[Piece], count: int) -> list[Piece]:
    taken: list[Piece] = []
    for piece in pieces:
        if count > 0:
            taken.append(replace(piece, data=piece.data[:count]))
        count -= len(piece.data)
    return taken
