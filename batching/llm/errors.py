"""What an error of the SDK or of its transport means for a call (FACTS: `errors.APIError`)."""

import re
from collections.abc import Iterator
from typing import Any

import httpx2
from google.genai import errors

from batching.engine.errors import (
    UpstreamError,
    UpstreamRejectedKey,
    UpstreamUnavailable,
)
from batching.engine.model import CallFailed, Remedy

_RETRYABLE = frozenset({408, 429, 500, 502, 503, 504})
_NO_CALL_WAS_MADE = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout)


def explain_failure(raised: Exception) -> CallFailed:
    """The engine's view of whatever a call raised. Never quotes more of it than its message."""
    match raised:
        case errors.APIError():
            return _explain_status(raised)
        case httpx2.TransportError():
            cause = type(raised).__name__
            return CallFailed(
                UpstreamUnavailable(f"The model service could not be reached ({cause})."),
                Remedy.TOGETHER,
                perhaps_billed=not isinstance(raised, _NO_CALL_WAS_MADE),
            )
        case RecursionError() | ValueError() | UserWarning():
            # HTML or other bytes that are no event of the protocol, or nesting beyond reason.
            return CallFailed(
                UpstreamError("The model service answered something that is not its format."),
                Remedy.TOGETHER,
                perhaps_billed=True,
            )
        case TimeoutError() | RuntimeError() | OSError():
            cause = type(raised).__name__
            return CallFailed(
                UpstreamUnavailable(f"The call to the model service broke off ({cause})."),
                Remedy.TOGETHER,
                perhaps_billed=True,
            )
    return CallFailed(
        UpstreamError(f"The call to the model service failed ({type(raised).__name__})."),
        Remedy.TOGETHER,
        perhaps_billed=True,
    )


def _explain_status(raised: errors.APIError) -> CallFailed:
    status = raised.code if isinstance(raised.code, int) else 0
    message = f"The model service answered {status} {_clean(raised.status)}".rstrip()
    details = list(_error_details(raised))
    if status in (401, 403) or any(d.get("reason") == "API_KEY_INVALID" for d in details):
        return CallFailed(UpstreamRejectedKey(), Remedy.FAIL)
    if status == 429 and any("PerDay" in quota for quota in _quota_ids(details)):
        error = UpstreamUnavailable("The model's daily quota is used up.", retry_after_s=3600)
        return CallFailed(error, Remedy.FAIL)
    if status in _RETRYABLE or status >= 500:
        wait = _retry_delay_s(details)
        error = UpstreamUnavailable(f"{message}.", retry_after_s=wait)
        return CallFailed(error, Remedy.TOGETHER, retry_after_s=wait)
    if status == 404:
        error = UpstreamError(f"{message}: the configured model or API version is unknown to it.")
        return CallFailed(error, Remedy.FAIL)
    if status == 400 and raised.status == "FAILED_PRECONDITION":
        error = UpstreamError(f"{message}: the key's project may not use it (region or billing).")
        return CallFailed(error, Remedy.FAIL)
    if 400 <= status < 500:
        return CallFailed(UpstreamError(f"{message}."), Remedy.ALONE)
    error = UpstreamError("The model service answered something that is not its format.")
    return CallFailed(error, Remedy.TOGETHER)


def _error_details(raised: errors.APIError) -> Iterator[dict[str, Any]]:
    document = raised.details if isinstance(raised.details, dict) else {}
    error = document.get("error")
    details = error.get("details") if isinstance(error, dict) else None
    for detail in details if isinstance(details, list) else []:
        if isinstance(detail, dict):
            yield detail


def _quota_ids(details: list[dict[str, Any]]) -> Iterator[str]:
    for detail in details:
        violations = detail.get("violations")
        for violation in violations if isinstance(violations, list) else []:
            if isinstance(violation, dict):
                yield str(violation.get("quotaId", ""))


def _retry_delay_s(details: list[dict[str, Any]]) -> float | None:
    for detail in details:
        if str(detail.get("@type", "")).endswith("RetryInfo"):
            match = re.fullmatch(r"(\d{1,6}(?:\.\d{1,9})?)s", str(detail.get("retryDelay", "")))
            if match:
                return float(match.group(1))
    return None


def _clean(status: Any) -> str:
    return re.sub(r"[^A-Za-z_ ]", "", str(status or ""))[:40]
