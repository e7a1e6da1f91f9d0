"""Parses a server-sent event stream."""

import json
from typing import Any

EVENTS = {"accept": "text/event-stream"}


def parse_frames(body: str) -> list[dict[str, Any]]:
    frames = body.split("\n\n")
    assert frames.pop() == "", "the last frame ends with a blank line too"
    assert all(frame.startswith("data: ") and "\n" not in frame for frame in frames)
    return [json.loads(frame.removeprefix("data: ")) for frame in frames]


def join_text(events: list[dict[str, Any]]) -> str:
    """The text of a client that discards at each restart what it has received."""
    text = ""
    for event in events:
        if event["type"] == "restart":
            text = ""
        text += event["content"] if event["type"] == "text" else ""
    return text
