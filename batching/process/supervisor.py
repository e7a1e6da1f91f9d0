"""Restarts background tasks that fail or end, and reports which of them are down."""

import asyncio
import contextvars
import logging
from collections.abc import Callable, Coroutine
from typing import Any

from batching.engine.tasks import is_being_cancelled

logger = logging.getLogger("batching")

BACKOFF_BASE_S = 0.1
BACKOFF_CAP_S = 5.0

TaskBody = Callable[[], Coroutine[Any, Any, None]]


class Supervisor:
    """Runs each task until `stop`: one that ends or fails starts again, after growing pauses."""

    def __init__(self) -> None:
        self._tasks: dict[str, asyncio.Task[None]] = {}
        # The tasks that are down now, each with the reason.
        self.failures: dict[str, str] = {}

    def start(self, name: str, body: TaskBody) -> None:
        # An empty context: a task that is started during a request would otherwise keep that
        # request's state, and its thread, until the process ends.
        self._tasks[name] = asyncio.create_task(
            self._keep(name, body), name=name, context=contextvars.Context()
        )

    async def stop(self) -> None:
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._tasks.clear()

    async def _keep(self, name: str, body: TaskBody) -> None:
        loop = asyncio.get_running_loop()
        pause_s = BACKOFF_BASE_S
        while True:
            started = loop.time()
            try:
                await body()
                reason = "it ended"
            except (Exception, asyncio.CancelledError) as error:
                if is_being_cancelled():
                    raise
                reason = type(error).__name__
                logger.exception("Task %s failed and will be started again.", name)
            self.failures[name] = reason
            if loop.time() - started > BACKOFF_CAP_S:
                pause_s = BACKOFF_BASE_S
            await asyncio.sleep(pause_s)
            pause_s = min(BACKOFF_CAP_S, pause_s * 2)
            self.failures.pop(name, None)
