"""A text that restarts, for clients that cannot discard what they have received."""

import json
from collections.abc import AsyncGenerator
from typing import Any

from batching.api.openai.requests import parse_completion
from batching.api.openai.responses import CompletionStream
from batching.gateway.events import Event

ASKED = {"model": "any", "messages": [{"role": "user", "content": "Why?"}], "stream": True}
ACCEPTED = {"request_id": "r-1", "created_at": "2026-11-23T00:00:00Z"}
DONE = {"type": "done", "finish_reason": "STOP", "usage": {}}


async def no_events() -> AsyncGenerator[Event, None]:
    return
    yield {}


def write(*events: Event) -> tuple[str, list[dict[str, Any]]]:
    """The text and the errors that a client has received."""
    requested = parse_completion(ASKED, request_id=None)
    stream = CompletionStream(no_events(), accepted=ACCEPTED, requested=requested, model="m")
    frames = b"".join(stream.format_event(event) for event in events).split(b"\n\n")
    documents = [json.loads(frame[6:]) for frame in frames if frame and frame[6:] != b"[DONE]"]
    deltas = [d["choices"][0]["delta"] for d in documents if "choices" in d]
    errors = [document["error"] for document in documents if "error" in document]
    assert (frames[-2] == b"data: [DONE]") == (not errors)
    return "".join(delta.get("content", "") for delta in deltas), errors


def text(content: str) -> Event:
    return {"type": "text", "content": content}


RESTART: Event = {"type": "restart"}


def test_restart_with_the_same_text_continues_it() -> None:
    assert write(text("abc"), RESTART, text("a"), text("bcd"), DONE) == ("abcd", [])


def test_restart_with_another_text_ends_with_an_error() -> None:
    sent, errors = write(text("abc"), RESTART, text("x"), text("yz"), DONE)
    assert sent == "abc"
    assert [error["code"] for error in errors] == ["upstream_error"]


def test_shorter_text_is_an_error_too() -> None:
    sent, errors = write(text("abc"), RESTART, text("ab"), DONE)
    assert sent == "abc"
    assert len(errors) == 1


def test_events_of_the_queue_are_not_sent() -> None:
    assert write({"type": "dispatched"}, {"type": "position", "position": 3}, DONE) == ("", [])
