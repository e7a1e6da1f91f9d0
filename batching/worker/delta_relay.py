"""Sends the deltas of answers to the processes whose clients read a stream."""

import asyncio
from collections import defaultdict

from batching.engine.deltas import TextDelta
from batching.messages import Send, delta_message


class DeltaRelay:
    """Sends a process one message at a time, with every delta that arrived during the last one.

    If a message is lost, the reader notices the gap, and the whole answer fills it.
    """

    def __init__(self, send: Send) -> None:
        self._send = send
        self._deltas: dict[str, list[TextDelta]] = defaultdict(list)
        self._arrived = asyncio.Event()

    def add(self, origin: str, delta: TextDelta) -> None:
        self._deltas[origin].append(delta)
        self._arrived.set()

    async def run(self) -> None:
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            by_origin, self._deltas = self._deltas, defaultdict(list)
            for origin, deltas in by_origin.items():
                await self._send(origin, delta_message(deltas))
