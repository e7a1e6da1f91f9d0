"""A model that continues to write only when the test permits it, on any machine."""

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import pytest

from batching.gateway.events import Event, SentText
from batching.llm.simulated.wire import Piece
from batching.tests.harness import wait_until
from llmbatch.tests.fixtures import model_server

PARTS = 4


class ModelGate:
    """Makes the model server write each reply in four parts.

    It writes the first part when `may_begin` is true. After each part it waits until `may_go_on`
    is true for the number of parts that are written. The reply's own times do not count.
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
    monkeypatch.setattr(model_server, "play", ModelGate(may_go_on, may_begin).play)


class TextEventCounter:
    """Counts the text events that each client of a stream received."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._counts: dict[SentText, int] = {}
        extend = SentText._extend

        def extend_and_count(sent: SentText, text: str) -> Any:
            for event in extend(sent, text):
                self._count(sent, event)
                yield event

        monkeypatch.setattr(SentText, "_extend", extend_and_count)

    def _count(self, sent: SentText, event: Event) -> None:
        self._counts[sent] = self._counts.get(sent, 0) + (event["type"] == "text")

    @property
    def total(self) -> int:
        return sum(self._counts.values())

    def count_least(self, clients: int) -> int:
        """The fewest events that one of so many clients has; 0 while there are fewer clients."""
        counts = sorted(self._counts.values(), reverse=True)[:clients]
        return counts[-1] if len(counts) == clients else 0
