"""The UTC days that a page shows figures of."""

from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from django import forms

from batching.analytics.summary import MAX_DAYS

DAY_CHOICES = {1: "Today", 7: "7 days", 30: "30 days", 90: "90 days"}
DEFAULT_DAYS = 7


@dataclass(frozen=True)
class Period:
    """Includes both days. `days` is one of DAY_CHOICES, or 0 for days that the viewer typed."""

    first: date
    last: date
    days: int = 0

    @property
    def day_after(self) -> date:
        """The parameter `to` of GET /v1/analytics, which is exclusive."""
        return self.last + timedelta(days=1)

    @property
    def before(self) -> "Period | None":
        """The same number of days directly before; None if the calendar has no such days."""
        length = self.last - self.first + timedelta(days=1)
        if self.first.toordinal() <= length.days:
            return None
        return Period(self.first - length, self.last - length)


def recent_days(days: int, *, today: date) -> Period:
    return Period(today - timedelta(days=days - 1), today, days)


def _day_field(label: str) -> forms.DateField:
    widget = forms.DateInput(attrs={"type": "date"})
    return forms.DateField(label=label, required=False, input_formats=["%Y-%m-%d"], widget=widget)


class PeriodForm(forms.Form):
    """Takes `days`, or `first` and `last`. Without them the default applies."""

    days = forms.TypedChoiceField(
        required=False,
        coerce=int,
        empty_value=None,
        choices=list(DAY_CHOICES.items()),
        error_messages={"invalid_choice": "Choose 1, 7, 30 or 90 days."},
    )
    first = _day_field("First day")
    last = _day_field("Last day")

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        first, last = cleaned.get("first"), cleaned.get("last")
        if first and last and first > last:
            raise forms.ValidationError("The first day must not be after the last.")
        if first and last and (last - first).days >= MAX_DAYS:
            raise forms.ValidationError(f"At most {MAX_DAYS} days at once.")
        if date.max in (first, last):
            raise forms.ValidationError("The last possible day is 9999-12-30.")
        return cleaned

    def parse_period(self, *, today: date) -> Period:
        """Returns the default days if the input is invalid.

        Without a last day the period ends today; without a first one it has thirty days.
        """
        chosen = self.cleaned_data if self.is_valid() else {}
        first, last = chosen.get("first"), chosen.get("last")
        if first is not None:
            return Period(first, last or max(today, first))
        if last is not None:
            return Period(date.fromordinal(max(1, last.toordinal() - 29)), last)
        return recent_days(chosen.get("days") or DEFAULT_DAYS, today=today)
