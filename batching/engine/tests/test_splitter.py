"""Tests of splitting a reply: whatever is wrong with it, no item gets the answer of another."""

import json
from itertools import pairwise

import pytest
from hypothesis import given, settings
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
    answers |= splitter.close_last_value()
    return answers, splitter


WHOLE = json.dumps(dict(zip(KEYS, ["first", "second", "third"], strict=True)))


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_well_formed_reply_has_a_value_for_each_item(size: int) -> None:
    answers, splitter = feed_all(WHOLE, size=size)
    assert answers == {0: "first", 1: "second", 2: "third"}
    assert splitter.flaws == {}
    assert splitter.reply == WHOLE


def test_value_is_returned_when_it_is_complete_and_not_before() -> None:
    splitter = Splitter(KEYS)
    assert splitter.feed('{"0_aaaa": "fir') == {}
    assert splitter.feed("st") == {}
    assert splitter.feed('"') == {}, (
        "only the next character shows whether this quote ends the value"
    )
    assert splitter.feed(" ") == {}
    assert splitter.feed(', "1_bbbb": "second", "2_c') == {0: "first", 1: "second"}
    assert splitter.flaws == {2: Flaw.MISSING}


def test_quote_that_was_not_escaped_is_found_wherever_the_reply_is_cut() -> None:
    reply = '{"0_aaaa": "He said "hello" and left.", "1_bbbb": "fine"}'
    for cut in range(1, len(reply)):
        splitter = Splitter(KEYS)
        found = (
            splitter.feed(reply[:cut]) | splitter.feed(reply[cut:]) | splitter.close_last_value()
        )
        assert found == {1: "fine"}, cut
        assert splitter.flaws[0] is Flaw.MALFORMED


def test_reply_that_ends_with_a_quote_ends_the_value() -> None:
    splitter = Splitter(KEYS)
    assert splitter.feed('{"0_aaaa": "first"') == {}
    assert splitter.close_last_value() == {0: "first"}
    assert splitter.close_last_value() == {}


def test_open_value_returns_its_new_text() -> None:
    splitter = Splitter(KEYS)
    assert (splitter.open_index, splitter.take_delta()) == (None, "")
    splitter.feed('{"0_aaaa": "caf\\u00')
    assert (splitter.open_index, splitter.take_delta()) == (0, "caf")
    assert splitter.take_delta() == ""
    splitter.feed('e9 \\"x')
    assert (splitter.open_index, splitter.take_delta()) == (0, 'é "x')
    splitter.feed('", ')
    assert (splitter.open_index, splitter.take_delta()) == (None, "")
    splitter.feed('"1_bbbb": "b')
    assert (splitter.open_index, splitter.take_delta()) == (1, "b")


def test_high_surrogate_waits_for_its_low_surrogate() -> None:
    splitter = Splitter(KEYS)
    splitter.feed('{"0_aaaa": "a\\ud83d')
    assert splitter.take_delta() == "a"
    splitter.feed("\\ude00")
    assert splitter.take_delta() == "\U0001f600"
    splitter.feed("\\\\ud83d")
    assert splitter.take_delta() == "\\ud83d", "the backslash is escaped, so this is no character"
    splitter.feed("\\ud83d!")
    assert splitter.take_delta() == "", "the low surrogate never came"
    splitter.feed('", ')
    assert splitter.flaws[0] is Flaw.MALFORMED


def test_value_that_is_no_answer_has_no_delta() -> None:
    splitter = Splitter(KEYS)
    splitter.feed('{"0_aaaa": "a", "0_aaaa": "again')
    assert splitter.open_index is None, "its key came twice before its value was returned"
    splitter.feed('", "1_bbbb": "b')
    assert splitter.open_index == 1


@given(st.text(), st.integers(1, 12), st.booleans())
@settings(max_examples=100, deadline=None)
def test_deltas_of_any_pieces_are_the_answer(text: str, size: int, ascii_only: bool) -> None:
    reply = json.dumps({"0_aaaa": text + "."}, ensure_ascii=ascii_only)
    splitter, deltas, answers = Splitter(KEYS[:1]), "", {}
    for start in range(0, len(reply), size):
        answers |= splitter.feed(reply[start : start + size])
        deltas += splitter.take_delta()
        whole = (text + ".").replace("\x00", "\ufffd")
        assert whole.startswith(deltas)
    assert answers == {0: whole}


@given(
    st.lists(st.text(min_size=1).filter(str.strip), min_size=3, max_size=3),
    st.permutations(range(3)),
    st.integers(1, 40),
    st.booleans(),
)
@settings(max_examples=300, deadline=None)
def test_any_text_in_any_order_and_any_pieces_comes_back_unchanged(
    texts: list[str], order: list[int], size: int, ascii_only: bool
) -> None:
    reply = json.dumps({KEYS[i]: texts[i] for i in order}, ensure_ascii=ascii_only)
    answers, splitter = feed_all(reply, size=size)
    assert answers == {i: texts[i].replace("\x00", "\ufffd") for i in range(3)}
    assert splitter.flaws == {}


@given(st.text(), st.integers(1, 9))
@settings(max_examples=200, deadline=None)
def test_text_without_keys_has_no_answer_and_raises_nothing(reply: str, size: int) -> None:
    answers, splitter = feed_all(reply, size=size)
    assert answers == {}
    assert set(splitter.flaws.values()) <= {Flaw.MISSING}


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
        ('{"0_aaaa": 7, "1_bbbb": "b"}', {1: "b"}, {0: "malformed", 2: "missing"}),
        ('{"0_aaaa": null, "1_bbbb": "b"}', {1: "b"}, {0: "malformed", 2: "missing"}),
        ('{"0_aaaa": ["a"], "1_bbbb": "b"}', {1: "b"}, {0: "malformed", 2: "missing"}),
        ('{"0_aaaa": {"t": "a"}, "1_bbbb": "b"}', {1: "b"}, {0: "malformed", 2: "missing"}),
        ('{"0_aaaa": "a\nb", "1_bbbb": "b"}', {1: "b"}, {0: "malformed", 2: "missing"}),
        ('{"0_aaaa": "a\\ud83d", "1_bbbb": "b"}', {1: "b"}, {0: "malformed", 2: "missing"}),
        ('{"0_aaaa": "a\\x", "1_bbbb": "b"}', {1: "b"}, {0: "malformed", 2: "missing"}),
        ('{"0_aaaa": "a\\u12g4", "1_bbbb": "b"}', {1: "b"}, {0: "malformed", 2: "missing"}),
        ('{"0_aaaa": "say "hi"", "1_bbbb": "b"}', {1: "b"}, {0: "malformed", 2: "missing"}),
        ('{"0_aaaa": "a\\u0000b"}', {0: "a\ufffdb"}, {1: "missing", 2: "missing"}),
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
    assert splitter.feed('{"0_aaaa": "a",') == {0: "a"}
    assert splitter.feed('"0_aaaa": "b", "1_bbbb": "c"') == {}
    assert splitter.feed(', "0_aaaa": "d') == {1: "c"}
    assert splitter.open_index is None
    assert splitter.feed('"}') == {}


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
    assert splitter.feed('{"11_a": "eleven", "1_a": "one"}') == {1: "eleven", 0: "one"}


def test_colon_may_come_long_after_its_key() -> None:
    splitter = Splitter(KEYS)
    assert splitter.feed('{"0_aaaa"' + " " * 50) == {}
    assert splitter.feed(" " * 50 + ":" + " " * 50) == {}
    assert splitter.feed(' "a"}') == {0: "a"}


def test_long_reply_in_small_pieces_is_read_in_linear_time() -> None:
    """Each piece is read only once, so a reply of twice the length costs twice the steps."""
    text = "word " * 20_000
    reply = json.dumps({"0_aaaa": text, "1_bbbb": text})
    splitter = Splitter(KEYS)
    positions = []
    for start in range(0, len(reply), 1000):
        splitter.feed(reply[start : start + 1000])
        positions.append(splitter._position)
    assert all(later > earlier for earlier, later in pairwise(positions))
    assert splitter.flaws == {2: Flaw.MISSING}
