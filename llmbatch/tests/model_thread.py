"""One model server for many tests: it runs in a thread, whatever event loop a test has."""

import asyncio
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

from batching.llm.simulated.calls import SimulatedCall
from batching.llm.simulated.wire import Pace
from llmbatch.tests.fixtures.model_server import ModelServer


class ModelThread:
    """What tests ask of a `ModelServer`, asked from another loop than its own."""

    def __init__(self, server: ModelServer, loop: asyncio.AbstractEventLoop, *, pace: Pace) -> None:
        self._server = server
        self._loop = loop
        self._pace = pace
        self.url = server.url

    def set_pace(self, pace: Pace) -> None:
        """Of the calls from now on, until the test ends."""
        self._server.responder.pace = pace

    @property
    def calls(self) -> list[SimulatedCall]:
        return list(self._server.calls)

    @property
    def sizes(self) -> list[int]:
        return self._server.sizes

    async def wait_for_calls(self, count: int) -> None:
        await self._ask(self._server.wait_for_calls(count))

    async def wait_until_idle(self) -> None:
        await self._ask(self._server.wait_until_idle())

    def begin(self) -> None:
        """For the next test: its first call is the first, at the usual pace."""
        self._server.forget()
        self.set_pace(self._pace)

    async def _ask(self, question: Coroutine[Any, Any, None]) -> None:
        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(question, self._loop))


@contextmanager
def run_model_thread(pace: Pace) -> Iterator[ModelThread]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="model server", daemon=True)
    thread.start()
    server = ModelServer(pace=pace)
    asyncio.run_coroutine_threadsafe(server.__aenter__(), loop).result()
    try:
        yield ModelThread(server, loop, pace=pace)
    finally:
        asyncio.run_coroutine_threadsafe(server.__aexit__(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
