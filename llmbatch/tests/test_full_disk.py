"""A full disk, and files that cannot be written: what clients, probes and the log learn."""

import logging
import stat
import sys
from contextlib import closing
from pathlib import Path

import pytest
from django.db import OperationalError, connection

from batching.store.threads import DatabaseFull, DatabaseUnavailable, explain_outage
from batching.tests.harness import Harness
from llmbatch import health
from llmbatch.database import PrivateConnection
from llmbatch.logs import REPEAT_S, LogFile, ServerLog

SECRET = "a prompt that nobody else may read"


def make_record(message: str, *args: object, at: float = 0.0, error: str = "") -> logging.LogRecord:
    exc_info = None
    if error:
        try:
            raise OperationalError from ValueError(error)
        except OperationalError:
            exc_info = sys.exc_info()
    record = logging.LogRecord("a", logging.ERROR, __file__, 1, message, args, exc_info)
    record.created = at
    return record


def make_log_file(path: Path) -> LogFile:
    return LogFile(path, maxBytes=1000, backupCount=1, encoding="utf-8", delay=True)


def test_entry_that_the_full_disk_refuses_is_lost_and_not_printed(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "pairs.log"
    path.symlink_to("/dev/full")
    with closing(make_log_file(path)) as file:
        for _ in range(3):
            file.handle(make_record(SECRET))
        assert file.problem == "No space left on device"
        assert [record.getMessage() for record in caplog.records] == [
            f"{path} cannot be written: No space left on device."
        ]
        path.unlink()
        file.handle(make_record("later"))
        assert file.problem == ""
    assert path.read_text() == "later\n"
    output = capfd.readouterr()
    assert SECRET not in output.out + output.err + caplog.text


def test_entry_for_a_folder_that_cannot_be_entered_is_lost_and_not_printed(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "logs"
    folder.touch()
    with closing(make_log_file(folder / "pairs.log")) as file:
        file.handle(make_record(SECRET))
        assert file.problem == "Not a directory"
    output = capfd.readouterr()
    assert SECRET not in output.out + output.err


def test_new_files_may_be_read_by_their_user_alone_and_others_keep_their_mode(
    tmp_path: Path,
) -> None:
    with closing(make_log_file(tmp_path / "new.log")) as file:
        file.handle(make_record("text"))
    for name in ("new.sqlite3", "old.sqlite3"):
        if name.startswith("old"):
            (tmp_path / name).touch(0o640)
        with closing(PrivateConnection(str(tmp_path / name))) as database:
            database.executescript("PRAGMA journal_mode=WAL; CREATE TABLE t (x);")
            (tmp_path / f"{name}-wal").rename(tmp_path / f"seen-{name}-wal")
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert {name: mode for name, mode in modes.items() if not name.endswith("-shm")} == {
        "new.log": 0o600,
        "new.sqlite3": 0o600,
        "seen-new.sqlite3-wal": 0o600,
        "old.sqlite3": 0o640,
        "seen-old.sqlite3-wal": 0o640,
    }


def test_equal_errors_are_written_once_and_counted(capsys: pytest.CaptureFixture[str]) -> None:
    log = ServerLog()
    for at in (0.0, 1.0, REPEAT_S - 1, REPEAT_S, REPEAT_S + 1):
        log.handle(make_record("%s requests failed", 1, at=at, error="disk full"))
    log.handle(make_record("another error", at=1.0))
    written = capsys.readouterr().err
    assert written.count("direct cause") == 2
    assert written.count("1 requests failed") == 2
    assert "1 requests failed (2 equal lines before this one were left out.)\n" in written
    assert "another error" in written


def test_equal_tracebacks_of_different_lines_are_written_once(
    capsys: pytest.CaptureFixture[str],
) -> None:
    log = ServerLog()
    for number in range(5):
        log.handle(make_record("batch %s failed", number, error="disk full"))
    log.handle(make_record("batch %s failed", 5, error="a bug"))
    written = capsys.readouterr().err
    assert written.count("direct cause") == 2, "another error has its own traceback"
    assert "batch 4 failed (ValueError: disk full)\n" in written


class _PostgresError(Exception):
    sqlstate = "53100"


def test_full_disk_of_postgres_is_named() -> None:
    error = OperationalError("could not extend file: No space left on device")
    error.__cause__ = _PostgresError()
    assert type(explain_outage(error)) is DatabaseFull
    assert type(explain_outage(OperationalError("connection refused"))) is DatabaseUnavailable


async def test_request_that_the_full_database_refuses_names_the_disk(harness: Harness) -> None:
    """SQLite reports a database of the greatest size as it reports a full disk."""
    if connection.vendor != "sqlite":
        pytest.skip("the tests run on another database than SQLite")

    def limit(pages: int) -> None:
        with connection.cursor() as cursor:
            cursor.execute(f"PRAGMA max_page_count = {pages}")

    await harness.runtime.database.run(limit, 1)  # means: no more than it has
    reply = await harness.ask("x" * 500_000)
    assert reply.status_code == 503
    assert reply.json() == {
        "detail": "The disk of the gateway's database is full.",
        "code": "upstream_unavailable",
    }
    await harness.runtime.database.run(limit, 2**31)
    assert (await harness.ask()).status_code == 200


async def test_readiness_names_the_parts_whose_disk_is_full(
    harness: Harness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(make_log_file(tmp_path / "calls.log")) as file:
        monkeypatch.setattr(health, "list_log_files", lambda: [file])
        assert (await harness.client.get("/health/ready")).status_code == 200
        monkeypatch.setattr(health, "MIN_FREE_BYTES", 2**60)
        reply = await harness.client.get("/health/ready")
        checks = reply.json()["checks"]
        assert reply.status_code == 503
        assert checks["log_files"].startswith("the disk is full (")
        if connection.vendor == "sqlite":
            assert checks["database"].startswith("the disk is full (")
        monkeypatch.undo()
        monkeypatch.setattr(health, "list_log_files", lambda: [file])
        file.problem = "Permission denied"
        checks = (await harness.client.get("/health/ready")).json()["checks"]
        assert checks["log_files"] == "Permission denied"
        assert checks["database"] == "ok"
