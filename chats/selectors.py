"""Reads the stored chats, page by page in the order of their ids.

These queries were shaped with a million chats in SQLite. It has no statistics unless ANALYZE was
run, and without them it may choose the least selective index.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from itertools import chain
from typing import Any

from django.db import connection
from django.db.models import (
    Case,
    Count,
    IntegerField,
    Max,
    Min,
    Q,
    QuerySet,
    Subquery,
    Value,
    When,
)
from django.db.models.functions import Coalesce
from django.db.models.lookups import Exact

from chats.id_ranges import MAX_ID, IdRange, find_id_range
from chats.models import OPEN_STATUSES, Chat, Status
from chats.row_count import count_in_subquery, count_stored
from chats.row_parts import PageRows, read_parts, split_parts
from settings_app.models import Priority

MAX_PAGE = 1000
DEFAULT_PAGE = 100
ALL_IDS = IdRange(0, MAX_ID)
ANY_ERROR = "any"
UNANSWERED = (Status.FAILED, Status.EXPIRED, Status.CANCELLED)
EXPORT_PAGE = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatFilter:
    """The conditions of a list of chats; None is no condition.

    Without a `status` the list contains the finished chats. `received_until` is exclusive. `search`
    is a part of the prompt or answer; its case is ignored. `client_id` is the client whose API key
    was used. `error_code` may be `ANY_ERROR`.
    """

    username: str | None = None
    priority: Priority | None = None
    status: Status | None = None
    batch_id: int | None = None
    received_from: datetime | None = None
    received_until: datetime | None = None
    search: str | None = None
    client_id: int | None = None
    error_code: str | None = None


@dataclass(frozen=True)
class ChatPage:
    """A page of chats, the newest last; continue before the id `older` and after the id `newer`.

    `parts` are the ids, in groups that are small enough to be read at once. If `is_cut`, more than
    `count` chats match.
    """

    parts: list[list[int]]
    count: int
    older: int | None
    newer: int | None
    is_cut: bool = False

    @cached_property
    def chats(self) -> list[Chat]:
        return list(chain.from_iterable(read_parts(self.parts)))


@dataclass(frozen=True, slots=True)
class _Count:
    """The number of chats that match, and a range that contains their ids."""

    count: int
    ids: IdRange = ALL_IDS
    is_cut: bool = False


def list_chats(
    which: ChatFilter,
    *,
    limit: int = DEFAULT_PAGE,
    before: int | None = None,
    after: int | None = None,
    count_upto: int | None = None,
) -> ChatPage:
    """Lists the newest chats, those just below the id `before`, or those just above `after`.

    If `count_upto` is given, a slow count stops there.
    """
    counted = _count(which, count_upto)
    if not counted.count:
        return ChatPage([], 0, None, None)
    listed, ids = list_matching(which), counted.ids
    found = PageRows(limit)
    if after is not None:
        newer_rows = listed.filter(pk__range=(after + 1, ids.newest))
        has_newer = found.take(newer_rows.order_by("pk"))
        has_older = listed.filter(pk__range=(ids.oldest, after)).exists()
    else:
        newest = ids.newest if before is None else min(before - 1, ids.newest)
        older_rows = listed.filter(pk__range=(ids.oldest, newest))
        has_older = found.take(older_rows.order_by("-pk"))
        has_newer = before is not None and listed.filter(pk__range=(before, ids.newest)).exists()
    rows = found.measured if after is not None else found.measured[::-1]
    first, last = _edges([pk for pk, _ in rows], before=before, after=after)
    older, newer = first if has_older else None, last if has_newer else None
    return ChatPage(split_parts(rows), counted.count, older, newer, counted.is_cut)


def walk_chats(which: ChatFilter, *, page: int = EXPORT_PAGE) -> Iterator[list[Chat]]:
    """Yields all matches in parts, the newest first, and each of them exactly once.

    Chats that arrive meanwhile are not included.
    """
    lowest, before = find_bounds(which)
    listed = list_matching(which).order_by("-pk")
    while True:
        found = PageRows(page)
        found.take(listed.filter(pk__range=(lowest, before - 1)))
        if not found.measured:
            return
        yield from read_parts(split_parts(found.measured))
        before = found.measured[-1][0]


def _edges(ids: list[int], *, before: int | None, after: int | None) -> tuple[int, int]:
    """Returns the page's first and last id; for an empty page, the position it would have."""
    if ids:
        return ids[0], ids[-1]
    return (after or 0) + 1, (before or 1) - 1


def list_matching(which: ChatFilter) -> QuerySet[Chat]:
    matching = Chat.objects.filter(_condition(which))
    if which.status is not None:
        return matching
    # Excludes the open ones: to include the others, SQLite would sort the whole status index by id.
    return matching.exclude(status__in=OPEN_STATUSES)


def _condition(which: ChatFilter) -> Q:
    leading = {
        "client_id": which.client_id,
        "username": which.username,
        "batch_id": which.batch_id,
        **_times(which),
    }
    given = Q(**{name: value for name, value in leading.items() if value is not None})
    if which.error_code is not None:
        # Few chats ended without an answer, so the database finds them by their status.
        given &= Q(status__in=UNANSWERED)
        given &= Q() if which.error_code == ANY_ERROR else Q(error_code=which.error_code)
    following: list[tuple[str, Any]] = [("status", which.status), ("priority", which.priority)]
    if which.status == Status.DONE:
        following.reverse()  # Most chats are done, so the priority is more selective.
    elif which.status is not None and _times(which):
        # Few chats have another status, while the time range may contain most chats.
        given &= Q(status=following.pop(0)[1])
    for name, value in following:
        if value is not None:
            given &= outside_index(name, value) if given else Q(**{name: value})
    return given if which.search is None else given & _contains(which.search)


def outside_index(name: str, value: Any) -> Q:
    """`name` = `value` in a form that keeps the database from using the index of `name`."""
    return Q(Exact(Coalesce(name, Value(value)), value))


def _contains(search: str) -> Q:
    spellings = {search}
    if connection.vendor == "sqlite" and not search.isascii():
        # SQLite's LIKE ignores the case of ASCII characters only.
        spellings |= {search.lower(), search.upper(), search.title()}
    found = Q()
    for spelling in sorted(spellings):
        found |= Q(prompt__icontains=spelling) | Q(text__icontains=spelling)
    return found


def find_bounds(which: ChatFilter, before: int = MAX_ID) -> tuple[int, int]:
    """Returns the lowest id below `before` that may match, and the highest plus one."""
    stored = Chat.objects.order_by("pk").values_list("pk", flat=True)
    first, last = stored.first(), stored.last()
    if first is None or last is None:
        return 0, 0
    times = _times(which)
    ids = find_id_range(Chat.objects.filter(**times)) if times else ALL_IDS
    return max(first, ids.oldest), min(before, last + 1, ids.newest + 1)


def _times(which: ChatFilter) -> dict[str, datetime]:
    ends = {"received_at__gte": which.received_from, "received_at__lt": which.received_until}
    return {name: end for name, end in ends.items() if end is not None}


def _count(which: ChatFilter, upto: int | None = None) -> _Count:
    """Counts the matches exactly, and finds the range of their ids for a time range.

    The finished chats are counted as all minus the open ones. Few chats are open, and all can be
    counted in an index alone; to count finished ones the database would read every row's status.
    """
    if which == ChatFilter():
        return _Count(count_stored() - Chat.objects.filter(status__in=OPEN_STATUSES).count())
    times = _times(which)
    only_times = ChatFilter(received_from=which.received_from, received_until=which.received_until)
    if upto is not None and times and which != only_times:
        return _count_upto(which, upto)
    condition = _condition(which)
    wanted: dict[str, Any] = {"count": Count("*")}
    if which.status is None:
        wanted["count"] -= _count_open(condition)
    if times:
        wanted |= {"oldest": Min("pk"), "newest": Max("pk")}
    found = Chat.objects.filter(condition).aggregate(**wanted)
    if not times:
        return _Count(found["count"])
    return _Count(found["count"], IdRange(found["oldest"] or 0, found["newest"] or 0))


def _count_upto(which: ChatFilter, upto: int) -> _Count:
    """Counts at most `upto` matches, because with a time range each of its rows is read."""
    ids = find_id_range(Chat.objects.filter(**_times(which)))
    count = list_matching(which).filter(pk__range=ids)[: upto + 1].count()
    return _Count(min(count, upto), ids, count > upto)


def _count_open(condition: Q) -> Subquery:
    """Counts the open chats that match, finding them by their status whatever the condition is."""
    # The condition stays out of the WHERE clause, so SQLite cannot choose an index for it.
    matching = Case(When(condition & Q(pk__isnull=False), then=1), output_field=IntegerField())
    return count_in_subquery(Chat.objects.filter(status__in=OPEN_STATUSES), matching)
