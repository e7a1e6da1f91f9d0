"""Runs the commands of docs/operations.md and compares its tables with the code."""

import os
import re
import shutil
import sqlite3
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from django.conf import settings
from django.db import connection, transaction

from batching.telemetry import steps
from chats.models import Chat
from chats.tests.rows import make_chat
from llmbatch import health
from llmbatch.tests.docs.variables import variables
from llmbatch.tests.fixtures.fleet import POSTGRES

ROOT = Path(__file__).resolve().parents[3]
TEXT = (ROOT / "docs/operations.md").read_text()
Run = Callable[..., str]


def find_block(name: str) -> str:
    """Returns the commands after `<!-- name -->`."""
    [block] = re.findall(rf"<!-- {name} -->\n```sh\n(.*?)```", TEXT, re.S)
    return block


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Runs a block in a folder that looks like an installation."""
    (tmp_path / "data").mkdir()
    (tmp_path / ".venv").symlink_to(Path(sys.executable).parents[1])
    for name in ("gateway", "manage.py"):
        (tmp_path / name).symlink_to(ROOT / name)
    bin_folder = Path(sys.executable).parent

    def run_block(name: str, **environment: str) -> str:
        block = find_block(name)
        if "sqlite3 " in block and not shutil.which("sqlite3"):
            (pytest.fail if os.environ.get("CI") else pytest.skip)("no sqlite3 program")
        done = subprocess.run(
            ["sh", "-euc", block],
            cwd=tmp_path,
            env=os.environ | {"PATH": f"{bin_folder}:{os.environ['PATH']}"} | environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run_block


def count_chats(path: Path) -> int:
    with sqlite3.connect(path) as database:
        return database.execute("SELECT count(*) FROM chats_chat").fetchone()[0]


@pytest.fixture
def live(transactional_db: None, run: Run, tmp_path: Path) -> Path:
    """Links `data/gateway.sqlite3` of the folder to the open database of this process."""
    if connection.vendor != "sqlite":
        pytest.skip("the tests run on another database than SQLite")
    path = tmp_path / "data/gateway.sqlite3"
    path.symlink_to(connection.settings_dict["NAME"])
    return path


@pytest.mark.parametrize(
    ("block", "backup"),
    [("backup-sqlite", "backup.sqlite3"), ("backup-python", "data/backup.sqlite3")],
)
def test_sqlite_backup_works_during_an_open_write_transaction(
    run: Run, live: Path, tmp_path: Path, block: str, backup: str
) -> None:
    for number in range(3):
        make_chat(request_id=f"committed {number}")
    with transaction.atomic():
        make_chat(request_id="not committed")
        output = run(block)
    assert count_chats(tmp_path / backup) == 3
    assert Chat.objects.count() == 4
    assert output in ("", "ok\n")


@pytest.mark.server
def test_restored_sqlite_has_the_rows_and_migrations_of_the_backup(
    run: Run, live: Path, tmp_path: Path
) -> None:
    for number in range(3):
        make_chat(request_id=f"kept {number}")
    run("backup-sqlite")
    make_chat(request_id="later")
    live.unlink()
    live.write_bytes(b"damaged")
    live.with_name("gateway.sqlite3-wal").write_bytes(b"of another database" * 1000)
    assert run("restore-sqlite") == "ok\n"
    environment = {"DATABASE_URL": f"sqlite:///{live}", "LOG_DIR": str(tmp_path / "logs")}
    assert "No migrations to apply" in run("restore-migrate", **environment)
    assert count_chats(live) == 3


@pytest.fixture
def postgres() -> Iterator[str]:
    missing = "" if shutil.which("pg_dump") else "no pg_dump"
    try:
        psycopg.connect(POSTGRES, connect_timeout=2).close()
    except psycopg.Error:
        missing = f"no Postgres at {POSTGRES} (TEST_POSTGRES_URL)"
    if missing:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(missing)
    name = f"operations_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(POSTGRES, autocommit=True) as server:
        server.execute(f'CREATE DATABASE "{name}"')
        try:
            yield POSTGRES.rpartition("/")[0] + f"/{name}"
        finally:
            server.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


@pytest.mark.server
def test_restored_postgres_has_the_rows_and_migrations_of_the_backup(
    run: Run, postgres: str, tmp_path: Path
) -> None:
    environment = {"DATABASE_URL": postgres, "LOG_DIR": str(tmp_path / "logs")}
    run("restore-migrate", **environment)
    run("backup-postgres", **environment)
    with psycopg.connect(postgres) as database:
        database.execute("DELETE FROM settings_app_lane")
        database.execute("DROP TABLE batching_modelcall")
    run("restore-postgres", **environment)
    assert "No migrations to apply" in run("restore-migrate", **environment)
    with psycopg.connect(postgres) as database:
        assert database.execute("SELECT count(*) FROM settings_app_lane").fetchone() == (3,)
        assert database.execute("SELECT count(*) FROM batching_modelcall").fetchone() == (0,)


@pytest.mark.server
def test_documented_environment_passes_the_deployment_check(tmp_path: Path) -> None:
    [block] = re.findall(r"```ini\n(DJANGO_DEBUG=.*?)```", TEXT, re.S)
    given = dict(line.split("=", 1) for line in block.splitlines())
    assert set(given) <= variables()
    [command] = re.findall(r"\./gateway (check .*)$", TEXT, re.M)
    given = {name: value.replace("change-me", "changed") for name, value in given.items()}
    environment = {"DATABASE_URL": f"sqlite:///{tmp_path}/db", "LOG_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "manage.py", *command.split()],
        cwd=ROOT,
        env=os.environ | environment | given,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


def test_every_part_of_readiness_and_every_log_tag_is_explained() -> None:
    parts = re.findall(r'^        "(\w+)": ', Path(health.__file__).read_text(), re.M)
    asked = [part for part in parts if part not in ("status", "checks")]
    assert set(asked) == {"database", "channel_layer", "batch_consumer", "model_key", "log_files"}
    assert {part for part in asked if f"| `{part}` |" not in TEXT} == set()
    tags = set(re.findall(r'"(\[[A-Z_]+\])', Path(steps.__file__).read_text()))
    assert len(tags) == 5
    assert {tag for tag in tags if f"| `{tag}` |" not in TEXT} == set()


def test_variables_commands_and_limits_of_the_document_exist() -> None:
    named = set(re.findall(r"`([A-Z]+(?:_[A-Z]+)+)\b", TEXT))
    assert named - {"ENQUEUE"} <= variables()
    commands = {path.stem for path in ROOT.glob("*/management/commands/[a-z]*.py")}
    commands |= {"check", "migrate", "collectstatic", "axes_reset", "help"}
    assert set(re.findall(r"\./gateway (\w+)", TEXT)) <= commands
    assert "client_max_body_size 2m;" in TEXT
    assert settings.MAX_BODY_BYTES < 2 * 2**20
    stops = re.findall(r"TimeoutStopSec=(\d+)", TEXT)
    assert [stop_s for stop_s in stops if int(stop_s) <= settings.DRAIN_S] == []
    assert len(stops) == 2
