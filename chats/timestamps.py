"""How moments are written: for the API, and as a number."""

from datetime import UTC, datetime, timedelta
from typing import overload

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@overload
def format_time(moment: datetime) -> str: ...
@overload
def format_time(moment: None) -> None: ...
def format_time(moment: datetime | None) -> str | None:
    """ISO 8601 in UTC with a Z."""
    if moment is None:
        return None
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def count_microseconds(moment: datetime) -> int:
    """Since 1970: all that every database keeps of a moment, so it is the same number from each."""
    return (moment - EPOCH) // timedelta(microseconds=1)
