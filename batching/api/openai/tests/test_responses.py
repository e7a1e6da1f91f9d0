"""A text that is begun anew, for clients that cannot take anything back."""

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
    """The text that a client has, and the errors it was told."""
    asked = parse_completion(ASKED, request_id=None)
    stream = CompletionStream(no_events(), accepted=ACCEPTED, asked=asked, model="m")
    frames = b"".join(stream.format_event(event) for event in events).split(b"\n\n")
    documents = [json.loads(frame[6:]) for frame in frames if frame and frame[6:] != b"[DONE]"]
    deltas = [d["choices"][0]["delta"] for d in documents if "choices" in d]
    errors = [document["error"] for document in documents if "error" in document]
    assert (frames[-2] == b"data: [DONE]") == (not errors)
    return "".join(delta.get("content", "") for delta in deltas), errors


def text(content: str) -> Event:
    return {"type": "text", "content": content}


RESTART: Event = {"type": "restart"}


def test_same_text_goes_on_where_it_was() -> None:
    assert write(text("abc"), RESTART, text("a"), text("bcd"), DONE) == ("abcd", [])


def test_other_text_is_an_error_and_no_letter_more() -> None:
    sent, errors = write(text("abc"), RESTART, text("x"), text("yz"), DONE)
    assert sent == "abc"
    assert [error["code"] for error in errors] == ["upstream_error"]


def test_shorter_text_is_an_error_too() -> None:
    sent, errors = write(text("abc"), RESTART, text("ab"), DONE)
    assert sent == "abc"
    assert len(errors) == 1


def test_what_happens_in_the_queue_is_not_told() -> None:
    assert write({"type": "dispatched"}, {"type": "position", "position": 3}, DONE) == ("", [])
