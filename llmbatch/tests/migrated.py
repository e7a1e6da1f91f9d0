"""Databases with all tables, made once per test run: a server's own is a copy."""

import atexit
import os
import shutil
import subprocess
import sys
import tempfile
import uuid
from functools import cache
from pathlib import Path

import psycopg

ROOT = Path(__file__).resolve().parents[2]
POSTGRES = os.environ.get("TEST_POSTGRES_URL", "postgres://postgres@127.0.0.1:5432/postgres")


def copy_sqlite(target: Path) -> None:
    if not target.exists():
        shutil.copy(_migrated_sqlite(), target)


def create_postgres() -> str:
    """The URL of a new database; `drop_postgres` removes it."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    _execute(f'CREATE DATABASE "{name}" TEMPLATE "{_migrated_postgres()}"')
    return _url(name)


def drop_postgres(url: str) -> None:
    _execute(f'DROP DATABASE IF EXISTS "{url.rpartition("/")[2]}" WITH (FORCE)')


@cache
def _migrated_sqlite() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="migrated-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    path = folder / "gateway.sqlite3"
    _migrate(f"sqlite:///{path}")
    return path


@cache
def _migrated_postgres() -> str:
    name = f"migrated_{uuid.uuid4().hex[:12]}"
    _execute(f'CREATE DATABASE "{name}"')
    atexit.register(drop_postgres, _url(name))
    _migrate(_url(name))
    return name


def _migrate(url: str) -> None:
    environment = os.environ | {"DATABASE_URL": url, "DJANGO_SECRET_KEY": "unused" * 10}
    subprocess.run(
        [sys.executable, "manage.py", "migrate", "-v0"], cwd=ROOT, env=environment, check=True
    )


def _url(name: str) -> str:
    return POSTGRES.rpartition("/")[0] + f"/{name}"


def _execute(sql: str) -> None:
    with psycopg.connect(POSTGRES, autocommit=True) as connection:
        connection.execute(sql)
