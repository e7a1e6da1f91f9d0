"""The admin's lists of records, at a million rows as at ten."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.utils import build_q_object_from_lookup_parameters
from django.contrib.admin.views.main import ORDER_VAR, PAGE_VAR, ChangeList
from django.core.exceptions import ValidationError
from django.core.paginator import Paginator
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.utils.functional import cached_property

from chats.id_ranges import find_id_range, within

MAX_LISTED = 10_000
PLACES = ("id__lt", "id__gt")
"""parameters of the links that go on where counting stopped"""


class BoundedPaginator(Paginator):
    """Counts no further than `MAX_LISTED`: `RecordList.onward` leads to the rows beyond."""

    @cached_property
    def count(self) -> int:
        return self.object_list[:MAX_LISTED].count()

    @property
    def is_cut(self) -> bool:
        return self.count >= MAX_LISTED


@contextmanager
def _refuse_bad_moments() -> Iterator[None]:
    """What is no moment, or lies outside the calendar, leads back to the whole list."""
    try:
        yield
    except (ValidationError, ValueError, OverflowError) as error:
        raise IncorrectLookupParameters(error) from error


class RecordList(ChangeList):
    """Rows in the order of their ids, which is nearly that of time."""

    PLACES = PLACES

    def get_filters(self, request: HttpRequest) -> tuple[Any, ...]:
        with _refuse_bad_moments():
            found = super().get_filters(request)
        self._dated = {
            name: values
            for name, values in found[2].items()
            if name.partition("__")[0] == self.date_hierarchy
        }
        return found

    def get_queryset(self, request: HttpRequest, exclude_parameters: Any = None) -> QuerySet[Any]:
        """Dates are told as a span of ids, too."""
        rows = super().get_queryset(request, exclude_parameters)
        return rows.filter(self._find_id_range()) if self._dated else rows

    def _find_id_range(self) -> Q:
        with _refuse_bad_moments():
            asked = build_q_object_from_lookup_parameters(self._dated)
            return within(find_id_range(self.model._default_manager.filter(asked)))

    def get_ordering(self, request: HttpRequest, queryset: QuerySet[Any]) -> list[str]:
        """By no other columns than those that may be clicked on, whatever the address says."""
        asked = [part.removeprefix("-") for part in self.params.get(ORDER_VAR, "").split(".")]
        if not all(self._is_sortable(place) for place in asked):
            self.params.pop(ORDER_VAR, None)
        return super().get_ordering(request, queryset)

    def _is_sortable(self, place: str) -> bool:
        known = place.isdecimal() and int(place) < len(self.list_display)
        return known and self.list_display[int(place)] in self.sortable_by

    def get_query_string(self, new_params: Any = None, remove: Any = None) -> str:
        """Only the links to the other pages of this list keep its place."""
        new_params = dict(new_params or {})
        if PAGE_VAR not in new_params:
            new_params |= dict.fromkeys(PLACES)
        return super().get_query_string(new_params, remove)

    @property
    def place(self) -> str:
        """The row that the list goes on behind; "" if it begins with the newest or the oldest."""
        return next((self.params[name] for name in PLACES if name in self.params), "")

    @property
    def onward(self) -> tuple[int, str] | None:
        """The last row of a page and an address that goes on behind it, where counting stopped."""
        rows = list(self.result_list)
        order = self.queryset.query.order_by[:1]
        ways = {"-id": "id__lt", "-pk": "id__lt", "id": "id__gt", "pk": "id__gt"}
        if not (rows and self.paginator.is_cut and order and order[0] in ways):
            return None
        last, way = rows[-1].pk, ways[order[0]]
        if not self.queryset.filter(**{way: last}).exists():
            return None
        return last, super().get_query_string({way: last}, [PAGE_VAR, *PLACES])
