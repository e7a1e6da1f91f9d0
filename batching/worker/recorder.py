"""Stores what the runner reports, many entries in one transaction, then notifies the requesters."""

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from django.db import transaction

from batching.engine.deltas import TextDelta
from batching.engine.errors import GatewayError
from batching.engine.items import Answer, BatchItem, CallReport, PreparedCall
from batching.engine.runner import RunnableBatch
from batching.messages import Send, finished_message
from batching.store import calls
from batching.store.responses import describe_answer, describe_error
from batching.store.threads import CONNECTION_ERRORS, DatabaseThreads
from batching.telemetry import steps
from batching.worker.pending_writes import (
    Completion,
    PendingWrites,
    RunningRequest,
    format_log_fields,
)
from chats.clock import CLOCK
from chats.models import Status
from chats.services import Finish, finish_chats, mark_suspect

logger = logging.getLogger("batching")

RETRY_PAUSE_S = 0.5
# No client waits for the end of a call or batch. It is stored up to this much later, in one
# transaction with the next answer.
MAX_GATHER_S = 0.05


@dataclass(kw_only=True, eq=False)
class DatabaseRecorder:
    """The runner's recorder, which uses the ORM. `send` notifies the processes of the requesters;
    `relay_delta(origin, delta)` passes on a delta of an answer."""

    database: DatabaseThreads
    owner: str
    send: Send
    relay_delta: Callable[[str, TextDelta], None]

    def __post_init__(self) -> None:
        # By batch id and chat id, because a recovered chat may return in another batch.
        self._requests: dict[tuple[int, int], RunningRequest] = {}
        self._batches: set[int] = set()
        self._pending = PendingWrites()
        self._writing = PendingWrites()
        self._arrived = asyncio.Event()
        self._urgent = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()

    def open(self, batch: RunnableBatch, request: RunningRequest) -> None:
        """Registers a request. Call it before its batch runs."""
        self._requests[batch.id, request.item.id] = request
        self._batches.add(batch.id)

    def close(self, batch: RunnableBatch) -> None:
        """Forgets the requests of a batch that no longer runs."""
        for item in batch.items:
            self._requests.pop((batch.id, item.id), None)
        self._batches.discard(batch.id)

    @property
    def open_chats(self) -> set[int]:
        """The chats that run here, and those whose result waits to be stored."""
        waiting = [*self._pending.completions, *self._writing.completions]
        return {chat_id for _, chat_id in self._requests} | set(waiting)

    @property
    def busy_batches(self) -> set[int]:
        """The batches that run here, and those whose end or call waits to be stored."""
        return self._batches | self._pending.batch_ids | self._writing.batch_ids

    @property
    def open_batches(self) -> dict[int, set[int]]:
        """The chats that run here, by the ids of their batches."""
        batches: dict[int, set[int]] = {}
        for batch_id, chat_id in self._requests:
            batches.setdefault(batch_id, set()).add(chat_id)
        return batches

    @property
    def log_fields(self) -> dict[str, Any]:
        batch_ids = {batch_id for batch_id, _ in self._requests}
        return format_log_fields(self._requests.values(), batch_ids)

    async def start_call(
        self, batch: RunnableBatch, items: Sequence[BatchItem]
    ) -> PreparedCall | None:
        now, repeated = CLOCK.now(), False
        while any(item.deadline > time.monotonic() for item in items):
            try:
                call, held = await self.database.run(
                    calls.start_call, batch, items, owner=self.owner, now=now, repeated=repeated
                )
            except CONNECTION_ERRORS:
                extra = {"batch_id": batch.id}
                logger.exception("A call waits until the database can record it.", extra=extra)
                repeated = True
                await asyncio.sleep(RETRY_PAUSE_S)
                continue
            held_ids = {item.id for item in held}
            for item in items:
                if item.id not in held_ids:
                    item.finished = True
                    self._requests.pop((batch.id, item.id), None)
            if call is not None:
                steps.retry_started(batch, call, held)
            return call
        return None

    def answer(self, batch: RunnableBatch, item: BatchItem, answer: Answer) -> None:
        columns = {
            "text": answer.text,
            "tokens_used": answer.usage.total,
            "finish_reason": answer.finish_reason,
            "usage": _describe_usage(answer),
        }
        self._complete(batch, item, Status.DONE, columns)

    def fail(self, batch: RunnableBatch, item: BatchItem, error: GatewayError) -> None:
        columns = {"error_code": error.code, "error_detail": str(error)}
        document = describe_error(error.code, str(error), error.retry_after_s)
        self._complete(batch, item, Status.FAILED, columns, error=document)

    def suspect(self, batch: RunnableBatch, item: BatchItem, reason: str) -> None:
        steps.answer_suspected(batch, item, reason)
        self._pending.suspicions[item.id] = reason
        self._wake()

    def on_delta(self, batch: RunnableBatch, delta: TextDelta) -> None:
        """Does not store the delta, because the whole answer will be stored."""
        request = self._requests.get((batch.id, delta.item_id))
        if request is not None:
            requester = request.requester
            self.relay_delta(requester.origin, replace(delta, generation=requester.generation))

    def end_call(self, batch: RunnableBatch, report: CallReport) -> None:
        self._pending.reports.append((batch, report))
        self._wake()

    def end_batch(self, batch: RunnableBatch) -> None:
        self._pending.ended_batches.append(batch)
        self._wake()

    async def run(self) -> None:
        """Stores and reports, one transaction after another, until it is cancelled."""
        while True:
            await self._arrived.wait()
            with suppress(TimeoutError):
                async with asyncio.timeout(MAX_GATHER_S):
                    await self._urgent.wait()
            self._arrived.clear()
            self._urgent.clear()
            self._writing, self._pending = self._pending, PendingWrites()
            await self._write(self._writing)
            self._writing = PendingWrites()
            if not self._pending:
                self._idle.set()

    async def flush(self) -> None:
        """Returns when everything that was recorded is stored and the requesters are notified."""
        await self._idle.wait()

    def _complete(
        self,
        batch: RunnableBatch,
        item: BatchItem,
        status: Status,
        columns: dict[str, Any],
        error: dict[str, Any] | None = None,
    ) -> None:
        request = self._requests.pop((batch.id, item.id), None)
        if request is None:
            return  # Another process runs it by now.
        now = time.monotonic()
        values = columns | {
            "status": str(status),
            "lease_until": None,
            "completed_at": CLOCK.now(),
            "latency_ms": round((now - request.accepted) * 1000),
            "queue_ms": round((request.dispatched - request.accepted) * 1000),
        }
        if error is None:
            answer = describe_answer(values, batch_id=batch.id, batch_size=len(batch.items))
            outcome: dict[str, Any] = {"answer": answer}
        else:
            outcome = {"error": error, "generation": request.requester.generation}
        finish = Finish(item.id, self.owner, item.attempts, values)
        self._pending.completions[item.id] = Completion(finish, request, outcome, now)
        self._urgent.set()
        self._wake()

    def _wake(self) -> None:
        self._idle.clear()
        self._arrived.set()

    async def _write(self, pending: PendingWrites) -> None:
        """Stores and reports the entries; tries again for as long as the database is away."""
        while True:
            try:
                finished = await self.database.run(_store, pending)
                break
            except CONNECTION_ERRORS:
                logger.exception(
                    "Results could not be stored. They are kept and will be stored later.",
                    extra=pending.log_fields,
                )
                await asyncio.sleep(RETRY_PAUSE_S)
            except Exception:
                logger.exception(
                    "A transaction of %s entries failed.", len(pending), extra=pending.log_fields
                )
                # One entry that the database rejects must not affect the others. If it is the end
                # of a request, lease recovery will requeue the request.
                for entry in pending.split() if len(pending) > 1 else ():
                    await self._write(entry)
                return
        await self._notify_requesters(pending, finished)
        try:
            # In a thread, because the steps write files.
            await self.database.run(_report_steps, pending, finished, now=time.monotonic())
        except Exception:
            extra = pending.log_fields
            logger.exception("%s entries could not be logged.", len(pending), extra=extra)

    async def _notify_requesters(self, pending: PendingWrites, finished: set[int]) -> None:
        if lost := pending.completions.keys() - finished:
            logger.warning(
                "%s results came too late: another process runs their requests.",
                len(lost),
                extra=format_log_fields([pending.completions[pk].request for pk in lost]),
            )
        by_origin: dict[str, dict[int, dict[str, Any]]] = defaultdict(dict)
        for chat_id in finished:
            completion = pending.completions[chat_id]
            by_origin[completion.request.requester.origin][chat_id] = completion.outcome
        for origin, outcomes in by_origin.items():
            await self.send(origin, finished_message(outcomes))


def _describe_usage(answer: Answer) -> dict[str, int | bool]:
    kinds = ("prompt", "output", "thoughts", "cached", "total")
    tokens = {f"{kind}_tokens": getattr(answer.usage, kind) for kind in kinds}
    return tokens | ({"estimated": True} if answer.estimated else {})


def _store(pending: PendingWrites) -> set[int]:
    """Returns the ids of the chats that this process still owned and that have now ended."""
    finishes = [completion.finish for completion in pending.completions.values()]
    shared = {chat_id for _, report in pending.reports for chat_id in report.shares}
    with transaction.atomic():
        finished = finish_chats(finishes, also_lock=shared | pending.suspicions.keys())
        mark_suspect(pending.suspicions)
        calls.end_calls([report for _, report in pending.reports])
        sizes = {batch.id: len(batch.items) for batch in pending.ended_batches}
        calls.end_batches(sizes, now=CLOCK.now())
    return finished


def _report_steps(pending: PendingWrites, finished: set[int], *, now: float) -> None:
    """Reports what is stored; the requesters were notified at the time `now`."""
    for batch, report in pending.reports:
        steps.call_ended(batch, report)
    for chat_id in finished:
        completion = pending.completions[chat_id]
        steps.request_ended(
            completion.finish,
            prompt=completion.request.item.prompt,
            requester=completion.request.requester,
            lane=completion.request.lane,
            added_s=completion.added_s(now=now),
        )
    for batch in pending.ended_batches:
        steps.batch_ended(batch)
