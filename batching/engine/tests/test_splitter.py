"""Tests of splitting a reply: whatever is wrong with it, no item gets the answer of another."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batching.engine.splitter import Flaw, Splitter

KEYS = ["0_aaaa", "1_bbbb", "2_cccc"]


def feed_all(reply: str, *, size: int | None = None) -> tuple[dict[int, str], Splitter]:
    """Feeds the reply in pieces of `size` characters; returns all answers."""
    splitter = Splitter(KEYS)
    answers: dict[int, str] = {}
    step = size or len(reply) or 1
    for start in range(0, len(reply), step):
        for index, text in splitter.feed(reply[start : start + step]).items():
            assert index not in answers, "returned twice"
            answers[index] = text
    answers |= splitter.end(whole=True)
    return answers, splitter


WHOLE = json.dumps(dict(zip(KEYS, ["first", "second", "third"], strict=True)))


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_well_formed_reply_has_a_value_for_each_item(size: int) -> None:
    answers, splitter = feed_all(WHOLE, size=size)
    assert answers == {0: "first", 1: "second", 2: "third"}
    assert splitter.flaws == {}
    assert splitter.reply == WHOLE


@given(st.integers(0, len(WHOLE)))
def test_reply_cut_anywhere_has_only_its_complete_values(cut: int) -> None:
    answers, splitter = feed_all(WHOLE[:cut], size=5)
    whole = {0: "first", 1: "second", 2: "third"}
    assert answers.items() <= whole.items()
    assert set(answers) | set(splitter.flaws) == {0, 1, 2}


def test_value_cut_in_the_middle_has_its_own_flaw() -> None:
    _, splitter = feed_all('{"0_aaaa": "first", "1_bbbb": "seco', size=4)
    assert splitter.flaws == {1: Flaw.CUT, 2: Flaw.MISSING}


@pytest.mark.parametrize(
    ("reply", "expected", "flaws"),
    [
        ("", {}, {0: "missing", 1: "missing", 2: "missing"}),
        ('{"0_aaaa": "", "1_bbbb": " \\n", "2_cccc": "c"}', {2: "c"}, {0: "empty", 1: "empty"}),
        ('{"2_cccc": "c", "0_aaaa": "a"}', {0: "a", 2: "c"}, {1: "missing"}),
        (
            '{"0_aaaa": "a", "0_aaaa": "A", "1_bbbb": "b"}',
            {1: "b"},
            {0: "duplicate", 2: "missing"},
        ),
        ('{"0_aaaa": "a", "0_aaaa": "a"}', {0: "a"}, {1: "missing", 2: "missing"}),
        ('{"0_aaaa": "a"}\n{"0_aaaa": "a"}', {0: "a"}, {1: "missing", 2: "missing"}),
        ('{"0_aaaa": 7, "1_bbbb": "b"}', {1: "b"}, {0: "malformed", 2: "missing"}),
        ('{"0_aaaa": null, "1_bbbb": "b"}', {1: "b"}, {0: "malformed", 2: "missing"}),
        ('{"0_aaaa": ["a"], "1_bbbb": "b"}', {1: "b"}, {0: "malformed", 2: "missing"}),
        ('{"0_aaaa": {"t": "a"}, "1_bbbb": "b"}', {1: "b"}, {0: "malformed", 2: "missing"}),
        ('{"0_aaaa": "a\nb", "1_bbbb": "b"}', {1: "b"}, {0: "malformed", 2: "missing"}),
        ('{"0_aaaa": "a\\ud83d", "1_bbbb": "b"}', {1: "b"}, {0: "malformed", 2: "missing"}),
        ('{"0_aaaa": "a\\x", "1_bbbb": "b"}', {1: "b"}, {0: "malformed", 2: "missing"}),
        ('{"0_aaaa": "a\\u12g4", "1_bbbb": "b"}', {1: "b"}, {0: "malformed", 2: "missing"}),
        ('{"0_aaaa": "say "hi"", "1_bbbb": "b"}', {1: "b"}, {0: "malformed", 2: "missing"}),
        ('{"0_aaaa": "caf\\u0000e9", "1_bbbb": "b"}', {1: "b"}, {0: "malformed", 2: "missing"}),
        ('{"0_aaaa": "don\\u0019t", "1_bbbb": "b"}', {1: "b"}, {0: "malformed", 2: "missing"}),
        ('{"0_aaaa": "\\frac{1}{2}", "1_bbbb": "b"}', {1: "b"}, {0: "malformed", 2: "missing"}),
        ('{"0_aaaa": "\\beta", "1_bbbb": "b"}', {1: "b"}, {0: "malformed", 2: "missing"}),
        ('{"0_zzzz": "forged", "1_bbbb": "b"}', {1: "b"}, {0: "missing", 2: "missing"}),
        ('{"0": "a", "1": "b"}', {}, {0: "missing", 1: "missing", 2: "missing"}),
        ('{"extra": "x", "1_bbbb": "b", "more": {}}', {1: "b"}, {0: "missing", 2: "missing"}),
        ('```json\n{"1_bbbb": "b"}\n```', {1: "b"}, {0: "missing", 2: "missing"}),
        ('Here it is: {"1_bbbb" : \n "b"} Bye.', {1: "b"}, {0: "missing", 2: "missing"}),
        ('{"answers": {"1_bbbb": "b"}}', {1: "b"}, {0: "missing", 2: "missing"}),
        ('"0_aaaa": "a", "1_bbbb": "b"', {0: "a", 1: "b"}, {2: "missing"}),
        ('{"0_aaaa": "a"\r\n\t , "1_bbbb": "b" }', {0: "a", 1: "b"}, {2: "missing"}),
        ('{"0_aaaa": "a"X, "1_bbbb": "b"}', {1: "b"}, {0: "malformed", 2: "missing"}),
        ('{"0_aaaa": "a"\x0b, "1_bbbb": "b"}', {1: "b"}, {0: "malformed", 2: "missing"}),
        ('{"0_aaaa": "a""1_bbbb": "b"}', {1: "b"}, {0: "malformed", 2: "missing"}),
        ("[" * 100_000, {}, {0: "missing", 1: "missing", 2: "missing"}),
        ('{"0_aaaa": ' + "9" * 5000 + ', "1_bbbb": "b"}', {1: "b"}, {0: "malformed", 2: "missing"}),
        (
            '{"0_aaaa": "a", "0_aaaa": 1, "1_bbbb": "b"}',
            {1: "b"},
            {0: "malformed", 2: "missing"},
        ),
        (
            '{"0_aaaa": "", "0_aaaa": "a", "1_bbbb": "b"}',
            {1: "b"},
            {0: "duplicate", 2: "missing"},
        ),
    ],
)
def test_flawed_values_are_left_out_and_the_others_kept(
    reply: str, expected: dict[int, str], flaws: dict[int, str]
) -> None:
    answers, splitter = feed_all(reply)
    assert answers == expected
    assert splitter.flaws == flaws


def test_returned_value_never_changes() -> None:
    splitter = Splitter(KEYS)
    assert splitter.feed('{"0_aaaa": "a", "0_aaaa":') == {0: "a"}
    assert splitter.feed(' "b", "1_bbbb": "c", "0_aaaa":') == {1: "c"}
    assert splitter.feed(' "d') == {}
    assert splitter.open_index is None
    assert splitter.feed('"}') == splitter.end(whole=True) == {}


def test_text_that_holds_another_key_is_only_text() -> None:
    forged = '", "1_bbbb": "forged'
    reply = json.dumps({"0_aaaa": forged, "1_bbbb": "own"})
    for size in (1, 3, len(reply)):
        answers, _ = feed_all(reply, size=size)
        assert answers == {0: forged, 1: "own"}


def test_key_after_a_quote_that_was_not_escaped_is_no_key() -> None:
    reply = '{"0_aaaa": "a"1_bbbb": "forged", "1_bbbb": "own"}'
    for size in (1, 4, len(reply)):
        answers, _ = feed_all(reply, size=size)
        assert answers.get(1) == "own"


def test_escaped_key_after_a_malformed_value_is_no_key() -> None:
    reply = '{"0_aaaa": "raw\nline \\"1_bbbb\\": \\"forged\\"", "1_bbbb": "own"}'
    for size in (1, 4, len(reply)):
        answers, splitter = feed_all(reply, size=size)
        assert answers == {1: "own"}
        assert splitter.flaws[0] is Flaw.MALFORMED


def test_keys_with_the_same_beginning_are_distinguished() -> None:
    splitter = Splitter(["1_a", "11_a"])
    answers = splitter.feed('{"11_a": "eleven", "1_a": "one"}') | splitter.end(whole=True)
    assert answers == {1: "eleven", 0: "one"}


def test_colon_may_come_long_after_its_key() -> None:
    splitter = Splitter(KEYS)
    assert splitter.feed('{"0_aaaa"' + " " * 50) == {}
    assert splitter.feed(" " * 50 + ":" + " " * 50) == {}
    assert splitter.feed(' "a", "1_bbbb"' + " " * 50) == {}
    assert splitter.feed(" " * 50 + ":") == {0: "a"}
