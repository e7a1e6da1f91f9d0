"""Tests that a reply without end is closed soon, and costs the other items of its batch little."""

import json
import random
from collections.abc import Sequence

import pytest

from batching.engine.model import Piece
from batching.engine.prompt import CombinedPrompt
from batching.engine.runaway import (
    MAX_BLANK_CHARS,
    MAX_CHARS_PER_TOKEN,
    MAX_PERIOD_CHARS,
    MAX_REPEATED_CHARS,
    MIN_VALUE_CHARS,
    OVERHEAD_CHARS,
    STEP_CHARS,
    RunawayCheck,
)
from batching.engine.splitter import Splitter
from batching.engine.tests.scripted import Bench, Step, prompts_of, reply_to, value_start, whole
from batching.engine.tests.virtual_loop import run_virtual

KEYS = ["0_aaaa", "1_bbbb", "2_cccc"]
WORDS = random.Random(7).choices(["batch", "queue", "window", "lane", "naïve", "5", ","], k=90_000)
PROSE = " ".join(WORDS)


def read_until_runaway(reply: str, *, size: int, items: int = 3, tokens: int = 1000) -> int | None:
    """Returns how many characters were fed when the reply was found to have run away."""
    splitter, check = Splitter(KEYS[:items]), RunawayCheck([tokens] * items)
    for start in range(0, len(reply), size):
        splitter.feed(piece := reply[start : start + size])
        if check.has_run_away(piece, splitter):
            return splitter.fed
    return None


def repeat(passage: str, chars: int) -> str:
    return passage * (chars // len(passage) + 1)


@pytest.mark.parametrize("size", [1, 7, 300, 3000])
@pytest.mark.parametrize(
    "passage", ["ha ", "\\ud83d\\ude80", PROSE[:57], PROSE[:MAX_PERIOD_CHARS], "x", "[", "\\u00a0"]
)
def test_text_that_repeats_a_passage_runs_away(passage: str, size: int) -> None:
    for before in ('{"0_aaaa": "', '{"0_aaaa": "first", "1_bbbb": "', "Sure, ", '{"0_aaaa": [1, '):
        before += PROSE[:100] if before.endswith('"') else ""
        found = read_until_runaway(before + repeat(passage, 9_000), size=size)
        assert found is not None
        assert found <= len(before) + MAX_REPEATED_CHARS + 2 * STEP_CHARS + size


@pytest.mark.parametrize("size", [1, 7, 300])
@pytest.mark.parametrize("blank", ["\\n\\t", "\\n", " ", "\n", "\t \n", "\\r\\n  "])
def test_endless_white_space_runs_away(blank: str, size: int) -> None:
    for before in ('{"0_aaaa": "word', '{"0_aaaa": "first"', '{"0_aaaa": "first", ', "{", ""):
        found = read_until_runaway(before + repeat(blank, 5_000), size=size)
        assert found is not None
        assert found <= len(before) + MAX_BLANK_CHARS + 2 * STEP_CHARS + size


def test_value_beyond_the_tokens_of_its_item_runs_away() -> None:
    before = '{"0_aaaa": "first", "1_bbbb": "'
    found = read_until_runaway(before + PROSE, size=100, tokens=1000)
    assert found is not None
    assert 0 < found - len(before) - MAX_CHARS_PER_TOKEN * 1000 <= 100
    assert read_until_runaway(before + PROSE[: MIN_VALUE_CHARS - 10], size=100, tokens=1) is None


def test_reply_beyond_the_tokens_of_all_items_runs_away() -> None:
    found = read_until_runaway(PROSE, size=100, tokens=1000)
    assert found is not None
    assert 0 < found - 3 * MAX_CHARS_PER_TOKEN * 1000 - OVERHEAD_CHARS <= 100


TABLE = "".join(f"| {row:4} | {row * 7:6} | a cell |\\n" for row in range(400))
HARMLESS = {
    "prose": PROSE[:15_000],
    "repetition": repeat("ha ", MAX_REPEATED_CHARS - 600),
    "rule": "-" * 2_000,
    "layout": f"{' ' * 900}x" * 4,
    "empty lines": repeat("\\n" * 90 + "end.", MAX_REPEATED_CHARS - 600),
    "table": TABLE,
    "numbers": " ".join(map(str, range(3_000))),
    "escapes": PROSE[:2_600].encode("unicode_escape").decode().replace("\\x", "\\u00"),
}


@pytest.mark.parametrize("name", HARMLESS)
def test_long_text_does_not_run_away(name: str) -> None:
    reply = f'{{"0_aaaa": "{HARMLESS[name]}", "1_bbbb": "second", "2_cccc": "third"}}'
    assert read_until_runaway(reply, size=40) is None


def test_lone_answer_may_repeat_as_much_as_its_tokens_allow() -> None:
    rows = '{"0_aaaa": "' + repeat("0,0,0,0\\n", 39_000)
    more = '{"0_aaaa": "' + repeat("0,0,0,0\\n", 42_000)
    assert read_until_runaway(rows, size=40, items=1, tokens=10_000) is None
    assert read_until_runaway(rows, size=40, items=2, tokens=10_000) is not None
    assert read_until_runaway(more, size=40, items=1, tokens=10_000) is not None


def run_three(script: object, *, count: int = 3, wait_s: float = 30.5) -> Bench:
    async def main() -> Bench:
        return await Bench(script, count=count, wait_s=wait_s).run()

    return run_virtual(main())


def loop(text: str, passage: str = "\\n\\t") -> list[Step]:
    """Writes `text`, and then the passage without end."""
    return [Piece(text), *[step for _ in range(5_000) for step in (0.005, Piece(passage))]]


def asks(prompt: CombinedPrompt) -> list[str]:
    return list(prompts_of(prompt).values())


def loop_for(*guilty: int) -> object:
    """A model that loops inside the answers to these items, whenever it writes them."""

    def script(n: int, prompt: CombinedPrompt) -> Sequence[Step]:
        for position, text in enumerate(asks(prompt)):
            if int(text.split()[-1]) in guilty:
                reply = reply_to(prompt)
                return loop(reply[: value_start(reply, prompt.keys[position]) + 9])
        return whole(prompt)

    return script


@pytest.mark.parametrize("guilty", [0, 1, 2])
def test_loop_in_one_answer_costs_its_batch_mates_one_call_at_once(guilty: int) -> None:
    bench = run_three(loop_for(guilty))
    assert bench.codes == {guilty: "truncated"}
    assert sorted(bench.model.sizes) == [*[1] * (2 if guilty == 1 else 1), *[2] * (guilty == 0), 3]
    for index in {0, 1, 2} - {guilty}:
        assert bench.elapsed(index) < 3
    assert bench.elapsed(guilty) < 6


def test_loop_that_does_not_come_again_costs_no_answer() -> None:
    looping = loop_for(1)

    def script(n: int, prompt: CombinedPrompt) -> Sequence[Step]:
        return looping(n, prompt) if n == 1 else whole(prompt)

    bench = run_three(script)
    assert bench.codes == {}
    assert bench.model.sizes == [3, 1, 1]
    bench = run_three(lambda n, p: loop(reply_to(p)[:20]) if n == 1 else whole(p), count=1)
    assert (bench.codes, bench.model.sizes) == ({}, [1, 1])


def test_lone_loop_fails_when_it_comes_again() -> None:
    bench = run_three(lambda n, p: loop(reply_to(p)[:20]), count=1)
    assert (bench.codes, bench.model.sizes) == ({0: "truncated"}, [1, 1])
    assert all(report.perhaps_billed for report in bench.recorder.reports)


def test_three_loops_in_one_batch_cost_the_others_nothing() -> None:
    bench = run_three(loop_for(1, 3, 5), count=6)
    assert bench.codes == dict.fromkeys([1, 3, 5], "truncated")
    assert all(item.attempts <= 3 for item in bench.items)


def test_loop_outside_of_any_value_leads_to_single_calls() -> None:
    for text, closed in (("Let me think. ", 0), ("{", 0), ('", ', 1)):

        def script(n: int, prompt: CombinedPrompt, text: str = text) -> Sequence[Step]:
            if n > 1:
                return whole(prompt)
            first = reply_to(prompt).partition('"}')[0].partition('", ')[0]
            return loop(first + text if text == '", ' else text, "\n")

        bench = run_three(script)
        assert bench.codes == {}
        assert bench.model.sizes in ([3, *[1] * (3 - closed)], [3, 1, 1, 1])


def test_slow_white_space_blames_the_item_that_is_being_written() -> None:
    def script(n: int, prompt: CombinedPrompt) -> Sequence[Step]:
        if n > 1:
            return whole(prompt)
        reply = reply_to(prompt)
        text = reply[: value_start(reply, prompt.keys[1]) + 9]
        return [Piece(text), *[step for _ in range(200) for step in (0.5, Piece("\\n"))]]

    bench = run_three(script)
    assert bench.codes == {}
    assert [asks(call) for call in bench.model.calls[1:]] == [["question 1"], ["question 2"]]


def test_endless_piece_is_read_only_in_part() -> None:
    def script(n: int, prompt: CombinedPrompt) -> Sequence[Step]:
        if n > 1:
            return whole(prompt)
        return [Piece(json.dumps({prompt.keys[0]: "one"})[:-2] + " " + PROSE * 4)]

    bench = run_three(script)
    assert bench.codes == {}
    assert len(bench.recorder.reports[0].reply) < len(PROSE)
