"""Links from a figure to the list of the rows behind it."""

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
    """Links to the rows of a period's UTC days.

    The admin lists model calls. A viewer without access to that list gets a link to the batches,
    whose pages show their calls.
    """

    period: Period
    sees_calls: bool = False
    sees_lanes: bool = False

    @classmethod
    def for_viewer(cls, period: Period, request: HttpRequest) -> "RowLinks":
        user = getattr(request, "user", None)

        def may_see(permission: str) -> bool:
            return bool(user and user.is_staff and user.has_perm(permission))

        return cls(period, may_see("batching.view_modelcall"), may_see("settings_app.view_lane"))

    def find(self, rows: Rows, *, priority: Priority | None = None, error_code: str = "") -> str:
        if rows == "calls" and self.sees_calls:
            return self._find_calls(priority)
        parameters = {
            "from": self.period.first.isoformat(),
            "to": self.period.day_after.isoformat(),
        }
        if priority is not None:
            parameters["priority"] = priority.name
        if rows == "answered":
            parameters["status"] = Status.DONE.value
        if rows == "failed":
            parameters["error_code"] = error_code or ANY_ERROR
        name = "batches" if rows in ("batches", "calls") else "chats"
        return f"{reverse(name)}?{urlencode(parameters)}"

    def find_daily(self, rows: Rows, days: Sequence[Mapping[str, Any]]) -> list[str]:
        """One link for each day; `date` is its ISO 8601 day."""
        dates = [date.fromisoformat(day["date"]) for day in days]
        return [replace(self, period=Period(day, day)).find(rows) for day in dates]

    def find_lane(self, priority: Priority) -> str:
        """The admin's form of the lane, or "" if the viewer may not open it."""
        name = "admin:settings_app_lane_change"
        return reverse(name, args=[priority.value]) if self.sees_lanes else ""

    def _find_calls(self, priority: Priority | None) -> str:
        parameters = {
            "started_at__gte": f"{self.period.first} 00:00:00Z",
            "started_at__lt": f"{self.period.day_after} 00:00:00Z",
        }
        if priority is not None:
            parameters["priority__exact"] = str(priority.value)
        return f"{reverse('admin:batching_modelcall_changelist')}?{urlencode(parameters)}"
