"""Keeps the calls that a simulated model receives."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from batching.llm.simulated.calls import SimulatedCall
from batching.llm.simulated.faults import Fault, Script
from batching.llm.simulated.transport import Responder, SimulatedTransport

KEPT_CALLS = 100_000


class RecordingScript:
    """A script that keeps the last calls, the oldest first.

    The faults come from another script, or from an iterable with one entry per call.
    """

    def __init__(
        self, faults: Script | Iterable[Fault | None] = (), *, kept_calls: int = KEPT_CALLS
    ) -> None:
        self.calls: list[SimulatedCall] = []
        entries = iter(()) if callable(faults) else iter(faults)
        self._script = faults if callable(faults) else lambda call: next(entries, None)
        self._kept_calls = kept_calls

    def __call__(self, call: SimulatedCall) -> Fault | None:
        self.calls.append(call)
        if len(self.calls) > 2 * self._kept_calls:
            del self.calls[: len(self.calls) - self._kept_calls]
        return self._script(call)


class RecordingTransport(SimulatedTransport):
    """`options` are those of the responder."""

    def __init__(
        self,
        script: Script | Iterable[Fault | None] = (),
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        **options: Any,
    ) -> None:
        record = RecordingScript(script)
        super().__init__(Responder(record, **options), sleep=sleep)
        self.calls = record.calls
