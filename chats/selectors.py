"""Reads of the stored pairs, page by page along the id.

The shapes of these queries were chosen with a million chats in SQLite, which keeps no statistics
unless it is told to: without help it enters by the least selective index.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from django.db import connection
from django.db.models import (
    Case,
    Count,
    Func,
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

from chats.id_ranges import MAX_ID, IdRange, find_id_range, within
from chats.models import OPEN_STATUSES, Chat, Status
from chats.row_count import count_stored
from settings_app.models import Priority

MAX_PAGE = 1000
DEFAULT_PAGE = 100
ALL_IDS = IdRange(0, MAX_ID)
ANY_ERROR = "any"
UNANSWERED = (Status.FAILED, Status.EXPIRED, Status.CANCELLED)
EXPORTED_AT_ONCE = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatFilter:
    """Which chats; None narrows nothing. Without a `status` only finished chats are meant.

    `received_until` is exclusive. `search` is a part of the prompt or of the answer, in any case.
    `client_id` is whose API key they came with. `error_code` may be `ANY_ERROR`.
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


@dataclass(frozen=True, slots=True)
class ChatPage:
    """A page, most recent last; `older` and `newer` are the ids to go on before and after.

    `is_cut`: there are more than `count`.
    """

    chats: list[Chat]
    count: int
    older: int | None
    newer: int | None
    is_cut: bool = False


class _Counted(NamedTuple):
    """How many chats match, and ids between which they all lie."""

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
    """The newest chats, or the newest below the id `before`, or the oldest above the id `after`.

    Where counting is slow it stops at `count_upto`, if that is given.
    """
    counted = _count(which, count_upto)
    if not counted.count:
        return ChatPage([], 0, None, None)
    listed, ids = list_matching(which), counted.ids
    if after is not None:
        found = list(listed.filter(pk__range=(after + 1, ids.newest)).order_by("pk")[: limit + 1])
        chats, has_newer = found[:limit], len(found) > limit
        has_older = listed.filter(pk__range=(ids.oldest, after)).exists()
    else:
        newest = ids.newest if before is None else min(before - 1, ids.newest)
        found = list(listed.filter(pk__range=(ids.oldest, newest)).order_by("-pk")[: limit + 1])
        chats, has_older = found[:limit][::-1], len(found) > limit
        has_newer = before is not None and listed.filter(pk__range=(before, ids.newest)).exists()
    first, last = _edges(chats, before=before, after=after)
    older, newer = first if has_older else None, last if has_newer else None
    return ChatPage(chats, counted.count, older, newer, counted.is_cut)


def walk_chats(which: ChatFilter, *, page: int = EXPORTED_AT_ONCE) -> Iterator[list[Chat]]:
    """All that match, newest first, a page at a time; none is left out or comes twice.

    What arrives meanwhile is not among them.
    """
    ids = id_range_of(which)
    last = Chat.objects.order_by("pk").values_list("pk", flat=True).last() or 0
    before = min(ids.newest, last) + 1
    listed = list_matching(which).order_by("-pk")
    while chats := list(listed.filter(pk__range=(ids.oldest, before - 1))[:page]):
        yield chats
        before = chats[-1].pk


def _edges(chats: list[Chat], *, before: int | None, after: int | None) -> tuple[int, int]:
    """The first and the last id of the page; for an empty one, the place it was looked for at."""
    if chats:
        return chats[0].pk, chats[-1].pk
    return (after or 0) + 1, (before or 1) - 1


def list_matching(which: ChatFilter) -> QuerySet[Chat]:
    matching = Chat.objects.filter(_condition(which))
    if which.status is not None:
        return matching
    # Not "one of the final statuses": for that SQLite would sort the whole status index by id.
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
        # The few that ended without an answer are reached by their status.
        given &= Q(status__in=UNANSWERED)
        given &= Q() if which.error_code == ANY_ERROR else Q(error_code=which.error_code)
    following: list[tuple[str, Any]] = [("status", which.status), ("priority", which.priority)]
    if which.status == Status.DONE:
        following.reverse()  # most chats are done
    elif which.status is not None and _times(which):
        given &= Q(status=following.pop(0)[1])  # few have it, and a time may hold all others
    for name, value in following:
        if value is not None:
            given &= outside_index(name, value) if given else Q(**{name: value})
    return given if which.search is None else given & _contains(which.search)


def outside_index(name: str, value: Any) -> Q:
    """`name` = `value` in a form that no index serves, so that a more selective one is entered."""
    return Q(Exact(Coalesce(name, Value(value)), value))


def _contains(search: str) -> Q:
    spellings = {search}
    if connection.vendor == "sqlite" and not search.isascii():
        # SQLite's LIKE knows the two cases of ASCII letters only.
        spellings |= {search.lower(), search.upper(), search.title()}
    found = Q()
    for spelling in sorted(spellings):
        found |= Q(prompt__icontains=spelling) | Q(text__icontains=spelling)
    return found


def id_range_of(which: ChatFilter) -> IdRange:
    """The ids between which all that match lie; told closely where times are asked for."""
    times = _times(which)
    return find_id_range(Chat.objects.filter(**times)) if times else ALL_IDS


def _times(which: ChatFilter) -> dict[str, datetime]:
    ends = {"received_at__gte": which.received_from, "received_at__lt": which.received_until}
    return {name: end for name, end in ends.items() if end is not None}


def _count(which: ChatFilter, upto: int | None = None) -> _Counted:
    """The exact number, and for a time range, which tells the database nothing about ids, the ids.

    Finished chats are all minus the open ones: the open are few, and all are counted in an index
    alone, where counting the finished ones would look up the status of every row.
    """
    if which == ChatFilter():
        return _Counted(count_stored() - Chat.objects.filter(status__in=OPEN_STATUSES).count())
    times = _times(which)
    only_times = ChatFilter(received_from=which.received_from, received_until=which.received_until)
    if upto is not None and times and which != only_times:
        return _count_upto(which, upto)
    condition = _condition(which)
    asked = {"count": Count("*")}
    if which.status is None:
        asked["count"] -= Subquery(_count_open(condition))
    if times:
        asked |= {"oldest": Min("pk"), "newest": Max("pk")}
    told = Chat.objects.filter(condition).aggregate(**asked)
    count = told.pop("count")
    return _Counted(count, IdRange(**{k: v or 0 for k, v in told.items()}) if told else ALL_IDS)


def _count_upto(which: ChatFilter, upto: int) -> _Counted:
    """For times with something else asked, where each row of the time would be looked at."""
    ids = id_range_of(which)
    count = list_matching(which).filter(within(ids))[: upto + 1].count()
    return _Counted(min(count, upto), ids, count > upto)


def _count_open(condition: Q) -> QuerySet[Chat]:
    # The condition is no WHERE: the few open rows are reached by their status, whatever else is
    # asked. COUNT as a plain function leaves the query ungrouped.
    either = Case(When(condition & Q(pk__isnull=False), then=1), output_field=IntegerField())
    counted = Func(either, function="COUNT", output_field=IntegerField())
    return (
        Chat.objects.filter(status__in=OPEN_STATUSES)
        .order_by()
        .annotate(counted=counted)
        .values("counted")
    )
