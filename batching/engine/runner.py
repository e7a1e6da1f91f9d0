"""Runs one batch: its combined call, and the further calls that its items need after that."""

import asyncio
import logging
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from batching.engine.call import Call
from batching.engine.deltas import TextDelta
from batching.engine.errors import GatewayError, TimedOut, UpstreamError, UpstreamUnavailable
from batching.engine.items import Answer, BatchItem, CallReport, PreparedCall
from batching.engine.lanes import LaneRule
from batching.engine.model import CallFailed, Model, Remedy
from batching.engine.retries import backoff_s, find_final_error, must_go_alone
from batching.engine.slots import CallSlots
from batching.engine.tasks import is_being_cancelled

logger = logging.getLogger("batching")

MAX_ATTEMPTS = 3
# A call that sends nothing for so long has stalled and is closed.
STALL_S = 20.0


@dataclass(frozen=True, slots=True)
class RunnableBatch:
    """A claimed batch. `probe`: its first call probes a failing service."""

    id: int
    rule: LaneRule
    model: str
    items: tuple[BatchItem, ...]
    first_call: PreparedCall
    probe: bool = False


class Recorder(Protocol):
    """Records what happens to a batch. Only `start_call` waits for the database."""

    async def start_call(
        self, batch: RunnableBatch, items: Sequence[BatchItem]
    ) -> PreparedCall | None:
        """Marks items that another process runs by now as finished; the call is for the others.

        None: no item is left, or no deadline. Then no call may be made.
        """
        ...

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
        rng: random.Random,
        clock: Callable[[], float],
        stall_s: float = STALL_S,
    ) -> None:
        self._model = model
        self._recorder = recorder
        self._slots = slots
        self._rng = rng
        self._clock = clock
        self._stall_s = stall_s

    async def run(self, batch: RunnableBatch) -> None:
        """Answers or fails every item of the batch. The slot of the first call must be taken."""
        try:
            await self._run_call(batch, batch.items, batch.first_call, probe=batch.probe)
        except (Exception, asyncio.CancelledError):
            if is_being_cancelled():
                raise
            logger.exception("A batch failed inside the gateway.", extra={"batch_id": batch.id})
            self._fail(batch, batch.items, UpstreamError("The gateway failed on this batch."))
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
            on_answer=partial(self._recorder.answer, batch),
            on_suspicion=partial(self._recorder.suspect, batch),
            on_delta=partial(self._recorder.on_delta, batch),
            on_first_text=self._slots.report_reply,
            clock=self._clock,
            stall_s=self._stall_s,
            hold=batch.rule.hold,
        )
        try:
            failure = await call.run()
            self._report_service(batch, call.report, failure, probe=probe)
        finally:
            self._slots.release(batch.rule.priority, probe=probe)
            self._recorder.end_call(batch, call.report)
        if failure is not None:
            await self._retry_or_fail(batch, items, failure)

    def _report_service(
        self,
        batch: RunnableBatch,
        report: CallReport,
        failure: CallFailed | None,
        *,
        probe: bool,
    ) -> None:
        """Reports to the breaker whether the model service works.

        Any reply of the service is a success. A hang, a broken stream or an unreadable reply does
        not count as a failure of the service, unless the call was the probe: its own prompts may
        have caused it.
        """
        if report.first_token_s is not None:
            self._slots.report_duration(batch.rule.priority, report.duration_s)
        elif failure is not None and failure.is_no_reply:
            if probe or not report.perhaps_billed:
                self._slots.report_failure(retry_after_s=failure.retry_after_s, probe=probe)
        elif failure is None or not isinstance(failure.error, TimedOut):
            self._slots.report_reply()

    async def _retry_or_fail(
        self, batch: RunnableBatch, items: Sequence[BatchItem], failure: CallFailed
    ) -> None:
        """Makes the further calls that the unanswered items may have; fails the other items."""
        unanswered = [item for item in items if not item.finished]
        delay_s = 0.0
        if failure.remedy is Remedy.TOGETHER:
            attempt = max(item.attempts for item in unanswered)
            delay_s = backoff_s(attempt, retry_after_s=failure.retry_after_s, rng=self._rng)
            delay_s = max(delay_s, self._slots.capacity.paused_s)
        together, alone = [], []
        for item in unanswered:
            attempts_left = MAX_ATTEMPTS - item.attempts
            error = find_final_error(
                failure,
                alone=len(items) == 1,
                runaways=item.runaways,
                attempts_left=attempts_left,
                remaining_s=item.deadline - self._clock(),
                delay_s=delay_s,
            )
            if error is not None:
                self._fail(batch, [item], error)
            elif must_go_alone(
                failure,
                suspect=bool(item.runaways or item.suspicion),
                attempts_left=attempts_left,
            ):
                alone.append(item)
            else:
                together.append(item)
        groups = [[item] for item in alone] + ([together] if together else [])
        if groups:
            await asyncio.sleep(delay_s)
            retries = (self._retry(batch, group) for group in groups)
            # All of them end before an error of one is raised, so that none runs on unobserved.
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
            self._fail(batch, items, error)
            return
        prepared = None
        try:
            if items := self._drop_expired(batch, items):
                prepared = await self._recorder.start_call(batch, items)
        finally:
            if prepared is None:
                self._slots.release(priority, probe=probe)
        if prepared is None:
            self._drop_expired(batch, items)
        else:
            called = [item for item in items if not item.finished]
            await self._run_call(batch, called, prepared, probe=probe)

    def _drop_expired(self, batch: RunnableBatch, items: Sequence[BatchItem]) -> list[BatchItem]:
        """Fails the items whose deadline passed before they got a slot; returns the others."""
        now = self._clock()
        self._fail(batch, [item for item in items if item.deadline <= now], TimedOut())
        return [item for item in items if not item.finished]

    def _fail(self, batch: RunnableBatch, items: Sequence[BatchItem], error: GatewayError) -> None:
        for item in items:
            if not item.finished:
                item.finished = True
                self._recorder.fail(batch, item, error)
