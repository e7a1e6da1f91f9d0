"""Bounds how many reads run at once, and lets clients take turns.

A read is any request that Django's sync views answer: a list, a search, an export, a page, a login.
Each takes a thread, a database connection and a part of the processor from waiting requests.
"""

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager
from contextvars import ContextVar

# The waiting requests' own database threads and lookups of keys use the rest of the pool of 16.
MAX_READS = 6
MAX_READS_PER_CLIENT = 2
MAX_WAIT_S = 10.0

# The client whose request is being answered.
CLIENT: ContextVar[Hashable] = ContextVar("client", default=None)


class TooManyReads(Exception):
    """You have too many reads at once; wait for their responses."""

    retry_after_s = 2


class ReadSlots:
    def __init__(self, total: int, per_client: int) -> None:
        self._total, self._per_client = total, per_client
        self._running: Counter[Hashable] = Counter()
        # The futures of each client in their order. The client that is next comes first.
        self._waiting: dict[Hashable, deque[asyncio.Future[None]]] = {}

    @asynccontextmanager
    async def take(self, client: Hashable, *, wait_s: float | None = None) -> AsyncIterator[None]:
        """Waits for a slot; raises TooManyReads after `wait_s`."""
        await self._enter(client, wait_s)
        try:
            yield
        finally:
            self._leave(client)

    def _has_room(self, client: Hashable) -> bool:
        is_below_total = self._running.total() < self._total
        return is_below_total and self._running[client] < self._per_client

    async def _enter(self, client: Hashable, wait_s: float | None) -> None:
        # With room for this client nobody else can use the slot: clients that wait while a slot
        # is free have reached their own bound.
        if self._has_room(client):
            self._running[client] += 1
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(client, deque()).append(turn)
        try:
            async with asyncio.timeout(wait_s):
                await turn
        except BaseException as error:
            self._withdraw(client, turn)
            if isinstance(error, TimeoutError):
                raise TooManyReads from None
            raise

    def _withdraw(self, client: Hashable, turn: "asyncio.Future[None]") -> None:
        if turn.done() and not turn.cancelled():  # the slot came together with the end of the wait
            self._leave(client)
        elif turn in (turns := self._waiting.get(client, deque())):
            turns.remove(turn)
            if not turns:
                del self._waiting[client]

    def _leave(self, client: Hashable) -> None:
        self._running[client] -= 1
        if not self._running[client]:
            del self._running[client]
        if turns := self._waiting.pop(client, None):
            self._waiting[client] = turns  # it had its turn, so it goes behind the others
        for other in list(self._waiting):
            if self._has_room(other):
                self._admit(other)

    def _admit(self, client: Hashable) -> None:
        """Gives a slot to the client's oldest waiting read, and moves it behind the others."""
        turns = self._waiting.pop(client)
        while turns:
            turn = turns.popleft()
            if not turn.done():
                self._running[client] += 1
                turn.set_result(None)
                break
        if turns:
            self._waiting[client] = turns


READS = ReadSlots(MAX_READS, MAX_READS_PER_CLIENT)
# A login costs a quarter of a second of processor time. Passwords are checked one at a time.
LOGINS = ReadSlots(total=2, per_client=1)
