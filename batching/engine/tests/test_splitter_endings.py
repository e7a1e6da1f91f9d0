"""Tests of which quote ends a value: no text is cut at a quote that was not escaped."""

import json

import pytest

from batching.engine.splitter import Ending, Flaw, Splitter
from batching.engine.tests.test_splitter import KEYS, feed_all

# Texts with quotes that are not escaped.
UNESCAPED = [
    'The screen is 5", which is small',
    'The screen is 5" , which is small',
    'The screen is 5",\\nwhich is small',
    'Sizes: 5", 7" and 9".',
    'Sizes: 5", "large" and "small".',
    'Its fields are 5", "wide": 7", "high": 3" and so on',
    'The set {5"} is small',
    'The set {5"}, which is small',
    'The set {5"}. Then {7"}',
    'A list [5"] is short',
    'He said "hello" and left.',
    '"Hello", he said.',
    'Write {"a": "b", "c": "d"} here',
    'Call split(",") twice',
    'An empty string "" and no more',
    'He said "hello"',
    '5""',
]


@pytest.mark.parametrize("text", UNESCAPED)
def test_text_with_unescaped_quotes_is_never_cut(text: str) -> None:
    """Wherever the reply is cut, the item is retried, and the next item gets its own answer."""
    reply = f'{{"0_aaaa": "{text}", "1_bbbb": "fine"}}'
    for cut in range(len(reply)):
        splitter = Splitter(KEYS[:2])
        answers = splitter.feed(reply[:cut]) | splitter.feed(reply[cut:])
        assert answers | splitter.end(whole=True) == {1: "fine"}, cut
        assert splitter.flaws[0] is Flaw.MALFORMED


@pytest.mark.parametrize("text", UNESCAPED)
def test_last_text_with_unescaped_quotes_is_never_cut(text: str) -> None:
    for after in ("", "\n", "\n```", "\nBye."):
        splitter = Splitter(KEYS[:1])
        found = splitter.feed(f'{{"0_aaaa": "{text}"}}{after}') | splitter.end(whole=True)
        assert found == {}, after


def test_value_is_returned_when_the_next_key_has_come_and_not_before() -> None:
    splitter = Splitter(KEYS)
    for piece in ('{"0_aaaa": "fir', "st", '"', " ", ",", ' "1_b', 'bbb"', " "):
        assert splitter.feed(piece) == {}
    assert splitter.feed(': "second", "2_c') == {0: "first"}
    assert splitter.feed('ccc":') == {1: "second"}
    assert splitter.flaws == {2: Flaw.MISSING}


@pytest.mark.parametrize(
    "between", ["}{", "} {", "}\n\n{", "}, {", "}}, {{", "}\nAnd again:\n{", ",{["]
)
def test_brackets_and_prose_may_stand_between_two_values(between: str) -> None:
    answers, _ = feed_all(f'{{"0_aaaa": "first" {between} "1_bbbb": "second"}}', size=3)
    assert answers == {0: "first", 1: "second"}


@pytest.mark.parametrize(
    ("reply", "ending"),
    [
        ('{"0_aaaa": "first', None),
        ('{"0_aaaa": "first"', Ending.LIKELY),
        ('{"0_aaaa": "first", "1_b', Ending.LIKELY),
        ('{"0_aaaa": "first."  ', Ending.LIKELY),
        ('{"0_aaaa": "He said \\"yes\\""', Ending.LIKELY),
        ('{"0_aaaa": "caf\\u00e9"', Ending.DOUBTFUL),
        ('{"0_aaaa": "日本"', Ending.LIKELY),
        ('{"0_aaaa": "5"', Ending.DOUBTFUL),
        ('{"0_aaaa": "5", ', Ending.DOUBTFUL),
        ('{"0_aaaa": "He said "', Ending.DOUBTFUL),
        ('{"0_aaaa": "He said:\\n"', Ending.DOUBTFUL),
        ('{"0_aaaa": "split("', Ending.DOUBTFUL),
        ('{"0_aaaa": ""', Ending.DOUBTFUL),
        ('{"0_aaaa": "5"}', Ending.OBJECT),
        ('{"0_aaaa": "first"}\nBye', Ending.OBJECT),
        ('{"0_aaaa": "first"}', Ending.OBJECT),
        ('{"0_aaaa": "first" X', None),
        ('{"0_aaaa": "first", "1_bbbb": ', None),
    ],
)
def test_certainty_of_the_last_value(reply: str, ending: Ending | None) -> None:
    splitter = Splitter(KEYS)
    splitter.feed(reply)
    assert splitter.ending is ending


def test_doubtful_value_is_not_returned_at_the_end_of_the_reply() -> None:
    for reply, expected in (('{"0_aaaa": "first"', {0: "first"}), ('{"0_aaaa": "5"', {})):
        splitter = Splitter(KEYS)
        assert splitter.feed(reply) == {}
        assert splitter.end(whole=False) == expected
        assert splitter.end(whole=False) == {}


def test_doubtful_value_is_returned_if_its_caller_has_waited() -> None:
    splitter = Splitter(KEYS)
    assert splitter.feed('{"0_aaaa": "5", ') == {}
    assert splitter.close_last_value() == {0: "5"}
    assert splitter.close_last_value() == {}
    assert splitter.feed('"1_bbbb": "second"}') == {}
    assert splitter.close_last_value() == {1: "second"}


def test_value_before_an_unknown_key_is_certain_only_in_a_well_formed_object() -> None:
    reply = json.dumps({"0_aaaa": "first", "note": "x", "1_bbbb": "second", "more": {}})
    for whole in (True, False):
        splitter = Splitter(KEYS[:2])
        assert splitter.feed(reply) == {}
        assert splitter.end(whole=whole) == ({0: "first", 1: "second"} if whole else {})


def test_prose_with_quotes_may_follow_a_well_formed_object() -> None:
    answers, _ = feed_all('{"0_aaaa": "first"}\nThis answers "your" question.')
    assert answers == {0: "first"}
