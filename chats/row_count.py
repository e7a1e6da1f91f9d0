"""Counts the stored chats without counting a million rows for every page."""

import time
from functools import lru_cache

from django.db.models import Count, Expression, F, Func, IntegerField, QuerySet, Subquery

from chats.models import Chat
from settings_app.snapshot import Snapshot, current_snapshot

CACHE_S = 60.0
# The newest ids are counted every time: a smaller id may be committed after a larger one.
RECOUNTED_IDS = 1000


def count_stored() -> int:
    ids = Chat.objects.order_by("pk").values_list("pk", flat=True)
    lowest = ids.first()
    if lowest is None:
        return 0
    older, upto = _count_older(lowest, current_snapshot(), time.monotonic() // CACHE_S)
    return older + ids.filter(pk__gt=upto).count()


@lru_cache(maxsize=1)
def _count_older(lowest: int, snapshot: Snapshot, period: float) -> tuple[int, int]:
    """Returns the number of the rows up to an id, and that id.

    The result is cached by the arguments: every command that deletes rows causes a new snapshot.
    """
    highest = Chat.objects.order_by("pk").values_list("pk", flat=True).last() or lowest
    upto = highest - RECOUNTED_IDS
    # "All rows minus the newest" lets the database count all rows in the smallest index. "Rows up
    # to an id" would make it read the rows, and their texts, one by one.
    newest = count_in_subquery(Chat.objects.filter(pk__gt=upto), F("pk"))
    return Chat.objects.aggregate(count=Count("*") - newest)["count"], upto


def count_in_subquery(rows: QuerySet[Chat], counted: Expression | F) -> Subquery:
    """COUNT as a plain function, because Django would add GROUP BY for its own `Count`."""
    count = Func(counted, function="COUNT", output_field=IntegerField())
    return Subquery(rows.order_by().annotate(counted=count).values("counted"))
