"""The documents, parameters and links of GET /v1/chat."""

import asyncio
import json
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from batching.models import Batch
from chats import row_parts
from chats.models import Status
from chats.search import search_chats
from chats.selectors import ChatFilter, walk_chats
from chats.serializers import describe_chat
from chats.tests.rows import NOON, make_chat
from settings_app.models import Priority

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _open_access(settings):
    settings.API_ACCESS = "open"


def request_ids(response) -> list[str]:
    return [entry["request"]["request_id"] for entry in response.json()["chats"]]


def get(client, query: str = "", **parameters):
    return client.get(f"/v1/chat?{query}" if query else "/v1/chat", parameters or None)


def make_batch() -> Batch:
    return Batch.objects.create(
        priority=2, trigger="full", size=1, model="m", settings={}, created_at=NOON
    )


def test_an_answered_request_is_one_entry_with_its_response(client):
    batch = make_batch()
    make_chat(
        request_id="r-1",
        username="ann",
        prompt="Why?",
        priority=Priority.HIGH,
        created_at=NOON - timedelta(hours=2),
        batch=batch,
    )
    assert get(client).json() == {
        "chats": [
            {
                "timestamp": "2026-03-10T12:00:00Z",
                "batch_id": batch.pk,
                "status": "done",
                "request": {
                    "request_id": "r-1",
                    "username": "ann",
                    "prompt": "Why?",
                    "priority": 2,
                    "created_at": "2026-03-10T10:00:00Z",
                },
                "response": {
                    "request_id": "r-1",
                    "username": "ann",
                    "text": "Because of Rayleigh scattering.",
                    "tokens_used": 42,
                    "latency_ms": 800,
                    "created_at": "2026-03-10T10:00:00Z",
                    "completed_at": "2026-03-10T12:00:00.800000Z",
                },
                "suspect": None,
                "error": None,
            }
        ],
        "count": 1,
        "next": None,
        "previous": None,
    }


def test_suspect_answer_names_the_reason(client):
    make_chat(Status.DONE, suspect="it repeats another request's prompt")
    [entry] = get(client).json()["chats"]
    assert entry["suspect"] == "it repeats another request's prompt"


def test_a_failed_request_has_its_error_and_no_response(client):
    make_chat(Status.FAILED, error_code="blocked", error_detail="The model refused.")
    [entry] = get(client).json()["chats"]
    assert entry["response"] is None
    assert entry["error"] == {"code": "blocked", "detail": "The model refused."}


def test_queued_request_is_listed_under_its_status(client):
    make_chat(Status.QUEUED, request_id="waits")
    assert get(client).json()["chats"] == []
    [entry] = get(client, status="queued").json()["chats"]
    assert entry["request"]["request_id"] == "waits"
    assert (entry["response"], entry["error"], entry["batch_id"]) == (None, None, None)


def test_the_links_lead_through_every_page_and_keep_the_filters(client):
    for number in range(5):
        make_chat(request_id=f"é&{number}", username="ann b&c")
        make_chat(username="other")
    page = get(client, username="ann b&c", limit="2", priority="medium")
    assert page.json()["previous"] is None
    pages = [request_ids(page)]
    while page.json()["next"]:
        assert parse_qs(urlsplit(page.json()["next"]).query)["username"] == ["ann b&c"]
        page = client.get(page.json()["next"])
        assert page.json()["count"] == 5
        pages.append(request_ids(page))
    assert pages == [["é&3", "é&4"], ["é&1", "é&2"], ["é&0"]]
    back = client.get(page.json()["previous"])
    assert request_ids(back) == ["é&1", "é&2"]
    assert back.json()["next"].startswith("http://testserver/v1/chat?")


@pytest.mark.parametrize("priority", ["HIGH", "high", " High ", "2"])
def test_priority_is_accepted_as_name_and_as_number(client, priority):
    make_chat(request_id="h", priority=Priority.HIGH)
    make_chat(request_id="l", priority=Priority.LOW)
    assert request_ids(get(client, priority=priority)) == ["h"]


def test_a_batch_is_found_by_its_id(client):
    batch = make_batch()
    make_chat(request_id="in", batch=batch)
    make_chat(request_id="out")
    assert request_ids(get(client, batch_id=str(batch.pk))) == ["in"]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("from=2026-03-11", ["next day"]),
        ("to=2026-03-11", ["noon", "evening"]),
        ("from=2026-03-10T12:00:00&to=2026-03-10T20:00:00", ["noon"]),
        ("from=2026-03-10T20:00:00Z", ["evening", "next day"]),
        ("from=2026-03-10T22:00:00%2B02:00", ["evening", "next day"]),
        ("from=2026-03-10T22:00:00+02:00", ["evening", "next day"]),
        ("from=2026-03-10T22:00:01%2B02:00", ["next day"]),
        ("from=2026-03-10%2020:00", ["evening", "next day"]),
        ("from=2026-03-10&to=2026-03-10", []),
    ],
)
def test_times_are_iso_8601_and_mean_utc_without_an_offset(client, query, expected):
    make_chat(request_id="noon", received_at=NOON)
    make_chat(request_id="evening", received_at=NOON + timedelta(hours=8))
    make_chat(request_id="next day", received_at=NOON + timedelta(hours=12))
    assert request_ids(get(client, query)) == expected


def test_empty_parameters_count_as_absent(client):
    make_chat(request_id="a")
    query = "username=&priority=&status=&batch_id=&from=&to=&search=&limit=&before=&after="
    assert request_ids(get(client, query)) == ["a"]


@pytest.mark.parametrize("limit", ["1", "1000"])
def test_the_smallest_and_the_largest_limit_are_taken(client, limit):
    make_chat(request_id="a")
    assert request_ids(get(client, limit=limit)) == ["a"]


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("limit=0", "limit"),
        ("limit=-1", "limit"),
        ("limit=1001", "limit"),
        ("limit=ten", "limit"),
        ("limit=1e2", "limit"),
        ("limit=1.5", "limit"),
        ("limit=" + "9" * 5000, "limit"),
        ("limit=5&limit=6", "limit"),
        ("before=0", "before"),
        ("before=9223372036854775808", "before"),
        ("before=-1", "before"),
        ("before=x", "before"),
        ("after=-1", "after"),
        ("after=99999999999999999999999", "after"),
        ("before=5&after=2", "after"),
        ("batch_id=0", "batch_id"),
        ("batch_id=18446744073709551616", "batch_id"),
        ("batch_id=%00", "batch_id"),
        ("priority=URGENT", "priority"),
        ("priority=3", "priority"),
        ("priority=-1", "priority"),
        ("priority=%00", "priority"),
        ("status=lost", "status"),
        ("status=done&status=failed", "status"),
        ("username=%00", "username"),
        ("username=" + "x" * 201, "username"),
        ("search=a%00b", "search"),
        ("search=" + "x" * 201, "search"),
        ("from=yesterday", "from"),
        ("from=2026-02-30", "from"),
        ("from=2026-13-01T00:00:00Z", "from"),
        ("from=0001-01-01T00:00:00%2B14:00", "from"),
        ("from=%00", "from"),
        ("to=9999-12-31T23:59:59-14:00", "to"),
        ("to=" + "9" * 400, "to"),
        ("from=2026-03-11&to=2026-03-10", "to"),
    ],
)
def test_invalid_parameter_is_refused_by_name(client, query, field):
    make_chat()
    response = get(client, query)
    document = response.json()
    assert field in document["errors"]
    assert document["code"] == "invalid"
    assert response.status_code == 400


@pytest.mark.parametrize(
    "query",
    [
        "username=%ED%A0%80",
        "username=%FF%FE",
        "search=%ED%A0%80",
        "search=%25",
        "username=%27%3B%20DROP%20TABLE%20chats_chat%3B--",
        "batch_id=9223372036854775807",
        "before=1",
        "from=9999-12-31T23:59:59Z",
        "to=0001-01-01",
    ],
)
def test_unusual_valid_parameter_matches_nothing(client, query):
    make_chat()
    assert get(client, query).json()["chats"] == []


@pytest.mark.parametrize(
    "query", ["%ff=%fe", "&&&==", "limit", "unknown=1", "limit[]=5", "%00=%00"]
)
def test_unknown_parameter_is_ignored(client, query):
    make_chat(request_id="a")
    assert request_ids(get(client, query)) == ["a"]


def test_thousands_of_parameters_are_refused_with_the_usual_error(client):
    response = get(client, "&".join(f"p{n}=1" for n in range(1500)))
    assert response.json()["code"] == "invalid"
    assert response.status_code == 400


def test_largest_cursor_returns_a_working_link(client):
    make_chat(request_id="a")
    page = get(client, after=str(2**63 - 2)).json()
    assert page["chats"] == []
    assert request_ids(client.get(page["next"])) == ["a"]


def test_post_is_not_allowed(client):
    response = client.post("/v1/chat", {}, content_type="application/json")
    assert response.json()["code"] == "method_not_allowed"
    assert response.status_code == 405


def test_a_closed_gateway_shows_its_chats_to_staff_alone(client, admin_client, settings):
    settings.API_ACCESS = "key"
    make_chat(request_id="secret")
    refused = get(client)
    assert "secret" not in refused.text
    assert refused.json()["code"] == "not_authenticated"
    assert request_ids(get(admin_client)) == ["secret"]


def read_streamed(response) -> dict[str, Any]:
    async def collect() -> bytes:
        return b"".join([part async for part in response])

    return json.loads(asyncio.run(collect()))


@pytest.mark.django_db(transaction=True)
def test_page_of_long_texts_ends_early_and_is_written_in_parts(client, monkeypatch):
    monkeypatch.setattr(row_parts, "MAX_PAGE_BYTES", 400)
    monkeypatch.setattr(row_parts, "MAX_PART_BYTES", 150)
    chats = [make_chat(prompt="\u00e4" * 50, text="b" * size) for size in (60, 1, 70, 80, 500)]
    pages, address = [], "/v1/chat?limit=1000"
    while address:
        page = client.get(address)
        document = read_streamed(page) if page.streaming else page.json()
        pages.append([entry["request"]["request_id"] for entry in document["chats"]])
        assert document["count"] == 5
        address = document["next"]
    names = [chat.request_id for chat in chats]
    assert pages == [names[4:], names[2:4], names[:2]]
    document = read_streamed(client.get(f"/v1/chat?after={chats[0].pk}&limit=3"))
    entries = [describe_chat(chat) for chat in chats[1:3]]
    assert document == {
        "chats": entries,
        "count": 5,
        "next": f"http://testserver/v1/chat?limit=3&before={chats[1].pk}",
        "previous": f"http://testserver/v1/chat?limit=3&after={chats[2].pk}",
    }


def test_search_ends_early_where_texts_are_long(monkeypatch):
    monkeypatch.setattr(row_parts, "MAX_PAGE_BYTES", 250)
    wanted = [make_chat(prompt="wolves " * 10, text="b" * 50).pk for _ in range(3)]
    page = search_chats(ChatFilter(search="wolves"), limit=10)
    assert ([chat.pk for chat in page.chats], page.older) == (wanted[:0:-1], wanted[1])
    page = search_chats(ChatFilter(search="wolves"), limit=10, before=wanted[1])
    assert ([chat.pk for chat in page.chats], page.older) == (wanted[:1], None)


def test_export_reads_long_texts_one_part_at_a_time(monkeypatch):
    monkeypatch.setattr(row_parts, "MAX_PART_BYTES", 250)
    for _ in range(5):
        make_chat(prompt="p" * 60, text="b" * 60)
    assert [len(chats) for chats in walk_chats(ChatFilter())] == [2, 2, 1]
