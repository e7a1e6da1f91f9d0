"""The stored demo history: rows that belong together, figures that agree, and its removal."""

import random
from collections import Counter
from datetime import UTC, datetime, timedelta
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db.models import Count, F, Q, Sum

from batching.analytics.rollup import roll_up_pending
from batching.analytics.summary import summarize
from batching.demo import store
from batching.demo.history import DEMO_OWNER, DemoHistory
from batching.demo.store import remove_history, store_history
from batching.management.commands.seed_demo import Command
from batching.models import Batch, CallStatus, DailyStat, ModelCall
from batching.store.lane_rules import current_rules
from batching.store.retention import Extent, prune
from batching.tests.rows import make_batch, make_call
from chats.models import Chat, Status
from chats.tests.rows import make_chat

NOW = datetime(2026, 6, 10, 15, 30, tzinfo=UTC)
KINDS = ("prompt", "output", "thoughts", "cached")

pytestmark = pytest.mark.django_db


def store_demo(count: int) -> None:
    rules, chance = current_rules(), random.Random(1)
    history = DemoHistory(count, weeks=6, now=NOW, rules=rules, model="m", chance=chance)
    for _ in store_history(history.generate()):
        pass


@pytest.fixture
def stored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "BATCHES_A_TRANSACTION", 100)
    store_demo(500)


def run_seed(*arguments: str) -> str:
    out = StringIO()
    call_command(Command(stdout=out), *arguments)
    return out.getvalue()


def stats() -> list[dict[str, Any]]:
    return list(DailyStat.objects.order_by("day", "priority").values())


def without_ids(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in row.items() if name != "id"} for row in rows]


def remaining() -> tuple[int, int, int]:
    return Chat.objects.count(), Batch.objects.count(), ModelCall.objects.count()


def test_rows_belong_together(stored: None) -> None:
    assert Chat.objects.count() == 500
    assert not Chat.objects.filter(rolled_up=False).exists()
    unsent = Q(status__in=[Status.CANCELLED, Status.EXPIRED])
    assert not Chat.objects.filter(unsent, batch__isnull=False).exists()
    assert not Chat.objects.filter(~unsent, batch=None).exists()
    counted = Batch.objects.annotate(chats_there=Count("chats"))
    assert counted.exists()
    assert not counted.exclude(size=F("chats_there")).exists()
    for call in ModelCall.objects.select_related("batch"):
        of_batch = set(call.batch.chats.values_list("pk", flat=True))
        assert set(call.item_ids) <= of_batch
        prompts = Chat.objects.filter(pk__in=call.item_ids).values_list("username", flat=True)
        assert len(prompts) == len(call.item_ids) > 0


def test_reply_of_a_call_holds_the_answers_of_its_chats(stored: None) -> None:
    for call in ModelCall.objects.filter(attempt=1, status=CallStatus.COMPLETE)[:50]:
        for chat in Chat.objects.filter(pk__in=call.item_ids, attempt=1, status=Status.DONE):
            words = chat.text.split("\n")[0].split('"')[0]
            assert words in call.reply


def test_ids_follow_the_times(stored: None) -> None:
    batches = Batch.objects.order_by("created_at").values_list("pk", flat=True)
    assert list(batches) == sorted(batches)


def test_stored_figures_equal_those_of_the_roll_up(stored: None) -> None:
    written = without_ids(stats())
    DailyStat.objects.all().delete()
    for model in (Chat, Batch, ModelCall):
        assert not model.objects.filter(rolled_up=False).exists()
        model.objects.update(rolled_up=False)
    while roll_up_pending():
        pass
    assert without_ids(stats()) == written


def test_analytics_agree_with_the_rows(stored: None) -> None:
    document = summarize()
    done = Chat.objects.filter(status=Status.DONE)
    failures = Counter(
        Chat.objects.exclude(status=Status.DONE).values_list("error_code", flat=True)
    )
    tokens = ModelCall.objects.aggregate(**{kind: Sum(f"{kind}_tokens") for kind in KINDS})
    calls, batches = ModelCall.objects.count(), Batch.objects.count()
    assert (document["requests"], document["answered"]) == (500, done.count())
    assert (document["total_requests"], document["model_calls"]) == (batches, calls)
    assert document["calls_saved"] == Chat.objects.exclude(batch=None).count() - calls
    assert document["tokens"] == tokens
    assert document["failures"] == failures
    in_time = done.filter(latency_ms__lte=F("batch__settings__latency_ms")).count()
    assert document["slo_attainment"] == round(in_time / done.count(), 4)
    assert 0.6 < document["slo_attainment"] < 0.99
    assert document["calls_saved"] > 0


def test_running_server_counts_nothing_again(stored: None) -> None:
    before = stats()
    assert roll_up_pending() == 0
    assert stats() == before


def test_command_writes_the_requested_number_of_chats() -> None:
    before = datetime.now(UTC)
    output = run_seed("--chats", "300", "--weeks", "2", "--seed", "4")
    chats, batches, calls = remaining()
    assert output == f"Wrote {chats} chats, {batches} batches, {calls} model calls.\n"
    assert chats == 300
    received = Chat.objects.values_list("received_at", flat=True)
    assert before - timedelta(weeks=2, hours=1) < min(received) < max(received) < before
    assert sum(stat["requests"] for stat in stats()) == 300


def test_many_transactions_store_the_same_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "BATCHES_A_TRANSACTION", 20)
    run_seed("--chats", "300")
    assert Chat.objects.count() == 300
    assert sum(stat["requests"] for stat in stats()) == 300


def test_same_seed_can_be_used_again() -> None:
    run_seed("--chats", "100")
    run_seed("--chats", "100")
    assert Chat.objects.count() == 200


def test_command_refuses_a_database_in_use() -> None:
    make_chat(username="ann")
    make_chat(username="demo")
    with pytest.raises(
        CommandError, match=r"holds 2 chats that are not demo history: .* give --yes"
    ):
        run_seed("--chats", "10")
    assert Chat.objects.count() == 2
    run_seed("--chats", "10", "--yes")
    assert Chat.objects.count() == 12


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--chats", "10", "--remove"],
        ["--chats", "0"],
        ["--chats", "ten"],
        ["--chats", "10", "--weeks", "0"],
        ["--chats", "100000001"],
        ["--chats", "10", "--weeks", "521"],
    ],
)
def test_command_refuses_wrong_arguments(arguments: list[str]) -> None:
    with pytest.raises(CommandError):
        run_seed(*arguments)
    assert Chat.objects.count() == 0


def test_command_warns_if_the_retention_would_delete_some_rows() -> None:
    assert "older than 90 days" not in run_seed("--chats", "10")
    assert "older than 90 days" in run_seed("--chats", "10", "--weeks", "14")


def test_removal_leaves_nothing() -> None:
    run_seed("--chats", "700")
    chats, batches, calls = remaining()
    output = run_seed("--remove")
    assert output == f"Removed {chats} chats, {batches} batches, {calls} model calls.\n"
    assert remaining() == (0, 0, 0)
    assert stats() == []


def test_removal_leaves_real_history_and_its_figures() -> None:
    for days in range(3):
        batch = make_batch(at=NOW - timedelta(days=days), size=2)
        times = {"received_at": batch.created_at, "batch": batch}
        chats = [make_chat(latency_ms=90, **times), make_chat(Status.FAILED, **times)]
        make_call(batch, prompt_tokens=9, item_ids=[chat.pk for chat in chats])
    make_chat(Status.CANCELLED, username="demo-like", received_at=NOW)
    roll_up_pending()
    before, rows = stats(), remaining()
    store_demo(500)
    assert stats() != before
    removed = sum(remove_history(), Counter())
    assert removed["chats"] == 500
    assert without_ids(stats()) == without_ids(before)
    assert remaining() == rows


def test_pruned_demo_chats_stay_counted() -> None:
    store_demo(500)
    username = Chat.objects.values_list("username", flat=True).first()
    pruned = sum(prune(Extent(username=username)), Counter())["chats"]
    assert pruned > 0
    assert not Chat.objects.filter(username=username).exists()
    for _ in remove_history():
        pass
    assert remaining() == (0, 0, 0)
    assert sum(stat["requests"] for stat in stats()) == pruned


def test_demo_request_that_is_sent_again_becomes_real() -> None:
    store_demo(300)
    chat = Chat.objects.filter(owner=DEMO_OWNER).exclude(status=Status.DONE).first()
    Chat.objects.filter(pk=chat.pk).update(owner="", batch=None, status=Status.QUEUED)
    for _ in remove_history():
        pass
    assert list(Chat.objects.values_list("pk", flat=True)) == [chat.pk]
