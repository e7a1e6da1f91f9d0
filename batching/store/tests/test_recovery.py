"""Requests of dead processes go back into the queue; those of live processes stay."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.conf import settings

from batching.engine.runner import MAX_ATTEMPTS
from batching.llm.simulated.answers import answer_prompt
from batching.models import Batch, ModelCall
from batching.process.runtime import Runtime
from batching.store.recovery import (
    close_abandoned,
    give_up,
    take_back_earlier,
    take_back_expired,
    undo_claims,
)
from batching.tests.harness import LIMIT_S, Harness, post_async, wait_until
from batching.tests.rows import make_running
from chats.leases import renew_leases
from chats.models import Chat, Status
from chats.services import Finish, finish_chats
from chats.tests.rows import make_chat

NOW = datetime.now(UTC)  # for rows whose time does not matter


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
    outcomes = dict(Batch.objects.values_list("pk", "outcome"))
    assert outcomes == {lost.batch_id: "failed", busy.batch_id: "running"}
    assert ModelCall.objects.get(status="started").batch_id == busy.batch_id


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
    assert renew_leases([chat.pk], owner="a#slow") == {chat.pk: chat.batch_id}
    assert take_back_expired(own="b#me").requeued == [other.pk]
    chat.refresh_from_db()
    assert chat.status == "running"


@pytest.mark.django_db
def test_finish_that_is_repeated_without_need_is_reported_as_stored() -> None:
    """The acknowledgement of the first commit was lost; the client still needs its answer."""
    chat = make_running("a#me")
    values: dict[str, Any] = {"status": "done", "text": "Because.", "completed_at": NOW}
    for _ in range(2):
        assert finish_chats([Finish(chat.pk, "a#me", 1, values)]) == {chat.pk}
    later = values | {"completed_at": NOW + timedelta(seconds=1)}
    assert finish_chats([Finish(chat.pk, "a#me", 1, later)]) == set()


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


async def test_stop_puts_running_requests_back_and_counts_their_call(harness: Harness) -> None:
    await post_async(harness, "[[fault:hang-before-headers]] Why?")
    await wait_until(lambda: harness.server.calls)
    await harness.runtime.consumer.stop()
    chat = await Chat.objects.aget()
    assert (chat.status, chat.attempt, chat.owner) == (Status.QUEUED, 1, "")
    assert (await Batch.objects.aget()).outcome == "failed"
    assert (await ModelCall.objects.aget()).error_detail.endswith("(it was cancelled).")


async def test_request_is_not_asked_more_often_than_allowed_by_many_restarts(
    harness: Harness,
) -> None:
    await post_async(harness, "[[fault:hang-before-headers]] Why?")
    runtime = harness.runtime
    for calls in range(1, MAX_ATTEMPTS + 1):
        await wait_until(lambda calls=calls: len(harness.server.calls) == calls)
        if runtime is harness.runtime:  # the fixture closes its database threads
            await runtime.consumer.stop()
            await runtime.supervisor.stop()
        else:
            await runtime.stop()
        runtime = Runtime()
        await runtime.start()
    await runtime.stop()
    chat = await Chat.objects.aget()
    assert (chat.status, chat.attempt, chat.error_code) == ("failed", 3, "upstream_unavailable")
    assert len(harness.server.calls) == await ModelCall.objects.acount() == 3
    assert not await Batch.objects.filter(outcome="running").aexists()


@pytest.mark.django_db
def test_call_that_was_never_sent_does_not_count() -> None:
    unsent, sent = make_running("a#me"), make_running("a#me", attempt=2)
    ModelCall.objects.filter(batch=sent.batch).update(status="failed")
    give_up(owner="a#me")
    assert set(Chat.objects.values_list("pk", "status", "attempt")) == {
        (unsent.pk, "queued", 0),
        (sent.pk, "queued", 2),
    }
    assert ModelCall.objects.count() == 1
    assert list(Batch.objects.values_list("outcome", flat=True)) == ["failed", "failed"]


@pytest.mark.django_db
def test_only_batches_after_the_newest_known_one_are_undone() -> None:
    known, unknown, other = (make_running(name, lease_s=60) for name in ("w", "w", "v"))
    ids = [known.pk, unknown.pk, other.pk]
    recovery = undo_claims(ids, owner="w", newest=known.batch_id)
    assert recovery.requeued == [unknown.pk]
    statuses = Chat.objects.order_by("pk").values_list("status", "attempt")
    running = (Status.RUNNING, 1)
    assert list(statuses) == [running, (Status.QUEUED, 0), running]
    assert ModelCall.objects.count() == 2, "the call that was never sent is gone"


@pytest.mark.django_db
def test_batch_that_answered_some_of_its_requests_is_partial_after_its_process_died() -> None:
    lost = make_running("a#dead")
    assert lost.batch
    Batch.objects.update(size=2)
    make_chat(status=Status.DONE, text="Because.", batch=lost.batch)
    assert take_back_expired(own="b#me").requeued == [lost.pk]
    assert Batch.objects.get().outcome == "partial"


@pytest.mark.django_db
def test_batch_whose_process_died_after_the_last_answer_is_closed_later() -> None:
    long_ago = NOW - timedelta(hours=1)
    ended, busy, recent, running = [make_running("a#dead").batch_id for _ in range(4)]
    Batch.objects.exclude(pk=recent).update(created_at=long_ago)
    chats = Chat.objects.exclude(batch=running)
    chats.update(status=Status.DONE, text="Because.", completed_at=long_ago)
    close_abandoned(busy=[busy])
    outcomes = dict(Batch.objects.values_list("pk", "outcome"))
    assert outcomes == {ended: "done", busy: "running", recent: "running", running: "running"}
    assert ModelCall.objects.get(batch=ended).error_code == "died"
