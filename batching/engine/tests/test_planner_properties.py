"""Properties of the planner for every sequence of arrivals and removals."""

from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from batching.engine.lanes import Priority
from batching.engine.planner import Batch, Trigger
from batching.engine.tests.traces import RULES, Trace

ARRIVALS = st.lists(
    st.tuples(
        st.integers(0, 60).map(lambda tenths: tenths / 10),
        st.sampled_from(Priority),
        st.integers(1, 9),
    ),
    max_size=25,
)


def run_trace(arrivals: list[tuple[float, Priority, int]]) -> list[tuple[float, Batch]]:
    """Plays the arrivals with free slots and takes batches when the planner wakes up."""
    trace = Trace()
    left: list[tuple[float, Batch]] = []

    def take_until(limit: float) -> None:
        while (now := trace.planner.next_wakeup()) is not None and now < limit:
            batches = trace.take(now)
            assert batches, "a wake-up without a batch"
            left.extend((now, batch) for batch in batches)

    for at, priority, count in sorted(arrivals):
        take_until(at)
        trace.push(priority, at=at, count=count, wait_s=1000)
        left.extend((at, batch) for batch in trace.take(at))
    take_until(float("inf"))
    assert len(trace.planner) == 0
    return left


@given(ARRIVALS)
@settings(max_examples=300, deadline=None)
def test_every_request_is_in_exactly_one_valid_batch(
    arrivals: list[tuple[float, Priority, int]],
) -> None:
    left = run_trace(arrivals)
    seen = [item.id for _, batch in left for item in batch.items]
    assert sorted(seen) == list(range(1, sum(count for _, _, count in arrivals) + 1))
    for at, batch in left:
        rule = RULES[batch.priority]
        oldest = batch.items[0]
        assert {item.priority for item in batch.items} == {batch.priority}
        assert 1 <= len(batch.items) <= rule.max_batch
        full = len(batch.items) == rule.max_batch
        assert full or at >= oldest.accepted + rule.window_s
        assert (batch.trigger is Trigger.FULL) == full
        assert all(at <= item.accepted + rule.window_s for item in batch.items)


@given(ARRIVALS)
@settings(max_examples=100, deadline=None)
def test_order_of_acceptance_holds_within_and_across_batches(
    arrivals: list[tuple[float, Priority, int]],
) -> None:
    left = run_trace(arrivals)
    for priority in Priority:
        ids = [item.id for _, b in left if b.priority is priority for item in b.items]
        assert ids == sorted(ids)


@given(ARRIVALS, st.sets(st.integers(1, 60)))
@settings(max_examples=100, deadline=None)
def test_discarded_requests_are_not_sent_and_delay_no_others(
    arrivals: list[tuple[float, Priority, int]], gone: set[int]
) -> None:
    trace = Trace()
    pushed: list[int] = []
    for at, priority, count in sorted(arrivals):
        pushed += trace.push(priority, at=at, count=count, wait_s=1000)
    gone &= set(pushed)
    for item_id in gone:
        assert trace.planner.discard(item_id)
    sent = [item for batch in trace.take_ids(100) for item in batch]
    assert sorted(sent) == sorted(set(pushed) - gone)
    assert len(trace.planner) == 0
    assert trace.planner.next_wakeup() is None


@given(
    st.lists(st.sampled_from(["push", "take", "discard"]), max_size=60),
    st.randoms(use_true_random=False),
)
@settings(max_examples=200, deadline=None)
def test_tenants_that_wait_all_the_time_get_equal_shares(steps: list[str], random: Random) -> None:
    trace = Trace()
    served = dict.fromkeys("abc", 0)
    for tenant in served:
        trace.push(count=1000, tenant=tenant)
    others: list[int] = []
    for step in steps:
        if step == "push":
            others += trace.push(tenant=random.choice("defg"), count=random.randint(1, 9))
        elif step == "discard" and others:
            trace.planner.discard(others.pop(random.randrange(len(others))))
        elif batch := trace.planner.take(1.0, lambda _: True):
            for item in batch.items:
                if item.tenant in served:
                    served[item.tenant] += 1
        assert max(served.values()) - min(served.values()) <= 1
