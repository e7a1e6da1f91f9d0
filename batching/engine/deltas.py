"""The text of an answer while the model still writes it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from batching.engine.leaks import AnswerCheck
from batching.engine.splitter import Splitter


@dataclass(frozen=True, slots=True)
class TextDelta:
    """A piece of an item's text; `start` is its place in what this `call` wrote for the item.

    Call ids ascend: a later call of the same item begins its text again. `generation` names the
    request that it was written for, if that is known: a later request may have taken over the id.
    """

    item_id: int
    call_id: int
    start: int
    text: str
    generation: int | None = None


class Watched(Protocol):
    @property
    def id(self) -> int: ...

    @property
    def streamed(self) -> bool: ...


class DeltaReader:
    """Tells what the watched items of one call on_delta by.

    Each text is checked before it goes out, as a whole answer is: what was told holds no key and no
    long piece of another item. What fails the check is told no further, and judged when it closes.
    """

    def __init__(
        self,
        call_id: int,
        items: Sequence[Watched],
        *,
        splitter: Splitter,
        check: AnswerCheck,
        tell: Callable[[TextDelta], None],
    ) -> None:
        self._call_id = call_id
        self._items = items
        self._splitter = splitter
        self._check = check
        self._tell = tell
        self._texts = {i: "" for i, item in enumerate(items) if item.streamed}

    def look(self) -> None:
        """Call it after each piece that the splitter was fed."""
        index = self._splitter.open_index
        if index is None or index not in self._texts:
            return
        more = self._splitter.read_delta()
        if not more:
            return
        told = self._texts[index]
        if len(self._items) > 1 and self._check.find_leak(index, told + more, since=len(told)):
            del self._texts[index]
            return
        self._texts[index] = told + more
        self._tell(TextDelta(self._items[index].id, self._call_id, len(told), more))
