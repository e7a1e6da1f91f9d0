"""A Postgres and a Redis of the test's own, which it may stop and start again."""

import os
import pwd
import shutil
import subprocess
import tempfile
import time
from glob import glob
from pathlib import Path

import psycopg
import redis

from llmbatch.tests.server import PATIENCE_S, free_port

POSTGRES_PROGRAMS = sorted(glob("/usr/lib/postgresql/*/bin/pg_ctl"))


def explain_missing_programs() -> str:
    if not POSTGRES_PROGRAMS and not shutil.which("pg_ctl"):
        return "no pg_ctl to start a Postgres of the test's own with"
    if os.getuid() == 0 and not _has_user("postgres"):
        return "Postgres does not run as root, and there is no user postgres"
    return "" if shutil.which("redis-server") else "no redis-server to start"


class OwnPostgres:
    """Starts empty; `url` names its database. Refuses root, so it runs as user postgres there."""

    def __enter__(self) -> "OwnPostgres":
        self._bin = Path((POSTGRES_PROGRAMS or [shutil.which("pg_ctl")])[-1]).parent
        self._folder = Path(tempfile.mkdtemp(prefix="postgres-"))
        self._port = free_port()
        self.url = f"postgres://postgres@127.0.0.1:{self._port}/postgres"
        if os.getuid() == 0:
            shutil.chown(self._folder, "postgres")
        try:
            self._run("initdb", "--auth=trust", "--username=postgres", "--no-sync")
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        try:
            if (self._folder / "data/postmaster.pid").exists():
                self.stop()
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)

    def start(self) -> None:
        options = f"-p {self._port} -k {self._folder} -c listen_addresses=127.0.0.1 -c fsync=off"
        self._run(
            "pg_ctl", "start", "--wait", "--silent", f"--log={self._folder}/log", "-o", options
        )

    def stop(self) -> None:
        """As a crash does: every connection breaks."""
        self._run("pg_ctl", "stop", "--wait", "--silent", "--mode=immediate")

    def query(self, sql: str) -> list[tuple]:
        with psycopg.connect(self.url) as connection:
            return connection.execute(sql).fetchall()

    def _run(self, program: str, *arguments: str) -> None:
        command = [str(self._bin / program), f"--pgdata={self._folder}/data", *arguments]
        if os.getuid() == 0:
            command = ["runuser", "-u", "postgres", "--", *command]
        subprocess.run(command, cwd=self._folder, check=True, stdout=subprocess.DEVNULL)


class OwnRedis:
    """Keeps nothing over a restart."""

    def __enter__(self) -> "OwnRedis":
        self._port = free_port()
        self.url = f"redis://127.0.0.1:{self._port}/0"
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def start(self) -> None:
        self._process = subprocess.Popen(
            ["redis-server", "--port", str(self._port), "--bind", "127.0.0.1", "--save", ""],
            stdout=subprocess.DEVNULL,
        )
        limit = time.monotonic() + PATIENCE_S
        while True:
            try:
                with redis.Redis.from_url(self.url) as client:
                    client.ping()
                return
            except redis.RedisError:
                if time.monotonic() > limit:
                    self.stop()
                    raise RuntimeError("redis-server did not start") from None
                time.sleep(0.02)

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()


def _has_user(name: str) -> bool:
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True
