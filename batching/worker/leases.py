"""Renews the leases of this process's running chats and recovers chats with expired leases."""

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field

from django.conf import settings
from django.db import DatabaseError

from batching.store.recovery import (
    close_abandoned,
    take_back_batches,
    take_back_earlier,
    take_back_expired,
)
from batching.store.threads import DatabaseThreads
from batching.worker.recorder import DatabaseRecorder
from chats.clock import CLOCK
from chats.leases import Recovery, renew_leases

logger = logging.getLogger("batching")

MAX_START_PAUSE_S = 0.5
MIN_PAUSE_S = 0.05


@dataclass(kw_only=True, eq=False)
class LeaseKeeper:
    """The leases of one worker, one for each batch. `cancel_batches` cancels running batches.

    If `shared`, other workers claim batches whose leases have expired.
    """

    database: DatabaseThreads
    recorder: DatabaseRecorder
    name: str
    owner: str
    shared: bool
    cancel_batches: Callable[[Collection[int]], None]
    clock: Callable[[], float] = time.monotonic
    # The start of each batch's last renewal.
    _renewed: dict[int, float] = field(default_factory=dict)
    # The chats of batches that were cancelled and still belong to this process.
    _given_up: dict[int, set[int]] = field(default_factory=dict)

    async def renew(self) -> None:
        """Renews the leases until it is cancelled."""
        while True:
            await asyncio.sleep(self._find_pause_s())
            await self.renew_once()

    async def renew_once(self) -> None:
        """Renews all leases. Cancels the batches that another worker has taken over.

        After a freeze, the database decides which batches those are; the others continue. Without
        the database, a shared batch is cancelled when its lease is over.
        """
        began, batches = self.clock(), self.recorder.open_batches
        ends = {batch: self._find_end(batch) for batch in batches}
        ids = list(self.recorder.open_chats)
        try:
            async with asyncio.timeout(settings.LEASE_S / 4):  # The database may also hang.
                await self._take_back_given_up()
                held = await self.database.run(renew_leases, ids, owner=self.owner)
        except (DatabaseError, TimeoutError):
            extra = self.recorder.log_fields
            logger.exception("The leases could not be renewed.", extra=extra)
            if self.shared:
                # Not later than this attempt: this process may have been frozen during it.
                self._give_up(batch for batch, end in ends.items() if end <= began)
            return
        still_open = self.recorder.open_batches  # A chat that has just ended was not lost.
        lost = [
            batch
            for batch, chats in batches.items()
            if (left := chats & still_open.get(batch, set()))
            and all(held.get(chat_id) != batch for chat_id in left)
        ]
        self._cancel(lost, reason="another worker has claimed their requests")
        self._renewed = dict.fromkeys(batches.keys() & still_open.keys() - set(lost), began)

    async def recover(self) -> None:
        """Requeues the chats of dead processes until it is cancelled.

        After a start, it also requeues the chats of an earlier process with this name, whose
        leases need not have expired.
        """
        began = self.clock()
        while True:
            pause_s = settings.LEASE_S / 4
            starting = self.clock() < began + settings.LEASE_S
            await self.database.run(CLOCK.sample)
            # After a jump of the clock, all leases may look expired until they are renewed.
            if CLOCK.steady_s > settings.LEASE_S / 2:
                await self._take_back(starting=starting)
            if starting:
                pause_s = min(MAX_START_PAUSE_S, pause_s)
            await asyncio.sleep(pause_s)

    async def _take_back(self, *, starting: bool) -> None:
        if starting:
            recovery = await self.database.run(take_back_earlier, self.name, own=self.owner)
            _log_recovery(recovery)
        busy = self.recorder.open_chats
        _log_recovery(await self.database.run(take_back_expired, own=self.owner, busy=busy))
        await self.database.run(close_abandoned, busy=self.recorder.busy_batches)

    def _give_up(self, batches: Iterable[int]) -> None:
        """Cancels batches whose leases have expired, and remembers their chats."""
        still_open = self.recorder.open_batches
        expired = {batch: still_open[batch] for batch in batches if batch in still_open}
        self._given_up |= expired
        self._cancel(expired, reason="their leases expired")

    async def _take_back_given_up(self) -> None:
        if self._given_up:
            # A result may have arrived just before the end of its batch, and wait to be stored.
            busy = self.recorder.open_chats
            batches = {batch: chats - busy for batch, chats in self._given_up.items()}
            _log_recovery(await self.database.run(take_back_batches, batches, own=self.owner))
            self._given_up = {}

    def _cancel(self, batches: Collection[int], *, reason: str) -> None:
        if batches:
            extra = {"batch_ids": sorted(batches)}
            logger.error("Running batches are cancelled: %s.", reason, extra=extra)
            self.cancel_batches(batches)

    def _find_end(self, batch_id: int) -> float:
        renewed = self._renewed.get(batch_id, self.recorder.find_start(batch_id))
        return renewed + settings.LEASE_S

    def _find_pause_s(self) -> float:
        pause_s = settings.LEASE_S / 4
        if not self.shared:
            return pause_s
        ends = [self._find_end(batch) for batch in self.recorder.open_batches]
        return min([pause_s, *(max(MIN_PAUSE_S, end - self.clock()) for end in ends)])


def _log_recovery(recovery: Recovery) -> None:
    if recovery.requeued or recovery.exhausted:
        logger.warning(
            "%s requests of dead processes were requeued, %s have no attempt left.",
            len(recovery.requeued),
            len(recovery.exhausted),
            extra={"request_ids": recovery.request_ids},
        )
