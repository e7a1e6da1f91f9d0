"""Where the rows behind a figure are listed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Any, Literal
from urllib.parse import urlencode

from django.http import HttpRequest
from django.urls import reverse

from batching.pages.periods import Period
from chats.models import Status
from chats.selectors import ANY_ERROR
from settings_app.models import Priority

Rows = Literal["chats", "answered", "failed", "batches", "calls"]


@dataclass(frozen=True, slots=True)
class RowLinks:
    """Of a period's UTC days.

    Calls are listed in the admin, for those who may see them there; others are led to their
    batches, which tell them.
    """

    period: Period
    sees_calls: bool = False
    sees_lanes: bool = False

    @classmethod
    def of(cls, period: Period, request: HttpRequest) -> "RowLinks":
        """For whoever asks."""
        user = getattr(request, "user", None)

        def may_see(permission: str) -> bool:
            return bool(user and user.is_staff and user.has_perm(permission))

        return cls(period, may_see("batching.view_modelcall"), may_see("settings_app.view_lane"))

    def find(self, rows: Rows, *, priority: Priority | None = None, error_code: str = "") -> str:
        if rows == "calls" and self.sees_calls:
            return self._find_calls(priority)
        asked = {"from": self.period.first.isoformat(), "to": self.period.day_after.isoformat()}
        if priority is not None:
            asked["priority"] = priority.name
        if rows == "answered":
            asked["status"] = Status.DONE.value
        if rows == "failed":
            asked["error_code"] = error_code or ANY_ERROR
        name = "batches" if rows in ("batches", "calls") else "chats"
        return f"{reverse(name)}?{urlencode(asked)}"

    def find_daily(self, rows: Rows, days: Sequence[Mapping[str, Any]]) -> list[str]:
        """One address for each day; `date` is its ISO 8601 day."""
        dates = [date.fromisoformat(day["date"]) for day in days]
        return [replace(self, period=Period(day, day)).find(rows) for day in dates]

    def find_lane(self, priority: Priority) -> str:
        """Where its settings are changed, or "" where the viewer may not go."""
        name = "admin:settings_app_lane_change"
        return reverse(name, args=[priority.value]) if self.sees_lanes else ""

    def _find_calls(self, priority: Priority | None) -> str:
        asked = {
            "started_at__gte": f"{self.period.first} 00:00:00Z",
            "started_at__lt": f"{self.period.day_after} 00:00:00Z",
        }
        if priority is not None:
            asked["priority__exact"] = str(priority.value)
        return f"{reverse('admin:batching_modelcall_changelist')}?{urlencode(asked)}"
