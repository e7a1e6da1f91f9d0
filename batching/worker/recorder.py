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

from batching.engine.call import Answer, CallReport, PreparedCall, Work
from batching.engine.deltas import TextDelta
from batching.engine.errors import GatewayError
from batching.engine.runner import RunnableBatch
from batching.store import claiming
from batching.store.responses import describe_answer, describe_error
from batching.store.threads import DatabaseThreads
from batching.telemetry import log, metrics
from batching.worker.pending_writes import Closing, Page, Ticket, requester_fields
from chats.models import Status
from chats.services import Finish, finish_chats, mark_suspect, settle_shares

logger = logging.getLogger("batching")

RETRY_PAUSE_S = 0.5
RECORDS_WAIT_S = 0.05

Tell = Callable[[str, dict[int, dict[str, Any]]], Awaitable[None]]


class DatabaseJournal:
    """The runner's journal over the ORM.

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
        self._tickets: dict[tuple[int, int], Ticket] = {}
        """by batch and chat: a chat that was lost may have come back in another batch"""
        self._page = Page()
        self._written = asyncio.Event()
        self._urgent = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()

    def open(self, batch: RunnableBatch, ticket: Ticket) -> None:
        """Must come before anything is written about the chat."""
        self._tickets[batch.id, ticket.work.id] = ticket

    def close(self, batch: RunnableBatch) -> None:
        """The batch runs no more, whatever became of its chats."""
        for item in batch.items:
            self._tickets.pop((batch.id, item.id), None)

    @property
    def open_chats(self) -> dict[int, int]:
        """The chats that run here and have no end yet, and how many calls of each have ended."""
        works = [ticket.work for ticket in self._tickets.values()]
        return {work.id: work.attempts - work.calling for work in works}

    @property
    def trace(self) -> dict[str, Any]:
        """The log fields of all that runs here."""
        return requester_fields(
            [t.requester for t in self._tickets.values()], {b for b, _ in self._tickets}
        )

    async def start_call(self, batch: RunnableBatch, items: Sequence[Work]) -> PreparedCall:
        now = datetime.now(UTC)
        prepared = await self._database.run(
            claiming.start_call, batch, items, owner=self._owner, now=now
        )
        log.call_started(batch, prepared, items)
        metrics.count_retry(batch.rule.priority)
        return prepared

    def answer(self, batch: RunnableBatch, item: Work, answer: Answer) -> None:
        ticket = self._tickets.pop((batch.id, item.id), None)
        if ticket is None:
            return  # it runs elsewhere by now
        usage = answer.usage
        document = {
            "text": answer.text,
            "tokens_used": usage.total,
            "latency_ms": round((self._clock() - ticket.accepted) * 1000),
            "completed_at": datetime.now(UTC),
            "queue_ms": round((ticket.dispatched - ticket.accepted) * 1000),
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
        self._finish(item, ticket, values, {"answer": shown})

    def fail(self, batch: RunnableBatch, item: Work, error: GatewayError) -> None:
        ticket = self._tickets.pop((batch.id, item.id), None)
        if ticket is None:
            return  # it runs elsewhere by now
        values = {
            "status": str(Status.FAILED),
            "lease_until": None,
            "completed_at": datetime.now(UTC),
            "latency_ms": round((self._clock() - ticket.accepted) * 1000),
            "queue_ms": round((ticket.dispatched - ticket.accepted) * 1000),
            "error_code": error.code,
            "error_detail": str(error),
        }
        told = describe_error(error.code, str(error), error.retry_after_s)
        self._finish(
            item, ticket, values, {"error": told, "generation": ticket.requester.generation}
        )

    def suspect(self, batch: RunnableBatch, item: Work, reason: str) -> None:
        log.suspected(batch, item, reason)
        self._page.suspects[item.id] = reason
        self._wake()

    def on_delta(self, batch: RunnableBatch, delta: TextDelta) -> None:
        """Not written down: the whole answer will be."""
        ticket = self._tickets.get((batch.id, delta.item_id))
        if ticket is not None:
            self._on_delta(
                ticket.requester.origin, replace(delta, generation=ticket.requester.generation)
            )

    def end_call(self, batch: RunnableBatch, report: CallReport) -> None:
        self._page.reports.append((batch, report))
        metrics.count_call(batch.rule.priority, report)
        self._wake()

    def end_batch(self, batch: RunnableBatch) -> None:
        self._page.ended.append(batch)
        self._wake()

    async def run(self) -> None:
        """Commits page after page for ever. A page that cannot be written is tried again."""
        while True:
            await self._written.wait()
            await self._gather()
            self._written.clear()
            self._urgent.clear()
            page, self._page = self._page, Page()
            while not await self._commit(page):  # noqa: ASYNC110 - the database is waited for
                await asyncio.sleep(RETRY_PAUSE_S)
            if not self._page:
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
        self, item: Work, ticket: Ticket, values: dict[str, Any], outcome: dict[str, Any]
    ) -> None:
        finish = Finish(item.id, self._owner, item.attempts, values)
        self._page.closings[item.id] = Closing(
            finish, item.prompt, ticket.requester, outcome, ticket, self._clock()
        )
        self._urgent.set()
        self._wake()

    def _wake(self) -> None:
        self._idle.clear()
        self._written.set()

    async def _commit(self, page: Page) -> bool:
        """False if the database is not there and the page must be written again."""
        try:
            finished = await self._database.run(_write_page, page)
        except (OperationalError, InterfaceError):
            logger.exception(
                "Answers could not be stored; the gateway keeps them and tries again.",
                extra=page.trace,
            )
            return False
        except Exception:
            logger.exception(
                "A page of %s entries could not be written.", len(page), extra=page.trace
            )
            return await self._commit_apart(page)
        await self._tell_origins(page, finished)
        try:
            await self._database.run(_log_page, page)  # files: off the loop, and nobody waits
        except Exception:
            logger.exception(
                "A page of %s entries could not be logged.", len(page), extra=page.trace
            )
        return True

    async def _commit_apart(self, page: Page) -> bool:
        """Entry by entry, so that one that no database takes costs the others nothing."""
        for single in page.take_apart():
            if len(page) == 1:
                continue  # it was alone already: its chat is taken back by its lease
            while not await self._commit(single):  # noqa: ASYNC110 - the database is waited for
                await asyncio.sleep(RETRY_PAUSE_S)
        return True

    async def _tell_origins(self, page: Page, finished: set[int]) -> None:
        if lost := page.closings.keys() - finished:
            logger.warning(
                "The ends of %s chats came too late: they run elsewhere.",
                len(lost),
                extra=requester_fields([page.closings[chat_id].requester for chat_id in lost]),
            )
        by_origin: dict[str, dict[int, dict[str, Any]]] = defaultdict(dict)
        for chat_id in finished:
            closing = page.closings[chat_id]
            by_origin[closing.requester.origin][chat_id] = closing.outcome
        for origin, outcomes in by_origin.items():
            await self._tell(origin, outcomes)
        for chat_id in finished:
            page.closings[chat_id].count(now=self._clock())


def _write_page(page: Page) -> set[int]:
    reports = [report for _, report in page.reports]
    with transaction.atomic():
        finished = finish_chats([closing.finish for closing in page.closings.values()])
        mark_suspect(page.suspects)
        claiming.end_calls(reports)
        settle_shares(
            [
                (share.prompt, share.output, share.thoughts, share.cached, chat_id)
                for report in reports
                for chat_id, share in report.shares.items()
            ]
        )
        claiming.end_batches([batch.id for batch in page.ended], now=datetime.now(UTC))
    return finished


def _log_page(page: Page) -> None:
    for batch, report in page.reports:
        log.call_ended(batch, report)
    for closing in page.closings.values():
        log.chat_ended(closing.finish, prompt=closing.prompt, requester=closing.requester)
    for batch in page.ended:
        log.batch_ended(batch)
