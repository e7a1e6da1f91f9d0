"""Sends the state of the live board and its events to the watchers, at most ten times a second.

Without watchers it waits and costs nothing.
"""

import asyncio
import json
import logging
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

from django.db import DatabaseError

from batching.engine.capacity import Capacity
from batching.live.board import Board
from batching.live.relay import LiveChannel, LocalEvents
from batching.live.snapshot import read_board
from batching.sockets.socket import Socket, SocketClosed
from batching.store.lane_rules import current_rules
from batching.store.model_status import read_model_state
from batching.store.threads import DatabaseThreads, DatabaseUnavailable

logger = logging.getLogger("batching")

FRAME_S = 0.1
# Reading the board from the database corrects what lost events left wrong. The state that is sent
# afterwards also shows every watcher that the connection works.
BOARD_INTERVAL_S = 5.0
MODEL_INTERVAL_S = 1.0
# Events in one frame. If there are more, the watchers receive the whole state instead.
MAX_EVENTS = 400
# Frames that wait for one watcher.
MAX_FRAMES = 20


class Watcher:
    """One socket. If it falls behind, it receives the whole state instead of the missed frames."""

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
        """Replaces the waiting frames by the whole state."""
        self._stale = True
        self._frames.clear()
        self._wake.set()

    async def send(self) -> None:
        with suppress(SocketClosed):
            while True:
                await self._wake.wait()
                if self._stale:
                    self._stale = False
                    await self._socket.send_text(self._describe())
                elif self._frames:
                    await self._socket.send_text(self._frames.popleft())
                else:
                    self._wake.clear()


@dataclass(kw_only=True, eq=False)
class Feed:
    """Applies events to a board and offers them to the watchers. A process has at most one."""

    database: DatabaseThreads
    capacity: Callable[[], Capacity | None]
    source: LiveChannel | LocalEvents

    def __post_init__(self) -> None:
        self._watchers: set[Watcher] = set()
        self._watched = asyncio.Event()
        self._board: Board | None = None
        self._model: dict[str, str] = {}
        self._rules = current_rules()
        self._board_at = self._model_at = 0.0

    @asynccontextmanager
    async def watched_by(self, socket: Socket) -> AsyncIterator[None]:
        watcher = Watcher(socket, self._describe)
        sending = asyncio.create_task(watcher.send(), name="send live frames")
        self._watchers.add(watcher)
        self._watched.set()
        if self._board is not None:
            watcher.refresh()
        try:
            yield
        finally:
            self._watchers.discard(watcher)
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)

    async def run(self) -> None:
        """Sends frames while there are watchers, until it is cancelled."""
        while True:
            await self._watched.wait()
            self._watched.clear()
            self._board_at = self._model_at = 0.0
            try:
                async with self.source.listening():
                    while self._watchers:
                        await self._send_frame()
                        await asyncio.sleep(FRAME_S)
            finally:
                self._board = None
                if self._watchers:  # It failed, or a watcher arrived during the cleanup.
                    self._watched.set()

    async def _send_frame(self) -> None:
        now = time.monotonic()
        await self.source.announce(now)
        model_changed = await self._update_model(now)
        first, reread = self._board is None, await self._update_board(now)
        if self._board is None:
            return  # The database cannot be read.
        events = self.source.take(MAX_EVENTS + 1)
        applied = [self._board.apply(event, time.monotonic()) for event in events]
        if model_changed:
            applied.append({"kind": "model", "model": self._model})
        rules, self._rules = self._rules, current_rules()
        if first or len(events) > MAX_EVENTS or {"kind": "lost"} in events:
            for watcher in self._watchers:
                watcher.refresh()
            return
        if applied:
            depths = self._board.count_waiting()
            self._offer(json.dumps({"type": "events", "events": applied, "depths": depths}))
        if reread or rules is not self._rules:
            self._offer(self._describe())

    def _offer(self, frame: str) -> None:
        for watcher in self._watchers:
            watcher.offer(frame)

    def _describe(self) -> str:
        board = self._board or Board()
        state = board.describe(time.monotonic(), current_rules())
        return json.dumps({"type": "state", "model": self._model, **state})

    async def _update_board(self, now: float) -> bool:
        """Returns True if the board was read from the database."""
        if now < self._board_at:
            return False
        self._board_at = now + BOARD_INTERVAL_S
        try:
            board = await self.database.run(read_board, now)
        except DatabaseError as error:
            logger.warning("The live page cannot be brought up to date (%s).", error)
            return False
        if self._board is not None:
            board.left = self._board.left
        self._board = board
        return True

    async def _update_model(self, now: float) -> bool:
        """Returns True if the state of the model changed."""
        if now < self._model_at:
            return False
        self._model_at = now + MODEL_INTERVAL_S
        try:
            model = await self.database.run(read_model_state, self.capacity())
        except DatabaseError:
            model = {"state": "unknown", "level": "bad", "text": str(DatabaseUnavailable())}
        changed, self._model = model != self._model, model
        return changed
