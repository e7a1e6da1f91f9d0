"""Carries growing texts from where batches run to the processes whose clients read along."""

import asyncio
from collections import defaultdict

from batching.engine.deltas import Growth
from batching.messages import Send, growing_message


class GrowthTeller:
    """One message per process at a time, with everything that grew while the last one was sent.

    A message may be lost: the reader sees the gap, and the whole answer fills it.
    """

    def __init__(self, send: Send) -> None:
        self._send = send
        self._pieces: dict[str, list[Growth]] = defaultdict(list)
        self._grown = asyncio.Event()

    def tell(self, origin: str, growth: Growth) -> None:
        self._pieces[origin].append(growth)
        self._grown.set()

    async def run(self) -> None:
        """Sends for ever."""
        while True:
            await self._grown.wait()
            self._grown.clear()
            pieces, self._pieces = self._pieces, defaultdict(list)
            for origin, grown in pieces.items():
                await self._send(origin, growing_message(grown))
