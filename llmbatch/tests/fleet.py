"""A real fleet: web and worker processes over a Postgres database and a Redis of their own."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Collection
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import psycopg
import pytest
import redis

from llmbatch.tests.migrated import POSTGRES, create_postgres, drop_postgres
from llmbatch.tests.model_thread import ModelThread
from llmbatch.tests.server import PATIENCE_S, PATIENT, free_port

WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
REDIS_DATABASES = 16


def name_redis(url: str, *, worker: int) -> str:
    """Each worker has a database of its own, which its tests may empty: from the URL's on."""
    first = int(urlsplit(url).path.strip("/") or 0)
    database = (first + worker) % REDIS_DATABASES
    return urlsplit(url)._replace(path=f"/{database}").geturl()


REDIS = name_redis(os.environ.get("TEST_REDIS_URL", "redis://127.0.0.1:6379/5"), worker=WORKER)
ROOT = Path(__file__).resolve().parents[2]
LEASE_S = 120
"""no worker of a busy machine loses its leases; `expire_leases` is for those that are dead"""
OPEN = """SELECT (SELECT count(*) FROM chats_chat WHERE status IN ('queued', 'running'))
    + (SELECT count(*) FROM batching_batch WHERE outcome = 'running')
    + (SELECT count(*) FROM batching_modelcall WHERE status = 'started')"""


def explain_missing() -> str:
    """Which service is not there; "" if both are."""
    try:
        psycopg.connect(POSTGRES, connect_timeout=10).close()
    except psycopg.Error:
        return f"no Postgres at {POSTGRES} (TEST_POSTGRES_URL)"
    try:
        redis.Redis.from_url(REDIS, socket_connect_timeout=10).ping()
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
        pytest.mark.skipif(bool(missing), reason=missing),
    ]


class Fleet:
    """`with Fleet(model_url, folder) as fleet`: two web processes, then `start_worker(name)`.

    Without a `database_url` it makes a database and drops it in the end. `prepare` is SQL that
    changes the lanes before any process starts.
    """

    def __init__(
        self,
        model_url: str,
        folder: Path,
        *,
        database_url: str = "",
        redis_url: str = REDIS,
        prepare: str = PATIENT,
        **variables: str,
    ) -> None:
        self._database_url = database_url
        self._folder = folder
        self._prepare = prepare
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
            "DRAIN_S": "60",
            "LEASE_S": str(LEASE_S),
            "PYTHONDONTWRITEBYTECODE": "",
            **variables,
        }

    def __enter__(self) -> "Fleet":
        self._environment["DATABASE_URL"] = self._database_url or create_postgres()
        try:
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _start(self) -> None:
        if self._database_url:
            command = [sys.executable, "manage.py", "migrate", "-v0"]
            subprocess.run(command, cwd=ROOT, env=self._environment, check=True)
        self.execute(self._prepare)
        self.urls = [f"http://127.0.0.1:{free_port()}" for _ in range(2)]
        self.start_doors()

    def __exit__(self, *error: object) -> None:
        for process in self.processes.values():
            process.kill()
            process.wait()
        self.redis.close()
        if not self._database_url:
            drop_postgres(self._environment["DATABASE_URL"])

    def start_doors(self) -> None:
        """Those that do not run."""
        for url in self.urls:
            name = self.name_door(url)
            if not self._is_running(name):
                self.processes[name] = self._run("serve", "--no-consumer", f"--port={name[3:]}")
        for url in self.urls:
            self._wait_until_up(url)

    def name_door(self, url: str) -> str:
        return f"web{urlsplit(url).port}"

    def start_worker(self, name: str) -> None:
        """Does nothing if it runs."""
        if self._is_running(name):
            return
        log = self._folder / f"{name}.log"
        seen = log.stat().st_size if log.exists() else 0
        process = self.processes[name] = self._run("batchworker", f"--name={name}", log=log)
        limit = time.monotonic() + PATIENCE_S
        while b"Worker" not in log.read_bytes()[seen:]:
            if process.poll() is not None or time.monotonic() > limit:
                raise RuntimeError(f"The worker did not start.\n{log.read_text()}")
            time.sleep(0.05)

    def stop_workers(self, *, but: Collection[str] = ()) -> None:
        doors = {self.name_door(url) for url in self.urls}
        ending = set(self.processes) - doors - set(but)
        for name in ending:
            self.signal(name, signal.SIGCONT)
            self.signal(name, signal.SIGTERM)
        for name in ending:
            self.processes.pop(name).wait(PATIENCE_S)

    def _is_running(self, name: str) -> bool:
        return name in self.processes and self.processes[name].poll() is None

    def clear(self) -> None:
        """For the next test: both doors run, nothing waits or runs, and no chat is stored."""
        limit = time.monotonic() + PATIENCE_S
        while self.query(OPEN) != [(0,)]:
            if time.monotonic() > limit:  # a test that failed left requests behind
                for name in self.processes:
                    self.kill(name)
                break
            time.sleep(0.05)
        self.start_doors()
        self.execute(
            "DELETE FROM batching_modelcall; DELETE FROM chats_chat; DELETE FROM batching_batch;"
            " DELETE FROM batching_worker"  # those that live report again within a second
        )

    def kill(self, name: str) -> None:
        self.signal(name, signal.SIGKILL)
        self.processes[name].wait()

    def expire_leases(self) -> None:
        """As time would do: what a dead worker holds is taken over by the next that looks."""
        self.execute(
            "UPDATE chats_chat SET lease_until = now() - interval '1 s' WHERE status = 'running'"
        )

    def signal(self, name: str, number: signal.Signals) -> None:
        self.processes[name].send_signal(number)

    @property
    def database_url(self) -> str:
        return self._environment["DATABASE_URL"]

    def query(self, sql: str) -> list[tuple]:
        with psycopg.connect(self._environment["DATABASE_URL"]) as connection:
            return connection.execute(sql).fetchall()

    def execute(self, sql: str) -> None:
        with psycopg.connect(self._environment["DATABASE_URL"]) as connection:
            connection.execute(sql)

    def manage(self, *arguments: str) -> str:
        command = [sys.executable, "manage.py", *arguments]
        run = partial(subprocess.run, command, cwd=ROOT, env=self._environment, check=True)
        return run(stdout=subprocess.PIPE, text=True).stdout

    async def until(self, sql: str, expected: list[tuple], *, seconds: float = PATIENCE_S) -> None:
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
        limit = time.monotonic() + PATIENCE_S
        while True:
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"{url}/health", timeout=PATIENCE_S).read()
                return
            if not self._is_running(self.name_door(url)) or time.monotonic() > limit:
                raise RuntimeError("A web process did not start.")
            time.sleep(0.05)


class Clients:
    """Spreads requests over the web processes."""

    def __init__(self, fleet: Fleet, server: ModelThread) -> None:
        self.fleet = fleet
        self.server = server
        limits = httpx2.Limits(max_connections=500)
        self._http = httpx2.AsyncClient(timeout=300, limits=limits)
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


async def set_workers(clients: Clients, *names: str) -> None:
    """These workers run and no other: those that an earlier test left running stay or end."""
    await asyncio.to_thread(clients.fleet.stop_workers, but=names)
    await start_workers(clients, *names)


async def start_workers(clients: Clients, *names: str) -> None:
    """These run beside those that run already."""
    await asyncio.gather(*(asyncio.to_thread(clients.fleet.start_worker, n) for n in names))
