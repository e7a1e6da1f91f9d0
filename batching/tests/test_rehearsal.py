"""The judge of a rehearsal: every fault has its finding, and a good run has none."""

from dataclasses import replace
from typing import Any

import pytest

from batching.rehearsal import Reply, Rule, describe_strangers, judge_replies

RULES = {"HIGH": Rule(0.2, 6), "MEDIUM": Rule(1.0, 4), "LOW": Rule(4.0, 4)}


def batch(priority: str, count: int, batch_id: int, **fields: Any) -> list[Reply]:
    """As it should be: full ones leave at once, others after their window."""
    rule = RULES[priority]
    waited_ms = 10 if count == rule.max_batch else round(rule.window_s * 1000) + 3
    names = [f"{priority.lower()} {batch_id}.{index}" for index in range(count)]
    made = [
        Reply(priority, name, 200, "", name, "us", batch_id, count, waited_ms, waited_ms + 300)
        for name in names
    ]
    return [replace(reply, **fields) for reply in made]


def judge(*groups: list[Reply], at_once: bool = True) -> list[str]:
    replies = [reply for group in groups for reply in group]
    return judge_replies(replies, RULES, username="us", at_once=at_once)


def test_batches_as_the_rules_say_have_no_findings() -> None:
    assert judge(batch("HIGH", 3, 1), batch("MEDIUM", 3, 2), batch("LOW", 2, 3)) == []
    assert judge(batch("HIGH", 6, 1), batch("HIGH", 6, 2), batch("HIGH", 1, 3)) == []


@pytest.mark.parametrize(
    ("replies", "word"),
    [
        pytest.param(batch("HIGH", 3, 1, queue_ms=1300), "late by 1.10 s", id="late"),
        pytest.param(batch("HIGH", 3, 1, queue_ms=100), "before its window", id="premature"),
        pytest.param(
            batch("HIGH", 2, 1) + batch("HIGH", 1, 2), "made 2 batches instead of 1", id="torn"
        ),
        pytest.param(batch("HIGH", 1, 1, username="them"), "got the answer", id="wrong name"),
        pytest.param(batch("HIGH", 1, 1, answered_id="other"), "answer of other", id="wrong id"),
        pytest.param(
            [Reply("HIGH", "lost", 504, "timeout")], "lost was not answered: 504", id="lost"
        ),
        pytest.param([Reply("HIGH", "x", 0, "ReadError")], "0 ReadError", id="no reply"),
        pytest.param(batch("HIGH", 3, 1, batch_size=2), "named by more", id="size too small"),
    ],
)
def test_each_fault_has_its_finding(replies: list[Reply], word: str) -> None:
    findings = judge(replies)
    assert any(word in finding for finding in findings), findings


def test_mixed_and_overfull_batches_are_found_also_when_numbers_are_not_known() -> None:
    mixed = [*batch("HIGH", 2, 1, batch_size=3), *batch("LOW", 1, 1, batch_size=3)]
    assert judge(mixed, at_once=False) == ["Batch 1 mixes HIGH and LOW."]
    (finding,) = judge(batch("MEDIUM", 5, 1), at_once=False)
    assert finding == "Batch 1 holds 5, more than 4."


def test_other_traffic_is_told_and_not_blamed_on_the_rules() -> None:
    shared = batch("HIGH", 3, 1, batch_size=5, queue_ms=120)
    assert judge(shared) == []
    assert "batch 1" in describe_strangers(shared)
    assert describe_strangers(batch("HIGH", 3, 1)) == ""
