"""Takes requests in, and waits for their answers without a thread for each of them."""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Any

from batching.engine.errors import Cancelled, GatewayError, ShuttingDown, TimedOut
from batching.engine.items import QueuedItem
from batching.gateway.admission import Admission, Query
from batching.gateway.events import Event, describe_failure, follow_answer
from batching.gateway.group_commit import GroupCommit
from batching.gateway.queue_counts import QueueCounts
from batching.gateway.waiters import Waiter, Waiters
from batching.messages import (
    BATCHING_CHANNEL,
    Send,
    Subscription,
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
from chats.clock import CLOCK
from chats.models import Chat

logger = logging.getLogger("batching")

OVERDUE_S = 0.5
REREAD_INTERVAL_S = 0.5
POSITION_INTERVAL_S = 1.0
ROWS_AT_ONCE = 500
# Cancels that may run at once, so that they cannot starve other database work.
MAX_CANCELS = 2


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
        self.subscription = Subscription(layer, process)
        self._send = send
        self._database = database
        self._process = process
        self._clock = clock
        self.waiters = Waiters()
        self.counts = QueueCounts(self.waiters, fleet_status)
        self._admission = Admission(
            process=process, counts=self.counts, fleet_status=fleet_status, clock=clock
        )
        self.group_commit = GroupCommit(
            database=database,
            waiters=self.waiters,
            announce=self._announce,
            abandon=self._abandon,
        )
        self.draining = False
        # Chat ids and generations of requests whose clients have left.
        self._abandoned: list[tuple[int, int]] = []
        self._left = asyncio.Event()
        self._cancelling = asyncio.Semaphore(MAX_CANCELS)

    async def submit(self, query: Query) -> dict[str, Any]:
        """Returns the 200 document of POST /v1/query; raises GatewayError."""
        chat, item = self._admit(query)
        async with self._waiting(query, chat, item) as (stored, waiter):
            async with asyncio.timeout(item.deadline - self._clock()):
                answer = await waiter.answer
        return describe_request(stored) | answer

    async def stream(self, query: Query) -> AsyncGenerator[Event, None]:
        """Yields `accepted` first, or raises GatewayError; then the events up to the answer's end.

        The text comes in one event, unless the query is `streamed`.
        """
        chat, item = self._admit(query)
        async with self._waiting(query, chat, item) as (stored, waiter):
            request = describe_request(stored)
            if waiter.queued:
                own = self.counts.of_tenant(item.priority, item.tenant)
                waiter.position = self.counts.position(item.priority, item.tenant, own)
            yield {"type": "accepted"} | request | {"position": waiter.position}
            try:
                following = follow_answer(
                    waiter, self.waiters, until=item.deadline, clock=self._clock
                )
                async with aclosing(following) as events:
                    async for event in events:
                        yield event
            except GatewayError as error:
                yield describe_failure(error) | {"request_id": request["request_id"]}
                return
            answer = dict(waiter.answer.result())
            del answer["text"]
            yield {"type": "done"} | request | answer

    async def enqueue(self, query: Query) -> dict[str, Any]:
        """Returns the 202 document as soon as the request is stored; raises GatewayError.

        Its waiter stays until the request has ended, so that the request counts as queued.
        """
        chat, item = self._admit(query)
        waiter = self.waiters.open(item.priority, item.tenant, due=item.due)
        fresh = False
        try:
            stored = await self.group_commit.store(
                chat, item, waiter, named=query.request_id is not None
            )
            fresh = stored.fresh
        finally:
            if not fresh:
                self.waiters.remove(waiter)
        return {"request_id": stored.chat.request_id, "status": str(stored.chat.status)}

    async def cancel(self, request_id: str, *, client_id: int | None, username: str | None) -> None:
        """Raises RequestNotFound, AmbiguousRequest or AlreadyDispatched."""
        async with self._cancelling:
            messages = await self._database.run(
                cancel_request, request_id, client_id=client_id, username=username
            )
        for channel, message in messages:
            await self._send(channel, message)

    def _admit(self, query: Query) -> tuple[Chat, QueuedItem]:
        if self.draining:
            raise ShuttingDown()
        return self._admission.admit(query)

    @asynccontextmanager
    async def _waiting(
        self, query: Query, chat: Chat, item: QueuedItem
    ) -> AsyncIterator[tuple[Chat, Waiter]]:
        """Stores the request; yields its row, which may be an earlier request's, and its waiter."""
        waiter = self.waiters.open(item.priority, item.tenant, due=item.due)
        try:
            async with asyncio.timeout(item.deadline - self._clock()):
                stored = await self.group_commit.store(
                    chat, item, waiter, named=query.request_id is not None
                )
            if not stored.fresh:
                self._join(stored.chat, waiter)
            try:
                yield stored.chat, waiter
            except (asyncio.CancelledError, GeneratorExit):
                self._abandon(waiter.chat_id, waiter.generation)
                raise
        except TimeoutError:
            raise TimedOut() from None
        finally:
            self.waiters.remove(waiter)

    def _join(self, chat: Chat, waiter: Waiter) -> None:
        """Joins an earlier request, whose answer may be stored already or may come soon."""
        self.waiters.leave_queue(waiter)
        waiter.due = self._clock() - OVERDUE_S
        response = parse_stored_response(chat)
        if response is not None:
            self.waiters.deliver_to(waiter, response)

    def _abandon(self, chat_id: int, generation: int) -> None:
        """The client has left. If no other client waits, `release` cancels the request."""
        self._abandoned.append((chat_id, generation))
        self._left.set()

    async def receive(self) -> None:
        """Handles the messages to this process until it is cancelled."""
        while True:
            message = await self.subscription.receive()
            try:
                self._handle_message(message)
            except Exception:
                # One message that cannot be parsed must not end the loop.
                logger.exception("A message of the waiters could not be handled.")

    def _handle_message(self, message: Mapping[str, Any]) -> None:
        match message["type"]:
            case "requests.dispatched":
                self.waiters.mark_dispatched(message["ids"])
            case "requests.delta":
                for delta in parse_deltas(message):
                    self.waiters.add_delta(delta)
            case "requests.finished":
                for chat_id, response in parse_finished(message):
                    self.waiters.deliver(chat_id, response)
            case unknown:
                logger.warning("A message of unknown type %s was ignored.", unknown)

    async def release(self) -> None:
        """Cancels abandoned requests in the queue, many in one transaction."""
        while True:
            await self._left.wait()
            left = self._abandoned[:ROWS_AT_ONCE]
            error = Cancelled("The client left before the request was sent to the model.")
            cancelled = await self._database.run(
                release_chats, left, now=CLOCK.now(), code=error.code, detail=str(error)
            )
            # Only now: if the database is away, the supervisor starts this task again.
            del self._abandoned[: len(left)]
            if not self._abandoned:
                self._left.clear()
            if cancelled:
                await self._send(BATCHING_CHANNEL, cancelled_message(cancelled))

    async def locate(self) -> None:
        """Notifies the clients that receive events of their positions in the queue."""
        while True:
            await asyncio.sleep(POSITION_INTERVAL_S)
            for group in _split(self.waiters.list_wanting_position()):
                ids = [waiter.chat_id for waiter in group]
                positions = await self._database.run(queue_positions, ids)
                for waiter in group:
                    waiter.move_to(positions.get(waiter.chat_id))

    async def reread(self) -> None:
        """Makes up for lost messages: reads the rows of requests whose answer is overdue."""
        while True:
            await asyncio.sleep(REREAD_INTERVAL_S)
            for group in _split(self.waiters.list_overdue(self._clock() - OVERDUE_S)):
                ids = list({waiter.chat_id for waiter in group})
                responses = await self._database.run(read_responses, ids)
                # Only to these waiters: one that was added since may wait for a later generation.
                for waiter in group:
                    if waiter.chat_id in responses:
                        self.waiters.deliver_to(waiter, responses[waiter.chat_id])

    async def _announce(self, items: Sequence[QueuedItem]) -> None:
        steps.requests_accepted(items)
        message = accepted_message(items, process=self._process, clock=self._clock())
        await self._send(BATCHING_CHANNEL, message)


def _split(waiters: Sequence[Waiter]) -> Iterator[Sequence[Waiter]]:
    for start in range(0, len(waiters), ROWS_AT_ONCE):
        yield waiters[start : start + ROWS_AT_ONCE]
