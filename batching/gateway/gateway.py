"""The door: takes a request in, and waits for its answer without a thread."""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from datetime import UTC, datetime
from typing import Any

from batching.engine.errors import (
    Cancelled,
    GatewayError,
    ShuttingDown,
    TimedOut,
)
from batching.engine.lanes import Priority
from batching.engine.planner import QueuedItem
from batching.gateway.admission import Admission, Query
from batching.gateway.events import Event, describe_failure, follow
from batching.gateway.group_commit import GroupCommit, Stored
from batching.gateway.waiters import Waiter, Waiters
from batching.messages import (
    BATCHING_CHANNEL,
    Send,
    accepted_message,
    cancelled_message,
    parse_deltas,
    parse_finished,
)
from batching.store.cancellation import cancel_request, release_chats
from batching.store.fleet_status import FleetStatus
from batching.store.queue import queue_positions
from batching.store.responses import describe_request, parse_stored_response, read_responses
from batching.store.threads import DatabaseThreads
from batching.telemetry import steps
from chats.models import Chat

logger = logging.getLogger("batching")

OVERDUE_S = 0.5
REREAD_INTERVAL_S = 0.5
POSITION_INTERVAL_S = 1.0
ROWS_AT_ONCE = 500
MAX_CANCELS = 2
"""at work at once, whoever asks for them: whatever else needs the database comes between"""


class Gateway:
    """One per process. `process` names this process and the channel of its waiters."""

    def __init__(
        self,
        *,
        layer: Any,
        send: Send,
        database: DatabaseThreads,
        process: str,
        fleet_status: Callable[[], FleetStatus] = FleetStatus,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._layer = layer
        self._send = send
        self.database = database
        self._process = process
        self._clock = clock
        self._fleet_status = fleet_status
        self._admission = Admission(
            process=process, depth=self.depth, fleet_status=fleet_status, clock=clock
        )
        self.waiters = Waiters()
        self.group_commit = GroupCommit(
            database=database,
            waiters=self.waiters,
            announce=self._announce,
            abandon=self._abandon,
        )
        self.draining = False
        self._depths = dict.fromkeys(Priority, 0)
        self._abandoned: list[tuple[int, int]] = []
        self._left = asyncio.Event()
        self._cancelling = asyncio.Semaphore(MAX_CANCELS)

    def depth(self, priority: Priority) -> int:
        """How many requests wait in the queue: this process's own, or all that are known."""
        return max(self._depths[priority], self._fleet_status().queued.get(priority, 0))

    async def submit(self, query: Query) -> dict[str, Any]:
        """Returns the 200 document of POST /v1/query; raises GatewayError."""
        chat, item = self._admit(query)
        async with self._waiting(chat, item, named=query.request_id is not None) as stored:
            async with asyncio.timeout(item.deadline - self._clock()):
                answer = await stored.waiter.answer
        return describe_request(stored.chat) | answer

    async def stream(self, query: Query) -> AsyncGenerator[Event, None]:
        """First `{"type": "accepted"}` or GatewayError; then the answer's events until its end.

        The text comes whole unless the query asks for it as it grows.
        """
        chat, item = self._admit(query)
        async with self._waiting(chat, item, named=query.request_id is not None) as stored:
            request = describe_request(stored.chat)
            if stored.waiter.queued:
                stored.waiter.position = self.depth(item.priority)
            yield {"type": "accepted"} | request | {"position": stored.waiter.position}
            try:
                following = follow(
                    stored.waiter, self.waiters, until=item.deadline, clock=self._clock
                )
                async with aclosing(following) as events:
                    async for event in events:
                        yield event
            except GatewayError as error:
                yield describe_failure(error) | {"request_id": request["request_id"]}
                return
            answer = dict(stored.waiter.answer.result())
            del answer["text"]
            yield {"type": "done"} | request | answer

    async def enqueue(self, query: Query) -> dict[str, Any]:
        """Returns the 202 document as soon as the request is stored; raises GatewayError."""
        chat, item = self._admit(query)
        self._depths[item.priority] += 1  # until it is dispatched, as for one that waits
        try:
            stored = await self.group_commit.store(chat, item, named=query.request_id is not None)
        except BaseException:
            self._depths[item.priority] -= 1
            raise
        if not stored.fresh:
            self._leave_queue(stored.waiter)
            self.waiters.remove(stored.waiter)
        return {"request_id": stored.chat.request_id, "status": str(stored.chat.status)}

    async def cancel(self, request_id: str, *, client_id: int | None, username: str | None) -> None:
        """Raises RequestNotFound, AmbiguousRequest or AlreadyDispatched."""
        async with self._cancelling:
            messages = await self.database.run(
                cancel_request, request_id, client_id=client_id, username=username
            )
        for channel, message in messages:
            await self._send(channel, message)

    def _admit(self, query: Query) -> tuple[Chat, QueuedItem]:
        if self.draining:
            raise ShuttingDown()
        return self._admission.admit(query)

    async def receive(self) -> None:
        """Takes in what concerns this process's waiters, for ever."""
        while True:
            message = await self._layer.receive(self._process)
            try:
                self._handle_message(message)
            except Exception:
                # One message that cannot be understood must not end the listening.
                logger.exception("A message of the waiters could not be handled.")

    @asynccontextmanager
    async def _waiting(self, chat: Chat, item: QueuedItem, *, named: bool) -> AsyncIterator[Stored]:
        """The stored request, counted as queued for as long as it is; a client may leave it."""
        self._depths[item.priority] += 1
        stored: Stored | None = None
        try:
            async with asyncio.timeout(item.deadline - self._clock()):
                stored = await self.group_commit.store(chat, item, named=named)
            if not stored.fresh:
                self._join(stored)
            yield stored
        except TimeoutError:
            raise TimedOut() from None
        except (asyncio.CancelledError, GeneratorExit):
            if stored is not None:
                self._abandon(stored.waiter.chat_id, stored.waiter.generation)
            raise
        finally:
            if stored is None:
                self._depths[item.priority] -= 1
            else:
                self._leave_queue(stored.waiter)
                self.waiters.remove(stored.waiter)

    def _join(self, stored: Stored) -> None:
        """The request was there before: its answer may be stored already, or come any moment."""
        self._leave_queue(stored.waiter)
        stored.waiter.due = self._clock() - OVERDUE_S
        outcome = parse_stored_response(stored.chat)
        if outcome is not None:
            self.waiters.deliver_to(stored.waiter, outcome)

    def _leave_queue(self, waiter: Waiter) -> None:
        if waiter.queued:
            waiter.queued = False
            self._depths[waiter.priority] -= 1

    def _abandon(self, chat_id: int, generation: int) -> None:
        """Its client has gone: unless somebody else wants the answer, it need not be asked for."""
        self._abandoned.append((chat_id, generation))
        self._left.set()

    async def release(self) -> None:
        """Drops what was abandoned in the queue, many in one transaction, for ever."""
        while True:
            await self._left.wait()
            left = self._abandoned[:ROWS_AT_ONCE]
            del self._abandoned[: len(left)]
            if not self._abandoned:
                self._left.clear()
            error = Cancelled("The client left before the request was sent to the model.")
            cancelled = await self.database.run(
                release_chats, left, now=datetime.now(UTC), code=error.code, detail=str(error)
            )
            if cancelled:
                await self._send(BATCHING_CHANNEL, cancelled_message(cancelled))

    async def locate(self) -> None:
        """Tells those who read along how their place in the queue changes, for ever."""
        while True:
            await asyncio.sleep(POSITION_INTERVAL_S)
            for start in range(
                0, len(waiters := self.waiters.list_wanting_position()), ROWS_AT_ONCE
            ):
                group = waiters[start : start + ROWS_AT_ONCE]
                places = await self.database.run(queue_positions, [w.chat_id for w in group])
                for waiter in group:
                    waiter.move_to(places.get(waiter.chat_id))

    async def reread(self) -> None:
        """Reads the rows of all overdue waiters at intervals, because an answer may be lost."""
        while True:
            await asyncio.sleep(REREAD_INTERVAL_S)
            overdue = self.waiters.list_overdue(self._clock() - OVERDUE_S)
            for start in range(0, len(overdue), ROWS_AT_ONCE):
                group = overdue[start : start + ROWS_AT_ONCE]
                ids = list({waiter.chat_id for waiter in group})
                outcomes = await self.database.run(read_responses, ids)
                # Only to them: whoever came since may have renewed a row after it was read.
                for waiter in group:
                    if waiter.chat_id in outcomes:
                        self._leave_queue(waiter)
                        self.waiters.deliver_to(waiter, outcomes[waiter.chat_id])

    async def _announce(self, items: Sequence[QueuedItem]) -> None:
        steps.requests_accepted(items)
        message = accepted_message(items, process=self._process, clock=self._clock())
        await self._send(BATCHING_CHANNEL, message)

    def _handle_message(self, message: Mapping[str, Any]) -> None:
        match message["type"]:
            case "requests.dispatched":
                for waiter in self.waiters.mark_dispatched(message["ids"]):
                    self._depths[waiter.priority] -= 1
            case "requests.delta":
                for delta in parse_deltas(message):
                    self.waiters.add_delta(delta)
            case "requests.finished":
                for chat_id, outcome in parse_finished(message):
                    for waiter in self.waiters.deliver(chat_id, outcome):
                        self._leave_queue(waiter)
            case unknown:
                logger.warning("A message of unknown type %s was ignored.", unknown)
