"""Which rows the retention setting and `./gateway prune` delete, and which they keep."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from batching.analytics.rollup import COUNTERS, COUNTS_BY_KEY, roll_up_pending
from batching.management.commands.prune import Command
from batching.models import Batch, CallStatus, DailyStat, ModelCall, Outcome
from batching.process import maintenance
from batching.store.retention import (
    Extent,
    prune,
    prune_chunk,
    prune_old,
    scrub_calls,
    trusts_clock,
)
from batching.tests.harness import LIMIT_S, Harness, wait_until
from batching.tests.rows import make_batch, make_call
from chats.models import Chat, Status
from chats.tests.rows import make_chat
from settings_app.models import OPEN_ACCESS_CLIENT_ID, ApiClient, GatewaySettings
from settings_app.snapshot import refresh_snapshot

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
MONTH = Extent(before=NOW - timedelta(days=30))

pytestmark = pytest.mark.django_db


def make_history(days_ago: float, *, usernames: list[str], now: datetime = NOW) -> Batch:
    """A finished batch of one chat for each username, with its call."""
    at = now - timedelta(days=days_ago)
    batch = make_batch(at=at, size=len(usernames))
    chats = [make_chat(batch=batch, received_at=at, username=name) for name in usernames]
    items = [chat.pk for chat in chats]
    make_call(batch, item_ids=items, prompt=f"of {usernames}", reply=f"to {usernames}")
    return batch


def run_prune(*arguments: str) -> str:
    out = StringIO()
    command = Command(stdout=out)
    command.pause = lambda seconds: None
    call_command(command, *arguments)
    return out.getvalue()


def remaining() -> tuple[int, int, int]:
    return Chat.objects.count(), Batch.objects.count(), ModelCall.objects.count()


def set_retention(**values: Any) -> None:
    GatewaySettings.objects.update(**values)
    refresh_snapshot()


def test_old_history_is_deleted_and_its_figures_stay() -> None:
    make_history(31, usernames=["ann", "bob"])
    make_history(29, usernames=["ann"])
    roll_up_pending()
    stats = DailyStat.objects.values("day", "priority", *COUNTERS, *COUNTS_BY_KEY)
    figures = list(stats)
    assert list(prune(MONTH)) == [{"chats": 2, "batches": 1, "calls": 1}]
    assert remaining() == (1, 1, 1)
    assert list(stats.all()) == figures
    marks = DailyStat.objects.order_by("day").values_list("rows_deleted", flat=True)
    assert list(marks) == [True, False]
    assert sum(stat["requests"] for stat in figures) == 3


def test_chunks_are_bounded() -> None:
    for _ in range(5):
        make_history(40, usernames=["ann"])
    roll_up_pending()
    assert [part["chats"] for part in prune(MONTH, size=2)] == [2, 2, 1]
    assert remaining() == (0, 0, 0)


def test_open_and_uncounted_rows_stay() -> None:
    old = NOW - timedelta(days=99)
    make_chat(Status.QUEUED, received_at=old)
    make_chat(Status.RUNNING, received_at=old, batch=make_batch(at=old, outcome=Outcome.RUNNING))
    make_chat(received_at=old)
    assert prune_chunk(MONTH) == {}
    assert remaining() == (3, 1, 0)


def test_batch_stays_while_one_of_its_chats_or_calls_does() -> None:
    shared = make_history(31, usernames=["ann", "bob"])
    Chat.objects.filter(username="bob").update(received_at=NOW, deadline=NOW)
    uncounted = make_history(31, usernames=["cid"])
    roll_up_pending()
    ModelCall.objects.filter(batch=uncounted).update(rolled_up=False, status=CallStatus.STARTED)
    prune_chunk(MONTH)
    assert set(Batch.objects.values_list("pk", flat=True)) == {shared.pk, uncounted.pk}
    assert remaining() == (1, 2, 2)


def test_old_batches_whose_chats_ran_elsewhere_are_deleted() -> None:
    make_call(make_batch(at=NOW - timedelta(days=31)))
    make_call(make_batch(at=NOW))
    roll_up_pending()
    assert prune_chunk(MONTH) == {"batches": 1, "calls": 1}
    assert remaining() == (0, 1, 1)


def test_retention_setting_decides_and_0_keeps_everything() -> None:
    make_history(31, usernames=["ann"])
    roll_up_pending()
    set_retention(retention_days=0)
    assert prune_old(now=NOW) == 0
    set_retention(retention_days=32)
    assert prune_old(now=NOW) == 0
    set_retention(retention_days=30)
    assert prune_old(now=NOW) == 3
    assert remaining() == (0, 0, 0)


def test_command_takes_the_setting_unless_days_are_given() -> None:
    now = datetime.now(UTC)
    make_history(40, usernames=["ann"], now=now)
    make_history(20, usernames=["ann"], now=now)
    set_retention(retention_days=30)
    assert run_prune("--dry-run") == "Would delete 1 chats, 1 batches, 1 model calls.\n"
    assert remaining() == (2, 2, 2)
    assert run_prune() == "Deleted 1 chats, 1 batches, 1 model calls.\n"
    assert remaining() == (1, 1, 1)
    assert run_prune("--days", "10") == "Deleted 1 chats, 1 batches, 1 model calls.\n"
    assert sum(stat.requests for stat in DailyStat.objects.all()) == 2


def test_chats_of_a_username_are_deleted_at_any_age_with_their_words() -> None:
    now = datetime.now(UTC)
    shared = make_history(1, usernames=["ann", "bob"], now=now)
    own = make_history(0, usernames=["ann"], now=now)
    other = make_history(0, usernames=["bob"], now=now)
    make_chat(Status.QUEUED, username="ann", received_at=now)
    asked = run_prune("--username", "ann", "--dry-run")
    assert asked == "Would delete 2 chats, 1 batches, 1 model calls.\n"
    said = run_prune("--username", "ann")
    assert "1 still open" in said
    assert set(Chat.objects.values_list("username", "status")) == {
        ("bob", "done"),
        ("ann", "queued"),
    }
    assert not Batch.objects.filter(pk=own.pk).exists()
    assert ModelCall.objects.values_list("prompt", "reply").get(batch=shared) == ("", "")
    assert ModelCall.objects.get(batch=other).prompt == "of ['bob']"


def test_words_in_an_earlier_batch_of_a_chat_are_found() -> None:
    died = make_batch()
    chat = make_chat(batch=make_batch())
    earlier = make_call(died, item_ids=[chat.pk, 999], prompt="words", reply="")
    kept = make_call(died, item_ids=[999], prompt="others")
    assert list(scrub_calls([chat.pk])) == [2]
    earlier.refresh_from_db()
    kept.refresh_from_db()
    assert (earlier.prompt, kept.prompt) == ("", "others")


def test_username_of_two_clients_is_deleted_for_the_named_one_only() -> None:
    now = datetime.now(UTC)
    make_history(1, usernames=["ann"], now=now)
    other = make_history(1, usernames=["ann"], now=now)
    shop = ApiClient.objects.create(name="shop")
    Chat.objects.filter(batch=other).update(client=shop)
    with pytest.raises(CommandError, match=r"--client \('open access', 'shop'\)"):
        run_prune("--username", "ann")
    with pytest.raises(CommandError, match="no API client 'nobody'"):
        run_prune("--username", "ann", "--client", "nobody")
    assert remaining() == (2, 2, 2)
    dry = run_prune("--username", "ann", "--client", "shop", "--dry-run")
    assert dry == "Would delete 1 chats, 1 batches, 1 model calls.\n"
    run_prune("--username", "ann", "--client", "shop")
    assert [chat.client_id for chat in Chat.objects.all()] == [OPEN_ACCESS_CLIENT_ID]
    run_prune("--username", "ann")
    assert remaining() == (0, 0, 0)


def test_username_with_days_deletes_only_old_chats() -> None:
    now = datetime.now(UTC)
    make_history(9, usernames=["ann"], now=now)
    make_history(1, usernames=["ann"], now=now)
    run_prune("--username", "ann", "--days", "5")
    assert remaining() == (1, 1, 1)


def test_all_prompts_are_blanked_and_all_answers_stay() -> None:
    make_history(1, usernames=["ann"])
    make_chat(Status.QUEUED, prompt="needed")
    assert "Blanked 1 prompts" in run_prune("--prompts")
    assert set(Chat.objects.values_list("prompt", flat=True)) == {"", "needed"}
    assert Chat.objects.get(status=Status.DONE).text
    assert ModelCall.objects.values_list("prompt", "reply").get() == ("", "")


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ([], "keeps everything"),
        (["--days", "-1"], "whole number"),
        (["--days", "x"], "whole number"),
        (["--prompts", "--dry-run"], "no other option"),
        (["--prompts", "--client", "shop"], "no other option"),
        (["--client", "shop"], "needs --username"),
    ],
)
def test_invalid_options_are_refused(arguments: list[str], reason: str) -> None:
    set_retention(retention_days=0)
    with pytest.raises(CommandError, match=reason):
        run_prune(*arguments)


@pytest.mark.parametrize(
    ("days_ago", "steady_s", "trusted"),
    [
        (1.5, 0, True),
        (90.5, 0, False),
        (0.1, 0, False),
        (90.5, 86_399, False),
        (90.5, 86_400, True),
    ],
)
def test_clock_is_trusted_after_a_day(days_ago: float, steady_s: float, trusted: bool) -> None:
    """After a jump by 90 days, the newest row is 90 days old or as new as the jump."""
    make_history(days_ago, usernames=["ann"])
    assert trusts_clock(NOW, steady_s=steady_s) is trusted


async def test_running_gateway_deletes_old_rows_once_it_trusts_the_clock(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    rounds = []

    def count_round(now: datetime, *, steady_s: float) -> bool:
        rounds.append(now)
        return trusts_clock(now, steady_s=steady_s)

    monkeypatch.setattr(maintenance, "RETENTION_DELAY_S", 0.0)
    monkeypatch.setattr(maintenance, "RETENTION_INTERVAL_S", 0.05)
    monkeypatch.setattr(maintenance, "trusts_clock", count_round)
    await harness.ask("Why?")
    await harness.settle()
    long_ago = datetime.now(UTC) - timedelta(days=91)
    await Chat.objects.aupdate(
        received_at=long_ago, due_at=long_ago, deadline=long_ago, rolled_up=True
    )
    await Batch.objects.aupdate(created_at=long_ago, rolled_up=True)
    await ModelCall.objects.aupdate(rolled_up=True)
    body = partial(maintenance.delete_old_rows, harness.runtime.database)
    harness.runtime.supervisor.start("retention now", body)
    await wait_until(lambda: len(rounds) > 2)
    assert await Chat.objects.acount() == 1, "the clock may have been set ahead"
    yesterday = {"received_at": datetime.now(UTC) - timedelta(days=1.5)}
    await asyncio.to_thread(lambda: make_chat(**yesterday))
    async with asyncio.timeout(LIMIT_S):
        while await ModelCall.objects.aexists():  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert await Chat.objects.acount() == 1


@pytest.mark.parametrize("stored", [True, False])
async def test_prompts_are_kept_as_the_setting_says(
    harness: Harness, stored: bool, transactional_db: Callable[..., Any]
) -> None:
    await harness.client.patch("/v1/settings", json={"store_prompts": stored})
    first = await harness.ask("Why so secret?", request_id="a")
    await harness.settle()
    chat, call = await Chat.objects.aget(), await ModelCall.objects.aget()
    assert (chat.prompt == "Why so secret?") is stored
    assert ("secret" in call.prompt) is ("secret" in call.reply) is stored
    assert chat.text == first.json()["text"]
    again = await harness.ask("Why so secret?", request_id="a")
    other = await harness.ask("Something else", request_id="a")
    assert again.json() == first.json()
    assert other.json()["code"] == "request_conflict"
