"""The periodic tasks of a process. Each one repeats a short piece of database work."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, ParamSpec

from django.db import DatabaseError

from batching.analytics.rollup import CHUNK, roll_up_pending
from batching.store.fleet_status import REPORT_INTERVAL_S, forget_worker
from batching.store.retention import prune_old, trusts_clock
from batching.store.threads import DatabaseThreads
from batching.telemetry.exposition import forget_numbers
from chats.clock import CLOCK

logger = logging.getLogger("batching")

P = ParamSpec("P")

# The daily statistics are at most a second behind the requests that have ended.
ROLL_UP_INTERVAL_S = 0.5
LAST_USED_INTERVAL_S = 10.0
NUMBERS_INTERVAL_S = 2.0
WATCH_INTERVAL_S = 0.5
RETENTION_DELAY_S = 60.0
RETENTION_INTERVAL_S = 3600.0
RETENTION_PAUSE_S = 0.1


def every(
    interval_s: float, work: Callable[P, Awaitable[object]], *args: P.args, **kwargs: P.kwargs
) -> Callable[[], Coroutine[Any, Any, None]]:
    """Returns a task that does the work again and again, until it is cancelled."""

    async def repeat() -> None:
        while True:
            await work(*args, **kwargs)
            await asyncio.sleep(interval_s)

    return repeat


async def roll_up(database: DatabaseThreads) -> None:
    """Works chunk by chunk, so that other database work gets its turn."""
    while await database.run(roll_up_pending) >= CHUNK:
        pass


async def delete_old_rows(database: DatabaseThreads) -> None:
    """Deletes rows that are older than the retention setting, in chunks with pauses."""
    began = time.monotonic()
    await asyncio.sleep(RETENTION_DELAY_S)  # a starting process has more urgent work
    while True:
        removed, now = 0, CLOCK.now()
        steady_s = min(CLOCK.steady_s, time.monotonic() - began)
        if await database.run(trusts_clock, now, steady_s=steady_s):
            while rows := await database.run(prune_old, now=now):
                removed += rows
                await asyncio.sleep(RETENTION_PAUSE_S)
        if removed:
            extra = {"action": "retention"}
            logger.info("The retention setting deleted %s rows.", removed, extra=extra)
        await asyncio.sleep(RETENTION_INTERVAL_S)


async def sign_off(database: DatabaseThreads, *, name: str, owner: str | None) -> None:
    """Deletes the last reports of this process, so that no other process counts on it."""
    try:
        async with asyncio.timeout(REPORT_INTERVAL_S):
            await database.run(forget_numbers, name)
            if owner is not None:
                await database.run(forget_worker, owner)
    except (TimeoutError, DatabaseError) as error:
        reason = type(error).__name__
        logger.warning("The reports of this process could not be deleted (%s).", reason)
