"""Translates a time range into a range of primary keys."""

from typing import Any, NamedTuple

from django.db.models import Max, Min, QuerySet

MAX_ID = 2**63 - 1


class IdRange(NamedTuple):
    """Both ends are included; 0 to 0 contains no row."""

    oldest: int
    newest: int


def find_id_range(dated: QuerySet[Any]) -> IdRange:
    """Returns the smallest range of ids that contains all rows of `dated`.

    Ids grow nearly in the order of time. With an id range in its condition a query walks along the
    primary key; with the times alone the database would sort every row of the time range to find
    the newest few.
    """
    ends = dated.order_by().aggregate(oldest=Min("pk"), newest=Max("pk"))
    return IdRange(ends["oldest"] or 0, ends["newest"] or 0)
