"""The end of a call is stored once, and its tokens are settled with it or not at all."""

import pytest

from batching.engine.call import CallReport, PreparedCall
from batching.engine.prompt import CombinedPrompt
from batching.engine.usage import TokenUsage
from batching.models import ModelCall
from batching.store import calls
from batching.store.recovery import take_back_expired
from batching.tests.rows import make_running
from chats.models import Chat


def report_usage(chat: Chat) -> CallReport:
    usage = TokenUsage(prompt=7, output=3)
    prompt = CombinedPrompt("m", (), "", "", {}, max_output_tokens=1)
    call = PreparedCall(ModelCall.objects.get(batch=chat.batch).pk, prompt)
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
