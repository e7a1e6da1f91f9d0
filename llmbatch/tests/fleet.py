"""A real fleet: web and worker processes over a Postgres database and a Redis of their own."""

import asyncio
import os
import signal
import subprocess
import sys
import time
import urllib.request
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
import psycopg
import pytest
import redis

from llmbatch.tests.migrated import POSTGRES, create_postgres, drop_postgres
from llmbatch.tests.model_server import ModelServer
from llmbatch.tests.server import free_port

WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
"""each has a Redis database of its own, which its tests may empty"""
REDIS = os.environ.get("TEST_REDIS_URL", f"redis://127.0.0.1:6379/{5 + WORKER % 10}")
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


def fleet_marks() -> list[pytest.MarkDecorator]:
    """Skips where Postgres or Redis is missing; CI demands them."""
    missing = explain_missing()
    if missing and os.environ.get("CI"):
        raise RuntimeError(f"CI demands the tests of the fleet: {missing}")
    return [
        pytest.mark.server,
        pytest.mark.timeout(120),
        pytest.mark.skipif(bool(missing), reason=missing),
    ]


class Fleet:
    """`with Fleet(model_url, folder) as fleet`: two web processes, then `start_worker(name)`.

    Without a `database_url` it makes a database and drops it in the end.
    """

    def __init__(
        self,
        model_url: str,
        folder: Path,
        *,
        database_url: str = "",
        redis_url: str = REDIS,
        **variables: str,
    ) -> None:
        self._database_url = database_url
        self._folder = folder
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.urls: list[str] = []
        self.redis = redis.Redis.from_url(redis_url)
        self._environment = os.environ | {
            "REDIS_URL": redis_url,
            "LOG_DIR": str(folder / "logs"),
            "DJANGO_DEBUG": "false",
            "DJANGO_SECRET_KEY": "a-secret-for-tests-alone-0123456789-abcdefghij",
            "API_ACCESS": "open",
            "GEMINI_API_KEY": "test-key-0123456789",
            "GEMINI_BASE_URL": model_url,
            "DRAIN_S": "5",
            "LEASE_S": "3",
            "PYTHONDONTWRITEBYTECODE": "",
            **variables,
        }

    def __enter__(self) -> "Fleet":
        self._environment["DATABASE_URL"] = self._database_url or create_postgres()
        if self._database_url:
            self._run("migrate", "-v0").wait()
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
        if not self._database_url:
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

    @property
    def database_url(self) -> str:
        return self._environment["DATABASE_URL"]

    def query(self, sql: str) -> list[tuple]:
        with psycopg.connect(self._environment["DATABASE_URL"]) as connection:
            return connection.execute(sql).fetchall()

    def manage(self, *arguments: str) -> str:
        command = [sys.executable, "manage.py", *arguments]
        run = partial(subprocess.run, command, cwd=ROOT, env=self._environment, check=True)
        return run(stdout=subprocess.PIPE, text=True).stdout

    async def until(self, sql: str, expected: list[tuple], *, seconds: float = 10) -> None:
        """Waits for what is written after the client has its answer."""
        limit = time.monotonic() + seconds
        while (found := self.query(sql)) != expected:
            assert time.monotonic() < limit, found
            await asyncio.sleep(0.05)

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


class Clients:
    """Spreads requests over the web processes."""

    def __init__(self, fleet: Fleet, server: ModelServer) -> None:
        self.fleet = fleet
        self.server = server
        limits = httpx2.Limits(max_connections=500)
        self._http = httpx2.AsyncClient(timeout=60, limits=limits)
        self._turn = 0

    async def ask(
        self, prompt: str, *, web: int | None = None, key: str = "", **fields: Any
    ) -> httpx2.Response:
        self._turn += 1
        url = self.fleet.urls[(self._turn if web is None else web) % len(self.fleet.urls)]
        body = {"username": "ann", "prompt": prompt, "priority": "HIGH"} | fields
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        return await self._http.post(f"{url}/v1/query", json=body, headers=headers)

    async def get(self, path: str, *, web: int = 0, **more: Any) -> httpx2.Response:
        return await self._http.get(f"{self.fleet.urls[web]}{path}", **more)

    async def patch(self, path: str, document: dict[str, Any]) -> httpx2.Response:
        return await self._http.patch(f"{self.fleet.urls[0]}{path}", json=document)

    async def ready(self, *, web: int = 0) -> httpx2.Response:
        return await self.get("/health/ready", web=web)

    async def __aenter__(self) -> "Clients":
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._http.aclose()


async def start_workers(clients: Clients, *names: str) -> None:
    await asyncio.gather(*(asyncio.to_thread(clients.fleet.start_worker, n) for n in names))
