"""Requests that are stored together: one that cannot be stored does not affect the others."""

from datetime import timedelta
from typing import Any

import pytest
from django.db import IntegrityError

from chats.models import Chat
from chats.submission import Submission, find_stored, request_key, submit_chats
from chats.tests.rows import NOON
from settings_app.models import Priority

# A foreign key is checked when the transaction ends.
pytestmark = pytest.mark.django_db(transaction=True)

NOBODY = 987_654


def new_chat(request_id: str, **columns: Any) -> Chat:
    times = dict.fromkeys(("created_at", "received_at", "due_at"), NOON)
    values = {"username": "ann", "prompt": "Why?", "priority": Priority.HIGH} | times
    values["deadline"] = NOON + timedelta(seconds=30)
    return Chat(**(values | {"request_id": request_id} | columns))


def submit(*chats: Chat) -> list[Any]:
    return submit_chats(chats, named={request_key(chat) for chat in chats})


def test_request_that_cannot_be_stored_is_refused_alone() -> None:
    results = submit(new_chat("a"), new_chat("bad", client_id=NOBODY), new_chat("c"))
    assert isinstance(results[1], IntegrityError)
    assert [result.chat.request_id for result in results if isinstance(result, Submission)] == [
        "a",
        "c",
    ]
    assert set(Chat.objects.values_list("request_id", flat=True)) == {"a", "c"}


def test_client_is_counted_once_if_its_group_is_stored_one_by_one() -> None:
    results = submit(new_chat("a"), new_chat("a"), new_chat("bad", client_id=NOBODY))
    assert [result.fresh for result in results[:2]] == [True, False]
    chat = Chat.objects.get()
    assert chat.waiters == 2
    assert results[0].chat.pk == results[1].chat.pk == chat.pk


def test_request_is_kept_for_all_that_a_joined_client_wishes() -> None:
    submit(new_chat("a"))
    submit(new_chat("a", respond_async=True, streamed=True))
    submit(new_chat("a"))
    chat = Chat.objects.get()
    assert (chat.respond_async, chat.streamed, chat.waiters) == (True, True, 3)


def test_requests_of_a_group_keep_their_order_whatever_their_ids() -> None:
    names = ["z", "b", "y", "a", "x"]
    submit(*(new_chat(name) for name in names))
    assert list(Chat.objects.order_by("pk").values_list("request_id", flat=True)) == names


def test_stored_request_is_found_by_its_generation() -> None:
    stored = new_chat("a")
    submit(stored)
    again = new_chat("a", received_at=NOON + timedelta(seconds=1))
    assert find_stored([new_chat("b"), again, stored]) == [(stored.pk, stored.generation)]
