"""Writes chats as a document of any size, one part of the rows at a time."""

import csv
import io
import json
import re
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from channels.db import database_sync_to_async

from chats.models import Chat
from chats.row_parts import read_parts
from chats.selectors import ChatFilter, ChatPage, walk_chats
from chats.serializers import describe_chat
from chats.timestamps import format_time
from settings_app.access.read_slots import CLIENT, READS
from settings_app.models import Priority

COLUMNS = (
    *("id", "received_at", "username", "request_id", "priority", "status", "prompt", "answer"),
    *("error_code", "error_detail", "batch_id", "queue_ms", "latency_ms", "tokens_used"),
    *("completed_at", "suspect"),
)
# Ends a line or, where the list separator is not the comma, a cell.
_SEPARATORS = r";\t\n\r\v\f\x85\u2028\u2029"
# Spreadsheets skip spaces, quotes and invisible characters before a formula.
_SKIPPED = rf'(?:[^\S{_SEPARATORS}]|["\u200b-\u200f\u2060\ufeff])*'
_FORMULA = re.compile(
    rf"^(?=[\t\n\r])|(?:^|(?<=[{_SEPARATORS}]))(?={_SKIPPED}[=+\-@\uff0b\uff0d\uff1d\uff20])"
)


@dataclass(frozen=True, slots=True)
class FileFormat:
    """`separator` is written between two parts."""

    content_type: str
    format_page: Callable[[Sequence[Chat]], str]
    start: str
    separator: str
    end: str


def stream_chats(which: ChatFilter, form: str) -> AsyncIterator[bytes]:
    """Yields the parts of the file of all chats that match."""
    return stream_parts(walk_chats(which), FORMATS[form])


def stream_page(page: ChatPage, links: Mapping[str, Any]) -> AsyncIterator[bytes]:
    """Yields the parts of the document of GET /v1/chat."""
    end = "]," + json.dumps(links).removeprefix("{")
    form = FileFormat("application/json", _format_json_page, '{"chats":[', ",\n", end)
    return stream_parts(read_parts(page.parts), form)


async def stream_parts(parts: Iterator[list[Chat]], form: FileFormat) -> AsyncIterator[bytes]:
    """When the client disconnects, no further part is read.

    Django would collect all parts of a sync iterator before it sends the first one, so this one is
    async and reads each part in a database thread.
    """
    prefix = form.start
    while chats := await _read_part(parts):
        yield _encode(prefix + form.format_page(chats))
        prefix = form.separator
    yield _encode((form.start if prefix is form.start else "") + form.end)


async def _read_part(parts: Iterator[list[Chat]]) -> list[Chat] | None:
    async with READS.take(CLIENT.get()):
        part: list[Chat] | None = await database_sync_to_async(next)(parts, None)
        return part


def _encode(text: str) -> bytes:
    return text.encode("utf-8", "replace")


def _format_csv(rows: Sequence[Sequence[Any]]) -> str:
    lines = io.StringIO()
    csv.writer(lines).writerows(rows)
    return lines.getvalue()


def _format_csv_page(chats: Sequence[Chat]) -> str:
    return _format_csv([[_defuse(cell) for cell in _row(chat)] for chat in chats])


def _row(chat: Chat) -> Sequence[Any]:
    return (
        *(chat.pk, format_time(chat.received_at), chat.username, chat.request_id),
        *(Priority(chat.priority).name, chat.status, chat.prompt, chat.text),
        *(chat.error_code, chat.error_detail, chat.batch_id, chat.queue_ms, chat.latency_ms),
        *(chat.tokens_used, format_time(chat.completed_at), chat.suspect),
    )


def _defuse(cell: Any) -> Any:
    """Puts an apostrophe before all that a spreadsheet would run as a formula."""
    return _FORMULA.sub("'", cell) if isinstance(cell, str) else cell


def _format_json_page(chats: Sequence[Chat]) -> str:
    return ",\n".join(json.dumps(describe_chat(chat), ensure_ascii=False) for chat in chats)


FORMATS = {
    "csv": FileFormat("text/csv; charset=utf-8", _format_csv_page, _format_csv([COLUMNS]), "", ""),
    "json": FileFormat("application/json", _format_json_page, "[\n", ",\n", "\n]\n"),
}
