"""Hands what happens to those who watch, ten times a second at most, and rests without them."""

import asyncio
import json
import logging
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from django.db import DatabaseError

from batching.engine.capacity import Capacity
from batching.live.board import Board
from batching.live.relay import LiveChannel
from batching.live.snapshot import read_board
from batching.sockets.socket import Socket, SocketClosed
from batching.store.lane_rules import current_rules
from batching.store.model_status import read_model_state
from batching.store.threads import DatabaseThreads, DatabaseUnavailable
from batching.telemetry.live_events import REPORTER, Event

logger = logging.getLogger("batching")

FRAME_S = 0.1
WATCH_S = 2.0
LOOK_INTERVAL_S = 5.0
"""the database is looked at for what lost events left undone, and everybody hears that we live"""
MODEL_INTERVAL_S = 1.0
MAX_EVENTS = 400
"""of one frame; more are told by showing everything anew"""
MAX_FRAMES = 20
"""that wait for one watcher"""


class Watcher:
    """One socket. Who falls behind is shown the whole state once more, not what was missed."""

    def __init__(self, socket: Socket, describe: Callable[[], str]) -> None:
        self._socket = socket
        self._describe = describe
        self._frames: deque[str] = deque()
        self._stale = True
        self._wake = asyncio.Event()

    def offer(self, frame: str) -> None:
        if len(self._frames) >= MAX_FRAMES:
            self.refresh()
        if not self._stale:
            self._frames.append(frame)
        self._wake.set()

    def refresh(self) -> None:
        self._stale = True
        self._frames.clear()
        self._wake.set()

    async def send(self) -> None:
        try:
            while True:
                await self._wake.wait()
                if self._stale:
                    self._stale = False
                    await self._socket.send_text(self._describe())
                elif self._frames:
                    await self._socket.send_text(self._frames.popleft())
                else:
                    self._wake.clear()
        except SocketClosed:
            pass


class Feed:
    """One per process with watchers. Without a `channel` it hears its own process alone."""

    def __init__(
        self,
        *,
        database: DatabaseThreads,
        capacity: Callable[[], Capacity | None],
        channel: LiveChannel | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database = database
        self._channel = channel
        self._capacity = capacity
        self._clock = clock
        self._watchers: set[Watcher] = set()
        self._somebody = asyncio.Event()
        self._board: Board | None = None
        self._model: dict[str, str] = {}
        self._rules = current_rules()
        self._look_at = self._model_at = 0.0

    @asynccontextmanager
    async def watched_by(self, socket: Socket) -> AsyncIterator[None]:
        watcher = Watcher(socket, self._describe)
        sending = asyncio.create_task(watcher.send(), name="send live frames")
        self._watchers.add(watcher)
        self._somebody.set()
        if self._board is not None:
            watcher.refresh()
        try:
            yield
        finally:
            self._watchers.discard(watcher)
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)

    async def run(self) -> None:
        while True:
            await self._somebody.wait()
            self._somebody.clear()
            try:
                async with self._listening():
                    while self._watchers:
                        await self._tick()
                        await asyncio.sleep(FRAME_S)
            finally:
                self._board = None
                if self._watchers:  # it failed, or somebody came while it ended
                    self._somebody.set()

    @asynccontextmanager
    async def _listening(self) -> AsyncIterator[None]:
        self._look_at = self._model_at = 0.0
        if self._channel is None:
            REPORTER.watch(seconds=WATCH_S)
            try:
                yield
            finally:
                REPORTER.stop()
        else:
            async with self._channel.listening():
                yield

    async def _tick(self) -> None:
        now = self._clock()
        if self._channel is None:
            REPORTER.watch(seconds=WATCH_S)
        else:
            await self._channel.announce(now)
        changed = await self._look_at_model(now)
        began, fresh = self._board is None, await self._look(now)
        if self._board is None:
            return  # the database is away
        events = self._take(MAX_EVENTS + 1)
        told = [self._board.apply(event, self._clock()) for event in events]
        if changed:
            told.append({"kind": "model", "model": self._model})
        rules, self._rules = self._rules, current_rules()
        if began or len(events) > MAX_EVENTS or {"kind": "lost"} in events:
            for watcher in self._watchers:
                watcher.refresh()
            return
        if told:
            depths = self._board.count_waiting()
            self._offer(json.dumps({"type": "events", "events": told, "depths": depths}))
        if fresh or rules is not self._rules:
            self._offer(self._describe())

    def _take(self, most: int) -> list[Event]:
        return REPORTER.take(most) if self._channel is None else self._channel.take(most)

    def _offer(self, frame: str) -> None:
        for watcher in self._watchers:
            watcher.offer(frame)

    def _describe(self) -> str:
        board = self._board or Board()
        state = board.describe(self._clock(), current_rules())
        return json.dumps({"type": "state", "model": self._model, **state})

    async def _look(self, now: float) -> bool:
        """True if the board was read anew."""
        if now < self._look_at:
            return False
        self._look_at = now + LOOK_INTERVAL_S
        try:
            board = await self._database.run(read_board, now)
        except DatabaseError as error:
            logger.warning("The live page cannot be brought up to date (%s).", error)
            return False
        if self._board is not None:
            board.gone = self._board.gone
        self._board = board
        return True

    async def _look_at_model(self, now: float) -> bool:
        """True if its state changed."""
        if now < self._model_at:
            return False
        self._model_at = now + MODEL_INTERVAL_S
        try:
            model = await self._database.run(read_model_state, self._capacity())
        except DatabaseError:
            model = {"state": "unknown", "level": "bad", "text": str(DatabaseUnavailable())}
        changed, self._model = model != self._model, model
        return changed
