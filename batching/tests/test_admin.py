"""The admin shows chats, batches, calls and days, and permits no change of them."""

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from batching.analytics.rollup import roll_up_pending
from batching.models import Batch, DailyStat
from batching.tests.admin_pages import open_list, open_record
from batching.tests.rows import make_batch, make_call
from chats.models import Chat, Status
from chats.tests.rows import NOON, make_chat

pytestmark = pytest.mark.django_db

RECORDS = ["chats_chat", "batching_batch", "batching_modelcall", "batching_dailystat"]


@pytest.fixture
def batch():
    batch = make_batch(size=2)
    make_chat(batch=batch, username="ann", request_id="first")
    make_chat(Status.FAILED, batch=batch, username="<b>bob</b>", request_id="second")
    make_call(batch, reply="the raw reply")
    roll_up_pending()
    return batch


def test_the_list_of_chats_names_them_and_links_to_their_batch(admin_client, batch):
    page = open_list(admin_client, "chats_chat")
    assert "first" in page
    assert "&lt;b&gt;bob&lt;/b&gt;" in page
    assert reverse("admin:batching_batch_change", args=[batch.pk]) in page


@pytest.mark.parametrize(
    ("query", "shown", "hidden"),
    [
        ("?q=ann", "first", "second"),
        ("?q=second", "second", "first"),
        ("?status__exact=failed", "second", "first"),
        ("?priority__exact=2", "0 chats", "second"),
    ],
)
def test_chats_are_found_by_name_status_and_priority(admin_client, batch, query, shown, hidden):
    page = open_list(admin_client, "chats_chat", query)
    assert shown in page
    assert hidden not in page


def test_a_batch_shows_its_chats_and_calls_with_links(admin_client, batch):
    page = open_record(admin_client, batch)
    for chat in batch.chats.all():
        assert reverse("admin:chats_chat_change", args=[chat.pk]) in page
    [call] = batch.calls.all()
    assert reverse("admin:batching_modelcall_change", args=[call.pk]) in page


def test_a_chat_and_a_call_lead_back_to_their_batch(admin_client, batch):
    address = reverse("admin:batching_batch_change", args=[batch.pk])
    assert address in open_record(admin_client, batch.chats.first())
    call_page = open_record(admin_client, batch.calls.get())
    assert address in call_page
    assert "the raw reply" in call_page


def test_a_day_shows_its_numbers(admin_client, batch):
    assert "2026-03-10" in open_list(admin_client, "batching_dailystat")
    assert "blocked" in open_record(admin_client, DailyStat.objects.get(day=NOON.date()))


@pytest.mark.parametrize("name", RECORDS)
def test_nobody_adds_changes_or_deletes_a_record(admin_client, batch, name):
    rows = {row: row.objects.count() for row in (Chat, Batch, DailyStat)}
    examples = [batch, batch.chats.first(), batch.calls.get(), DailyStat.objects.get()]
    [pk] = [row.pk for row in examples if row._meta.label_lower == name.replace("_", ".")]
    refused = [
        admin_client.post(reverse(f"admin:{name}_add"), {}),
        admin_client.post(reverse(f"admin:{name}_change", args=[pk]), {}),
        admin_client.post(reverse(f"admin:{name}_delete", args=[pk]), {"post": "yes"}),
    ]
    assert {row: row.objects.count() for row in rows} == rows
    assert [response.status_code for response in refused] == [403, 403, 403]


def test_the_delete_action_is_not_offered(admin_client, batch):
    admin_client.post(
        reverse("admin:chats_chat_changelist"),
        {"action": "delete_selected", "_selected_action": [batch.chats.first().pk], "post": "yes"},
    )
    assert Chat.objects.count() == 2


def test_a_list_costs_the_same_few_queries_for_more_rows(admin_client, batch):
    def count_queries(name: str) -> int:
        with CaptureQueriesContext(connection) as queries:
            open_list(admin_client, name)
        return len(queries)

    count_queries("chats_chat")  # reads the settings into memory
    few = {name: count_queries(name) for name in RECORDS}
    for _ in range(10):
        make_call(make_batch())
        make_chat(batch=batch)
    assert {name: count_queries(name) for name in RECORDS} == few
    assert max(few.values()) <= 8
