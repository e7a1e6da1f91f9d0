"""Renews the leases of this process's running chats and recovers chats with expired leases."""

import asyncio
import logging
import math
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass

from django.conf import settings
from django.db import Error

from batching.store.recovery import close_abandoned, take_back_earlier, take_back_expired
from batching.store.threads import DatabaseThreads
from batching.worker.recorder import DatabaseRecorder
from chats.clock import CLOCK
from chats.leases import Recovery, renew_leases

logger = logging.getLogger("batching")

MAX_START_PAUSE_S = 0.5


@dataclass(frozen=True, kw_only=True)
class LeaseKeeper:
    """The leases of one worker. `cancel_batches` cancels running batches."""

    database: DatabaseThreads
    recorder: DatabaseRecorder
    name: str
    owner: str
    cancel_batches: Callable[[Collection[int]], None]
    clock: Callable[[], float] = time.monotonic

    async def renew(self) -> None:
        """Renews the leases until it is cancelled."""
        pause_s = settings.LEASE_S / 4
        while True:
            await asyncio.sleep(pause_s)
            renewed = await self.renew_once()
            pause_s = settings.LEASE_S / (4 if renewed else 8)

    async def renew_once(self) -> bool:
        """Renews all leases. Cancels the batches that another worker has taken over.

        Only the database decides which batches those are. While it is away, no worker can take over
        anything, so the batches run on and their results wait. Returns False in that case.
        """
        batches, ids = self.recorder.open_batches, list(self.recorder.open_chats)
        try:
            async with asyncio.timeout(settings.LEASE_S / 4):  # The database may also hang.
                held = await self.database.run(renew_leases, ids, owner=self.owner)
        except (Error, TimeoutError):
            extra = self.recorder.log_fields
            logger.exception("The leases could not be renewed.", extra=extra)
            return False
        still_open = self.recorder.open_batches  # A chat that has just ended was not lost.
        lost = [
            batch
            for batch, chats in batches.items()
            if (left := chats & still_open.get(batch, set()))
            and all(held.get(chat_id) != batch for chat_id in left)
        ]
        if lost:
            extra = {"batch_ids": sorted(lost)}
            logger.error("Batches that another worker has taken over are cancelled.", extra=extra)
            self.cancel_batches(lost)
        return True

    async def recover(self) -> None:
        """Requeues the chats of dead processes until it is cancelled.

        After a start, it also requeues the chats of an earlier process with this name, whose
        leases need not have expired.

        After a jump of the clock, or if the database was away, the leases of live workers may look
        expired. So it waits for half a lease, in which every worker can renew them.
        """
        began, answering_since = self.clock(), -math.inf
        while True:
            starting = self.clock() < began + settings.LEASE_S
            asked = self.clock()
            try:
                await self.database.run(CLOCK.sample)
                hung = self.clock() - asked > settings.LEASE_S / 4
                if hung or answering_since > self.clock():
                    answering_since = self.clock()
                if min(CLOCK.steady_s, self.clock() - answering_since) > settings.LEASE_S / 2:
                    await self._take_back(starting=starting)
            except Error:
                logger.exception("The requests of dead processes could not be requeued.")
                answering_since = math.inf
            pause_s = settings.LEASE_S / 4
            await asyncio.sleep(min(MAX_START_PAUSE_S, pause_s) if starting else pause_s)

    async def _take_back(self, *, starting: bool) -> None:
        if starting:
            recovery = await self.database.run(take_back_earlier, self.name, own=self.owner)
            _log_recovery(recovery)
        busy = self.recorder.open_chats
        _log_recovery(await self.database.run(take_back_expired, own=self.owner, busy=busy))
        await self.database.run(close_abandoned, busy=self.recorder.busy_batches)


def _log_recovery(recovery: Recovery) -> None:
    if recovery.requeued or recovery.exhausted:
        logger.warning(
            "%s requests of dead processes were requeued, %s have no attempt left.",
            len(recovery.requeued),
            len(recovery.exhausted),
            extra={"request_ids": recovery.request_ids},
        )
