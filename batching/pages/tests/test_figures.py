"""The figures against the period before, the rows behind them, and the savings."""

import json
import re
from datetime import UTC, date, datetime, timedelta
from html import unescape

import pytest

from batching.analytics.rollup import roll_up_pending
from batching.analytics.summary import summarize
from batching.models import CallStatus
from batching.pages import views
from batching.pages.figures import METRICS, Metric, compare, describe_savings, find_value
from batching.pages.periods import Period
from batching.tests.rows import make_batch, make_call
from chats.models import Status
from chats.tests.rows import make_chat
from settings_app.models import Priority

TODAY = date(2026, 3, 12)
NOW = datetime(2026, 3, 12, 9, tzinfo=UTC)
COUNT = Metric("requests", "Requests", "chats")
LATENCY = Metric("latency_ms.p95", "Latency", "answered", "ms", better="less")
SHARE = Metric("fill", "Fill", "batches", "%", better="more")
SAVED = Metric("calls_saved", "Calls saved", "calls", better="more")


@pytest.mark.parametrize(
    ("value", "before", "metric", "text", "css"),
    [
        (120, 100, COUNT, "+20 %, more", "plain"),
        (80, 100, COUNT, "−20 %, fewer", "plain"),
        (1001, 1000, COUNT, "almost no change", "plain"),
        (0.5001, 0.5, SHARE, "almost no change", "plain"),
        (7, 7, COUNT, "no change", "plain"),
        (5, 0, COUNT, "+5, more", "plain"),
        (900.0, 600.0, LATENCY, "+50 %, worse", "worse"),
        (300.0, 600.0, LATENCY, "−50 %, better", "better"),
        (300.0, None, LATENCY, "no earlier value", "plain"),
        (None, 300.0, LATENCY, "no value now", "plain"),
        (0.5, 0.375, SHARE, "+12.5 points, better", "better"),
        (0.25, 0.375, SHARE, "−12.5 points, worse", "worse"),
        (3, -2, SAVED, "+5, better", "better"),
        (-1234, -2, SAVED, "−1,232, worse", "worse"),
    ],
)
def test_change_has_a_sign_and_a_word(value, before, metric, text, css):
    delta = compare(value, before, metric)
    assert (delta.text, delta.css) == (text, css)


@pytest.mark.parametrize(
    ("first", "last", "before"),
    [
        (date(2026, 3, 6), TODAY, (date(2026, 2, 27), date(2026, 3, 5))),
        (TODAY, TODAY, (date(2026, 3, 11), date(2026, 3, 11))),
        (date(1, 1, 3), date(1, 1, 4), (date(1, 1, 1), date(1, 1, 2))),
        (date(1, 1, 2), date(1, 1, 3), None),
        (date.min, date.min, None),
    ],
)
def test_period_before_has_the_same_length_and_ends_the_day_before(first, last, before):
    found = Period(first, last).before
    assert (found and (found.first, found.last)) == before


@pytest.fixture
def two_weeks(db, settings, monkeypatch):
    """This week two HIGH batches and a LOW one with failures; the week before one HIGH batch."""
    settings.API_ACCESS, settings.GEMINI_API_KEY = "open", "test-key-0123456789"
    monkeypatch.setattr(views, "today_utc", lambda: TODAY)
    for at, size in ((NOW, 3), (NOW - timedelta(days=6), 1), (NOW - timedelta(days=7), 2)):
        rule = {"max_batch": 4, "latency_ms": 500}
        batch = make_batch(Priority.HIGH, at=at, size=size, settings=rule)
        make_call(batch, prompt_tokens=100, output_tokens=50)
        for _ in range(size):
            make_chat(batch=batch, priority=Priority.HIGH, received_at=at, latency_ms=400)
    low = make_batch(Priority.LOW, at=NOW, size=2)
    for status in (CallStatus.FAILED, CallStatus.COMPLETE):
        make_call(low, status=status)
    for code in ("blocked", "missing_answer"):
        fields = {"priority": Priority.LOW, "received_at": NOW, "error_code": code}
        make_chat(Status.FAILED, batch=low, **fields)
    make_chat(Status.EXPIRED, received_at=NOW)
    roll_up_pending()


def read_cells(page: str) -> dict[str, list[str]]:
    """The words of each figure's text and change, by the figure's name."""
    table = page.partition('<table class="lanes">')[2] + page.partition('id="by-lane"')[2]
    cells = re.findall(r'data-figure="([^"]+)"[^>]*>(.*?)</td>', table, re.S)
    return {name: re.sub(r"<[^>]+>", " ", text).split() for name, text in cells}


@pytest.mark.usefixtures("two_weeks")
def test_each_lane_shows_its_change_against_the_week_before(client):
    page = client.get("/dashboard").text
    cells = read_cells(page)
    assert cells["by_priority.HIGH.requests"] == ["4", "+100", "%,", "more"]
    assert cells["by_priority.HIGH.fill"] == ["50.0", "%", "no", "change"]
    assert cells["by_priority.HIGH.calls_saved"] == ["2", "+100", "%,", "better"]
    assert cells["by_priority.LOW.failed"] == ["2", "+2,", "worse"]
    assert cells["by_priority.MEDIUM.latency_ms.p95"] == ["–", "no", "value", "now"]
    assert cells["requests"] == ["7", "+250", "%,", "more"]
    assert "2026-02-27 to 2026-03-05" in page
    wanted = {m.name for m in METRICS}
    assert wanted | {f"by_priority.{p.name}.{name}" for p in Priority for name in wanted} <= {
        *cells
    }


@pytest.mark.usefixtures("two_weeks")
def test_every_link_lists_as_many_rows_as_its_figure_counts(admin_client):
    page = admin_client.get("/dashboard").text
    counted = ("requests", "answered", "failed", "batches", "model_calls")
    pattern = r'data-figure="([^"]+)" data-value="([^"]+)"><a href="([^"]+)"'
    followed = set()
    for name, value, link in re.findall(pattern, page):
        listed = admin_client.get(unescape(link))
        assert listed.status_code == 200, name
        if name.split(".")[-1] not in counted and not name.startswith("failures."):
            continue
        followed.add(name)
        found = re.search(
            r"<strong>([\d,]+)</strong> (?:chat|batch)|paginator\">\s*(\d+) ", listed.text
        )
        assert found, (name, link)
        assert int((found[1] or found[2]).replace(",", "")) == json.loads(value), (name, link)
    assert {"requests", "by_priority.LOW.failed", "by_priority.HIGH.batches"} <= followed
    assert {"failures.blocked", "by_priority.HIGH.model_calls", "batches"} <= followed


@pytest.mark.usefixtures("two_weeks")
@pytest.mark.parametrize("viewer", ["client", "admin_client"])
def test_every_figure_with_a_value_has_a_link(request, viewer):
    page = request.getfixturevalue(viewer).get("/dashboard").text
    figures = re.findall(r'data-figure="([^"]+)" data-value="([^"]+)">(<a href)?', page)
    linked = {name for name, _, link in figures if link}
    assert {name for name, value, _ in figures if json.loads(value)} == linked
    assert "calls_saved" in linked
    assert any(name.startswith("by_day.") for name in linked)


@pytest.mark.usefixtures("two_weeks")
def test_staff_without_access_to_calls_get_links_to_batches(client, django_user_model):
    client.force_login(django_user_model.objects.create_user("ann", is_staff=True))
    page = client.get("/dashboard").text
    links = {unescape(link) for link in re.findall(r'"><a href="([^"]+)"', page)}
    assert {client.get(link).status_code for link in links} == {200}
    assert any(link.startswith("/batches?") for link in links)


@pytest.mark.usefixtures("two_weeks")
def test_column_of_a_day_links_to_the_rows_of_that_day(client):
    page = client.get("/dashboard").text
    links = re.findall(
        r'data-figure="request_count_over_time.\d+.count" data-value="(\d+)"><a href="([^"]+)"',
        page,
    )
    assert len(links) >= 2
    for value, link in links:
        assert f"<strong>{value}</strong> batch" in client.get(unescape(link)).text


@pytest.mark.usefixtures("two_weeks")
def test_viewer_without_an_account_gets_only_links_that_open(client):
    page = client.get("/dashboard").text
    links = set(re.findall(r'"><a href="([^"]+)"', page))
    assert links
    assert {client.get(unescape(link)).status_code for link in links} == {200}


@pytest.mark.usefixtures("two_weeks")
def test_savings_and_their_costs_come_from_the_same_document(client):
    summary = summarize(first=date(2026, 3, 6), last=TODAY)
    sentence = describe_savings(summary)
    assert "would have been 6 calls. Batching saved 2 of them (33 %)." in sentence
    each = summary["combining"]["overhead_tokens"] // 2
    assert (
        f"cost 0.6 s of waiting, spread over the requests, and about {each:,} tokens (an"
        in sentence
    )
    page = unescape(client.get("/dashboard").text)
    assert sentence in page
    assert "is an estimate" in page
    cells = read_cells(page)
    assert cells["combining.waited_s"] == ["1.2", "s"]
    path = "by_priority.HIGH.combining.overhead_tokens"
    assert int(cells[path][0].replace(",", "")) == find_value(summary, path)


@pytest.mark.django_db
def test_savings_of_an_empty_period_and_of_a_bad_day_are_explained():
    assert describe_savings(summarize()) == "No model call was made in this period."
    batch = make_batch()
    for _ in range(2):
        make_call(batch, status=CallStatus.FAILED)
    roll_up_pending()
    assert describe_savings(summarize()).startswith("No call was saved")
