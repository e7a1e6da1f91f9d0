"""Tests of when a batch leaves, how many items it holds, and in which order."""

from dataclasses import replace

import pytest

from batching.engine.groups import MIN_STALE
from batching.engine.planner import Batch, Trigger
from batching.engine.slots import CallSlots
from batching.engine.tests.traces import (
    HIGH,
    LOW,
    MEDIUM,
    Scope,
    TokenBudget,
    Trace,
    rules_with,
)


def test_lone_request_leaves_exactly_at_the_end_of_its_window() -> None:
    trace = Trace()
    trace.push(HIGH, at=0)
    assert trace.take(0.199) == []
    assert trace.planner.next_wakeup() == 0.2
    (batch,) = trace.take(0.2)
    assert len(batch.items) == 1
    assert batch.trigger is Trigger.WINDOW
    assert batch.lateness_s == 0


def test_window_counts_from_the_oldest_request() -> None:
    trace = Trace()
    ids = trace.push(HIGH, at=0) + trace.push(HIGH, at=0.19)
    assert trace.take_ids(0.2) == [ids]
    assert trace.take_ids(0.39) == []


def test_full_batch_leaves_before_its_window() -> None:
    trace = Trace()
    ids = trace.push(HIGH, at=0, count=6)
    (batch,) = trace.take(0)
    assert [item.id for item in batch.items] == ids
    assert batch.trigger is Trigger.FULL


def test_batch_leaves_with_the_request_that_fills_it() -> None:
    trace = Trace()
    trace.push(HIGH, at=0, count=5)
    assert trace.take(0.1) == []
    trace.push(HIGH, at=0.1)
    (batch,) = trace.take(0.1)
    assert len(batch.items) == 6


def test_overflow_keeps_the_rest_for_its_own_window() -> None:
    trace = Trace()
    ids = trace.push(HIGH, at=0, count=12) + trace.push(HIGH, at=0.05)
    assert trace.take_ids(0.05) == [ids[:6], ids[6:12]]
    assert trace.take_ids(0.249) == []
    assert trace.take_ids(0.25) == [ids[12:]]


def test_queue_beyond_the_maximum_does_not_stall() -> None:
    trace = Trace(rules_with(HIGH, max_batch=2, window_s=10_000.0))
    trace.push(HIGH, at=0, count=10)
    assert [len(batch) for batch in trace.take_ids(0)] == [2] * 5


def test_each_batch_has_its_own_window() -> None:
    trace = Trace()
    trace.push(HIGH, at=0)
    assert len(trace.take(0.2)) == 1
    trace.push(HIGH, at=0.25)
    assert trace.take(0.449) == []
    assert len(trace.take(0.45)) == 1


def test_empty_queue_never_fires() -> None:
    trace = Trace()
    assert trace.take(3600) == []
    assert trace.planner.next_wakeup() is None
    trace.push(HIGH, at=3600)
    trace.take(3601)
    assert trace.take(7200) == []
    assert trace.planner.next_wakeup() is None


def test_each_priority_has_its_own_window() -> None:
    trace = Trace()
    for priority in (HIGH, MEDIUM, LOW):
        trace.push(priority, at=0)
    left = []
    for now in (0.199, 0.2, 0.999, 1.0, 3.999, 4.0):
        left += [(now, batch.priority) for batch in trace.take(now)]
    assert left == [(0.2, HIGH), (1.0, MEDIUM), (4.0, LOW)]


def test_priorities_never_mix_in_a_batch() -> None:
    trace = Trace()
    for priority, count in ((LOW, 2), (HIGH, 3), (MEDIUM, 3)):
        trace.push(priority, at=0, count=count)
    batches = trace.take(4.0)
    assert sorted((batch.priority, len(batch.items)) for batch in batches) == [
        (LOW, 2),
        (MEDIUM, 3),
        (HIGH, 3),
    ]
    assert all(item.priority is batch.priority for batch in batches for item in batch.items)


def test_equal_times_keep_the_order_of_acceptance() -> None:
    trace = Trace()
    ids = trace.push(HIGH, at=1.0, count=20)
    assert trace.take_ids(1.2) == [ids[:6], ids[6:12], ids[12:18], ids[18:]]


def test_request_that_is_pushed_late_keeps_its_position_by_acceptance() -> None:
    trace = Trace()
    first, second, third = trace.push(HIGH, at=0, count=3)
    item = trace.planner._items[second]
    assert trace.planner.discard(second)
    trace.planner.push(item)
    assert trace.take_ids(0.2) == [[first, second, third]]


def test_zero_window_leaves_at_once() -> None:
    trace = Trace(rules_with(HIGH, window_s=0.0))
    trace.push(HIGH, at=5, count=8)
    assert [len(batch) for batch in trace.take_ids(5)] == [6, 2]


def test_maximum_of_one_leaves_at_once() -> None:
    trace = Trace(rules_with(HIGH, max_batch=1, window_s=1000.0))
    trace.push(HIGH, at=0, count=3)
    assert [len(batch) for batch in trace.take_ids(0)] == [1, 1, 1]


def test_shorter_window_applies_to_requests_accepted_after_the_change() -> None:
    trace = Trace(rules_with(HIGH, window_s=10.0))
    early = trace.push(HIGH, at=0, count=2)
    trace.change(rules_with(HIGH, window_s=0.1))
    assert trace.take_ids(0.5) == []
    late = trace.push(HIGH, at=1.0)
    assert trace.planner.next_wakeup() == 1.1
    assert trace.take_ids(1.1) == [early + late]


def test_longer_window_leaves_earlier_requests_their_due_time() -> None:
    trace = Trace()
    early = trace.push(HIGH, at=0)
    trace.change(rules_with(HIGH, window_s=10.0))
    assert trace.take_ids(0.2) == [early]


def test_smaller_maximum_applies_to_waiting_requests() -> None:
    trace = Trace()
    ids = trace.push(HIGH, at=0, count=5)
    assert trace.take_ids(0.1) == []
    trace.change(rules_with(HIGH, max_batch=2))
    assert trace.take_ids(0.1) == [ids[:2], ids[2:4]]


def test_batch_that_left_full_is_never_late() -> None:
    trace = Trace()
    trace.push(HIGH, at=0, count=6)
    (batch,) = trace.take(0.7)
    assert batch.trigger is Trigger.FULL
    assert batch.lateness_s == 0


def test_lateness_is_the_time_since_the_due_time() -> None:
    trace = Trace()
    trace.push(HIGH, at=0)
    (batch,) = trace.take(0.7)
    assert batch.lateness_s == pytest.approx(0.5)
    assert batch.at == 0.7


def test_request_pushed_twice_is_in_one_batch() -> None:
    trace = Trace()
    (first,) = trace.push(HIGH, at=0)
    trace.planner.push(trace.planner._items[first])
    assert trace.planner.depths[HIGH] == 1
    assert trace.take_ids(1) == [[first]]


def test_discarded_request_is_in_no_batch() -> None:
    trace = Trace()
    ids = trace.push(HIGH, at=0, count=6)
    assert ids[0] in trace.planner
    assert trace.planner.discard(ids[0])
    assert ids[0] not in trace.planner
    assert not trace.planner.discard(ids[0])
    assert trace.take_ids(0.1) == []
    assert trace.take_ids(0.2) == [ids[1:]]


def test_depth_counts_each_lane() -> None:
    trace = Trace()
    trace.push(HIGH, at=0, count=8)
    trace.push(LOW, at=0, count=3)
    assert [trace.planner.depths[p] for p in (HIGH, MEDIUM, LOW)] == [8, 0, 3]
    trace.take(0)
    assert [trace.planner.depths[p] for p in (HIGH, MEDIUM, LOW)] == [2, 0, 3]
    assert len(trace.planner) == 5


def test_earliest_latency_target_goes_first_among_due_lanes() -> None:
    trace = Trace()
    trace.push(LOW, at=0)  # target 5.0
    trace.push(HIGH, at=4.6)  # target 5.1
    trace.push(HIGH, at=4.7)
    slots = CallSlots(2)
    batch = trace.planner.take(5.0, slots.may_start)
    assert batch is not None
    assert batch.priority is LOW


def test_lane_whose_oldest_was_removed_goes_by_its_next_oldest() -> None:
    trace = Trace()
    (gone,) = trace.push(LOW, at=0)  # target 5.0
    trace.push(LOW, at=0.9)  # target 5.9
    trace.push(HIGH, at=5.2)  # target 5.7
    assert trace.planner.take(6.0, lambda _: False) is None
    trace.planner.discard(gone)
    assert [batch.priority for batch in trace.take(6.0)] == [HIGH, LOW]


def test_tie_of_targets_goes_to_the_higher_priority() -> None:
    trace = Trace()
    trace.push(LOW, at=0)
    trace.push(HIGH, at=4.5)
    assert [batch.priority for batch in trace.take(5.0)] == [HIGH, LOW]


def test_low_starts_although_high_arrives_beyond_capacity() -> None:
    """One batch leaves every 0.5 s, and HIGH alone would fill 110 % of these batches."""
    trace = Trace()
    trace.push(LOW, at=0)
    arrived, started = 0, None
    for step in range(100):
        now = step * 0.5
        want = int(now / 0.5 * 6.6) + 7
        trace.push(HIGH, at=now, count=want - arrived)
        arrived = want
        batch = trace.planner.take(now, lambda _: True)
        if batch is not None and batch.priority is LOW:
            started = now
            break
    assert started is not None
    assert started <= 5.5


def test_item_that_exceeds_the_token_budget_is_first_in_the_next_batch() -> None:
    trace = Trace(budget=TokenBudget(output=10_000, thinking=0))
    ids = trace.push(MEDIUM, at=0, count=2, output_tokens=6000)
    ids += trace.push(MEDIUM, at=0, output_tokens=3000)
    assert trace.take_ids(1.0) == [ids[:1], ids[1:]]


def test_batch_that_uses_up_its_token_budget_is_full() -> None:
    trace = Trace(budget=TokenBudget(input=100))
    ids = trace.push(HIGH, at=0, count=2, input_tokens=60)
    batches = trace.take(0.0)
    assert [[i.id for i in b.items] for b in batches] == [ids[:1]]
    assert batches[0].trigger is Trigger.FULL
    assert trace.take_ids(0.2) == [ids[1:]]


def test_item_larger_than_the_budget_has_a_batch_of_its_own() -> None:
    trace = Trace(budget=TokenBudget(output=10_000, thinking=0))
    ids = trace.push(MEDIUM, at=0, output_tokens=12_000)
    ids += trace.push(MEDIUM, at=0, count=2, output_tokens=100)
    assert trace.take_ids(1.0) == [ids[:1], ids[1:]]


@pytest.mark.parametrize("kind", ["input_tokens", "output_tokens"])
def test_items_that_use_exactly_the_budget_share_a_call(kind: str) -> None:
    trace = Trace(budget=TokenBudget(input=100, output=100, thinking=0))
    ids = trace.push(HIGH, at=0, count=2, **{kind: 50})
    assert trace.take_ids(0.1) == []
    assert trace.take_ids(0.2) == [ids]


@pytest.mark.parametrize("kind", ["input_tokens", "output_tokens"])
def test_removed_items_free_their_part_of_the_budget(kind: str) -> None:
    trace = Trace(budget=TokenBudget(input=100, output=100, thinking=0))
    (small,) = trace.push(HIGH, at=0, **{kind: 10})
    large = trace.push(HIGH, at=0, **{kind: 80})
    trace.planner.discard(small)
    fits = trace.push(HIGH, at=0, **{kind: 20})
    assert trace.take_ids(0.1) == []
    too_much = trace.push(HIGH, at=0.1, **{kind: 1})
    assert trace.take_ids(0.1) == [large + fits]
    assert trace.take_ids(1.0) == [too_much]


def test_expired_requests_are_removed_and_never_sent() -> None:
    trace = Trace()
    (expiring,) = trace.push(HIGH, at=0, wait_s=0.1)
    (waiting,) = trace.push(HIGH, at=0)
    assert trace.planner.next_wakeup() == 0.1
    assert trace.planner.expire(0.099) == []
    assert [item.id for item in trace.planner.expire(0.1)] == [expiring]
    assert trace.take_ids(0.2) == [[waiting]]


def test_batch_that_waits_for_a_slot_takes_more_items() -> None:
    trace = Trace()
    trace.push(HIGH, at=0)
    assert trace.planner.take(0.3, lambda _: False) is None
    trace.push(HIGH, at=0.4, count=8)
    assert [len(batch) for batch in trace.take_ids(5.0)] == [6, 3]


@pytest.mark.parametrize(
    ("scope", "groups"),
    [
        (Scope.EVERYONE, [4]),
        (Scope.CLIENT, [2, 2]),
        (Scope.USERNAME, [1, 1, 2]),
    ],
)
def test_scope_decides_which_prompts_share_a_call(scope: Scope, groups: list[int]) -> None:
    trace = Trace(rules_with(HIGH, scope=scope))
    trace.push(HIGH, at=0, client=1, username="a", count=2)
    trace.push(HIGH, at=0, client=2, username="a")
    trace.push(HIGH, at=0, client=2, username="b")
    assert sorted(len(batch) for batch in trace.take_ids(0.2)) == groups


def test_narrower_scope_separates_waiting_requests() -> None:
    trace = Trace()
    trace.push(HIGH, at=0, username="a")
    trace.push(HIGH, at=0, username="b")
    trace.change(rules_with(HIGH, scope=Scope.USERNAME))
    assert trace.take_ids(0.2) == [[1], [2]]


def test_full_group_of_one_user_leaves_without_the_others() -> None:
    trace = Trace(rules_with(HIGH, scope=Scope.USERNAME, max_batch=2))
    trace.push(HIGH, at=0, username="a")
    full = trace.push(HIGH, at=0, username="b", count=2)
    assert trace.take_ids(0.1) == [full]
    assert trace.take_ids(0.2) == [[1]]


def test_thousands_of_waiting_requests_leave_in_order() -> None:
    trace = Trace()
    ids = trace.push(HIGH, at=0, count=10_000)
    taken = [item for batch in trace.take_ids(40) for item in batch]
    assert taken == ids


# --- memory ---------------------------------------------------------------------------------------


def count_entries(trace: Trace) -> int:
    """The entries of every heap of the planner."""
    planner = trace.planner
    heaps = [planner._dues, planner._deadlines, *planner._ready.values()]
    for group in planner._groups.values():
        heaps += [group._heads, group._dues, *group._queues.values()]
    return sum(len(heap) for heap in heaps)


def test_ended_requests_with_a_late_deadline_leave_no_entries() -> None:
    """A request with `Prefer: respond-async` may wait for an hour."""
    trace = Trace()
    for number in range(10_000):
        trace.push(HIGH, at=number, wait_s=3600)
        assert len(trace.take(number + 0.2)) == 1
    assert count_entries(trace) < 5 * MIN_STALE


def test_cancelled_requests_behind_a_waiting_one_leave_no_entries() -> None:
    trace = Trace(rules_with(LOW, window_s=3600.0, max_batch=3))
    (first,) = trace.push(LOW, at=0, wait_s=7200)
    for _ in range(10_000):
        (gone,) = trace.push(LOW, at=1, wait_s=7200)
        assert trace.planner.discard(gone)
    assert count_entries(trace) < 6 * MIN_STALE
    assert trace.take_ids(3600) == [[first]]


def test_request_that_is_pushed_again_and_again_leaves_no_entries() -> None:
    trace = Trace(rules_with(HIGH, window_s=3600.0))
    trace.push(HIGH, at=0, wait_s=7200)
    (again,) = trace.push(HIGH, at=0, wait_s=7200)
    item = trace.planner._items[again]
    for generation in range(10_000):
        trace.planner.push(replace(item, due=3600 + generation, generation=generation + 1))
    assert count_entries(trace) < 6 * MIN_STALE
    assert trace.take_ids(3600) == [[1, 2]]


def test_users_whose_requests_expired_without_a_free_slot_leave_no_entries() -> None:
    trace = Trace(rules_with(HIGH, scope=Scope.USERNAME))
    for number in range(10_000):
        trace.push(HIGH, at=number, wait_s=0.5, username=f"user {number}")
        assert trace.planner.take(number + 0.3, lambda _: False) is None
        assert len(trace.planner.expire(number + 0.6)) == 1
    assert count_entries(trace) < 6 * MIN_STALE
    back = trace.push(HIGH, at=20_000, username="user 1")
    assert trace.take_ids(20_001) == [back]


def test_tenants_that_come_and_go_leave_no_entries() -> None:
    trace = Trace()
    trace.push(HIGH, at=0, count=5, tenant="stays")
    for number in range(1000):
        (item_id,) = trace.push(HIGH, at=0.1, tenant=f"{number % 300}")
        trace.planner.discard(item_id)
    assert count_entries(trace) < 6 * MIN_STALE
    assert trace.planner.turns[HIGH].waiting == {"stays": 5}


# --- turns ----------------------------------------------------------------------------------------


def tenants_of(batches: list[Batch]) -> list[str]:
    return ["".join(sorted(item.tenant for item in batch.items)) for batch in batches]


def test_tenants_take_turns_by_items() -> None:
    trace = Trace()
    flood = trace.push(HIGH, at=0, count=100, tenant="a")
    assert tenants_of(trace.take(0)[:1]) == ["aaaaaa"]
    trace.push(HIGH, at=0, count=100, tenant="a")
    mine = trace.push(HIGH, at=0, count=2, tenant="b")
    trace.push(HIGH, at=0, count=3, tenant="c")
    batches = trace.take(0)
    assert tenants_of(batches)[:2] == ["aabbcc", "aaaaac"]
    order = [item.id for batch in batches for item in batch.items if item.tenant == "a"]
    assert order == sorted(order), "first come, first served within one tenant"
    assert len(flood) + len(mine) == 102


def test_groups_of_a_lane_take_turns_as_their_tenants_do() -> None:
    trace = Trace(rules_with(scope=Scope.CLIENT))
    trace.push(HIGH, at=0, count=30, client=1, tenant="1")
    trace.push(HIGH, at=0.1, count=12, client=2, tenant="2")
    assert tenants_of(trace.take(0.3)) == ["1" * 6, "2" * 6, "1" * 6, "2" * 6, *["1" * 6] * 3]


def test_request_beside_a_flood_leaves_with_the_next_batch() -> None:
    trace = Trace()
    trace.push(HIGH, at=0, count=10_000, tenant="flood")
    one_slot = [True]
    for second in range(20):
        one_slot.append(True)
        trace.push(HIGH, at=second, tenant="quiet")
        batch = trace.planner.take(second, lambda _: bool(one_slot.pop()))
        assert batch is not None
        assert tenants_of([batch]) == ["fffff".replace("f", "flood") + "quiet"]


@pytest.mark.parametrize("newcomers", [False, True])
def test_tenants_with_one_request_at_a_time_keep_no_other_waiting(newcomers: bool) -> None:
    trace = Trace(rules_with(max_batch=1))
    trace.push(HIGH, at=0, count=4, tenant="b")
    trace.push(HIGH, at=0, tenant="a")
    left = []
    for number in range(8):
        one_slot = [True]
        batch = trace.planner.take(1, lambda _, slot=one_slot: slot.pop() if slot else False)
        assert batch is not None
        left.append(batch.items[0].tenant)
        if left[-1] != "b":
            trace.push(HIGH, at=0, tenant=f"a{number}" if newcomers else "a")
    assert left.count("b") == 4


def test_tenant_that_was_away_has_no_turns_saved_up() -> None:
    trace = Trace()
    trace.push(HIGH, at=0, tenant="b")
    trace.push(HIGH, at=0, count=11, tenant="a")
    assert tenants_of(trace.take(0)) == ["aaaaab", "aaaaaa"]
    trace.push(HIGH, at=1, count=6, tenant="a")
    trace.push(HIGH, at=1, count=6, tenant="b")
    assert tenants_of(trace.take(1)) == ["aaabbb", "aaabbb"]


def test_request_that_returns_to_the_queue_is_the_first_of_its_tenant_again() -> None:
    trace = Trace(rules_with(max_batch=2))
    trace.push(HIGH, at=0, count=2)
    (batch,) = trace.take(0)
    ids = trace.push(HIGH, at=0)
    for item in reversed(batch.items):
        trace.planner.push(item)
    assert trace.take_ids(1) == [[1, 2], ids]
