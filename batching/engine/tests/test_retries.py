"""Tests of what happens to an item after a call that did not answer it."""

import random
from collections.abc import Callable

import pytest

from batching.engine.errors import (
    GatewayError,
    MissingAnswer,
    TimedOut,
    UpstreamError,
    UpstreamUnavailable,
)
from batching.engine.model import CallFailed, Remedy
from batching.engine.retries import (
    BLOCKING_REASONS,
    RetryDecision,
    backoff_s,
    broken_call_failure,
    decide_after_failure,
    decide_after_reply,
    decide_retry,
    stall_failure,
    timeout_failure,
)

AGAIN = RetryDecision(UpstreamUnavailable("busy"), Remedy.TOGETHER)


def decide(
    decision: RetryDecision = AGAIN,
    *,
    alone: bool = False,
    attempts_left: int = 2,
    remaining_s: float = 10.0,
    delay_s: float = 0.0,
) -> GatewayError | None:
    return decide_retry(
        decision,
        alone=alone,
        attempts_left=attempts_left,
        remaining_s=remaining_s,
        delay_s=delay_s,
    )


@pytest.mark.parametrize("reason", sorted(BLOCKING_REASONS))
def test_blocking_reason_is_named_and_final_for_a_single(reason: str) -> None:
    decision = decide_after_reply(finish_reason=reason, block_reason=None)
    assert str(decision.error) == f"The model stopped this answer ({reason})."
    assert (decision.error.code, decision.remedy, decision.final_alone) == (
        "blocked",
        Remedy.ALONE,
        True,
    )


@pytest.mark.parametrize("reason", [None, "STOP"])
def test_missing_answer_is_worth_another_call(reason: str | None) -> None:
    decision = decide_after_reply(finish_reason=reason, block_reason=None)
    assert str(decision.error) == str(MissingAnswer())
    assert decision.remedy is Remedy.ALONE
    assert not decision.final_alone
    assert decide(decision, alone=True) is None


def test_failure_keeps_its_remedy_and_the_requested_pause() -> None:
    failure = CallFailed(UpstreamError("bad"), Remedy.ALONE, retry_after_s=3.0)
    assert decide_after_failure(failure) == RetryDecision(
        failure.error, Remedy.ALONE, 3.0, final_alone=True
    )
    failure = CallFailed(UpstreamUnavailable("busy"), Remedy.TOGETHER)
    assert decide_after_failure(failure) == RetryDecision(failure.error, Remedy.TOGETHER)


def test_item_without_remaining_time_ends() -> None:
    assert isinstance(decide(remaining_s=0.0), TimedOut)
    assert decide(remaining_s=0.01) is None


def test_item_without_attempts_left_ends() -> None:
    assert decide(attempts_left=0) is AGAIN.error
    assert decide(attempts_left=1) is None


def test_single_item_ends_only_if_the_decision_is_final() -> None:
    decision = RetryDecision(UpstreamError("bad"), Remedy.ALONE, final_alone=True)
    assert decide(decision, alone=True) is decision.error
    assert decide(decision) is None


def test_pause_beyond_the_remaining_time_ends_an_item_with_the_same_error() -> None:
    error = decide(remaining_s=5.0, delay_s=5.0)
    assert isinstance(error, UpstreamUnavailable)
    assert (str(error), error.retry_after_s) == ("busy", 5.0)
    assert decide(remaining_s=5.0, delay_s=4.9) is None


def test_backoff_doubles_up_to_its_cap() -> None:
    longest = [max(_draw_backoffs(attempt)) for attempt in (1, 2, 3, 4, 5, 6, 60)]
    shortest = [min(_draw_backoffs(attempt)) for attempt in (1, 2, 3, 4, 5, 6, 60)]
    assert longest == pytest.approx([0.5, 1, 2, 4, 8, 8, 8], rel=0.02)
    assert shortest == pytest.approx([0.25, 0.5, 1, 2, 4, 4, 4], rel=0.02)


def _draw_backoffs(attempt: int) -> list[float]:
    rng = random.Random(attempt)
    return [backoff_s(attempt, retry_after_s=None, rng=rng) for _ in range(500)]


@pytest.mark.parametrize(
    ("fail", "code", "remedy", "detail"),
    [
        (
            lambda: stall_failure(20.4),
            "upstream_unavailable",
            Remedy.TOGETHER,
            "sent nothing for 20 seconds.",
        ),
        (
            lambda: broken_call_failure("a reset"),
            "upstream_unavailable",
            Remedy.TOGETHER,
            "broke off (a reset).",
        ),
        (timeout_failure, "timeout", Remedy.FAIL, str(TimedOut())),
    ],
)
def test_call_without_an_end_may_have_been_billed(
    fail: Callable[[], CallFailed], code: str, remedy: Remedy, detail: str
) -> None:
    failure = fail()
    assert failure.perhaps_billed is True
    assert (failure.error.code, failure.remedy) == (code, remedy)
    assert str(failure.error).endswith(detail)
