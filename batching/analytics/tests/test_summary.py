"""The analytics document, against numbers computed by hand."""

import json
from datetime import UTC, date, datetime, timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from batching.analytics.rollup import roll_up_pending
from batching.analytics.summary import summarize
from batching.engine.lanes import Priority as EnginePriority
from batching.engine.lanes import TokenBudget
from batching.engine.prompt import combine
from batching.models import CallStatus, DailyStat, Outcome
from batching.store.lane_rules import current_rules
from batching.tests.rows import make_batch, make_call
from chats.models import Status
from chats.tests.rows import make_chat
from settings_app.models import Priority
from settings_app.snapshot import current_snapshot

pytestmark = pytest.mark.django_db

MONDAY = datetime(2026, 3, 9, 12, tzinfo=UTC)
TUESDAY, WEDNESDAY, THURSDAY = (MONDAY + timedelta(days=n) for n in (1, 2, 3))
NO_TIMES = {"p50": None, "p90": None, "p95": None, "p99": None, "mean": None}
NOTHING = {
    "requests": 0,
    "answered": 0,
    "failed": 0,
    "batches": 0,
    "model_calls": 0,
    "calls_saved": 0,
    "mean_batch_size": None,
    "fill": None,
    "tokens": {"prompt": 0, "output": 0, "thoughts": 0, "cached": 0},
    "latency_ms": NO_TIMES,
    "queue_ms": NO_TIMES,
    "slo_attainment": None,
    "failures": {},
}
NO_COST = {"combining": {"overhead_tokens": 0, "estimated": True, "waited_s": 0}}


@pytest.fixture(autouse=True)
def _open_access(settings):
    settings.API_ACCESS = "open"


@pytest.fixture
def week():
    """HIGH on Monday: a batch of 3 in one call. LOW on Wednesday: 2 and 1, the 2 in three calls.

    A MEDIUM request of Tuesday expired before any batch.
    """
    rule = {"latency_ms": 500, "max_batch": 6}
    high = make_batch(Priority.HIGH, at=MONDAY, size=3, settings=rule)
    make_call(high, prompt_tokens=30, output_tokens=90, thoughts_tokens=6, cached_tokens=10)
    for latency_ms in (400, 500, 900):
        make_chat(
            batch=high,
            priority=Priority.HIGH,
            received_at=MONDAY,
            latency_ms=latency_ms,
            queue_ms=200,
        )
    make_chat(Status.EXPIRED, received_at=TUESDAY, priority=Priority.MEDIUM)
    low = make_batch(Priority.LOW, at=WEDNESDAY, size=2, outcome=Outcome.PARTIAL)
    make_call(low, status=CallStatus.FAILED)
    make_call(low, prompt_tokens=20, output_tokens=50)
    make_call(low, prompt_tokens=9)
    make_chat(batch=low, priority=Priority.LOW, received_at=WEDNESDAY, latency_ms=2001)
    make_chat(Status.FAILED, batch=low, priority=Priority.LOW, received_at=WEDNESDAY)
    alone = make_batch(Priority.LOW, at=WEDNESDAY, outcome=Outcome.FAILED)
    make_call(alone, status=CallStatus.FAILED)
    make_chat(
        Status.FAILED,
        batch=alone,
        priority=Priority.LOW,
        received_at=WEDNESDAY,
        error_code="missing_answer",
    )
    roll_up_pending()


def near(value: float):
    return pytest.approx(value, rel=0.05)


def test_document_of_an_empty_gateway_holds_zeros_and_nulls():
    assert summarize() == {
        "total_requests": 0,
        "high_priority": 0,
        "medium_priority": 0,
        "low_priority": 0,
        "request_count_over_time": [],
        "priority_distribution": [
            {"name": "High", "value": 0},
            {"name": "Medium", "value": 0},
            {"name": "Low", "value": 0},
        ],
        **NOTHING,
        **NO_COST,
        "by_priority": dict.fromkeys(("HIGH", "MEDIUM", "LOW"), NOTHING | NO_COST),
        "by_day": [],
    }


@pytest.mark.usefixtures("week")
def test_original_names_count_batches():
    document = summarize()
    assert document["total_requests"] == 3
    assert document["high_priority"] == 1
    assert document["medium_priority"] == 0
    assert document["low_priority"] == 2
    assert document["priority_distribution"] == [
        {"name": "High", "value": 1},
        {"name": "Medium", "value": 0},
        {"name": "Low", "value": 2},
    ]
    assert document["request_count_over_time"] == [
        {"date": "2026-03-09", "count": 1},
        {"date": "2026-03-10", "count": 0},
        {"date": "2026-03-11", "count": 2},
    ]


@pytest.mark.usefixtures("week")
def test_the_total_counts_requests_calls_tokens_and_failures():
    document = summarize()
    assert (document["requests"], document["answered"]) == (7, 4)
    assert (document["batches"], document["model_calls"]) == (3, 5)
    assert document["calls_saved"] == 6 - 5
    assert document["mean_batch_size"] == 2
    assert document["tokens"] == {"prompt": 59, "output": 140, "thoughts": 6, "cached": 10}
    assert document["failures"] == {"timeout": 1, "blocked": 1, "missing_answer": 1}
    assert document["slo_attainment"] == 0.5
    assert document["latency_ms"] == {
        "p50": near(500),
        "p90": near(2001),
        "p95": near(2001),
        "p99": near(2001),
        "mean": 950.25,
    }
    assert document["queue_ms"]["mean"] == 225


@pytest.mark.usefixtures("week")
def test_each_priority_has_its_own_numbers():
    by_priority = summarize()["by_priority"]
    costs = {name: lane.pop("combining") for name, lane in by_priority.items()}
    assert [cost["waited_s"] for cost in costs.values()] == [0.6, 0, 0.3]
    assert by_priority["HIGH"] == {
        "requests": 3,
        "answered": 3,
        "failed": 0,
        "batches": 1,
        "model_calls": 1,
        "calls_saved": 2,
        "mean_batch_size": 3,
        "fill": 0.5,
        "tokens": {"prompt": 30, "output": 90, "thoughts": 6, "cached": 10},
        "latency_ms": {
            "p50": near(500),
            "p90": near(900),
            "p95": near(900),
            "p99": near(900),
            "mean": 600,
        },
        "queue_ms": dict.fromkeys(("p50", "p90", "p95", "p99"), near(200)) | {"mean": 200},
        "slo_attainment": 0.6667,
        "failures": {},
    }
    assert by_priority["MEDIUM"] == NOTHING | {
        "requests": 1,
        "failed": 1,
        "failures": {"timeout": 1},
    }
    assert by_priority["LOW"]["calls_saved"] == 3 - 4
    assert by_priority["LOW"]["mean_batch_size"] == 1.5
    assert by_priority["LOW"]["slo_attainment"] == 0


@pytest.mark.usefixtures("week")
def test_each_day_has_its_own_numbers_over_all_lanes():
    days = summarize()["by_day"]
    assert [day["date"] for day in days] == ["2026-03-09", "2026-03-10", "2026-03-11"]
    assert [day["requests"] for day in days] == [3, 1, 3]
    assert [day["model_calls"] for day in days] == [1, 0, 4]
    assert days[1] == NOTHING | {
        "date": "2026-03-10",
        "requests": 1,
        "failed": 1,
        "failures": {"timeout": 1},
    }


def test_fill_counts_only_batches_whose_maximum_is_known():
    make_batch(size=3, at=MONDAY, settings={"max_batch": 4})
    make_batch(size=1, at=MONDAY, settings={"max_batch": 6})
    make_batch(size=2, at=MONDAY, settings={})
    roll_up_pending()
    document = summarize()
    assert document["mean_batch_size"] == 2
    assert document["fill"] == 0.4
    assert document["by_day"][0]["fill"] == 0.4


@pytest.mark.usefixtures("week")
def test_estimated_overhead_is_near_the_real_size_of_calls_without_their_prompts():
    rule = current_rules()[EnginePriority.HIGH]
    prompt = combine(
        ["Why?"] * 3,
        model="m",
        style=rule.style,
        output_tokens=9,
        draw=lambda: "abcdefghij",
        budget=TokenBudget(),
    )
    carried = len(str(prompt).encode()) - 3 * len("Why?")
    reply = len(json.dumps(dict.fromkeys(prompt.keys, "")).encode())
    cost = summarize()["by_priority"]["HIGH"]["combining"]
    assert cost["overhead_tokens"] == pytest.approx((carried + reply) / 3, rel=0.05)
    assert cost["estimated"] is True
    assert summarize()["combining"]["overhead_tokens"] == sum(
        lane["combining"]["overhead_tokens"] for lane in summarize()["by_priority"].values()
    )


def test_days_without_rows_hold_zeros():
    make_batch(at=MONDAY)
    make_batch(at=THURSDAY)
    roll_up_pending()
    document = summarize()
    assert [day["count"] for day in document["request_count_over_time"]] == [1, 0, 0, 1]
    assert document["by_day"][1] == NOTHING | {"date": "2026-03-10"}


def test_series_of_batches_begins_and_ends_with_a_day_that_has_some():
    make_chat(Status.EXPIRED, received_at=MONDAY)
    make_batch(at=TUESDAY)
    make_chat(Status.EXPIRED, received_at=WEDNESDAY)
    roll_up_pending()
    document = summarize()
    assert document["request_count_over_time"] == [{"date": "2026-03-10", "count": 1}]
    assert len(document["by_day"]) == 3


@pytest.mark.usefixtures("week")
def test_range_includes_its_first_and_last_day():
    document = summarize(first=date(2026, 3, 10), last=date(2026, 3, 11))
    assert (document["requests"], document["total_requests"]) == (4, 2)
    assert [day["date"] for day in document["by_day"]] == ["2026-03-10", "2026-03-11"]
    assert summarize(first=date(2026, 3, 12))["requests"] == 0
    assert summarize(last=date(2026, 3, 9))["requests"] == 3


def test_document_costs_one_query_for_any_history():
    DailyStat.objects.bulk_create(
        DailyStat(day=date(2026, 1, 1) + timedelta(days=n), priority=p, requests=1)
        for n in range(50)
        for p in Priority
    )
    current_snapshot()
    with CaptureQueriesContext(connection) as queries:
        assert summarize()["requests"] == 150
    assert len(queries) == 1


def test_endpoint_counts_rows_that_have_just_ended(client):
    make_chat(received_at=MONDAY)
    make_batch(at=MONDAY)
    document = client.get("/v1/analytics").json()
    assert document["requests"] == 1
    assert document["request_count_over_time"] == [{"date": "2026-03-09", "count": 1}]
    assert document == summarize()


@pytest.mark.usefixtures("week")
def test_endpoint_takes_utc_days_and_excludes_the_day_to(client):
    document = client.get("/v1/analytics?from=2026-03-10&to=2026-03-11").json()
    assert document == summarize(first=date(2026, 3, 10), last=date(2026, 3, 10))
    assert document["requests"] == 1
    assert client.get("/v1/analytics?to=2026-03-10").json()["requests"] == 3
    assert client.get("/v1/analytics?from=2026-03-11&to=").json()["requests"] == 3
    assert client.get("/v1/analytics?from=2026-03-09&to=2026-03-09").json()["requests"] == 0


def test_the_endpoint_costs_a_bounded_number_of_queries(client):
    for number in range(30):
        batch = make_batch(at=MONDAY + timedelta(days=number))
        make_call(batch)
        make_chat(batch=batch, received_at=batch.created_at)
    with CaptureQueriesContext(connection) as queries:
        assert client.get("/v1/analytics").json()["requests"] == 30
    assert len(queries) <= 20


def test_gateway_without_requests_stores_no_statistics(client):
    assert client.get("/v1/analytics").json()["requests"] == 0
    assert not DailyStat.objects.exists()


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("from=yesterday", "from"),
        ("from=2026-02-30", "from"),
        ("from=2026-03-10T00:00:00", "from"),
        ("from=%00", "from"),
        ("from=99999-01-01", "from"),
        ("from=2026-03-10&from=2026-03-11", "from"),
        ("to=0001-01-01", "to"),
        ("to=-1", "to"),
        ("to=%FF%FE", "to"),
        ("from=2026-03-11&to=2026-03-10", "to"),
        ("from=2016-01-01&to=2026-03-10", "to"),
    ],
)
def test_invalid_day_is_refused_and_its_parameter_named(client, query, field):
    response = client.get(f"/v1/analytics?{query}")
    assert field in response.json()["errors"]
    assert response.json()["code"] == "invalid"
    assert response.status_code == 400


@pytest.mark.parametrize("query", ["from=9999-12-31", "to=0001-01-02", "from=0001-01-01"])
def test_the_ends_of_the_calendar_are_days_too(client, query):
    assert client.get(f"/v1/analytics?{query}").json()["requests"] == 0


def test_closed_gateway_shows_its_numbers_only_to_staff(client, admin_client, settings):
    settings.API_ACCESS = "key"
    assert client.get("/v1/analytics").json()["code"] == "not_authenticated"
    assert admin_client.get("/v1/analytics").json()["requests"] == 0
