"""Tests of the text of a value, while it grows and when it is complete."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batching.engine.splitter import Flaw, Splitter
from batching.engine.tests.test_splitter import KEYS, feed_all


def wrap(text: str, *, key: str = KEYS[0], times: int = 1) -> str:
    for _ in range(times):
        text = json.dumps({key: text})
    return text


def test_value_that_is_again_the_object_with_its_key_is_unwrapped() -> None:
    answers, _ = feed_all(wrap("first", times=2))
    assert answers == {0: "first"}


@pytest.mark.parametrize(
    "text",
    [
        wrap("first", times=2),
        f"```json {wrap('first')} ```",
        f"{wrap('first')} {wrap('first')}",
        json.dumps({KEYS[0]: "first", "more": "x"}),
        json.dumps({KEYS[0]: 7}),
        f"The answer to {KEYS[0]} is yes.",
    ],
)
def test_answer_never_holds_its_key(text: str) -> None:
    answers, splitter = feed_all(wrap(text))
    assert answers == {}
    assert splitter.flaws[0] is Flaw.MALFORMED


@pytest.mark.parametrize("size", [1, 2, 5, 7, 100])
def test_deltas_never_hold_the_key(size: int) -> None:
    splitter, deltas = Splitter(KEYS[:1]), ""
    reply = wrap("first and 0_aaa", times=2)
    for start in range(0, len(reply), size):
        splitter.feed(reply[start : start + size])
        deltas += splitter.take_delta()
    assert deltas == "", "a client that cannot take text back may read the deltas"


@pytest.mark.parametrize("damage", ["\\u0000", "\\u0019", "\\f", "\\b"])
def test_damaged_text_is_no_answer_and_no_delta(damage: str) -> None:
    splitter = Splitter(KEYS)
    splitter.feed('{"0_aaaa": "caf')
    assert splitter.take_delta() == "caf"
    splitter.feed(f"{damage}e9 and more")
    assert splitter.take_delta() == ""
    splitter.feed(" of it")
    assert splitter.take_delta() == ""
    assert splitter.feed('", "1_bbbb": "b"}') | splitter.end(whole=True) == {1: "b"}
    assert splitter.flaws[0] is Flaw.MALFORMED


def test_escaped_backslash_before_u0000_is_text() -> None:
    answers, _ = feed_all(
        json.dumps({KEYS[0]: "Write \\u0000 or \\frac, with tab \t and \x1b[0m."})
    )
    assert answers == {0: "Write \\u0000 or \\frac, with tab \t and \x1b[0m."}


def test_open_value_returns_its_new_text() -> None:
    splitter = Splitter(KEYS)
    assert (splitter.open_index, splitter.take_delta()) == (None, "")
    splitter.feed('{"0_aaaa": "caf\\u00')
    assert (splitter.open_index, splitter.take_delta()) == (0, "caf")
    assert splitter.take_delta() == ""
    splitter.feed('e9 \\"x')
    assert (splitter.open_index, splitter.take_delta()) == (0, 'é "x')
    splitter.feed('", "1_bbbb": ')
    assert (splitter.open_index, splitter.take_delta()) == (None, "")
    splitter.feed('"b')
    assert (splitter.open_index, splitter.take_delta()) == (1, "b")


def test_text_that_may_begin_the_key_is_held_back() -> None:
    splitter = Splitter(KEYS)
    splitter.feed('{"0_aaaa": "It is 10_aa')
    assert splitter.take_delta() == "It is 1"
    splitter.feed("b")
    assert splitter.take_delta() == "0_aab"
    splitter.feed(" or 0")
    assert splitter.take_delta() == " or "
    splitter.feed('"')
    assert splitter.take_delta() == "0"


def test_control_characters_of_the_prompt_may_come_back() -> None:
    splitter = Splitter(KEYS, ["Repeat a\x17b", "Repeat ab", "c"])
    splitter.feed('{"0_aaaa": "a\\u0017')
    assert splitter.take_delta() == "a\x17"
    assert splitter.feed('b", "1_bbbb": "a\\u0017b", "2_cccc": "c"}') | splitter.end(
        whole=True
    ) == {
        0: "a\x17b",
        2: "c",
    }


@pytest.mark.parametrize("text", ['{"a": 1}', "{", ' "quoted" ', "0", "{ }", '{"0_aaab": 1}'])
def test_text_that_only_looks_like_the_object_is_sent(text: str) -> None:
    splitter, deltas = Splitter(KEYS[:1]), ""
    for character in wrap(text):
        splitter.feed(character)
        deltas += splitter.take_delta()
    assert deltas == text


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
    splitter.feed('", "1_bbbb":')
    assert splitter.flaws[0] is Flaw.MALFORMED


def test_value_that_is_no_answer_has_no_delta() -> None:
    splitter = Splitter(KEYS)
    splitter.feed('{"0_aaaa": "a", "0_aaaa": "again')
    assert splitter.open_index is None, "its first value was returned"
    splitter.feed('", "1_bbbb": "b')
    assert splitter.open_index == 1


@given(st.text(), st.integers(1, 12), st.booleans())
@settings(max_examples=100, deadline=None)
def test_deltas_of_any_pieces_are_the_answer(text: str, size: int, ascii_only: bool) -> None:
    reply = json.dumps({KEYS[0]: text + "."}, ensure_ascii=ascii_only)
    splitter, deltas = Splitter(KEYS[:1]), ""
    for start in range(0, len(reply), size):
        splitter.feed(reply[start : start + size])
        deltas += splitter.take_delta()
        assert f"{text}.".startswith(deltas)
    answers = splitter.end(whole=True)
    assert answers == {0: text + "."} or splitter.flaws == {0: Flaw.MALFORMED}
