"""Detects that the prompt of one item of a batch leaked into the answer of another.

The checks find what known attacks leave behind in a reply. They do not find the attack itself: an
answer that was changed in the model's own words passes. Only `batch_scope` keeps prompts apart.
"""

import bisect
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property

# An answer does not hold so many consecutive characters of another prompt by chance.
LEAK_CHARS = 80
# A gram is a piece of this length. Those that begin at its multiples in a prompt are "aligned":
# any LEAK_CHARS characters of the prompt hold at least one of them.
GRAM_CHARS = LEAK_CHARS // 2
# Two answers that begin or end with the same text of this length from one prompt were dictated.
DICTATED_CHARS = 12
# The same for answers that consist of nothing else.
DICTATED_WHOLE_CHARS = 8
# Characters of an answer's beginning or end that are compared with the prompts.
MAX_DICTATED_CHARS = 400
# These three bound the time on the event loop. Characters of a prompt that are indexed:
MAX_INDEXED_CHARS = 100_000
# Candidate matches that are checked for each answer:
MAX_CANDIDATES = 200
# Positions that are kept for each gram of one prompt:
MAX_GRAM_POSITIONS = 3


class AnswerCheck:
    """Checks the answers of one combined call; indexes are those of its items."""

    def __init__(self, keys: Sequence[str], prompts: Sequence[str]) -> None:
        self._keys = keys
        self._prompts = [prompt[:MAX_INDEXED_CHARS] for prompt in prompts]

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
        text = text[max(0, since - LEAK_CHARS) :]
        for other, key in enumerate(self._keys):
            if other != index and key in text:
                return "it holds the key of another request"
        if len(text) >= LEAK_CHARS and any(self._list_repeats(index, text)):
            return "it repeats another request's prompt"
        return ""

    def find_dictated(self, texts: Mapping[int, str]) -> dict[int, str]:
        """Finds answers whose beginning, end or whole text comes from another item's prompt.

        Returns the reasons by index. One such answer may be chance, so two are needed. An item
        whose own prompt holds the text is not suspected.
        """
        found: dict[int, str] = {}
        backwards = {index: text[::-1] for index, text in texts.items()}
        for side, sides, prompts in (
            ("begins", texts, self._prompts),
            ("ends", backwards, [prompt[::-1] for prompt in self._prompts]),
        ):
            for index, text in sides.items():
                others = [t for i, t in sides.items() if self._prompts[i] != self._prompts[index]]
                if any(_is_dictated(text, others, p, own=prompts[index]) for p in prompts):
                    found.setdefault(index, f"it {side} as another request's prompt dictates")
        return found

    def _list_repeats(self, index: int, text: str) -> Iterator[str]:
        """Yields aligned grams of long repeated pieces, unless the item's own prompt holds them."""
        own, candidates, positions = self._prompts[index], 0, self._positions
        grams = {text[start : start + GRAM_CHARS] for start in range(len(text) - GRAM_CHARS + 1)}
        for gram in grams & positions.keys():
            others = [position for position in positions[gram] if position[0] != index]
            if not others or gram in own:
                continue
            for other, start in others:
                candidates += 1
                if candidates > MAX_CANDIDATES:
                    return
                if _holds_long_piece(text, self._prompts[other], start):
                    yield gram


def _holds_long_piece(text: str, prompt: str, start: int) -> bool:
    """Whether the text holds LEAK_CHARS characters of the prompt around the gram at `start`."""
    first = max(0, start - LEAK_CHARS + GRAM_CHARS)
    return any(
        prompt[at : at + LEAK_CHARS] in text
        for at in range(first, start + 1)
        if at + LEAK_CHARS <= len(prompt)
    )


def _is_dictated(text: str, others: Sequence[str], prompt: str, *, own: str) -> bool:
    length = _count_shared(text[:MAX_DICTATED_CHARS], prompt)
    piece = text[:length]
    if piece in own or not piece.strip():
        return False
    if length == len(text) and length >= DICTATED_WHOLE_CHARS:
        return text in others
    return length >= DICTATED_CHARS and any(
        other.startswith(piece[:DICTATED_CHARS]) for other in others
    )


def _count_shared(text: str, prompt: str) -> int:
    """The length of the longest beginning of the text that the prompt holds."""
    lengths = range(1, len(text) + 1)
    return bisect.bisect_left(lengths, True, key=lambda length: text[:length] not in prompt)
