"""Tests that the checks mark no good answers, and still mark those that show an attack."""

import random

import pytest

from batching.engine.leaks import LEAK_CHARS, AnswerCheck
from batching.engine.tests.attacks import list_dictations, list_thefts
from batching.engine.tests.good_answers import KINDS, MIXES, draw_batches, read_all, read_examples

MAX_FALSE_ALARMS = 0.005
BATCHES = 250


def find_marked(prompts: list[str], answers: list[str]) -> set[int]:
    """The items that the gateway would mark, in the order of its checks."""
    check = AnswerCheck([f"{i}_{i:010x}" for i in range(len(prompts))], prompts)
    leaks = {index for index, text in enumerate(answers) if check.find_leak(index, text)}
    rest = {index: text for index, text in enumerate(answers) if index not in leaks}
    return leaks | check.find_dictated(rest).keys()


def test_set_holds_at_least_600_different_prompts_of_twelve_kinds() -> None:
    assert len(KINDS) == 12
    assert min(len(read_examples(kind)) for kind in KINDS) >= 45
    assert len({example.prompt for example in read_all()}) == len(read_all()) >= 600
    assert all(example.answer.strip() for example in read_all())


@pytest.mark.parametrize("mix", MIXES)
def test_good_answers_are_not_marked(mix: str) -> None:
    answers = marked = 0
    for batch in draw_batches(mix, count=BATCHES):
        answers += len(batch)
        marked += len(find_marked([e.prompt for e in batch], [e.answer for e in batch]))
    assert marked <= MAX_FALSE_ALARMS * answers, f"{marked} of {answers}"


@pytest.mark.parametrize("seed", range(3))
def test_dictated_answers_are_all_marked(seed: int) -> None:
    for attack in list_dictations(read_all(), random.Random(seed)):
        assert find_marked(attack.prompts, attack.answers) >= attack.marked, attack.name


@pytest.mark.parametrize("seed", range(3))
def test_printed_prompts_are_all_marked(seed: int) -> None:
    for attack in list_thefts(read_all(), random.Random(seed)):
        assert find_marked(attack.prompts, attack.answers) >= attack.marked, attack.answers[0]


@pytest.mark.parametrize("mix", ["same code", "both directions", "mails"])
def test_good_answers_that_arrive_in_pieces_are_not_marked(mix: str) -> None:
    """Each check sees the end of what has arrived, as for a client that reads a stream."""
    for batch in draw_batches(mix, count=10):
        check = AnswerCheck([f"{i}_{i:010x}" for i in range(len(batch))], [e.prompt for e in batch])
        for index, example in enumerate(batch):
            for end in range(7, len(example.answer), 7):
                assert not check.find_leak(index, example.answer[:end], since=end - 7)


def test_private_text_is_found_in_a_stream_as_soon_as_it_is_long_enough() -> None:
    for attack in list_thefts(read_all(), random.Random(0)):
        if not attack.answers[0].startswith("Sure."):
            continue
        text, keys = attack.answers[0], [f"{i}_{i:010x}" for i in range(len(attack.prompts))]
        check = AnswerCheck(keys, attack.prompts)
        ends = (end for end in range(1, len(text)) if check.find_leak(0, text[:end], since=end - 1))
        begin = text.index(attack.prompts[1])
        assert next(ends) <= begin + 1.3 * LEAK_CHARS, text
