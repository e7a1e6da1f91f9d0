"""Good answers to realistic prompts pass through the whole gateway without a mark."""

from typing import Any

import pytest

from batching.engine.tests.good_answers import draw_batches, read_all
from batching.llm.simulated.faults import Script
from batching.tests.faults.answers import rewrite_answers
from batching.tests.harness import Harness, change
from chats.models import Chat

GOOD_ANSWERS = {example.prompt: example.answer for example in read_all()}


@pytest.fixture
def script() -> Script:
    def answer_well(call: Any) -> Any:
        return rewrite_answers(GOOD_ANSWERS.__getitem__)

    return answer_well


@pytest.mark.parametrize("mix", ["everything", "same code", "both directions"])
async def test_good_answers_are_returned_without_a_mark_or_another_call(
    harness: Harness, mix: str
) -> None:
    await change(harness, high_priority={"hold_until_checked": True})
    batches = [batch for batch in draw_batches(mix, count=8) if len(batch) > 1][:4]
    for batch in batches:
        replies = await harness.ask_all([example.prompt for example in batch])
        assert [reply.json()["text"] for reply in replies] == [e.answer for e in batch]
    await harness.settle()
    assert not await Chat.objects.exclude(suspect="").aexists()
    assert harness.server.sizes == [len(batch) for batch in batches]
