"""A worker keeps each batch for as long as it holds its lease, and no longer."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db import OperationalError

from batching.llm.simulated.answers import answer_prompt
from batching.tests.harness import Harness, post_async, wait_until
from batching.tests.model_gate import use_gate
from batching.worker import consumer, leases
from batching.worker.leases import LeaseKeeper
from chats.leases import Recovery
from chats.models import Chat, Status

HANG = "[[fault:hang-before-headers]] Why?"
HANG_ONCE = "[[fault:hang-before-headers:1]] Why?"
FREEZE_S = 4000.0


class FrozenClock:
    """The monotonic clock of the leases. It moves on by `ahead` while the worker is frozen."""

    ahead = 0.0

    def monotonic(self) -> float:
        return time.monotonic() + self.ahead


@pytest.fixture(autouse=True)
def _long_leases(settings: Any) -> None:
    """Leases that end only by a freeze; the test itself renews them."""
    settings.LEASE_S = 3600


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> FrozenClock:
    clock = FrozenClock()
    monkeypatch.setattr(consumer, "time", clock)
    return clock


@pytest.fixture
async def keeper(harness: Harness, clock: FrozenClock) -> LeaseKeeper:
    """The leases of a worker of a fleet."""
    keeper = harness.runtime.consumer.leases
    keeper.shared, keeper.clock = True, clock.monotonic
    return keeper


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """The model ends its replies when it is set."""
    event = threading.Event()
    use_gate(monkeypatch, lambda written: event.is_set())
    yield event
    event.set()


def fail_to_renew(*args: Any, **kwargs: Any) -> None:
    raise OperationalError("gone")


async def start_hanging(harness: Harness, prompt: str) -> Chat:
    await post_async(harness, prompt)
    await wait_until(lambda: harness.server.calls)
    return await Chat.objects.aget()


async def start_asking(harness: Harness) -> asyncio.Task[Any]:
    """Sends a request whose batch runs until the gate opens."""
    before = harness.runtime.consumer.running_batches
    asking = asyncio.create_task(harness.ask("Why not?"))
    await wait_until(lambda: len(harness.server.calls) == before + 1)
    return asking


async def test_frozen_worker_keeps_batches_that_nobody_has_claimed(
    harness: Harness, keeper: LeaseKeeper, clock: FrozenClock, gate: threading.Event
) -> None:
    asking = await start_asking(harness)
    clock.ahead += FREEZE_S
    await keeper.renew_once()
    gate.set()
    assert (await asking).status_code == 200
    assert harness.server.sizes == [1], "one call, one charge"


async def test_frozen_worker_gives_up_only_what_another_worker_has_claimed(
    harness: Harness, keeper: LeaseKeeper, clock: FrozenClock, gate: threading.Event
) -> None:
    lost = await start_hanging(harness, HANG)
    await Chat.objects.filter(pk=lost.pk).aupdate(owner="two#other")
    clock.ahead += FREEZE_S
    asking = await start_asking(harness)
    await keeper.renew_once()
    await wait_until(lambda: harness.runtime.consumer.running_batches == 1)
    gate.set()
    assert (await asking).status_code == 200
    chat = await Chat.objects.aget(pk=lost.pk)
    assert (chat.owner, chat.status) == ("two#other", Status.RUNNING), "it stays as it is"
    assert len(harness.server.calls) == 2


async def test_batch_of_an_expired_lease_is_queued_again_when_the_database_is_back(
    harness: Harness,
    keeper: LeaseKeeper,
    clock: FrozenClock,
    gate: threading.Event,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its rows do not wait for the end of a lease; a batch that was claimed later continues."""
    lost = await start_hanging(harness, HANG_ONCE)
    clock.ahead += FREEZE_S
    asking = await start_asking(harness)
    with monkeypatch.context() as patch:
        patch.setattr(leases, "renew_leases", fail_to_renew)
        await keeper.renew_once()
    await wait_until(lambda: harness.runtime.consumer.running_batches == 1)
    assert (await Chat.objects.aget(pk=lost.pk)).status == Status.RUNNING
    gate.set()
    assert (await asking).status_code == 200
    await keeper.renew_once()
    await harness.settle()
    chat = await Chat.objects.aget(pk=lost.pk)
    assert chat.text == answer_prompt(HANG_ONCE)
    assert chat.attempt == 2
    assert sorted(harness.server.sizes) == [1, 1, 1]


async def test_hanging_database_ends_the_batches_of_expired_leases(
    harness: Harness,
    keeper: LeaseKeeper,
    clock: FrozenClock,
    monkeypatch: pytest.MonkeyPatch,
    settings: Any,
) -> None:
    await start_hanging(harness, HANG)
    back = threading.Event()
    monkeypatch.setattr(leases, "renew_leases", lambda *_, **__: back.wait())
    settings.LEASE_S = 0.4
    try:
        await keeper.renew_once()
        assert harness.runtime.consumer.running_batches == 1, "its lease was held at the beginning"
        clock.ahead += FREEZE_S
        await keeper.renew_once()
        await wait_until(lambda: harness.runtime.consumer.running_batches == 0)
    finally:
        back.set()
    assert harness.runtime.consumer.dispatcher.slots.running == 0


async def test_single_process_keeps_its_batches_without_the_database(
    harness: Harness,
    keeper: LeaseKeeper,
    clock: FrozenClock,
    gate: threading.Event,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """No other worker could claim them."""
    keeper.shared = False
    asking = await start_asking(harness)
    clock.ahead += FREEZE_S
    monkeypatch.setattr(leases, "renew_leases", fail_to_renew)
    await keeper.renew_once()
    gate.set()
    assert (await asking).status_code == 200
    assert harness.server.sizes == [1]


async def test_batch_that_ends_during_a_renewal_is_not_lost(
    harness: Harness, keeper: LeaseKeeper, gate: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    asking = await start_asking(harness)

    def renew_none(ids: list[int], *, owner: str) -> dict[int, int]:
        gate.set()
        while harness.runtime.consumer.recorder.open_batches:
            time.sleep(0.005)
        return {}

    monkeypatch.setattr(leases, "renew_leases", renew_none)
    await keeper.renew_once()
    assert (await asking).status_code == 200
    await harness.settle()


async def test_renewal_waits_no_longer_than_the_first_lease_lasts(
    harness: Harness, keeper: LeaseKeeper, clock: FrozenClock
) -> None:
    assert keeper._find_pause_s() == 900
    await start_hanging(harness, HANG)
    clock.ahead += 3500
    assert 0 < keeper._find_pause_s() <= 100


class SteppedClock:
    """The database's clock jumps before the first round of recovery."""

    rounds = 0

    def sample(self) -> None:
        self.rounds += 1

    @property
    def steady_s(self) -> float:
        return 1000.0 * (self.rounds - 1)


class Direct:
    """Stands for the database threads and for the recorder of a worker that runs no batch."""

    open_chats: set[int] = set()
    busy_batches: set[int] = set()

    async def run(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)


async def test_all_workers_may_renew_their_leases_after_a_jump_of_the_clock(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock, rounds = SteppedClock(), []

    def take_back(*args: Any, **fields: Any) -> Recovery:
        rounds.append(clock.rounds)
        return Recovery([], [], set(), [])

    monkeypatch.setattr(leases, "close_abandoned", take_back)
    monkeypatch.setattr(leases, "CLOCK", clock)
    monkeypatch.setattr(leases, "MAX_START_PAUSE_S", 0.0)
    monkeypatch.setattr(leases, "take_back_expired", take_back)
    monkeypatch.setattr(leases, "take_back_earlier", take_back)
    parts: Any = Direct()
    keeper = LeaseKeeper(
        database=parts,
        recorder=parts,
        name="a",
        owner="a#me",
        shared=True,
        cancel_batches=lambda batch_ids: None,
    )
    recovering = asyncio.create_task(keeper.recover())
    await wait_until(lambda: rounds)
    recovering.cancel()
    assert rounds[0] == 3, "after more than half of a lease"
