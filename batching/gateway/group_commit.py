"""Stores accepted requests, many in one commit, and announces each commit once."""

import asyncio
import logging
import math
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace

from django.db import DatabaseError

from batching.engine.errors import RequestConflict
from batching.engine.items import QueuedItem
from batching.gateway.waiters import Waiter, Waiters
from batching.store.threads import DatabaseThreads, explain_outage
from chats.models import Chat
from chats.submission import OutcomeUnknown, Submission, find_stored, request_key, submit_chats

logger = logging.getLogger("batching")

# A commit waits this long for more requests, or until so many have arrived.
GROUP_COMMIT_S = 0.005
GROUP_COMMIT_ROWS = 50
# It waits at all only if the last CROWD requests arrived within CROWDED_S seconds.
CROWD, CROWDED_S = 3, 0.025
MAX_GROUP_ROWS = 500
WITHDRAW_PAUSE_S = 0.5


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
        # Refused requests whose commit may have succeeded.
        self._in_doubt: list[Chat] = []
        self._doubted = asyncio.Event()
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
            results = await self._database.run(
                submit_chats, [entry.chat for entry in group], named=named
            )
        except Exception as error:
            results = [error] * len(group)
        items, failures = [], []
        for entry, result in zip(group, results, strict=True):
            if isinstance(result, Exception):
                failures.append((entry, result))
                continue
            self._settle(entry, result)
            if result is not None and result.fresh:
                chat = result.chat
                items.append(replace(entry.item, id=chat.pk, generation=chat.generation))
        if failures:
            self._refuse(failures)
        if items:
            await self._announce(items)

    def _refuse(self, failures: Sequence[tuple[Entry, Exception]]) -> None:
        """Ends the waits of requests that were not stored, as far as is known."""
        logger.error(
            "%s requests could not be stored and were refused.",
            len(failures),
            exc_info=failures[0][1],
            extra={"request_ids": [entry.chat.request_id for entry, _ in failures]},
        )
        for entry, error in failures:
            if not entry.stored.done():
                entry.stored.set_exception(explain_outage(error))
            if isinstance(error, OutcomeUnknown):
                self._in_doubt.append(entry.chat)
                self._doubted.set()

    async def withdraw(self) -> None:
        """Abandons refused requests that are stored after all, once the database can be read."""
        while True:
            await self._doubted.wait()
            chats = self._in_doubt[:MAX_GROUP_ROWS]
            try:
                stored = await self._database.run(find_stored, chats)
            except DatabaseError:
                await asyncio.sleep(WITHDRAW_PAUSE_S)
                continue
            for chat_id, generation in stored:
                self._abandon(chat_id, generation)
            del self._in_doubt[: len(chats)]
            if not self._in_doubt:
                self._doubted.clear()

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
