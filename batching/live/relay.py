"""The live events of a fleet: every process tells those that watch, while somebody does."""

import asyncio
import contextvars
import json
import logging
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from batching.messages import BATCHING_CHANNEL, Send
from batching.telemetry.live_events import MAX_EVENTS, REPORTER, Event

logger = logging.getLogger("batching")

WATCH_CHANNEL = f"{BATCHING_CHANNEL}.watch"
"""where a process with watchers says so; all of the fleet hear it"""
LIVE_CHANNEL = f"{BATCHING_CHANNEL}.live"
"""where the events are told; only processes with watchers listen"""
RELAY_INTERVAL_S = 0.1
ANNOUNCE_INTERVAL_S = 2.0
WATCHED_S = 3 * ANNOUNCE_INTERVAL_S
LISTEN_PAUSE_S = 1.0
EVENTS_AT_ONCE = 500


class Relay:
    """Every process of the fleet has one. While nobody watches it only waits."""

    def __init__(self, *, layer: Any, send: Send) -> None:
        self._layer = layer
        self._send = send
        self._watched = asyncio.Event()

    async def receive_watchers(self) -> None:
        while True:
            await self._layer.receive(WATCH_CHANNEL)
            REPORTER.watch(seconds=WATCHED_S)
            self._watched.set()

    async def run(self) -> None:
        while True:
            await self._watched.wait()
            await asyncio.sleep(RELAY_INTERVAL_S)
            if not REPORTER.watched:
                self._watched.clear()
            while events := REPORTER.take(EVENTS_AT_ONCE):
                message = {"type": "live.events", "events": json.dumps(events)}
                await self._send(LIVE_CHANNEL, message)


class LiveChannel:
    """What a process with watchers hears of all the others and of itself."""

    def __init__(self, *, layer: Any, send: Send) -> None:
        self._layer = layer
        self._send = send
        self._events: deque[Event] = deque()
        self._announce_at = 0.0

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        self._events.clear()
        self._announce_at = 0.0
        listener = asyncio.create_task(
            self._listen(), name="listen to the fleet", context=contextvars.Context()
        )
        try:
            yield
        finally:
            listener.cancel()
            await asyncio.gather(listener, return_exceptions=True)

    async def announce(self, now: float) -> None:
        if now >= self._announce_at:
            self._announce_at = now + ANNOUNCE_INTERVAL_S
            await self._send(WATCH_CHANNEL, {"type": "live.watched"})

    def take(self, most: int) -> list[Event]:
        return [self._events.popleft() for _ in range(min(most, len(self._events)))]

    async def _listen(self) -> None:
        while True:
            try:
                message = await self._layer.receive(LIVE_CHANNEL)
                self._events.extend(json.loads(message["events"]))
            except Exception as error:
                logger.warning("Live events cannot be heard (%s).", type(error).__name__)
                await asyncio.sleep(LISTEN_PAUSE_S)
            if len(self._events) > MAX_EVENTS:
                self._events.clear()
                self._events.append({"kind": "lost"})
