"""Looking for a text, which no index helps to find, in a page's time.

The newest chats are looked through a stretch of ids after the other until a page is full or the
time is over; the page says how far it came and leads on from there.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from chats.models import Chat
from chats.selectors import MAX_ID, ChatFilter, list_matching, span_of

BUDGET_S = 0.2
STRETCH = 50_000


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
    end = clock() + budget_s
    lowest, top = _find_bounds(which, before)
    matching = list_matching(which).order_by("-pk")
    found: list[Chat] = []
    while top > lowest:
        bottom = max(lowest, top - STRETCH)
        found += matching.filter(pk__range=(bottom, top - 1))[: limit + 1 - len(found)]
        if len(found) > limit:
            return SearchPage(found[:limit], found[limit - 1].pk)
        top = bottom
        if clock() >= end and top > lowest:
            return SearchPage(found, top, _moment_of(top))
    return SearchPage(found, None)


def _find_bounds(which: ChatFilter, before: int) -> tuple[int, int]:
    """The lowest id that may match, and one above the highest."""
    stored = Chat.objects.order_by("pk").values_list("pk", flat=True)
    first, last = stored.first(), stored.last()
    if first is None or last is None:
        return 0, 0
    span = span_of(which)
    return max(first, span.oldest), min(before, last + 1, span.newest + 1)


def _moment_of(pk: int) -> datetime | None:
    later = Chat.objects.filter(pk__gte=pk).order_by("pk")
    return later.values_list("received_at", flat=True).first()
