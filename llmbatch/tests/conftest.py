"""Real processes: one server, or a fleet. Those that tests leave as they were are shared."""

import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser

from batching.llm.simulated.wire import Pace
from llmbatch.tests.fixtures.browser import launch
from llmbatch.tests.fixtures.fleet import Clients, Fleet
from llmbatch.tests.fixtures.model_server import run_model_server
from llmbatch.tests.fixtures.model_thread import ModelThread, run_model_thread
from llmbatch.tests.fixtures.server import LONG_WINDOWS, Server

HANG_S = 600
"""no test takes as long, however slow the machine is"""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.timeout(HANG_S))


@pytest.fixture(scope="session")
def _model_of_servers() -> Iterator[ModelThread]:
    with run_model_thread(Pace(0.0, 0.0, total_s=0.3)) as model:
        yield model


@pytest.fixture
def model(_model_of_servers: ModelThread) -> ModelThread:
    _model_of_servers.begin()
    return _model_of_servers


@pytest.fixture(scope="session")
def _shared_server(
    _model_of_servers: ModelThread, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    with Server(folder, prepare=LONG_WINDOWS, GEMINI_BASE_URL=_model_of_servers.url) as server:
        yield server


@pytest.fixture
def server(model: ModelThread, _shared_server: Server) -> Server:
    """Shared: a test leaves its settings as they were, and has usernames of its own."""
    return _shared_server.begin()


@pytest.fixture
def own_server(model: ModelThread, tmp_path: Path) -> Iterator[Server]:
    """For a test that ends it."""
    with Server(tmp_path, GEMINI_BASE_URL=model.url, DRAIN_S="60") as server:
        yield server


@pytest.fixture(scope="session")
def _shared_guarded_server(
    _model_of_servers: ModelThread, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("guarded")
    with Server(folder, GEMINI_BASE_URL=_model_of_servers.url, API_ACCESS="key") as server:
        yield server


@pytest.fixture
def guarded_server(model: ModelThread, _shared_guarded_server: Server) -> Server:
    """Lets in those that have a key or an account; shared as `server` is, its windows short."""
    return _shared_guarded_server.begin()


@pytest.fixture(scope="session")
def _shared_daphne(
    _model_of_servers: ModelThread, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    command = [sys.executable, "-m", "daphne", "llmbatch.asgi:application"]
    folder = tmp_path_factory.mktemp("daphne")
    with Server(folder, command=command, GEMINI_BASE_URL=_model_of_servers.url) as server:
        yield server


@pytest.fixture
def plain_daphne(model: ModelThread, _shared_daphne: Server) -> Server:
    """The application under daphne's own program; shared as `server` is."""
    return _shared_daphne.begin()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser() -> AsyncIterator[Browser]:
    """For tests that run in the session's loop, too."""
    async with launch() as browser:
        yield browser


@pytest.fixture(scope="session")
def model_url() -> Iterator[str]:
    """A model that takes half a second, for the pages."""
    with run_model_server("--model-time", "0.5") as url:
        yield url


@pytest.fixture(scope="session")
def gateway(model_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """For the pages; shared as `server` is."""
    folder = tmp_path_factory.mktemp("open")
    with Server(folder, prepare=LONG_WINDOWS, GEMINI_BASE_URL=model_url) as server:
        yield server


@pytest.fixture(scope="session")
def _model_of_fleets() -> Iterator[ModelThread]:
    with run_model_thread(Pace(0.05, 0.0)) as model:
        yield model


@pytest.fixture
def fleet_model(_model_of_fleets: ModelThread) -> ModelThread:
    _model_of_fleets.begin()
    return _model_of_fleets


@pytest.fixture(scope="session")
def _shared_fleet(
    _model_of_fleets: ModelThread, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Fleet]:
    folder = tmp_path_factory.mktemp("fleet")
    with Fleet(_model_of_fleets.url, folder, prepare=LONG_WINDOWS) as fleet:
        yield fleet


@pytest.fixture
async def clients(fleet_model: ModelThread, _shared_fleet: Fleet) -> AsyncIterator[Clients]:
    """Of the shared fleet. A test begins with `set_workers` and may kill what it likes.

    MEDIUM and LOW batches leave when they are full.
    """
    _shared_fleet.clear()
    async with Clients(_shared_fleet, fleet_model) as clients:
        yield clients


@pytest.fixture
async def own_clients(fleet_model: ModelThread, tmp_path: Path) -> AsyncIterator[Clients]:
    """Of a fleet that the test may end."""
    with Fleet(fleet_model.url, tmp_path) as fleet:
        async with Clients(fleet, fleet_model) as clients:
            yield clients
