"""The batch consumer: receives accepted requests, plans their batches, claims and runs them."""

import asyncio
import contextvars
import logging
import random
import time
from collections.abc import Collection, Coroutine, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from django.conf import settings
from django.db import DatabaseError

from batching.engine.dispatcher import Dispatcher
from batching.engine.errors import TimedOut
from batching.engine.items import QueuedItem
from batching.engine.lanes import DEFAULT_BUDGET, LaneRule, Priority
from batching.engine.model import Model
from batching.engine.planner import Batch, Planner
from batching.engine.runner import BatchRunner, RunnableBatch
from batching.messages import (
    BATCHING_CHANNEL,
    Send,
    Subscription,
    cancelled_message,
    dispatched_message,
    parse_accepted,
)
from batching.store import queue
from batching.store.cancellation import expire_items
from batching.store.claiming import Claim, ClaimRequest
from batching.store.lane_rules import current_rules
from batching.store.recovery import give_up
from batching.store.threads import DatabaseThreads
from batching.telemetry import steps
from batching.telemetry.log_context import bind
from batching.worker.claimer import Claimer
from batching.worker.delta_relay import DeltaRelay
from batching.worker.leases import LeaseKeeper
from batching.worker.pending_writes import RunningRequest
from batching.worker.recorder import DatabaseRecorder
from chats.services import Requester
from settings_app.snapshot import current_snapshot, refresh_if_stale

logger = logging.getLogger("batching")

SWEEP_INTERVAL_S = 0.5
MAX_ROWS = 500
STOP_TIMEOUT_S = 5.0
MAX_OWNER_LENGTH = 64


@dataclass(kw_only=True, eq=False)
class BatchConsumer:
    """A background task of one process, not a Channels consumer class.

    A supervisor runs its loops (`receive`, `sweep`, and those of its parts) and restarts them.
    """

    layer: Any
    send: Send
    database: DatabaseThreads
    model: Model
    process: str
    name: str

    def __post_init__(self) -> None:
        self._shared = bool(settings.REDIS_URL)
        self.subscription = Subscription(self.layer, BATCHING_CHANNEL)
        self.owner = f"{self.name}#{self.process}"[-MAX_OWNER_LENGTH:]
        self._tasks: set[asyncio.Task[None]] = set()
        self._batches: dict[int, asyncio.Task[None] | None] = {}
        self._unknown: set[int] = set()
        self.rules: Mapping[Priority, LaneRule] = current_rules()
        self.dispatcher = Dispatcher(
            planner=Planner(self.rules, budget=DEFAULT_BUDGET),
            slots=settings.MODEL_CALL_SLOTS,
            start=self._start_batch,
            expire=lambda items: self._start_task(self._expire(items), name="expire"),
            clock=time.monotonic,
        )
        self.delta_relay = DeltaRelay(self.send)
        self.claimer = Claimer(database=self.database, owner=self.owner)
        self.recorder = DatabaseRecorder(
            database=self.database,
            owner=self.owner,
            send=self.send,
            relay_delta=self.delta_relay.add,
        )
        self.leases = LeaseKeeper(
            database=self.database,
            recorder=self.recorder,
            name=self.name,
            owner=self.owner,
            cancel_batches=self._cancel_batches,
        )
        self._runner = BatchRunner(
            model=self.model,
            recorder=self.recorder,
            slots=self.dispatcher.slots,
            rng=random.Random(),
            clock=time.monotonic,
        )

    @property
    def running_batches(self) -> int:
        return len(self._tasks)

    async def receive(self) -> None:
        while True:
            message = await self.subscription.receive()
            try:
                await self._handle_message(message)
            except Exception:
                # One malformed message must not end the loop.
                logger.exception("A message on the batching channel could not be handled.")

    async def sweep(self) -> None:
        """Makes up for lost messages and wakes the dispatcher, so that `alive_at` stays recent."""
        while True:
            await asyncio.sleep(SWEEP_INTERVAL_S)
            self.dispatcher.wake()
            await self._apply_settings()
            await self._push_unannounced()

    async def finish_running(self) -> None:
        """Starts no further batch and returns when the running ones have ended."""
        self.dispatcher.close()
        while self._tasks:
            await asyncio.wait(self._tasks)
        await self.recorder.flush()

    async def stop(self) -> None:
        """Cancels the running batches and requeues their chats."""
        self.dispatcher.close()
        log_fields = self.recorder.log_fields
        while self._tasks:
            self._cancel_tasks()
            await asyncio.wait(self._tasks)
        try:
            async with asyncio.timeout(STOP_TIMEOUT_S):
                await self.claimer.settle()
                await self.recorder.flush()
                await self.database.run(give_up, owner=self.owner)
        except (TimeoutError, DatabaseError):
            logger.exception("The running requests could not be requeued.", extra=log_fields)

    async def _push_unannounced(self) -> None:
        """Adds queued chats that the planner did not know at two sweeps in a row, because the
        message that announced them was lost."""
        queued = await self.database.run(queue.list_queued_ids)
        claiming = self.claimer.claiming
        unknown = {pk for pk in queued if pk not in self.dispatcher.planner and pk not in claiming}
        lost, self._unknown = sorted(unknown & self._unknown), unknown
        for start in range(0, len(lost), MAX_ROWS):
            await self._push_queued(lost[start : start + MAX_ROWS])

    async def _push_queued(self, ids: Sequence[int]) -> None:
        self.dispatcher.push(await self.database.run(queue.read_waiting, ids, rules=self.rules))

    async def _handle_message(self, message: Mapping[str, Any]) -> None:
        match message["type"]:
            case "requests.accepted":
                self.dispatcher.push(
                    parse_accepted(message, process=self.process, clock=time.monotonic())
                )
            case "requests.cancelled":
                for chat_id in message["ids"]:
                    self.dispatcher.planner.discard(chat_id)
            case "settings.changed":
                await self._apply_settings()
            case unknown:
                logger.warning("A message of unknown type %s was ignored.", unknown)

    async def _apply_settings(self) -> None:
        await self.database.run(refresh_if_stale)
        rules = current_rules()
        if rules != self.rules:
            self.rules = rules
            self.dispatcher.configure(rules)

    def _start_batch(self, planned: Batch) -> None:
        steps.batch_dispatched(planned)
        self._start_task(self._run_batch(planned), name="batch")

    def _start_task(self, body: Coroutine[Any, Any, None], *, name: str) -> None:
        context = contextvars.Context()
        task = asyncio.create_task(body, name=name, context=context)
        self._tasks.add(task)
        # In the task's context, so that log lines carry the fields that the task bound.
        task.add_done_callback(self._end_task, context=context)

    def _end_task(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception():
            logger.error("The task %s failed.", task.get_name(), exc_info=task.exception())

    def _cancel_tasks(self) -> None:
        for task in self._tasks:
            task.cancel()

    def _cancel_batches(self, batch_ids: Collection[int]) -> None:
        for batch_id in batch_ids:
            if task := self._batches.get(batch_id):
                task.cancel()

    async def _run_batch(self, planned: Batch) -> None:
        claim, started = Claim(), False
        bind(request_ids=[item.request_id for item in planned.items])
        try:
            claim = await self.claimer.claim(
                ClaimRequest(planned, self.rules[planned.priority], current_snapshot().model)
            )
            if claim.batch is not None:
                planned = replace(planned, items=claim.queued)
                self._forget_claimed(claim.queued)
                self._open_requests(planned, claim, claim.batch)
                self._batches[claim.batch.id] = asyncio.current_task()
                request_ids = [item.request_id for item in claim.batch.items]
                bind(batch_id=claim.batch.id, request_ids=request_ids)
                steps.batch_started(claim.batch, planned)
                await self._send_dispatched(claim.requesters)
                started = True  # From here on the runner releases the slot.
                await self._runner.run(claim.batch)
        finally:
            if not started:
                self.dispatcher.slots.release(planned.priority, probe=planned.probe)
                self.dispatcher.push(claim.left)
            if claim.batch is not None:
                self.recorder.close(claim.batch)
                self._batches.pop(claim.batch.id, None)

    def _forget_claimed(self, items: Sequence[QueuedItem]) -> None:
        """The claim may have added items that have meanwhile reached the planner, too."""
        for item in items:
            self.dispatcher.planner.discard(item.id)

    def _open_requests(self, planned: Batch, claim: Claim, batch: RunnableBatch) -> None:
        now = time.monotonic()
        queued = {item.id: item for item in planned.items}
        for item in batch.items:
            request = RunningRequest(
                item,
                claim.requesters[item.id],
                planned.priority,
                accepted=queued[item.id].accepted,
                dispatched=now,
                window_end=min(queued[item.id].due, planned.at),
            )
            self.recorder.open(batch, request)

    async def _send_dispatched(self, requesters: Mapping[int, Requester]) -> None:
        """Removes the chats from the planners of other workers, and notifies the requesters."""
        if self._shared:
            await self.send(BATCHING_CHANNEL, cancelled_message(requesters))
        for origin in {requester.origin for requester in requesters.values()}:
            ids = [pk for pk, requester in requesters.items() if requester.origin == origin]
            await self.send(origin, dispatched_message(ids))

    async def _expire(self, items: list[QueuedItem]) -> None:
        """Records requests whose deadline passed in the queue. Each waiting view has a timer of
        its own."""
        bind(request_ids=[item.request_id for item in items])
        error = TimedOut("No call slot became free within the time this request may wait.")
        try:
            expired = await self.database.run(
                expire_items, items, code=error.code, detail=str(error)
            )
            # A client that joined such a request may wait longer. Waiting for the sweep to find
            # it would make its batch late. The sweep will find what waits longer only by the
            # database's clock, which was set back: else this would be tried without a pause.
            if left := sorted({item.id for item in items} - set(expired)):
                found = await self.database.run(queue.read_waiting, left, rules=self.rules)
                now = time.monotonic()
                self.dispatcher.push(item for item in found if item.deadline > now)
        except DatabaseError:
            logger.exception(
                "Expired requests could not be recorded. The sweep will find them again."
            )
