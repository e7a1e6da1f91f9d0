"""Detects a reply that does not end: a value that is far too long, or text that repeats itself."""

import re
from collections.abc import Sequence

from batching.engine.splitter import Splitter

# A token has about 4 characters of text. A value may have four times as many, because some text has
# longer tokens and escapes lengthen it. More than that is no answer of the lane's size.
MAX_CHARS_PER_TOKEN = 16
MIN_VALUE_CHARS = 4_000
# Keys, prose and brackets around the values.
OVERHEAD_CHARS = 10_000
# So much white space without a character between is no answer's layout.
MAX_BLANK_CHARS = 1_000
# So much text that repeats a passage of at most MAX_PERIOD_CHARS is a loop. A request may want such
# an answer, so in a call of its own it may be as long as the tokens of the item usually are.
MAX_REPEATED_CHARS = 4_000
MAX_PERIOD_CHARS = 1_000
USUAL_CHARS_PER_TOKEN = 4
# The text is searched for repetitions once in so many characters.
STEP_CHARS = 500

_BLANK = re.compile(r"[nrt]?(?:\s|\\[nrt])*+\\?")


class RunawayCheck:
    """Checks the reply of one call while it is read. `output_tokens` are those of each item."""

    def __init__(self, output_tokens: Sequence[int]) -> None:
        self._max_values = [
            max(MIN_VALUE_CHARS, MAX_CHARS_PER_TOKEN * tokens) for tokens in output_tokens
        ]
        self.max_reply = sum(self._max_values) + OVERHEAD_CHARS
        self._max_repeated = MAX_REPEATED_CHARS
        if len(output_tokens) == 1:
            self._max_repeated = max(MAX_REPEATED_CHARS, USUAL_CHARS_PER_TOKEN * output_tokens[0])
        self._recent = ""
        self._new: list[str] = []
        self._new_chars = 0

    def has_run_away(self, text: str, splitter: Splitter) -> bool:
        """`text` is the piece that the splitter was fed."""
        if splitter.fed > self.max_reply:
            return True
        index = splitter.writing
        if index is not None and splitter.fed - splitter.value_start > self._max_values[index]:
            return True
        self._new.append(text)
        self._new_chars += len(text)
        return self._new_chars >= STEP_CHARS and self._is_repeating()

    def _is_repeating(self) -> bool:
        self._recent = (self._recent + "".join(self._new))[-self._max_repeated :]
        self._new, self._new_chars = [], 0
        recent, length = self._recent, len(self._recent)
        if length >= MAX_BLANK_CHARS and _BLANK.fullmatch(recent[-MAX_BLANK_CHARS:]):
            return True
        if length < self._max_repeated:
            return False
        probe = recent[-MAX_PERIOD_CHARS:]
        start = recent.find(probe, length - 2 * MAX_PERIOD_CHARS, length - 1)
        period = length - MAX_PERIOD_CHARS - start
        return start >= 0 and recent[period:] == recent[:-period]
