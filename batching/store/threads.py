"""Runs ORM functions in threads of their own, so that the event loop never waits for the database.

Each thread keeps its connection open. asgiref's shared thread would let one slow query delay all
others, and opening SQLite again costs more than most of our transactions.
"""

import asyncio
import logging
import math
import sqlite3
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, ParamSpec, TypeVar

from django.db import InterfaceError, InternalError, OperationalError, connection
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created

from batching.engine.errors import UpstreamUnavailable

logger = logging.getLogger("batching")

P = ParamSpec("P")
T = TypeVar("T")
POSTGRES_THREADS = 4
# Django raises these when the database cannot be reached, closes the connection, is too busy, has
# no space left or is read-only.
CONNECTION_ERRORS = (OperationalError, InterfaceError, InternalError)
DISK_FULL = "53100"  # Postgres's code of a write without space on the disk
READ_ONLY = "25006"  # Postgres's code of a write in a read-only transaction
# After a write that was refused as read-only, no session is older than RENEW_S for SUSPECT_S.
RENEW_S, SUSPECT_S = 1.0, 10.0


class DatabaseUnavailable(UpstreamUnavailable):
    """The gateway's database cannot be reached or takes no writes."""


class DatabaseFull(DatabaseUnavailable):
    """The disk of the gateway's database is full."""


def explain_outage(error: BaseException) -> DatabaseUnavailable:
    """Returns the error for the client that one of `CONNECTION_ERRORS` means."""
    cause: BaseException | None = error
    while cause is not None:
        if getattr(cause, "sqlstate", None) == DISK_FULL:
            return DatabaseFull()
        # Only errors of SQLite's library have a code.
        if getattr(cause, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_FULL:
            return DatabaseFull()
        cause = cause.__cause__
    return DatabaseUnavailable()


def log_unavailable(error: Exception) -> DatabaseUnavailable:
    """Logs the cause of one of `CONNECTION_ERRORS` and returns the error for the client."""
    cause = str(error).partition("\n")[0]
    logger.warning("The database is not available (%s: %s).", type(error).__name__, cause)
    return explain_outage(error)


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
    _SESSIONS.renew()
    try:
        return function(*args, **kwargs)
    finally:
        if connection.errors_occurred:
            # Closes a broken connection, so that the next call opens a new one.
            connection.close_if_unusable_or_obsolete()
        # Under DEBUG Django records each statement, prompts included, and clears the records only
        # at the end of its own requests.
        connection.queries_log.clear()


class _Sessions:
    """Ends sessions that stay read-only after the database takes writes again.

    A session of Postgres keeps the default with which it began, and SQLite keeps the way in which
    it opened the file.
    """

    def __init__(self) -> None:
        self._opened = threading.local()
        self._suspect_until = -math.inf
        self._void_before = -math.inf

    def watch(self, connection: BaseDatabaseWrapper, **_signal: Any) -> None:
        """Receives Django's signal that a thread has opened a session."""
        self._opened.at = time.monotonic()
        if self._notice not in connection.execute_wrappers:
            connection.execute_wrappers.append(self._notice)

    def _notice(self, execute: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return execute(*arguments)
        except CONNECTION_ERRORS as error:
            if _is_read_only(error):
                self._suspect_until = time.monotonic() + SUSPECT_S
            raise

    def renew(self) -> None:
        """Ends this thread's session, and those that wait in the pool, if they may be read-only."""
        now = time.monotonic()
        if self._void_before + RENEW_S < now < self._suspect_until:
            self._void_before = now
            if pool := getattr(connection, "pool", None):
                pool.drain()  # also ends sessions that are in use, when they return
        if getattr(self._opened, "at", now) < self._void_before:
            connection.close()


def _is_read_only(error: Exception) -> bool:
    cause = error.__cause__
    if isinstance(cause, sqlite3.Error):
        return cause.sqlite_errorcode & 0xFF == sqlite3.SQLITE_READONLY
    return getattr(cause, "sqlstate", None) == READ_ONLY


_SESSIONS = _Sessions()
connection_created.connect(_SESSIONS.watch)
