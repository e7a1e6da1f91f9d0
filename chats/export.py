"""Exports chats as a file of any size, one page of rows at a time."""

import csv
import io
import json
import re
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from channels.db import database_sync_to_async

from chats.models import Chat
from chats.selectors import ChatFilter, walk_chats
from chats.serializers import describe_chat
from chats.timestamps import format_time
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
    """`separator` is written between two pages."""

    content_type: str
    format_page: Callable[[Sequence[Chat]], str]
    start: str
    separator: str
    end: str


async def stream_chats(which: ChatFilter, form: str) -> AsyncIterator[bytes]:
    """Yields the parts of the file. When the client disconnects, no further page is read.

    Django would collect all parts of a sync iterator before it sends the first one, so this one is
    async and reads each page in a database thread.
    """
    file, pages = FORMATS[form], walk_chats(which)
    read = database_sync_to_async(next)
    prefix = file.start
    while chats := await read(pages, None):
        yield _encode(prefix + file.format_page(chats))
        prefix = file.separator
    yield _encode((file.start if prefix is file.start else "") + file.end)


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
