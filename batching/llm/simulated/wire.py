"""Gemini's REST and SSE wire format: replies as bytes that leave at given times."""

import asyncio
import enum
import json
import random
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

Event = dict[str, Any] | str
"""one SSE event's data: a response document, or raw text that is sent as it is"""

_NASTY_CUT = re.compile(rb"\\|[\xc2-\xf4]")


class Ending(enum.Enum):
    """What happens after the last byte."""

    COMPLETE = "the reply ends as it should"
    EARLY_CLOSE = "the connection closes though the reply is not at its end"
    RESET = "the connection is reset"
    HANG = "nothing comes any more"
    REFUSED = "there was no connection at all"
    CANCELLED = "the client is cancelled from inside"


@dataclass(frozen=True, slots=True)
class Piece:
    """Bytes that leave together, `at_s` seconds after the call came in."""

    data: bytes
    at_s: float


@dataclass(frozen=True, slots=True)
class Reply:
    """`silent`: not even the headers are sent before the ending."""

    status: int
    headers: dict[str, str]
    pieces: list[Piece] = field(default_factory=list)
    ending: Ending = Ending.COMPLETE
    silent: bool = False

    @property
    def body(self) -> bytes:
        return b"".join(piece.data for piece in self.pieces)


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast the model writes. `total_s`, where set, is the whole reply's time at any length."""

    first_token_s: float = 0.1
    token_s: float = 0.002
    total_s: float | None = None

    def schedule(self, weights: Sequence[int]) -> list[float]:
        """When each event leaves, given the tokens in each."""
        first_s, token_s = self.first_token_s, self.token_s
        if self.total_s is not None:
            first_s = self.total_s / 4
            token_s = (self.total_s - first_s) / max(1, sum(weights))
        times, tokens = [], 0
        for weight in weights:
            tokens += weight
            times.append(first_s + tokens * token_s)
        return times


def make_json_reply(status: int, document: Any, *, at_s: float = 0.0) -> Reply:
    content = json.dumps(document).encode()
    return Reply(
        status, {"content-type": "application/json; charset=UTF-8"}, [Piece(content, at_s)]
    )


def make_error(
    status: int, name: str, *, message: str = "", details: Sequence[dict[str, Any]] = ()
) -> dict[str, Any]:
    """Gemini's error document."""
    error: dict[str, Any] = {"code": status, "message": message or name, "status": name}
    if details:
        error["details"] = list(details)
    return {"error": error}


def make_stream_reply(events: Sequence[Event], *, times: Sequence[float], seed: str) -> Reply:
    """The events as SSE, torn into packets at places that depend on `seed` alone."""
    rng = random.Random(seed)
    frames = [_format_frame(event, rng) for event in events]
    headers = {"content-type": "text/event-stream", "content-disposition": "attachment"}
    return Reply(200, headers, _tear(frames, times, rng))


def merge_events(events: Sequence[Event]) -> dict[str, Any]:
    """The one document that `generateContent` answers instead of a stream."""
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


async def play(
    pieces: Sequence[Piece],
    *,
    started: float,
    sleep: Callable[[float], Awaitable[None]],
    clock: Callable[[], float],
) -> AsyncIterator[bytes]:
    """Gives each piece at its time. Times are absolute, so a late wake-up delays no later piece."""
    for piece in pieces:
        wait_s = started + piece.at_s - clock()
        if wait_s > 0:
            await sleep(wait_s)
        yield piece.data


async def hang() -> None:
    """Returns never; ends by cancellation."""
    await asyncio.get_running_loop().create_future()


def _format_frame(event: Event, rng: random.Random) -> bytes:
    if isinstance(event, str):
        return f"data: {event}\r\n\r\n".encode("utf-8", "replace")
    text = json.dumps(event, ensure_ascii=rng.random() < 0.5)
    return f"data: {text}\r\n\r\n".encode("utf-8", "replace")


def _tear(frames: Sequence[bytes], times: Sequence[float], rng: random.Random) -> list[Piece]:
    """A packet ends somewhere inside a frame, at its end, or runs on into the next frame."""
    pieces: list[Piece] = []
    held = b""
    for frame, at_s in zip(frames, times, strict=True):
        cut = _choose_cut(frame, rng)
        if cut:
            pieces.append(Piece(held + frame[:cut], at_s))
            held = b""
        held += frame[cut:]
        if rng.random() < 0.7:
            pieces.append(Piece(held, at_s))
            held = b""
    if held:
        pieces.append(Piece(held, times[-1]))
    return pieces


def _choose_cut(frame: bytes, rng: random.Random) -> int:
    """0 for no cut; else often inside an escape or inside a character's bytes."""
    kind = rng.random()
    if kind < 0.4:
        return 0
    nasty = [match.end() for match in _NASTY_CUT.finditer(frame)] if kind < 0.9 else []
    return rng.choice(nasty) if nasty else rng.randrange(1, len(frame))
