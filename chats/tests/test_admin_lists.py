"""The admin's lists of more records than it counts."""

import re
from datetime import timedelta
from html import unescape

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from batching.models import CallKind
from batching.tests.rows import make_batch, make_call
from chats import admin_lists
from chats.admin import RecordAdmin
from chats.models import Status
from chats.tests.rows import NOON, make_chat
from settings_app.models import Priority

pytestmark = pytest.mark.django_db

ROW = re.compile(r'<th class="field-id"><a[^>]*>(\d+)</a>')


@pytest.fixture(autouse=True)
def _count_to_three(monkeypatch):
    monkeypatch.setattr(admin_lists, "MAX_LISTED", 3)


@pytest.fixture
def short_pages(monkeypatch):
    monkeypatch.setattr(RecordAdmin, "list_per_page", 2)


def open_list(client, query: str = "", name: str = "chats_chat") -> str:
    response = client.get(reverse(f"admin:{name}_changelist") + query)
    assert response.status_code == 200
    return response.text


def listed(page: str) -> list[int]:
    return [int(number) for number in ROW.findall(page)]


def find_continuation(page: str) -> str | None:
    found = re.search(r'<p class="onward">.*?<a href="([^"]*)"', page)
    return unescape(found[1]) if found else None


def test_count_stops_at_a_bound_and_the_page_says_so(admin_client):
    for _ in range(5):
        make_chat()
    assert "3 chats" in open_list(admin_client)
    searched = open_list(admin_client, "?q=ann")
    assert "3 or more found" in searched
    assert "5 total" not in searched


def test_links_lead_through_all_rows_whatever_their_number(admin_client, short_pages):
    made = [make_chat().pk for _ in range(9)]
    query, seen = "", []
    while query is not None and len(seen) < 20:
        page = open_list(admin_client, query)
        seen += listed(page)
        query = find_continuation(page)
    assert seen == made[::-1]


def test_continuation_keeps_the_filter_but_not_the_page_number(admin_client, short_pages):
    failed = [make_chat(Status.FAILED).pk for _ in range(7)]
    make_chat()
    page = open_list(admin_client, "?status__exact=failed&p=2")
    assert listed(page) == [failed[-3]]
    continuation = find_continuation(page)
    assert "status__exact=failed" in continuation
    assert "p=" not in continuation.replace("status__exact", "")
    assert listed(open_list(admin_client, continuation)) == failed[-5:-3][::-1]


def test_list_from_the_oldest_continues_with_newer_rows(admin_client, short_pages):
    made = [make_chat().pk for _ in range(5)]
    page = open_list(admin_client, "?o=0")
    assert listed(page) == made[:2]
    assert listed(open_list(admin_client, find_continuation(page))) == made[2:4]


def test_other_filters_and_a_search_begin_with_the_newest_again(admin_client, short_pages):
    made = [make_chat(request_id=f"r-{n}").pk for n in range(6)]
    page = open_list(admin_client, find_continuation(open_list(admin_client, "?p=2")))
    assert f"This list begins after row {made[3]}." in page
    assert 'name="id__lt"' not in page, "a search would find only rows after that row"
    links = re.findall(r'href="(\?[^"]*)"', page)
    elsewhere = [link for link in links if "id__lt" not in link]
    assert any("status__exact=failed" in link for link in elsewhere)
    assert all(
        "p=2" in link or link == find_continuation(page) for link in set(links) - set(elsewhere)
    )
    start = re.search(r'<p class="place">.*?<a href="([^"]*)"', page)
    assert listed(open_list(admin_client, unescape(start[1]))) == made[:-3:-1]


def test_list_that_ends_at_the_bound_has_no_continuation(admin_client):
    for _ in range(3):
        make_chat()
    assert find_continuation(open_list(admin_client)) is None


@pytest.mark.parametrize("order", ["2", "-6", "0.2", "99", "x", ""])
def test_list_is_not_sorted_by_a_slow_column(admin_client, order):
    made = [make_chat(username=name).pk for name in "bac"]
    assert listed(open_list(admin_client, f"?o={order}")) == made[::-1]


def test_short_list_has_no_continuation(admin_client):
    make_chat()
    assert find_continuation(open_list(admin_client)) is None


@pytest.mark.parametrize(
    "query",
    [
        "?received_at__year=2026&received_at__month={0.month}&received_at__day={0.day}",
        "?received_at__gte={0:%Y-%m-%d} 00:00:00Z&received_at__lt={0:%Y-%m-%d} 23:59:59Z",
    ],
)
def test_day_lists_its_rows_even_if_ids_and_times_are_in_different_order(admin_client, query):
    day = NOON.replace(year=2026)
    inside = [make_chat(received_at=day).pk]
    make_chat(received_at=day - timedelta(days=1))
    make_chat(received_at=day + timedelta(days=1))
    inside.append(make_chat(received_at=day + timedelta(hours=1)).pk)
    assert listed(open_list(admin_client, query.format(day))) == inside[::-1]


def test_day_without_rows_is_empty(admin_client):
    make_chat(received_at=NOON)
    assert listed(open_list(admin_client, "?received_at__year=1999")) == []


@pytest.mark.parametrize(
    "parameters",
    [
        {"received_at__gte": "rubbish"},
        {"received_at__gte": "2026-99-99"},
        {"received_at__gte": "\x00"},
        {"received_at__gte": "0001-01-01T00:00:00+14:00"},
        {"received_at__lt": "9999-12-31T23:59:59-14:00"},
        {"received_at__year": "9999"},
        {"received_at__year": "9" * 23},
    ],
)
def test_invalid_date_redirects_to_the_whole_list(admin_client, parameters):
    response = admin_client.get(reverse("admin:chats_chat_changelist"), parameters, follow=True)
    assert response.redirect_chain
    assert response.status_code == 200


def test_filter_on_dates_needs_one_more_query(admin_client):
    make_chat(received_at=NOON)

    def count_queries(query: str) -> int:
        with CaptureQueriesContext(connection) as queries:
            open_list(admin_client, query)
        return len(queries)

    count_queries("")
    plain = count_queries("")
    assert count_queries(f"?received_at__year={NOON.year}") == plain + 1


def test_calls_are_filtered_by_their_lane(admin_client):
    high, low = (make_batch(priority=p) for p in (Priority.HIGH, Priority.LOW))
    call = make_call(high)
    make_call(low)
    single = make_call(high, kind=CallKind.SINGLE)
    for query, calls in (
        ("?priority__exact=2", [single.pk, call.pk]),
        ("?priority__exact=2&kind__exact=single", [single.pk]),
        ("?priority__exact=0&kind__exact=single", []),
    ):
        assert listed(open_list(admin_client, query, "batching_modelcall")) == calls
