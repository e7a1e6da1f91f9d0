"""Runs one batch: its combined call, and whatever calls its items still need after that."""

import asyncio
import logging
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from batching.engine.call import Answer, BatchItem, Call, CallReport, PreparedCall
from batching.engine.deltas import TextDelta
from batching.engine.errors import (
    GatewayError,
    TimedOut,
    UpstreamError,
    UpstreamUnavailable,
)
from batching.engine.lanes import LaneRule
from batching.engine.model import Model, Remedy
from batching.engine.retries import RetryDecision, backoff_s, decide_retry
from batching.engine.slots import CallSlots

logger = logging.getLogger("batching")

MAX_ATTEMPTS = 3
STALL_S = 20.0
"""a call that sends nothing for so long is given up"""


@dataclass(frozen=True, slots=True)
class RunnableBatch:
    id: int
    rule: LaneRule
    model: str
    items: tuple[BatchItem, ...]
    first_call: PreparedCall
    probe: bool = False
    """the first call probes a failing service"""


class Recorder(Protocol):
    """Where the runner writes down what happens. Only `start_call` waits for the database."""

    async def start_call(
        self, batch: RunnableBatch, items: Sequence[BatchItem]
    ) -> PreparedCall: ...

    def answer(self, batch: RunnableBatch, item: BatchItem, answer: Answer) -> None: ...

    def fail(self, batch: RunnableBatch, item: BatchItem, error: GatewayError) -> None: ...

    def suspect(self, batch: RunnableBatch, item: BatchItem, reason: str) -> None: ...

    def on_delta(self, batch: RunnableBatch, delta: TextDelta) -> None: ...

    def end_call(self, batch: RunnableBatch, report: CallReport) -> None: ...

    def end_batch(self, batch: RunnableBatch) -> None: ...


class BatchRunner:
    def __init__(
        self,
        *,
        model: Model,
        recorder: Recorder,
        slots: CallSlots,
        chance: random.Random,
        clock: Callable[[], float],
        stall_s: float = STALL_S,
    ) -> None:
        self._model = model
        self._recorder = recorder
        self._slots = slots
        self._chance = chance
        self._clock = clock
        self._stall_s = stall_s

    async def run(self, batch: RunnableBatch) -> None:
        """Answers or fails every item of the batch. The caller took the first call's slot."""
        try:
            await self._run_call(batch, batch.items, batch.first_call, probe=batch.probe)
        except Exception:
            logger.exception("A batch failed inside the gateway.", extra={"batch_id": batch.id})
            for item in batch.items:
                self._fail(batch, item, UpstreamError("The gateway failed on this batch."))
        self._recorder.end_batch(batch)

    async def _run_call(
        self,
        batch: RunnableBatch,
        items: Sequence[BatchItem],
        prepared: PreparedCall,
        *,
        probe: bool,
    ) -> None:
        call = Call(
            prepared,
            items,
            model=self._model,
            release=partial(self._recorder.answer, batch),
            suspect=partial(self._recorder.suspect, batch),
            on_delta=partial(self._recorder.on_delta, batch),
            alive=self._slots.report_reply,
            clock=self._clock,
            stall_s=self._stall_s,
            hold=batch.rule.hold,
        )
        try:
            decision = await call.make()
            self._report_service(batch, call.report, decision, probe=probe)
        finally:
            self._slots.release(batch.rule.priority, probe=probe)
            self._recorder.end_call(batch, call.report)
        if decision is not None:
            await self._follow(batch, items, decision)

    def _report_service(
        self,
        batch: RunnableBatch,
        report: CallReport,
        decision: RetryDecision | None,
        *,
        probe: bool,
    ) -> None:
        """Whatever the service says, it is there; a call that was not refused, but hung or broke
        off, tells nothing: it may be its own prompts' fault. Of a probe it is enough."""
        if report.first_token_s is not None:
            self._slots.report_duration(batch.rule.priority, report.duration_s)
        elif decision is not None and decision.remedy is Remedy.AGAIN:
            if probe or not report.perhaps_billed:
                self._slots.report_failure(asked_s=decision.retry_after_s, probe=probe)
        elif decision is None or not isinstance(decision.error, TimedOut):
            self._slots.report_reply()

    async def _follow(
        self, batch: RunnableBatch, items: Sequence[BatchItem], decision: RetryDecision
    ) -> None:
        """Gives the items without an answer the further calls that they may have, or fails them."""
        left = [item for item in items if not item.finished]
        delay_s = 0.0
        if decision.remedy is Remedy.AGAIN:
            attempt = max(item.attempts for item in left)
            delay_s = backoff_s(attempt, asked_s=decision.retry_after_s, chance=self._chance)
            delay_s = max(delay_s, self._slots.capacity.paused_s)
        again = []
        for item in left:
            error = decide_retry(
                decision,
                alone=len(items) == 1,
                attempts_left=MAX_ATTEMPTS - item.attempts,
                remaining_s=item.deadline - self._clock(),
                delay_s=delay_s,
            )
            if error is None:
                again.append(item)
            else:
                self._fail(batch, item, error)
        if decision.remedy is Remedy.AGAIN:
            together = [item for item in again if not item.suspicion]
            alone = [item for item in again if item.suspicion]
            await asyncio.sleep(delay_s if again else 0)
        else:
            together, alone = [], again
        groups = [[item] for item in alone] + ([together] if together else [])
        if groups:
            retries = (self._retry(batch, group) for group in groups)
            # All of them end before a failure of one is looked at: none may go on unwatched.
            for outcome in await asyncio.gather(*retries, return_exceptions=True):
                if isinstance(outcome, BaseException):
                    raise outcome

    async def _retry(self, batch: RunnableBatch, items: Sequence[BatchItem]) -> None:
        priority = batch.rule.priority
        target = min(item.target for item in items)
        try:
            async with asyncio.timeout(max(item.deadline for item in items) - self._clock()):
                probe = await self._slots.acquire(priority, target=target)
        except TimeoutError:
            self._drop_expired(batch, items)
            return
        except UpstreamUnavailable as error:
            for item in items:
                self._fail(batch, item, error)
            return
        try:
            items = self._drop_expired(batch, items)
            prepared = await self._recorder.start_call(batch, items) if items else None
        except BaseException:
            self._slots.release(priority, probe=probe)
            raise
        if prepared is None:
            self._slots.release(priority, probe=probe)
        else:
            await self._run_call(batch, items, prepared, probe=probe)

    def _drop_expired(self, batch: RunnableBatch, items: Sequence[BatchItem]) -> list[BatchItem]:
        """Fails those whose deadline passed while they waited for a call slot; gives the others."""
        for item in items:
            if item.deadline <= self._clock():
                self._fail(batch, item, TimedOut())
        return [item for item in items if not item.finished]

    def _fail(self, batch: RunnableBatch, item: BatchItem, error: GatewayError) -> None:
        if not item.finished:
            item.finished = True
            self._recorder.fail(batch, item, error)
