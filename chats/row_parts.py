"""Reads rows in parts of bounded size, because a single row may hold a megabyte of text."""

from collections.abc import Iterator, Sequence
from typing import Any

from django.db.models import Func, IntegerField, QuerySet
from django.db.models.functions import Coalesce

from chats.models import Chat

MAX_PAGE_BYTES = 10_000_000
MAX_PART_BYTES = 250_000
# Rows that SQLite measures at once. Postgres knows the size of a text without reading it.
MEASURED_AT_ONCE = 20

# The id of a row, and the bytes of its texts.
Measured = tuple[int, int]


class ByteLength(Func):
    function = "OCTET_LENGTH"
    output_field = IntegerField()

    def as_sqlite(self, compiler: Any, connection: Any, **context: Any) -> Any:
        template = "LENGTH(CAST(%(expressions)s AS BLOB))"
        return self.as_sql(compiler, connection, template=template, **context)


SIZE = ByteLength("prompt") + Coalesce(ByteLength("text"), 0)


class PageRows:
    """The rows of one page: at most `limit`, and at most `max_bytes`, but at least one row."""

    def __init__(self, limit: int, max_bytes: int | None = None) -> None:
        self.measured: list[Measured] = []
        self._limit = limit
        self._bytes_left = MAX_PAGE_BYTES if max_bytes is None else max_bytes

    def take(self, rows: QuerySet[Chat]) -> bool:
        """Adds rows in their order; returns True if the page was full before the last of them."""
        room = self._limit - len(self.measured)
        sizes = rows.values_list("pk", SIZE)[: room + 1]
        for pk, size in sizes.iterator(chunk_size=MEASURED_AT_ONCE):
            self._bytes_left -= size
            is_too_large = bool(self.measured) and self._bytes_left < 0
            if len(self.measured) == self._limit or is_too_large:
                return True
            self.measured.append((pk, size))
        return False


def split_parts(measured: Sequence[Measured], max_bytes: int | None = None) -> list[list[int]]:
    """Splits the ids, so that only a part of a single row exceeds `max_bytes`."""
    most = MAX_PART_BYTES if max_bytes is None else max_bytes
    parts: list[list[int]] = []
    total = 0
    for pk, size in measured:
        total += size
        if not parts or total > most:
            parts.append([])
            total = size
        parts[-1].append(pk)
    return parts


def read_parts(parts: Sequence[Sequence[int]]) -> Iterator[list[Chat]]:
    """Reads each part when it is asked for; rows that were deleted since are left out."""
    for ids in parts:
        rows = Chat.objects.in_bulk(ids)
        if found := [rows[pk] for pk in ids if pk in rows]:
            yield found
