"""An event loop whose time is a number: sleeping costs nothing, and every run is the same."""

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class VirtualLoop(asyncio.SelectorEventLoop):
    """Where the ordinary loop would wait for its next timer, this one moves its clock there."""

    def __init__(self) -> None:
        self._now = 1000.0
        super().__init__(_TimelessSelector(self))

    def time(self) -> float:
        return self._now

    def advance(self, seconds: float) -> None:
        self._now += seconds


class _TimelessSelector(selectors.DefaultSelector):
    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout is None:
            raise RuntimeError("everything waits and nothing will ever happen")
        self._loop.advance(max(0.0, timeout))
        return super().select(0)


def run_virtual(main: Coroutine[Any, Any, T]) -> T:
    """Runs to the end without waiting; fails where a real loop would hang for ever."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)
