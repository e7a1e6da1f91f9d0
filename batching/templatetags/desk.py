"""What the admin's templates show beside Django's own."""

from collections.abc import Iterable
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
    """Django's date hierarchy, its years, months and days taken from the roll-up.

    Django would look for them in every row of the table.
    """
    field = cl.date_hierarchy
    names = [f"{field}__{part}" for part in ("year", "month", "day")]
    chosen = [int(cl.params[name]) for name in names if str(cl.params.get(name, "")).isdecimal()]
    days = DailyStat.objects.order_by("day").values_list("day", flat=True).distinct()
    known = [_parts(day) for day in days if _matches(day, chosen)]
    parts = _list_choices(known, depth=len(chosen) + 1)
    return {
        "show": True,
        "back": _back(cl, names, chosen),
        "choices": [_choice(cl, names, part) for part in parts if len(part) > len(chosen)],
    }


def _parts(day: date) -> tuple[int, ...]:
    return (day.year, day.month, day.day)


def _list_choices(known: list[tuple[int, ...]], *, depth: int) -> list[tuple[int, ...]]:
    """The parts at `depth`, or deeper while there would be nothing to choose from."""
    parts = sorted({part[:depth] for part in known})
    return _list_choices(known, depth=depth + 1) if len(parts) == 1 and depth < 3 else parts


def _matches(day: date, chosen: list[int]) -> bool:
    return list(_parts(day)[: len(chosen)]) == chosen


def _back(cl: ChangeList, names: list[str], chosen: list[int]) -> dict[str, Any] | None:
    if not chosen:
        return None
    shorter = chosen[:-1]
    link = cl.get_query_string(dict(zip(names, shorter, strict=False)), names)
    return {"link": link, "title": _title(tuple(shorter)) if shorter else "All dates"}


def _choice(cl: ChangeList, names: list[str], part: tuple[int, ...]) -> dict[str, Any]:
    link = cl.get_query_string(dict(zip(names, part, strict=False)), names)
    return {"link": link, "title": _title(part)}


def _title(part: Iterable[int]) -> str:
    year, month, day = (*part, 0, 0)[:3]
    if not month:
        return str(year)
    return (
        f"{date(year, month, day or 1):%B %Y}" if not day else f"{date(year, month, day):%B} {day}"
    )
