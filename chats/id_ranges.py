"""Time told in ids."""

from typing import Any, NamedTuple

from django.db.models import Max, Min, Q, QuerySet


class Span(NamedTuple):
    """Both ends included; 0 to 0 holds no row."""

    oldest: int
    newest: int


def find_span(dated: QuerySet[Any]) -> Span:
    """The ids between which all rows of `dated` lie.

    Ids grow with time, nearly. With them in a query the database walks along the ids; by the times
    alone it would sort every row of the span to find the newest few.
    """
    ends = dated.order_by().aggregate(oldest=Min("pk"), newest=Max("pk"))
    return Span(ends["oldest"] or 0, ends["newest"] or 0)


def within(span: Span) -> Q:
    return Q(pk__range=span)
