"""Server-sent events: the response of a stream, and the format of its frames."""

import json
from collections.abc import AsyncGenerator

from django.http.response import HttpResponseBase

from batching.gateway.events import Event

SENT_TYPES = ("text", "restart", "done", "error")
_LINE_SEPARATORS = {"\u2028": "\\u2028", "\u2029": "\\u2029", "\x85": "\\u0085"}


class EventStream(HttpResponseBase):
    """A response of server-sent events. The server that sends it closes `events` in every case."""

    streaming = True

    def __init__(self, events: AsyncGenerator[Event, None]) -> None:
        super().__init__(content_type="text/event-stream")
        self["Cache-Control"] = "no-cache, no-transform"
        self["X-Accel-Buffering"] = "no"
        self.events = events

    def format_event(self, event: Event) -> bytes:
        """The event's frames; empty for an event of a type that is not sent."""
        return format_frame(event) if event["type"] in SENT_TYPES else b""


def format_frame(document: Event) -> bytes:
    """A frame whose JSON is one line for every client.

    Some clients end a line at one of Unicode's separators too, so those are escaped.
    """
    text = json.dumps(document, ensure_ascii=False)
    for separator, escape in _LINE_SEPARATORS.items():
        text = text.replace(separator, escape)
    return f"data: {text}\n\n".encode()
