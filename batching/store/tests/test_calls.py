"""The end of a call is stored once, and its tokens are settled with it or not at all."""

import pytest

from batching.engine.items import BatchItem, CallReport, PreparedCall
from batching.engine.lanes import Priority
from batching.engine.prompt import CombinedPrompt
from batching.engine.runner import RunnableBatch
from batching.engine.usage import TokenUsage
from batching.models import ModelCall
from batching.store import calls
from batching.store.lane_rules import current_rules
from batching.store.recovery import take_back_expired
from batching.tests.rows import make_running
from chats.models import Chat
from chats.tests.rows import NOON


def report_usage(chat: Chat) -> CallReport:
    usage = TokenUsage(prompt=7, output=3)
    prompt = CombinedPrompt("m", (), "", "", {}, max_output_tokens=1)
    call = PreparedCall(ModelCall.objects.filter(batch=chat.batch).first().pk, prompt)
    return CallReport(call, usage=usage, shares={chat.pk: usage})


@pytest.mark.django_db
def test_shares_of_a_call_are_settled_once_even_if_its_end_is_stored_twice() -> None:
    chat = make_running("a#me")
    report = report_usage(chat)
    for _ in range(2):
        calls.end_calls([report])
    assert Chat.objects.get().settled_prompt == ModelCall.objects.get().prompt_tokens == 7


@pytest.mark.django_db
def test_late_end_of_a_call_that_another_process_closed_settles_nothing() -> None:
    chat = make_running("a#paused")
    take_back_expired(own="b#me")
    calls.end_calls([report_usage(chat)])
    assert Chat.objects.get().settled_prompt == 0
    call = ModelCall.objects.get()
    assert (call.status, call.error_code, call.prompt_tokens) == ("failed", "died", None)


@pytest.mark.django_db
def test_call_starts_only_for_the_chats_that_the_worker_still_runs() -> None:
    held, lost, later = (make_running("a#me") for _ in range(3))
    Chat.objects.filter(pk=lost.pk).update(owner="b#other", attempt=2)
    Chat.objects.filter(pk=later.pk).update(attempt=2)  # the worker runs it in a later batch, too
    items = [make_item(chat) for chat in (held, lost, later)]
    call, called = start(held, items)
    assert call is not None
    assert called == items[:1]
    assert ModelCall.objects.get(pk=call.id).item_ids == [held.pk]
    assert set(Chat.objects.values_list("pk", "attempt")) == {
        (held.pk, 2),
        (lost.pk, 2),
        (later.pk, 2),
    }
    assert start(held, items[1:2]) == (None, [])


@pytest.mark.django_db
def test_call_whose_record_was_not_acknowledged_counts_once() -> None:
    chats = [make_running("a#me") for _ in range(2)]
    items = [make_item(chat) for chat in chats]
    first, _ = start(chats[0], items)
    again, called = start(chats[0], items, repeated=True)
    assert first is not None
    assert again is not None
    assert called == items
    assert list(Chat.objects.values_list("attempt", flat=True)) == [2, 2]
    assert not ModelCall.objects.filter(pk=first.id).exists()
    assert ModelCall.objects.get(pk=again.id).item_ids == [chat.pk for chat in chats]


def make_item(chat: Chat) -> BatchItem:
    return BatchItem(chat.pk, "Why?", 100, deadline=30, target=1, attempts=1)


def start(
    chat: Chat, items: list[BatchItem], *, repeated: bool = False
) -> tuple[PreparedCall | None, list[BatchItem]]:
    assert chat.batch_id is not None
    first = report_usage(chat).call
    rule = current_rules()[Priority.HIGH]
    batch = RunnableBatch(chat.batch_id, rule, "m", tuple(items), first)
    return calls.start_call(batch, items, owner="a#me", now=NOON, repeated=repeated)
