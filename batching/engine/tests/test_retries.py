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
    backoff_s,
    broken_call_failure,
    explain_missing_answers,
    find_final_error,
    stall_failure,
    timeout_failure,
)

AGAIN = CallFailed(UpstreamUnavailable("busy"), Remedy.TOGETHER)


def decide(
    failure: CallFailed = AGAIN,
    *,
    alone: bool = False,
    attempts_left: int = 2,
    remaining_s: float = 10.0,
    delay_s: float = 0.0,
) -> GatewayError | None:
    return find_final_error(
        failure,
        alone=alone,
        attempts_left=attempts_left,
        remaining_s=remaining_s,
        delay_s=delay_s,
    )


@pytest.mark.parametrize("reason", sorted(BLOCKING_REASONS))
def test_blocking_reason_is_named_and_final_for_a_single(reason: str) -> None:
    failure = explain_missing_answers(finish_reason=reason, block_reason=None)
    assert str(failure.error) == f"The model stopped this answer ({reason})."
    assert (failure.error.code, failure.remedy) == ("blocked", Remedy.ALONE_ONCE)


@pytest.mark.parametrize("reason", [None, "STOP"])
def test_missing_answer_is_worth_another_call(reason: str | None) -> None:
    failure = explain_missing_answers(finish_reason=reason, block_reason=None)
    assert str(failure.error) == str(MissingAnswer())
    assert failure.remedy is Remedy.ALONE
    assert decide(failure, alone=True) is None


def test_item_without_remaining_time_ends() -> None:
    assert isinstance(decide(remaining_s=0.0), TimedOut)
    assert decide(remaining_s=0.01) is None


def test_item_without_attempts_left_ends() -> None:
    assert decide(attempts_left=0) is AGAIN.error
    assert decide(attempts_left=1) is None


def test_single_item_ends_only_if_another_call_of_its_own_would_not_help() -> None:
    failure = CallFailed(UpstreamError("bad"), Remedy.ALONE_ONCE)
    assert decide(failure, alone=True) is failure.error
    assert decide(failure) is None


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
