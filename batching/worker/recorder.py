"""Writes down what the runner reports, many entries in one transaction, then tells who waits."""

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from django.db import InterfaceError, OperationalError, transaction

from batching.engine.call import Answer, BatchItem, CallReport, PreparedCall
from batching.engine.deltas import TextDelta
from batching.engine.errors import GatewayError
from batching.engine.runner import RunnableBatch
from batching.store import calls
from batching.store.responses import describe_answer, describe_error
from batching.store.threads import DatabaseThreads
from batching.telemetry import steps
from batching.worker.pending_writes import (
    Completion,
    PendingWrites,
    RunningRequest,
    requester_fields,
)
from chats.models import Status
from chats.services import Finish, finish_chats, mark_suspect, settle_shares

logger = logging.getLogger("batching")

RETRY_PAUSE_S = 0.5
RECORDS_WAIT_S = 0.05

Tell = Callable[[str, dict[int, dict[str, Any]]], Awaitable[None]]


class DatabaseRecorder:
    """The runner's recorder over the ORM.

    `tell(origin, outcomes)` hands finished chats over, `on_delta` what is written of others.
    """

    def __init__(
        self,
        *,
        database: DatabaseThreads,
        owner: str,
        tell: Tell,
        on_delta: Callable[[str, TextDelta], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database = database
        self._owner = owner
        self._tell = tell
        self._on_delta = on_delta
        self._clock = clock
        self._requests: dict[tuple[int, int], RunningRequest] = {}
        """by batch and chat: a chat that was lost may have come back in another batch"""
        self._pending = PendingWrites()
        self._written = asyncio.Event()
        self._urgent = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()

    def open(self, batch: RunnableBatch, request: RunningRequest) -> None:
        """Must come before anything is written about the chat."""
        self._requests[batch.id, request.work.id] = request

    def close(self, batch: RunnableBatch) -> None:
        """The batch runs no more, whatever became of its chats."""
        for item in batch.items:
            self._requests.pop((batch.id, item.id), None)

    @property
    def open_chats(self) -> dict[int, int]:
        """The chats that run here and have no end yet, and how many calls of each have ended."""
        works = [request.work for request in self._requests.values()]
        return {work.id: work.attempts - work.calling for work in works}

    @property
    def trace(self) -> dict[str, Any]:
        """The log fields of all that runs here."""
        return requester_fields(
            [t.requester for t in self._requests.values()], {b for b, _ in self._requests}
        )

    async def start_call(self, batch: RunnableBatch, items: Sequence[BatchItem]) -> PreparedCall:
        now = datetime.now(UTC)
        prepared = await self._database.run(
            calls.start_call, batch, items, owner=self._owner, now=now
        )
        steps.retry_started(batch, prepared, items)
        return prepared

    def answer(self, batch: RunnableBatch, item: BatchItem, answer: Answer) -> None:
        request = self._requests.pop((batch.id, item.id), None)
        if request is None:
            return  # it runs elsewhere by now
        usage = answer.usage
        document = {
            "text": answer.text,
            "tokens_used": usage.total,
            "latency_ms": round((self._clock() - request.accepted) * 1000),
            "completed_at": datetime.now(UTC),
            "queue_ms": round((request.dispatched - request.accepted) * 1000),
            "finish_reason": answer.finish_reason,
            "usage": {
                "prompt_tokens": usage.prompt,
                "output_tokens": usage.output,
                "thoughts_tokens": usage.thoughts,
                "cached_tokens": usage.cached,
                "total_tokens": usage.total,
            },
        }
        if answer.estimated:
            document["usage"]["estimated"] = True
        values = document | {"status": str(Status.DONE), "lease_until": None}
        shown = describe_answer(document, batch_id=batch.id, batch_size=len(batch.items))
        self._finish(item, request, values, {"answer": shown})

    def fail(self, batch: RunnableBatch, item: BatchItem, error: GatewayError) -> None:
        request = self._requests.pop((batch.id, item.id), None)
        if request is None:
            return  # it runs elsewhere by now
        values = {
            "status": str(Status.FAILED),
            "lease_until": None,
            "completed_at": datetime.now(UTC),
            "latency_ms": round((self._clock() - request.accepted) * 1000),
            "queue_ms": round((request.dispatched - request.accepted) * 1000),
            "error_code": error.code,
            "error_detail": str(error),
        }
        told = describe_error(error.code, str(error), error.retry_after_s)
        self._finish(
            item, request, values, {"error": told, "generation": request.requester.generation}
        )

    def suspect(self, batch: RunnableBatch, item: BatchItem, reason: str) -> None:
        steps.answer_suspected(batch, item, reason)
        self._pending.suspects[item.id] = reason
        self._wake()

    def on_delta(self, batch: RunnableBatch, delta: TextDelta) -> None:
        """Not written down: the whole answer will be."""
        request = self._requests.get((batch.id, delta.item_id))
        if request is not None:
            self._on_delta(
                request.requester.origin, replace(delta, generation=request.requester.generation)
            )

    def end_call(self, batch: RunnableBatch, report: CallReport) -> None:
        self._pending.reports.append((batch, report))
        self._wake()

    def end_batch(self, batch: RunnableBatch) -> None:
        self._pending.ended.append(batch)
        self._wake()

    async def run(self) -> None:
        """Commits pending writes until cancelled. Writes that fail are tried again."""
        while True:
            await self._written.wait()
            await self._gather()
            self._written.clear()
            self._urgent.clear()
            pending, self._pending = self._pending, PendingWrites()
            while not await self._commit(pending):  # noqa: ASYNC110 - the database is waited for
                await asyncio.sleep(RETRY_PAUSE_S)
            if not self._pending:
                self._idle.set()

    async def _gather(self) -> None:
        """Nobody waits for the ends of calls and batches: they go along with the next answers."""
        try:
            async with asyncio.timeout(RECORDS_WAIT_S):
                await self._urgent.wait()
        except TimeoutError:
            pass

    async def flush(self) -> None:
        """Returns when everything written so far is committed and told."""
        await self._idle.wait()

    def _finish(
        self,
        item: BatchItem,
        request: RunningRequest,
        values: dict[str, Any],
        outcome: dict[str, Any],
    ) -> None:
        finish = Finish(item.id, self._owner, item.attempts, values)
        self._pending.completions[item.id] = Completion(
            finish, item.prompt, request.requester, outcome, request, self._clock()
        )
        self._urgent.set()
        self._wake()

    def _wake(self) -> None:
        self._idle.clear()
        self._written.set()

    async def _commit(self, pending: PendingWrites) -> bool:
        """False if the database is not there and the pending must be written again."""
        try:
            finished = await self._database.run(_write_pending, pending)
        except (OperationalError, InterfaceError):
            logger.exception(
                "Answers could not be stored; the gateway keeps them and tries again.",
                extra=pending.trace,
            )
            return False
        except Exception:
            logger.exception(
                "A pending of %s entries could not be written.", len(pending), extra=pending.trace
            )
            return await self._commit_apart(pending)
        await self._tell_origins(pending, finished)
        try:
            # In a thread, because the steps write files.
            await self._database.run(_report_steps, pending, finished, now=self._clock())
        except Exception:
            logger.exception(
                "A pending of %s entries could not be logged.", len(pending), extra=pending.trace
            )
        return True

    async def _commit_apart(self, pending: PendingWrites) -> bool:
        """Entry by entry, so that one that no database takes costs the others nothing."""
        for single in pending.take_apart():
            if len(pending) == 1:
                continue  # it was alone already: its chat is taken back by its lease
            while not await self._commit(single):  # noqa: ASYNC110 - the database is waited for
                await asyncio.sleep(RETRY_PAUSE_S)
        return True

    async def _tell_origins(self, pending: PendingWrites, finished: set[int]) -> None:
        if lost := pending.completions.keys() - finished:
            logger.warning(
                "The ends of %s chats came too late: they run elsewhere.",
                len(lost),
                extra=requester_fields(
                    [pending.completions[chat_id].requester for chat_id in lost]
                ),
            )
        by_origin: dict[str, dict[int, dict[str, Any]]] = defaultdict(dict)
        for chat_id in finished:
            completion = pending.completions[chat_id]
            by_origin[completion.requester.origin][chat_id] = completion.outcome
        for origin, outcomes in by_origin.items():
            await self._tell(origin, outcomes)


def _write_pending(pending: PendingWrites) -> set[int]:
    reports = [report for _, report in pending.reports]
    with transaction.atomic():
        finished = finish_chats([completion.finish for completion in pending.completions.values()])
        mark_suspect(pending.suspects)
        calls.end_calls(reports)
        settle_shares(
            [
                (share.prompt, share.output, share.thoughts, share.cached, chat_id)
                for report in reports
                for chat_id, share in report.shares.items()
            ]
        )
        calls.end_batches([batch.id for batch in pending.ended], now=datetime.now(UTC))
    return finished


def _report_steps(pending: PendingWrites, finished: set[int], *, now: float) -> None:
    """Reports what is committed, and since `now` known to the clients."""
    for batch, report in pending.reports:
        steps.call_ended(batch, report)
    for chat_id in finished:
        completion = pending.completions[chat_id]
        steps.request_ended(
            completion.finish,
            prompt=completion.prompt,
            requester=completion.requester,
            lane=completion.request.lane,
            added_s=completion.added_s(now=now),
        )
    for batch in pending.ended:
        steps.batch_ended(batch)
