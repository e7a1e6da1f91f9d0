"""The admin's page of a batch, and the dates, the search and the filters of its lists."""

from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from batching.analytics.rollup import roll_up_pending
from batching.models import CallKind, CallStatus
from batching.templatetags.figures import MAX_SHOWN_CHARACTERS, shorten
from batching.tests.admin_pages import open_list, open_record
from batching.tests.rows import make_batch, make_call
from chats.models import Status
from chats.tests.rows import NOON, make_chat

pytestmark = pytest.mark.django_db


@pytest.fixture
def stored_batch():
    """Two items in one combined call; a second call for the second item alone was blocked."""
    batch = make_batch(size=2)
    first = make_chat(
        batch=batch,
        prompt="Why <i>blue</i>?",
        text="Rayleigh & co.",
        queue_ms=1234,
        latency_ms=2345,
        tokens_used=77,
        usage={"estimated": True},
        attempt=1,
        settled_prompt=11,
        settled_output=22,
        settled_thoughts=33,
        settled_cached=4,
    )
    second = make_chat(
        Status.FAILED, batch=batch, prompt="Something bad", error_detail="It was blocked."
    )
    combined = make_call(
        batch,
        item_ids=[first.pk, second.pk],
        prompt="RULES {the combined prompt}",
        reply='{"0_x": "Rayleigh & co."',
        prompt_tokens=100,
        output_tokens=200,
        estimated=True,
        first_token_ms=150,
        duration_ms=1500,
        finish_reason="SAFETY",
    )
    single = make_call(
        batch,
        kind=CallKind.SINGLE,
        attempt=2,
        item_ids=[second.pk],
        status=CallStatus.FAILED,
        error_code="blocked",
        error_detail="The prompt was blocked.",
        perhaps_billed=True,
    )
    roll_up_pending()
    return batch, first, second, combined, single


def article(page: str, anchor: str) -> str:
    return page.partition(f'<article id="{anchor}">')[2].partition("</article>")[0]


def test_batch_shows_each_prompt_beside_its_answer(admin_client, stored_batch):
    batch, first, second, combined, single = stored_batch
    page = open_record(admin_client, batch)
    shown = article(page, f"chat-{first.pk}")
    assert "Why &lt;i&gt;blue&lt;/i&gt;?" in shown
    assert "Rayleigh &amp; co." in shown
    for fact in ("1,234 ms", "2,345 ms", "77 (estimated)", ">11<", ">22<", ">33<", ">4<", "Done"):
        assert fact in shown
    assert f'href="#call-{combined.pk}"' in shown
    assert f'href="#call-{single.pk}"' not in shown
    failed = article(page, f"chat-{second.pk}")
    assert "Something bad" in failed
    assert "It was blocked." in failed
    assert f'href="#call-{single.pk}"' in failed


def test_batch_shows_every_call_with_prompt_reply_and_times(admin_client, stored_batch):
    batch, _, _, combined, single = stored_batch
    page = open_record(admin_client, batch)
    shown = article(page, f"call-{combined.pk}")
    for fact in ("RULES {the combined prompt}", "Combined prompt", "150 ms", "1,500 ms", "SAFETY"):
        assert fact in shown
    assert "200 (estimated)" in shown
    assert "{&quot;0_x&quot;: &quot;Rayleigh &amp; co.&quot;" in shown
    retried = article(page, f"call-{single.pk}")
    for fact in ("attempt 2", "failed: blocked", "The prompt was blocked.", "yes", "Not stored."):
        assert fact in retried


def test_chats_and_calls_lead_to_each_other(admin_client, stored_batch):
    _, first, second, combined, single = stored_batch
    call_page = open_record(admin_client, combined)
    for chat in (first, second):
        assert reverse("admin:chats_chat_change", args=[chat.pk]) in call_page
    chat_page = open_record(admin_client, first)
    assert reverse("admin:batching_modelcall_change", args=[combined.pk]) in chat_page
    assert reverse("admin:batching_modelcall_change", args=[single.pk]) not in chat_page


def test_batch_page_costs_the_same_queries_for_more_items_and_calls(admin_client, stored_batch):
    batch, *_ = stored_batch

    def count_queries() -> int:
        with CaptureQueriesContext(connection) as queries:
            open_record(admin_client, batch)
        return len(queries)

    count_queries()  # reads what Django keeps in memory
    few = count_queries()
    for _ in range(5):
        make_call(batch, item_ids=[make_chat(batch=batch).pk])
    assert count_queries() == few


def test_unknown_batch_redirects_to_the_index(admin_client):
    response = admin_client.get("/admin/batching/batch/99/change/")
    assert response.status_code == 302


def test_very_long_text_is_cut_on_the_batch_page_with_a_note():
    assert shorten("x" * MAX_SHOWN_CHARACTERS) == "x" * MAX_SHOWN_CHARACTERS
    assert shorten("x" * (MAX_SHOWN_CHARACTERS + 1500)).endswith(
        "… 1,500 more characters; its record has them all"
    )


@pytest.mark.parametrize("name", ["batching_batch", "batching_modelcall", "chats_chat"])
def test_records_are_found_by_number_and_other_text_finds_nothing(admin_client, stored_batch, name):
    batch, first, _, combined, _ = stored_batch
    pk = {"batching_batch": batch, "batching_modelcall": combined, "chats_chat": first}[name].pk
    page = reverse(f"admin:{name}_change", args=[pk])
    assert page in open_list(admin_client, name, f"?q={pk}")
    for nonsense in ("abc", "99999999999999999999999", "²", "-1", "1%202"):
        assert page not in open_list(admin_client, name, f"?q={nonsense}")


def test_calls_are_found_by_the_number_of_their_batch(admin_client):
    wanted = make_call(make_batch(pk=7001))
    other = make_call(make_batch(pk=7002))
    page = open_list(admin_client, "batching_modelcall", "?q=7001")
    assert reverse("admin:batching_modelcall_change", args=[wanted.pk]) in page
    assert reverse("admin:batching_modelcall_change", args=[other.pk]) not in page


def list_dates(page: str) -> list[str]:
    links = page.partition('<nav class="toplinks">')[2].partition("</nav>")[0]
    return [part.partition("<")[0] for part in links.split('">')[1:]]


@pytest.fixture
def calendar():
    for days in (0, 1, 40, 400):
        make_chat(received_at=NOON - timedelta(days=days))
    roll_up_pending()


@pytest.mark.usefixtures("calendar")
def test_dates_of_a_list_go_from_years_to_days(admin_client):
    def dates(query: str = "") -> list[str]:
        return list_dates(open_list(admin_client, "chats_chat", query))

    year = "?received_at__year=2026"
    assert dates() == ["2025", "2026"]
    assert dates(year) == ["&lsaquo; All dates", "January 2026", "March 2026"]
    month = f"{year}&received_at__month=3"
    assert dates(month) == ["&lsaquo; 2026", "March 9", "March 10"]
    assert dates(f"{month}&received_at__day=9") == ["&lsaquo; March 2026"]
    assert "2 chats" in open_list(admin_client, "chats_chat", month)


@pytest.mark.usefixtures("calendar")
def test_date_links_are_found_without_scanning_the_large_table(admin_client):
    with CaptureQueriesContext(connection) as queries:
        open_list(admin_client, "chats_chat")
    asked = [query["sql"].lower() for query in queries if "chats_chat" in query["sql"]]
    assert asked
    assert not [sql for sql in asked if "distinct" in sql or "min(" in sql or '"prompt"' in sql]


def test_single_year_is_not_offered_as_a_choice(admin_client):
    for days in (0, 1, 40):
        make_chat(received_at=NOON - timedelta(days=days))
    roll_up_pending()
    page = open_list(admin_client, "chats_chat")
    assert list_dates(page) == ["January 2026", "March 2026"]
