"""Decides, after a call of a batch has ended, what happens to the items that got no answer."""

import random

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
MAX_RUNAWAYS = 2  # The reply to the item ran away in company and again alone.
BLOCKING_REASONS = frozenset({"SAFETY", "RECITATION", "BLOCKLIST", "PROHIBITED_CONTENT"})
BLOCKING_REASONS |= {"SPII", "IMAGE_SAFETY", "MODEL_ARMOR", "LANGUAGE"}


def explain_missing_answers(*, finish_reason: str | None, block_reason: str | None) -> CallFailed:
    """Explains a reply that was read to its end but lacks answers."""
    if block_reason:
        error: GatewayError = Blocked(f"The model refused this prompt ({block_reason}).")
    elif finish_reason in BLOCKING_REASONS:
        error = Blocked(f"The model stopped this answer ({finish_reason}).")
    elif finish_reason == "MAX_TOKENS":
        error = Truncated()
    elif finish_reason in (None, "STOP"):
        return CallFailed(MissingAnswer(), Remedy.ALONE)
    else:
        detail = f"The model ended without a usable answer to this prompt ({finish_reason})."
        return CallFailed(MissingAnswer(detail), Remedy.ALONE)
    return CallFailed(error, Remedy.ALONE_ONCE)


def find_final_error(
    failure: CallFailed,
    *,
    alone: bool,
    runaways: int = 0,
    attempts_left: int,
    remaining_s: float,
    delay_s: float,
) -> GatewayError | None:
    """The error that ends this item now, or None if another call may still answer it."""
    if remaining_s <= 0:
        return TimedOut()
    final = failure.remedy is Remedy.FAIL or (alone and failure.remedy is Remedy.ALONE_ONCE)
    final = final or (failure.remedy is Remedy.APART and runaways >= MAX_RUNAWAYS)
    if final or attempts_left <= 0:
        return failure.error
    if delay_s >= remaining_s:
        return type(failure.error)(str(failure.error), retry_after_s=delay_s)
    return None


def backoff_s(attempt: int, *, retry_after_s: float | None, rng: random.Random) -> float:
    """The pause that the service requested, else 50 to 100 % of an exponential delay."""
    if retry_after_s is not None:
        return retry_after_s + rng.uniform(0, 0.1)
    exponential: float = min(BACKOFF_CAP_S, BACKOFF_BASE_S * 2.0 ** (attempt - 1))
    return exponential * rng.uniform(0.5, 1.0)


def stall_failure(seconds: float) -> CallFailed:
    error = UpstreamUnavailable(f"The model service sent nothing for {seconds:.0f} seconds.")
    return CallFailed(error, Remedy.TOGETHER, perhaps_billed=True)


def runaway_failure(*, blamed: bool) -> CallFailed:
    """`blamed`: it is known which item caused it."""
    error = Truncated("The model's reply repeated itself or was far too long.")
    remedy = Remedy.APART if blamed else Remedy.ALONE_ONCE
    return CallFailed(error, remedy, perhaps_billed=True)


def must_go_alone(failure: CallFailed, *, suspect: bool, attempts_left: int) -> bool:
    """Whether an item is retried alone. `suspect`: it, or its answer, may be the cause."""
    if failure.remedy is Remedy.APART:
        # Two calls have run away; the last one must not depend on other items.
        return suspect or attempts_left == 1
    return suspect or failure.remedy is not Remedy.TOGETHER


def timeout_failure() -> CallFailed:
    return CallFailed(TimedOut(), Remedy.FAIL, perhaps_billed=True)


def broken_call_failure(cause: str) -> CallFailed:
    error = UpstreamUnavailable(f"The call to the model service broke off ({cause}).")
    return CallFailed(error, Remedy.TOGETHER, perhaps_billed=True)
