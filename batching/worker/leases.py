"""Renews the leases of this process's running chats and recovers chats with expired leases."""

import asyncio
import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from django.conf import settings
from django.db import DatabaseError

from batching.store.recovery import take_back_earlier, take_back_expired
from batching.store.threads import DatabaseThreads
from batching.worker.recorder import DatabaseRecorder
from chats.leases import Recovery, renew_leases

logger = logging.getLogger("batching")

MAX_START_PAUSE_S = 0.5


class LeaseKeeper:
    """The leases of one worker. `cancel_batches` cancels its running batches."""

    def __init__(
        self,
        *,
        database: DatabaseThreads,
        recorder: DatabaseRecorder,
        name: str,
        owner: str,
        cancel_batches: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database = database
        self._recorder = recorder
        self._name = name
        self._owner = owner
        self._cancel_batches = cancel_batches
        self._clock = clock

    async def renew(self) -> None:
        """Renews the leases until it is cancelled.

        If renewal fails until the leases expire, running batches are cancelled, because another
        worker will claim them.
        """
        held_until = self._clock() + settings.LEASE_S
        while True:
            await asyncio.sleep(settings.LEASE_S / 4)
            try:
                began = self._clock()
                async with asyncio.timeout(held_until - began):  # The database may also hang.
                    await self._database.run(
                        renew_leases,
                        list(self._recorder.open_chats),
                        owner=self._owner,
                        until=datetime.now(UTC) + timedelta(seconds=settings.LEASE_S),
                    )
                held_until = began + settings.LEASE_S
            except (DatabaseError, TimeoutError):
                extra = self._recorder.log_fields
                logger.exception("The leases could not be renewed.", extra=extra)
            if self._clock() >= held_until:
                extra = self._recorder.log_fields
                logger.error("The leases expired: running batches are cancelled.", extra=extra)
                self._cancel_batches()
                # Batches that are claimed from now on have new leases.
                held_until = self._clock() + settings.LEASE_S

    async def recover(self) -> None:
        """Requeues the chats of dead processes until it is cancelled.

        After a start, it also requeues the chats of an earlier process with this name, whose
        leases need not have expired.
        """
        began = self._clock()
        while True:
            pause_s = settings.LEASE_S / 4
            if self._clock() < began + settings.LEASE_S:
                _log_recovery(
                    await self._database.run(take_back_earlier, self._name, own=self._owner)
                )
                pause_s = min(MAX_START_PAUSE_S, pause_s)
            busy = self._recorder.open_chats
            _log_recovery(await self._database.run(take_back_expired, own=self._owner, busy=busy))
            await asyncio.sleep(pause_s)


def _log_recovery(recovery: Recovery) -> None:
    if recovery.requeued or recovery.exhausted:
        logger.warning(
            "%s requests of dead processes were requeued, %s have no attempt left.",
            len(recovery.requeued),
            len(recovery.exhausted),
            extra={"request_ids": recovery.request_ids},
        )
