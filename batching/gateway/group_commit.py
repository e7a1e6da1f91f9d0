"""Stores accepted requests, many in one commit, and announces each commit once."""

import asyncio
import logging
import math
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace

from batching.engine.errors import RequestConflict
from batching.engine.planner import QueuedItem
from batching.gateway.waiters import Waiter, Waiters
from batching.store.threads import DatabaseThreads, DatabaseUnavailable
from chats.models import Chat
from chats.submission import Submission, request_key, submit_chats

logger = logging.getLogger("batching")

GROUP_COMMIT_S = 0.005
GROUP_COMMIT_ROWS = 50
CROWD, CROWDED_S = 3, 0.025
"""so many requests within so many seconds make it worth waiting for more"""
MAX_GROUP_ROWS = 500


@dataclass(frozen=True, slots=True)
class Stored:
    """The committed row that answers a request, and the wait for it.

    `fresh` is false if the request joined one that was there already.
    """

    chat: Chat
    waiter: Waiter
    fresh: bool


@dataclass(frozen=True, slots=True)
class Entry:
    """A request before its row exists; `item` gets its id from the row."""

    chat: Chat
    item: QueuedItem
    named: bool
    stored: asyncio.Future[Stored] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )


class GroupCommit:
    """A waiter is in the `waiters` before `announce` can lead to its answer.

    `abandon` is told of a row, and its generation, whose client left before it was committed.
    """

    def __init__(
        self,
        *,
        database: DatabaseThreads,
        waiters: Waiters,
        announce: Callable[[Sequence[QueuedItem]], Awaitable[None]],
        abandon: Callable[[int, int], None],
    ) -> None:
        self._database = database
        self._waiters = waiters
        self._abandon = abandon
        self._announce = announce
        self._entries: list[Entry] = []
        self._arrived = asyncio.Event()
        self._enough = asyncio.Event()
        self._recent = deque([-math.inf] * CROWD, maxlen=CROWD)
        """when the last requests arrived"""

    async def store(self, chat: Chat, item: QueuedItem, *, named: bool) -> Stored:
        """Returns once the row is committed; raises RequestConflict or DatabaseUnavailable."""
        entry = Entry(chat, item, named)
        self._entries.append(entry)
        self._recent.append(time.monotonic())
        self._arrived.set()
        if len(self._entries) >= GROUP_COMMIT_ROWS:
            self._enough.set()
        try:
            return await entry.stored
        except asyncio.CancelledError:
            # The client may have left in the very tick in which its row was committed.
            if (
                entry.stored.done()
                and not entry.stored.cancelled()
                and not entry.stored.exception()
            ):
                waiter = entry.stored.result().waiter
                self._waiters.remove(waiter)
                self._abandon(waiter.chat_id, waiter.generation)
            raise

    async def run(self) -> None:
        while True:
            await self._arrived.wait()
            await self._gather()
            group = self._entries[:MAX_GROUP_ROWS]
            del self._entries[: len(group)]
            if not self._entries:
                self._arrived.clear()
            self._enough.clear()
            await self._commit(group)

    async def _gather(self) -> None:
        """Under load waits for companions; where few arrive, each is committed at once."""
        if self._recent[-1] - self._recent[0] > CROWDED_S:
            return
        try:
            async with asyncio.timeout(GROUP_COMMIT_S):
                await self._enough.wait()
        except TimeoutError:
            pass

    async def _commit(self, group: Sequence[Entry]) -> None:
        named = {request_key(entry.chat) for entry in group if entry.named}
        try:
            accepted = await self._database.run(
                submit_chats, [entry.chat for entry in group], named=named
            )
        except Exception:
            logger.exception(
                "%s requests could not be stored and were refused.",
                len(group),
                extra={"request_ids": [entry.chat.request_id for entry in group]},
            )
            refusal = DatabaseUnavailable()
            for entry in group:
                if not entry.stored.done():
                    entry.stored.set_exception(refusal)
            return
        items = []
        for entry, outcome in zip(group, accepted, strict=True):
            self._tell(entry, outcome)
            if outcome is not None and outcome.fresh:
                chat = outcome.chat
                items.append(replace(entry.item, id=chat.pk, generation=chat.generation))
        if items:
            await self._announce(items)

    def _tell(self, entry: Entry, outcome: Submission | None) -> None:
        if outcome is None:
            if not entry.stored.done():
                entry.stored.set_exception(RequestConflict())
        elif entry.stored.done():
            self._abandon(
                outcome.chat.pk, outcome.chat.generation
            )  # its client left during the commit
        else:
            item = entry.item
            chat = outcome.chat
            waiter = Waiter(chat.pk, item.priority, due=item.due, generation=chat.generation)
            self._waiters.add(waiter)
            entry.stored.set_result(Stored(chat, waiter, outcome.fresh))
