"""Real processes: one server, or a fleet."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser

from batching.llm.simulated_wire import Pace
from llmbatch.tests.browser import launch
from llmbatch.tests.fleet import Clients, Fleet
from llmbatch.tests.model_server import ModelServer
from llmbatch.tests.server import Server


@pytest.fixture
async def model() -> AsyncIterator[ModelServer]:
    async with ModelServer(pace=Pace(0.0, 0.0, total_s=0.3)) as server:
        yield server


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser() -> AsyncIterator[Browser]:
    """For tests that run in the session's loop, too."""
    async with launch() as browser:
        yield browser


@pytest.fixture
def server(model: ModelServer, tmp_path: Path) -> Iterator[Server]:
    with Server(tmp_path, GEMINI_BASE_URL=model.url) as server:
        yield server


@pytest.fixture
async def clients(tmp_path: Path) -> AsyncIterator[Clients]:
    async with ModelServer(pace=Pace(0.05, 0.0)) as server:
        with Fleet(server.url, tmp_path) as fleet:
            async with Clients(fleet, server) as clients:
                yield clients
