"""A real fleet: web and worker processes over a Postgres database and a Redis of their own."""

import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import psycopg
import redis

from llmbatch.tests.migrated import POSTGRES, create_postgres, drop_postgres
from llmbatch.tests.server import free_port

REDIS = os.environ.get("TEST_REDIS_URL", "redis://127.0.0.1:6379/5")
ROOT = Path(__file__).resolve().parents[2]


def explain_missing() -> str:
    """Which service is not there; "" if both are."""
    try:
        psycopg.connect(POSTGRES, connect_timeout=2).close()
    except psycopg.Error:
        return f"no Postgres at {POSTGRES} (TEST_POSTGRES_URL)"
    try:
        redis.Redis.from_url(REDIS, socket_connect_timeout=2).ping()
    except redis.RedisError:
        return f"no Redis at {REDIS} (TEST_REDIS_URL)"
    return ""


class Fleet:
    """`with Fleet(model_url) as fleet`: two web processes, then `start_worker(name)`."""

    def __init__(self, model_url: str, folder: Path) -> None:
        self._folder = folder
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.urls: list[str] = []
        self.redis = redis.Redis.from_url(REDIS)
        self._environment = os.environ | {
            "REDIS_URL": REDIS,
            "LOG_DIR": str(folder / "logs"),
            "DJANGO_DEBUG": "false",
            "DJANGO_SECRET_KEY": "a-secret-for-tests-alone-0123456789-abcdefghij",
            "API_ACCESS": "open",
            "GEMINI_API_KEY": "test-key-0123456789",
            "GEMINI_BASE_URL": model_url,
            "DRAIN_S": "5",
            "LEASE_S": "3",
        }

    def __enter__(self) -> "Fleet":
        self._environment["DATABASE_URL"] = create_postgres()
        for _ in range(2):
            port = free_port()
            self.urls.append(f"http://127.0.0.1:{port}")
            self.processes[f"web{port}"] = self._run("serve", "--no-consumer", f"--port={port}")
        for url in self.urls:
            self._wait_until_up(url)
        return self

    def __exit__(self, *error: object) -> None:
        for process in self.processes.values():
            process.kill()
            process.wait()
        drop_postgres(self._environment["DATABASE_URL"])

    def start_worker(self, name: str) -> None:
        if name in self.processes:
            self.processes[name].wait(10)
        log = self._folder / f"{name}.log"
        seen = log.stat().st_size if log.exists() else 0
        self.processes[name] = self._run("batchworker", f"--name={name}", log=log)
        limit = time.monotonic() + 20
        while b"Worker" not in log.read_bytes()[seen:]:
            assert time.monotonic() < limit, log.read_text()
            time.sleep(0.05)

    def signal(self, name: str, number: signal.Signals) -> None:
        self.processes[name].send_signal(number)

    def query(self, sql: str) -> list[tuple]:
        with psycopg.connect(self._environment["DATABASE_URL"]) as connection:
            return connection.execute(sql).fetchall()

    def _run(self, *arguments: str, log: Path | None = None) -> subprocess.Popen[bytes]:
        with open(log or self._folder / f"{arguments[0]}.log", "ab") as output:
            return subprocess.Popen(
                [sys.executable, "manage.py", *arguments],
                cwd=ROOT,
                env=self._environment | {"PYTHONUNBUFFERED": "1"},
                stdout=output,
                stderr=output,
            )

    def _wait_until_up(self, url: str) -> None:
        limit = time.monotonic() + 20
        while True:
            try:
                urllib.request.urlopen(f"{url}/health", timeout=2).read()
                return
            except OSError:
                assert time.monotonic() < limit, "a web process did not start"
                time.sleep(0.05)
