"""What tests of every app share: the default rows, and a gateway with a model server behind it."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from importlib import import_module
from typing import Any

import httpx2
import pytest
from django.apps import apps
from django.test.utils import override_settings
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings

from batching.llm.simulated.faults import Script
from batching.llm.simulated.wire import Pace
from batching.process.runtime import Runtime, use_runtime
from chats.models import OPEN_STATUSES, Chat
from llmbatch.asgi import application
from llmbatch.tests.fixtures.model_server import ModelServer
from settings_app.models import Lane, Priority
from settings_app.snapshot import forget_snapshot, refresh_snapshot

LIMIT_S = 30.0
"""only a hang takes longer, however slow the machine is"""

# A busy machine takes long for an example; that says nothing about the code.
hypothesis_settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
hypothesis_settings.load_profile("any machine")

create_default_rows = import_module("settings_app.migrations.0002_defaults").create_rows


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests of servers run one after another in each of four groups, beside the others."""
    for item in items:
        if item.get_closest_marker("server"):
            item.add_marker(pytest.mark.xdist_group(_find_group(item)))


def _find_group(item: pytest.Item) -> str:
    if item.path.name == "test_fleet.py":
        return "fleet"
    if "clients" in item.fixturenames or "fleet" in item.path.name:
        return "services"
    pages = ("browser", "live_page")
    return "pages" if any(name in item.path.name for name in pages) else "server"


@pytest.fixture(scope="session", autouse=True)
def _quick_passwords() -> Iterator[None]:
    """A quarter of a second for each account would be a tenth of the whole run."""
    with override_settings(PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"]):
        yield


@pytest.fixture(autouse=True)
def _default_rows(request: pytest.FixtureRequest) -> Iterator[None]:
    """A test with transactions of its own ends by emptying every table, also the lanes."""
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


async def wait_until(true: Callable[[], Any], *, seconds: float = LIMIT_S) -> None:
    async with asyncio.timeout(seconds):
        while not true():  # noqa: ASYNC110 - there is no event to wait for
            await asyncio.sleep(0.005)


class Harness:
    """A running gateway in this event loop, spoken to over HTTP, before a model server."""

    def __init__(self, runtime: Runtime, server: ModelServer) -> None:
        self.runtime = runtime
        self.server = server
        self.client = httpx2.AsyncClient(
            transport=httpx2.ASGITransport(app=application),
            base_url="http://localhost",
            timeout=120,
        )

    async def ask(self, prompt: str = "Why?", **fields: Any) -> httpx2.Response:
        body = {"username": "ann", "prompt": prompt, "priority": "HIGH"} | fields
        return await self.client.post("/v1/query", json=body)

    async def ask_all(self, prompts: list[str], **fields: Any) -> list[httpx2.Response]:
        """No batch leaves before all of them wait, so their batches do not depend on time."""
        self.hold()
        tasks = [asyncio.create_task(self.ask(prompt, **fields)) for prompt in prompts]
        dispatcher = self.runtime.consumer.dispatcher
        await wait_until(
            lambda: len(dispatcher.planner) + sum(t.done() for t in tasks) >= len(tasks)
        )
        await self.release()
        return await asyncio.gather(*tasks)

    def hold(self) -> None:
        """Until `release` no batch leaves, and none expires in the queue."""
        self.runtime.consumer.dispatcher.close()

    async def release(self, waiting: int = 0) -> None:
        """What is held leaves by its rules once so many requests wait."""
        dispatcher = self.runtime.consumer.dispatcher
        await wait_until(lambda: len(dispatcher.planner) >= waiting)
        dispatcher._closed = False
        dispatcher.wake()

    async def change_lane(self, priority: Priority, **fields: Any) -> None:
        """Applies to the next request, and at once to those that wait."""
        await Lane.objects.filter(priority=priority).aupdate(**fields)
        await asyncio.to_thread(refresh_snapshot)
        await self.runtime.consumer._apply_settings()

    async def settle(self) -> None:
        """Returns when no request is open any more and everything is written down."""
        consumer = self.runtime.consumer
        open_chats = Chat.objects.filter(status__in=OPEN_STATUSES)
        while consumer.running_batches or await open_chats.aexists():  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        await consumer.journal.flush()


@pytest.fixture
def lanes() -> dict[str, Any]:
    """Overridden by tests whose lanes differ from the defaults."""
    return {}


@pytest.fixture
def script() -> Script | None:
    """Overridden by tests whose model server follows a script."""
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
