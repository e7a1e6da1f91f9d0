"""A real `manage.py serve` process with a database and logs of its own."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import psutil

from llmbatch.tests.migrated import copy_sqlite

ROOT = Path(__file__).resolve().parents[2]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Server:
    """`with Server(folder, GEMINI_BASE_URL=…) as server`; `command` replaces `serve`."""

    def __init__(self, folder: Path, *, command: list[str] | None = None, **variables: str) -> None:
        self.folder = folder
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
        copy_sqlite(self.folder / "gateway.sqlite3")
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
        limit = time.monotonic() + 20
        while not self.answers():
            assert self.process.poll() is None, self.log
            assert time.monotonic() < limit, self.log
            time.sleep(0.05)

    def __exit__(self, *error: object) -> None:
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
            urllib.request.urlopen(f"{self.url}/health", timeout=2).read()
        except OSError:
            return False
        return True

    @property
    def log(self) -> str:
        return (self.folder / "server.log").read_text()

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

    def terminate(self, *, within_s: float) -> int:
        """Sends SIGTERM; gives the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(within_s)
