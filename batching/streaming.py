"""An answer as a stream: what a client reads while the model writes, never a letter twice."""

import json
from collections.abc import AsyncGenerator, Iterator
from dataclasses import dataclass
from typing import Any

from django.http.response import HttpResponseBase

from batching.engine.errors import GatewayError
from batching.metrics import count_api_error

Event = dict[str, Any]
"""`{"type": "text", "content"}`, `{"type": "restart"}`: what was written is void, and at the end
`{"type": "done", …}` or `{"type": "error", "code", "detail"}`"""


@dataclass(slots=True)
class GrowingText:
    """What one call has written for an item so far."""

    call_id: int
    text: str = ""

    def add(self, start: int, text: str) -> None:
        """Takes a piece where it joins on; behind a lost one nothing more, until the answer."""
        if start <= len(self.text) < start + len(text):
            self.text += text[len(self.text) - start :]


class Reader:
    """What one client has read."""

    def __init__(self) -> None:
        self._call_id: int | None = None
        self._read = ""

    def follow(self, growing: GrowingText) -> Iterator[Event]:
        """The events that bring the client up to date."""
        if self._call_id != growing.call_id:
            yield from self._restart()
            self._call_id = growing.call_id
        yield from self._extend(growing.text)

    def end(self, text: str) -> Iterator[Event]:
        """The rest of the whole answer, or all of it if another one was begun."""
        if not text.startswith(self._read):
            yield from self._restart()
        yield from self._extend(text)

    def _extend(self, text: str) -> Iterator[Event]:
        if len(text) > len(self._read):
            yield {"type": "text", "content": text[len(self._read) :]}
            self._read = text

    def _restart(self) -> Iterator[Event]:
        if self._read:
            yield {"type": "restart"}
            self._read = ""


def describe_failure(error: GatewayError) -> Event:
    count_api_error(error.code)
    return {"type": "error", "code": error.code, "detail": str(error)}


class EventStream(HttpResponseBase):
    """A response of server-sent events. Whoever sends it closes `events`, also when it failed."""

    streaming = True

    def __init__(self, events: AsyncGenerator[Event, None]) -> None:
        super().__init__(content_type="text/event-stream")
        self["Cache-Control"] = "no-cache, no-transform"
        self["X-Accel-Buffering"] = "no"
        self.events = events

    def write_frame(self, event: Event) -> bytes:
        return b"data: " + json.dumps(event, ensure_ascii=False).encode() + b"\n\n"
