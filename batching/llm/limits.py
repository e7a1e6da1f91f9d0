"""Parses what a refusal says about limits: a state of the project, or how long to wait.

Does not import the SDK, which loads slowly.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

Details = Sequence[Mapping[str, Any]]

DAILY_QUOTA = "The model's daily quota is used up."
NO_QUOTA = "The project's quota for this model has the limit 0."
SPENDING_CAP = "The project's monthly spending cap is reached."
NO_CREDITS = "The project's prepayment credits are depleted."
NO_BILLING = "The project's billing does not allow calls."
# No call succeeds before somebody changes the project or a day begins, so none is repeated.
PROJECT_STATES = frozenset({DAILY_QUOTA, NO_QUOTA, SPENDING_CAP, NO_CREDITS, NO_BILLING})
PROJECT_STATE_WAIT_S = 3600.0

_BY_MESSAGE = (
    (SPENDING_CAP, re.compile(r"monthly spend|spend(?:ing)?[ -]cap", re.I)),
    (
        NO_CREDITS,
        re.compile(
            r"credits?\b.{0,30}\b(?:depleted|exhausted|used up)"
            r"|insufficient[_ ](?:balance|credits?|funds|quota)",
            re.I,
        ),
    ),
    (NO_QUOTA, re.compile(r"\blimit:? ?0(?!\.?\d)", re.I)),
    (DAILY_QUOTA, re.compile(r"per[ _-]?day|daily (?:quota|limit)", re.I)),
)
_MAX_MESSAGE_CHARS = 4000

_NUMBER = r"\d{1,9}(?:\.\d{1,12})?"
_UNIT = r"ms|milliseconds?|s|secs?|seconds?|m|mins?|minutes?|h|hrs?|hours?|d|days?"
_PART = re.compile(rf"({_NUMBER}) ?({_UNIT})(?![a-z])", re.I)
_DURATION = rf"(?:{_NUMBER} ?(?:{_UNIT})(?![a-z]) ?)+"
_MESSAGE_WAIT = re.compile(rf"\b(?:retry|again|resets?|wait)\b[^\d\n]{{0,20}}({_DURATION})", re.I)
_UNITS_S = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}


def find_project_state(status: int, message: str, details: Details) -> str | None:
    """The sentence of `PROJECT_STATES` that the refusal means, or None."""
    if status not in (402, 403, 429):
        return None
    values = [str(value) for value in _list_limit_values(details)]
    text = "\n".join([message[:_MAX_MESSAGE_CHARS], *values])
    for state, pattern in _BY_MESSAGE:
        if pattern.search(text):
            return state
    unpaid = status == 402 or any(d.get("reason") == "BILLING_DISABLED" for d in details)
    return NO_BILLING if unpaid else None


def find_wait_s(
    message: str, details: Details, headers: Mapping[str, str], *, now: datetime
) -> float | None:
    """The wait that RetryInfo, the header Retry-After or the message requests; None without one."""
    header = headers.get("retry-after", "")
    match = _MESSAGE_WAIT.search(message[:_MAX_MESSAGE_CHARS])
    return (
        _parse_wait_s(next(_list_delays(details), ""))
        or _parse_wait_s(header)
        or _count_seconds_until(header, headers, now=now)
        or _parse_wait_s(match[1] if match else "")
    )


def _list_delays(details: Details) -> Iterator[str]:
    for detail in details:
        if str(detail.get("@type", "")).endswith("RetryInfo"):
            yield str(detail.get("retryDelay", ""))


def _list_limit_values(details: Details) -> Iterator[Any]:
    """The names of the violated quotas, and their limits in the words of the messages."""
    for detail in details:
        violations = detail.get("violations")
        for violation in violations if isinstance(violations, list) else []:
            if isinstance(violation, dict):
                yield violation.get("quotaId", "")
                yield f"limit: {violation.get('quotaValue')}"
        metadata = detail.get("metadata")
        if isinstance(metadata, dict):
            yield f"limit: {metadata.get('quota_limit_value')}"


def _parse_wait_s(text: str) -> float | None:
    """Parses `3.6s`, `859.84ms`, `1m2.5s`, `2 minutes`, or a number of seconds; None for 0."""
    text = text.strip()
    if re.fullmatch(_NUMBER, text):
        return float(text) or None
    if not re.fullmatch(_DURATION, text, re.I):
        return None
    return (
        sum(float(number) * _get_unit_s(unit.lower()) for number, unit in _PART.findall(text))
        or None
    )


def _get_unit_s(unit: str) -> float:
    return 0.001 if unit.startswith(("ms", "mil")) else _UNITS_S[unit[0]]


def _count_seconds_until(date: str, headers: Mapping[str, str], *, now: datetime) -> float | None:
    """Counts from the date of the reply, so that the clocks need not agree."""
    until = _parse_date(date)
    if until is None:
        return None
    seconds = (until - (_parse_date(headers.get("date", "")) or now)).total_seconds()
    return seconds if seconds > 0 else None


def _parse_date(text: str) -> datetime | None:
    try:
        date = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return date if date.tzinfo else date.replace(tzinfo=UTC)
