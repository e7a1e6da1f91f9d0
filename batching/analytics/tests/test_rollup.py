"""DailyStat counts each finished row once, on its own day and lane."""

import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from batching.analytics import rollup
from batching.analytics.histogram import bucket_of, count_values
from batching.analytics.rollup import roll_up_pending
from batching.models import Batch, CallStatus, DailyStat, ModelCall, Outcome
from batching.tests.rows import make_batch, make_call
from chats.models import Chat, Status
from chats.tests.rows import NOON, make_chat
from settings_app.models import Lane, Priority

pytestmark = pytest.mark.django_db

LATE = NOON.replace(hour=23, minute=59, second=59)


def stat(priority: Priority = Priority.MEDIUM, *, day=NOON) -> DailyStat:
    return DailyStat.objects.get(day=day.date(), priority=priority)


def test_an_answered_chat_counts_with_its_times():
    batch = make_batch()
    make_chat(batch=batch, latency_ms=800, queue_ms=300)
    make_chat(batch=batch, latency_ms=1200, queue_ms=0)
    roll_up_pending()
    counted = stat()
    assert (counted.requests, counted.answered, counted.in_time) == (2, 2, 2)
    assert (counted.latency_ms_sum, counted.queue_ms_sum) == (2000, 300)
    assert counted.latency_hist == {str(bucket_of(800)): 1, str(bucket_of(1200)): 1}
    assert counted.queue_hist == {str(bucket_of(300)): 1, "0": 1}
    assert counted.failures == {}


def test_a_chat_without_an_answer_counts_by_its_code_and_has_no_latency():
    make_chat(Status.FAILED, error_code="blocked", latency_ms=700, queue_ms=50)
    make_chat(Status.FAILED, error_code="blocked")
    make_chat(Status.EXPIRED, error_code="timeout")
    make_chat(Status.CANCELLED, error_code="cancelled")
    roll_up_pending()
    counted = stat()
    assert (counted.requests, counted.answered, counted.in_time) == (4, 0, 0)
    assert counted.failures == {"blocked": 2, "timeout": 1, "cancelled": 1}
    assert (counted.latency_hist, counted.latency_ms_sum) == ({}, 0)


def test_in_time_is_measured_by_the_lane_as_it_was_when_the_batch_left():
    Lane.objects.filter(priority=Priority.MEDIUM).update(latency_ms=10_000)
    batch = make_batch(settings={"latency_ms": 500})
    make_chat(batch=batch, latency_ms=500)
    make_chat(batch=batch, latency_ms=501)
    roll_up_pending()
    assert stat().in_time == 1


@pytest.mark.parametrize("with_batch", [True, False])
def test_in_time_is_measured_by_the_current_lane_without_a_stored_one(with_batch):
    Lane.objects.filter(priority=Priority.MEDIUM).update(latency_ms=700)
    batch = make_batch(settings={}) if with_batch else None
    make_chat(batch=batch, latency_ms=700)
    make_chat(batch=batch, latency_ms=701)
    roll_up_pending()
    assert stat().in_time == 1


def test_a_batch_counts_with_its_size_whatever_its_outcome():
    make_batch(size=4)
    make_batch(size=3, outcome=Outcome.FAILED)
    make_batch(size=2, outcome=Outcome.PARTIAL)
    roll_up_pending()
    assert (stat().batches, stat().batched_requests) == (3, 9)


def test_a_call_counts_its_tokens_in_the_lane_of_its_batch():
    batch = make_batch(Priority.HIGH)
    tokens = {"prompt_tokens": 100, "output_tokens": 40, "thoughts_tokens": 7, "cached_tokens": 64}
    make_call(batch, **tokens)
    make_call(batch, status=CallStatus.FAILED, prompt_tokens=5)
    make_call(batch, status=CallStatus.FAILED)
    roll_up_pending()
    counted = stat(Priority.HIGH)
    assert counted.model_calls == 3
    assert (counted.prompt_tokens, counted.output_tokens) == (105, 40)
    assert (counted.thoughts_tokens, counted.cached_tokens) == (7, 64)


def test_running_rows_are_counted_when_they_end():
    batch = make_batch(outcome=Outcome.RUNNING)
    make_call(batch, status=CallStatus.STARTED)
    make_chat(Status.RUNNING, batch=batch)
    make_chat(Status.QUEUED)
    assert roll_up_pending() == 0
    assert not DailyStat.objects.exists()
    Batch.objects.update(outcome=Outcome.DONE)
    ModelCall.objects.update(status=CallStatus.COMPLETE)
    Chat.objects.filter(status=Status.RUNNING).update(
        status=Status.DONE, text="Now.", latency_ms=1, queue_ms=1
    )
    assert roll_up_pending() == 3
    assert (stat().requests, stat().batches, stat().model_calls) == (1, 1, 1)


def test_each_row_counts_on_its_own_utc_day_and_lane():
    batch = make_batch(Priority.LOW, at=LATE + timedelta(seconds=1))
    make_call(batch, at=LATE + timedelta(days=1))
    make_chat(priority=Priority.LOW, batch=batch, received_at=LATE)
    make_chat(priority=Priority.HIGH, received_at=LATE)
    roll_up_pending()
    next_day = stat(Priority.LOW, day=LATE + timedelta(days=1))
    assert (stat(Priority.LOW).requests, stat(Priority.LOW).batches) == (1, 0)
    assert stat(Priority.HIGH).requests == 1
    assert (next_day.requests, next_day.batches, next_day.model_calls) == (0, 1, 1)


def test_second_roll_up_adds_to_the_first_and_counts_nothing_twice():
    make_chat(latency_ms=100)
    make_chat(Status.FAILED)
    assert roll_up_pending() == 2
    assert roll_up_pending() == 0
    make_chat(latency_ms=100)
    make_chat(Status.FAILED)
    assert roll_up_pending() == 2
    counted = stat()
    assert (counted.requests, counted.answered, counted.latency_ms_sum) == (4, 2, 200)
    assert counted.latency_hist == {str(bucket_of(100)): 2}
    assert counted.failures == {"blocked": 2}


def test_lanes_of_the_same_day_are_counted_apart():
    make_chat(priority=Priority.LOW)
    roll_up_pending()
    make_chat(priority=Priority.HIGH)
    roll_up_pending()
    assert (stat(Priority.LOW).requests, stat(Priority.HIGH).requests) == (1, 1)


def test_backlog_is_rolled_up_in_limited_parts():
    for _ in range(5):
        make_chat()
    assert [roll_up_pending(limit=2) for _ in range(4)] == [2, 2, 1, 0]
    assert stat().requests == 5


def test_long_backlog_is_rolled_up_in_short_transactions(monkeypatch):
    monkeypatch.setattr(rollup, "CHUNK", 2)
    for _ in range(5):
        make_chat()
    with CaptureQueriesContext(connection) as queries:
        assert roll_up_pending(limit=100) == 5
    marks = [query for query in queries if query["sql"].startswith('UPDATE "chats_chat"')]
    assert len(marks) == 3
    assert stat().requests == 5


def test_failed_roll_up_leaves_everything_to_the_next(monkeypatch):
    make_chat()

    def fail(rows: list[Any]) -> int:
        raise RuntimeError("The process was killed.")

    with monkeypatch.context() as patched:
        patched.setattr(rollup, "_mark", fail)
        with pytest.raises(RuntimeError):
            roll_up_pending()
    assert not DailyStat.objects.exists()
    assert roll_up_pending() == 1
    assert stat().requests == 1


def test_roll_up_without_pending_rows_opens_no_transaction():
    with CaptureQueriesContext(connection) as queries:
        roll_up_pending()
    assert len(queries) == 3
    assert all(query["sql"].startswith("SELECT") for query in queries)


def test_the_number_of_queries_does_not_grow_with_the_rows():
    def roll_up_with(chats: int) -> int:
        for number in range(chats):
            at = NOON + timedelta(days=number)
            batch = make_batch(at=at)
            make_call(batch)
            make_chat(batch=batch, received_at=at)
        with CaptureQueriesContext(connection) as queries:
            assert roll_up_pending() == 3 * chats
        return len(queries)

    few = roll_up_with(2)
    assert few <= 20
    assert roll_up_with(20) == few


@pytest.mark.skipif(connection.vendor != "sqlite", reason="only SQLite's plans name the index")
@pytest.mark.parametrize(
    ("pending", "index"),
    [
        (rollup._pending_chats, "chat_not_rolled_up"),
        (rollup._pending_batches, "batch_not_rolled_up"),
        (rollup._pending_calls, "model_call_not_rolled_up"),
    ],
)
def test_pending_rows_are_found_by_their_own_index(pending, index):
    assert f"INDEX {index}" in pending().order_by("pk").explain()


def run_together(number: int, work: Callable[[], None]) -> list[BaseException]:
    failures: list[BaseException] = []
    start = threading.Barrier(number)

    def run() -> None:
        try:
            start.wait(timeout=60)
            work()
        except BaseException as failure:
            failures.append(failure)
        finally:
            connection.close()

    threads = [threading.Thread(target=run) for _ in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    return failures


@pytest.mark.django_db(transaction=True)
def test_simultaneous_roll_ups_count_each_row_once():
    for number in range(60):
        batch = make_batch(size=2, at=NOON + timedelta(days=number % 3))
        make_call(batch, prompt_tokens=10)
        make_chat(batch=batch, latency_ms=100, received_at=batch.created_at)

    def roll_up_everything() -> None:
        while roll_up_pending(limit=7):
            pass

    assert run_together(4, roll_up_everything) == []
    assert roll_up_pending() == 0
    stats = DailyStat.objects.all()
    assert [row.requests for row in stats] == [20, 20, 20]
    assert [row.batched_requests for row in stats] == [40, 40, 40]
    assert [row.prompt_tokens for row in stats] == [200, 200, 200]
    assert [count_values(row.latency_hist) for row in stats] == [20, 20, 20]


@pytest.mark.django_db(transaction=True)
@pytest.mark.skipif(connection.vendor != "postgresql", reason="needs Postgres")
def test_on_postgres_a_roll_up_skips_rows_that_another_has_locked():
    held, free = make_chat(), make_chat(username="bob")
    with transaction.atomic():
        Chat.objects.select_for_update().get(pk=held.pk)
        assert run_together(1, roll_up_pending) == []
        assert stat().requests == 1
    assert set(Chat.objects.filter(rolled_up=True)) == {free}
    roll_up_pending()
    assert stat().requests == 2
