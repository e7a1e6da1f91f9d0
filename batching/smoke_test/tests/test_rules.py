"""The checks of the smoke test: one finding for each violation, none for a run without one."""

from dataclasses import replace
from typing import Any

import pytest

from batching.smoke_test.rules import (
    Answer,
    Reply,
    Request,
    Rule,
    check_batches,
    describe_other_traffic,
)

RULES = {"HIGH": Rule(0.2, 6, 1000), "MEDIUM": Rule(1.0, 4, 5000), "LOW": Rule(4.0, 4, 10_000)}


def batch(priority: str, count: int, batch_id: int, **fields: Any) -> list[Reply]:
    """A batch that obeys the rules: it leaves full at once, or after its window."""
    rule = RULES[priority]
    waited_ms = 10 if count == rule.max_batch else round(rule.window_s * 1000) + 3
    return [
        answer_one(priority, f"{batch_id}.{index}", batch_id, count, waited_ms, **fields)
        for index in range(count)
    ]


def answer_one(
    priority: str, name: str, batch_id: int, size: int, waited_ms: int, **fields: Any
) -> Reply:
    request = Request(priority, f"{priority.lower()} {name}", "us", word=f"<{name}>")
    answer = Answer(
        request.id, "us", f"It is {request.word}.", batch_id, size, 100.0, waited_ms, 5000
    )
    return Reply(request, 200, replace(answer, **fields))


def refuse(**fields: Any) -> Reply:
    return Reply(Request("HIGH", "high 1", "us", "w"), **fields)


def test_batches_that_obey_the_rules_have_no_findings() -> None:
    quick = batch("HIGH", 3, 1) + batch("MEDIUM", 3, 2) + batch("LOW", 2, 3)
    assert check_batches(quick, RULES) == []
    overflow = batch("HIGH", 6, 1) + batch("HIGH", 6, 2) + batch("HIGH", 1, 3)
    assert check_batches(overflow, RULES) == []
    assert check_batches([], RULES) == []


@pytest.mark.parametrize(
    ("replies", "finding"),
    [
        pytest.param(
            batch("HIGH", 2, 1, batch_size=3) + batch("LOW", 1, 1, batch_size=3),
            "Batch 1 mixes HIGH and LOW.",
            id="mixed",
        ),
        pytest.param(
            batch("HIGH", 3, 1, queue_ms=800),
            "Batch 1 left late, 0.60 s after the end of its window of 0.2 s.",
            id="late",
        ),
        pytest.param(
            batch("MEDIUM", 4, 1, queue_ms=1000),
            "Batch 1 left late, 1.00 s after it was full.",
            id="full but kept",
        ),
        pytest.param(
            batch("HIGH", 3, 1, queue_ms=100),
            "Batch 1 left with 3 of 6 after 0.10 s, before its window of 0.2 s.",
            id="premature",
        ),
        pytest.param(
            batch("HIGH", 2, 1) + batch("HIGH", 1, 2, queue_ms=210),
            "Batch 1 left with 2 of 6 although high 2.0 had waited for 0.20 s.",
            id="left behind",
        ),
        pytest.param(batch("MEDIUM", 5, 1), "Batch 1 holds 5, more than 4.", id="overfull"),
        pytest.param(
            batch("HIGH", 3, 1, batch_size=2),
            "Batch 1 reports size 2; 3 answers name it.",
            id="size too small",
        ),
        pytest.param(
            batch("HIGH", 1, 1, username="them"),
            "high 1.0 of us got the answer of high 1.0 of them.",
            id="wrong username",
        ),
        pytest.param(
            batch("HIGH", 1, 1, request_id="x"),
            "high 1.0 of us got the answer of x of us.",
            id="wrong id",
        ),
        pytest.param(
            [refuse(status=504, code="timeout", detail="Too long.")],
            "high 1 was not answered: 504 timeout: Too long.",
            id="failed",
        ),
        pytest.param(
            [refuse(status=0, code="ReadTimeout")],
            "high 1 was not answered: no reply ReadTimeout",
            id="lost",
        ),
    ],
)
def test_each_violation_has_exactly_one_finding(replies: list[Reply], finding: str) -> None:
    assert check_batches(replies, RULES) == [finding]


def test_swapped_texts_are_found_and_a_disobedient_model_is_not() -> None:
    first, second = batch("HIGH", 2, 1)
    assert first.answer
    assert second.answer
    swapped = replace(first, answer=replace(first.answer, text=second.answer.text))
    (finding,) = check_batches([swapped, second], RULES)
    assert finding == "high 1.0 got an answer with the word of high 1.1."
    stubborn = replace(first, answer=replace(first.answer, text="I would rather not."))
    assert check_batches([stubborn, second], RULES) == []


def test_busy_gateway_may_leave_requests_behind_that_just_arrived() -> None:
    """The full batches left 0.2 s late, so the gateway was that far behind."""
    full = batch("HIGH", 6, 1, queue_ms=206)
    rest = batch("HIGH", 4, 2, queue_ms=273) + batch("HIGH", 1, 3, accepted=100.03, queue_ms=260)
    assert check_batches(full + rest, RULES) == []
    assert len(check_batches(rest, RULES)) == 1


def test_waiting_for_a_call_slot_is_not_late() -> None:
    """The second batch left when the call of the first ended, the third long after that."""
    first = batch("HIGH", 6, 1, latency_ms=1500)
    second = batch("HIGH", 6, 2, queue_ms=1510)
    assert check_batches(first + second, RULES) == []
    (finding,) = check_batches(first + batch("HIGH", 6, 3, queue_ms=2100), RULES)
    assert finding.startswith("Batch 3 left late, 0.60 s")


def test_output_limit_of_the_model_makes_batches_smaller() -> None:
    rules = {"MEDIUM": Rule(1.0, 12, 5000)}
    replies = batch("MEDIUM", 11, 1, queue_ms=40) + batch("MEDIUM", 1, 2, queue_ms=1003)
    assert rules["MEDIUM"].capacity == 11
    assert check_batches(replies, rules) == []


def test_lane_without_a_window_leaves_nothing_behind() -> None:
    rules = {"HIGH": Rule(0.0, 6)}
    replies = batch("HIGH", 1, 1, queue_ms=8) + batch("HIGH", 2, 2, queue_ms=21)
    assert check_batches(replies, rules) == []


def test_other_traffic_is_reported_without_a_finding() -> None:
    shared = batch("HIGH", 3, 1, batch_size=5, queue_ms=120)
    assert check_batches(shared, RULES) == []
    assert describe_other_traffic(shared).startswith("Other traffic shares a batch (1)")
    assert describe_other_traffic(batch("HIGH", 3, 1)) == ""


def test_other_traffic_in_a_lane_of_single_usernames_is_a_violation() -> None:
    rules = {"HIGH": Rule(0.2, 6, scope="username")}
    (finding,) = check_batches(batch("HIGH", 3, 1, batch_size=5), rules)
    assert finding == "Batch 1 holds another client's request, although its scope is one username."
