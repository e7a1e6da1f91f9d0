"""Counts the stored chats without counting a million rows for every page."""

import time
from dataclasses import dataclass

from django.db.models import Count, Expression, F, Func, IntegerField, QuerySet, Subquery

from chats.models import Chat
from settings_app.snapshot import Snapshot, current_snapshot

CACHE_S = 60.0
# The newest ids are counted every time: a smaller id may be committed after a larger one.
UNSETTLED_IDS = 1000


@dataclass(frozen=True, slots=True)
class RowCount:
    """Cached number of rows up to id `upto`. It expires at `expires_at` (monotonic seconds).

    It becomes invalid when the lowest id or the settings snapshot changes: every command that
    deletes rows causes a new snapshot.
    """

    count: int
    upto: int
    lowest: int
    snapshot: Snapshot
    expires_at: float


class _Cache:
    """Its one value is replaced as a whole, so threads need no lock."""

    row_count: RowCount | None = None


def count_stored() -> int:
    ids = Chat.objects.order_by("pk").values_list("pk", flat=True)
    lowest = ids.first()
    if lowest is None:
        return 0
    cached = _Cache.row_count
    if (
        cached is None
        or cached.lowest != lowest
        or cached.snapshot is not current_snapshot()
        or cached.expires_at < time.monotonic()
    ):
        cached = _count_settled(lowest=lowest, highest=ids.last() or lowest)
    return cached.count + ids.filter(pk__gt=cached.upto).count()


def _count_settled(*, lowest: int, highest: int) -> RowCount:
    snapshot, upto = current_snapshot(), highest - UNSETTLED_IDS
    # "All rows minus the newest" lets the database count all rows in the smallest index. "Rows up
    # to an id" would make it read the rows, and their texts, one by one.
    newest = count_in_subquery(Chat.objects.filter(pk__gt=upto), F("pk"))
    count = Chat.objects.aggregate(count=Count("*") - newest)["count"]
    _Cache.row_count = RowCount(count, upto, lowest, snapshot, time.monotonic() + CACHE_S)
    return _Cache.row_count


def count_in_subquery(rows: QuerySet[Chat], counted: Expression | F) -> Subquery:
    """COUNT as a plain function, because Django would add GROUP BY for its own `Count`."""
    count = Func(counted, function="COUNT", output_field=IntegerField())
    return Subquery(rows.order_by().annotate(counted=count).values("counted"))
