"""How many chats are stored, without counting a million of them for every page."""

import time
from dataclasses import dataclass

from django.db.models import Count, Func, IntegerField, Subquery

from chats.models import Chat
from settings_app.snapshot import Snapshot, current_snapshot

REMEMBERED_S = 60.0
UNSETTLED = 1000
"""the newest ids are counted each time: a smaller one may still be committed after a larger"""


@dataclass(frozen=True, slots=True)
class Tally:
    """`count` rows have an id up to `upto`, as long as `lowest` is the lowest and nobody announced
    a deletion, which gives a new snapshot. `until` is in monotonic seconds."""

    count: int
    upto: int
    lowest: int
    snapshot: Snapshot
    until: float


class _Memory:
    """Replaced as a whole, so that threads need no lock."""

    tally: Tally | None = None


def count_stored() -> int:
    rows = Chat.objects.order_by("pk").values_list("pk", flat=True)
    lowest = rows.first()
    if lowest is None:
        return 0
    tally = _Memory.tally
    if (
        tally is None
        or tally.lowest != lowest
        or tally.snapshot is not current_snapshot()
        or tally.until < time.monotonic()
    ):
        tally = _count_settled(lowest=lowest, highest=rows.last() or lowest)
    return tally.count + rows.filter(pk__gt=tally.upto).count()


def _count_settled(*, lowest: int, highest: int) -> Tally:
    snapshot, upto = current_snapshot(), highest - UNSETTLED
    # All less the newest, in one statement: all are counted in the smallest index, where those up
    # to an id would be counted row by row through every text.
    newest = (
        Chat.objects.filter(pk__gt=upto)
        .order_by()
        .annotate(counted=Func("pk", function="COUNT", output_field=IntegerField()))
        .values("counted")
    )
    count = Chat.objects.aggregate(count=Count("*") - Subquery(newest))["count"]
    _Memory.tally = Tally(count, upto, lowest, snapshot, time.monotonic() + REMEMBERED_S)
    return _Memory.tally
