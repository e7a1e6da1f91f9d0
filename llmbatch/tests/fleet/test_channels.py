"""Gateways that share a Redis server use different channels."""

import os
import subprocess
import sys
from functools import cache

import pytest

from llmbatch.tests.fixtures.fleet import name_redis
from llmbatch.tests.fixtures.server import ROOT

SHOW = "from django.conf import settings; print(settings.BATCHING_CHANNEL)"


@cache
def name_channel(database: str, redis: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", SHOW],
        cwd=ROOT,
        env=os.environ
        | {
            "DJANGO_SETTINGS_MODULE": "llmbatch.settings",
            "DJANGO_SECRET_KEY": "x" * 50,
            "DATABASE_URL": database,
            "REDIS_URL": redis,
        },
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout.strip()


ONE = ("postgres://a:b@one/gateway", "redis://here:6379/0")


@pytest.mark.parametrize(
    "other",
    [("postgres://a:b@one/second", ONE[1]), (ONE[0], "redis://here:6379/1")],
    ids=["another database", "another Redis database"],
)
def test_another_gateway_has_another_channel(other: tuple[str, str]) -> None:
    assert name_channel(*ONE) != name_channel(*other)


def test_processes_of_one_gateway_have_the_same_channel_under_any_host_name() -> None:
    assert name_channel(*ONE) == name_channel(
        "postgres://c@127.0.0.1/gateway", "rediss://:secret@127.0.0.1/0"
    )
    assert name_channel(ONE[0], "") == "batching"


@pytest.mark.parametrize(
    ("url", "worker", "named"),
    [
        ("redis://127.0.0.1:6379/5", 0, "redis://127.0.0.1:6379/5"),
        ("redis://:secret@cache:6402/5", 3, "redis://:secret@cache:6402/8"),
        ("redis://cache:6402", 1, "redis://cache:6402/1"),
        ("redis://cache:6402/15", 1, "redis://cache:6402/0"),
    ],
)
def test_each_worker_of_a_test_run_has_its_own_redis_database(
    url: str, worker: int, named: str
) -> None:
    assert name_redis(url, worker=worker) == named
