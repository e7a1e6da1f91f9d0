"""Looking for a text, which no index helps to find, in a page's time.

The newest chats are looked through a stretch of ids after the other until a page is full or the
time is over; the page says how far it came and leads on from there. How long a stretch takes
depends on the texts, which may be a thousand times longer in one gateway than in another.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from chats.id_ranges import MAX_ID
from chats.models import Chat
from chats.selectors import ChatFilter, id_range_of, list_matching

BUDGET_S = 0.2
FIRST_STRETCH = 1000
MAX_GROWTH = 4


@dataclass(frozen=True, slots=True)
class SearchPage:
    """`chats` newest first. `older` is the id to go on below, None where there is nothing more.

    `reached` is the moment down to which all was looked through when the time was over, else None.
    """

    chats: list[Chat]
    older: int | None
    reached: datetime | None = None


def search_chats(
    which: ChatFilter,
    *,
    limit: int,
    before: int = MAX_ID,
    budget_s: float = BUDGET_S,
    clock: Callable[[], float] = time.monotonic,
) -> SearchPage:
    """The newest that match and have a smaller id than `before`; at least one stretch is read."""
    lowest, top = _find_bounds(which, before)
    matching = list_matching(which).order_by("-pk")
    found: list[Chat] = []
    began, stretch = clock(), FIRST_STRETCH
    end = began + budget_s
    while top > lowest:
        bottom = max(lowest, top - stretch)
        found += matching.filter(pk__range=(bottom, top - 1))[: limit + 1 - len(found)]
        if len(found) > limit:
            return SearchPage(found[:limit], found[limit - 1].pk)
        ended = clock()
        if ended >= end and bottom > lowest:
            return SearchPage(found, bottom, _moment_of(bottom))
        stretch = _next_stretch(stretch, took_s=ended - began, left_s=end - ended)
        top, began = bottom, ended
    return SearchPage(found, None)


def _next_stretch(stretch: int, *, took_s: float, left_s: float) -> int:
    """What half of the time that is left should be enough for, going by the last stretch."""
    if took_s <= 0:
        return stretch * MAX_GROWTH
    return max(1, min(stretch * MAX_GROWTH, int(stretch * left_s / 2 / took_s)))


def _find_bounds(which: ChatFilter, before: int) -> tuple[int, int]:
    """The lowest id that may match, and one above the highest."""
    stored = Chat.objects.order_by("pk").values_list("pk", flat=True)
    first, last = stored.first(), stored.last()
    if first is None or last is None:
        return 0, 0
    ids = id_range_of(which)
    return max(first, ids.oldest), min(before, last + 1, ids.newest + 1)


def _moment_of(pk: int) -> datetime | None:
    later = Chat.objects.filter(pk__gte=pk).order_by("pk")
    return later.values_list("received_at", flat=True).first()
