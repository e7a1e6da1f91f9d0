"""Signs that one prompt of a batch reached into another's answer.

They find what the known attacks leave behind in a reply, not the attack itself: an answer that was
bent in its own words passes. Only `batch_scope` keeps prompts apart.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property

PIECE = 80
"""characters of another prompt, word for word, that no answer holds by chance"""
GRAM = PIECE // 2  # a piece of that length holds at least one aligned gram
DICTATED = 12
"""characters of another prompt with which two answers begin or end"""
DICTATED_WHOLE = 8
"""the same for whole answers"""
_MAX_DICTATED = 400
COMPARED = 100_000
"""characters of each prompt that are looked at, and"""
MAX_LOOKED_AT = 200
"""suspicious places in an answer, and"""
MAX_PLACES = 3
"""of the same gram in one prompt: no prompt may hold up the event loop"""


class AnswerCheck:
    """Looks at the answers of one combined call; indexes are those of its items."""

    def __init__(self, keys: Sequence[str], prompts: Sequence[str]) -> None:
        self._keys = keys
        self._prompts = [prompt[:COMPARED] for prompt in prompts]

    @cached_property
    def _places(self) -> dict[str, list[tuple[int, int]]]:
        """Where each aligned gram of the prompts stands: of which item, from which character."""
        places: dict[str, list[tuple[int, int]]] = {}
        for index, prompt in enumerate(self._prompts):
            if len(prompt) < PIECE:
                continue
            for start in range(0, len(prompt) - GRAM + 1, GRAM):
                found = places.setdefault(prompt[start : start + GRAM], [])
                if sum(owner == index for owner, _ in found[-MAX_PLACES:]) < MAX_PLACES:
                    found.append((index, start))
        return places

    def find_leak(self, index: int, text: str, *, since: int = 0) -> str:
        """What of another item stands in this answer; "" if nothing does.

        A open_index text that was clean up to the character `since` is looked at from there on.
        """
        text = text[max(0, since - PIECE) :]
        for other, key in enumerate(self._keys):
            if other != index and key in text:
                return "it holds the key of another request"
        if len(text) >= PIECE and any(self._list_repeats(index, text)):
            return "it repeats another request's prompt"
        return ""

    def find_dictated(self, texts: Mapping[int, str]) -> dict[int, str]:
        """Answers that begin, or end, or are throughout, as another prompt says; by index, why.

        One alone may be chance, so two answers must do so; the one whose own prompt says it is not
        meant.
        """
        found: dict[int, str] = {}
        backwards = {index: text[::-1] for index, text in texts.items()}
        for where, sides, prompts in (
            ("begins", texts, self._prompts),
            ("ends", backwards, [prompt[::-1] for prompt in self._prompts]),
        ):
            for index, text in sides.items():
                others = [t for i, t in sides.items() if self._prompts[i] != self._prompts[index]]
                if any(_is_dictated(text, others, p, own=prompts[index]) for p in prompts):
                    found.setdefault(index, f"it {where} as another request's prompt dictates")
        return found

    def _list_repeats(self, index: int, text: str) -> Iterator[str]:
        """The aligned grams of other prompts that stand in the text, and not in its own prompt."""
        own, looked_at, places = self._prompts[index], 0, self._places
        grams = {text[start : start + GRAM] for start in range(len(text) - GRAM + 1)}
        for gram in grams & places.keys():
            others = [place for place in places[gram] if place[0] != index]
            if not others or gram in own:
                continue
            for other, start in others:
                looked_at += 1
                if looked_at > MAX_LOOKED_AT:
                    return
                if _is_long(text, self._prompts[other], start):
                    yield gram


def _is_long(text: str, prompt: str, start: int) -> bool:
    """Whether the text holds a whole piece of the prompt around the gram that begins there."""
    first = max(0, start - PIECE + GRAM)
    return any(
        prompt[at : at + PIECE] in text
        for at in range(first, start + 1)
        if at + PIECE <= len(prompt)
    )


def _is_dictated(text: str, others: Sequence[str], prompt: str, *, own: str) -> bool:
    length = _count_shared(text[:_MAX_DICTATED], prompt)
    piece = text[:length]
    if piece in own or not piece.strip():
        return False
    if length == len(text) and length >= DICTATED_WHOLE:
        return text in others
    return length >= DICTATED and any(other.startswith(piece[:DICTATED]) for other in others)


def _count_shared(text: str, prompt: str) -> int:
    """How many characters of the text's beginning stand somewhere in the prompt."""
    low, high = 0, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        if text[:middle] in prompt:
            low = middle
        else:
            high = middle - 1
    return low
