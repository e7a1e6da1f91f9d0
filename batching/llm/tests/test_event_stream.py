"""Event streams of other services: the lines alone, and through the real SDK."""

import gzip
import json
from collections.abc import Sequence

import pytest

from batching.engine.model import CallFailed, Remedy
from batching.llm.access import ModelAccess
from batching.llm.event_stream import MAX_LINE_BYTES, EventLines
from batching.llm.gemini import GeminiModel
from batching.llm.simulated.calls import SimulatedCall
from batching.llm.simulated.faults import Fault
from batching.llm.simulated.wire import Piece, Reply
from batching.llm.tests.recording import RecordingTransport
from batching.llm.tests.sdk_client import make_prompt

EVENT_STREAM = {"content-type": "Text/Event-Stream; charset=utf-8"}
# Two events in every form that the standard allows; `{}` is replaced by a part of their JSON.
UNUSUAL = (
    "\ufeff: ping\n\nid\nretry: 10\nevent: message\ndata:{}\n: in an event\ndata: {}\ndata\n\n"
    "data:\n\nevent: ping\ndata: x\n\ndata:  {}\n\n:\n\ndata: [DONE]\n\n"
)
EVENTS = ('{"candidates": [{"content":', ' {"parts": [{"text": "é\u2028"}]}}]}')
LAST = '{"candidates": [{"content": {"parts": [{"text": ": ping"}]}, "finishReason": "STOP"}]}'
TEXT = "é\u2028: ping"


def write_unusual(end: str) -> bytes:
    text = UNUSUAL
    for part in (*EVENTS, LAST):
        text = text.replace("{}", part, 1)
    return text.replace("\n", end).encode()


async def read_texts(replies: Sequence[Reply]) -> list[str]:
    """Returns the text of each reply, read by the SDK as the gateway configures it."""
    rest = iter(replies)

    def script(call: SimulatedCall) -> Fault:
        reply = next(rest)
        return Fault("raw", reply=lambda usual, call: reply)

    access = ModelAccess("a-key", transport=RecordingTransport(script))
    model = GeminiModel(lambda: access)
    texts = []
    try:
        for _ in replies:
            pieces = [piece async for piece in model.stream(make_prompt(), timeout_s=60)]
            texts.append("".join(piece.text for piece in pieces))
    finally:
        await model.close()
    return texts


def cut(data: bytes, *, at: int, headers: dict[str, str] = EVENT_STREAM) -> Reply:
    return Reply(200, headers, [Piece(data[:at], 0.0), Piece(data[at:], 0.0)])


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
async def test_sdk_reads_every_legal_form_cut_at_every_byte(end: str) -> None:
    data = write_unusual(end)
    texts = await read_texts([cut(data, at=at) for at in range(len(data))])
    assert set(texts) == {TEXT}


async def test_sdk_reads_a_compressed_stream() -> None:
    data = gzip.compress(write_unusual("\r\n"))
    headers = EVENT_STREAM | {"content-encoding": "gzip"}
    texts = await read_texts([cut(data, at=at, headers=headers) for at in (1, 30, len(data))])
    assert set(texts) == {TEXT}


async def test_stream_that_ends_without_an_empty_line_is_read() -> None:
    data = write_unusual("\n").replace(b"\n\n:\n\ndata: [DONE]\n\n", b"")
    assert await read_texts([cut(data, at=9)]) == [TEXT]


async def test_error_as_plain_json_in_the_stream_keeps_its_status() -> None:
    error = {"error": {"code": 503, "status": "UNAVAILABLE", "message": "id: retry"}}
    data = b": ping\n\n" + json.dumps(error, indent=2).encode()
    with pytest.raises(CallFailed, match="answered 503 UNAVAILABLE"):
        await read_texts([cut(data, at=20)])


async def test_broken_event_is_still_an_error() -> None:
    with pytest.raises(CallFailed, match="unreadable reply"):
        await read_texts([cut(b'data:{"candidates": [\n\n', at=3)])


async def test_line_without_end_is_an_error_of_the_call() -> None:
    data = b'data: {"a": "' + b"x" * MAX_LINE_BYTES
    with pytest.raises(CallFailed, match="unreadable reply") as caught:
        await read_texts([cut(data, at=20)])
    assert caught.value.remedy is Remedy.ALONE


def feed(pieces: Sequence[bytes]) -> bytes:
    lines = EventLines()
    return b"".join([*map(lines.feed, pieces), lines.flush()])


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_lines_of_gemini_are_not_changed(end: bytes) -> None:
    data = (b'data: {"a": "\xe2\x80\xa8 : event"}' + end * 2) * 3
    for size in range(1, len(data)):
        assert feed([data[at : at + size] for at in range(0, len(data), size)]) == data


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_result_does_not_depend_on_the_pieces(end: str) -> None:
    data = write_unusual(end)
    expected = feed([data]).splitlines()
    for size in range(1, 60):
        found = feed([data[at : at + size] for at in range(0, len(data), size)])
        assert found.splitlines() == expected


def test_event_is_returned_with_its_last_line() -> None:
    lines = EventLines()
    assert lines.feed(b": ping\n\nda") == b"\n"
    assert lines.feed(b'ta:{"a": 1}\n') == b'data: {"a": 1}\n'
    assert lines.feed(b"\n") == b"\n"
