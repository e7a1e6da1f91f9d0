"""A real `manage.py serve` process with a database and logs of its own."""

import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
from contextlib import closing
from pathlib import Path

import psutil

from llmbatch.tests.migrated import copy_sqlite

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 60.0
"""for what a busy machine does in a second or less"""
PATIENT = "UPDATE settings_app_lane SET latency_ms = 600000"
"""no request ends by its deadline, however slow the machine is"""
LONG_WINDOWS = f"{PATIENT}; UPDATE settings_app_lane SET window_s = 300 WHERE priority < 2"
"""of MEDIUM and LOW: a batch of theirs leaves once it is full"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Server:
    """`with Server(folder, GEMINI_BASE_URL=…) as server`; `command` replaces `serve`.

    `prepare` is SQL that changes the new database before the process starts.
    """

    def __init__(
        self,
        folder: Path,
        *,
        command: list[str] | None = None,
        prepare: str = PATIENT,
        **variables: str,
    ) -> None:
        self.folder = folder
        self._prepare = prepare
        self._log_begins = 0
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.environment = os.environ | {
            "DATABASE_URL": f"sqlite:///{folder / 'gateway.sqlite3'}",
            "LOG_DIR": str(folder / "logs"),
            "DJANGO_DEBUG": "false",
            "DJANGO_SECRET_KEY": "a-secret-for-tests-alone-0123456789-abcdefghij",
            "API_ACCESS": "open",
            "GEMINI_API_KEY": "test-key-0123456789",
            "DRAIN_S": "2",
            "PYTHONUNBUFFERED": "1",
            "PYTHONDONTWRITEBYTECODE": "",  # the next server starts sooner
            **variables,
        }
        self._command = command or [sys.executable, "manage.py", "serve"]

    def __enter__(self) -> "Server":
        path = self.folder / "gateway.sqlite3"
        copy_sqlite(path)
        with closing(sqlite3.connect(path)) as database:
            database.executescript(self._prepare)
        self.start()
        return self

    def start(self) -> None:
        """Once more too, after the process has ended: with the same port and the same rows."""
        port = "-p" if "daphne" in self._command[-2] else "--port"
        with open(self.folder / "server.log", "ab") as log:
            self.process = subprocess.Popen(
                [*self._command, port, str(self.port)],
                cwd=ROOT,
                env=self.environment,
                stdout=log,
                stderr=log,
            )
        try:
            self._wait_until_up()
        except BaseException:
            self.stop()
            raise

    def _wait_until_up(self) -> None:
        limit = time.monotonic() + PATIENCE_S
        while not self.answers():
            if self.process.poll() is not None or time.monotonic() > limit:
                raise RuntimeError(f"The server did not start.\n{self.log}")
            time.sleep(0.05)

    def __exit__(self, *error: object) -> None:
        self.stop()

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    def manage(self, *arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=ROOT,
            env=self.environment,
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        )
        return done.stdout

    def answers(self) -> bool:
        try:
            urllib.request.urlopen(f"{self.url}/health", timeout=PATIENCE_S).read()
        except OSError:
            return False
        return True

    @property
    def log(self) -> str:
        """Since `begin`, where tests share the server."""
        return self.whole_log[self._log_begins :]

    @property
    def whole_log(self) -> str:
        return (self.folder / "server.log").read_text()

    def begin(self) -> "Server":
        """For the next test."""
        self._log_begins = len(self.whole_log)
        return self

    @property
    def threads(self) -> int:
        return psutil.Process(self.process.pid).num_threads()

    @property
    def memory_mb(self) -> float:
        return psutil.Process(self.process.pid).memory_info().rss / 2**20

    def forget_peak(self) -> None:
        """Linux alone: `peak_mb` counts from here."""
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")

    @property
    def peak_mb(self) -> float:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) / 2**10

    def terminate(self, *, within_s: float = PATIENCE_S) -> int:
        """Sends SIGTERM; gives the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(within_s)
