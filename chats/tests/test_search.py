"""The text search finds every match, however many ranges it reads."""

import re
from datetime import timedelta
from html import unescape
from itertools import count

import pytest

from chats import search
from chats.id_ranges import MAX_ID
from chats.models import Chat, Status
from chats.search import search_chats
from chats.selectors import ChatFilter
from chats.tests.rows import NOON, make_chat

pytestmark = pytest.mark.django_db

WOLVES = ChatFilter(search="wolves")


@pytest.fixture(autouse=True)
def _short_ranges(monkeypatch, settings):
    monkeypatch.setattr(search, "FIRST_RANGE", 3)
    monkeypatch.setattr(search, "MAX_GROWTH", 1)
    settings.API_ACCESS = "open"


def make_chats(matching: str) -> list[int]:
    """Stores one chat per character; each `w` is about wolves. Returns their ids, newest first."""
    wolves = []
    for minute, character in enumerate(matching):
        prompt = "Of Wolves" if character == "w" else "Of sheep"
        chat = make_chat(prompt=prompt, received_at=NOON + timedelta(minutes=minute))
        wolves += [chat.pk] if character == "w" else []
    return wolves[::-1]


def ids(page) -> list[int]:
    return [chat.pk for chat in page.chats]


def test_everything_is_searched_within_the_time():
    wolves = make_chats("w......w..w")
    page = search_chats(WOLVES, limit=10, clock=lambda: 0.0)
    assert (ids(page), page.older, page.reached) == (wolves, None, None)


def test_search_stops_when_its_time_is_over_and_continues_there():
    wolves = make_chats("w......w..w")
    steps, before = [], None
    while before != "end":
        clock = count()  # Each reading is a second later, so a search reads one range.
        cursor = {} if before is None else {"before": before}
        page = search_chats(WOLVES, limit=10, budget_s=1, clock=lambda c=clock: next(c), **cursor)
        steps.append((ids(page), page.reached))
        before = page.older or "end"
    assert [pk for found, _ in steps for pk in found] == wolves
    assert [reached for _, reached in steps] == [
        *(NOON + timedelta(minutes=minute) for minute in (8, 5, 2)),
        None,
    ]


@pytest.mark.parametrize(
    ("took_s", "left_s", "size"),
    [
        (0.0, 0.2, 4000),  # too short to be measured
        (0.001, 0.2, 4000),  # fast, and yet not all at once
        (0.05, 0.15, 1500),
        (0.1, 0.1, 500),  # long texts
        (3.0, 0.001, 1),
    ],
)
def test_ranges_grow_and_shrink_with_the_time_they_take(monkeypatch, took_s, left_s, size):
    monkeypatch.setattr(search, "MAX_GROWTH", 4)
    assert search._next_size(1000, took_s=took_s, left_s=left_s) == size


def test_full_page_continues_without_losing_a_match():
    wolves = make_chats("wwwwwww.w")
    seen, before = [], MAX_ID
    while before:
        page = search_chats(WOLVES, limit=2, before=before, clock=lambda: 0.0)
        assert len(page.chats) <= 2
        seen, before = seen + ids(page), page.older
    assert seen == wolves


def test_other_filters_apply_and_open_requests_are_excluded():
    late = make_chat(prompt="wolves", username="bob", received_at=NOON + timedelta(days=9))
    make_chat(Status.QUEUED, prompt="wolves")
    make_chat(prompt="wolves", received_at=NOON - timedelta(days=9))
    which = ChatFilter(search="wolves", received_from=NOON, username="bob")
    assert ids(search_chats(which, limit=9)) == [late.pk]
    assert ids(search_chats(ChatFilter(search="wolves", received_from=NOON), limit=9)) == [late.pk]


def test_search_of_an_empty_range_finds_nothing():
    assert search_chats(WOLVES, limit=9) == search.SearchPage([], None)
    (wolf,) = make_chats("w")
    assert ids(search_chats(WOLVES, limit=9, before=wolf)) == []


def words(page: str) -> str:
    status = re.search(r'class="results">\s*<p role="status">(.*?)</p>', page, re.S)[1]
    return " ".join(unescape(re.sub(r"<[^>]+>", "", status)).split())


def test_page_says_how_far_it_searched_and_links_further_back(client, monkeypatch):
    monkeypatch.setattr(search, "BUDGET_S", 0.0)
    monkeypatch.setitem(search_chats.__kwdefaults__, "budget_s", 0.0)
    make_chats("w......w..w")
    page = client.get("/chats?search=wolves").text
    assert words(page).startswith("1 found among the chats since 2026-03-10 12:08:00 UTC;")
    for _ in range(3):
        link = re.search(r'rel="next" href="([^"]+)">Search further back', page)
        page = client.get(f"/chats{unescape(link[1])}").text
    assert words(page) == "1 more; these are the oldest."
    assert 'rel="next"' not in page


def test_page_counts_the_matches_of_a_complete_search(client):
    make_chats("ww.w")
    assert words(client.get("/chats?search=wolves").text) == "3 chats match"
    assert "No chat matches." in client.get("/chats?search=bears").text
    first = client.get("/chats?search=wolves&limit=2").text
    assert words(first) == "The newest 2 that match."
    newest = Chat.objects.latest("pk").pk
    assert words(client.get(f"/chats?search=wolves&before={newest}").text).startswith("2 more")
