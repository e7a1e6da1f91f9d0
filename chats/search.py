"""Searches prompts and answers for a text within a bounded time.

No index helps such a search. It reads the newest chats first, one range of ids after another, until
a page is full or the time is over; the page then links to the rest. The time for a range depends on
the length of the texts, which may differ a thousandfold between gateways.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from itertools import chain

from chats.id_ranges import MAX_ID
from chats.models import Chat
from chats.row_parts import PageRows, read_parts, split_parts
from chats.selectors import ChatFilter, find_bounds, list_matching

BUDGET_S = 0.2
FIRST_RANGE = 1000
MAX_GROWTH = 4


@dataclass(frozen=True, slots=True)
class SearchPage:
    """`chats` newest first. Continue below the id `older`; None means that nothing is left.

    If the time was over, `reached` is the timestamp down to which the search came.
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
    """Finds the newest matches with an id below `before`; it searches at least one range."""
    lowest, top = find_bounds(which, before)
    matching = list_matching(which).order_by("-pk")
    found = PageRows(limit)
    began, size = clock(), FIRST_RANGE
    end = began + budget_s
    while top > lowest:
        bottom = max(lowest, top - size)
        if found.take(matching.filter(pk__range=(bottom, top - 1))):
            return SearchPage(_read(found), found.measured[-1][0])
        ended = clock()
        if ended >= end and bottom > lowest:
            return SearchPage(_read(found), bottom, _received_at(bottom))
        size = _next_size(size, took_s=ended - began, left_s=end - ended)
        top, began = bottom, ended
    return SearchPage(_read(found), None)


def _read(found: PageRows) -> list[Chat]:
    return list(chain.from_iterable(read_parts(split_parts(found.measured))))


def _next_size(size: int, *, took_s: float, left_s: float) -> int:
    """Estimates, from the speed of the last range, the ids for half of the remaining time."""
    if took_s <= 0:
        return size * MAX_GROWTH
    return max(1, min(size * MAX_GROWTH, int(size * left_s / 2 / took_s)))


def _received_at(pk: int) -> datetime | None:
    """Returns when the first chat from this id on was received."""
    later = Chat.objects.filter(pk__gte=pk).order_by("pk")
    return later.values_list("received_at", flat=True).first()
