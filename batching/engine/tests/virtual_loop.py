"""An event loop with virtual time: sleeping takes no time, and every run is the same."""

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class VirtualLoop(asyncio.SelectorEventLoop):
    """Sets its clock to the time of the next timer instead of waiting for it."""

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
            raise RuntimeError("all tasks wait, and no timer will wake them")
        self._loop.advance(max(0.0, timeout))
        return super().select(0)


def run_virtual(main: Coroutine[Any, Any, T]) -> T:
    """Runs `main` without waiting; raises RuntimeError where a real loop would hang forever."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)
