"""The filter, paging, contents and permissions of the page `/chats`."""

import re
from datetime import timedelta
from html import unescape

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from batching.tests.rows import make_batch
from chats import page_forms
from chats.models import Status
from chats.pages import MAX_SHOWN_CHARACTERS
from chats.tests.rows import NOON, make_chat
from settings_app.models import Priority

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _open_access(settings):
    settings.API_ACCESS = "open"


def shown(page: str) -> list[str]:
    return re.findall(r"<dt>Request</dt><dd>([^<]+)</dd>", page)


def link(page: str, label: str) -> str | None:
    found = re.search(rf'href="([^"]+)">{label}</a>', page)
    return found and unescape(found[1])


def test_chat_is_shown_with_its_times_tokens_batch_and_texts(client):
    batch = make_batch()
    make_chat(
        batch=batch,
        prompt="Why <i>blue</i>?",
        text="Rayleigh & co.",
        latency_ms=2345,
        queue_ms=1234,
        tokens_used=4321,
        priority=Priority.HIGH,
    )
    page = client.get("/chats").text
    for text in ("1,234 ms", "2,345 ms", "4,321", ">High<", ">Done<", "Rayleigh &amp; co."):
        assert text in page, text
    assert "Why &lt;i&gt;blue&lt;/i&gt;?" in page
    assert '<time datetime="2026-03-10T12:00:00Z">2026-03-10 12:00:00 UTC</time>' in page
    assert f'href="/batches/{batch.pk}"' in page
    assert client.get(f"/batches/{batch.pk}").status_code == 200


def test_newest_comes_first_and_open_requests_do_not(client):
    make_chat(request_id="old")
    make_chat(request_id="new")
    make_chat(Status.QUEUED, request_id="open")
    page = client.get("/chats").text
    assert shown(page) == ["new", "old"]
    assert "<strong>2</strong> chats" in page
    assert shown(client.get("/chats?status=queued").text) == ["open"]


def test_pages_lead_through_all_and_back_without_counting_rows(client, monkeypatch):
    monkeypatch.setattr(page_forms, "PAGE_SIZE", 2)
    for number in range(5):
        make_chat(request_id=f"r-{number}", username="ann & co")
    make_chat(username="bob")
    pages = [client.get("/chats", {"username": "ann & co"}).text]
    while older := link(pages[-1], "Older"):
        pages.append(client.get(f"/chats{older}").text)
    assert [shown(page) for page in pages] == [["r-4", "r-3"], ["r-2", "r-1"], ["r-0"]]
    assert link(pages[0], "Newer") is link(pages[0], "Newest") is None
    assert shown(client.get(f"/chats{link(pages[2], 'Newer')}").text) == ["r-2", "r-1"]
    assert shown(client.get(link(pages[2], "Newest")).text) == ["r-4", "r-3"]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({"username": "bob"}, {"bob"}),
        ({"priority": "LOW"}, {"low"}),
        ({"status": "failed"}, {"blocked", "missing"}),
        ({"error_code": "any"}, {"blocked", "missing", "expired"}),
        ({"error_code": "missing_answer"}, {"missing"}),
        ({"error_code": "any", "priority": "LOW"}, set()),
        ({"from": "2026-03-11T11:59:59"}, {"late"}),
        ({"to": "2026-03-10T12:00:01", "search": "moon"}, {"low"}),
        ({"search": "nothing like it"}, set()),
    ],
)
def test_filter_narrows_page_and_count(client, query, found):
    make_chat(request_id="bob", username="bob")
    make_chat(request_id="low", priority=Priority.LOW, prompt="To the Moon?")
    make_chat(Status.FAILED, request_id="blocked")
    make_chat(Status.FAILED, request_id="missing", error_code="missing_answer")
    make_chat(Status.EXPIRED, request_id="expired")
    make_chat(request_id="late", received_at=NOON + timedelta(days=1), prompt="The moon again?")
    page = client.get("/chats", query).text
    assert set(shown(page)) == found
    assert f"<strong>{len(found)}</strong> chat" in page
    assert ("No chat matches" in page) is (not found)


def test_batch_filter_shows_the_chats_of_the_batch(client):
    batch = make_batch(size=1)
    make_chat(request_id="in", batch=batch)
    make_chat(request_id="out")
    assert shown(client.get(f"/chats?batch_id={batch.pk}").text) == ["in"]


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ("status=lost", "Status: "),
        ("priority=9", "Priority: Must be HIGH, MEDIUM or LOW"),
        ("batch_id=x", "Batch: A valid integer"),
        ("batch_id=99999999999999999999", "Batch: Ensure"),
        ("from=yesterday", "From: "),
        ("from=2026-03-11&to=2026-03-10", "To: Must not be before"),
        ("before=2&after=1", "After: Give `before` or `after`"),
        ("username=a&username=b", "Username: This parameter may be given only once"),
        ("search=%00", "Search: Null characters"),
        ("error_code=<b>", "Error: Must be an error"),
        ("limit=0", "Limit: "),
    ],
)
def test_invalid_filter_is_explained_on_the_page(client, query, reason):
    make_chat()
    for path in (f"/chats?{query}", f"/chats/export.csv?{query}"):
        response = client.get(path)
        assert reason in unescape(response.text)
        assert "<b>" not in response.text
        assert response.status_code == 400


def test_fields_keep_their_values(client):
    query = {"username": 'a"b', "priority": "high", "from": "2026-03-10", "status": "done"}
    page = client.get("/chats", query).text
    assert 'value="a&quot;b"' in page
    assert '<option value="HIGH" selected>' in page
    assert '<option value="done" selected>' in page
    assert 'value="2026-03-10T00:00:00"' in page
    kept = "username=a%22b&amp;priority=high&amp;from=2026-03-10&amp;status=done"
    assert f"/chats/export.csv?{kept}" not in page  # there is nothing to export
    make_chat(username='a"b', priority=Priority.HIGH)
    assert f"/chats/export.csv?{kept}" in client.get("/chats", query).text


def test_long_text_is_cut_and_says_so(client):
    make_chat(text="x" * (MAX_SHOWN_CHARACTERS + 1500))
    page = client.get("/chats").text
    assert "1,500 more characters" in page
    assert page.count("x") < MAX_SHOWN_CHARACTERS + 1000


def test_empty_gateway_says_so(client):
    assert "No chats yet" in client.get("/chats").text


def test_page_costs_a_bounded_number_of_queries(client):
    def count_queries(query: str) -> int:
        with CaptureQueriesContext(connection) as queries:
            assert client.get(f"/chats?{query}").status_code == 200
        return len(queries)

    make_chat()
    queries = ["", "username=ann&search=sky", "from=2026-03-01&status=done"]
    count_queries("")  # This fills the cache of the row count.
    few = [count_queries(query) for query in queries]
    for _ in range(60):
        make_chat(batch=make_batch())
    assert [count_queries(query) for query in queries] == few
    assert max(few) <= 8


@pytest.mark.parametrize("path", ["/chats", "/chats/export.csv", "/batches/1"])
def test_closed_gateway_shows_chats_to_staff_alone(client, admin_client, settings, path):
    settings.API_ACCESS = "key"
    make_batch(id=1)
    assert client.get(path)["Location"] == f"/admin/login/?next={path}"
    assert admin_client.get(path).status_code == 200


@pytest.mark.parametrize("path", ["/chats", "/chats/export.json", "/batches/1"])
def test_pages_refuse_post(client, path):
    assert client.post(path).status_code == 405


def test_admin_list_leads_to_the_same_chats_as_page_and_files(admin_client):
    make_chat(priority=Priority.LOW)
    page = admin_client.get("/admin/chats/chat/?priority__exact=0&status__exact=done").text
    for path in ("/chats", "/chats/export.csv", "/chats/export.json"):
        address = f"{path}?priority=0&status=done"
        assert f'href="{address.replace("&", "&amp;")}"' in page
        assert admin_client.get(address).status_code == 200
    assert 'href="/chats/export.csv"' in admin_client.get("/admin/chats/chat/").text


def test_links_to_other_pages_keep_the_limit(client):
    for _ in range(5):
        make_chat(username="ann")
    page = client.get("/chats?limit=2&username=ann").text
    assert "limit=2" in link(page, "Older")
    assert "<strong>5</strong> chats match" in page
    assert "match" not in client.get("/chats?limit=2&foo=1").text.partition("Export")[0]


def test_time_field_formats_early_years_for_browsers(client):
    assert 'value="0001-01-01T00:00:00"' in client.get("/chats?from=0001-01-01").text
