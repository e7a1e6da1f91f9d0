"""The dashboard and the admin's front page: the same figures as the JSON document."""

import json
import re
from datetime import UTC, date, datetime, timedelta
from html import unescape
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.db import connection
from django.test.utils import CaptureQueriesContext

from batching.models import CallStatus, DailyStat
from batching.pages import views
from batching.pages.figures import find_value
from batching.pages.periods import PeriodForm
from batching.tests.rows import make_batch, make_call
from chats.models import Status
from chats.tests.rows import make_chat
from settings_app.models import GatewaySettings, Priority
from settings_app.snapshot import refresh_snapshot

pytestmark = pytest.mark.django_db

TODAY = date(2026, 3, 12)
NOW = datetime(2026, 3, 12, 9, tzinfo=UTC)
KEY = "test-key-0123456789"


@pytest.fixture(autouse=True)
def _open_gateway(settings, monkeypatch):
    settings.API_ACCESS = "open"
    settings.GEMINI_API_KEY = KEY
    monkeypatch.setattr(views, "today_utc", lambda: TODAY)
    monkeypatch.setattr("batching.templatetags.admin_pages.today_utc", lambda: TODAY)


@pytest.fixture
def history():
    """Today a HIGH batch of 2 in one call; 3 days ago a LOW one of 2 in three calls, one failed
    request; 8 days ago a MEDIUM batch of 1."""
    today = make_batch(Priority.HIGH, at=NOW, size=2, settings={"latency_ms": 500})
    make_call(today, prompt_tokens=30, output_tokens=90, thoughts_tokens=6, cached_tokens=10)
    for latency_ms in (400, 900):
        make_chat(
            batch=today,
            priority=Priority.HIGH,
            received_at=NOW,
            latency_ms=latency_ms,
            queue_ms=200,
        )
    low = make_batch(Priority.LOW, at=NOW - timedelta(days=3), size=2)
    for status in (CallStatus.FAILED, CallStatus.COMPLETE, CallStatus.COMPLETE):
        make_call(low, status=status, prompt_tokens=7)
    for status in (Status.DONE, Status.FAILED):
        make_chat(status, batch=low, priority=Priority.LOW, received_at=low.created_at)
    old = make_batch(Priority.MEDIUM, at=NOW - timedelta(days=8))
    make_call(old)
    make_chat(batch=old, received_at=old.created_at)


def read_figures(page: str) -> list[tuple[str, Any]]:
    found = re.findall(r'data-figure="([^"]+)" data-value="([^"]*)"', page)
    return [(name, json.loads(unescape(value))) for name, value in found]


def read_section(page: str, days: int) -> str:
    return page.partition(f'data-days="{days}"')[2].partition("</section>")[0]


def as_document(client, *, first: date, last: date) -> dict[str, Any]:
    to = last + timedelta(days=1)
    return client.get("/v1/analytics", {"from": first.isoformat(), "to": to.isoformat()}).json()


@pytest.mark.parametrize("days", [1, 7])
@pytest.mark.usefixtures("history")
def test_json_front_page_and_dashboard_show_the_same_figures(admin_client, days):
    document = as_document(admin_client, first=TODAY - timedelta(days=days - 1), last=TODAY)
    dashboard = admin_client.get("/dashboard", {"days": days}).text
    front_page = read_section(admin_client.get("/admin/").text, days)
    for page, least in ((dashboard, 35), (front_page, 35 if days == 7 else 9)):
        figures = read_figures(page)
        assert len(figures) >= least
        assert [value for _, value in figures] == [find_value(document, n) for n, _ in figures]


@pytest.mark.usefixtures("history")
def test_figures_match_numbers_computed_by_hand(client):
    figures = dict(read_figures(client.get("/dashboard", {"days": 7}).text))
    expected = {
        "requests": 4,
        "answered": 3,
        "batches": 2,
        "model_calls": 4,
        "calls_saved": 0,
        "mean_batch_size": 2,
        "slo_attainment": 0.6667,
        "tokens.prompt": 51,
        "tokens.output": 90,
        "tokens.thoughts": 6,
        "tokens.cached": 10,
        "failures.blocked": 1,
        "priority_distribution.0.value": 1,
        "priority_distribution.1.value": 0,
        "priority_distribution.2.value": 1,
        "request_count_over_time.0.count": 1,
        "request_count_over_time.3.count": 1,
        "by_day.0.model_calls": 3,
        "by_day.0.calls_saved": -1,
        "by_day.3.calls_saved": 1,
        "by_priority.HIGH.latency_ms.p95": pytest.approx(900, rel=0.05),
        "by_priority.MEDIUM.latency_ms.p95": None,
    }
    assert {name: figures[name] for name in expected} == expected


@pytest.mark.usefixtures("history")
def test_typed_days_are_both_included(client):
    page = client.get("/dashboard", {"first": "2026-03-04", "last": "2026-03-09"}).text
    figures = dict(read_figures(page))
    assert (figures["requests"], figures["batches"]) == (3, 2)
    assert "/v1/analytics?from=2026-03-04&amp;to=2026-03-10" in page


@pytest.mark.parametrize(
    ("query", "first", "last", "days"),
    [
        ({}, date(2026, 3, 6), TODAY, 7),
        ({"days": "1"}, TODAY, TODAY, 1),
        ({"days": "90"}, date(2025, 12, 13), TODAY, 90),
        ({"first": "2026-03-01"}, date(2026, 3, 1), TODAY, 0),
        ({"first": "2026-04-01"}, date(2026, 4, 1), date(2026, 4, 1), 0),
        ({"last": "2026-03-01"}, date(2026, 1, 31), date(2026, 3, 1), 0),
        ({"last": "0001-01-01"}, date(1, 1, 1), date(1, 1, 1), 0),
        ({"days": "1", "first": "2026-03-11", "last": "2026-03-11"}, *[date(2026, 3, 11)] * 2, 0),
    ],
)
def test_choice_of_days(query, first, last, days):
    period = PeriodForm(query).parse_period(today=TODAY)
    assert (period.first, period.last, period.days) == (first, last, days)


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ({"days": "8"}, "Choose 1, 7, 30 or 90 days."),
        ({"days": "<b>"}, "Choose 1, 7, 30 or 90 days."),
        ({"first": "yesterday"}, "Enter a valid date."),
        ({"last": "2026-02-30"}, "Enter a valid date."),
        ({"first": "2026-03-02", "last": "2026-03-01"}, "must not be after"),
        ({"first": "1900-01-01", "last": "2026-03-01"}, "At most 3660 days"),
        ({"last": "9999-12-31"}, "9999-12-30"),
        ({"first": "a\0b"}, "Enter a valid date."),
    ],
)
def test_invalid_days_are_explained_and_the_default_ones_shown(client, query, reason):
    response = client.get("/dashboard", query)
    assert reason in response.text
    assert "2026-03-06 to 2026-03-12" in response.text
    assert "<b>" not in response.text
    assert response.status_code == 400


def test_empty_gateway_shows_an_example_and_no_charts(client):
    page = client.get("/dashboard").text
    figures = dict(read_figures(page))
    assert figures["requests"] == figures["calls_saved"] == 0
    assert figures["mean_batch_size"] is figures["latency_ms.p95"] is None
    assert "No requests in this period" in page
    assert "http://testserver/v1/query" in page
    assert '<figure class="chart">' not in page


@pytest.mark.usefixtures("history")
def test_each_chart_has_a_table_and_nothing_is_inline(client):
    response = client.get("/dashboard", {"days": 30})
    charts = response.text.count('<figure class="chart">')
    assert charts == 8
    assert response.text.count("<table") == charts + 2  # the savings, and the lanes
    assert response.text.count('role="img"') == response.text.count("between") == 2
    assert not re.search(
        r"<script(?! src)|<style|style=|onclick|https?://(?!testserver)", response.text
    )
    assert "default-src 'none'" in response["Content-Security-Policy"]
    assert "Calls saved = requests that left in batches" in response.text


def test_root_redirects_to_the_dashboard(client):
    response = client.get("/")
    assert response["Location"] == "/dashboard"


def test_closed_gateway_shows_the_dashboard_only_to_staff(client, settings):
    settings.API_ACCESS = "key"
    assert client.get("/dashboard")["Location"] == "/admin/login/?next=/dashboard"
    client.force_login(get_user_model().objects.create_user("bob"))
    assert client.get("/dashboard")["Location"] == "/admin/login/?next=/dashboard"
    client.force_login(get_user_model().objects.create_user("ann", is_staff=True))
    assert "Dashboard" in client.get("/dashboard").text


def test_dashboard_refuses_other_methods(client):
    assert client.post("/dashboard").status_code == 405


def test_live_page_is_for_staff_and_queries_only_the_notices(client, settings, history):
    with CaptureQueriesContext(connection) as queries:
        page = client.get("/live").text
    assert re.findall(r'data-lane="(\w+)"', page) == ["HIGH", "MEDIUM", "LOW"]
    assert len(queries) <= 3
    assert client.post("/live").status_code == 405
    settings.API_ACCESS = "key"
    assert client.get("/live")["Location"] == "/admin/login/?next=/live"


@pytest.mark.usefixtures("history")
def test_pages_cost_as_many_queries_for_a_long_history_as_for_a_short_one(admin_client):
    def count_queries(path: str) -> int:
        with CaptureQueriesContext(connection) as queries:
            assert admin_client.get(path).status_code == 200
        return len(queries)

    paths = ["/dashboard?days=90", "/admin/"]
    for path in paths:
        count_queries(path)  # rolls up the pending rows
    few = [count_queries(path) for path in paths]
    DailyStat.objects.bulk_create(
        DailyStat(day=TODAY - timedelta(days=n), priority=1, requests=5, batches=2)
        for n in range(10, 80)
    )
    assert [count_queries(path) for path in paths] == few
    assert few[0] <= 10
    assert few[1] <= 20


def test_banner_says_that_answers_are_simulated(client, settings):
    settings.GEMINI_API_KEY, settings.DEBUG, settings.GEMINI_BASE_URL = "", True, ""
    refresh_snapshot()
    assert "every answer is simulated" in client.get("/dashboard").text


def test_banner_says_that_no_key_is_set(client, settings):
    settings.GEMINI_API_KEY = ""
    refresh_snapshot()
    assert "every request is refused (503 no_api_key)" in client.get("/dashboard").text


def test_banner_names_a_key_that_cannot_be_read(admin_client):
    GatewaySettings.objects.update(api_key_encrypted="gAAAA-damaged")
    refresh_snapshot()
    for path in ("/dashboard", "/admin/"):
        assert "cannot be decrypted" in admin_client.get(path).text


def test_banner_shows_the_model_services_refusal_until_a_call_succeeds(client):
    batch = make_batch()
    refusal = {"error_code": "upstream_rejected_key", "error_detail": "The key is <wrong>."}
    make_call(batch, status=CallStatus.FAILED, **refusal)
    make_call(batch, status=CallStatus.STARTED)
    assert "upstream_rejected_key): The key is &lt;wrong&gt;." in client.get("/dashboard").text
    make_call(batch)
    assert "upstream_rejected_key" not in client.get("/dashboard").text


def test_banner_is_silent_about_a_blocked_prompt(client):
    make_call(make_batch(), status=CallStatus.FAILED, error_code="blocked")
    assert 'class="notice' not in client.get("/dashboard").text
