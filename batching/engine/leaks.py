"""Detects that the prompt of one item of a batch leaked into the answer of another.

The checks find what known attacks leave behind in a reply. They do not find the attack itself: an
answer that was changed in the model's own words passes. Only `batch_scope` keeps prompts apart.

Equal text alone is no leak: people share licence headers, greetings and well-known code. A leak is
text of a neighbour's prompt that is unlikely to be there by chance (see `information.py`).
"""

import bisect
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property

from batching.engine.information import Information

# An answer does not hold so many consecutive characters of another prompt by chance, if they hold
# at least LEAK_BITS of information together.
LEAK_CHARS = 80
LEAK_BITS = 36.0
# A whole prompt holds its request too, which no good answer to another prompt repeats.
WHOLE_PROMPT_BITS = 20.0
# A gram is a piece of this length. Those that begin at its multiples in a prompt are "aligned":
# any LEAK_CHARS characters of the prompt hold at least one of them.
GRAM_CHARS = LEAK_CHARS // 2
# Two answers that begin or end with the same text of this length from one prompt were dictated, if
# the text has at least DICTATED_BITS.
DICTATED_CHARS = 12
DICTATED_BITS = 20.0
# The same for answers that consist of nothing else.
DICTATED_WHOLE_CHARS = 8
# A prompt that speaks about the answers to others so near to the text: then it may be common text.
_SPEAKS_FOR_OTHERS = re.compile(
    r"\b(?:every|all|each|others?|everybody|everyone)\b[^.!?\n]{0,40}"
    r"\b(?:answer|repl|respon|request|question|output|message|prompt)"
    r"|\b(?:answer|repl|respon|speak|say)\w*\b[^.!?\n]{0,40}"
    r"\b(?:every|all|each|others?|everybody|everyone)\b"
    r"|\b(?:jede[rsn]?|allen?|tou(?:te)?s|chaque|tod[ao]s|cada)\b[^.!?\n]{0,40}"
    r"\b(?:antwort|frage|anfrage|réponse|question|demande|respuesta|pregunta)"
    r"|(?:每个|所有)[^。！？\n]{0,20}(?:回答|问题|请求)",
    re.IGNORECASE,
)
NEAR_CHARS = 200
DICTATED_BITS_FOR_OTHERS = 6.0
# Characters of an answer's beginning or end that are compared with the prompts.
MAX_DICTATED_CHARS = 400
# These bound the time on the event loop. Characters of a prompt that are indexed:
MAX_INDEXED_CHARS = 100_000
# Candidate matches that are checked for each answer:
MAX_CANDIDATES = 200
# Positions of a gram that are compared, in one prompt and in an answer:
MAX_GRAM_POSITIONS = 3
# Characters on either side of a gram that are compared:
MAX_PIECE_CHARS = 2_000
# Characters whose information is measured for each answer:
MAX_MEASURED_CHARS = 20_000


class AnswerCheck:
    """Checks the answers of one combined call; indexes are those of its items."""

    def __init__(self, keys: Sequence[str], prompts: Sequence[str]) -> None:
        self._keys = keys
        self._prompts = [prompt[:MAX_INDEXED_CHARS] for prompt in prompts]
        self._information = Information(self._prompts)

    @cached_property
    def _positions(self) -> dict[str, list[tuple[int, int]]]:
        """Maps each aligned gram to the items that hold it and its positions there."""
        positions: dict[str, list[tuple[int, int]]] = {}
        for index, prompt in enumerate(self._prompts):
            if len(prompt) < LEAK_CHARS:
                continue
            for start in range(0, len(prompt) - GRAM_CHARS + 1, GRAM_CHARS):
                found = positions.setdefault(prompt[start : start + GRAM_CHARS], [])
                recent = found[-MAX_GRAM_POSITIONS:]
                if sum(owner == index for owner, _ in recent) < MAX_GRAM_POSITIONS:
                    found.append((index, start))
        return positions

    def find_leak(self, index: int, text: str, *, since: int = 0) -> str:
        """Describes what this answer holds of another item; "" if it holds nothing.

        For a growing text, `since` is the length up to which it was checked before.
        """
        if len(self._keys) == 1:
            return ""
        new = text[max(0, since - LEAK_CHARS) :]
        for other, key in enumerate(self._keys):
            if other != index and key in new:
                return "it holds the key of another request"
        if len(new) >= LEAK_CHARS and self._repeats_unlikely_text(index, text, new):
            return "it repeats another request's prompt"
        return ""

    def find_dictated(self, texts: Mapping[int, str]) -> dict[int, str]:
        """Finds answers whose beginning, end or whole text comes from another item's prompt.

        Returns the reasons by index. One such answer may be chance, so two are needed. An item
        whose own prompt holds the text is not suspected.
        """
        found: dict[int, str] = {}
        for side, sign in (("begins", 1), ("ends", -1)):
            sides = {index: text[::sign] for index, text in texts.items()}
            for index, length in self._list_shared(sides):
                piece, whole = sides[index][:length][::sign], length == len(sides[index])
                if self._is_dictated(index, piece, whole=whole, sign=sign):
                    found.setdefault(index, f"it {side} as another request's prompt dictates")
        return found

    def _list_shared(self, texts: Mapping[int, str]) -> Iterator[tuple[int, int]]:
        """Yields each answer that begins as another does, and the length of what they share."""
        groups = Counter(text[:DICTATED_CHARS] for text in texts.values())
        for index, text in texts.items():
            if groups[text[:DICTATED_CHARS]] < 2:
                continue
            lengths = [
                _count_equal(text[:MAX_DICTATED_CHARS], other[:MAX_DICTATED_CHARS])
                for i, other in texts.items()
                if self._prompts[i] != self._prompts[index]
            ]
            yield index, max(lengths, default=0)

    def _is_dictated(self, index: int, shared: str, *, whole: bool, sign: int) -> bool:
        own = self._prompts[index]
        for source, prompt in enumerate(self._prompts):
            if prompt == own:
                continue
            length = _count_held(shared, prompt, sign)
            piece = shared[:length] if sign > 0 else shared[len(shared) - length :]
            complete = whole and length == len(shared) >= DICTATED_WHOLE_CHARS
            long_enough = complete or length >= DICTATED_CHARS
            if long_enough and piece not in own and self._is_unlikely(piece, index, source):
                return True
        return False

    def _is_unlikely(self, piece: str, reader: int, source: int) -> bool:
        """Whether a dictated piece is no text that two answers begin or end with by chance."""
        if self._information.is_translation(piece, reader=reader, source=source):
            return False
        prompt = self._prompts[source]
        at = prompt.find(piece)
        near = prompt[max(0, at - NEAR_CHARS) : at + len(piece) + NEAR_CHARS]
        for_others = bool(_SPEAKS_FOR_OTHERS.search(near))
        bits = self._information.measure(piece, reader=reader, source=source, common=not for_others)
        return sum(bits.values()) >= (DICTATED_BITS_FOR_OTHERS if for_others else DICTATED_BITS)

    def _repeats_unlikely_text(self, index: int, text: str, new: str) -> bool:
        bits: dict[str, float] = {}
        measured_chars = 0
        for other, piece in self._list_repeats(index, text, new):
            measured_chars += len(piece)
            if measured_chars > MAX_MEASURED_CHARS:
                break
            if self._information.is_translation(piece, reader=index, source=other):
                continue
            whole = piece.strip() == self._prompts[other].strip()
            bits |= self._information.measure(piece, reader=index, source=other, common=not whole)
            if sum(bits.values()) >= (WHOLE_PROMPT_BITS if whole else LEAK_BITS):
                return True
        return False

    def _list_repeats(self, index: int, text: str, new: str) -> Iterator[tuple[int, str]]:
        """Yields long pieces of other prompts that the text repeats.

        Pieces are searched that hold an aligned gram of `new`, the end of the text.
        """
        own, candidates, positions = self._prompts[index], 0, self._positions
        grams = {new[start : start + GRAM_CHARS] for start in range(len(new) - GRAM_CHARS + 1)}
        pieces: dict[int, list[range]] = {}
        # Sorted, because the order of a set differs between processes.
        for gram in sorted(grams & positions.keys(), key=positions.__getitem__):
            if gram in own:
                continue
            for other, start in positions[gram]:
                if other == index or any(start in piece for piece in pieces.get(other, ())):
                    continue
                candidates += 1
                if candidates > MAX_CANDIDATES:
                    return
                piece = _find_long_piece(text, self._prompts[other], start)
                if piece:
                    pieces.setdefault(other, []).append(piece)
                    yield other, self._prompts[other][piece.start : piece.stop]


def _find_long_piece(text: str, prompt: str, start: int) -> range:
    """The positions of a piece of the prompt around the gram at `start` that the text repeats.

    The piece has at least LEAK_CHARS characters, else the range is empty.
    """
    end, found = start + GRAM_CHARS, -1
    before = prompt[max(0, start - MAX_PIECE_CHARS) : start][::-1]
    for _ in range(MAX_GRAM_POSITIONS):
        found = text.find(prompt[start:end], found + 1)
        if found < 0:
            break
        after = text[found + GRAM_CHARS : found + GRAM_CHARS + MAX_PIECE_CHARS]
        left = _count_equal(before, text[max(0, found - MAX_PIECE_CHARS) : found][::-1])
        right = _count_equal(prompt[end : end + MAX_PIECE_CHARS], after)
        if left + GRAM_CHARS + right >= LEAK_CHARS:
            return range(start - left, end + right)
    return range(0)


def _count_equal(one: str, other: str) -> int:
    """The length of the longest common beginning."""
    lengths = range(1, min(len(one), len(other)) + 1)
    return bisect.bisect_left(lengths, True, key=lambda n: one[:n] != other[:n])


def _count_held(text: str, prompt: str, sign: int) -> int:
    """The length of the longest beginning (or end, if `sign` is -1) that the prompt holds."""
    lengths = range(1, len(text) + 1)

    def is_missing(length: int) -> bool:
        return (text[:length] if sign > 0 else text[-length:]) not in prompt

    return bisect.bisect_left(lengths, True, key=is_missing)
