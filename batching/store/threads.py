"""The one edge between the event loop and the database.

Own threads with connections that stay open: asgiref's shared thread would let one slow query hold
up every other, and opening SQLite anew costs more than most of our transactions.
"""

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import ParamSpec, TypeVar

from django.db import InterfaceError, OperationalError, connection

from batching.engine.errors import UpstreamUnavailable

logger = logging.getLogger("batching")

P = ParamSpec("P")
T = TypeVar("T")
POSTGRES_THREADS = 4
AWAY = (OperationalError, InterfaceError)
"""what Django raises when the database cannot be reached, breaks off or is too busy"""


class DatabaseAway(UpstreamUnavailable):
    """The gateway's database cannot be reached."""


def explain_away(error: Exception) -> DatabaseAway:
    """What clients are told of an error that is one of `AWAY`; the log has its cause."""
    cause = str(error).partition("\n")[0]
    logger.warning("The database cannot be reached (%s: %s).", type(error).__name__, cause)
    return DatabaseAway()


class DatabaseThreads:
    """Runs functions of the ORM off the loop, one after another on SQLite, which has one writer."""

    def __init__(self) -> None:
        threads = 1 if connection.vendor == "sqlite" else POSTGRES_THREADS
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="database")

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        call = partial(_call, function, *args, **kwargs)
        return await asyncio.get_running_loop().run_in_executor(self._pool, call)

    async def close(self) -> None:
        loop = asyncio.get_running_loop()
        for _ in range(self._pool._max_workers):
            await loop.run_in_executor(self._pool, _close_connection)
        self._pool.shutdown(wait=False)


def _call(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    try:
        return function(*args, **kwargs)
    except Exception:
        # A broken connection is opened anew by the next call instead of failing for ever.
        connection.close_if_unusable_or_obsolete()
        raise
    finally:
        # Under DEBUG Django notes each statement, prompts included, and forgets them at the end of
        # its own requests alone.
        connection.queries_log.clear()


def _close_connection() -> None:
    connection.close()
