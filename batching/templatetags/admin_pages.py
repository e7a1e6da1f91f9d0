"""Template tags for the pages of the admin."""

from datetime import date
from typing import Any

from django import template
from django.contrib.admin.views.main import ChangeList
from django.template.context import RequestContext

from batching.models import DailyStat
from batching.pages.periods import recent_days
from batching.pages.views import describe_period, today_utc

register = template.Library()


@register.inclusion_tag("admin/front_page.html", takes_context=True)
def front_page(context: RequestContext) -> dict[str, Any]:
    today, request = today_utc(), context["request"]
    return {
        "today": describe_period(recent_days(1, today=today), request),
        "week": describe_period(recent_days(7, today=today), request),
    }


@register.inclusion_tag("admin/date_hierarchy.html")
def recorded_dates(cl: ChangeList) -> dict[str, Any] | None:
    """Django's date hierarchy, with the years, months and days of the roll-up.

    Django itself would search every row of the table for them.
    """
    names = [f"{cl.date_hierarchy}__{part}" for part in ("year", "month", "day")]
    values = [str(cl.params.get(name) or "") for name in names]
    chosen = tuple(int(value) for value in values if value.isdecimal())
    days = DailyStat.objects.order_by("day").values_list("day", flat=True).distinct()
    parts = [(day.year, day.month, day.day) for day in days]
    choices = _list_choices(
        [part for part in parts if part[: len(chosen)] == chosen], depth=len(chosen) + 1
    )

    def link_to(part: tuple[int, ...]) -> dict[str, Any]:
        query = cl.get_query_string(dict(zip(names, part, strict=False)), names)
        return {"link": query, "title": _format_part(part)}

    return {
        "show": True,
        "back": link_to(chosen[:-1]) if chosen else None,
        "choices": [link_to(part) for part in choices if len(part) > len(chosen)],
    }


def _list_choices(parts: list[tuple[int, ...]], *, depth: int) -> list[tuple[int, ...]]:
    """The distinct prefixes at `depth`, or deeper while there is only one of them."""
    choices = sorted({part[:depth] for part in parts})
    return _list_choices(parts, depth=depth + 1) if len(choices) == 1 and depth < 3 else choices


def _format_part(part: tuple[int, ...]) -> str:
    """All dates, 2026, March 2026 or March 10."""
    if not part:
        return "All dates"
    if len(part) == 1:
        return str(part[0])
    day = date(part[0], part[1], part[2] if len(part) > 2 else 1)
    return f"{day:%B} {day.day}" if len(part) > 2 else f"{day:%B %Y}"
