"""Translates an error of the SDK or of its transport into the engine's view of a failed call."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import httpx2
from google.genai import errors

from batching.engine.errors import (
    GatewayError,
    UpstreamError,
    UpstreamRejectedKey,
    UpstreamUnavailable,
)
from batching.engine.model import CallFailed, Remedy
from batching.llm.limits import PROJECT_STATE_WAIT_S, find_project_state, find_wait_s

_RETRYABLE = frozenset({408, 429, 499})  # and all from 500
_NO_CALL_WAS_MADE = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout)
_WRONG_FORMAT = "The model service sent an unreadable reply."


def explain_failure(raised: Exception) -> CallFailed:
    """Explains whatever a call raised. Quotes only the status of a reply and names of classes."""
    error: GatewayError
    cause = type(raised).__name__
    match raised:
        case errors.APIError():
            return _explain_status(raised)
        case GatewayError():
            return CallFailed(raised, Remedy.FAIL)
        case httpx2.TransportError():
            error = UpstreamUnavailable(f"The model service could not be reached ({cause}).")
        case RecursionError() | ValueError() | UserWarning():
            # HTML or other bytes that are no event of the protocol, or too deep nesting.
            return CallFailed(UpstreamError(_WRONG_FORMAT), Remedy.ALONE, perhaps_billed=True)
        case TimeoutError() | RuntimeError() | OSError():
            error = UpstreamUnavailable(f"The call to the model service broke off ({cause}).")
        case _:  # The SDK fails on an event of another form.
            error = UpstreamError(f"The call to the model service failed ({cause}).")
            return CallFailed(error, Remedy.ALONE, perhaps_billed=True)
    perhaps_billed = not isinstance(raised, _NO_CALL_WAS_MADE)
    return CallFailed(error, Remedy.TOGETHER, perhaps_billed=perhaps_billed)


def _explain_status(raised: errors.APIError) -> CallFailed:
    status = raised.code if isinstance(raised.code, int) else 0
    name = re.sub(r"[^A-Za-z_ ]", "", str(raised.status or ""))[:40]
    message = f"The model service answered {status} {name}".rstrip()
    details = _list_details(raised)
    text = str(raised.message or "")
    error: GatewayError
    if state := find_project_state(status, text, details):
        error = UpstreamUnavailable(state, retry_after_s=PROJECT_STATE_WAIT_S)
        return CallFailed(error, Remedy.FAIL)
    if status in (401, 403) or any(d.get("reason") == "API_KEY_INVALID" for d in details):
        return CallFailed(UpstreamRejectedKey(), Remedy.FAIL)
    if status in _RETRYABLE or status >= 500:
        wait_s = find_wait_s(text, details, _get_headers(raised), now=datetime.now(UTC))
        error = UpstreamUnavailable(f"{message}.", retry_after_s=wait_s)
        return CallFailed(error, Remedy.TOGETHER, retry_after_s=wait_s)
    if status == 404:
        text = f"{message}: the configured model or API version is unknown to it."
        return CallFailed(UpstreamError(text), Remedy.FAIL)
    if status == 400 and raised.status == "FAILED_PRECONDITION":
        text = f"{message}: the key's project may not use it (region or billing)."
        return CallFailed(UpstreamError(text), Remedy.FAIL)
    if 400 <= status < 500:
        return CallFailed(UpstreamError(f"{message}."), Remedy.ALONE_ONCE)
    return CallFailed(UpstreamError(_WRONG_FORMAT), Remedy.TOGETHER)


def _list_details(raised: errors.APIError) -> list[dict[str, Any]]:
    document: Any = raised.details
    error = document.get("error") if isinstance(document, dict) else None
    return _only_dicts(error.get("details")) if isinstance(error, dict) else []


def _only_dicts(value: Any) -> list[dict[str, Any]]:
    return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []


def _get_headers(raised: errors.APIError) -> Mapping[str, str]:
    headers = getattr(raised.response, "headers", None)
    return headers if isinstance(headers, Mapping) else {}
