"""The demo history before it is stored: exact in number, in order, and believable."""

import random
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from batching.demo.history import Plan, generate_history
from batching.demo.rows import DemoBatch, describe_rule
from batching.demo.texts import MARK, USERNAME_PREFIX
from batching.engine.errors import ERRORS_BY_CODE
from batching.engine.lanes import LaneRule, Priority, Scope
from batching.engine.runner import MAX_ATTEMPTS
from batching.models import CallKind, CallStatus, ModelCall, Outcome, Trigger
from batching.store import lane_rules
from batching.store.lane_rules import current_rules
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
    chats: int = 3000, *, seed: int = 1, weeks: int = 6, rules: Any = RULES
) -> list[DemoBatch]:
    plan = Plan(chats=chats, weeks=weeks, now=NOW, rules=rules, model="m")
    return list(generate_history(random.Random(seed), plan))


@pytest.fixture(scope="module")
def history() -> list[DemoBatch]:
    return generate()


def chats_of(entries: list[DemoBatch]) -> list[Chat]:
    return [chat for entry in entries for chat in entry.chats]


def calls_of(entries: list[DemoBatch]) -> list[ModelCall]:
    return [call for entry in entries for call in entry.calls]


def describe(entries: list[DemoBatch]) -> list[Any]:
    rows = [row for e in entries for row in (e.batch, *e.chats, *e.calls) if row is not None]
    return [{k: v for k, v in vars(row).items() if k != "_state"} for row in rows]


@pytest.mark.parametrize("chats", [1, 7, 500])
@pytest.mark.parametrize("weeks", [1, 6])
def test_the_number_of_chats_is_exact(chats: int, weeks: int) -> None:
    assert len(chats_of(generate(chats, weeks=weeks))) == chats


def test_the_same_seed_gives_the_same_history() -> None:
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
        for call in entry.calls:
            assert entry.batch.created_at <= call.started_at
            end = call.started_at + timedelta(milliseconds=call.duration_ms - 1)
            assert end <= entry.batch.finished_at
            assert call.first_token_ms is None or call.first_token_ms <= call.duration_ms


def test_the_milliseconds_agree_with_the_times(history: list[DemoBatch]) -> None:
    for chat in chats_of(history):
        if chat.latency_ms is not None:
            latency, queue = chat.completed_at - chat.received_at, chat.dispatched_at
            assert abs(latency / timedelta(milliseconds=1) - chat.latency_ms) <= 1
            queue_ms = (queue - chat.received_at) / timedelta(milliseconds=1)
            assert abs(queue_ms - chat.queue_ms) <= 1


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


def test_shares_sum_to_what_the_calls_cost(history: list[DemoBatch]) -> None:
    for entry in history:
        for kind in KINDS:
            settled = sum(getattr(chat, f"settled_{kind}") for chat in entry.chats)
            assert settled == sum(getattr(call, f"{kind}_tokens") or 0 for call in entry.calls)
    told = [chat for chat in chats_of(history) if chat.usage and "estimated" not in chat.usage]
    for chat in told:
        parts = [chat.usage[f"{kind}_tokens"] for kind in KINDS]
        assert parts == [getattr(chat, f"settled_{kind}") for kind in KINDS]
        assert chat.tokens_used == chat.usage["total_tokens"] == sum(parts[:3])


def test_each_call_carries_what_had_no_answer_yet(history: list[DemoBatch]) -> None:
    for entry in history:
        carried = Counter(place for call in entry.calls for place in call.item_ids)
        attempts = {place: chat.attempt for place, chat in enumerate(entry.chats)}
        assert carried == +Counter(attempts)
        assert all(1 <= call.attempt <= MAX_ATTEMPTS for call in entry.calls)
        for call in entry.calls:
            single = len(call.item_ids) == 1
            assert call.kind == (CallKind.SINGLE if single else CallKind.COMBINED)
            assert (call.status == CallStatus.FAILED) == bool(call.error_code)
            assert all(entry.chats[p].attempt >= call.attempt for p in call.item_ids)


def test_it_ends_in_every_way_that_requests_end() -> None:
    entries = generate(6000)
    chats, calls = chats_of(entries), calls_of(entries)
    assert {chat.status for chat in chats} == set(FINAL_STATUSES)
    failed = [chat.error_code for chat in chats if chat.status != Status.DONE]
    assert 0.005 < len(failed) / len(chats) < 0.06
    codes = {"blocked", "truncated", "missing_answer", "timeout", "cancelled", "upstream_error"}
    assert codes < set(failed) <= set(ERRORS_BY_CODE)
    assert {call.attempt for call in calls} == {1, 2, 3}
    assert {call.perhaps_billed for call in calls} == {True, False}
    assert 0.01 < sum(call.attempt > 1 for call in calls) / len(calls) < 0.15
    answered = [chat for chat in chats if chat.status == Status.DONE]
    assert all(chat.text.startswith(MARK) for chat in answered)
    assert len({chat.text for chat in answered}) > len(answered) * 0.8


def test_days_nights_and_weekends_differ_and_it_grows() -> None:
    received = [chat.received_at for chat in chats_of(generate(4000))]
    by_hour = Counter(moment.hour for moment in received)
    by_weekday = Counter(moment.weekday() for moment in received)
    assert by_hour[10] > 4 * by_hour[3]
    assert by_weekday[2] > 2 * by_weekday[6]
    middle = NOW - timedelta(weeks=3)
    assert sum(m > middle for m in received) > 1.3 * sum(m <= middle for m in received)


def test_usernames_and_priorities_are_used_unevenly(history: list[DemoBatch]) -> None:
    chats = chats_of(history)
    uses = Counter(chat.username for chat in chats)
    assert 30 < len(uses) < 50
    assert all(name.startswith(USERNAME_PREFIX) for name in uses)
    assert max(uses.values()) > 10 * min(uses.values())
    shares = Counter(chat.priority for chat in chats)
    assert all(0.1 < shares[priority] / len(chats) < 0.6 for priority in Priority)


def test_a_lane_may_have_any_rule() -> None:
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


@pytest.mark.django_db
def test_a_batch_keeps_the_rule_as_the_gateway_writes_it() -> None:
    for rule in current_rules().values():
        assert describe_rule(rule) == lane_rules.describe_rule(rule)
