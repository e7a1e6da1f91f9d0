"""Properties of the splitter for any text in any pieces: its answers, and the work it does."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batching.engine.splitter import Flaw, Splitter
from batching.engine.tests.test_splitter import KEYS, feed_all

TEXT = st.text(
    st.characters(
        codec="utf-8", exclude_characters=[chr(c) for c in range(32) if c not in (9, 10, 13)]
    ),
    min_size=1,
)
FRAGMENTS = (
    *(f'"{key}"' for key in KEYS),
    *(f'"{key}": "' for key in KEYS),
    *(
        '"',
        '":',
        '": "',
        '", "',
        '"}',
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        " ",
        "\n",
        "\\",
        "\\u00",
        "\\ud83d",
    ),
)
ANY_REPLY = st.lists(st.sampled_from(FRAGMENTS) | st.text(max_size=3), max_size=60).map("".join)


def feed_random(reply: str, cuts: list[int]) -> tuple[dict[int, str], Splitter]:
    splitter, answers, at = Splitter(KEYS), {}, 0
    for length in cuts:
        answers |= splitter.feed(reply[at : at + length])
        at += length
    answers |= splitter.feed(reply[at:])
    return answers | splitter.end(whole=True), splitter


@given(
    st.lists(TEXT.filter(str.strip), min_size=3, max_size=3),
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
    assert answers == {i: texts[i] for i in range(3)}
    assert splitter.flaws == {}


@given(st.text(), st.integers(1, 9))
@settings(max_examples=200, deadline=None)
def test_text_without_keys_has_no_answer_and_raises_nothing(reply: str, size: int) -> None:
    answers, splitter = feed_all(reply, size=size)
    assert answers == {}
    assert set(splitter.flaws.values()) <= {Flaw.MISSING}


@given(ANY_REPLY, st.lists(st.integers(0, 9), max_size=80))
@settings(max_examples=300, deadline=None)
def test_any_reply_leaves_each_item_with_an_answer_or_a_flaw(reply: str, cuts: list[int]) -> None:
    answers, splitter = feed_random(reply, cuts)
    assert splitter.reply == reply
    assert answers.keys() | splitter.flaws.keys() == {0, 1, 2}
    assert not answers.keys() & splitter.flaws.keys()
    for index, text in answers.items():
        assert text.strip()
        assert KEYS[index] not in text
        text.encode()


class CountingSplitter(Splitter):
    """Counts the steps of the splitter and the characters that each feed reads again."""

    def __init__(self) -> None:
        self.steps = 0
        self.read_again = 0
        super().__init__(KEYS)

    def feed(self, text: str) -> dict[int, str]:
        self.read_again = max(self.read_again, len(self._buffer) - self._position)
        return super().feed(text)

    def __getattribute__(self, name: str) -> object:
        if name == "_read":
            object.__setattr__(self, "steps", object.__getattribute__(self, "steps") + 1)
        return super().__getattribute__(name)


def assert_work_is_linear(reply: str, sizes: list[int]) -> None:
    splitter, at, pieces = CountingSplitter(), 0, 0
    while at < len(reply):
        size = sizes[pieces % len(sizes)]
        splitter.feed(reply[at : at + size])
        at, pieces = at + size, pieces + 1
    assert splitter.read_again <= splitter._max_key_chars, "a piece is read only once"
    assert splitter.steps <= 2 * len(reply) + pieces, "each step but the last consumes a character"


@given(ANY_REPLY, st.lists(st.integers(1, 9), min_size=1, max_size=9))
@settings(max_examples=300, deadline=None)
def test_work_is_linear_in_the_length_of_any_reply(reply: str, sizes: list[int]) -> None:
    assert_work_is_linear(reply, sizes)


@pytest.mark.parametrize("size", [1, 1000])
@pytest.mark.parametrize(
    "reply",
    [
        "[" * 24_000,
        '{"0_aaaa": ' + "[" * 24_000 + "]" * 24_000,
        '{"0_aaaa": "' + "word " * 4_000,
        '{"0_aaaa": "' + "\\n\\t" * 4_000,
        '{"0_aaaa": "first"' + " " * 24_000,
        '{"0_aaaa": "first"}' + "more " * 4_000,
        '{"0_aaaa" ' + " " * 24_000,
        '{"0_aaaa": ' + " " * 24_000,
        '{"0_aaaa": "first",' + "[" * 24_000,
        '"' * 24_000,
        "\\" * 24_000,
        '"0_aaa' * 4_000,
        '"0_aaaa": "' * 2_000,
        '{"0_aaaa": "a"}' * 2_000,
        '{"0_aaaa": "first", "x": ' * 1_000,
    ],
)
def test_work_is_linear_for_long_replies(reply: str, size: int) -> None:
    assert_work_is_linear(reply, [size])
