"""The REST and SSE wire format of Gemini: replies are bytes that are sent at given times."""

import enum
import itertools
import json
import random
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

# The data of one SSE event: a response document, or text that is sent unchanged.
Event = dict[str, Any] | str

_DIFFICULT_CUT = re.compile(rb"\\|[\xc2-\xf4]")


class Ending(enum.Enum):
    """What happens after the last byte."""

    COMPLETE = "the reply is complete"
    EARLY_CLOSE = "the connection closes before the end of the reply"
    RESET = "the connection is reset"
    HANG = "nothing more is sent"
    REFUSED = "the connection is refused"
    CANCELLED = "the client itself raises a cancellation"


@dataclass(frozen=True, slots=True)
class Piece:
    """Bytes that are sent together, `at_s` seconds after the call arrived."""

    data: bytes
    at_s: float


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply; if it is `silent`, not even its headers are sent before its ending."""

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
    """How fast the model writes. `total_s`, if set, is the duration of a reply of any length."""

    first_token_s: float = 0.1
    token_s: float = 0.0005
    total_s: float | None = None

    def schedule(self, weights: Sequence[int]) -> list[float]:
        """Returns when each event is sent; `weights` are their numbers of tokens."""
        first_s, token_s = self.first_token_s, self.token_s
        if self.total_s is not None:
            first_s = self.total_s / 4
            token_s = (self.total_s - first_s) / max(1, sum(weights))
        return [first_s + tokens * token_s for tokens in itertools.accumulate(weights)]


def make_json_reply(status: int, document: Any) -> Reply:
    headers = {"content-type": "application/json; charset=UTF-8"}
    return Reply(status, headers, [Piece(json.dumps(document).encode(), at_s=0.0)])


def make_error(
    status: int, name: str, *, message: str = "", details: Sequence[dict[str, Any]] = ()
) -> dict[str, Any]:
    """Makes the document that Gemini sends with an error status."""
    error: dict[str, Any] = {"code": status, "message": message or name, "status": name}
    if details:
        error["details"] = list(details)
    return {"error": error}


def make_stream_reply(events: Sequence[Event], *, times: Sequence[float], seed: str) -> Reply:
    """Makes an SSE stream that is cut into packets; the cuts depend only on `seed`."""
    rng = random.Random(seed)
    frames = [_format_frame(event, rng) for event in events]
    headers = {"content-type": "text/event-stream", "content-disposition": "attachment"}
    return Reply(200, headers, _pack(frames, times, rng))


async def play(
    pieces: Sequence[Piece],
    *,
    started: float,
    sleep: Callable[[float], Awaitable[None]],
    clock: Callable[[], float],
) -> AsyncIterator[bytes]:
    """Yields each piece at its time. Times are absolute: a late wake-up delays no later piece."""
    for piece in pieces:
        wait_s = started + piece.at_s - clock()
        if wait_s > 0:
            await sleep(wait_s)
        yield piece.data


def _format_frame(event: Event, rng: random.Random) -> bytes:
    if isinstance(event, dict):
        event = json.dumps(event, ensure_ascii=rng.random() < 0.5)
    return f"data: {event}\r\n\r\n".encode("utf-8", "replace")


def _pack(frames: Sequence[bytes], times: Sequence[float], rng: random.Random) -> list[Piece]:
    """Cuts packets that end inside a frame, end with it, or continue in the next frame."""
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
    """Returns 0 for no cut, else a position, often inside an escape or the bytes of a character."""
    kind = rng.random()
    if kind < 0.4:
        return 0
    difficult = [match.end() for match in _DIFFICULT_CUT.finditer(frame)] if kind < 0.9 else []
    return rng.choice(difficult) if difficult else rng.randrange(1, len(frame))
