"""How the API writes a moment."""

from datetime import UTC, datetime
from typing import overload


@overload
def write_time(moment: datetime) -> str: ...
@overload
def write_time(moment: None) -> None: ...
def write_time(moment: datetime | None) -> str | None:
    """ISO 8601 in UTC with a Z."""
    if moment is None:
        return None
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")
