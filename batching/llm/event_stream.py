"""Rewrites event streams, below the SDK, to the only form that the SDK can read.

The SDK fails on most of what the standard of server-sent events allows: comments, other fields than
`data`, `data:` without a space, a byte order mark. Services with Gemini's API send these.
"""

from collections.abc import AsyncIterator
from contextlib import aclosing

import httpx2

# A longer line is no part of a reply; it must not fill the memory.
MAX_LINE_BYTES = 8_000_000

_MEDIA_TYPE = "text/event-stream"
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_IGNORED_FIELDS = (b"", b"id", b"retry")  # A comment is a line with an empty field name.
_IDLE_EVENTS = (b"ping", b"heartbeat", b"keepalive", b"keep-alive")
_NO_DATA = (b"", b"[DONE]")


async def normalize_event_stream(response: httpx2.Response) -> None:
    """A response hook of httpx2's client; other responses than event streams stay unchanged."""
    if response.headers.get("content-type", "").lower().startswith(_MEDIA_TYPE):
        encoding = response.headers.pop("content-encoding", None)
        headers = {"content-encoding": encoding} if encoding else None
        encoded = httpx2.Response(response.status_code, headers=headers, stream=response.stream)
        response.stream = _NormalizedStream(encoded)


class _NormalizedStream(httpx2.AsyncByteStream):
    def __init__(self, response: httpx2.Response) -> None:
        self._response = response

    async def __aiter__(self) -> AsyncIterator[bytes]:
        lines = EventLines()
        async with aclosing(self._response.aiter_bytes()) as pieces:
            async for piece in pieces:
                yield lines.feed(piece)
        yield lines.flush()

    async def aclose(self) -> None:
        await self._response.aclose()


class EventLines:
    """Is fed a stream in pieces of any size; returns the lines that each piece completes.

    A block of lines that the SDK can read is returned as it is. Lines of no known field are kept:
    the service may send an error as plain JSON.
    """

    def __init__(self) -> None:
        self._begun = False
        self._idle = False  # The current event tells only that the service is alive.
        self._tail: list[bytes] = []
        self._tail_bytes = 0

    def feed(self, piece: bytes) -> bytes:
        """Raises ValueError if a line has no end."""
        # A CR at the end may be the first half of a CRLF.
        end = max(piece.rfind(b"\n"), piece.rfind(b"\r", 0, -1)) + 1
        self._tail_bytes = len(piece) - end + (0 if end else self._tail_bytes)
        if self._tail_bytes > MAX_LINE_BYTES:
            raise ValueError("a line of the event stream is too long")
        if not end:
            self._tail.append(piece)
            return b""
        block = b"".join([*self._tail, piece[:end]])
        self._tail = [piece[end:]]
        return self._rewrite(block)

    def flush(self) -> bytes:
        """The end of the stream: returns the rest."""
        return self._rewrite(b"".join(self._tail))

    def _rewrite(self, block: bytes) -> bytes:
        if not self._idle and all(map(_is_readable, block.split(b"\n"))):
            self._begun = True
            return block
        if not self._begun:
            block = block.removeprefix(_BYTE_ORDER_MARK)
            self._begun = True
        return b"".join(map(self._rewrite_line, block.splitlines()))

    def _rewrite_line(self, line: bytes) -> bytes:
        """Returns b"" for a line that means nothing to the SDK."""
        name, _, value = line.partition(b":")
        if not line:
            self._idle = False
        elif name == b"event":
            self._idle = value.strip() in _IDLE_EVENTS
            return b""
        elif name in _IGNORED_FIELDS:
            return b""
        elif name == b"data":
            if self._idle or value.strip() in _NO_DATA:
                return b""
            line = b"data: " + value.removeprefix(b" ")
        return line + b"\n"


def _is_readable(line: bytes) -> bool:
    """Whether the SDK can read the line, which ended with LF. This is true for Gemini's lines."""
    return line in (b"", b"\r") or (line.startswith(b"data: {") and line.find(b"\r", 0, -1) < 0)
