"""Takes one reply apart while it is still streaming.

The reply should be a JSON object with one string per key. The splitter looks for its keys, each
followed by a colon, and reads the string behind it. A key's text cannot stand inside a well-formed
string, because the quotes around it would be escaped there; so prose, fences, unknown keys and
nesting around the values are passed over, and after a malformed value the reading goes on at the
next known key.
"""

import enum
import re
from collections.abc import Sequence

import jiter

_STRING_BODY = re.compile(r'(?:[^"\\\x00-\x1f]+|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*')
_HIGH_SURROGATE = re.compile(r"\\u[dD][89abAB][0-9a-fA-F]{2}\Z")
_OPEN_ESCAPE = re.compile(r"\\(?:u[0-9a-fA-F]{0,3})?\Z")


class Flaw(enum.StrEnum):
    """Why an item got no answer from a reply."""

    MISSING = "missing"
    EMPTY = "empty"
    CUT = "cut"
    MALFORMED = "malformed"
    DUPLICATE = "duplicate"


class Splitter:
    """Feed it the reply's text piece by piece; it returns each value once, when it closes."""

    def __init__(self, keys: Sequence[str]) -> None:
        self.flaws: dict[int, Flaw] = dict.fromkeys(range(len(keys)), Flaw.MISSING)
        """what is wrong with each item that has not been released"""
        self.ignored = 0
        """how many values were repeated after their release"""
        self._indexes = {key: index for index, key in enumerate(keys)}
        names = "|".join(re.escape(key) for key in keys)
        self._member = re.compile(rf'"({names})"\s*:\s*(?=\S)')
        self._longest = max(map(len, keys)) + 2
        self._buffer = ""
        self._at = 0
        self._open: int | None = None
        self._start = 0
        self._told = 0
        self._fresh: dict[int, str] = {}
        self._ended = False

    @property
    def reply(self) -> str:
        """Everything that was fed."""
        return self._buffer

    def feed(self, text: str) -> dict[int, str]:
        """Takes the next piece; gives the answers, by item index, that it completed."""
        self._buffer += text
        return self._read()

    def settle(self) -> dict[int, str]:
        """Nothing more came: a quote that was the last sign ends its value. Gives that answer."""
        self._ended = True
        try:
            return self._read()
        finally:
            self._ended = False

    @property
    def is_unsettled(self) -> bool:
        """The last sign was a quote, which only what follows shows to be the value's end."""
        return self._open is not None and self._buffer[self._at :].rstrip(" \t\r\n") == '"'

    def _read(self) -> dict[int, str]:
        self._fresh = {}
        while self._parse_value() if self._open is not None else self._find_member():
            pass
        for index in self._fresh:
            del self.flaws[index]
        return self._fresh

    @property
    def open_index(self) -> int | None:
        """The item whose value is open, and in order so far."""
        cut = self._open is not None and self.flaws.get(self._open) is Flaw.CUT
        return self._open if cut else None

    def read_delta(self) -> str:
        """What the text of the open_index item has become longer by since the last look at it."""
        if self.open_index is None:
            return ""
        piece = self._buffer[self._told : self._at]
        if _HIGH_SURROGATE.match(piece[-6:]) and not _count_backslashes(piece[:-6]) % 2:
            piece = piece[:-6]  # it needs the other half
        try:
            text = jiter.from_json(f'"{piece}"'.encode())
        except ValueError:
            return ""  # half a character alone: the value is judged when it closes
        self._told += len(piece)
        return _without_nul(text)

    def _find_member(self) -> bool:
        match = self._member.search(self._buffer, self._at)
        if match is None:
            # A key that is cut by the end of this piece must be seen again with the next one; its
            # colon may follow after any white space.
            tail = len(self._buffer.rstrip(" \t\r\n:")) - self._longest
            self._at = max(self._at, tail)
            return False
        index = self._indexes[match.group(1)]
        self._at = match.end()
        if self._buffer[self._at] != '"':
            self._spoil(index, Flaw.MALFORMED)
            return True
        self._open, self._start, self._at = index, self._at, self._at + 1
        self._told = self._at
        if index in self._fresh or self.flaws.get(index) not in (None, Flaw.MISSING):
            self._spoil(index, Flaw.DUPLICATE)
        return True

    def _parse_value(self) -> bool:
        assert self._open is not None
        body = _STRING_BODY.match(self._buffer, self._at)
        assert body is not None
        self._at = body.end()
        if self._at == len(self._buffer) or _OPEN_ESCAPE.match(self._buffer, self._at):
            if self.flaws.get(self._open) is Flaw.MISSING:
                self.flaws[self._open] = Flaw.CUT
            return False
        if self._buffer[self._at] == '"':
            if not (self._ended or self._buffer[self._at + 1 :].strip(" \t\r\n")):
                if self.flaws.get(self._open) is Flaw.MISSING:
                    self.flaws[self._open] = Flaw.CUT
                return False  # what follows shows whether it ends the value
            self._close(self._open)
        else:
            self._spoil(self._open, Flaw.MALFORMED)
        self._at += 1
        self._open = None
        return True

    def _close(self, index: int) -> None:
        if index not in self.flaws:
            self.ignored += 1
            return
        if self.flaws[index] not in (Flaw.MISSING, Flaw.CUT):
            return
        follows = self._buffer[self._at + 1 : self._at + 65].lstrip(" \t\r\n")
        try:
            text = jiter.from_json(self._buffer[self._start : self._at + 1].encode())
        except ValueError:
            self._spoil(index, Flaw.MALFORMED)
            return
        if follows and follows[0] not in ",}":
            self._spoil(index, Flaw.MALFORMED)  # a quote inside the text was not escaped
        elif not text.strip():
            self._spoil(index, Flaw.EMPTY)
        else:
            self._fresh[index] = _without_nul(text)

    def _spoil(self, index: int, flaw: Flaw) -> None:
        self._fresh.pop(index, None)
        if index in self.flaws:
            self.flaws[index] = flaw


def _without_nul(text: str) -> str:
    """No database keeps one."""
    return text.replace("\x00", "\ufffd")


def _count_backslashes(text: str) -> int:
    return len(text) - len(text.rstrip("\\"))
