"""Where the rows behind a figure are listed."""

from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlencode

from django.urls import reverse

from batching.periods import Period
from chats.models import Status
from chats.selectors import ANY_ERROR
from settings_app.models import Priority

Rows = Literal["chats", "answered", "failed", "batches", "calls"]


@dataclass(frozen=True, slots=True)
class RowLinks:
    """Of a period's UTC days. Batches and calls are listed in the admin alone, for its users."""

    period: Period
    is_staff: bool

    def find(self, rows: Rows, *, priority: Priority | None = None, error_code: str = "") -> str:
        """An address, or "" where the viewer may not go."""
        match rows:
            case "batches":
                return self._admin("batch", "created_at", "priority__exact", priority)
            case "calls":
                return self._admin("modelcall", "started_at", "priority__exact", priority)
        asked = {"from": self.period.first.isoformat(), "to": self.period.day_after.isoformat()}
        if priority is not None:
            asked["priority"] = priority.name
        if rows == "answered":
            asked["status"] = Status.DONE.value
        if rows == "failed":
            asked["error_code"] = error_code or ANY_ERROR
        return f"{reverse('chats')}?{urlencode(asked)}"

    def _admin(self, model: str, moment: str, lane: str, priority: Priority | None) -> str:
        if not self.is_staff:
            return ""
        asked = {
            f"{moment}__gte": f"{self.period.first} 00:00:00Z",
            f"{moment}__lt": f"{self.period.day_after} 00:00:00Z",
        }
        if priority is not None:
            asked[lane] = str(priority.value)
        return f"{reverse(f'admin:batching_{model}_changelist')}?{urlencode(asked)}"
