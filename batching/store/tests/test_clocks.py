"""The database's clock decides leases, deadlines and claims; a single process trusts its planner.

In these tests the database's clock is the wall clock. A clock that was set back by an hour finds
rows with times an hour ahead.
"""

from datetime import timedelta
from typing import Any

import pytest

from batching.engine.items import QueuedItem
from batching.engine.lanes import Priority
from batching.engine.planner import Batch, Trigger
from batching.models import Batch as BatchRow
from batching.store.cancellation import expire_items
from batching.store.claiming import Claim, ClaimRequest, claim_batches
from batching.store.lane_rules import current_rules
from batching.store.recovery import take_back_earlier, take_back_expired
from batching.tests.rows import make_batch
from chats.clock import CLOCK
from chats.models import Chat, Status
from chats.tests.rows import make_chat

pytestmark = pytest.mark.django_db

HOUR_S = 3600.0


@pytest.fixture
def fleet(settings: Any) -> None:
    settings.REDIS_URL = "redis://unused"


def make_queued(*, age_s: float) -> tuple[Chat, QueuedItem]:
    """A request that waits for 1 s at most in its window, and for 32 s in all.

    On the planner's clock it was accepted at 100.
    """
    chat = make_chat(Status.QUEUED, received_at=CLOCK.now() - timedelta(seconds=age_s))
    lane = Priority(chat.priority)
    return chat, QueuedItem(chat.pk, lane, 100.0, 101.0, 132.0, 102.0, generation=chat.generation)


def claim(*items: QueuedItem, planned: int = 0, trigger: Trigger = Trigger.WINDOW) -> Claim:
    """Claims the items at the end of their window; `planned` items are no longer queued."""
    gone = [QueuedItem(-n, items[0].priority, 100.0, 101.0, 132.0, 102.0) for n in range(planned)]
    batch = Batch(items[0].priority, (*items, *gone), trigger, at=101.0, lateness_s=0.0)
    rule = current_rules()[items[0].priority]
    [result] = claim_batches([ClaimRequest(batch, rule, "m")], owner="w")
    return result


def expire(item: QueuedItem) -> list[int]:
    return expire_items([item], code="timeout", detail="Too late.")


# --- claims ---------------------------------------------------------------------------------------


@pytest.mark.usefixtures("fleet")
def test_fleet_claims_no_batch_before_its_rows_are_due() -> None:
    _, item = make_queued(age_s=0.2)
    result = claim(item)
    assert result.batch is None
    [left] = result.left
    assert left.due == pytest.approx(101.8, abs=0.5), "it waits until its row is due"


@pytest.mark.usefixtures("fleet")
@pytest.mark.parametrize("age_s", [1.1, HOUR_S, -HOUR_S])
def test_fleet_claims_a_due_batch_even_if_the_clock_was_set_back(age_s: float) -> None:
    _, item = make_queued(age_s=age_s)
    assert claim(item).batch is not None


@pytest.mark.usefixtures("fleet")
def test_fleet_claims_what_is_left_of_a_full_batch_only_when_it_is_due() -> None:
    _, item = make_queued(age_s=0.2)
    assert claim(item, planned=3, trigger=Trigger.FULL).batch is None
    assert claim(item, trigger=Trigger.FULL).batch is not None, "full of tokens"


@pytest.mark.parametrize("age_s", [0.2, HOUR_S, -HOUR_S])
def test_single_process_trusts_its_planner(age_s: float) -> None:
    _, item = make_queued(age_s=age_s)
    assert claim(item).batch is not None


def test_lease_and_times_of_a_claim_are_on_the_databases_clock(settings: Any) -> None:
    settings.LEASE_S = 15
    chat, item = make_queued(age_s=HOUR_S)
    before = CLOCK.now()
    claim(item)
    chat.refresh_from_db()
    batch = BatchRow.objects.get()
    assert chat.lease_until - chat.dispatched_at == timedelta(seconds=15)
    assert batch.created_at == chat.dispatched_at == batch.calls.get().started_at
    assert before <= batch.created_at <= CLOCK.now()


# --- deadlines ------------------------------------------------------------------------------------


@pytest.mark.usefixtures("fleet")
@pytest.mark.parametrize(("age_s", "expires"), [(20, False), (40, True), (-HOUR_S, True)])
def test_fleet_expires_a_request_whose_deadline_has_passed(age_s: float, expires: bool) -> None:
    chat, item = make_queued(age_s=age_s)
    assert expire(item) == [chat.pk] * expires


@pytest.mark.parametrize("age_s", [20, HOUR_S, -HOUR_S])
def test_single_process_expires_what_its_planner_says(age_s: float) -> None:
    chat, item = make_queued(age_s=age_s)
    assert expire(item) == [chat.pk]


# --- leases ---------------------------------------------------------------------------------------


def make_leased(*, owner: str, lease_s: float) -> Chat:
    return make_chat(
        Status.RUNNING,
        owner=owner,
        batch=make_batch(outcome="running", owner=owner),
        lease_until=CLOCK.now() + timedelta(seconds=lease_s),
    )


def test_lease_that_is_longer_than_any_is_over() -> None:
    """The clock was set back after the lease began, and its worker died."""
    chat = make_leased(owner="a#dead", lease_s=HOUR_S)
    assert take_back_expired(own="b#me").requeued == [chat.pk]


def test_restart_after_the_clock_was_set_back_takes_back_the_predecessors_chats() -> None:
    chat = make_leased(owner="a#before", lease_s=HOUR_S)
    assert take_back_earlier("a", own="a#now").requeued == [chat.pk]


@pytest.mark.parametrize("lease_s", [-HOUR_S, HOUR_S])
def test_jump_takes_no_chat_from_the_process_that_runs_it(lease_s: float) -> None:
    chat = make_leased(owner="a#me", lease_s=lease_s)
    assert take_back_expired(own="a#me", busy=[chat.pk]).requeued == []
