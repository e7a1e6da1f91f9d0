"""Emits the text of a batch's answers piece by piece while the model still writes them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from batching.engine.leaks import AnswerCheck
from batching.engine.splitter import Splitter


@dataclass(frozen=True, slots=True)
class TextDelta:
    """A piece of an item's text; `start` is its position in what this call wrote for the item.

    Ids of calls rise, and each call of an item starts its text again. `generation` names the
    request that the text was written for, where it is known: a later request may reuse its id.
    """

    item_id: int
    call_id: int
    start: int
    text: str
    generation: int | None = None


class DeltaReader:
    """Emits the new text of the streamed items of one call.

    `item_ids` holds the id of each streamed item by its index in the call. All text is checked
    before it is emitted, as whole answers are. After text that fails the check, nothing more of
    that item is emitted; its answer is checked again when it is complete.
    """

    def __init__(
        self,
        call_id: int,
        item_ids: Mapping[int, int],
        *,
        splitter: Splitter,
        check: AnswerCheck,
        on_delta: Callable[[TextDelta], None],
    ) -> None:
        self._call_id = call_id
        self._item_ids = item_ids
        self._splitter = splitter
        self._check = check
        self._on_delta = on_delta
        self._texts = dict.fromkeys(item_ids, "")

    def emit_deltas(self) -> None:
        """Call it after each piece of text that the splitter was fed."""
        index = self._splitter.open_index
        if index is None or index not in self._texts:
            return
        more = self._splitter.take_delta()
        if not more:
            return
        text = self._texts[index]
        if self._check.find_leak(index, text + more, since=len(text)):
            del self._texts[index]
            return
        self._texts[index] = text + more
        self._on_delta(TextDelta(self._item_ids[index], self._call_id, len(text), more))
