"""Splits the reply to a batch into its answers while the reply is still streaming.

The reply should be a JSON object with one string per key. The splitter looks for a known key and a
colon, and reads the string after them. The text of a key cannot occur inside a well-formed string,
because the quotes around the key would be escaped there. So prose, fences, unknown keys and nesting
around the values are skipped, and after a malformed value the search goes on at the next known key.
"""

import enum
import re
from collections.abc import Sequence

import jiter

_STRING_BODY = re.compile(r'(?:[^"\\\x00-\x1f]+|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*')
_HIGH_SURROGATE = re.compile(r"\\u[dD][89abAB][0-9a-fA-F]{2}\Z")
_OPEN_ESCAPE = re.compile(r"\\(?:u[0-9a-fA-F]{0,3})?\Z")
_WHITE_SPACE = " \t\r\n"


class Flaw(enum.StrEnum):
    """Why an item got no answer from a reply."""

    MISSING = "missing"
    EMPTY = "empty"
    CUT = "cut"
    MALFORMED = "malformed"
    DUPLICATE = "duplicate"


class Splitter:
    """Is fed the reply piece by piece and returns each value once, when it is complete.

    `flaws` holds the flaw of each item whose value has not been returned.
    """

    def __init__(self, keys: Sequence[str]) -> None:
        self.flaws: dict[int, Flaw] = dict.fromkeys(range(len(keys)), Flaw.MISSING)
        self._indexes = {key: index for index, key in enumerate(keys)}
        names = "|".join(re.escape(key) for key in keys)
        self._member = re.compile(rf'"({names})"\s*:\s*(?=\S)')
        self._max_key_chars = max(map(len, keys)) + 2
        self._buffer = ""
        self._position = 0
        self._open: int | None = None
        self._value_start = 0
        self._delta_start = 0
        self._completed: dict[int, str] = {}
        self._at_end = False

    @property
    def reply(self) -> str:
        """Everything that was fed."""
        return self._buffer

    def feed(self, text: str) -> dict[int, str]:
        """Takes the next piece; returns the answers, by item index, that it completed."""
        self._buffer += text
        return self._parse()

    def close_last_value(self) -> dict[int, str]:
        """Treats a quote at the end of the buffer as the end of its value; returns that answer."""
        self._at_end = True
        try:
            return self._parse()
        finally:
            self._at_end = False

    @property
    def ends_with_quote(self) -> bool:
        """Only the next character shows whether the quote at the end of the buffer ends a value."""
        return self._open is not None and self._buffer[self._position :].rstrip(_WHITE_SPACE) == '"'

    @property
    def open_index(self) -> int | None:
        """The item whose value has begun and is well-formed so far."""
        return self._open if self._open is not None and self._has_flaw(Flaw.CUT) else None

    def take_delta(self) -> str:
        """Returns the text by which the open value has grown since the last call."""
        if self.open_index is None:
            return ""
        piece = self._buffer[self._delta_start : self._position]
        if _HIGH_SURROGATE.match(piece[-6:]) and not _count_backslashes(piece[:-6]) % 2:
            piece = piece[:-6]  # Its low surrogate has not arrived yet.
        try:
            text: str = jiter.from_json(f'"{piece}"'.encode())
        except ValueError:
            return ""  # A lone surrogate: the value will be malformed when it closes.
        self._delta_start += len(piece)
        return _replace_nul(text)

    def _parse(self) -> dict[int, str]:
        self._completed = {}
        while self._parse_value() if self._open is not None else self._find_member():
            pass
        for index in self._completed:
            del self.flaws[index]
        return self._completed

    def _find_member(self) -> bool:
        match = self._member.search(self._buffer, self._position)
        if match is None:
            # The end of this piece may cut a key, which must be found with the next piece. White
            # space of any length may precede its colon.
            tail = len(self._buffer.rstrip(_WHITE_SPACE + ":")) - self._max_key_chars
            self._position = max(self._position, tail)
            return False
        index = self._indexes[match.group(1)]
        self._position = match.end()
        if self._buffer[self._position] != '"':
            self._set_flaw(index, Flaw.MALFORMED)
            return True
        self._open, self._value_start = index, self._position
        self._position += 1
        self._delta_start = self._position
        if index in self._completed or self.flaws.get(index) not in (None, Flaw.MISSING):
            self._set_flaw(index, Flaw.DUPLICATE)
        return True

    def _parse_value(self) -> bool:
        assert self._open is not None
        body = _STRING_BODY.match(self._buffer, self._position)
        assert body is not None
        self._position = end = body.end()
        quoted = self._buffer[end : end + 1] == '"'
        unfinished = end == len(self._buffer) or _OPEN_ESCAPE.match(self._buffer, end)
        # Only the character after a quote shows whether the quote ends the value.
        if unfinished or (quoted and not self._at_end and self.ends_with_quote):
            if self._has_flaw(Flaw.MISSING):
                self.flaws[self._open] = Flaw.CUT
            return False
        if quoted:
            self._close(self._open)
        else:
            self._set_flaw(self._open, Flaw.MALFORMED)
        self._position += 1
        self._open = None
        return True

    def _close(self, index: int) -> None:
        if self.flaws.get(index) not in (Flaw.MISSING, Flaw.CUT):
            return
        end = self._position + 1
        follows = self._buffer[end : end + 64].lstrip(_WHITE_SPACE)
        try:
            text: str = jiter.from_json(self._buffer[self._value_start : end].encode())
        except ValueError:
            self._set_flaw(index, Flaw.MALFORMED)
            return
        if follows and follows[0] not in ",}":
            self._set_flaw(index, Flaw.MALFORMED)  # A quote inside the text was not escaped.
        elif not text.strip():
            self._set_flaw(index, Flaw.EMPTY)
        else:
            self._completed[index] = _replace_nul(text)

    def _has_flaw(self, flaw: Flaw) -> bool:
        return self._open is not None and self.flaws.get(self._open) is flaw

    def _set_flaw(self, index: int, flaw: Flaw) -> None:
        self._completed.pop(index, None)
        if index in self.flaws:
            self.flaws[index] = flaw


def _replace_nul(text: str) -> str:
    """No database stores a NUL character."""
    return text.replace("\x00", "\ufffd")


def _count_backslashes(text: str) -> int:
    return len(text) - len(text.rstrip("\\"))
