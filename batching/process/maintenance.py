"""The periodic tasks of a process. Each one repeats a short piece of database work forever."""

import asyncio
import logging
from collections.abc import Callable
from datetime import UTC, datetime

from django.db import DatabaseError
from prometheus_client import Metric

from batching.analytics.rollup import CHUNK, roll_up_pending
from batching.engine.capacity import Capacity
from batching.store.fleet_status import (
    REPORT_INTERVAL_S,
    FleetStatus,
    forget_worker,
    read_fleet_status,
    report_worker,
)
from batching.store.retention import prune_old
from batching.store.threads import DatabaseThreads
from batching.telemetry.exposition import forget_numbers, report_numbers
from settings_app.access.api_keys import KEY_CACHE
from settings_app.snapshot import refresh_if_stale

logger = logging.getLogger("batching")

ROLL_UP_INTERVAL_S = 0.5
LAST_USED_INTERVAL_S = 10.0
NUMBERS_INTERVAL_S = 2.0
WATCH_INTERVAL_S = 0.5
RETENTION_DELAY_S = 60.0
RETENTION_INTERVAL_S = 3600.0
RETENTION_PAUSE_S = 0.1


class Maintenance:
    """The periodic tasks; each method without an end is a task for the supervisor."""

    def __init__(self, database: DatabaseThreads) -> None:
        self._database = database
        # The status of the whole fleet as it was read last; None before the first reading.
        self.fleet_status: FleetStatus | None = None

    async def roll_up(self) -> None:
        """Keeps the daily statistics at most a second behind the requests that have ended."""
        while True:
            await asyncio.sleep(ROLL_UP_INTERVAL_S)
            while await self._database.run(roll_up_pending) >= CHUNK:
                pass  # chunk by chunk, so that other database work gets its turn

    async def delete_old_rows(self) -> None:
        """Deletes rows that are older than the retention setting, in chunks with pauses."""
        await asyncio.sleep(RETENTION_DELAY_S)  # a starting process has more urgent work
        while True:
            removed = 0
            while rows := await self._database.run(prune_old, now=datetime.now(UTC)):
                removed += rows
                await asyncio.sleep(RETENTION_PAUSE_S)
            if removed:
                extra = {"action": "retention"}
                logger.info("The retention setting deleted %s rows.", removed, extra=extra)
            await asyncio.sleep(RETENTION_INTERVAL_S)

    async def write_last_used(self) -> None:
        """Stores when each API key was last used."""
        while True:
            await asyncio.sleep(LAST_USED_INTERVAL_S)
            await self._database.run(KEY_CACHE.write_last_used)

    async def watch_fleet(self) -> None:
        """Reads the settings, the workers and the queue that other processes changed."""
        while True:
            await self._database.run(refresh_if_stale)
            self.fleet_status = await self._database.run(read_fleet_status)
            await asyncio.sleep(WATCH_INTERVAL_S)

    async def report_worker(self, owner: str, capacity: Callable[[], Capacity]) -> None:
        """Reports to the web processes that this worker is alive, and its capacity."""
        while True:
            await self._database.run(report_worker, owner, capacity())
            await asyncio.sleep(REPORT_INTERVAL_S)

    async def report_numbers(self, name: str, gauges: Callable[[], list[Metric]]) -> None:
        """Stores this process's metrics, so that every web process can include them in /metrics."""
        while True:
            await self._database.run(report_numbers, name, gauges())
            await asyncio.sleep(NUMBERS_INTERVAL_S)

    async def sign_off(self, *, name: str, owner: str | None) -> None:
        """Deletes the last reports of this process, so that no other process relies on it."""
        try:
            async with asyncio.timeout(REPORT_INTERVAL_S):
                await self._database.run(forget_numbers, name)
                if owner is not None:
                    await self._database.run(forget_worker, owner)
        except (TimeoutError, DatabaseError) as error:
            reason = type(error).__name__
            logger.warning("The reports of this process could not be deleted (%s).", reason)
