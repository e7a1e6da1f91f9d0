"""Exported files are complete, safe to open, and written page by page."""

import asyncio
import csv
import io
import json

import pytest

from batching.tests.harness import LIMIT_S
from chats import export
from chats.models import Status
from chats.selectors import ChatFilter, walk_chats
from chats.serializers import describe_chat
from chats.tests.rows import make_chat
from llmbatch.asgi import django_application


@pytest.fixture(autouse=True)
def _open_access(settings, transactional_db):
    settings.API_ACCESS = "open"


def read(client, path: str) -> str:
    response = client.get(path)
    assert response.status_code == 200
    if not response.is_async:
        return response.getvalue().decode()

    async def collect() -> bytes:
        return b"".join([part async for part in response])

    return asyncio.run(collect()).decode()


@pytest.fixture
def small_pages(monkeypatch):
    """Makes pages of one chat; returns the list of ids that were read."""
    read_pages: list[int] = []

    def walk(which):
        for chats in walk_chats(which, page=1):
            read_pages.append(chats[0].pk)
            yield chats

    monkeypatch.setattr(export, "walk_chats", walk)
    return read_pages


@pytest.mark.usefixtures("small_pages")
def test_json_holds_the_entries_of_the_api_newest_first(client):
    chats = [make_chat(prompt="ä \U0001f600 \x07"), make_chat(Status.FAILED), make_chat()]
    make_chat(Status.QUEUED)
    entries = json.loads(read(client, "/chats/export.json"))
    assert entries == [describe_chat(chat) for chat in reversed(chats)]


def test_json_without_chats_is_an_empty_list(client):
    assert json.loads(read(client, "/chats/export.json")) == []


@pytest.mark.usefixtures("small_pages")
def test_csv_has_a_row_for_each_chat_of_the_filter(client):
    make_chat(username="bob")
    wanted = make_chat(username="ann", prompt='Two\nlines, "quoted"', text="An answer")
    rows = list(csv.DictReader(io.StringIO(read(client, "/chats/export.csv?username=ann"))))
    assert len(rows) == 1
    assert rows[0]["prompt"] == 'Two\nlines, "quoted"'
    assert rows[0]["answer"] == "An answer"
    assert rows[0]["id"] == str(wanted.pk)
    assert rows[0]["priority"] == "MEDIUM"
    assert rows[0]["received_at"] == "2026-03-10T12:00:00Z"
    assert rows[0]["batch_id"] == ""


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r"])
def test_cell_that_looks_like_a_formula_is_quoted(client, start):
    formula = f"{start}HYPERLINK(1)"
    make_chat(username=formula, prompt=formula, text=formula, request_id=formula)
    [row] = csv.DictReader(io.StringIO(read(client, "/chats/export.csv"), newline=""))
    assert {row[name] for name in ("username", "prompt", "answer", "request_id")} == {f"'{formula}"}


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("\n=1+1", "'\n'=1+1"),
        ("Sum:\n=1+1", "Sum:\n'=1+1"),
        ("Sum:\r\n =1+1", "Sum:\r\n' =1+1"),
        ("a;=1+1;b", "a;'=1+1;b"),
        ('a;"=1+1"', 'a;\'"=1+1"'),
        ("a\t@SUM(1)", "a\t'@SUM(1)"),
        ("a\u2028-1", "a\u2028'-1"),
        *[(f"{sign}1+1", f"'{sign}1+1") for sign in "＝＋－＠"],
        ("\ufeff =1+1", "'\ufeff =1+1"),
        ("1;2\n3\t4 = 4 - 0, a@b.example", "1;2\n3\t4 = 4 - 0, a@b.example"),
    ],
)
def test_formula_at_the_start_of_any_line_or_cell_is_quoted(text, cell):
    chat = make_chat(prompt=text, text=text)
    page = export.FORMATS["csv"].format_page([chat])
    [row] = csv.reader(io.StringIO(page, newline=""))
    assert row[6:8] == [cell, cell]


def test_file_is_named_and_typed(client):
    for form, kind in (("csv", "text/csv; charset=utf-8"), ("json", "application/json")):
        response = client.get(f"/chats/export.{form}")
        assert response["Content-Disposition"] == f'attachment; filename="chats.{form}"'
        assert response["Content-Type"] == kind
        assert response.streaming
    assert client.get("/chats/export.xml").status_code == 404


async def test_page_is_read_only_after_the_previous_one_was_sent(small_pages):
    for _ in range(4):
        await asyncio.to_thread(make_chat)
    parts = export.stream_chats(ChatFilter(), "csv")
    for number in (1, 2):
        await anext(parts)
        assert len(small_pages) == number
    await parts.aclose()
    assert len(small_pages) == 2


async def test_disconnect_ends_the_reading(small_pages):
    for _ in range(5):
        await asyncio.to_thread(make_chat)
    asked, left, never = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def receive():
        if not asked.is_set():
            asked.set()
            return {"type": "http.request", "body": b"", "more_body": False}
        await left.wait()
        return {"type": "http.disconnect"}

    async def send(message):
        if message.get("body"):
            left.set()
            await never.wait()  # like a connection that accepts no more data

    scope = {"type": "http", "method": "GET", "path": "/chats/export.json", "query_string": b""}
    scope |= {"headers": [(b"host", b"localhost")], "http_version": "1.1", "scheme": "http"}
    await asyncio.wait_for(django_application(scope, receive, send), LIMIT_S)
    assert len(small_pages) == 1


def test_walk_yields_every_chat_exactly_once():
    chats = [make_chat(username=name) for name in "abacada"]
    walked = [[chat.pk for chat in page] for page in walk_chats(ChatFilter(username="a"), page=2)]
    mine = [chat.pk for chat in chats if chat.username == "a"][::-1]
    assert walked == [mine[:2], mine[2:]]
    assert list(walk_chats(ChatFilter(username="nobody"))) == []


def test_walk_excludes_chats_that_arrive_later():
    first = [make_chat(), make_chat()]
    pages = walk_chats(ChatFilter(), page=1)
    walked = [chat.pk for chat in next(pages)]
    make_chat()
    walked += [chat.pk for page in pages for chat in page]
    assert walked == [chat.pk for chat in reversed(first)]
