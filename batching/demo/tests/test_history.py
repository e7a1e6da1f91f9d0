"""The demo history before it is stored: the exact number, the order, and plausible values."""

import random
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from batching.demo.history import DemoBatch, DemoHistory
from batching.demo.texts import ANSWER_MARK, USERNAME_PREFIX
from batching.engine.errors import ERRORS_BY_CODE
from batching.engine.lanes import LaneRule, Priority, Scope
from batching.engine.runner import MAX_ATTEMPTS
from batching.models import CallKind, CallStatus, ModelCall, Outcome, Trigger
from chats.models import FINAL_STATUSES, Chat, Status

NOW = datetime(2026, 6, 10, 15, 30, tzinfo=UTC)
RULES = {
    priority: LaneRule(priority, window_s, max_batch, 1000, latency_s, 10_000, style="Short.")
    for priority, window_s, max_batch, latency_s in [
        (Priority.HIGH, 0.2, 6, 0.5),
        (Priority.MEDIUM, 1.0, 4, 2.0),
        (Priority.LOW, 4.0, 4, 5.0),
    ]
}
KINDS = ("prompt", "output", "thoughts", "cached")


def generate(
    count: int = 3000, *, seed: int = 1, weeks: int = 6, rules: dict[Priority, LaneRule] = RULES
) -> list[DemoBatch]:
    history = DemoHistory(count, weeks, NOW, rules, model="m", chance=random.Random(seed))
    return list(history.generate())


@pytest.fixture(scope="module")
def history() -> list[DemoBatch]:
    return generate()


def chats_of(entries: list[DemoBatch]) -> list[Chat]:
    return [chat for entry in entries for chat in entry.chats]


def calls_of(entries: list[DemoBatch]) -> list[ModelCall]:
    return [call for entry in entries for call, _ in entry.calls]


def describe(entries: list[DemoBatch]) -> list[Any]:
    rows = [row for entry in entries for row in (entry.batch, *entry.chats) if row is not None]
    return [
        {name: value for name, value in vars(row).items() if name != "_state"}
        for row in [*rows, *calls_of(entries)]
    ]


@pytest.mark.parametrize("count", [1, 7, 500])
@pytest.mark.parametrize("weeks", [1, 6])
def test_number_of_chats_is_exact(count: int, weeks: int) -> None:
    assert len(chats_of(generate(count, weeks=weeks))) == count


def test_same_seed_generates_the_same_history() -> None:
    assert describe(generate(200)) == describe(generate(200))
    assert describe(generate(200)) != describe(generate(200, seed=2))


def test_times_are_in_order_and_past(history: list[DemoBatch]) -> None:
    for entry in history:
        for chat in entry.chats:
            assert chat.created_at == chat.received_at <= chat.completed_at < NOW
            assert chat.received_at > NOW - timedelta(weeks=6, hours=1)
            assert chat.completed_at <= max(other.deadline for other in entry.chats) < NOW
            if entry.batch is not None:
                assert chat.received_at <= chat.dispatched_at <= chat.completed_at
                assert chat.dispatched_at == entry.batch.created_at
                assert entry.batch.created_at <= chat.completed_at <= entry.batch.finished_at < NOW
        for call, _ in entry.calls:
            assert entry.batch.created_at <= call.started_at
            end = call.started_at + timedelta(milliseconds=call.duration_ms)
            assert end <= entry.batch.finished_at
            assert call.first_token_ms is None or call.first_token_ms <= call.duration_ms


def test_batches_are_in_the_order_of_their_claims(history: list[DemoBatch]) -> None:
    claims = [entry.batch.created_at for entry in history if entry.batch is not None]
    assert claims == sorted(claims)


def test_milliseconds_agree_with_the_times(history: list[DemoBatch]) -> None:
    for chat in chats_of(history):
        if chat.latency_ms is not None:
            latency = (chat.completed_at - chat.received_at) / timedelta(milliseconds=1)
            assert abs(latency - chat.latency_ms) <= 1
            queue = (chat.dispatched_at - chat.received_at) / timedelta(milliseconds=1)
            assert abs(queue - chat.queue_ms) <= 1


def test_batches_leave_full_or_after_their_window(history: list[DemoBatch]) -> None:
    batches = [entry for entry in history if entry.batch is not None]
    for entry in batches:
        rule = RULES[Priority(entry.batch.priority)]
        oldest_ms = max(chat.queue_ms for chat in entry.chats)
        assert entry.batch.size == len(entry.chats) <= rule.max_batch
        assert {chat.priority for chat in entry.chats} == {entry.batch.priority}
        if entry.batch.trigger == Trigger.FULL:
            assert (entry.batch.size, entry.batch.lateness_ms) == (rule.max_batch, 0)
            assert oldest_ms < rule.window_s * 1000
        else:
            assert abs(rule.window_s * 1000 + entry.batch.lateness_ms - oldest_ms) <= 1
    triggers = Counter(entry.batch.trigger for entry in batches)
    assert 0 < triggers[Trigger.FULL] < triggers[Trigger.WINDOW]
    assert {entry.batch.size for entry in batches} == {1, 2, 3, 4, 5, 6}
    assert {entry.batch.outcome for entry in batches} == set(Outcome) - {Outcome.RUNNING}


def test_outcome_of_a_batch_agrees_with_its_chats(history: list[DemoBatch]) -> None:
    for entry in history:
        if entry.batch is not None:
            done = sum(chat.status == Status.DONE for chat in entry.chats)
            assert (entry.batch.outcome == Outcome.DONE) == (done == entry.batch.size)
            assert (entry.batch.outcome == Outcome.FAILED) == (done == 0)


def test_shares_sum_to_the_tokens_of_the_calls(history: list[DemoBatch]) -> None:
    for entry in history:
        for kind in KINDS:
            settled = sum(getattr(chat, f"settled_{kind}") for chat in entry.chats)
            used = sum(getattr(call, f"{kind}_tokens") or 0 for call, _ in entry.calls)
            assert settled == used
    for chat in chats_of(history):
        if chat.status == Status.DONE:
            parts = [chat.usage[f"{kind}_tokens"] for kind in KINDS]
            assert parts == [getattr(chat, f"settled_{kind}") for kind in KINDS]
            assert chat.tokens_used == chat.usage["total_tokens"] == sum(parts[:3])


def test_each_call_carries_chats_without_an_answer(history: list[DemoBatch]) -> None:
    for entry in history:
        carried = Counter(chat.request_id for _, chats in entry.calls for chat in chats)
        assert carried == +Counter({chat.request_id: chat.attempt for chat in entry.chats})
        assert all(1 <= call.attempt <= MAX_ATTEMPTS for call, _ in entry.calls)
        for call, chats in entry.calls:
            single = len(chats) == 1
            assert call.kind == (CallKind.SINGLE if single else CallKind.COMBINED)
            assert (call.status == CallStatus.FAILED) == bool(call.error_code)
            assert all(chat.attempt >= call.attempt for chat in chats)


def test_requests_end_in_every_possible_way() -> None:
    entries = generate(6000)
    chats, calls = chats_of(entries), calls_of(entries)
    assert {chat.status for chat in chats} == set(FINAL_STATUSES)
    failed = [chat.error_code for chat in chats if chat.status != Status.DONE]
    assert 0.005 < len(failed) / len(chats) < 0.06
    codes = {"blocked", "truncated", "missing_answer", "timeout", "cancelled", "upstream_error"}
    assert codes <= set(failed) <= set(ERRORS_BY_CODE)
    assert {call.attempt for call in calls} == {1, 2, 3}
    assert {call.perhaps_billed for call in calls} == {True, False}
    assert {"STOP", "SAFETY", "MAX_TOKENS"} <= {call.finish_reason for call in calls}
    assert 0.01 < sum(call.attempt > 1 for call in calls) / len(calls) < 0.15
    answered = [chat for chat in chats if chat.status == Status.DONE]
    assert all(chat.text.startswith(ANSWER_MARK) for chat in answered)
    assert len({chat.text for chat in answered}) > len(answered) * 0.8
    assert not any(chat.text for chat in chats if chat.status != Status.DONE)


def test_nights_and_weekends_are_quiet() -> None:
    received = [chat.received_at for chat in chats_of(generate(4000))]
    by_hour = Counter(time.hour for time in received)
    by_weekday = Counter(time.weekday() for time in received)
    assert by_hour[10] > 4 * by_hour[3]
    assert by_weekday[2] > 2 * by_weekday[6]


def test_usernames_and_priorities_are_used_unevenly(history: list[DemoBatch]) -> None:
    chats = chats_of(history)
    uses = Counter(chat.username for chat in chats)
    assert 20 < len(uses) < 50
    assert all(name.startswith(USERNAME_PREFIX) for name in uses)
    assert max(uses.values()) > 10 * min(uses.values())
    shares = Counter(chat.priority for chat in chats)
    assert all(0.1 < shares[priority] / len(chats) < 0.6 for priority in Priority)


def test_lane_may_have_any_rule() -> None:
    rules = {
        priority: LaneRule(priority, window_s, max_batch, 1, 0.001, 1, scope=Scope.USERNAME)
        for priority, window_s, max_batch in [
            (Priority.HIGH, 0.0, 1),
            (Priority.MEDIUM, 3600.0, 100),
            (Priority.LOW, 60.0, 2),
        ]
    }
    entries = generate(2000, rules=rules)
    assert all(chat.completed_at < NOW for chat in chats_of(entries))
    assert all(len({chat.username for chat in entry.chats}) == 1 for entry in entries)
    assert max(entry.batch.size for entry in entries if entry.batch) > 20
