"""`check_books` names each contradiction between the rows and what follows from them."""

from datetime import UTC, datetime, timedelta
from io import StringIO

import pytest
from django.core.management import CommandError, call_command

from batching.analytics import settlement
from batching.analytics.books import check_books
from batching.analytics.rollup import roll_up_pending
from batching.models import Batch, CallStatus, DailyStat, ModelCall, Outcome
from batching.store.retention import Extent, prune_chunk
from batching.tests.rows import make_batch, make_call, make_running
from chats.models import Chat, Status
from chats.tests.rows import NOON, make_chat

pytestmark = pytest.mark.django_db

TOKENS = {"prompt_tokens": 10, "output_tokens": 6, "thoughts_tokens": 2, "cached_tokens": 4}


def make_books() -> tuple[Batch, list[Chat], list[ModelCall]]:
    """A batch of three: one was answered by the first call, one by its retry, one failed."""
    batch = make_batch(size=3, outcome=Outcome.PARTIAL)
    shares = {"settled_prompt": 4, "settled_output": 2, "settled_thoughts": 1}
    chats = [
        make_chat(batch=batch, attempt=1, **shares),
        make_chat(batch=batch, attempt=2, **shares, settled_cached=8),
        make_chat(Status.FAILED, batch=batch, attempt=1, settled_prompt=12, settled_output=8),
    ]
    Chat.objects.filter(pk=chats[2].pk).update(settled_thoughts=2)
    together = make_call(batch, item_ids=[chat.pk for chat in chats], **TOKENS)
    alone = make_call(batch, item_ids=[chats[1].pk], kind="single", attempt=2, **TOKENS)
    roll_up_pending()
    return batch, chats, [together, alone]


def test_books_without_a_contradiction_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settlement, "PAGE", 2)
    make_books()
    make_books()
    make_running("a#me", lease_s=60)
    make_chat(Status.EXPIRED)
    out = StringIO()
    call_command("check_books", stdout=out)
    assert out.getvalue() == "The books agree.\n"


def test_wrong_outcome_is_named_with_the_batch() -> None:
    batch, _, _ = make_books()
    Batch.objects.update(outcome=Outcome.FAILED)
    out = StringIO()
    with pytest.raises(CommandError, match=r"1 contradictions"):
        call_command("check_books", stdout=out)
    problem = "its outcome is failed, expected partial: it answered 1 of 3 requests."
    assert out.getvalue() == f"batch {batch.pk}: {problem}\n".replace("1 of", "2 of")


def test_batch_that_stays_running_after_its_requests_have_ended_is_named() -> None:
    batch, _, [call, _] = make_books()
    Batch.objects.update(outcome=Outcome.RUNNING)
    ModelCall.objects.filter(pk=call.pk).update(status=CallStatus.STARTED)
    assert [line for line in check_books() if line.startswith(f"batch {batch.pk}: its outcome is")]
    Chat.objects.filter(batch=batch).update(completed_at=datetime.now(UTC))
    assert list(check_books()) == [], "it may be about to end"


def test_ended_batch_with_a_running_request_is_named() -> None:
    chat = make_running("a#me")
    Batch.objects.update(outcome=Outcome.DONE)
    assert set(check_books()) == {
        f"batch {chat.batch_id}: its outcome is done, but 1 of its requests run.",
        f"call {ModelCall.objects.get().pk}: its status is started, expected complete or failed:"
        f" batch {chat.batch_id} has ended.",
    }


def test_attempt_that_no_call_explains_is_named() -> None:
    _, [first, second, _], [together, alone] = make_books()
    Chat.objects.filter(pk=first.pk).update(attempt=0)
    Chat.objects.filter(pk=second.pk).update(attempt=3)
    calls = f"(calls {together.pk}, {alone.pk})"
    assert list(check_books()) == [
        f"request {first.pk}: attempt is 0, expected 1 (call {together.pk}).",
        f"request {second.pk}: attempt is 3, expected 2 {calls}.",
    ]


def test_attempts_of_a_request_that_was_sent_again_count_from_then_on() -> None:
    _, [_, _, failed], _ = make_books()
    later = NOON + timedelta(hours=1)
    Chat.objects.filter(pk=failed.pk).update(
        status=Status.RUNNING,
        batch=None,
        rolled_up=False,
        received_at=later,
        attempt=1,
        deadline=later,
        error_code="",
    )
    batch = make_batch(at=later, outcome=Outcome.RUNNING)
    Chat.objects.filter(pk=failed.pk).update(batch=batch)
    make_call(batch, item_ids=[failed.pk], status=CallStatus.STARTED)
    assert list(check_books()) == [], "its failure stays counted in the day's figures"


def test_tokens_that_were_settled_twice_are_named_with_their_calls() -> None:
    _, [first, *_], [together, alone] = make_books()
    make_books()
    Chat.objects.filter(pk=first.pk).update(settled_prompt=8)
    assert list(check_books()) == [
        f"calls {together.pk}, {alone.pk}: the shares of the requests add up to"
        " 24 prompt tokens (expected 20)."
    ]


def test_calls_that_share_requests_across_batches_are_compared_together() -> None:
    """The second batch asks a request of the first again, and a newer one."""
    first, second = make_batch(size=2, outcome=Outcome.PARTIAL), make_batch(size=2)
    done = make_chat(batch=first, attempt=1, settled_prompt=5)
    moved = make_chat(batch=second, attempt=2, settled_prompt=9)
    newer = make_chat(batch=second, attempt=1, settled_prompt=6)
    one = make_call(first, item_ids=[done.pk, moved.pk], prompt_tokens=8)
    two = make_call(second, item_ids=[moved.pk, newer.pk], prompt_tokens=12)
    assert list(check_books()) == []
    ModelCall.objects.filter(pk=one.pk).update(prompt_tokens=9)
    [problem] = check_books()
    assert problem.startswith(f"calls {one.pk}, {two.pk}: ")


def test_tokens_without_a_call_are_named() -> None:
    chat = make_chat(Status.EXPIRED, settled_output=3)
    assert list(check_books()) == [
        f"request {chat.pk}: tokens [0, 3, 0, 0] are settled, but no call asked it."
    ]


@pytest.mark.parametrize("change", [1, -1])
def test_figures_of_a_day_that_differ_from_the_rows_are_named(change: int) -> None:
    make_books()
    DailyStat.objects.update(batches=1 + change, failures={"blocked": 1 + change})
    problems = [f"batches is {1 + change}, expected 1."]
    if change < 0:
        problems.append("failures[blocked] is 0, expected 1.")
    day = f"figures of {NOON.date()} MEDIUM: "
    assert list(check_books()) == [day + problem for problem in problems]


def test_figures_that_are_missing_are_named() -> None:
    make_books()
    DailyStat.objects.all().delete()
    assert f"figures of {NOON.date()} MEDIUM: requests is 0, expected 3." in list(check_books())


def test_deleted_rows_are_no_contradiction() -> None:
    """The retention and `prune` delete some requests of a batch, later all, but no figures."""
    _, chats, _ = make_books()
    make_books()
    Chat.objects.filter(pk=chats[0].pk).update(username="bob")
    prune_chunk(Extent(username="bob"))
    assert list(check_books()) == []
    prune_chunk(Extent(before=NOON + timedelta(days=1)), size=2)
    assert list(check_books()) == []
    prune_chunk(Extent(before=NOON + timedelta(days=1)))
    prune_chunk(Extent(before=NOON + timedelta(days=1)))
    assert not Batch.objects.exists()
    assert list(check_books()) == []
    DailyStat.objects.update(requests=0)
    make_chat(Status.FAILED, rolled_up=True)
    assert list(check_books()) == [f"figures of {NOON.date()} MEDIUM: requests is 0, expected 1."]
