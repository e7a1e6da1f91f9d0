"""One batch of the demo history: its calls with their retries, and how each request ended."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from batching.demo.rows import DEMO_OWNER, DemoBatch, Departure, Mould, describe_rule, make_chat
from batching.demo.texts import draw_answer, draw_usernames, write_reply
from batching.engine.errors import (
    Blocked,
    GatewayError,
    MissingAnswer,
    TimedOut,
    Truncated,
    UpstreamError,
    UpstreamUnavailable,
)
from batching.engine.lanes import Scope, TokenBudget, estimate_tokens
from batching.engine.prompt import CombinedPrompt, combine
from batching.engine.retries import backoff_s
from batching.engine.runner import MAX_ATTEMPTS
from batching.engine.usage import TokenUsage, share_usage
from batching.llm.simulated.answers import count_tokens
from batching.models import Batch, CallKind, CallStatus, ModelCall, Outcome, Trigger
from chats.models import Chat, Status

DEFAULT_BUDGET = TokenBudget()
MODEL_SHARE = 0.7
"""the median call's part of the time that the latency target leaves beside the window"""
MAX_CALL_S = 8.0

MISSING, MISSING_FOR_GOOD = 0.012, 0.05  # of items; of those
BLOCKED, TRUNCATED = 0.0025, 0.0015
OUT_OF_TIME, REFUSED_FOR_GOOD = 0.0012, 0.0006  # of batches
REFUSED_AGAIN = 0.3  # of refused calls
ESTIMATED = 0.8  # of answers that close before the last of their call

REFUSALS = (
    ("The model service answered 503 UNAVAILABLE.", False),
    ("The model service answered 429 RESOURCE_EXHAUSTED.", False),
    ("The call to the model service broke off (RemoteProtocolError).", True),
)
STOPS: dict[str, GatewayError] = {
    "SAFETY": Blocked("The model stopped this answer (SAFETY)."),
    "MAX_TOKENS": Truncated(),
}

_BATCHES = Mould(Batch, owner=DEMO_OWNER, rolled_up=True)
_CALLS = Mould(ModelCall, rolled_up=True)


@dataclass(slots=True)
class _Item:
    """`misses`: how many replies lack its answer. `stop`: how every reply that reaches it ends."""

    place: int
    chat: Chat
    wait_s: float
    answer: str
    misses: int
    stop: str


def make_batch(chance: random.Random, departure: Departure) -> DemoBatch:
    return _Story(chance, departure).tell()


class _Story:
    """Follows the items of one batch as the runner would. Times are seconds since the claim."""

    def __init__(self, chance: random.Random, departure: Departure) -> None:
        self._chance = chance
        self._departure = departure
        self._rule = departure.rule
        self._calls: list[ModelCall] = []
        self._ended_s = 0.0
        self._refusals = self._draw_refusals()
        full = departure.size >= self._rule.max_batch
        late_s = 0.0 if full else chance.expovariate(1 / 0.003) * departure.weather.slowness
        self._batch = _BATCHES.make(
            priority=int(self._rule.priority),
            trigger=(Trigger.FULL if full else Trigger.WINDOW).value,
            size=departure.size,
            model=departure.model,
            settings=describe_rule(self._rule),
            lateness_ms=round(late_s * 1000, 3),
            created_at=departure.at,
        )
        portion = chance.uniform(0.1, 0.95) if full else 1.0
        self._items = self._make_items(oldest_s=self._rule.window_s * portion + late_s)

    def tell(self) -> DemoBatch:
        self._run_call(self._items, attempt=1, at_s=0.0)
        done = sum(item.chat.status == Status.DONE for item in self._items)
        partly = Outcome.DONE if done == len(self._items) else Outcome.PARTIAL
        self._batch.outcome = (partly if done else Outcome.FAILED).value
        self._batch.finished_at = self._moment(self._ended_s)
        return DemoBatch(self._batch, [item.chat for item in self._items], self._calls)

    def _draw_refusals(self) -> int:
        chance, refusals = self._chance, 0
        probability = self._departure.weather.refusing
        while refusals < MAX_ATTEMPTS and chance.random() < probability:
            refusals, probability = refusals + 1, REFUSED_AGAIN
        return refusals

    def _make_items(self, *, oldest_s: float) -> list[_Item]:
        chance, size = self._chance, self._departure.size
        waits = [oldest_s, *(chance.random() * oldest_s for _ in range(size - 1))]
        waits.sort(reverse=True)
        if self._rule.scope is Scope.USERNAME:
            usernames = draw_usernames(chance, count=1) * size
        else:
            usernames = draw_usernames(chance, count=size)
        return [
            self._make_item(place, wait_s, username)
            for place, (wait_s, username) in enumerate(zip(waits, usernames, strict=True))
        ]

    def _make_item(self, place: int, wait_s: float, username: str) -> _Item:
        chance, rule = self._chance, self._rule
        at = self._moment(-wait_s)
        chat, subject = make_chat(chance, rule, at=at, username=username)
        chat.dispatched_at = self._departure.at
        chat.queue_ms = round(wait_s * 1000)
        answer = draw_answer(chance, subject=subject, priority=rule.priority)
        misses, stop, draw = 0, "", chance.random()
        if draw < MISSING:
            misses = MAX_ATTEMPTS if chance.random() < MISSING_FOR_GOOD else 1
        elif draw < MISSING + BLOCKED:
            stop = "SAFETY"
        elif draw < MISSING + BLOCKED + TRUNCATED:
            stop = "MAX_TOKENS"
        return _Item(place, chat, wait_s, answer, misses, stop)

    def _run_call(self, items: Sequence[_Item], *, attempt: int, at_s: float) -> None:
        for item in items:
            item.chat.attempt = attempt
        prompt = self._combine(items)
        call = _CALLS.make(
            priority=self._departure.rule.priority.value,
            kind=(CallKind.SINGLE if len(items) == 1 else CallKind.COMBINED).value,
            attempt=attempt,
            model=self._departure.model,
            item_ids=[item.place for item in items],
            prompt=str(prompt),
            started_at=self._moment(at_s),
        )
        self._calls.append(call)
        draw = self._chance.random()
        if attempt <= self._refusals:
            self._refuse(call, items, at_s=at_s)
        elif draw < OUT_OF_TIME:
            last_s = max(self._rule.longest_wait_s - item.wait_s for item in items)
            end_s = max(last_s, at_s)
            self._fail_call(call, items, TimedOut(), billed=True, at_s=at_s, end_s=end_s)
        elif draw < OUT_OF_TIME + REFUSED_FOR_GOOD:
            error = UpstreamError("The model service answered 400 FAILED_PRECONDITION.")
            self._fail_call(call, items, error, billed=False, at_s=at_s, end_s=at_s + 0.1)
        else:
            self._reply(call, items, prompt=prompt, at_s=at_s)

    def _refuse(self, call: ModelCall, items: Sequence[_Item], *, at_s: float) -> None:
        """The service is overloaded: the same items again after a pause, while attempts last."""
        detail, billed = self._chance.choice(REFUSALS)
        end_s = at_s + self._chance.uniform(0.03, 0.3)
        error = UpstreamUnavailable(detail)
        last = call.attempt >= MAX_ATTEMPTS
        self._fail_call(call, items if last else (), error, billed=billed, at_s=at_s, end_s=end_s)
        if not last:
            pause_s = backoff_s(call.attempt, retry_after_s=None, rng=self._chance)
            self._run_call(items, attempt=call.attempt + 1, at_s=end_s + pause_s)

    def _fail_call(
        self,
        call: ModelCall,
        items: Sequence[_Item],
        error: GatewayError,
        *,
        billed: bool,
        at_s: float,
        end_s: float,
    ) -> None:
        """Ends the call with an error, and those items that have no other chance."""
        call.status = CallStatus.FAILED.value
        call.error_code, call.error_detail = error.code, str(error)
        call.perhaps_billed = billed
        call.duration_ms = round((end_s - at_s) * 1000)
        for item in items:
            self._fail_item(item, error, at_s=end_s)

    def _reply(
        self, call: ModelCall, items: Sequence[_Item], *, prompt: CombinedPrompt, at_s: float
    ) -> None:
        stopped = next((place for place, item in enumerate(items) if item.stop), len(items))
        answers = [
            item.answer if place < stopped and item.misses < call.attempt else ""
            for place, item in enumerate(items)
        ]
        call.status = CallStatus.COMPLETE.value
        call.finish_reason = items[stopped].stop if stopped < len(items) else "STOP"
        call.reply = write_reply(prompt.keys, answers, cut=stopped < len(items))
        self._settle(call, items, answers)
        duration_s = self._draw_duration_s()
        first_s = duration_s * self._chance.uniform(0.3, 0.6)
        call.first_token_ms = round(first_s * 1000)
        call.duration_ms = round(duration_s * 1000)
        step_s = (duration_s - first_s) * 0.97 / len(items)
        last = max((place for place, answer in enumerate(answers) if answer), default=0)
        for place, (item, answer) in enumerate(zip(items, answers, strict=True)):
            if answer:
                early = place < last and self._chance.random() < ESTIMATED
                end_s = at_s + first_s + step_s * (place + 1)
                self._answer_item(item, call.finish_reason, early=early, at_s=end_s)
        left = [item for item, answer in zip(items, answers, strict=True) if not answer]
        self._follow(call, left, alone=len(items) == 1, at_s=at_s + duration_s)

    def _follow(self, call: ModelCall, left: Sequence[_Item], *, alone: bool, at_s: float) -> None:
        """Each item without an answer is asked again alone, unless that would not help."""
        self._ended_s = max(self._ended_s, at_s)
        for item in left:
            if alone and item.stop:
                self._fail_item(item, STOPS[item.stop], at_s=at_s)
            elif call.attempt >= MAX_ATTEMPTS:
                self._fail_item(item, MissingAnswer(), at_s=at_s)
            else:
                self._run_call([item], attempt=call.attempt + 1, at_s=at_s + 0.005)

    def _settle(self, call: ModelCall, items: Sequence[_Item], answers: Sequence[str]) -> None:
        """Draws what the call cost, and gives each item its share of it."""
        chance, prompt_tokens = self._chance, count_tokens(call.prompt)
        usage = TokenUsage(
            prompt=prompt_tokens,
            output=count_tokens(call.reply),
            thoughts=int(chance.lognormvariate(3.2, 0.7)) + 20 * len(items),
            cached=prompt_tokens // 3 if chance.random() < 0.3 else 0,
        )
        call.prompt_tokens, call.output_tokens = usage.prompt, usage.output
        call.thoughts_tokens, call.cached_tokens = usage.thoughts, usage.cached
        shares = share_usage(
            usage,
            prompt_weights=[len(item.chat.prompt) for item in items],
            output_weights=[len(answer) for answer in answers],
        )
        for item, share in zip(items, shares, strict=True):
            item.chat.settled_prompt += share.prompt
            item.chat.settled_output += share.output
            item.chat.settled_thoughts += share.thoughts
            item.chat.settled_cached += share.cached

    def _answer_item(self, item: _Item, reason: str, *, early: bool, at_s: float) -> None:
        chat = item.chat
        output = estimate_tokens(item.answer) if early else chat.settled_output
        chat.status, chat.text = Status.DONE.value, item.answer
        chat.finish_reason = "STOP" if early else reason
        chat.tokens_used = chat.settled_prompt + output + chat.settled_thoughts
        chat.usage = {
            "prompt_tokens": chat.settled_prompt,
            "output_tokens": output,
            "thoughts_tokens": chat.settled_thoughts,
            "cached_tokens": chat.settled_cached,
            "total_tokens": chat.tokens_used,
        }
        if early:
            chat.usage["estimated"] = True
        self._end_item(item, at_s=at_s)

    def _fail_item(self, item: _Item, error: GatewayError, *, at_s: float) -> None:
        item.chat.status = Status.FAILED.value
        item.chat.error_code, item.chat.error_detail = error.code, str(error)
        self._end_item(item, at_s=at_s)

    def _end_item(self, item: _Item, *, at_s: float) -> None:
        item.chat.completed_at = self._moment(at_s)
        item.chat.latency_ms = round((item.wait_s + at_s) * 1000)
        self._ended_s = max(self._ended_s, at_s)

    def _draw_duration_s(self) -> float:
        left_s = max(0.1, self._rule.latency_s - self._rule.window_s)
        median_s = MODEL_SHARE * left_s * self._departure.weather.slowness
        return min(MAX_CALL_S, median_s * self._chance.lognormvariate(0, 0.35))

    def _combine(self, items: Sequence[_Item]) -> CombinedPrompt:
        return combine(
            [item.chat.prompt for item in items],
            model=self._departure.model,
            style=self._rule.style,
            output_tokens=self._rule.tokens * len(items),
            draw=lambda: f"{self._chance.getrandbits(40):010x}",
            budget=DEFAULT_BUDGET,
        )

    def _moment(self, at_s: float) -> datetime:
        return self._departure.at + timedelta(seconds=at_s)
