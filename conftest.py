"""Fixtures of all apps: the default rows, and a gateway with a model server."""

from collections.abc import AsyncIterator, Iterator
from importlib import import_module
from typing import Any

import pytest
from django.apps import apps
from django.db import connection
from django.test.utils import override_settings
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings

from batching.llm.simulated.faults import Script
from batching.llm.simulated.wire import Pace
from batching.process.runtime import Runtime, use_runtime
from batching.tests.harness import Harness
from llmbatch.tests.fixtures.model_server import ModelServer
from settings_app.models import Lane
from settings_app.snapshot import forget_snapshot

# The time of an example depends on the load of the machine, not on the code.
hypothesis_settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
hypothesis_settings.load_profile("any machine")

create_default_rows = import_module("settings_app.migrations.0001_squashed").create_rows
# The groups of tests that share a server or fleet. Other tests of servers are grouped by file.
GROUPS = {"_shared_server": "server", "_shared_guarded_server": "server", "gateway": "pages"}
GROUPS |= {"_shared_daphne": "server", "_shared_fleet": "fleet"}
# This file is so long that it has a fleet of its own.
LONG_FILES = ("test_fleet.py",)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Groups the tests of servers; the tests of a group run one after another.

    The groups take long, so they come first: the other tests then fill what time is left.
    """
    of_servers = [item for item in items if item.get_closest_marker("server")]
    for item in of_servers:
        item.add_marker(pytest.mark.xdist_group(_find_group(item)))
    others = [item for item in items if not item.get_closest_marker("server")]
    items[:] = of_servers + others


def _find_group(item: pytest.Item) -> str:
    if item.path.name not in LONG_FILES:
        for fixture, group in GROUPS.items():
            if fixture in item.fixturenames:
                return group
    return item.path.stem


@pytest.fixture(scope="session")
def django_db_modify_db_settings(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Gives each test worker a SQLite file of its own, outside `data/`.

    A file, because threads that share an in-memory database lock each other's tables.
    """
    if connection.vendor == "sqlite":
        path = tmp_path_factory.mktemp("database") / "test.sqlite3"
        connection.settings_dict["TEST"]["NAME"] = str(path)


@pytest.fixture(scope="session", autouse=True)
def _quick_passwords() -> Iterator[None]:
    """Hashes passwords fast: Django's default takes a quarter of a second for each account."""
    with override_settings(PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"]):
        yield


@pytest.fixture(autouse=True)
def _default_rows(request: pytest.FixtureRequest) -> Iterator[None]:
    """Creates the lanes again: a test that commits transactions ends by emptying every table."""
    if {"db", "transactional_db"} & set(request.fixturenames) or request.node.get_closest_marker(
        "django_db"
    ):
        marker = request.node.get_closest_marker("django_db")
        transaction = marker and marker.kwargs.get("transaction")
        request.getfixturevalue("transactional_db" if transaction else "db")
        create_default_rows(apps, None)
    forget_snapshot()
    yield
    forget_snapshot()


@pytest.fixture
def lanes() -> dict[str, Any]:
    """The changed columns of the lanes. Tests override it."""
    return {}


@pytest.fixture
def script() -> Script | None:
    """The script of the model server. Tests override it."""
    return None


@pytest.fixture
async def harness(
    transactional_db: None, settings: Any, script: Script | None, lanes: dict[str, Any]
) -> AsyncIterator[Harness]:
    if lanes:
        await Lane.objects.aupdate(**lanes)
    settings.API_ACCESS = "open"
    settings.GEMINI_API_KEY = "test-key-0123456789"
    async with ModelServer(script, pace=Pace(first_token_s=0.0, token_s=0.0)) as server:
        settings.GEMINI_BASE_URL = server.url
        runtime = Runtime()
        await runtime.start()
        use_runtime(runtime)
        try:
            yield Harness(runtime, server)
        finally:
            await runtime.stop()
            use_runtime(None)
