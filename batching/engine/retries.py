"""What the end of a call means for the items that it left without an answer."""

import random
from dataclasses import dataclass

from batching.engine.errors import (
    Blocked,
    GatewayError,
    MissingAnswer,
    TimedOut,
    Truncated,
    UpstreamUnavailable,
)
from batching.engine.model import CallFailed, Remedy

BACKOFF_BASE_S = 0.5
BACKOFF_CAP_S = 8.0
BLOCKING_REASONS = frozenset(
    (
        "SAFETY",
        "RECITATION",
        "BLOCKLIST",
        "PROHIBITED_CONTENT",
        "SPII",
        "IMAGE_SAFETY",
        "MODEL_ARMOR",
        "LANGUAGE",
    )
)


@dataclass(frozen=True, slots=True)
class RetryDecision:
    """`final_alone`: an item that was the call's only one is not tried again."""

    error: GatewayError
    remedy: Remedy
    retry_after_s: float | None = None
    final_alone: bool = False


def decide_after_failure(failure: CallFailed) -> RetryDecision:
    return RetryDecision(
        failure.error,
        failure.remedy,
        retry_after_s=failure.retry_after_s,
        final_alone=failure.remedy is Remedy.SINGLES,
    )


def decide_after_reply(*, finish_reason: str | None, block_reason: str | None) -> RetryDecision:
    """For a reply that was read to its end but lacks answers."""
    if block_reason:
        return _singles(Blocked(f"The model refused this prompt ({block_reason})."), final=True)
    if finish_reason in BLOCKING_REASONS:
        return _singles(Blocked(f"The model stopped this answer ({finish_reason})."), final=True)
    if finish_reason == "MAX_TOKENS":
        return _singles(Truncated(), final=True)
    if finish_reason in (None, "STOP"):
        return _singles(MissingAnswer(), final=False)
    detail = f"The model ended without a usable answer to this prompt ({finish_reason})."
    return _singles(MissingAnswer(detail), final=False)


def decide_retry(
    decision: RetryDecision, *, alone: bool, attempts_left: int, remaining_s: float, delay_s: float
) -> GatewayError | None:
    """The error that ends this item now, or None if another call may still help it."""
    if remaining_s <= 0:
        return TimedOut()
    if decision.remedy is Remedy.FAIL or (alone and decision.final_alone) or attempts_left <= 0:
        return decision.error
    if delay_s >= remaining_s:
        return type(decision.error)(str(decision.error), retry_after_s=delay_s)
    return None


def backoff_s(attempt: int, *, asked_s: float | None, chance: random.Random) -> float:
    """The server's own wish, else half to all of an exponential delay."""
    if asked_s is not None:
        return asked_s + chance.uniform(0, 0.1)
    exponential: float = min(BACKOFF_CAP_S, BACKOFF_BASE_S * 2.0 ** (attempt - 1))
    return exponential * chance.uniform(0.5, 1.0)


def stalled(seconds: float) -> CallFailed:
    error = UpstreamUnavailable(f"The model service sent nothing for {seconds:.0f} seconds.")
    return CallFailed(error, Remedy.AGAIN, billable=True)


def out_of_time() -> CallFailed:
    return CallFailed(TimedOut(), Remedy.FAIL, billable=True)


def broken_off(cause: str) -> CallFailed:
    error = UpstreamUnavailable(f"The call to the model service broke off ({cause}).")
    return CallFailed(error, Remedy.AGAIN, billable=True)


def _singles(error: GatewayError, *, final: bool) -> RetryDecision:
    return RetryDecision(error, Remedy.SINGLES, final_alone=final)
