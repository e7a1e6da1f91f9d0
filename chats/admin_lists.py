"""Lists of records in the admin that stay fast with millions of rows."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.utils import build_q_object_from_lookup_parameters
from django.contrib.admin.views.main import ORDER_VAR, PAGE_VAR, ChangeList
from django.core.exceptions import ValidationError
from django.core.paginator import Paginator
from django.db.models import Expression, QuerySet
from django.http import HttpRequest
from django.utils.functional import cached_property

from chats.id_ranges import find_id_range

MAX_LISTED = 10_000
# Links to the rows after the last counted one carry one of these parameters.
CURSORS = ("id__lt", "id__gt")


class BoundedPaginator(Paginator):  # type: ignore[type-arg]  # not generic at run time
    """Counts at most `MAX_LISTED` rows; `RecordList.continuation` links to the others."""

    object_list: QuerySet[Any]

    @cached_property
    def count(self) -> int:
        return self.object_list[:MAX_LISTED].count()

    @property
    def is_cut(self) -> bool:
        return self.count >= MAX_LISTED


@contextmanager
def _refuse_bad_timestamps() -> Iterator[None]:
    """Makes the admin redirect an invalid date, or one out of range, to the whole list."""
    try:
        yield
    except (ValidationError, ValueError, OverflowError) as error:
        raise IncorrectLookupParameters(error) from error


class RecordList(ChangeList):
    """Lists rows in the order of their ids, which is nearly the order of time."""

    CURSORS = CURSORS  # for the template
    paginator: BoundedPaginator

    def get_filters(self, request: HttpRequest) -> tuple[Any, ...]:
        with _refuse_bad_timestamps():
            found = super().get_filters(request)
        lookups: dict[str, Any] = found[2]
        self._dated = {
            name: values
            for name, values in lookups.items()
            if name.partition("__")[0] == self.date_hierarchy
        }
        return found

    def get_queryset(self, request: HttpRequest, exclude_parameters: Any = None) -> QuerySet[Any]:
        """Adds a range of ids to a condition on dates."""
        rows = super().get_queryset(request, exclude_parameters)
        if not self._dated:
            return rows
        with _refuse_bad_timestamps():
            dated = build_q_object_from_lookup_parameters(self._dated)
            return rows.filter(pk__range=find_id_range(self.model._default_manager.filter(dated)))

    def get_ordering(self, request: HttpRequest, queryset: QuerySet[Any]) -> list[Expression | str]:
        """Ignores an address that sorts by a column which is not in `sortable_by`."""
        parts = self.params.get(ORDER_VAR, "").split(".")
        if not all(self._is_sortable(part.removeprefix("-")) for part in parts):
            self.params.pop(ORDER_VAR, None)
        return super().get_ordering(request, queryset)

    def _is_sortable(self, column: str) -> bool:
        known = column.isdecimal() and int(column) < len(self.list_display)
        return known and self.list_display[int(column)] in (self.sortable_by or ())

    def get_query_string(self, new_params: Any = None, remove: Any = None) -> str:
        """Keeps the cursor only in links to other pages of this list."""
        new_params = dict(new_params or {})
        if PAGE_VAR not in new_params:
            new_params |= dict.fromkeys(CURSORS)
        return super().get_query_string(new_params, remove)

    @property
    def cursor(self) -> str:
        """The row after which the list begins; "" for a list from the newest or the oldest row."""
        return next((self.params[name] for name in CURSORS if name in self.params), "")

    @property
    def continuation(self) -> tuple[int, str] | None:
        """The page's last row and the query string of the rows after it, if counting stopped."""
        rows = list(self.result_list)
        order = self.queryset.query.order_by[:1]
        cursors = {"-id": "id__lt", "-pk": "id__lt", "id": "id__gt", "pk": "id__gt"}
        if not (rows and self.paginator.is_cut and order and order[0] in cursors):
            return None
        last, cursor = rows[-1].pk, cursors[order[0]]
        if not self.queryset.filter(**{cursor: last}).exists():
            return None
        return last, super().get_query_string({cursor: last}, [PAGE_VAR, *CURSORS])
