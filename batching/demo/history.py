"""Generates believable history: when requests came, in which batches, and how each one ended.

Nothing here uses the database or the clock: the same arguments and seed generate the same rows.
"""

import json
import math
import random
from bisect import bisect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import accumulate

from batching.demo.texts import draw_answer, draw_prompt, draw_usernames
from batching.engine import errors
from batching.engine.lanes import DEFAULT_BUDGET, LaneRule, Priority, Scope, estimate_tokens
from batching.engine.prompt import combine
from batching.engine.runner import MAX_ATTEMPTS
from batching.engine.usage import apportion
from batching.models import Batch, CallKind, CallStatus, ModelCall, Outcome, Trigger
from batching.store.lane_rules import describe_rule
from chats.models import Chat, Status

# The owner of demo rows. The names of real owners contain a `#`.
DEMO_OWNER = "seed_demo"
PRIORITIES, PRIORITY_WEIGHTS = (Priority.HIGH, Priority.MEDIUM, Priority.LOW), (32, 46, 22)
UNSENT = 0.08  # Share of the lone requests that never leave the queue.
CANCELLED = 0.8  # Share of the unsent requests that are cancelled; the others expire.
SETTLED = timedelta(minutes=1)  # All requests have ended this long after the longest deadline.
MILLISECOND = timedelta(milliseconds=1)
TOKEN_KINDS = ("prompt", "output", "thoughts", "cached")

FAILING = 0.015  # Share of the model calls that fail.
CALL_ERRORS = (
    errors.UpstreamUnavailable("The model service answered 429 RESOURCE_EXHAUSTED."),
    errors.UpstreamUnavailable("The model service answered 503 UNAVAILABLE."),
    errors.UpstreamError("The model service answered 400 FAILED_PRECONDITION."),
    errors.TimedOut(),
)
# How an item of a complete call ends, with the call's finish reason.
ITEM_ENDS: dict[errors.GatewayError | None, str] = {
    None: "STOP",
    errors.MissingAnswer(): "STOP",
    errors.Blocked("The model stopped this answer (SAFETY)."): "SAFETY",
    errors.Truncated(): "MAX_TOKENS",
}
FIRST_WEIGHTS, RETRY_WEIGHTS = (985, 15, 0, 0), (60, 25, 10, 5)
RETRIED = (errors.UpstreamUnavailable, errors.MissingAnswer)

Chats = Sequence[Chat]
Carried = tuple[ModelCall, Chats]
Ends = Sequence[errors.GatewayError | None]


@dataclass(slots=True)
class DemoBatch:
    """Unsaved rows of one batch, or without `batch` of one request that never left the queue."""

    batch: Batch | None
    chats: list[Chat]
    calls: list[Carried] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class DemoHistory:
    """The history of `count` requests over `weeks`. It ends a little before `now`, in UTC."""

    count: int
    weeks: int
    now: datetime
    rules: Mapping[Priority, LaneRule]
    model: str
    chance: random.Random

    def generate(self) -> Iterator[DemoBatch]:
        """Yields batches in the order of their claims."""
        hours, waits_s = self.weeks * 7 * 24, [r.longest_wait_s for r in self.rules.values()]
        start = self.now - timedelta(hours=hours, seconds=max(waits_s)) - SETTLED
        weights = [_weigh(start + timedelta(hours=hour)) for hour in range(hours)]
        sums, busiest, made = list(accumulate(weights)), max(weights), 0
        while made < self.count:
            due = sums[-1] * made / self.count
            hour = bisect(sums, due)
            at = start + timedelta(hours=hour + 1 - (sums[hour] - due) / weights[hour])
            rule = self.rules[self.chance.choices(PRIORITIES, PRIORITY_WEIGHTS)[0]]
            share = 0.25 + 0.45 * weights[hour] / busiest
            size = 1 + sum(self.chance.random() < share for _ in range(rule.max_batch - 1))
            size = min(size, self.count - made)
            made += size
            unsent = size == 1 and self.chance.random() < UNSENT
            yield self._make_unsent(at, rule) if unsent else self._make_batch(at, rule, size)

    def _make_unsent(self, at: datetime, rule: LaneRule) -> DemoBatch:
        (chat,) = self._make_chats([at], rule)
        if self.chance.random() < CANCELLED:
            end = at + (min(chat.due_at, chat.deadline) - at) * self.chance.random()
            _end(chat, end, errors.Cancelled(), Status.CANCELLED)
        else:
            _end(chat, chat.deadline, errors.TimedOut(), Status.EXPIRED)
        return DemoBatch(None, [chat])

    def _make_batch(self, at: datetime, rule: LaneRule, size: int) -> DemoBatch:
        full = size == rule.max_batch
        late_s = 0.0 if full else self.chance.expovariate(300)
        oldest_s = late_s + rule.window_s * (self.chance.uniform(0.1, 0.95) if full else 1.0)
        waits_s = sorted([-oldest_s, *(-self.chance.random() * oldest_s for _ in range(size - 1))])
        batch = Batch(
            priority=int(rule.priority), trigger=Trigger.FULL if full else Trigger.WINDOW,
            size=size, model=self.model, settings=describe_rule(rule), owner=DEMO_OWNER,
            lateness_ms=round(late_s * 1000, 3), created_at=at, finished_at=at, rolled_up=True,
        )  # fmt: skip
        chats = self._make_chats([at + timedelta(seconds=wait_s) for wait_s in waits_s], rule)
        for chat in chats:
            chat.batch, chat.dispatched_at = batch, at
            chat.queue_ms = (at - chat.received_at) // MILLISECOND
        calls = list(self._make_calls(batch, chats, rule))
        statuses = {str(chat.status) for chat in chats}
        batch.outcome = Outcome.PARTIAL if len(statuses) > 1 else Outcome(statuses.pop())
        return DemoBatch(batch, chats, calls)

    def _make_chats(self, times: Sequence[datetime], rule: LaneRule) -> list[Chat]:
        usernames = draw_usernames(self.chance, len(times))
        if rule.scope is Scope.USERNAME:
            usernames = usernames[:1] * len(times)
        return [
            Chat(
                # The id begins with the time, as a UUIDv7 does, so that indexes grow at their end.
                request_id=f"{int(at.timestamp() * 1000):012x}7{self.chance.getrandbits(76):019x}",
                username=username, prompt=draw_prompt(self.chance), priority=int(rule.priority),
                owner=DEMO_OWNER, rolled_up=True, created_at=at, received_at=at,
                due_at=at + timedelta(seconds=rule.window_s),
                deadline=at + timedelta(seconds=rule.longest_wait_s),
            )
            for username, at in zip(usernames, times, strict=True)
        ]  # fmt: skip

    def _make_calls(self, batch: Batch, chats: Chats, rule: LaneRule) -> Iterator[Carried]:
        """Makes calls until each chat has ended, as the engine's runner does."""
        pending = [(chats, batch.created_at)]
        while pending:
            chats, start = pending.pop()
            call = self._make_call(chats, rule, start)
            yield call, chats
            end = start + (call.duration_ms or 0) * MILLISECOND
            batch.finished_at = max(batch.finished_at or end, end)
            left = [chat for chat in chats if chat.status == Status.QUEUED]
            if left and call.error_code:
                pending.append((left, end + timedelta(seconds=self.chance.uniform(0.5, 2))))
            else:
                pending += [([chat], end) for chat in left]

    def _make_call(self, chats: Chats, rule: LaneRule, start: datetime) -> ModelCall:
        """Makes a call, and ends those of its chats that need no further one."""
        prompt = combine(
            [chat.prompt for chat in chats], model=self.model, style=rule.style,
            output_tokens=rule.tokens * len(chats), budget=DEFAULT_BUDGET,
            draw=lambda: f"{self.chance.getrandbits(40):010x}",
        )  # fmt: skip
        call = ModelCall(
            batch=chats[0].batch, priority=int(rule.priority), attempt=chats[0].attempt + 1,
            kind=CallKind.SINGLE if len(chats) == 1 else CallKind.COMBINED,
            model=self.model, prompt=str(prompt), started_at=start, rolled_up=True,
        )  # fmt: skip
        failing = self.chance.random() < FAILING
        ends = self._fail(call, chats) if failing else self._reply(call, chats, prompt.keys)
        duration_ms = call.duration_ms or 0
        first_ms = call.first_token_ms or duration_ms
        for number, (chat, error) in enumerate(zip(chats, ends, strict=True), 1):
            chat.attempt = call.attempt
            if chat.attempt == MAX_ATTEMPTS or not isinstance(error, RETRIED):
                after_ms = first_ms + (duration_ms - first_ms) * number // len(chats)
                _end(chat, start + after_ms * MILLISECOND, error)
        return call

    def _fail(self, call: ModelCall, chats: Chats) -> Ends:
        error = self.chance.choice(CALL_ERRORS)
        call.status, call.error_code, call.error_detail = CallStatus.FAILED, error.code, str(error)
        call.duration_ms = self.chance.randint(30, 300)
        if isinstance(error, errors.TimedOut):
            wait = max(chat.deadline for chat in chats) - call.started_at
            call.duration_ms, call.perhaps_billed = max(300, wait // MILLISECOND), True
        return [error] * len(chats)

    def _reply(self, call: ModelCall, chats: Chats, keys: Sequence[str]) -> Ends:
        chance, rule = self.chance, self.rules[Priority(call.priority)]
        weights = RETRY_WEIGHTS if call.attempt > 1 and len(chats) == 1 else FIRST_WEIGHTS
        ends = chance.choices(list(ITEM_ENDS), weights, k=len(chats))
        for chat, error in zip(chats, ends, strict=True):
            chat.text = None if error else draw_answer(chance, chat.prompt)
        answers = {key: chat.text for key, chat in zip(keys, chats, strict=True) if chat.text}
        call.status, call.reply = CallStatus.COMPLETE, json.dumps(answers, ensure_ascii=False)
        call.finish_reason = ITEM_ENDS[ends[0]]
        median_ms = max(100.0, (rule.latency_s - rule.window_s) * 700)
        call.duration_ms = int(min(8000.0, median_ms * chance.lognormvariate(0, 0.35)))
        call.first_token_ms = int(call.duration_ms * chance.uniform(0.3, 0.6))
        self._share_tokens(call, chats)
        return ends

    def _share_tokens(self, call: ModelCall, chats: Chats) -> None:
        prompt, output = estimate_tokens(call.prompt), estimate_tokens(call.reply)
        thoughts = int(self.chance.lognormvariate(3.2, 0.7)) + 20 * len(chats)
        cached = prompt // 3 if self.chance.random() < 0.3 else 0
        weights = [len(chat.prompt) + len(chat.text or "") for chat in chats]
        for kind, total in zip(TOKEN_KINDS, (prompt, output, thoughts, cached), strict=True):
            setattr(call, f"{kind}_tokens", total)
            for chat, share in zip(chats, apportion(total, weights), strict=True):
                setattr(chat, f"settled_{kind}", getattr(chat, f"settled_{kind}") + share)


def _weigh(hour: datetime) -> float:
    """How busy an hour is: least at 2:00, and less busy at weekends."""
    week = 0.4 if hour.weekday() >= 5 else 1.0
    return week * (1.2 - math.cos(math.tau * (hour.hour - 2) / 24))


def _end(
    chat: Chat, at: datetime, error: errors.GatewayError | None, status: Status = Status.FAILED
) -> None:
    chat.completed_at = at
    if chat.dispatched_at:
        chat.latency_ms = (at - chat.received_at) // MILLISECOND
    if error:
        chat.status, chat.error_code, chat.error_detail = status, error.code, str(error)
        return
    chat.status, chat.finish_reason = Status.DONE, "STOP"
    usage = {f"{kind}_tokens": getattr(chat, f"settled_{kind}") for kind in TOKEN_KINDS}
    chat.tokens_used = sum(usage.values()) - chat.settled_cached
    chat.usage = usage | {"total_tokens": chat.tokens_used}
