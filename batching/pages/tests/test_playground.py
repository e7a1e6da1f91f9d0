"""The playground's page, and its look-up of batches."""

import pytest
from django.contrib.auth import get_user_model

from batching.tests.rows import make_batch, make_call
from chats.models import Status
from chats.tests.rows import make_chat
from settings_app.models import Lane, Priority
from settings_app.snapshot import refresh_snapshot

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("path", ["/playground", "/playground/batches"])
def test_only_staff_may_open_it_if_access_needs_a_key(client, settings, path):
    settings.API_ACCESS = "key"
    assert client.get(path)["Location"] == f"/admin/login/?next={path}"
    client.force_login(get_user_model().objects.create_user("bob"))
    assert client.get(path).status_code == 302
    client.force_login(get_user_model().objects.create_user("ann", is_staff=True))
    assert client.get(path).status_code == 200
    settings.API_ACCESS = "open"
    client.logout()
    assert client.get(path).status_code == 200
    assert client.post(path).status_code == 405


def test_page_holds_the_username_and_whether_a_program_needs_a_key(client, settings):
    settings.API_ACCESS = "open"
    page = client.get("/playground").text
    assert 'value="demo"' in page
    assert "data-needs-key" not in page
    settings.API_ACCESS = "key"
    client.force_login(get_user_model().objects.create_user("ann", is_staff=True))
    page = client.get("/playground").text
    assert 'value="ann"' in page
    assert "data-needs-key" in page


def test_page_describes_the_lanes_by_their_settings(client, settings):
    settings.API_ACCESS = "open"
    Lane.objects.filter(priority=Priority.LOW).update(window_s=7.5, max_batch=3, latency_ms=9000)
    refresh_snapshot()
    page = client.get("/playground").text
    assert "A request waits at most 7.5 s for others; a full batch leaves at once." in page
    assert "At most 3 requests share one model call." in page
    assert 'data-patience="39.0"' in page


def test_look_up_returns_the_batches_with_their_sizes_and_calls(
    client, settings, django_assert_num_queries
):
    settings.API_ACCESS = "open"
    batch, other = make_batch(size=2), make_batch(size=1)
    for asked in (batch, batch, other):
        make_call(asked)
    make_chat(batch=batch, request_id="one")
    make_chat(batch=batch, request_id="two")
    make_chat(batch=other, request_id="not asked for")
    make_chat(Status.QUEUED, request_id="waits")
    with django_assert_num_queries(2):
        reply = client.get("/playground/batches?id=one&id=two&id=waits&id=nobody&id=a%00b")
    assert reply.json() == {
        "requests": {"one": batch.pk, "two": batch.pk},
        "batches": {str(batch.pk): {"size": 2, "calls": 2}},
    }
    assert "no-store" in reply["Cache-Control"]


def test_look_up_takes_twenty_requests_at_most(client, settings):
    settings.API_ACCESS = "open"
    batch = make_batch(size=21)
    for number in range(21):
        make_chat(batch=batch, request_id=f"n{number}")
    asked = "&".join(f"id=n{number}" for number in range(21))
    assert len(client.get(f"/playground/batches?{asked}").json()["requests"]) == 20
