"""Makes one model call of a batch and releases each answer as soon as its value is complete."""

import asyncio
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing

from batching.engine.deltas import DeltaReader, TextDelta
from batching.engine.items import Answer, BatchItem, CallReport, PreparedCall
from batching.engine.leaks import AnswerCheck
from batching.engine.model import CallFailed, Model, Piece
from batching.engine.retries import (
    broken_call_failure,
    explain_missing_answers,
    runaway_failure,
    stall_failure,
    timeout_failure,
)
from batching.engine.runaway import RunawayCheck
from batching.engine.splitter import Ending, Splitter
from batching.engine.tasks import is_being_cancelled
from batching.engine.usage import UsageMeter

# Wait this long for what follows a quote, because only that shows whether the quote ends its value.
ENDING_WAIT_S = {Ending.OBJECT: 0.25, Ending.LIKELY: 0.25, Ending.DOUBTFUL: 2.0}
# The rest of a reply is read for at most this long after its last answer, because the token counts
# come at the end.
TAIL_S = 5.0
# If the last answers arrive with the finish reason and the usage, wait this long for the end of the
# reply: it shows that the usage is complete.
END_WAIT_S = 0.1


class Call:
    """Makes one call for `items` and calls the `on_…` functions with what it finds in the reply.

    `hold`: no answer of a combined call is released before the whole reply has been checked. A call
    that sends nothing but white space for `stall_s` is closed.
    """

    def __init__(
        self,
        prepared: PreparedCall,
        items: Sequence[BatchItem],
        *,
        model: Model,
        on_answer: Callable[[BatchItem, Answer], None],
        on_suspicion: Callable[[BatchItem, str], None],
        on_delta: Callable[[TextDelta], None],
        on_first_text: Callable[[], None],
        clock: Callable[[], float],
        stall_s: float,
        hold: bool,
    ) -> None:
        self._prompt = prepared.prompt
        self._items = items
        self._model = model
        self._on_answer = on_answer
        self._on_suspicion = on_suspicion
        self._on_first_text = on_first_text
        self._clock = clock
        self._stall_s = stall_s
        self._hold = hold and len(items) > 1
        self.report = CallReport(prepared, request_ids=tuple(item.request_id for item in items))
        self._check = AnswerCheck(self._prompt.keys, [item.prompt for item in items])
        self._splitter = Splitter(self._prompt.keys, [item.prompt for item in items])
        self._runaway = RunawayCheck([item.output_tokens for item in items])
        self._delta_reader = self._make_delta_reader(on_delta)
        self._texts: dict[int, str] = {}  # the answers that passed the checks, by index
        self._lengths = [0] * len(items)
        self._meter = UsageMeter([x.prompt for x in items], whole_prompt=str(self._prompt))
        self._block_reason: str | None = None
        self._quote_timer: asyncio.TimerHandle | None = None
        self._end_timer: asyncio.TimerHandle | None = None
        self._watched: tuple[int, Ending | None] = (0, None)
        self._is_blank = False  # the last text was only white space
        self._timeout: asyncio.Timeout | None = None
        self._tail_ends: float | None = None
        self._started = self._progressed_at = clock()

    def _make_delta_reader(self, on_delta: Callable[[TextDelta], None]) -> DeltaReader:
        streamed = [] if self._hold else [(i, x) for i, x in enumerate(self._items) if x.streamed]
        return DeltaReader(
            self.report.call.id,
            {index: item.id for index, item in streamed},
            splitter=self._splitter,
            check=self._check,
            on_delta=on_delta,
        )

    async def run(self) -> CallFailed | None:
        """Returns None if every item got its answer, else why the others got none."""
        failure: CallFailed | None = None
        for item in self._items:
            item.attempts += 1
            item.called = self._started if item.called is None else item.called
        try:
            await self._read_reply()
        except CallFailed as raised:
            failure = raised
        except asyncio.CancelledError:
            failure = broken_call_failure("it was cancelled")
            self._cancel_quote_timer()
            if is_being_cancelled():
                self._release_waiting()
                self._complete_report(failure)
                raise
        self._check_whole_reply(whole=failure is None and self.report.finish_reason == "STOP")
        if not self._unanswered:
            failure = None  # The end of the reply was lost, but every answer had arrived.
        self._complete_report(failure)
        if failure is not None or not self._unanswered:
            return failure
        return explain_missing_answers(
            finish_reason=self.report.finish_reason or None, block_reason=self._block_reason
        )

    @property
    def _unanswered(self) -> list[BatchItem]:
        return [item for item in self._items if not item.finished]

    @property
    def _deadline(self) -> float:
        """The time after which no client waits for this call any more."""
        deadline = max((item.deadline for item in self._unanswered), default=math.inf)
        if all(self._lengths):
            # Set once: a model that keeps sending must not hold its call slot without limit.
            self._tail_ends = self._tail_ends or self._clock() + TAIL_S
            deadline = min(deadline, self._tail_ends)
        return deadline

    async def _read_reply(self) -> None:
        timeout_s = max(0.001, self._deadline - self._clock())
        try:
            async with (
                asyncio.timeout(self._patience_s()) as self._timeout,
                aclosing(self._model.stream(self._prompt, timeout_s=timeout_s)) as reply,
            ):
                async for piece in reply:
                    self._handle_piece(piece)
                    self._limit_wait()
                self._meter.end()
        except TimeoutError:
            if all(self._lengths):
                return  # Only the end of the reply did not come.
            raise self._explain_silence() from None

    def _explain_silence(self) -> CallFailed:
        if self._progressed_at + self._stall_s > self._deadline:
            return timeout_failure()
        # While the model sends white space, the service works.
        return self._blame_runaway() if self._is_blank else stall_failure(self._stall_s)

    def _patience_s(self) -> float:
        """How long to wait for the next piece. White space and empty pieces do not prolong it."""
        return min(self._progressed_at + self._stall_s, self._deadline) - self._clock()

    def _limit_wait(self) -> None:
        if self._timeout is not None and not self._timeout.expired():
            loop = asyncio.get_running_loop()
            self._timeout.reschedule(loop.time() + self._patience_s())

    def _handle_piece(self, piece: Piece) -> None:
        report = self.report
        self._meter.add_piece(piece.usage, piece.text)
        report.finish_reason = piece.finish_reason or report.finish_reason
        self._block_reason = piece.block_reason or self._block_reason
        if piece.thinks:
            self._progressed_at = self._clock()
        if not piece.text:
            return
        if report.first_token_s is None:
            report.first_token_s = self._clock() - self._started
            self._on_first_text()
        self._read_text(piece.text, finished=piece.finish_reason is not None)

    def _read_text(self, text: str, *, finished: bool) -> None:
        text = text[: self._runaway.max_reply + 1 - self._splitter.fed]
        self._handle_answers(self._splitter.feed(text, finished=finished))
        self._is_blank = not self._splitter.progressed
        if not self._is_blank:
            self._progressed_at = self._clock()
        self._delta_reader.emit_deltas()
        self._watch_ending()
        if self._runaway.has_run_away(text, self._splitter):
            raise self._blame_runaway()

    def _blame_runaway(self) -> CallFailed:
        blamed = 0 if len(self._items) == 1 else self._splitter.writing
        if blamed is not None:
            self._items[blamed].runaways += 1
        return runaway_failure(blamed=blamed is not None)

    def _watch_ending(self) -> None:
        """Closes the last value when nothing but white space has followed its quote for a time."""
        ending = self._splitter.ending
        if self._watched != (watched := (self._splitter.value_start, ending)):
            self._cancel_quote_timer()
            self._watched = watched
            if ending is not None:
                loop = asyncio.get_running_loop()
                wait_s = ENDING_WAIT_S[ending]
                self._quote_timer = loop.call_later(wait_s, self._close_last_value)

    def _cancel_quote_timer(self) -> None:
        if self._quote_timer is not None:
            self._quote_timer.cancel()
            self._quote_timer = None

    def _close_last_value(self) -> None:
        self._cancel_quote_timer()
        self._handle_answers(self._splitter.close_last_value())
        self._limit_wait()

    def _handle_answers(self, texts: Mapping[int, str]) -> None:
        for index, text in texts.items():
            self._lengths[index] = len(text)
        for index, text in texts.items():
            if reason := self._check.find_leak(index, text):
                self._suspect(index, reason)
                continue
            self._texts[index] = text
        if self._hold:
            return
        ends = self.report.finish_reason and self._meter.covers_text
        if ends and len(self._texts) == len(self._items):
            loop = asyncio.get_running_loop()
            self._end_timer = loop.call_later(END_WAIT_S, self._release_waiting)
            return
        for index in texts.keys() & self._texts.keys():
            self._release(index, self._texts[index])

    def _release_waiting(self) -> None:
        """Releases the answers that waited for the end of the reply."""
        if self._end_timer is not None:
            self._end_timer.cancel()
            self._end_timer = None
            for index, text in self._texts.items():
                self._release(index, text)

    def _check_whole_reply(self, *, whole: bool) -> None:
        """Applies the check that needs all answers; then releases the answers that were held."""
        self._cancel_quote_timer()
        self._handle_answers(self._splitter.end(whole=whole))
        for index in self._splitter.contradicted if self._hold else ():
            self._texts.pop(index, None)
        self._release_waiting()
        for index, reason in self._check.find_dictated(self._texts).items():
            self._suspect(index, reason)
        if self._hold:
            for index, text in self._texts.items():
                if not self._items[index].suspicion:
                    self._release(index, text)

    def _suspect(self, index: int, reason: str) -> None:
        """Marks an item whose answer failed a leak check. A released answer is not withdrawn."""
        self._items[index].suspicion = reason
        self._on_suspicion(self._items[index], reason)

    def _release(self, index: int, text: str) -> None:
        item = self._items[index]
        if item.finished:
            return
        item.finished = True
        reply = self._splitter.reply
        usage = self._meter.measure_answer(index, text, reply=reply, lengths=self._lengths)
        estimated = item.estimated or not self._meter.exact
        finish_reason = self.report.finish_reason or "STOP"
        self._on_answer(item, Answer(text, finish_reason, item.spent + usage, estimated))

    def _complete_report(self, failure: CallFailed | None) -> None:
        report = self.report
        report.reply = self._splitter.reply
        report.duration_s = self._clock() - self._started
        if failure is not None:
            report.error = failure.error
            report.perhaps_billed = failure.perhaps_billed
        report.usage = self._meter.measure_call(report.reply)
        if report.usage is not None:
            report.estimated = not self._meter.exact
            shares = self._meter.share(report.usage, self._lengths)
            for item, share in zip(self._items, shares, strict=True):
                report.shares[item.id] = share
                item.spent += share
                item.estimated |= report.estimated
