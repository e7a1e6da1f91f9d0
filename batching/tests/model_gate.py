"""A model that writes on when the test lets it, however slow the machine is."""

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import pytest

from batching.gateway.events import Event, Reader
from batching.llm.simulated.wire import Piece
from batching.tests.harness import wait_until
from llmbatch.tests.fixtures import model_server

PARTS = 4


class Pen:
    """The model server writes each reply in four parts.

    After each part it waits until `may_go_on` accepts the number of parts that are written, and
    before the first until `may_begin` is true. The times of the reply do not count.
    """

    def __init__(self, may_go_on: Callable[[int], Any], may_begin: Callable[[], Any]) -> None:
        self._may_go_on = may_go_on
        self._may_begin = may_begin

    async def play(self, pieces: Sequence[Piece], **_: Any) -> AsyncIterator[bytes]:
        written = 0
        await wait_until(self._may_begin)
        for index, piece in enumerate(pieces, start=1):
            yield piece.data
            while written < index * PARTS // len(pieces):
                written += 1
                await wait_until(lambda: self._may_go_on(written))  # noqa: B023 - awaited here


def use_gate(
    monkeypatch: pytest.MonkeyPatch,
    may_go_on: Callable[[int], Any] = lambda written: True,
    *,
    may_begin: Callable[[], Any] = lambda: True,
) -> None:
    monkeypatch.setattr(model_server, "play", Pen(may_go_on, may_begin).play)


class Readings:
    """Counts the pieces of text that each reader of a stream was given."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._counts: dict[Reader, int] = {}
        extend = Reader._extend

        def count(reader: Reader, text: str) -> Any:
            for event in extend(reader, text):
                self._note(reader, event)
                yield event

        monkeypatch.setattr(Reader, "_extend", count)

    def _note(self, reader: Reader, event: Event) -> None:
        self._counts[reader] = self._counts.get(reader, 0) + (event["type"] == "text")

    @property
    def total(self) -> int:
        return sum(self._counts.values())

    def count_least(self, readers: int) -> int:
        """The fewest pieces that one of so many readers has; 0 while there are fewer readers."""
        counts = sorted(self._counts.values(), reverse=True)[:readers]
        return counts[-1] if len(counts) == readers else 0
