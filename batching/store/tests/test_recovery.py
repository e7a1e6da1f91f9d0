"""Requests of dead processes go back into the queue; those of live processes stay."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.conf import settings

from batching.llm.simulated.answers import answer_prompt
from batching.models import Batch, ModelCall
from batching.process.runtime import Runtime
from batching.store.recovery import take_back_earlier, take_back_expired
from batching.tests.harness import LIMIT_S, Harness, post_async, wait_until
from batching.tests.rows import make_call
from chats.leases import renew_leases
from chats.models import Chat, Status
from chats.services import Finish, finish_chats

NOW = datetime.now(UTC)  # for rows whose time does not matter


def make_running(owner: str, *, attempt: int = 1, lease_s: float = -1.0) -> Chat:
    batch = Batch.objects.create(
        priority=2,
        trigger="window",
        size=1,
        model="m",
        settings={"latency_ms": 500},
        owner=owner,
        created_at=NOW,
    )
    chat = Chat.objects.create(
        username="ann",
        request_id=f"{owner}-{attempt}-{lease_s}",
        prompt="Why?",
        priority=2,
        status=Status.RUNNING,
        owner=owner,
        attempt=attempt,
        batch=batch,
        lease_until=datetime.now(UTC) + timedelta(seconds=lease_s),
        created_at=NOW,
        received_at=NOW,
        due_at=NOW,
        deadline=NOW + timedelta(seconds=300),
    )
    make_call(batch, at=NOW, kind="single", status="started", attempt=attempt, item_ids=[chat.pk])
    return chat


@pytest.mark.django_db
def test_expired_lease_puts_the_request_back_and_marks_its_call() -> None:
    chat = make_running("a#dead")
    recovery = take_back_expired(own="b#me")
    assert recovery.requeued == [chat.pk]
    chat.refresh_from_db()
    assert (chat.status, chat.attempt, chat.owner, chat.batch_id) == ("queued", 1, "", None)
    call = ModelCall.objects.get()
    assert (call.status, call.perhaps_billed) == ("failed", True)
    assert Batch.objects.get().outcome == "failed"


@pytest.mark.django_db
def test_valid_leases_and_own_busy_chats_are_not_taken_back() -> None:
    make_running("a#alive", lease_s=60)
    mine = make_running("b#me", lease_s=-3600)
    recovery = take_back_expired(own="b#me", busy=[mine.pk])
    assert (recovery.requeued, recovery.exhausted) == ([], [])
    assert Chat.objects.filter(status=Status.RUNNING).count() == 2
    assert ModelCall.objects.filter(status="started").count() == 2


@pytest.mark.django_db
def test_process_takes_back_its_own_chats_that_it_does_not_run() -> None:
    lost, busy = make_running("b#me"), make_running("b#me", attempt=2)
    assert take_back_expired(own="b#me", busy=[busy.pk]).requeued == [lost.pk]
    assert ModelCall.objects.filter(status="started").count() == 2, "the other call runs on"


@pytest.mark.django_db
def test_request_without_an_attempt_left_fails_with_its_reason() -> None:
    chat = make_running("a#dead", attempt=3)
    assert take_back_expired(own="b#me").exhausted == [chat.pk]
    chat.refresh_from_db()
    assert (chat.status, chat.error_code) == ("failed", "upstream_unavailable")
    assert "died" in chat.error_detail


@pytest.mark.django_db
def test_chats_of_a_dead_process_with_the_same_name_are_taken_back() -> None:
    mine = make_running("a#before", lease_s=settings.LEASE_S / 2 - 1)
    make_running("ab#other", lease_s=0)
    assert take_back_earlier("a", own="a#now").requeued == [mine.pk]


@pytest.mark.django_db
def test_process_of_the_same_name_that_renews_its_leases_is_alive() -> None:
    make_running("a#draining", lease_s=settings.LEASE_S * 0.75)
    assert take_back_earlier("a", own="a#now").requeued == []
    assert Chat.objects.get().status == "running"
    assert Batch.objects.get().outcome == "running"


@pytest.mark.django_db
def test_renewed_lease_is_not_taken_back() -> None:
    chat = make_running("a#slow", lease_s=-1)
    other = make_running("a#slow", attempt=2, lease_s=-1)
    assert (
        renew_leases([chat.pk], owner="a#slow", until=datetime.now(UTC) + timedelta(seconds=15))
        == 1
    )
    assert take_back_expired(own="b#me").requeued == [other.pk]
    chat.refresh_from_db()
    assert chat.status == "running"


@pytest.mark.django_db
def test_finish_of_a_process_that_lost_its_lease_changes_nothing() -> None:
    chat = make_running("a#dead")
    take_back_expired(own="b#me")
    values: dict[str, Any] = {"status": "done", "text": "late", "completed_at": NOW}
    assert finish_chats([Finish(chat.pk, "a#dead", 1, values)]) == set()
    chat.refresh_from_db()
    assert (chat.status, chat.text) == ("queued", None)


async def test_restarted_gateway_answers_the_requests_of_its_predecessor(
    harness: Harness,
) -> None:
    await post_async(harness, "[[fault:hang:1]] Why?", request_id="kept")
    await wait_until(lambda: harness.server.calls)
    dead = harness.runtime
    await dead.supervisor.stop()  # as if it had been killed: it writes nothing more
    again = Runtime()
    await again.start()
    try:
        async with asyncio.timeout(LIMIT_S):
            while (await Chat.objects.aget()).status != Status.DONE:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
    finally:
        await again.stop()
    chat = await Chat.objects.aget()
    assert chat.text == answer_prompt("[[fault:hang:1]] Why?")
    assert chat.attempt == 2
    assert harness.server.sizes == [1, 1]
    assert await ModelCall.objects.filter(perhaps_billed=True).acount() == 1


async def test_stop_puts_running_requests_back_with_their_attempt(harness: Harness) -> None:
    await post_async(harness, "[[fault:hang-before-headers]] Why?")
    await wait_until(lambda: harness.server.calls)
    await harness.runtime.consumer.stop()
    chat = await Chat.objects.aget()
    assert (chat.status, chat.attempt, chat.owner) == (Status.QUEUED, 0, "")
