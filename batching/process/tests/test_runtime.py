"""Which parts and tasks a web process, a worker and a solo process have."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from batching.process.runtime import Runtime

pytestmark = pytest.mark.django_db(transaction=True)

GATEWAY_TASKS = {"group commit", "waiters", "release", "reread", "locate", "key use"}
WORKER_TASKS = {"consumer", "dispatcher", "claimer", "recorder", "leases", "recovery", "roll-up"}


@pytest.fixture(autouse=True)
def _key(settings: Any) -> None:
    settings.GEMINI_API_KEY = "test-key-0123456789"


@pytest.fixture
async def runtime(request: pytest.FixtureRequest) -> AsyncIterator[Runtime]:
    runtime = Runtime(**request.param)
    await runtime.start()
    yield runtime
    await runtime.stop()


def list_tasks() -> set[str]:
    return {task.get_name() for task in asyncio.all_tasks()}


@pytest.mark.parametrize("runtime", [{"takes_requests": False}], indirect=True)
async def test_worker_builds_no_gateway(runtime: Runtime) -> None:
    assert not hasattr(runtime, "gateway")
    assert list_tasks() >= WORKER_TASKS
    assert not list_tasks() & GATEWAY_TASKS
    assert [gauge.name for gauge in runtime.gauges()] == [
        "llmbatch_clock_skew_seconds",
        "llmbatch_call_slots",
        "llmbatch_call_slots_used",
        "llmbatch_breaker_open",
        "llmbatch_breaker_pause_seconds",
    ]


@pytest.mark.parametrize("runtime", [{"runs_batches": False}], indirect=True)
async def test_web_process_without_a_consumer_runs_no_batches(runtime: Runtime) -> None:
    assert not hasattr(runtime, "consumer")
    assert list_tasks() >= GATEWAY_TASKS
    assert not list_tasks() & WORKER_TASKS
    assert [gauge.name for gauge in runtime.gauges()] == [
        "llmbatch_clock_skew_seconds",
        "llmbatch_waiting_clients",
    ]


@pytest.mark.parametrize("runtime", [{}], indirect=True)
async def test_single_process_has_the_tasks_of_both(runtime: Runtime) -> None:
    assert list_tasks() >= GATEWAY_TASKS | WORKER_TASKS


@pytest.mark.parametrize("runtime", [{"name": "w" * 60}], indirect=True)
async def test_owner_of_batches_begins_with_the_longest_name(runtime: Runtime) -> None:
    """A restarted worker finds its earlier batches by this beginning."""
    assert runtime.consumer.owner == f"{'w' * 40}#{runtime.process}"


async def test_stop_ends_every_task() -> None:
    runtime = Runtime()
    await runtime.start()
    await runtime.stop()
    assert not list_tasks() & (GATEWAY_TASKS | WORKER_TASKS)
