"""The cached row count stays correct when rows are added and deleted."""

import random

import pytest

from chats import row_count
from chats.models import Chat, Status
from chats.row_count import count_stored
from chats.tests.rows import make_chat
from settings_app.services import announce_change
from settings_app.snapshot import refresh_snapshot

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _few_are_recounted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_count, "RECOUNTED_IDS", 3)
    row_count._count_older.cache_clear()


def test_count_includes_new_rows_and_excludes_deleted_ones() -> None:
    chance, chats = random.Random(1), []
    assert count_stored() == 0
    for _ in range(60):
        if chance.random() < 0.6:
            chats.append(make_chat(Status.DONE))
        elif chats:
            chats.pop(0).delete()  # the oldest, as the retention does
        assert count_stored() == Chat.objects.count() == len(chats)


def test_deletion_in_the_middle_is_noticed_when_it_is_announced() -> None:
    chats = [make_chat(Status.DONE) for _ in range(20)]
    assert count_stored() == 20
    chats[5].delete()
    announce_change()
    refresh_snapshot()
    assert count_stored() == 19


def test_unannounced_deletion_is_noticed_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    chats = [make_chat(Status.DONE) for _ in range(20)]
    assert count_stored() == 20
    chats[5].delete()
    later = row_count.time.monotonic() + row_count.CACHE_S + 1
    monkeypatch.setattr(row_count.time, "monotonic", lambda: later)
    assert count_stored() == 19


def test_old_rows_are_not_counted_again(django_assert_num_queries: object) -> None:
    for _ in range(20):
        make_chat(Status.DONE)
    count_stored()
    with django_assert_num_queries(2) as captured:
        assert count_stored() == 20
    assert any("COUNT" in q["sql"] and '"id" > ' in q["sql"] for q in captured.captured_queries)
