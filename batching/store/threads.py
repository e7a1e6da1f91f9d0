"""Runs ORM functions in threads of their own, so that the event loop never waits for the database.

Each thread keeps its connection open. asgiref's shared thread would let one slow query delay all
others, and opening SQLite again costs more than most of our transactions.
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
# Django raises these when the database cannot be reached, closes the connection or is too busy.
CONNECTION_ERRORS = (OperationalError, InterfaceError)


class DatabaseUnavailable(UpstreamUnavailable):
    """The gateway's database cannot be reached."""


def log_unavailable(error: Exception) -> DatabaseUnavailable:
    """Logs the cause of one of `CONNECTION_ERRORS` and returns the error for the client."""
    cause = str(error).partition("\n")[0]
    logger.warning("The database cannot be reached (%s: %s).", type(error).__name__, cause)
    return DatabaseUnavailable()


class DatabaseThreads:
    """A pool of database threads; a single one for SQLite, which has one writer."""

    def __init__(self) -> None:
        threads = 1 if connection.vendor == "sqlite" else POSTGRES_THREADS
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="database")

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        call = partial(_call, function, *args, **kwargs)
        return await asyncio.get_running_loop().run_in_executor(self._pool, call)

    async def close(self) -> None:
        loop = asyncio.get_running_loop()
        for _ in range(self._pool._max_workers):
            # A function, because `connection.close` would be this thread's.
            await loop.run_in_executor(self._pool, lambda: connection.close())
        self._pool.shutdown(wait=False)


def _call(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    try:
        return function(*args, **kwargs)
    except Exception:
        # Closes a broken connection, so that the next call opens a new one.
        connection.close_if_unusable_or_obsolete()
        raise
    finally:
        # Under DEBUG Django records each statement, prompts included, and clears the records only
        # at the end of its own requests.
        connection.queries_log.clear()
