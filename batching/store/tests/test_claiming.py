"""A claim fills its batch with committed requests that the planner does not know yet."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from batching.engine.items import QueuedItem
from batching.engine.lanes import LaneRule, Priority, Scope, estimate_tokens
from batching.engine.planner import Batch, Trigger
from batching.store.claiming import Claim, ClaimRequest, claim_batches
from batching.store.lane_rules import current_rules
from batching.store.queue import read_waiting
from chats.models import Chat, Status
from chats.tests.rows import make_chat
from settings_app.models import ApiClient

pytestmark = pytest.mark.django_db

HIGH = Priority.HIGH


def queue_chats(count: int, **columns: Any) -> list[int]:
    columns = {"priority": HIGH, "received_at": datetime.now(UTC)} | columns
    return [make_chat(Status.QUEUED, **columns).pk for _ in range(count)]


def plan(*ids: int) -> Batch:
    """The batch of these chats, all of which are due."""
    items = tuple(read_waiting(ids, rules=current_rules()))
    at = max(item.due for item in items)
    return Batch(items[0].priority, items, Trigger.WINDOW, at=at, lateness_s=0.0)


def claim(*planned: Batch, **changes: Any) -> list[Claim]:
    rules: dict[Priority, LaneRule] = current_rules()
    requests = [ClaimRequest(p, replace(rules[p.priority], **changes), "m") for p in planned]
    return claim_batches(requests, owner="w")


def claimed_ids(found: Claim) -> list[int]:
    return [item.id for item in found.batch.items] if found.batch else []


def test_claim_adds_the_oldest_queued_requests_up_to_a_full_batch() -> None:
    ids = queue_chats(8)
    (found,) = claim(plan(ids[2]))
    assert claimed_ids(found) == ids[:6]
    assert set(found.requesters) == set(ids[:6])
    assert len(found.batch.first_call.prompt.keys) == 6
    running = Chat.objects.filter(status=Status.RUNNING, batch=found.batch.id, attempt=1)
    assert list(running.values_list("pk", flat=True)) == ids[:6]


def test_added_request_becomes_the_same_item_as_an_announced_one() -> None:
    ids = queue_chats(2, username="bob", origin="p1")
    known = plan(*ids).items
    (found,) = claim(plan(ids[0]))
    times = {"accepted": 0.0, "due": 0.0, "deadline": 0.0, "target": 0.0}

    def without_times(items: tuple[QueuedItem, ...]) -> list[QueuedItem]:
        return [replace(item, **times) for item in items]

    assert without_times(found.queued) == without_times(known)
    for one, other in zip(found.queued, known, strict=True):
        assert one.accepted == pytest.approx(other.accepted, abs=5)
        assert one.deadline - one.accepted == pytest.approx(other.deadline - other.accepted)
    assert found.requesters[ids[1]].origin == "p1"


def test_batch_that_is_not_full_takes_items_of_a_later_one() -> None:
    """The planner held 2 to 6 although they ran already: their announcement came late."""
    ids = queue_chats(13)
    Chat.objects.filter(pk__in=ids[:6]).update(status=Status.RUNNING)
    planned = plan(ids[6])
    late = tuple(replace(planned.items[0], id=pk) for pk in ids[1:6])
    first = replace(planned, items=(*late, *planned.items))
    claims = claim(first, plan(*ids[7:]))
    assert [claimed_ids(found) for found in claims] == [ids[6:12], ids[12:]]


def test_batches_of_one_transaction_are_joined_to_one_call() -> None:
    ids = queue_chats(8)
    claims = claim(plan(ids[0]), plan(ids[1]), plan(ids[2]))
    assert [claimed_ids(found) for found in claims] == [ids[:6], [], []]
    assert all(found.left == () for found in claims)


@pytest.mark.parametrize(
    ("scope", "expected"),
    [(Scope.EVERYONE, "abcd"), (Scope.CLIENT, "abd"), (Scope.USERNAME, "ad")],
)
def test_claim_adds_requests_of_the_same_group_only(scope: Scope, expected: str) -> None:
    one, two = (ApiClient.objects.create(name=name) for name in ("one", "two"))
    chats = {
        "a": queue_chats(1, client=one, username="ann"),
        "b": queue_chats(1, client=one, username="bob"),
        "c": queue_chats(1, client=two, username="ann"),
        "d": queue_chats(1, client=one, username="ann"),
        "e": queue_chats(1, client=one, username="ann", priority=Priority.LOW),
    }
    (found,) = claim(plan(*chats["a"]), scope=scope)
    assert claimed_ids(found) == [pk for name in expected for pk in chats[name]]


def test_claim_adds_neither_ended_nor_expired_requests() -> None:
    now = datetime.now(UTC)
    for status in (Status.RUNNING, Status.DONE, Status.CANCELLED):
        make_chat(status, priority=HIGH, received_at=now)
    queue_chats(1, received_at=now - timedelta(seconds=60))
    (planned,) = queue_chats(1)
    assert [claimed_ids(found) for found in claim(plan(planned))] == [[planned]]


def test_claim_adds_nothing_beyond_the_tokens_of_one_call() -> None:
    ids = queue_chats(5)
    planned = plan(ids[0])
    items = tuple(replace(item, output_tokens=20_000) for item in planned.items)
    (found,) = claim(replace(planned, items=items), tokens=20_000)
    assert claimed_ids(found) == ids[:2], "a call has 57 344 output tokens for answers"


def test_claim_adds_no_prompt_that_is_too_long_for_the_call() -> None:
    long = "x" * 1_800_000
    assert estimate_tokens(long) > 500_000
    first, second = queue_chats(2, prompt=long)
    (found,) = claim(plan(first))
    assert claimed_ids(found) == [first]
    assert Chat.objects.get(pk=second).status == Status.QUEUED


def test_batch_that_may_not_leave_is_not_filled() -> None:
    """Another worker has claimed a part of it, and the rest is not due yet."""
    ids = queue_chats(6)
    planned = replace(plan(*ids[:3]), at=0.0)
    Chat.objects.filter(pk=ids[0]).update(status=Status.RUNNING)
    (found,) = claim(planned)
    assert found.batch is None
    assert [item.id for item in found.left] == ids[1:3]
    assert Chat.objects.filter(status=Status.QUEUED).count() == 5


@pytest.mark.parametrize(("respond_async", "longest_s"), [(False, 30.5), (True, 3600)])
def test_claimed_request_has_the_time_of_its_lane_whatever_its_own_timeout(
    respond_async: bool, longest_s: float
) -> None:
    now = datetime.now(UTC)
    own = {"received_at": now, "deadline": now + timedelta(seconds=3)}
    (pk,) = queue_chats(1, respond_async=respond_async, **own)
    planned = plan(pk)
    (found,) = claim(planned)
    (item,) = planned.items
    assert item.deadline - item.accepted == pytest.approx(3), "in the queue, its own"
    assert found.batch.items[0].deadline - item.accepted == pytest.approx(longest_s)


def count_statements(*planned: Batch) -> int:
    with CaptureQueriesContext(connection) as queries:
        claim(*planned)
    return len(queries)


def test_only_a_batch_that_is_not_full_costs_one_more_statement() -> None:
    full = count_statements(plan(*queue_chats(6)))
    assert count_statements(plan(*queue_chats(2))) == full + 1
