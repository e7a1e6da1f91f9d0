"""Formats timestamps, for the API and as a number."""

from datetime import UTC, datetime, timedelta
from typing import overload

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@overload
def format_time(timestamp: datetime) -> str: ...
@overload
def format_time(timestamp: None) -> None: ...
def format_time(timestamp: datetime | None) -> str | None:
    """Formats as ISO 8601 in UTC with a Z."""
    if timestamp is None:
        return None
    return timestamp.astimezone(UTC).isoformat().replace("+00:00", "Z")


def count_microseconds(timestamp: datetime) -> int:
    """Counts from 1970. Every database keeps this precision, so each returns the same number."""
    return (timestamp - EPOCH) // timedelta(microseconds=1)
