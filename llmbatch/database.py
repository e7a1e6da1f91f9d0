"""The database of `DATABASE_URL`: SQLite, or Postgres for a fleet."""

import os
import sqlite3
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import environ
from django.core.exceptions import ImproperlyConfigured

from llmbatch.environment import demand, prepare_folder, read

_SQLITE_HEADER = b"SQLite format 3\0"
_POSTGRES = ("postgres", "postgresql", "psql", "pgsql")


def read_database(name: str, *, default: Path) -> dict[str, Any]:
    """Returns Django's description of the database; raises ImproperlyConfigured."""
    database = read(
        name,
        {"NAME": default},
        _parse_url,
        "sqlite:///path/of/the/file, or postgres://user:password@host/name with special characters"
        " percent-encoded",
    )
    if "ENGINE" in database:
        return _describe_postgres(database)
    path = Path(database["NAME"])
    prepare_folder(name, path.parent, [path, *(Path(f"{path}-{end}") for end in ("wal", "shm"))])
    if path.exists() and not _is_database(path):
        raise ImproperlyConfigured(f"{name}: {path} is not an SQLite database: move it away.")
    return _describe_sqlite(path)


def _is_database(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(_SQLITE_HEADER)) in (b"", _SQLITE_HEADER)


def _parse_url(raw: str) -> dict[str, Any]:
    url = urlsplit(raw)
    if url.scheme == "sqlite":
        # With two slashes, `data` of sqlite://data/file would be a host.
        demand(not url.netloc and not url.query and not url.fragment)
        path = unquote(url.path.removeprefix("/"))
        demand(path not in ("", ":memory:") and "\0" not in path)
        return {"NAME": path}
    demand(url.scheme in _POSTGRES)
    found: dict[str, Any] = environ.Env.db_url_config(raw)
    demand(found["NAME"] and not set("/@") & set(found["NAME"]))
    _check_options(found.get("OPTIONS", {}))
    return found


def _check_options(options: Mapping[str, Any]) -> None:
    if options:
        import psycopg

        try:
            psycopg.conninfo.make_conninfo(**options)
        except psycopg.Error:
            raise ValueError from None


def _describe_postgres(database: Mapping[str, Any]) -> dict[str, Any]:
    # A cursor on the server belongs to a session. Behind a pooler in transaction mode, the next
    # statement may run in another session.
    fixed = {"CONN_HEALTH_CHECKS": True, "DISABLE_SERVER_SIDE_CURSORS": True}
    # The next transaction connects again after an outage of the server. The pool's own pauses
    # double with each failure; after a long restart they would last as long as the restart.
    pool = {"min_size": 1, "max_size": 16, "timeout": 3, "reconnect_timeout": 1}
    options = {**database.get("OPTIONS", {}), "pool": pool}
    return {**database, **fixed, "OPTIONS": options}


class PrivateConnection(sqlite3.Connection):
    """Creates a new file so that only this user may read it; SQLite gives its -wal file that mode.

    An existing file is not opened here: closing it would release the locks of this process.
    """

    def __init__(self, database: str, *args: Any, **kwargs: Any) -> None:
        if not database.startswith(("file:", ":")):
            with suppress(OSError):
                os.close(os.open(database, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        super().__init__(database, *args, **kwargs)


def _describe_sqlite(path: Path) -> dict[str, Any]:
    return {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": str(path),
        "OPTIONS": {
            "factory": PrivateConnection,
            # A transaction takes the write lock when it begins: it waits for its turn instead of
            # failing in the middle with "database is locked".
            "transaction_mode": "IMMEDIATE",
            "timeout": 20,
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
        },
    }
