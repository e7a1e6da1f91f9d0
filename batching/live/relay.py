"""Where the feed gets events from: from this process alone, or through a relay from the fleet."""

import asyncio
import contextvars
import json
import logging
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from batching.messages import BATCHING_CHANNEL, Send, Subscription
from batching.telemetry.live_events import REPORTER, Event, append_event, take_events

logger = logging.getLogger("batching")

# A process with watchers announces them here. Every process of the fleet receives.
WATCH_CHANNEL = f"{BATCHING_CHANNEL}.watch"
# Every process sends its events here. Only processes with watchers receive.
LIVE_CHANNEL = f"{BATCHING_CHANNEL}.live"
RELAY_INTERVAL_S = 0.1
ANNOUNCE_INTERVAL_S = 2.0
WATCHED_S = 3 * ANNOUNCE_INTERVAL_S
LOCAL_WATCHED_S = 2.0
RECEIVE_PAUSE_S = 1.0
MAX_RELAYED_EVENTS = 500


class Relay:
    """Sends the events of one process to the fleet while somebody watches."""

    def __init__(self, *, layer: Any, send: Send) -> None:
        self.subscription = Subscription(layer, WATCH_CHANNEL)
        self._send = send
        self._watched = asyncio.Event()

    async def receive_watchers(self) -> None:
        while True:
            await self.subscription.receive()
            REPORTER.watch(seconds=WATCHED_S)
            self._watched.set()

    async def run(self) -> None:
        while True:
            await self._watched.wait()
            await asyncio.sleep(RELAY_INTERVAL_S)
            if not REPORTER.watched:
                self._watched.clear()
            while events := REPORTER.take(MAX_RELAYED_EVENTS):
                message = {"type": "live.events", "events": json.dumps(events)}
                await self._send(LIVE_CHANNEL, message)


class LocalEvents:
    """The events of this process, if it is alone."""

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        try:
            yield
        finally:
            REPORTER.stop()

    async def announce(self, now: float) -> None:
        REPORTER.watch(seconds=LOCAL_WATCHED_S)

    def take(self, most: int) -> list[Event]:
        return REPORTER.take(most)


class LiveChannel:
    """The events of all processes of the fleet, received over the channel layer."""

    def __init__(self, *, layer: Any, send: Send) -> None:
        self._subscription = Subscription(layer, LIVE_CHANNEL)
        self._send = send
        self._events: deque[Event] = deque()
        self._announce_at = 0.0

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        self._events.clear()
        self._announce_at = 0.0
        tasks = [
            asyncio.create_task(body, name=f"{name} live events", context=contextvars.Context())
            for name, body in (("receive", self._receive()), ("watch", self._subscription.watch()))
        ]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def announce(self, now: float) -> None:
        if now >= self._announce_at:
            self._announce_at = now + ANNOUNCE_INTERVAL_S
            await self._send(WATCH_CHANNEL, {"type": "live.watched"})

    def take(self, most: int) -> list[Event]:
        return take_events(self._events, most)

    async def _receive(self) -> None:
        while True:
            try:
                message = await self._subscription.receive()
                for event in json.loads(message["events"]):
                    append_event(self._events, event)
            except Exception as error:
                logger.warning("Live events cannot be received (%s).", type(error).__name__)
                await asyncio.sleep(RECEIVE_PAUSE_S)
