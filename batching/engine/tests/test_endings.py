"""Tests of how long a call waits for what follows a value, by virtual time."""

import json
from collections.abc import Sequence
from dataclasses import replace

import pytest

from batching.engine.call import ENDING_WAIT_S, TAIL_S
from batching.engine.model import Piece
from batching.engine.prompt import CombinedPrompt
from batching.engine.runner import STALL_S
from batching.engine.splitter import Ending
from batching.engine.tests.scripted import Bench, Step, answer_of, prompts_of, reply_to, whole
from batching.engine.tests.virtual_loop import run_virtual
from batching.engine.usage import TokenUsage

LIKELY_S, DOUBTFUL_S = ENDING_WAIT_S[Ending.LIKELY], ENDING_WAIT_S[Ending.DOUBTFUL]
PROMPTS = ["one", "two"]


def run_prompts(
    script: object, prompts: Sequence[str] = PROMPTS, wait_s: float = 30.5, hold: bool = False
) -> Bench:
    async def main() -> Bench:
        bench = Bench(script, count=len(prompts), prompts=prompts, wait_s=wait_s)
        bench.batch = replace(bench.batch, rule=replace(bench.batch.rule, hold=hold))
        return await bench.run()

    return run_virtual(main())


def first_value(prompt: CombinedPrompt) -> str:
    """The reply up to the quote after the first value."""
    return reply_to(prompt).partition('",')[0] + '"'


@pytest.mark.parametrize(
    ("first", "wait_s"), [("one", LIKELY_S), ("5", DOUBTFUL_S), ("a quote: ", DOUBTFUL_S)]
)
@pytest.mark.parametrize("after", ["", ",", ", ", "\n", ', "'])
def test_value_before_a_hang_is_released(first: str, wait_s: float, after: str) -> None:
    def script(n: int, prompt: CombinedPrompt) -> Sequence[Step]:
        return [Piece(first_value(prompt) + after), 100.0] if n == 1 else whole(prompt)

    bench = run_prompts(script, [first, "two"])
    assert bench.elapsed(0) == wait_s
    assert bench.codes == {}
    assert bench.model.sizes == [2, 1]


@pytest.mark.parametrize("after", ["", ",", "\n"])
@pytest.mark.parametrize(
    "piece", [Piece(" "), Piece("\n\t"), Piece(), Piece(usage=TokenUsage(9, 9))]
)
def test_white_space_and_empty_pieces_prolong_nothing(after: str, piece: Piece) -> None:
    """The closed value is released, and the other item is retried after the stall limit."""

    def script(n: int, prompt: CombinedPrompt) -> Sequence[Step]:
        if n > 1:
            return whole(prompt)
        return [Piece(first_value(prompt) + after), *[0.1, piece] * 450]

    bench = run_prompts(script)
    assert bench.elapsed(0) == LIKELY_S
    assert STALL_S <= bench.elapsed(1) <= STALL_S + 1
    assert bench.codes == {}
    assert bench.model.sizes == [2, 1]


@pytest.mark.parametrize("piece", ["\\n", "\\t\\u0020", " "])
def test_white_space_inside_a_value_prolongs_nothing(piece: str) -> None:
    def script(n: int, prompt: CombinedPrompt) -> Sequence[Step]:
        if n > 1:
            return whole(prompt)
        steps = [step for part in piece * 100 for step in (0.25, Piece(part))]
        return [Piece(reply_to(prompt)[:-5]), *steps]

    bench = run_prompts(script)
    assert bench.elapsed(0) == 0
    assert STALL_S <= bench.elapsed(1) <= STALL_S + 1.5
    assert bench.codes == {}


def test_white_space_before_any_text_is_a_stall() -> None:
    def script(n: int, prompt: CombinedPrompt) -> Sequence[Step]:
        return [0.1, Piece("\n")] * 400 if n == 1 else whole(prompt)

    bench = run_prompts(script)
    assert STALL_S <= bench.elapsed(0) <= STALL_S + 1
    assert bench.codes == {}


def test_thoughts_are_progress() -> None:
    def script(n: int, prompt: CombinedPrompt) -> Sequence[Step]:
        return [*[5.0, Piece(thinks=True)] * 5, *whole(prompt)]

    bench = run_prompts(script)
    assert bench.elapsed(0) == 25.0
    assert bench.model.sizes == [2]


@pytest.mark.parametrize("hold", [False, True])
@pytest.mark.parametrize("after", [[100.0], [0.1, Piece(" ")] * 450])
def test_hang_after_the_last_value_delays_no_answer_long(hold: bool, after: list[Step]) -> None:
    def script(n: int, prompt: CombinedPrompt) -> Sequence[Step]:
        return [Piece(reply_to(prompt)), *after]

    bench = run_prompts(script, hold=hold)
    assert LIKELY_S <= bench.elapsed(1) <= LIKELY_S + (TAIL_S + 0.2 if hold else 0)
    assert bench.model.sizes == [2]
    (report,) = bench.recorder.reports
    assert report.error is None
    assert report.duration_s <= LIKELY_S + TAIL_S + 0.2, "the call slot is free again"


@pytest.mark.parametrize("pause_s", [0.1, 0.3, 0.6])
def test_text_with_an_inch_mark_is_not_cut_by_a_slow_model(pause_s: float) -> None:
    def script(n: int, prompt: CombinedPrompt) -> Sequence[Step]:
        if n > 1:
            return whole(prompt)
        reply = json.dumps(dict.fromkeys(prompt.keys, "The screen is 5 inch, which is small"))
        reply = reply.replace(" inch", '"')
        return [step for character in reply for step in (Piece(character), pause_s)]

    bench = run_prompts(script, wait_s=1000.0)
    assert bench.codes == {}
    assert bench.model.sizes == [2, 1, 1]


def test_two_equal_objects_in_one_piece_need_no_further_call() -> None:
    def script(n: int, prompt: CombinedPrompt) -> Sequence[Step]:
        return [Piece(reply_to(prompt) * 2, finish_reason="STOP")]

    assert run_prompts(script).model.sizes == [2]
    assert run_prompts(script, ["one"]).model.sizes == [1]


def test_two_different_objects_in_one_piece_are_retried() -> None:
    def script(n: int, prompt: CombinedPrompt) -> Sequence[Step]:
        if n > 1:
            return whole(prompt)
        changed = reply_to(prompt).replace(answer_of("one"), "another answer")
        return [Piece(reply_to(prompt) + changed, finish_reason="STOP")]

    assert run_prompts(script).model.sizes == [2, 1]


@pytest.mark.parametrize(("hold", "sizes"), [(False, [2]), (True, [2, 1])])
def test_value_that_differs_from_an_earlier_one_counts_until_the_release(
    hold: bool, sizes: list[int]
) -> None:
    def script(n: int, prompt: CombinedPrompt) -> Sequence[Step]:
        if n > 1:
            return whole(prompt)
        changed = reply_to(prompt).replace(answer_of("one"), "another answer")
        return [Piece(reply_to(prompt)), Piece(changed, finish_reason="STOP")]

    assert run_prompts(script, hold=hold).model.sizes == sizes


def test_lone_value_that_is_again_the_object_is_unwrapped() -> None:
    def script(n: int, prompt: CombinedPrompt) -> Sequence[Step]:
        return [Piece(json.dumps({prompt.keys[0]: reply_to(prompt)}), finish_reason="STOP")]

    assert run_prompts(script, ["one"]).model.sizes == [1]


def test_lone_answer_that_holds_its_key_is_retried() -> None:
    def script(n: int, prompt: CombinedPrompt) -> Sequence[Step]:
        key = prompt.keys[0]
        text = json.dumps({key: f"see {key}"})
        return [Piece(text, finish_reason="STOP")] if n == 1 else whole(prompt)

    bench = run_prompts(script, ["one"])
    assert bench.model.sizes == [1, 1]
    assert list(prompts_of(bench.model.calls[1]).values()) == ["one"]
