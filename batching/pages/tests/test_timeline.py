"""The positions on a batch's timeline, and the same in words."""

import re
from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from batching.models import CallKind, CallStatus, Outcome, Trigger
from batching.pages.timeline import MIN_WIDTH, draw_timeline
from batching.tests.rows import make_batch, make_call
from chats.models import Status
from chats.tests.rows import NOON, make_chat

pytestmark = pytest.mark.django_db


def after(seconds: float):
    return NOON + timedelta(seconds=seconds)


@pytest.fixture
def recorded():
    """Ten seconds: ann at 0, bob at 2, the claim at 4; bob's item is retried from 6 to 8."""
    rule = {"window_s": 4.0, "max_batch": 6}
    batch = make_batch(at=after(4), size=2, settings=rule, lateness_ms=2.5, finished_at=after(10))
    ann = make_chat(batch=batch, received_at=after(0), completed_at=after(5), attempt=1)
    times = {"received_at": after(2), "completed_at": after(8), "attempt": 2}
    bob = make_chat(Status.FAILED, batch=batch, username="bob", **times)
    both = {"first_token_ms": 1000, "duration_ms": 2000, "item_ids": [ann.pk, bob.pk]}
    first = make_call(batch, at=after(4), **both)
    failed = {"status": CallStatus.FAILED, "error_code": "blocked", "kind": CallKind.SINGLE}
    second = make_call(batch, at=after(6), attempt=2, item_ids=[bob.pk], duration_ms=2000, **failed)
    return batch, [ann, bob], [first, second]


def draw(recorded, *, now=None):
    batch, chats, calls = recorded
    return draw_timeline(batch, chats=chats, calls=calls, now=now or after(99))


def test_bars_are_at_the_positions_of_their_times(recorded):
    line = draw(recorded)
    positions = [[(s.css, s.x, s.width) for s in t.segments] for t in line.tracks]
    assert positions == [
        [("tone-2", 0, 40), ("tone-3", 40, 10)],
        [("tone-2", 20, 20), ("bad", 40, 40)],
        [("tone-2", 40, 10), ("tone-1", 50, 10)],
        [("bad", 60, 20)],
    ]
    assert (line.claim_x, line.length, line.start) == (40, "10.000 s", after(0))


def test_events_are_listed_in_order(recorded):
    _, _, (first, second) = recorded
    assert [(event.offset, event.text) for event in draw(recorded).events] == [
        ("0.000 s", "ann's request arrived"),
        ("2.000 s", "bob's request arrived"),
        ("4.000 s", "Sent at the end of the window of 4 s, 2.5 ms late, with 2 requests"),
        ("4.000 s", f"Call {first.pk} started (combined, 2 items)"),
        ("5.000 s", f"Call {first.pk}: first token"),
        ("5.000 s", "ann's request: answered"),
        ("6.000 s", f"Call {second.pk} started (single, attempt 2, 1 item)"),
        ("6.000 s", f"Call {first.pk} ended: complete"),
        ("8.000 s", "bob's request: failed (blocked)"),
        ("8.000 s", f"Call {second.pk} ended: failed (blocked)"),
        ("10.000 s", "The batch ended: every request answered"),
    ]


def test_full_batch_says_how_full():
    batch = make_batch(size=6, trigger=Trigger.FULL, settings={"max_batch": 6})
    assert draw((batch, [], [])).claim_text == "Sent full, with 6 of 6 requests"


def test_running_batch_is_drawn_until_now():
    batch = make_batch(at=after(1), outcome=Outcome.RUNNING)
    chat = make_chat(Status.RUNNING, batch=batch)
    call = make_call(batch, status=CallStatus.STARTED, item_ids=[chat.pk])
    line = draw((batch, [chat], [call]), now=after(2))
    assert [(s.css, s.x, s.width) for s in line.tracks[0].segments] == [
        ("tone-2", 0, 50),
        ("tone-1", 50, 50),
    ]
    assert line.tracks[1].text.endswith(", running")
    assert "no answer yet" in line.tracks[0].text
    assert len(line.events) == 3


def test_segment_without_a_duration_can_still_be_seen():
    batch = make_batch(finished_at=NOON)
    call = make_call(batch, status=CallStatus.FAILED)
    [segment] = draw((batch, [], [call])).tracks[0].segments
    assert segment.width == MIN_WIDTH
    assert segment.x + segment.width <= 100


def test_both_pages_draw_the_timeline_and_link_to_its_parts(admin_client, recorded):
    batch, chats, calls = recorded
    for path in (f"/batches/{batch.pk}", f"/admin/batching/batch/{batch.pk}/change/"):
        page = admin_client.get(path).text
        anchors = re.findall(r'<th scope="row"><a href="#([a-z]+-\d+)"', page)
        assert anchors == [f"chat-{c.pk}" for c in chats] + [f"call-{c.pk}" for c in calls]
        assert all(f'id="{anchor}"' in page for anchor in anchors)
        assert page.count("<td>2.000 s</td>") == 1


def test_viewer_without_an_account_gets_no_links_into_the_admin(client, settings, recorded):
    settings.API_ACCESS = "open"
    page = client.get(f"/batches/{recorded[0].pk}").text
    assert "/admin/chats/" not in page
    assert "/admin/batching/" not in page


@pytest.mark.parametrize("number", ["0", "77", "99999999999999999999"])
def test_unknown_batch_is_not_found(client, settings, number):
    settings.API_ACCESS = "open"
    response = client.get(f"/batches/{number}")
    assert "There is no such page" in response.text
    assert response.status_code == 404


def test_page_costs_as_many_queries_for_many_items_as_for_few(client, settings, recorded):
    settings.API_ACCESS = "open"

    def count_queries(batch) -> int:
        with CaptureQueriesContext(connection) as queries:
            client.get(f"/batches/{batch.pk}")
        return len(queries)

    many = make_batch(size=20)
    chats = [make_chat(batch=many) for _ in range(20)]
    for chat in chats:
        make_call(many, item_ids=[chat.pk])
    count_queries(recorded[0])
    assert count_queries(many) == count_queries(recorded[0]) <= 6
