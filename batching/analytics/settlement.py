"""Compares the tokens and attempts of requests with the calls that they took part in.

The shares of a call are not stored, only their sum for each request. So calls that have a request
in common are compared together, as one group.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import groupby
from operator import attrgetter
from typing import NamedTuple

from django.db import connection

from batching.analytics.rollup import TOKENS
from chats.models import Chat
from chats.services import SETTLED_COLUMNS

PAGE = 2000
# One row per call and request, in the order of the requests.
_TAKING_PART = """
SELECT {chat_id} AS chat_id, call.id, {length}(call.item_ids), call.started_at, {tokens}
FROM batching_modelcall AS call{separator} {items}(call.item_ids) AS item
ORDER BY chat_id, call.id
"""
_DIALECTS = {
    "postgresql": {
        "chat_id": "CAST(CAST(item.value AS text) AS bigint)",
        "length": "jsonb_array_length",
        "items": "jsonb_array_elements",
        "separator": " CROSS JOIN LATERAL",
    },
    "sqlite": {
        "chat_id": "CAST(item.value AS integer)",
        "length": "json_array_length",
        "items": "json_each",
        "separator": ",",
    },
}


class _Part(NamedTuple):
    """One request's part in one call, which has `size` requests."""

    chat_id: int
    call_id: int
    size: int
    started_at: datetime
    tokens: tuple[int, ...]


@dataclass(slots=True, eq=False)
class _Group:
    """Calls that have requests in common. `missing`: so many parts were not read yet."""

    calls: list[int] = field(default_factory=list)
    missing: int = 0
    usage: list[int] = field(default_factory=lambda: [0] * len(TOKENS))
    settled: list[int] = field(default_factory=lambda: [0] * len(TOKENS))
    incomplete: bool = False  # rows of it were deleted

    def describe(self) -> str:
        """The contradiction between usage and shares; "" if there is none."""
        if self.incomplete or self.usage == self.settled:
            return ""
        names = [name.replace("_", " ") for name in TOKENS]
        found = [
            f"{settled} {name} (expected {used})"
            for name, used, settled in zip(names, self.usage, self.settled, strict=True)
            if used != settled
        ]
        return (
            f"{_format_calls(sorted(self.calls))}: the shares of the requests add up to"
            f" {', '.join(found)}."
        )


def check_settlement(*, deleted_until: datetime) -> Iterator[str]:
    """Yields each contradiction. Rows of before `deleted_until` may have been deleted."""
    groups: dict[int, _Group] = {}  # the groups that are not read to their end, by call
    parts = _group_parts()
    taking_part = next(parts, None)
    for chat in _read_chats():
        while taking_part and taking_part[0] < chat.pk:  # The row of this chat was deleted.
            yield from _add_parts(groups, taking_part[1], settled=None)
            taking_part = next(parts, None)
        own: list[_Part] = []
        if taking_part and taking_part[0] == chat.pk:
            own = taking_part[1]
            taking_part = next(parts, None)
        if problem := _check_attempts(chat, own):
            if chat.received_at < deleted_until and chat.attempt > len(own):
                yield from _add_parts(groups, own, settled=None)
                continue
            yield problem
        settled = [getattr(chat, name) for name in SETTLED_COLUMNS]
        if not own and any(settled):
            yield f"request {chat.pk}: tokens {settled} are settled, but no call asked it."
        yield from _add_parts(groups, own, settled=settled)
    while taking_part:
        yield from _add_parts(groups, taking_part[1], settled=None)
        taking_part = next(parts, None)


def _check_attempts(chat: Chat, parts: Sequence[_Part]) -> str:
    # A request that was sent again after a failure counts from its new receipt on.
    since_receipt = sum(part.started_at >= chat.received_at for part in parts)
    if chat.attempt in (len(parts), since_receipt):
        return ""
    calls = _format_calls([part.call_id for part in parts])
    return f"request {chat.pk}: attempt is {chat.attempt}, expected {len(parts)} ({calls})."


def _add_parts(
    groups: dict[int, _Group], parts: Sequence[_Part], *, settled: Sequence[int] | None
) -> Iterator[str]:
    """Adds one request to the group of its calls; yields the contradiction of a complete group."""
    if not parts:
        return
    group = _merge(groups, parts)
    group.missing -= len(parts)
    if settled is None:
        group.incomplete = True
    else:
        group.settled = [a + b for a, b in zip(group.settled, settled, strict=True)]
    if group.missing == 0:
        for call_id in group.calls:
            del groups[call_id]
        if problem := group.describe():
            yield problem


def _merge(groups: dict[int, _Group], parts: Sequence[_Part]) -> _Group:
    known = {id(g): g for part in parts if (g := groups.get(part.call_id))}
    # The largest group takes up the others, so that few calls change their group.
    largest, *others = sorted(known.values(), key=lambda g: -len(g.calls)) or [_Group()]
    for other in others:
        largest.calls += other.calls
        largest.missing += other.missing
        largest.usage = [a + b for a, b in zip(largest.usage, other.usage, strict=True)]
        largest.settled = [a + b for a, b in zip(largest.settled, other.settled, strict=True)]
        largest.incomplete |= other.incomplete
        groups |= dict.fromkeys(other.calls, largest)
    for part in parts:
        if part.call_id not in groups:
            groups[part.call_id] = largest
            largest.calls.append(part.call_id)
            largest.missing += part.size
            largest.usage = [a + b for a, b in zip(largest.usage, part.tokens, strict=True)]
    return largest


def _group_parts() -> Iterator[tuple[int, list[_Part]]]:
    for chat_id, parts in groupby(_read_parts(), key=attrgetter("chat_id")):
        yield chat_id, list(parts)


def _read_parts() -> Iterator[_Part]:
    tokens = ", ".join(f"coalesce(call.{name}, 0)" for name in TOKENS)
    sql = _TAKING_PART.format(tokens=tokens, **_DIALECTS[connection.vendor])
    with connection.chunked_cursor() as cursor:  # Postgres sends the rows in portions.
        cursor.execute(sql)
        while rows := cursor.fetchmany(PAGE):
            for chat_id, call_id, size, started_at, *used in rows:
                yield _Part(chat_id, call_id, size, _to_utc(started_at), tuple(used))


def _to_utc(at: datetime) -> datetime:
    return at if at.tzinfo else at.replace(tzinfo=UTC)  # SQLite stores no zone.


def _read_chats() -> Iterator[Chat]:
    chats = Chat.objects.only("attempt", "received_at", *SETTLED_COLUMNS).order_by("pk")
    page = list(chats[:PAGE])
    while page:
        yield from page
        page = list(chats.filter(pk__gt=page[-1].pk)[:PAGE])


def _format_calls(ids: Sequence[int]) -> str:
    if not ids:
        return "no call"
    shown = ", ".join(str(pk) for pk in ids[:20]) + (", …" if len(ids) > 20 else "")
    return f"call {shown}" if len(ids) == 1 else f"calls {shown}"
