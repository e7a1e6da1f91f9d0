"""Splits the reply to a batch into its answers while the reply is still streaming.

The reply should be a JSON object with one string per key. The splitter looks for a known key and a
colon, and reads the string after them. The text of a key cannot occur inside a well-formed string,
because the quotes around the key would be escaped there. So prose, fences, unknown keys and nesting
around the values are skipped, and after a malformed value the search goes on at the next known key.

A model may forget to escape a quote inside a text. So a quote ends a value only if the next known
key or the end of the object follows it.
"""

import enum
import re
from collections.abc import Callable, Sequence

from batching.engine.values import Value, clean_answer, read_object

_STRING_BODY = re.compile(r'(?:[^"\\\x00-\x1f]++|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*+')
_OPEN_ESCAPE = re.compile(r"\\(?:u[0-9a-fA-F]{0,3})?\Z")
_WHITE_SPACE = re.compile(r"[ \t\r\n]*+")
_BLANK = re.compile(r"(?:\s|\\[nrt]|\\u00(?:09|0[aAdD]|20|[aA]0))*+")
_OPENING = re.compile(r"[ \t\r\n{\[]*+")


class Flaw(enum.StrEnum):
    """Why an item got no answer from a reply."""

    MISSING = "missing"
    EMPTY = "empty"
    CUT = "cut"
    MALFORMED = "malformed"
    DUPLICATE = "duplicate"


class Ending(enum.Enum):
    """How far it is certain that the value before the end of what was fed has ended."""

    OBJECT = "the object ends after its quote"
    LIKELY = "its text looks complete"
    DOUBTFUL = "its quote may belong to the text"


class Splitter:
    """Is fed the reply piece by piece and returns each value once, when it is complete.

    `flaws` holds the flaw of each item whose value has not been returned, `contradicted` the items
    whose key came again with another value after theirs was returned. What is fed is consumed
    at once, except the beginning of a key or of an escape, so any reply is read in linear time.
    """

    def __init__(self, keys: Sequence[str], prompts: Sequence[str] = ()) -> None:
        self.flaws: dict[int, Flaw] = dict.fromkeys(range(len(keys)), Flaw.MISSING)
        self.fed = 0  # characters
        self.value_start = 0  # what had been fed when the last value began
        self.progressed = False  # the last piece held more than white space
        self._keys = keys
        self._prompts = prompts or [""] * len(keys)
        self._indexes = {f'"{key}"': index for index, key in enumerate(keys)}
        self._key = re.compile("|".join(map(re.escape, self._indexes)))
        self._max_key_chars = max(map(len, self._indexes))
        self._pieces: list[str] = []
        self._buffer = ""
        self._position = 0
        # The state: the function that reads on. It returns False if it needs more text.
        self._read: Callable[[], bool] = self._find_key
        self._named: int | None = None  # the item of the last key, until its value is closed
        self._open: int | None = None  # the item whose value is being read
        self._value = Value("")
        self._quoted = False  # a quote came that may end this value
        self._completed: dict[int, str] = {}
        self._returned: dict[int, str] = {}
        self.contradicted: set[int] = set()

    @property
    def reply(self) -> str:
        """Everything that was fed."""
        self._pieces = ["".join(self._pieces)]
        return self._pieces[0]

    def feed(self, text: str, *, finished: bool = False) -> dict[int, str]:
        """Takes the next piece; returns the answers, by item index, that it completed.

        `finished`: the model says that this is the last piece.
        """
        self.fed += len(text)
        self.progressed = self._read != self._in_value and bool(text.strip())
        self._pieces.append(text)
        self._buffer = self._buffer[self._position :] + text
        self._position = 0
        while self._read():
            pass
        if finished and self.ending is Ending.OBJECT:
            self._close()
        return self._take_completed()

    def close_last_value(self) -> dict[int, str]:
        """Takes a quote that may end a value as its end; returns the value."""
        if self._quoted:
            self._close()
        return self._take_completed()

    def end(self, *, whole: bool) -> dict[int, str]:
        """Returns what the end of the reply makes certain. `whole`: the reply was not cut off."""
        answers = {} if self.ending is Ending.DOUBTFUL else self.close_last_value()
        if whole:
            self._read_whole_object()
        return answers | self._take_completed()

    @property
    def ending(self) -> Ending | None:
        """How certain it is that the last value has ended; None while it is written."""
        if not self._quoted:
            return None
        if self._read == self._after_object:
            return Ending.OBJECT
        return Ending.LIKELY if self._value.looks_complete else Ending.DOUBTFUL

    @property
    def writing(self) -> int | None:
        """The item whose value, well-formed or not, the model is writing."""
        return None if self._quoted else self._named

    @property
    def open_index(self) -> int | None:
        """The item whose value has begun and is the first for its key."""
        first = self._open is not None and self.flaws.get(self._open) is Flaw.CUT
        return self._open if first and self._open not in self._completed else None

    def take_delta(self) -> str:
        """Returns the text by which the open value has grown since the last call."""
        return "" if self.open_index is None else self._value.take_delta(ended=self._quoted)

    def _take_completed(self) -> dict[int, str]:
        completed, self._completed = self._completed, {}
        self._returned |= completed
        for index in completed:
            del self.flaws[index]
        return completed

    # The states. Outside of strings, they skip white space and return False at the end.

    def _find_key(self) -> bool:
        match = self._key.search(self._buffer, self._position)
        if match is None:
            # The end of this piece may cut a key, which must be found with the next piece.
            rest = len(self._buffer) - self._max_key_chars + 1
            self._position = max(self._position, rest)
            return False
        return self._take_key(match)

    def _take_key(self, match: re.Match[str]) -> bool:
        self._position = match.end()
        self._next = self._indexes[match.group()]
        self._read = self._after_key
        return True

    def _after_key(self) -> bool:
        if not (character := self._skip(_WHITE_SPACE)):
            return False
        if character != ":":
            return self._reject() if self._quoted else self._read_with(self._find_key)
        if self._quoted:
            self._close()
        self._position += 1
        self._named = self._next
        self.value_start = self.fed - len(self._buffer) + self._position
        return self._read_with(self._before_value)

    def _before_value(self) -> bool:
        assert self._named is not None
        if not (character := self._skip(_WHITE_SPACE)):
            return False
        if character != '"':
            self._set_flaw(self._named, Flaw.MALFORMED)
            return self._read_with(self._find_key)
        self._open, self._value = (
            self._named,
            Value(self._keys[self._named], self._prompts[self._named]),
        )
        self._position += 1
        return self._read_with(self._in_value)

    def _in_value(self) -> bool:
        assert self._open is not None
        match = _STRING_BODY.match(self._buffer, self._position)
        assert match is not None
        self._value.add(match.group())
        self.progressed |= not _BLANK.fullmatch(match.group())
        self._position = end = match.end()
        if end == len(self._buffer) or _OPEN_ESCAPE.match(self._buffer, end):
            if self.flaws.get(self._open) is Flaw.MISSING and self._open not in self._completed:
                self.flaws[self._open] = Flaw.CUT
            return False
        self._position += 1
        self.progressed = True
        if self._buffer[end] != '"':
            return self._reject()
        self._quoted = True
        return self._read_with(self._after_quote)

    def _after_quote(self) -> bool:
        if not (character := self._skip(_WHITE_SPACE)):
            return False
        if character not in ",}":
            return self._reject()
        self._position += 1
        return self._read_with(self._after_comma if character == "," else self._after_object)

    def _after_comma(self) -> bool:
        character = self._skip(_OPENING)
        return bool(character) and (
            self._read_with(self._before_next_key) if character == '"' else self._reject()
        )

    def _after_object(self) -> bool:
        """The next quote, if there is one, must begin a key: the quote before was the last."""
        at = self._buffer.find('"', self._position)
        self._position = at if at >= 0 else len(self._buffer)
        return at >= 0 and self._read_with(self._before_next_key)

    def _before_next_key(self) -> bool:
        match = self._key.match(self._buffer, self._position)
        if match is not None:
            return self._take_key(match)
        rest = self._buffer[self._position : self._position + self._max_key_chars]
        return not any(key.startswith(rest) for key in self._indexes) and self._reject()

    def _skip(self, pattern: re.Pattern[str]) -> str:
        """Skips what the pattern matches; returns the next character, or "" at the end."""
        match = pattern.match(self._buffer, self._position)
        self._position = match.end() if match else self._position
        return self._buffer[self._position : self._position + 1]

    def _read_with(self, state: Callable[[], bool]) -> bool:
        self._read = state
        return True

    def _reject(self) -> bool:
        """The open value is no string, or a quote inside it was not escaped."""
        assert self._open is not None
        self._set_flaw(self._open, Flaw.MALFORMED)
        self._open, self._quoted = None, False
        return self._read_with(self._find_key)

    def _close(self) -> None:
        index = self._open
        assert index is not None
        self._open, self._named, self._quoted = None, None, False
        self._read = self._find_key
        self._accept(index, self._value.decode())

    def _accept(self, index: int, text: str | None) -> None:
        """Completes the item unless its value is no answer, or differs from an earlier one."""
        if index in self._completed:
            if self._completed[index] != text:
                self._set_flaw(index, Flaw.DUPLICATE)
        elif index in self._returned and self._returned[index] == text:
            pass
        elif self.flaws.get(index) not in (Flaw.MISSING, Flaw.CUT):
            self._set_flaw(index, Flaw.DUPLICATE)
        elif text is None:
            self._set_flaw(index, Flaw.MALFORMED)
        elif not text.strip():
            self._set_flaw(index, Flaw.EMPTY)
        else:
            self._completed[index] = text

    def _set_flaw(self, index: int, flaw: Flaw) -> None:
        self._completed.pop(index, None)
        if index in self.flaws:
            self.flaws[index] = flaw
        else:
            self.contradicted.add(index)

    def _read_whole_object(self) -> None:
        """Accepts the values of a well-formed object which an unknown key follows."""
        first = self._key.search(self.reply)
        found = read_object(self.reply, before=first.start()) if first else {}
        for index, key in enumerate(self._keys):
            text = found.get(key) if self.flaws.get(index) is Flaw.MALFORMED else None
            if isinstance(text, str):
                self.flaws[index] = Flaw.MISSING
                self._accept(index, clean_answer(key, text, self._prompts[index]))
