"""Starts the processes of a measurement, each with its own temporary folder."""

import json
import os
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parent.parent
MANAGE = [sys.executable, "manage.py"]
# The folder whose gateway is measured. `bench against` sets it to another revision's.
GATEWAY_ROOT = [ROOT]
WORKERS = ("one", "two")
POSTGRES = os.environ.get("TEST_POSTGRES_URL", "postgres://postgres@127.0.0.1:5432/postgres")
REDIS = os.environ.get("TEST_REDIS_URL", "redis://127.0.0.1:6379/5")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def running(command: list[str], **options: Any) -> Iterator[subprocess.Popen]:
    folder = GATEWAY_ROOT[0] if command[: len(MANAGE)] == MANAGE else ROOT
    process = subprocess.Popen(command, cwd=folder, **options)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_until_up(url: str, *, seconds: float = 30) -> None:
    limit = time.monotonic() + seconds
    while True:
        try:
            urllib.request.urlopen(url, timeout=2).read()
            return
        except OSError:
            if time.monotonic() > limit:
                raise
            time.sleep(0.1)


class ServerProcess:
    def __init__(self, process: subprocess.Popen, url: str) -> None:
        self.url = url
        self.process = psutil.Process(process.pid)

    def cpu_s(self) -> float:
        times = self.process.cpu_times()
        return times.user + times.system


@contextmanager
def hello_server() -> Iterator[ServerProcess]:
    port = free_port()
    with running([sys.executable, "-m", "bench.hello", str(port)]) as process:
        url = f"http://127.0.0.1:{port}"
        wait_until_up(url)
        yield ServerProcess(process, url)


@contextmanager
def model_service(seconds: float, style: str = "whole") -> Iterator[str]:
    command = [sys.executable, "-m", "bench.model", str(seconds), style]
    with running(command, stdout=subprocess.PIPE, text=True) as process:
        yield process.stdout.readline().strip()


@contextmanager
def faulty_model_service(seconds: float) -> Iterator[str]:
    """Markers in prompts select faults, as in the tests."""
    command = [
        sys.executable,
        "-m",
        "llmbatch.tests.fixtures.model_server",
        "--model-time",
        str(seconds),
    ]
    with running(command, stdout=subprocess.PIPE, text=True) as process:
        yield process.stdout.readline().strip()


class GatewayProcess(ServerProcess):
    def __init__(self, process: subprocess.Popen, url: str, database: Path) -> None:
        super().__init__(process, url)
        self.urls = [url]
        self.database = database

    def change_settings(self, changes: dict) -> None:
        request = urllib.request.Request(
            f"{self.url}/v1/settings",
            data=json.dumps(changes).encode(),
            headers={"content-type": "application/json"},
            method="PATCH",
        )
        urllib.request.urlopen(request, timeout=10).read()

    def query(self, sql: str) -> list[tuple]:
        with sqlite3.connect(self.database) as connection:
            return connection.execute(sql).fetchall()


@contextmanager
def gateway(model_url: str, **environment: str) -> Iterator[GatewayProcess]:
    """`./gateway serve` with a database, logs and settings of its own."""
    with tempfile.TemporaryDirectory() as folder:
        database, port = Path(folder) / "bench.sqlite3", free_port()
        variables = {"DATABASE_URL": f"sqlite:///{database}", **environment}
        variables = _make_environment(folder, model_url, variables)
        migrate(variables)
        command = [*MANAGE, "serve", "--port", str(port)]
        with (
            open(f"{folder}/server.log", "w") as log,
            running(command, env=variables, stdout=log, stderr=log) as process,
        ):
            url = f"http://127.0.0.1:{port}"
            wait_until_up(f"{url}/health/ready")
            yield GatewayProcess(process, url, database)


def _make_environment(folder: str, model_url: str, changes: dict[str, str]) -> dict[str, str]:
    return os.environ | {
        "LOG_DIR": f"{folder}/logs",
        "DJANGO_DEBUG": "false",
        "API_ACCESS": "open",
        "GEMINI_API_KEY": "bench-key-0123456789",
        "GEMINI_BASE_URL": model_url,
        "MODEL_CALL_SLOTS": "500",
        **changes,
    }


def migrate(variables: dict[str, str]) -> None:
    subprocess.run([*MANAGE, "migrate", "-v0"], cwd=GATEWAY_ROOT[0], env=variables, check=True)


def find_missing_service() -> str:
    """Names the service that does not answer; "" if both answer."""
    import psycopg
    import redis

    try:
        psycopg.connect(POSTGRES, connect_timeout=2).close()
    except psycopg.Error:
        return f"no Postgres answers at {POSTGRES} (TEST_POSTGRES_URL)"
    try:
        redis.Redis.from_url(REDIS, socket_connect_timeout=2).ping()
    except redis.RedisError:
        return f"no Redis answers at {REDIS} (TEST_REDIS_URL)"
    return ""


@contextmanager
def postgres_database(server: str) -> Iterator[str]:
    """Creates a database on the server of the URL `server`, and yields its URL."""
    import psycopg

    name = f"bench_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"')
        try:
            yield f"{server.rpartition('/')[0]}/{name}"
        finally:
            connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


class FleetProcesses:
    """Web processes, at `urls`, and workers, by name. They end with the `stack`."""

    def __init__(self, folder: str, variables: dict[str, str], stack: ExitStack) -> None:
        self.urls: list[str] = []
        self._folder, self._variables, self._stack = folder, variables, stack
        self._processes: dict[str, subprocess.Popen] = {}

    def start_web_process(self) -> None:
        port = free_port()
        self._start(f"web {port}", "serve", "--no-consumer", "--port", str(port))
        self.urls.append(f"http://127.0.0.1:{port}")
        wait_until_up(f"{self.urls[-1]}/health")

    def start_worker(self, name: str) -> None:
        """Starts a worker, and returns when it runs batches."""
        log = self._start(name, "batchworker", "--name", name)
        limit = time.monotonic() + 30
        while b"Worker" not in log.read_bytes():
            if time.monotonic() > limit:
                raise TimeoutError(log.read_text())
            time.sleep(0.02)

    def kill(self, name: str) -> float:
        """Kills the process as `kill -9` does. Returns the time on the monotonic clock."""
        self._processes[name].kill()
        self._processes[name].wait()
        return time.monotonic()

    def query(self, sql: str) -> list[tuple]:
        import psycopg

        with psycopg.connect(self._variables["DATABASE_URL"]) as connection:
            return connection.execute(sql).fetchall()

    def cpu_s(self) -> float:
        return sum(
            ServerProcess(process, "").cpu_s()
            for process in self._processes.values()
            if process.poll() is None
        )

    def _start(self, name: str, *arguments: str) -> Path:
        """Starts a process, and returns the file that it writes to."""
        path = Path(self._folder) / f"{uuid.uuid4().hex}.log"
        with open(path, "w") as log:
            options = {"env": self._variables, "stdout": log, "stderr": log}
            process = running([*MANAGE, *arguments], **options)
            self._processes[name] = self._stack.enter_context(process)
        return path


@contextmanager
def fleet(
    model_url: str,
    *,
    web_processes: int,
    workers: int,
    **environment: str,
) -> Iterator[FleetProcesses]:
    """Starts a fleet with its own database; the workers are named as in `WORKERS`."""
    with (
        tempfile.TemporaryDirectory() as folder,
        postgres_database(POSTGRES) as database,
        ExitStack() as stack,
    ):
        variables = {"DATABASE_URL": database, "REDIS_URL": REDIS, "PYTHONUNBUFFERED": "1"}
        variables |= {"DRAIN_S": "1", **environment}
        variables = _make_environment(folder, model_url, variables)
        migrate(variables)
        processes = FleetProcesses(folder, variables, stack)
        for name in WORKERS[:workers]:
            processes.start_worker(name)
        for _ in range(web_processes):
            processes.start_web_process()
        for url in processes.urls:
            wait_until_up(f"{url}/health/ready")
        yield processes


def run_load(url: str, kind: str, *, body: dict | None = None, **options: Any) -> dict:
    """Runs the load generator in a process of its own; `@` in the body is the request's number."""
    fields = {"username": "bench", "prompt": "question @", "priority": "HIGH"}
    job = {
        "url": url,
        "path": "/v1/query",
        "bodies": json.dumps(fields if body is None else body),
        "kind": kind,
        "options": options,
    }
    done = subprocess.run(
        [sys.executable, "-m", "bench.load"],
        cwd=ROOT,
        input=json.dumps(job),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    result = json.loads(done.stdout)
    for name in ("latencies", "statuses"):
        result[name] = {int(number): value for number, value in result[name].items()}
    return result
