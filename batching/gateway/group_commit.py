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

# A commit waits this long for more requests, or until so many have arrived.
GROUP_COMMIT_S = 0.005
GROUP_COMMIT_ROWS = 50
# It waits at all only if the last CROWD requests arrived within CROWDED_S seconds.
CROWD, CROWDED_S = 3, 0.025
MAX_GROUP_ROWS = 500


@dataclass(frozen=True, slots=True)
class Entry:
    """A request that is not stored yet. Its item gets its id from the row."""

    chat: Chat
    item: QueuedItem
    waiter: Waiter
    named: bool
    stored: asyncio.Future[Submission] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )


class GroupCommit:
    """Each waiter is added to `waiters` before `announce` can lead to its answer.

    A worker may also find a committed row by itself. If its answer comes before the waiter is
    added, the gateway reads the answer from the row.

    `abandon` gets the chat id and generation of a request whose client left during the commit.
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
        self._arrivals = deque([-math.inf] * CROWD, maxlen=CROWD)

    async def store(
        self, chat: Chat, item: QueuedItem, waiter: Waiter, *, named: bool
    ) -> Submission:
        """Returns once the row is committed; raises RequestConflict or DatabaseUnavailable.

        `named` says that the client chose the request id, so the request may join an earlier one.
        """
        entry = Entry(chat, item, waiter, named)
        self._entries.append(entry)
        self._arrivals.append(time.monotonic())
        self._arrived.set()
        if len(self._entries) >= GROUP_COMMIT_ROWS:
            self._enough.set()
        try:
            return await entry.stored
        except asyncio.CancelledError:
            # The client may have left in the same tick of the event loop in which `_settle` ran.
            if waiter.chat_id:
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
        """Waits for more requests if many arrive; without load a request is committed at once."""
        if self._arrivals[-1] - self._arrivals[0] > CROWDED_S:
            return
        try:
            async with asyncio.timeout(GROUP_COMMIT_S):
                await self._enough.wait()
        except TimeoutError:
            pass

    async def _commit(self, group: Sequence[Entry]) -> None:
        named = {request_key(entry.chat) for entry in group if entry.named}
        try:
            submissions = await self._database.run(
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
        for entry, submission in zip(group, submissions, strict=True):
            self._settle(entry, submission)
            if submission is not None and submission.fresh:
                chat = submission.chat
                items.append(replace(entry.item, id=chat.pk, generation=chat.generation))
        if items:
            await self._announce(items)

    def _settle(self, entry: Entry, submission: Submission | None) -> None:
        """Ends the entry's wait; without a submission the request conflicts with an earlier one."""
        if submission is None:
            if not entry.stored.done():
                entry.stored.set_exception(RequestConflict())
            return
        chat = submission.chat
        if entry.stored.done():  # the client left during the commit
            self._abandon(chat.pk, chat.generation)
            return
        self._waiters.add(entry.waiter, chat_id=chat.pk, generation=chat.generation)
        entry.stored.set_result(submission)
