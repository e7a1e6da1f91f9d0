"""Carries growing texts from where batches run to the processes whose clients read along."""

import asyncio
from collections import defaultdict

from batching.engine.deltas import TextDelta
from batching.messages import Send, delta_message


class DeltaRelay:
    """One message per process at a time, with everything that grew while the last one was sent.

    A message may be lost: the reader sees the gap, and the whole answer fills it.
    """

    def __init__(self, send: Send) -> None:
        self._send = send
        self._pieces: dict[str, list[TextDelta]] = defaultdict(list)
        self._arrived = asyncio.Event()

    def tell(self, origin: str, delta: TextDelta) -> None:
        self._pieces[origin].append(delta)
        self._arrived.set()

    async def run(self) -> None:
        """Sends for ever."""
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            pieces, self._pieces = self._pieces, defaultdict(list)
            for origin, deltas in pieces.items():
                await self._send(origin, delta_message(deltas))
