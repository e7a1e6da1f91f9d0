"""Starts the processes that a measurement needs, each in a folder of its own that goes away."""

import json
import os
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parent.parent


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def running(command: list[str], **options: Any) -> Iterator[subprocess.Popen]:
    process = subprocess.Popen(command, cwd=ROOT, **options)
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
def model_service(seconds: float, *, streamed: bool = False) -> Iterator[str]:
    command = [sys.executable, "-m", "bench.model", str(seconds), *(["streamed"] * streamed)]
    with running(command, stdout=subprocess.PIPE, text=True) as process:
        yield process.stdout.readline().strip()


class GatewayProcess(ServerProcess):
    def __init__(self, process: subprocess.Popen, url: str, database: Path) -> None:
        super().__init__(process, url)
        self._database = database

    def change_settings(self, changes: dict) -> None:
        request = urllib.request.Request(
            f"{self.url}/v1/settings",
            data=json.dumps(changes).encode(),
            headers={"content-type": "application/json"},
            method="PATCH",
        )
        urllib.request.urlopen(request, timeout=10).read()

    def query(self, sql: str) -> list[tuple]:
        with sqlite3.connect(self._database) as connection:
            return connection.execute(sql).fetchall()


@contextmanager
def gateway(model_url: str, **environment: str) -> Iterator[GatewayProcess]:
    """`manage.py serve` with a database, logs and settings of its own."""
    with tempfile.TemporaryDirectory() as folder:
        database, port = Path(folder) / "bench.sqlite3", free_port()
        variables = os.environ | {
            "DATABASE_URL": f"sqlite:///{database}",
            "LOG_DIR": f"{folder}/logs",
            "DJANGO_DEBUG": "false",
            "API_ACCESS": "open",
            "GEMINI_API_KEY": "bench-key-0123456789",
            "GEMINI_BASE_URL": model_url,
            "MODEL_CALL_SLOTS": "500",
            **environment,
        }
        manage = [sys.executable, "manage.py"]
        subprocess.run([*manage, "migrate", "-v0"], cwd=ROOT, env=variables, check=True)
        command = [*manage, "serve", "--port", str(port)]
        with (
            open(f"{folder}/server.log", "w") as log,
            running(command, env=variables, stdout=log, stderr=log) as process,
        ):
            url = f"http://127.0.0.1:{port}"
            wait_until_up(f"{url}/health/ready")
            yield GatewayProcess(process, url, database)


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
