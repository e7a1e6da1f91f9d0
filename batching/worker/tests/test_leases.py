"""A worker keeps each batch for as long as it holds its lease, and no longer."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db import OperationalError

from batching.models import CallStatus, ModelCall
from batching.tests.harness import Harness, post_async, wait_until
from batching.tests.model_gate import use_gate
from batching.worker import claimer, consumer, leases
from batching.worker import recorder as recorder_module
from batching.worker.leases import LeaseKeeper
from chats.leases import Recovery
from chats.models import Chat, Status

HANG = "[[fault:hang-before-headers]] Why?"
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
async def keeper(harness: Harness) -> LeaseKeeper:
    return harness.runtime.consumer.leases


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """The model ends its replies when it is set."""
    event = threading.Event()
    use_gate(monkeypatch, lambda written: event.is_set())
    yield event
    event.set()


def fail() -> None:
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


@pytest.mark.parametrize("hangs", [False, True])
async def test_results_are_kept_while_the_database_is_away(
    harness: Harness,
    keeper: LeaseKeeper,
    clock: FrozenClock,
    gate: threading.Event,
    monkeypatch: pytest.MonkeyPatch,
    settings: Any,
    hangs: bool,
) -> None:
    """No worker can take over anything meanwhile."""
    asking = await start_asking(harness)
    back = threading.Event()
    clock.ahead += FREEZE_S
    with monkeypatch.context() as patch:
        settings.LEASE_S = 0.4
        patch.setattr(leases, "renew_leases", lambda *_, **__: back.wait() if hangs else fail())
        assert not await keeper.renew_once()
    back.set()
    assert harness.runtime.consumer.running_batches == 1
    gate.set()
    assert (await asking).status_code == 200
    assert harness.server.sizes == [1], "one call, one charge"


async def test_chat_whose_result_waits_to_be_stored_is_held(
    harness: Harness, gate: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = harness.runtime.consumer.recorder
    back = threading.Event()
    finish = recorder_module.finish_chats

    def finish_later(*arguments: Any, **named: Any) -> Any:
        if back.is_set():
            return finish(*arguments, **named)
        raise OperationalError("locked")

    monkeypatch.setattr(recorder_module, "finish_chats", finish_later)
    asking = await start_asking(harness)
    chat = await Chat.objects.aget()
    gate.set()
    await wait_until(lambda: not harness.runtime.consumer.running_batches)
    assert recorder.open_chats == {chat.pk}
    assert recorder.busy_batches == {chat.batch_id}
    back.set()
    assert (await asking).status_code == 200
    await harness.settle()
    assert recorder.busy_batches == recorder.open_chats == set()


async def test_batch_that_was_lost_before_its_claim_was_confirmed_makes_no_call(
    harness: Harness, clock: FrozenClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim, claimed = claimer.claim_batches, []

    def claim_slowly(*args: Any, **kwargs: Any) -> Any:
        claims = claim(*args, **kwargs)
        Chat.objects.update(owner="two#other")
        clock.ahead += FREEZE_S
        claimed.append(1)
        return claims

    monkeypatch.setattr(claimer, "claim_batches", claim_slowly)
    harness.runtime.consumer.claimer.clock = clock.monotonic
    await post_async(harness, "Why?")
    await wait_until(lambda: claimed and not harness.runtime.consumer.running_batches)
    assert harness.server.calls == []
    assert harness.runtime.consumer.dispatcher.slots.running == 0


async def test_claim_whose_commit_was_not_acknowledged_is_undone_at_once(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim, failures = claimer.claim_batches, []

    def claim_unacknowledged(*args: Any, **kwargs: Any) -> Any:
        claims = claim(*args, **kwargs)
        if not failures:
            failures.append(claims)
            fail()
        return claims

    monkeypatch.setattr(claimer, "claim_batches", claim_unacknowledged)
    answer = await harness.ask("Why?")
    assert answer.status_code == 200
    assert harness.server.sizes == [1]
    await harness.settle()
    assert (await Chat.objects.aget()).attempt == 1, "the first call was never sent"
    assert [call.status async for call in ModelCall.objects.all()] == [CallStatus.COMPLETE]


async def test_stop_puts_a_request_back_whose_claim_has_begun(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On Postgres the claim may be committed after the worker's other transactions."""
    worker = harness.runtime.consumer
    run = worker.claimer._claim
    begun, go_on, ended = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def claim_later(requests: Any) -> Any:
        begun.set()
        await go_on.wait()
        claims = await run(requests)
        ended.set()
        return claims

    monkeypatch.setattr(worker.claimer, "_claim", claim_later)
    await post_async(harness, "Why?")
    await begun.wait()
    stopping = asyncio.create_task(worker.stop())
    await wait_until(lambda: not worker.running_batches)
    await asyncio.wait([stopping], timeout=0.2)
    go_on.set()
    await stopping
    await ended.wait()
    chat = await Chat.objects.aget()
    assert (chat.status, chat.attempt) == (Status.QUEUED, 0)


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


class SteppedClock:
    """The database's clock jumps before the first round of recovery."""

    rounds = 0

    def sample(self) -> None:
        self.rounds += 1

    @property
    def steady_s(self) -> float:
        return 1000.0 * (self.rounds - 1)


class SteadyClock:
    steady_s = float("inf")

    def sample(self) -> None:
        pass


class Direct:
    """Replaces the database threads and the recorder of a worker that runs no batch."""

    open_chats: set[int] = set()
    busy_batches: set[int] = set()
    now = 0.0

    async def run(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)


class FirstFails(Direct):
    """The first statement fails; each one takes 700 s."""

    async def run(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        self.now += 700
        if self.now == 700:
            raise OperationalError("gone")
        return function(*args, **kwargs)


class FirstHangs(Direct):
    """The first statement takes more than a quarter of a lease."""

    async def run(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        self.now += 700 if self.now else 1000
        return function(*args, **kwargs)


async def recover_until_taken_back(
    monkeypatch: pytest.MonkeyPatch, parts: Any, clock: Any, found: Callable[[], float]
) -> float:
    """Returns `found()` at the time at which the first requests were taken back."""
    times = []

    def take_back(*args: Any, **fields: Any) -> Recovery:
        times.append(found())
        return Recovery([], [], set(), [])

    for name in ("take_back_earlier", "take_back_expired", "close_abandoned"):
        monkeypatch.setattr(leases, name, take_back)
    monkeypatch.setattr(leases, "CLOCK", clock)
    monkeypatch.setattr(leases, "MAX_START_PAUSE_S", 0.0)
    keeper = LeaseKeeper(
        database=parts,
        recorder=parts,
        name="a",
        owner="a#me",
        cancel_batches=lambda batch_ids: None,
        clock=lambda: parts.now,
    )
    recovering = asyncio.create_task(keeper.recover())
    await wait_until(lambda: times)
    recovering.cancel()
    return times[0]


async def test_all_workers_may_renew_their_leases_after_a_jump_of_the_clock(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = SteppedClock()
    rounds = await recover_until_taken_back(monkeypatch, Direct(), clock, lambda: clock.rounds)
    assert rounds == 3, "after more than half of a lease"


@pytest.mark.parametrize(("database", "back_at"), [(FirstFails(), 1400), (FirstHangs(), 1000)])
async def test_all_workers_may_renew_their_leases_after_the_database_was_away(
    monkeypatch: pytest.MonkeyPatch, database: Direct, back_at: float
) -> None:
    clock = SteadyClock()
    taken_at = await recover_until_taken_back(monkeypatch, database, clock, lambda: database.now)
    assert taken_at > back_at + 1800, "after more than half of a lease"
