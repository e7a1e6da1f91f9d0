"""Chats as a file of any size: a page is read, written and forgotten before the next one."""

import csv
import io
import json
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any

from channels.db import database_sync_to_async

from chats.models import Chat
from chats.selectors import ChatFilter, walk_chats
from chats.serializers import describe_chat
from chats.timestamps import format_time
from settings_app.models import Priority

FORMATS = {"csv": "text/csv; charset=utf-8", "json": "application/json"}
COLUMNS = (
    *("id", "received_at", "username", "request_id", "priority", "status", "prompt", "answer"),
    *("error_code", "error_detail", "batch_id", "queue_ms", "latency_ms", "tokens_used"),
    *("completed_at", "suspect"),
)
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


async def stream_chats(which: ChatFilter, form: str) -> AsyncIterator[bytes]:
    """The parts of the file. When the client has left, nothing more is read.

    Each page is read in the request's own thread: only an async iterator lets Django stream
    without collecting everything first.
    """
    write = _WRITERS[form]()
    pages = walk_chats(which)
    read = database_sync_to_async(_next_page)
    while chats := await read(pages):
        yield _encode(write(chats))
    yield _encode(write(None))


def _next_page(pages: Iterator[list[Chat]]) -> list[Chat]:
    return next(pages, [])


def _encode(text: str) -> bytes:
    return text.encode("utf-8", "replace")


Writer = Callable[[Sequence[Chat] | None], str]
"""what stands in the file for one more page; None is its end"""


def _csv_writer() -> Writer:
    started = False

    def write(chats: Sequence[Chat] | None) -> str:
        nonlocal started
        lines = io.StringIO()
        rows = csv.writer(lines)
        if not started:
            rows.writerow(COLUMNS)
            started = True
        rows.writerows([_defuse(cell) for cell in _row(chat)] for chat in chats or ())
        return lines.getvalue()

    return write


def _row(chat: Chat) -> Sequence[Any]:
    return (
        *(chat.pk, format_time(chat.received_at), chat.username, chat.request_id),
        *(Priority(chat.priority).name, chat.status, chat.prompt, chat.text),
        *(chat.error_code, chat.error_detail, chat.batch_id, chat.queue_ms, chat.latency_ms),
        *(chat.tokens_used, format_time(chat.completed_at), chat.suspect),
    )


def _defuse(cell: Any) -> Any:
    """A spreadsheet would run text that begins like a formula."""
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(FORMULA_STARTS) else cell


def _json_writer() -> Writer:
    started = False

    def write(chats: Sequence[Chat] | None) -> str:
        nonlocal started
        entries = [json.dumps(describe_chat(c), ensure_ascii=False) for c in chats or ()]
        text = ("" if started else "[\n") + (",\n" if started and entries else "")
        started = True
        return text + ",\n".join(entries) + ("" if chats is not None else "\n]\n")

    return write


_WRITERS: dict[str, Callable[[], Writer]] = {"csv": _csv_writer, "json": _json_writer}
