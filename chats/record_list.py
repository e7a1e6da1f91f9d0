"""The admin's lists of records, at a million rows as at ten."""

from typing import Any

from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.utils import build_q_object_from_lookup_parameters
from django.contrib.admin.views.main import PAGE_VAR, ChangeList
from django.core.exceptions import ValidationError
from django.core.paginator import Paginator
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.utils.functional import cached_property

from chats.spans import find_span, within

MOST_LISTED = 10_000


class BoundedPaginator(Paginator):
    """Counts no further than `MOST_LISTED`: `RecordList.onward` leads to the rows beyond."""

    @cached_property
    def count(self) -> int:
        return self.object_list[:MOST_LISTED].count()

    @property
    def is_cut(self) -> bool:
        return self.count >= MOST_LISTED


class RecordList(ChangeList):
    """Rows in the order of their ids, which is nearly that of time."""

    def get_filters(self, request: HttpRequest) -> tuple[Any, ...]:
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
        return rows.filter(self._find_span()) if self._dated else rows

    def _find_span(self) -> Q:
        try:
            dated = self.model._default_manager.filter(
                build_q_object_from_lookup_parameters(self._dated)
            )
        except (ValidationError, ValueError) as error:
            raise IncorrectLookupParameters(error) from error
        return within(find_span(dated))

    @property
    def onward(self) -> tuple[int, str] | None:
        """The last row of a page and an address that goes on behind it, where counting stopped."""
        rows = list(self.result_list)
        order = self.queryset.query.order_by[:1]
        ways = {"-id": "id__lt", "-pk": "id__lt", "id": "id__gt", "pk": "id__gt"}
        if not (rows and self.paginator.is_cut and order and order[0] in ways):
            return None
        last, way = rows[-1].pk, ways[order[0]]
        return last, self.get_query_string({way: last}, remove=[PAGE_VAR, way])
