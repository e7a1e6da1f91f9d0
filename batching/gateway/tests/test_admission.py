"""The gateway refuses requests that could not be answered before their deadline."""

import asyncio
import time
from collections.abc import Mapping
from functools import partial
from typing import Any

import pytest

from batching.engine.capacity import Capacity, add_capacities, update_mean
from batching.engine.errors import GatewayError, QueueFull, UpstreamUnavailable
from batching.engine.items import QueuedItem
from batching.engine.lanes import Priority
from batching.gateway.admission import Admission, Query
from batching.gateway.queue_counts import QueueCounts
from batching.gateway.waiters import Waiters
from batching.llm.simulated.answers import answer_prompt
from batching.llm.simulated.faults import Script
from batching.store.fleet_status import FleetStatus, forget_worker, read_fleet_status, report_worker
from batching.store.tenants import find_tenant
from batching.tests.faults.catalogue import FAULTS
from batching.tests.harness import Harness, change, post_async, wait_until
from batching.tests.model_gate import use_gate
from chats.clock import DatabaseClock
from chats.models import Chat
from settings_app.models import OPEN_ACCESS_CLIENT_ID, Lane
from settings_app.snapshot import refresh_snapshot

SLOTS = Capacity(slots=4, reserve=1, call_s=(10.0,) * 3)


def admit(
    capacity: Capacity | None,
    *,
    depth: int = 0,
    tenants: Mapping[str, int] | None = None,
    **fields: Any,
) -> tuple[Chat, QueuedItem]:
    """`depth` requests of ann wait, unless `tenants` counts other ones by username."""
    refresh_snapshot()
    usernames = {"ann": depth} if tenants is None else tenants
    counts = {find_tenant(OPEN_ACCESS_CLIENT_ID, name): n for name, n in usernames.items()}
    total = dict.fromkeys(Priority, sum(counts.values()))
    status = FleetStatus(capacity, total, dict.fromkeys(Priority, counts))
    admission = Admission(
        process="p",
        counts=QueueCounts(Waiters(), lambda: status),
        fleet_status=lambda: status,
    )
    fields = {"username": "ann", "prompt": "Why?", "priority": Priority.HIGH} | fields
    return admission.admit(Query(**fields))


def refusal(capacity: Capacity | None, **fields: Any) -> GatewayError:
    with pytest.raises(GatewayError) as caught:
        admit(capacity, **fields)
    return caught.value


@pytest.fixture(autouse=True)
def _key(settings: Any) -> None:
    settings.GEMINI_API_KEY = "test-key-0123456789"


@pytest.mark.django_db
def test_request_is_refused_as_soon_as_its_estimate_exceeds_its_deadline() -> None:
    # HIGH waits for 30.5 s. Four slots of six requests take 24 in 10 s, so round 3 ends at 30.2 s.
    admit(SLOTS, depth=71)
    error = refusal(SLOTS, depth=72)
    assert isinstance(error, QueueFull)
    assert error.retry_after_s == 10
    assert "estimated 40 s" in str(error)


@pytest.mark.django_db
def test_row_is_written_on_the_databases_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """The wall clock of the process is an hour ahead."""
    stamp, clock = 1_000_000.0, DatabaseClock()
    clock.add_sample(stamp, began=time.monotonic())
    monkeypatch.setattr("batching.gateway.admission.CLOCK", clock)
    chat, _ = admit(None)
    assert chat.received_at.timestamp() == pytest.approx(stamp, abs=60)
    assert chat.created_at == chat.received_at
    assert (chat.deadline - chat.received_at).total_seconds() == 30.5


@pytest.mark.django_db
def test_one_client_fills_the_queue_only_while_it_is_alone() -> None:
    admit(None, tenants={"ann": 9_999})
    assert "10000 requests" in str(refusal(None, tenants={"ann": 10_000}))
    admit(None, tenants={"ann": 4_999, "bob": 1})
    refused = refusal(None, tenants={"ann": 5_000, "bob": 1})
    assert refused.code == "queue_full"
    assert "5000 of 10000 places" in str(refused)


@pytest.mark.django_db
def test_full_queue_of_one_client_keeps_no_other_out() -> None:
    admit(SLOTS, tenants={"flood": 10_000})
    admit(SLOTS, tenants={"flood": 10_000, "bob": 4}, username="bob")
    full = {"flood": 10_000, "bob": 3000, "cy": 2000}
    assert "10000 requests" in str(refusal(None, tenants=full, username="dan"))


@pytest.mark.django_db
def test_share_of_a_client_is_a_setting() -> None:
    Lane.objects.update(queue_share=20, max_queue=10)
    admit(None, tenants={"ann": 1, "bob": 1})
    assert "2 of 10 places" in str(refusal(None, tenants={"ann": 2, "bob": 1}))


@pytest.mark.django_db
def test_keys_of_one_client_are_one_tenant_whatever_their_usernames() -> None:
    assert find_tenant(7, "ann") == find_tenant(7, "bob") != find_tenant(8, "ann")
    assert find_tenant(OPEN_ACCESS_CLIENT_ID, "ann") != find_tenant(OPEN_ACCESS_CLIENT_ID, "bob")


@pytest.mark.django_db
def test_other_lanes_have_the_slots_that_are_not_reserved() -> None:
    # MEDIUM waits for 32 s. Three slots of four requests take 12 in 10 s.
    admit(SLOTS, depth=35, priority=Priority.MEDIUM)
    assert refusal(SLOTS, depth=36, priority=Priority.MEDIUM).code == "queue_full"


@pytest.mark.django_db
def test_shorter_timeout_limits_the_wait_and_an_async_request_waits_longer() -> None:
    admit(SLOTS, depth=24)
    assert refusal(SLOTS, depth=24, timeout_s=15.0).code == "queue_full"
    admit(SLOTS, depth=5000, respond_async=True)


@pytest.mark.django_db
def test_nothing_is_refused_before_a_call_was_measured_or_a_worker_known() -> None:
    admit(Capacity(slots=4, reserve=1), depth=9000)
    admit(None, depth=9000)
    assert refusal(None, depth=10_000).code == "queue_full"


@pytest.mark.django_db
def test_short_timeout_is_accepted_on_an_empty_queue() -> None:
    admit(SLOTS, timeout_s=0.1)


@pytest.mark.django_db
def test_request_that_must_end_before_the_breakers_pause_is_refused() -> None:
    first = Capacity(slots=4, reserve=1, paused_s=1.0)
    admit(first)
    long = Capacity(slots=4, reserve=1, paused_s=40.0)
    error = refusal(long)
    assert isinstance(error, UpstreamUnavailable)
    assert error.retry_after_s == 40
    admit(long, respond_async=True)
    down = Capacity(slots=4, reserve=1, paused_s=1.5, down=True)
    assert refusal(down).retry_after_s == 2
    admit(down, respond_async=True)
    admit(Capacity(slots=4, reserve=1, paused_s=0.0, down=True))  # it may be the next probe


def test_capacities_of_several_workers_add_up() -> None:
    one = Capacity(slots=16, reserve=4, call_s=(1.0,) * 3, paused_s=30.0, down=True)
    two = Capacity(slots=8, reserve=2, call_s=(3.0,) * 3)
    assert add_capacities([one, two]) == Capacity(
        24, 6, call_s=(2.0,) * 3, paused_s=0.0, down=False
    )
    assert add_capacities([one, Capacity(1, 0, paused_s=5.0, down=True)]).paused_s == 5.0
    assert add_capacities([]) is None


def test_mean_follows_the_newest_calls() -> None:
    mean = update_mean(None, 10.0)
    for _ in range(20):
        mean = update_mean(mean, 1.0)
    assert 1.0 < mean < 1.2


@pytest.mark.django_db
def test_only_workers_that_report_are_counted() -> None:
    assert read_fleet_status() == FleetStatus(None, {})
    report_worker("one", Capacity(16, 4, call_s=(1.0,) * 3))
    report_worker("two", Capacity(16, 4, call_s=(2.0,) * 3, paused_s=3.0, down=True))
    report_worker("two", Capacity(8, 2, call_s=(3.0,) * 3))
    assert read_fleet_status().capacity == Capacity(24, 6, call_s=(2.0,) * 3)
    forget_worker("two")
    assert read_fleet_status().capacity == Capacity(16, 4, call_s=(1.0,) * 3)
    from batching.models import Worker

    seen = Worker.objects.get().seen_at
    Worker.objects.update(seen_at=seen.replace(year=seen.year - 1))
    assert read_fleet_status().capacity is None
    report_worker("three", Capacity(1, 0))
    assert [worker.owner for worker in Worker.objects.all()] == ["three"]


class Service:
    """A model service that is up or down."""

    def __init__(self) -> None:
        self.fault = "status-503"
        self.up = False

    def __call__(self, call: Any) -> Any:
        return None if self.up else FAULTS[self.fault](0)


@pytest.fixture
def script() -> Script:
    return Service()


@pytest.fixture(autouse=True)
def _no_time_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("batching.engine.breaker.MIN_FAILING_S", 0.0)


async def open_breaker(harness: Harness) -> None:
    """Eight batches of one, whose first calls all fail.

    The service is probed after 1 s and after 3 s; then the next pause would end too late for them.
    """
    await change(harness, high_priority={"max_batch": 1})
    replies = [asyncio.create_task(harness.ask(f"q{i}", timeout_s=6.5)) for i in range(8)]
    slots = harness.runtime.consumer.dispatcher.slots
    await wait_until(lambda: slots.breaker.is_open)
    await change(harness, high_priority={"max_batch": 6})
    codes = {reply.json()["code"] for reply in await asyncio.gather(*replies)}
    assert codes == {"upstream_unavailable"}


async def test_failing_service_is_only_probed_and_refusals_have_a_retry_time(
    harness: Harness, script: Service
) -> None:
    began = asyncio.get_running_loop().time()
    await open_breaker(harness)
    slots = harness.runtime.consumer.dispatcher.slots
    await wait_until(lambda: slots.breaker.probes >= 1)
    refused = await harness.ask("Why?")
    assert (refused.status_code, refused.json()["code"]) == (503, "upstream_unavailable")
    assert int(refused.headers["Retry-After"]) >= 1
    page = (await harness.client.get("/dashboard")).text
    assert "The model service fails again and again" in page
    accepted = await post_async(harness, "later")
    assert accepted.status_code == 202
    took = asyncio.get_running_loop().time() - began
    assert len(harness.server.calls) <= 8 + took.__ceil__(), "only one probe runs at a time"


async def test_one_probe_finds_that_the_service_works_again_and_all_are_answered(
    harness: Harness, script: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted = asyncio.Event()
    use_gate(monkeypatch, may_begin=counted.is_set)
    await change(harness, medium_priority={"max_batch": 1})
    slots = harness.runtime.consumer.dispatcher.slots
    for _ in range(8):
        slots.report_failure(retry_after_s=None)
    waiting = [asyncio.create_task(harness.ask(f"q{i}", priority="MEDIUM")) for i in range(20)]
    script.up = True
    await wait_until(lambda: harness.server.calls)
    await wait_until(lambda: len(harness.runtime.consumer.dispatcher.planner) == 19)
    assert len(harness.server.calls) == 1, "one of the twenty waiting requests is the probe"
    counted.set()
    replies = await asyncio.gather(*waiting)
    assert [reply.json()["text"] for reply in replies] == [
        answer_prompt(f"q{i}") for i in range(20)
    ]
    assert not slots.breaker.is_open


async def test_daily_quota_and_bad_key_do_not_open_the_breaker(
    harness: Harness, script: Service
) -> None:
    script.fault = "status-429-day"
    await change(harness, high_priority={"max_batch": 1})
    replies = await harness.ask_all([f"q{i}" for i in range(10)])
    assert {reply.status_code for reply in replies} == {503}
    assert len(harness.server.calls) == 10, "each request is refused at once"
    assert not harness.runtime.consumer.dispatcher.slots.breaker.is_open


async def test_request_that_would_wait_too_long_is_refused_and_not_stored(
    harness: Harness, script: Service
) -> None:
    script.up = True
    slots = harness.runtime.consumer.dispatcher.slots
    slots.report_duration(Priority.LOW, 100.0)
    while slots.may_start(Priority.LOW):
        slots.take(Priority.LOW)
    ask = partial(harness.ask, priority="LOW")
    held = [asyncio.create_task(ask(f"held {i}")) for i in range(4)]
    planner = harness.runtime.consumer.dispatcher.planner
    await wait_until(lambda: planner.depths[Priority.LOW] == 4)
    refused = await ask("one too many")
    assert (refused.status_code, refused.json()["code"]) == (503, "queue_full")
    assert int(refused.headers["Retry-After"]) > 60
    assert await Chat.objects.acount() == 4
    slots.release(Priority.LOW)
    assert {reply.status_code for reply in await asyncio.gather(*held)} == {200}
    assert harness.server.sizes == [4]
