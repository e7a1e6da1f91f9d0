"""A background task runs again, whatever ended it."""

import asyncio

import pytest

from batching.process.supervisor import Supervisor


@pytest.mark.parametrize("error", [OSError, asyncio.CancelledError])
async def test_failed_task_starts_again(error: type[BaseException]) -> None:
    """redis-py and asgiref sometimes raise CancelledError in a task that nobody cancelled."""
    supervisor, runs, running = Supervisor(), [error], asyncio.Event()

    async def body() -> None:
        if runs:
            raise runs.pop()
        running.set()
        await asyncio.Event().wait()

    supervisor.start("body", body)
    async with asyncio.timeout(60):
        await running.wait()
    assert not supervisor.failures
    await supervisor.stop()
