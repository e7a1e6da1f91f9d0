"""Tests of the deltas that are emitted while the model still writes the answers."""

import dataclasses
import json
from collections.abc import Callable, Sequence

import pytest

from batching.engine.model import Piece
from batching.engine.prompt import CombinedPrompt
from batching.engine.tests.scripted import Bench, Step, answer_of, ask, reply_to
from batching.engine.tests.virtual_loop import run_virtual

SECRET = "My account number is 4711 0815 2342 and my mother's maiden name is Rumpelstilzchen, so: "


def run_streamed(
    script: Callable[[int, CombinedPrompt], Sequence[Step]],
    *,
    count: int = 3,
    streamed: Sequence[int] = (0, 1, 2),
    hold: bool = False,
    prompts: Sequence[str] = (),
) -> Bench:
    async def main() -> Bench:
        bench = Bench(script, count=len(prompts) or count, prompts=prompts)
        for index in streamed:
            bench.items[index].streamed = True
        rule = dataclasses.replace(bench.batch.rule, hold=hold)
        bench.batch = dataclasses.replace(bench.batch, rule=rule)
        return await bench.run()

    return run_virtual(main())


def characters(text: str) -> list[Step]:
    return [Piece(character) for character in text] + [Piece(finish_reason="STOP")]


def join_deltas(bench: Bench, index: int, *, call: int = 1) -> str:
    """Joins the deltas as a client does, and checks that each continues the one before."""
    text = ""
    for delta in bench.recorder.deltas:
        if (delta.item_id, delta.call_id) == (index, call):
            assert delta.start == len(text)
            text += delta.text
    return text


@pytest.mark.parametrize("count", [1, 3, 6])
def test_each_item_of_a_batch_gets_its_own_deltas(count: int) -> None:
    bench = run_streamed(lambda n, p: characters(reply_to(p)), count=count, streamed=range(count))
    for index in range(count):
        assert join_deltas(bench, index) == answer_of(ask(index))


def test_only_streamed_items_get_deltas() -> None:
    bench = run_streamed(lambda n, p: characters(reply_to(p)), streamed=[1])
    assert {delta.item_id for delta in bench.recorder.deltas} == {1}


def test_lane_that_holds_answers_emits_no_deltas() -> None:
    bench = run_streamed(lambda n, p: characters(reply_to(p)), hold=True)
    assert bench.recorder.deltas == []
    assert len(bench.recorder.answers) == 3


def test_retry_starts_its_text_again_under_another_call_id() -> None:
    def script(number: int, prompt: CombinedPrompt) -> Sequence[Step]:
        reply = reply_to(prompt)
        return characters(reply[: len(reply) // 2] if number == 1 else reply)

    bench = run_streamed(script)
    retried = {delta.item_id for delta in bench.recorder.deltas if delta.call_id > 1}
    assert retried, "half a reply leaves an item without an answer"
    for index in retried:
        calls = {g.call_id for g in bench.recorder.deltas if g.item_id == index and g.call_id > 1}
        assert [join_deltas(bench, index, call=call) for call in calls] == [answer_of(ask(index))]


def test_text_that_repeats_another_prompt_is_emitted_no_further() -> None:
    """The reply comes character by character, so each check sees only one new character."""

    def script(number: int, prompt: CombinedPrompt) -> Sequence[Step]:
        asked = json.loads(prompt.contents)
        answers = {key: answer_of(text) for key, text in asked.items()}
        if len(asked) > 1:
            answers[prompt.keys[0]] = f"They asked: {SECRET}{ask(1)}"
        return characters(json.dumps(answers))

    bench = run_streamed(script, prompts=[ask(0), SECRET + ask(1)], streamed=[0])
    text = join_deltas(bench, 0)
    assert text.startswith("They asked: My account")
    assert not any(SECRET[at : at + 80] in text for at in range(len(SECRET) - 79))
    assert "repeats" in bench.recorder.suspicions[0]
