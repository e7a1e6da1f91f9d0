"""Fixtures of real processes: single servers and fleets. Most of them are shared by all tests."""

import signal
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

# No test takes this long, even on a slow machine.
HANG_S = 600


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.timeout(HANG_S))


@pytest.fixture(scope="session", autouse=True)
def _sigint_is_obeyed() -> None:
    """A shell starts background programs with SIGINT ignored, and servers would inherit that."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


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
    """A shared server. A test restores its settings and uses its own usernames."""
    return _shared_server.begin()


@pytest.fixture
def own_server(model: ModelThread, tmp_path: Path) -> Iterator[Server]:
    """A server for a test that stops it."""
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
    """A shared server with API_ACCESS=key and the default windows."""
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
    """A shared server that runs under Daphne's own command."""
    return _shared_daphne.begin()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser() -> AsyncIterator[Browser]:
    """A shared browser for tests in the session's event loop."""
    async with launch() as browser:
        yield browser


@pytest.fixture(scope="session")
def model_url() -> Iterator[str]:
    """A model server for the page tests; each reply takes half a second."""
    with run_model_server("--model-time", "0.5") as url:
        yield url


@pytest.fixture(scope="session")
def gateway(model_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A shared server for the page tests."""
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
    """Clients of the shared fleet. A test starts with `set_workers` and may kill any process.

    MEDIUM and LOW batches are sent when they are full.
    """
    _shared_fleet.clear()
    async with Clients(_shared_fleet, fleet_model) as clients:
        yield clients


@pytest.fixture
async def own_clients(fleet_model: ModelThread, tmp_path: Path) -> AsyncIterator[Clients]:
    """Clients of a fleet that the test may stop."""
    with Fleet(fleet_model.url, tmp_path) as fleet:
        async with Clients(fleet, fleet_model) as clients:
            yield clients
