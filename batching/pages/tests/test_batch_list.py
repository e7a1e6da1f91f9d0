"""`/batches`: the filter, the pages of the list, its rows, and the access to it."""

import re
from datetime import timedelta
from html import unescape

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from batching.models import CallKind, Outcome, Trigger
from batching.pages import batch_list
from batching.tests.rows import make_batch, make_call
from chats.models import Status
from chats.tests.rows import NOON, make_chat
from settings_app.models import Priority

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _open_access(settings):
    settings.API_ACCESS = "open"


def shown(page: str) -> list[int]:
    return [int(number) for number in re.findall(r'scope="row"><a href="/batches/(\d+)"', page)]


def link(page: str, label: str) -> str | None:
    found = re.search(rf'href="([^"]+)">{label}</a>', page)
    return found and unescape(found[1])


def read_cells(page: str) -> list[str]:
    row = re.search(r"<tbody>\s*<tr>(.*?)</tr>", page, re.S)[1]
    return [re.sub(r"<[^>]+>", "", cell) for cell in re.findall(r"<t[dh][ >].*?</t[dh]>", row)]


def test_batch_is_described_in_one_row(client):
    batch = make_batch(
        Priority.HIGH,
        size=3,
        trigger=Trigger.FULL,
        outcome=Outcome.PARTIAL,
        settings={"max_batch": 6, "latency_ms": 500},
        finished_at=NOON + timedelta(seconds=1.25),
    )
    make_chat(batch=batch)
    make_chat(batch=batch)
    make_chat(Status.FAILED, batch=batch)
    make_call(batch)
    make_call(batch, kind=CallKind.SINGLE, attempt=2)
    make_call(make_batch())  # a call of another batch
    cells = read_cells(client.get("/batches?priority=HIGH").text)
    assert cells == [
        *(str(batch.pk), "High", "2026-03-10 12:00:00 UTC", "full", "3 of 6"),
        *("2", "1", "2", "1.25 s", "some requests failed"),
    ]


def test_running_batch_has_no_duration(client):
    make_batch(outcome=Outcome.RUNNING)
    assert read_cells(client.get("/batches").text)[-2:] == ["–", "Running"]


def test_pages_list_all_batches_newest_first(client, monkeypatch):
    monkeypatch.setattr(batch_list, "PAGE_SIZE", 2)
    made = [make_batch(Priority.LOW).pk for _ in range(5)]
    make_batch(Priority.HIGH)
    pages = [client.get("/batches", {"priority": "low"}).text]
    while older := link(pages[-1], "Older"):
        pages.append(client.get(f"/batches{older}").text)
    assert [number for page in pages for number in shown(page)] == made[::-1]
    assert all("<strong>5</strong> batches match" in page for page in pages)
    assert link(pages[0], "Newest") is None
    assert shown(client.get(link(pages[2], "Newest")).text) == made[:-3:-1]


def test_filters_by_outcome_and_time_work_even_if_ids_are_out_of_order(client):
    late = make_batch(at=NOON + timedelta(days=2), outcome=Outcome.FAILED)
    first = make_batch(at=NOON)
    last = make_batch(at=NOON + timedelta(days=1))
    assert shown(client.get("/batches?outcome=failed").text) == [late.pk]
    day = client.get("/batches?from=2026-03-10&to=2026-03-11").text
    assert shown(day) == [first.pk]
    assert shown(client.get("/batches?from=2026-03-11").text) == [last.pk, late.pk]
    assert shown(client.get("/batches?to=1999-01-01").text) == []


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("priority=URGENT", "Priority: Must be HIGH, MEDIUM or LOW, or 2, 1 or 0."),
        ("outcome=<b>", "Outcome: "),
        ("from=yesterday", "From: "),
        ("from=2026-03-11&to=2026-03-10", "To: Must not be before `from`."),
        ("before=0", "Before: "),
        ("before=1&before=2", "Before: This parameter may be given only once."),
        ("from=%00", "From: "),
    ],
)
def test_invalid_filter_is_explained(client, query, words):
    response = client.get(f"/batches?{query}")
    assert words in unescape(response.text)
    assert "<b>" not in response.text
    assert response.status_code == 400


def test_empty_list_is_explained(client):
    assert "No batches yet." in client.get("/batches").text
    make_batch()
    assert "No batch matches." in client.get("/batches?outcome=failed").text


def test_queries_do_not_grow_with_the_rows(client):
    def count_queries(query: str = "") -> int:
        with CaptureQueriesContext(connection) as queries:
            client.get(f"/batches{query}")
        return len(queries)

    make_call(make_batch())
    count_queries()  # loads the settings into memory
    few = count_queries(), count_queries("?from=2026-01-01")
    for _ in range(20):
        batch = make_batch()
        make_call(batch)
        make_chat(batch=batch)
    assert (count_queries(), count_queries("?from=2026-01-01")) == few
    assert max(few) <= 8


def test_viewers_without_access_are_asked_to_log_in(client, settings):
    settings.API_ACCESS = "key"
    response = client.get("/batches?priority=HIGH")
    assert response.status_code == 302
    assert "/admin/login/?next=/batches" in response.url


def test_page_of_a_batch_links_to_the_list(client):
    page = client.get(f"/batches/{make_batch().pk}").text
    assert link(page, "Batches") == "/batches"
