"""One model call: reads its reply, releases each answer when its value closes, and reports."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

from batching.engine.deltas import DeltaReader, TextDelta
from batching.engine.errors import GatewayError
from batching.engine.lanes import estimate_tokens
from batching.engine.leaks import AnswerCheck
from batching.engine.model import CallFailed, Model, Piece
from batching.engine.prompt import CombinedPrompt
from batching.engine.retries import (
    RetryDecision,
    broken_off,
    decide_after_failure,
    decide_after_reply,
    out_of_time,
    stalled,
)
from batching.engine.splitter import Splitter
from batching.engine.usage import TokenUsage, share_usage

SETTLE_S = 0.25
"""how long a quote at the end of what came may turn out to be one that was not escaped"""
TAIL_S = 5.0
"""how long the rest of a reply is read after its last answer, to learn what the call cost"""


@dataclass(slots=True)
class BatchItem:
    """An item on its way through calls. Times are event-loop seconds."""

    id: int
    prompt: str
    output_tokens: int
    deadline: float
    target: float
    attempts: int = 0
    streamed: bool = False
    """its client reads the answer while it is written"""
    finished: bool = False
    calling: bool = False
    """a call that counts among `attempts` has not ended"""
    request_id: str = ""
    called: float | None = None
    """when its first call began"""
    suspicion: str = ""
    """why an answer to it was not trusted; it is asked for again alone"""
    spent: TokenUsage = field(default_factory=TokenUsage)
    """its share of the calls that have ended"""


@dataclass(frozen=True, slots=True)
class Answer:
    text: str
    finish_reason: str
    usage: TokenUsage
    estimated: bool
    """released before the call's own count was known"""


@dataclass(frozen=True, slots=True)
class PreparedCall:
    """A call that is recorded as started; `id` is its record's."""

    id: int
    prompt: CombinedPrompt


@dataclass(slots=True)
class CallReport:
    """What became of a call. `shares` holds each item's part of `usage`, by item id."""

    call: PreparedCall
    reply: str = ""
    finish_reason: str = ""
    error: GatewayError | None = None
    perhaps_billed: bool = False
    usage: TokenUsage | None = None
    shares: dict[int, TokenUsage] = field(default_factory=dict)
    first_token_s: float | None = None
    duration_s: float = 0.0
    request_ids: tuple[str, ...] = ()


class Call:
    """Reads one reply. `release` is told each answer as soon as it is whole."""

    def __init__(
        self,
        call: PreparedCall,
        items: Sequence[BatchItem],
        *,
        model: Model,
        release: Callable[[BatchItem, Answer], None],
        suspect: Callable[[BatchItem, str], None],
        on_delta: Callable[[TextDelta], None] = lambda delta: None,
        alive: Callable[[], None] = lambda: None,
        clock: Callable[[], float],
        stall_s: float,
        hold: bool = False,
    ) -> None:
        self.report = CallReport(call, request_ids=tuple(item.request_id for item in items))
        self._prompt = call.prompt
        self._items = items
        self._model = model
        self._release = release
        self._suspect = suspect
        self._alive = alive
        self._settling: asyncio.TimerHandle | None = None
        self._tail_until: float | None = None
        self._hold = hold and len(items) > 1
        self._check = AnswerCheck(call.prompt.keys, [item.prompt for item in items])
        self._texts: dict[int, str] = {}
        """the trusted answers of a combined call, by index"""
        self._clock = clock
        self._stall_s = stall_s
        self._splitter = Splitter(call.prompt.keys)
        self._growth: DeltaReader | None = None
        if any(item.streamed for item in items) and not self._hold:
            self._growth = DeltaReader(
                call.id, items, splitter=self._splitter, check=self._check, tell=on_delta
            )
        self._block_reason: str | None = None
        self._lengths = [0] * len(items)
        self._started = clock()

    async def make(self) -> RetryDecision | None:
        """None if every item got its answer, else what to do about those that did not."""
        failure: CallFailed | None = None
        for item in self._items:
            item.attempts += 1
            item.calling = True
            item.called = self._started if item.called is None else item.called
        try:
            await self._read_reply()
        except CallFailed as raised:
            failure = raised
        except asyncio.CancelledError:
            task = asyncio.current_task()
            failure = broken_off("it was cancelled")
            self._stop_settling()
            if task is None or task.cancelling():
                self._complete_report(failure)
                raise
            # Nobody cancelled this task: the error came out of the client, and the items live on.
        for item in self._items:
            item.calling = False
        self._check_whole()
        if not self._unfinished:
            failure = None  # the end of the reply was lost, but every answer was there
        self._complete_report(failure)
        if not self._unfinished:
            return None
        if failure is not None:
            return decide_after_failure(failure)
        return decide_after_reply(
            finish_reason=self.report.finish_reason or None, block_reason=self._block_reason
        )

    @property
    def _unfinished(self) -> list[BatchItem]:
        return [item for item in self._items if not item.finished]

    @property
    def _deadline(self) -> float:
        """Until when somebody waits for this call."""
        unfinished = self._unfinished
        if not unfinished:
            # Fixed once: a model that goes on dripping must not hold its call slot for ever.
            self._tail_until = self._tail_until or self._clock() + TAIL_S
            return self._tail_until
        return max(item.deadline for item in unfinished)

    async def _read_reply(self) -> None:
        loop = asyncio.get_running_loop()
        timeout_s = max(0.001, self._deadline - self._clock())
        patience = self._patience_s()
        try:
            async with (
                asyncio.timeout(patience) as bound,
                aclosing(self._model.stream(self._prompt, timeout_s=timeout_s)) as reply,
            ):
                async for piece in reply:
                    self._take_piece(piece)
                    patience = self._patience_s()
                    bound.reschedule(loop.time() + patience)
        except TimeoutError:
            raise stalled(patience) if patience >= self._stall_s else out_of_time() from None

    def _patience_s(self) -> float:
        return min(self._stall_s, self._deadline - self._clock())

    def _take_piece(self, piece: Piece) -> None:
        report = self.report
        if piece.text and report.first_token_s is None:
            report.first_token_s = self._clock() - self._started
            self._alive()
        report.usage = piece.usage or report.usage
        report.finish_reason = piece.finish_reason or report.finish_reason
        self._block_reason = piece.block_reason or self._block_reason
        if piece.text:
            self._take_closed(self._splitter.feed(piece.text))
            if self._growth is not None:
                self._growth.look()
            self._stop_settling()
            if self._splitter.is_unsettled:
                loop = asyncio.get_running_loop()
                self._settling = loop.call_later(SETTLE_S, self._settle)

    def _stop_settling(self) -> None:
        if self._settling is not None:
            self._settling.cancel()
            self._settling = None

    def _settle(self) -> None:
        self._stop_settling()
        self._take_closed(self._splitter.settle())

    def _take_closed(self, closed: Mapping[int, str]) -> None:
        for index, text in closed.items():
            self._lengths[index] = len(text)
        for index, text in closed.items():
            self._judge(index, text)

    def _judge(self, index: int, text: str) -> None:
        """Releases an answer, keeps it until the reply's end, or does not trust it."""
        if len(self._items) > 1:
            if reason := self._check.find_leak(index, text):
                self._distrust(index, reason)
                return
            self._texts[index] = text
        if not self._hold:
            self._answer(index, text)

    def _check_whole(self) -> None:
        """What only all answers together show; then what was held back goes out."""
        self._settle()
        for index, reason in self._check.find_dictated(self._texts).items():
            self._distrust(index, reason)
        if self._hold:
            for index, text in self._texts.items():
                if not self._items[index].suspicion:
                    self._answer(index, text)

    def _distrust(self, index: int, reason: str) -> None:
        """An answer that is out already can only be marked."""
        self._items[index].suspicion = reason
        self._suspect(self._items[index], reason)

    def _answer(self, index: int, text: str) -> None:
        item = self._items[index]
        if item.finished:
            return
        item.finished = True
        usage, estimated = self._usage_of(index, text)
        finish_reason = self.report.finish_reason or "STOP"
        self._release(item, Answer(text, finish_reason, item.spent + usage, estimated))

    def _usage_of(self, index: int, text: str) -> tuple[TokenUsage, bool]:
        known = self.report.usage
        if known is not None and self.report.finish_reason:
            return self._shares(known)[index], False
        known = known or TokenUsage(prompt=estimate_tokens(str(self._prompt)))
        share = self._shares(known)[index]
        thoughts = known.thoughts // len(self._items)
        return TokenUsage(share.prompt, estimate_tokens(text), thoughts, share.cached), True

    def _shares(self, usage: TokenUsage) -> list[TokenUsage]:
        return share_usage(
            usage,
            prompt_weights=[len(item.prompt) for item in self._items],
            output_weights=self._lengths,
        )

    def _complete_report(self, failure: CallFailed | None) -> None:
        report = self.report
        report.reply = self._splitter.reply
        report.duration_s = self._clock() - self._started
        if failure is not None:
            report.error = failure.error
            report.perhaps_billed = failure.billable
        if report.usage is not None:
            shares = self._shares(report.usage)
            report.shares = {item.id: s for item, s in zip(self._items, shares, strict=True)}
            for item, share in zip(self._items, shares, strict=True):
                item.spent += share
