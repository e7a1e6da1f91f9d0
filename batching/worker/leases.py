"""Renews the leases of this process's running chats and recovers chats with expired leases."""

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from django.conf import settings
from django.db import DatabaseError

from batching.store.recovery import close_abandoned, take_back_earlier, take_back_expired
from batching.store.threads import DatabaseThreads
from batching.worker.recorder import DatabaseRecorder
from chats.leases import Recovery, renew_leases

logger = logging.getLogger("batching")

MAX_START_PAUSE_S = 0.5


@dataclass(frozen=True, kw_only=True)
class LeaseKeeper:
    """The leases of one worker. `cancel_batches` cancels its running batches."""

    database: DatabaseThreads
    recorder: DatabaseRecorder
    name: str
    owner: str
    cancel_batches: Callable[[], None]

    async def renew(self) -> None:
        """Renews the leases until it is cancelled.

        If renewal fails until the leases expire, running batches are cancelled, because another
        worker will claim them.
        """
        held_until = time.monotonic() + settings.LEASE_S
        while True:
            await asyncio.sleep(settings.LEASE_S / 4)
            try:
                began = time.monotonic()
                async with asyncio.timeout(held_until - began):  # The database may also hang.
                    await self.database.run(
                        renew_leases,
                        list(self.recorder.open_chats),
                        owner=self.owner,
                        until=datetime.now(UTC) + timedelta(seconds=settings.LEASE_S),
                    )
                held_until = began + settings.LEASE_S
            except (DatabaseError, TimeoutError):
                extra = self.recorder.log_fields
                logger.exception("The leases could not be renewed.", extra=extra)
            if time.monotonic() >= held_until:
                extra = self.recorder.log_fields
                logger.error("The leases expired: running batches are cancelled.", extra=extra)
                self.cancel_batches()
                # Batches that are claimed from now on have new leases.
                held_until = time.monotonic() + settings.LEASE_S

    async def recover(self) -> None:
        """Requeues the chats of dead processes until it is cancelled.

        After a start, it also requeues the chats of an earlier process with this name, whose
        leases need not have expired.
        """
        began = time.monotonic()
        while True:
            pause_s = settings.LEASE_S / 4
            if time.monotonic() < began + settings.LEASE_S:
                recovery = await self.database.run(take_back_earlier, self.name, own=self.owner)
                _log_recovery(recovery)
                pause_s = min(MAX_START_PAUSE_S, pause_s)
            busy = self.recorder.open_chats
            _log_recovery(await self.database.run(take_back_expired, own=self.owner, busy=busy))
            await self.database.run(close_abandoned, busy=self.recorder.busy_batches)
            await asyncio.sleep(pause_s)


def _log_recovery(recovery: Recovery) -> None:
    if recovery.requeued or recovery.exhausted:
        logger.warning(
            "%s requests of dead processes were requeued, %s have no attempt left.",
            len(recovery.requeued),
            len(recovery.exhausted),
            extra={"request_ids": recovery.request_ids},
        )
