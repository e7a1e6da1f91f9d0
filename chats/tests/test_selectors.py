"""The contents and order of pages of chats, and the links between them."""

from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from chats.models import Chat, Status
from chats.selectors import ChatFilter, list_chats, list_matching
from chats.tests.rows import NOON, make_chat
from settings_app.models import Priority

pytestmark = pytest.mark.django_db

EVERY = ChatFilter()


def ids(page) -> list[int]:
    return [chat.pk for chat in page.chats]


def found(**columns) -> list[str]:
    return [chat.request_id for chat in list_chats(ChatFilter(**columns)).chats]


def walk_older(*, limit: int) -> list[list[int]]:
    pages, before = [], None
    while not pages or before is not None:
        page = list_chats(EVERY, limit=limit, before=before)
        pages.append(ids(page))
        before = page.older
    return pages


def test_the_most_recent_chat_is_last():
    made = [make_chat().pk for _ in range(3)]
    assert ids(list_chats(EVERY)) == made


def test_the_default_page_is_the_newest_hundred():
    made = [make_chat().pk for _ in range(101)]
    page = list_chats(EVERY)
    assert ids(page) == made[1:]
    assert (page.count, page.older, page.newer) == (101, made[1], None)


def test_page_with_every_chat_has_no_links():
    for _ in range(3):
        make_chat()
    page = list_chats(EVERY, limit=3)
    assert (page.older, page.newer) == (None, None)


def test_older_pages_contain_every_chat_once():
    made = [make_chat().pk for _ in range(7)]
    assert walk_older(limit=3) == [made[4:], made[1:4], made[:1]]


def test_newer_pages_contain_the_same_chats():
    made = [make_chat().pk for _ in range(7)]
    page = list_chats(EVERY, limit=3, after=made[0])
    assert (ids(page), page.older, page.newer) == (made[1:4], made[1], made[3])
    page = list_chats(EVERY, limit=3, after=page.newer)
    assert (ids(page), page.older, page.newer) == (made[4:], made[4], None)


def test_new_chats_do_not_shift_the_pages():
    made = [make_chat().pk for _ in range(6)]
    newest = list_chats(EVERY, limit=3)
    late = [make_chat().pk for _ in range(4)]
    older = list_chats(EVERY, limit=3, before=newest.older)
    assert ids(newest) + ids(older) == made[3:] + made[:3]
    assert ids(list_chats(EVERY, after=newest.chats[-1].pk)) == late
    assert older.newer == made[2]


def test_chat_that_finishes_late_is_listed_in_the_order_of_ids():
    first, running, last = make_chat(), make_chat(Status.RUNNING), make_chat()
    assert ids(list_chats(EVERY)) == [first.pk, last.pk]
    Chat.objects.filter(pk=running.pk).update(status=Status.DONE, text="Late.")
    assert ids(list_chats(EVERY)) == [first.pk, running.pk, last.pk]


@pytest.mark.parametrize("cursor", [{"before": 1}, {"after": 10**9}])
def test_empty_page_links_back_to_the_chats(cursor):
    made = [make_chat().pk for _ in range(3)]
    page = list_chats(EVERY, **cursor)
    assert (page.chats, page.count) == ([], 3)
    back = {"after": page.newer} if "before" in cursor else {"before": page.older}
    assert ids(list_chats(EVERY, **back)) == made


def test_page_without_chats_has_no_links():
    page = list_chats(EVERY)
    assert (page.chats, page.count, page.older, page.newer) == ([], 0, None, None)


def test_only_finished_chats_are_listed_and_counted_without_a_status():
    finals = [Status.DONE, Status.FAILED, Status.CANCELLED, Status.EXPIRED]
    made = [make_chat(status).pk for status in [Status.QUEUED, *finals, Status.RUNNING]]
    page = list_chats(EVERY)
    assert ids(page) == made[1:5]
    assert page.count == 4


@pytest.mark.parametrize("status", Status)
def test_status_lists_and_counts_only_its_chats(status):
    made = {each: make_chat(each).pk for each in Status}
    page = list_chats(ChatFilter(status=status))
    assert (ids(page), page.count) == ([made[status]], 1)


def test_each_filter_narrows_page_and_count():
    make_chat(request_id="a", username="ann", priority=Priority.HIGH)
    make_chat(request_id="b", username="bob", priority=Priority.HIGH)
    make_chat(request_id="c", username="bob", priority=Priority.LOW)
    make_chat(Status.QUEUED, request_id="d", username="bob", priority=Priority.HIGH)
    assert found(username="bob") == ["b", "c"]
    assert found(priority=Priority.HIGH) == ["a", "b"]
    assert found(priority=Priority.LOW) == ["c"]
    assert found(username="bob", priority=Priority.HIGH) == ["b"]
    assert list_chats(ChatFilter(username="bob")).count == 2
    assert list_chats(ChatFilter(priority=Priority.HIGH)).count == 2


def test_time_range_includes_its_start_and_excludes_its_end():
    for number in range(3):
        make_chat(request_id=str(number), received_at=NOON + timedelta(hours=number))
    one, two = NOON + timedelta(hours=1), NOON + timedelta(hours=2)
    assert found(received_from=one) == ["1", "2"]
    assert found(received_until=two) == ["0", "1"]
    assert found(received_from=one, received_until=two) == ["1"]
    assert list_chats(ChatFilter(received_from=one, received_until=two)).count == 1


def test_search_finds_a_part_of_prompt_or_answer_in_any_case():
    make_chat(request_id="a", prompt="About Wolves", text="They howl.")
    make_chat(request_id="b", prompt="About owls", text="Owls fly, wolves do not.")
    make_chat(Status.FAILED, request_id="c", prompt="No WOLVES here")
    make_chat(request_id="d", prompt="About cats", text="They purr.")
    assert found(search="wolves") == ["a", "b", "c"]
    assert list_chats(ChatFilter(search="wolves")).count == 3


def test_search_ignores_the_case_of_other_alphabets():
    make_chat(request_id="a", prompt="Ärger im Büro")
    make_chat(request_id="b", prompt="Äpfel und Öl")
    assert found(search="äpfel und öl") == ["b"]
    assert found(search="ärger im büro") == ["a"]
    assert found(search="äRGER") == ["a"]
    assert found(search="BÜRO") == ["a"]
    assert found(search="BÖRO") == []


@pytest.mark.parametrize("search", ["50% off_", "a\\b", "(é.*", "'; --"])
def test_search_takes_every_character_literally(search):
    make_chat(request_id="a", prompt=f"say {search} now")
    make_chat(request_id="b", prompt="50 per cent off a b (e)")
    assert found(search=search) == ["a"]


@pytest.mark.parametrize(("cursor", "most"), [({}, 3), ({"before": 10**6}, 4), ({"after": 1}, 4)])
def test_number_of_queries_does_not_depend_on_the_page(cursor, most):
    for _ in range(20):
        make_chat()
    with CaptureQueriesContext(connection) as queries:
        page = list_chats(ChatFilter(username="ann"), **cursor)
        assert [chat.text for chat in page.chats]
    assert len(queries) == most


@pytest.mark.skipif(connection.vendor != "sqlite", reason="it is SQLite's planner that needs help")
def test_errors_of_a_lane_are_found_by_their_status():
    which = ChatFilter(error_code="blocked", priority=Priority.HIGH)
    plan = list_matching(which).order_by("-pk").explain()
    assert "chat_status" in plan
    assert "chat_priority" not in plan


def test_count_of_a_time_range_with_other_filters_may_stop_at_a_bound():
    for _ in range(4):
        make_chat(username="ann")
    make_chat(Status.QUEUED)
    which = ChatFilter(username="ann", received_from=NOON)
    page = list_chats(which, count_upto=3)
    assert (page.count, page.is_cut, len(page.chats)) == (3, True, 4)
    page = list_chats(which, count_upto=4)
    assert (page.count, page.is_cut) == (4, False)
    exact = list_chats(ChatFilter(received_from=NOON), count_upto=1)
    assert (exact.count, exact.is_cut) == (4, False), "the index alone answers it"


@pytest.mark.skipif(connection.vendor != "sqlite", reason="it is SQLite's planner that needs help")
def test_rare_status_in_a_time_range_is_found_by_its_index():
    plan = list_matching(ChatFilter(status=Status.FAILED, received_from=NOON)).explain()
    assert "chat_status" in plan
