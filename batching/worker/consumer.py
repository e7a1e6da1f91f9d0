"""The background consumer: hears what was accepted, plans, claims, and runs batches."""

import asyncio
import contextvars
import logging
import random
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import DatabaseError

from batching.engine.dispatcher import Dispatcher
from batching.engine.errors import TimedOut
from batching.engine.lanes import DEFAULT_BUDGET, LaneRule, Priority
from batching.engine.model import Model
from batching.engine.planner import Batch, Planner, QueuedItem
from batching.engine.runner import BatchRunner, RunnableBatch
from batching.messages import (
    BATCHING_CHANNEL,
    Send,
    cancelled_message,
    dispatched_message,
    finished_message,
    parse_accepted,
)
from batching.store import queue
from batching.store.cancellation import expire_items
from batching.store.claiming import Claim, ClaimRequest
from batching.store.lane_rules import current_rules
from batching.store.recovery import give_up, take_back_earlier, take_back_expired
from batching.store.threads import DatabaseThreads
from batching.telemetry import steps
from batching.telemetry.log_context import bind
from batching.worker.claimer import Claimer
from batching.worker.delta_relay import DeltaRelay
from batching.worker.pending_writes import RunningRequest
from batching.worker.recorder import DatabaseRecorder
from chats.leases import Recovery, renew_leases
from chats.services import Requester
from settings_app.snapshot import current_snapshot, refresh_if_stale

logger = logging.getLogger("batching")

SWEEP_INTERVAL_S = 0.5
ROWS_AT_ONCE = 500
STOP_TIMEOUT_S = 5.0
OWNER_LENGTH = 64


class BatchConsumer:
    """One per process. A supervisor keeps its loops alive."""

    def __init__(
        self,
        *,
        layer: Any,
        send: Send,
        database: DatabaseThreads,
        model: Model,
        process: str,
        name: str,
        shared: bool,
        slots: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._layer = layer
        self._send = send
        self._database = database
        self._process = process
        self._name = name
        self._shared = shared
        self.owner = f"{name}#{process}"[-OWNER_LENGTH:]
        self._clock = clock
        self._batches: set[asyncio.Task[None]] = set()
        self._suspects: set[int] = set()
        self.rules: Mapping[Priority, LaneRule] = current_rules()
        self.dispatcher = Dispatcher(
            planner=Planner(self.rules, budget=DEFAULT_BUDGET),
            slots=slots,
            start=self._start_batch,
            expire=self._start_expiry,
            clock=clock,
        )
        self.delta_relay = DeltaRelay(send)
        self.claimer = Claimer(database=database, owner=self.owner)
        self.recorder = DatabaseRecorder(
            database=database,
            owner=self.owner,
            tell=self._tell_finished,
            on_delta=self.delta_relay.tell,
            clock=clock,
        )
        self._runner = BatchRunner(
            model=model,
            recorder=self.recorder,
            slots=self.dispatcher.slots,
            chance=random.Random(),
            clock=clock,
        )

    @property
    def running_batches(self) -> int:
        return len(self._batches)

    async def receive(self) -> None:
        while True:
            message = await self._layer.receive(BATCHING_CHANNEL)
            try:
                await self._handle_message(message)
            except Exception:
                # One message that cannot be understood must not end the listening.
                logger.exception("A message on the batching channel could not be handled.")

    async def sweep(self) -> None:
        """Makes good what a lost message left undone, and shows that the dispatch loop turns."""
        while True:
            await asyncio.sleep(SWEEP_INTERVAL_S)
            self.dispatcher.wake()
            await self._apply_settings()
            await self._push_unannounced()

    async def renew(self) -> None:
        """Holds the leases of what runs here. Who cannot renew must not go on: others take over."""
        held_until = self._clock() + settings.LEASE_S
        while True:
            await asyncio.sleep(settings.LEASE_S / 4)
            try:
                asked_at = self._clock()
                async with asyncio.timeout(held_until - asked_at):  # a database may also hang
                    await self._database.run(
                        renew_leases,
                        list(self.recorder.open_chats),
                        owner=self.owner,
                        until=datetime.now(UTC) + timedelta(seconds=settings.LEASE_S),
                    )
                held_until = asked_at + settings.LEASE_S
            except (DatabaseError, TimeoutError):
                logger.exception("The leases could not be renewed.", extra=self.recorder.trace)
            if self._clock() >= held_until:
                logger.error(
                    "The leases ran out: %s batches are given up.",
                    len(self._batches),
                    extra=self.recorder.trace,
                )
                for task in self._batches:
                    task.cancel()
                held_until = self._clock() + settings.LEASE_S  # of what is claimed from here on

    async def recover(self) -> None:
        """Takes back what dead processes held; first what an earlier one of this name did."""
        began = self._clock()
        while True:
            pause_s = settings.LEASE_S / 4
            if self._clock() < began + settings.LEASE_S:
                await self._take_back(take_back_earlier, self._name, own=self.owner)
                pause_s = min(0.5, pause_s)
            await self._take_back(take_back_expired, own=self.owner, busy=self.recorder.open_chats)
            await asyncio.sleep(pause_s)

    async def _take_back(
        self, take_back: Callable[..., Recovery], *args: Any, **which: Any
    ) -> None:
        recovery = await self._database.run(take_back, *args, **which)
        if recovery.requeued or recovery.exhausted:
            logger.warning(
                "%s requests of dead processes wait again, %s have no attempt left.",
                len(recovery.requeued),
                len(recovery.exhausted),
                extra={"request_ids": recovery.request_ids},
            )

    async def finish_running(self) -> None:
        """Takes no further batch and returns when the running ones have ended."""
        self.dispatcher.close()
        while self._batches:
            await asyncio.wait(self._batches)
        await self.recorder.flush()

    async def stop(self) -> None:
        """Cancels the running batches and puts their chats back into the queue."""
        self.dispatcher.close()
        left, fields = self.recorder.open_chats, self.recorder.trace
        while self._batches:
            for task in self._batches:
                task.cancel()
            await asyncio.wait(self._batches)
        try:
            async with asyncio.timeout(STOP_TIMEOUT_S):
                await self.recorder.flush()
                await self._database.run(give_up, left, owner=self.owner)
        except (TimeoutError, DatabaseError):
            logger.exception("What was running could not be put back in the queue.", extra=fields)

    async def _push_unannounced(self) -> None:
        """Queued rows that two sweeps in a row found unknown here: their announcement was lost."""
        queued = await self._database.run(queue.list_queued_ids)
        claiming = self.claimer.claiming
        unknown = {i for i in queued if i not in self.dispatcher.planner and i not in claiming}
        lost, self._suspects = sorted(unknown & self._suspects), unknown
        for start in range(0, len(lost), ROWS_AT_ONCE):
            await self._push_queued(lost[start : start + ROWS_AT_ONCE])

    async def _push_queued(self, ids: Sequence[int]) -> None:
        rows = await self._database.run(queue.read_waiting, ids)
        self.dispatcher.push([row.as_item(now=self._clock(), rules=self.rules) for row in rows])

    async def _handle_message(self, message: Mapping[str, Any]) -> None:
        match message["type"]:
            case "requests.accepted":
                self.dispatcher.push(
                    parse_accepted(message, process=self._process, clock=self._clock())
                )
            case "requests.cancelled":
                for chat_id in message["ids"]:
                    self.dispatcher.planner.discard(chat_id)
            case "settings.changed":
                await self._apply_settings()
            case unknown:
                logger.warning("A message of unknown type %s was ignored.", unknown)

    async def _apply_settings(self) -> None:
        await self._database.run(refresh_if_stale)
        rules = current_rules()
        if rules != self.rules:
            self.rules = rules
            self.dispatcher.configure(rules)

    def _start_batch(self, planned: Batch) -> None:
        steps.batch_dispatched(planned)
        self._begin(self._run_batch(planned), name="batch")

    def _start_expiry(self, items: list[QueuedItem]) -> None:
        self._begin(self._expire(items), name="expire")

    def _begin(self, work: Any, *, name: str) -> None:
        context = contextvars.Context()
        task = asyncio.create_task(work, name=name, context=context)
        self._batches.add(task)
        task.add_done_callback(self._end, context=context)  # it knows what its lines concern

    def _end(self, task: asyncio.Task[None]) -> None:
        self._batches.discard(task)
        if not task.cancelled() and task.exception():
            logger.error("A batch broke off.", exc_info=task.exception())

    async def _run_batch(self, planned: Batch) -> None:
        claim, runs = Claim(), False
        bind(request_ids=[item.request_id for item in planned.items])
        try:
            claim = await self.claimer.claim(
                ClaimRequest(planned, self.rules[planned.priority], current_snapshot().model)
            )
            if claim.batch is not None:
                self._open_tickets(planned, claim, claim.batch)
                names = [work.request_id for work in claim.batch.items]
                bind(batch_id=claim.batch.id, request_ids=names)
                steps.batch_started(claim.batch, planned)
                await self._tell_dispatched(claim.requesters)
                runs = True  # from here on the runner gives the slot back
                await self._runner.run(claim.batch)
        finally:
            if not runs:
                self.dispatcher.slots.release(planned.priority, probe=planned.probe)
                self.dispatcher.push(claim.left)
            if claim.batch is not None:
                self.recorder.close(claim.batch)

    def _open_tickets(self, planned: Batch, claim: Claim, batch: RunnableBatch) -> None:
        now = self._clock()
        items = {item.id: item for item in planned.items}
        for work in batch.items:
            item = items[work.id]
            request = RunningRequest(
                work,
                claim.requesters[work.id],
                item.accepted,
                dispatched=now,
                lane=planned.priority,
                held_until=min(item.due, planned.at),
            )
            self.recorder.open(batch, request)

    async def _tell_dispatched(self, requesters: Mapping[int, Requester]) -> None:
        if self._shared:
            await self._send(BATCHING_CHANNEL, cancelled_message(requesters))  # others forget them
        for origin in {requester.origin for requester in requesters.values()}:
            ids = [
                chat_id for chat_id, requester in requesters.items() if requester.origin == origin
            ]
            await self._send(origin, dispatched_message(ids))

    async def _tell_finished(self, origin: str, outcomes: dict[int, dict[str, Any]]) -> None:
        await self._send(origin, finished_message(outcomes))

    async def _expire(self, items: list[QueuedItem]) -> None:
        """Records what nobody waits for any more; each waiting view ends by its own clock."""
        bind(request_ids=[item.request_id for item in items])
        error = TimedOut("No call slot became free within the time this request may wait.")
        try:
            expired = await self._database.run(
                expire_items,
                items,
                now=datetime.now(UTC),
                code=error.code,
                detail=str(error),
            )
            left = {item.id for item in items} - set(expired)
            if left:  # whoever joined one waits on; found by the sweep, it would miss its window
                await self._push_queued(sorted(left))
        except DatabaseError:
            logger.exception("Expired requests could not be recorded; the sweep sees them again.")
