"""Prompts that are not stored, and their digests."""

from datetime import timedelta

import pytest

from chats.clock import CLOCK
from chats.models import Chat, Status
from chats.prompts import blank_prompts, drop_prompts
from chats.services import Wait, cancel_chats, expire_chats
from chats.submission import request_key, submit_chats
from chats.tests.rows import NOON, make_chat
from settings_app.models import GatewaySettings
from settings_app.snapshot import refresh_snapshot

pytestmark = pytest.mark.django_db


@pytest.fixture
def not_stored() -> None:
    GatewaySettings.objects.update(store_prompts=False)
    refresh_snapshot()


def again(chat: Chat, prompt: str) -> Chat:
    """Sends the same request again."""
    return Chat(
        username=chat.username,
        request_id=chat.request_id,
        prompt=prompt,
        priority=chat.priority,
        created_at=NOON,
        received_at=NOON,
        due_at=NOON,
        deadline=NOON + timedelta(seconds=9),
    )


def test_prompts_stay_if_the_settings_keep_them() -> None:
    chat = make_chat(prompt="secret")
    drop_prompts([chat.pk])
    chat.refresh_from_db()
    assert (chat.prompt, chat.prompt_digest) == ("secret", "")


@pytest.mark.usefixtures("not_stored")
def test_prompt_of_an_ended_chat_is_blanked_and_its_answer_stays() -> None:
    done, waiting = make_chat(prompt="secret"), make_chat(Status.QUEUED, prompt="needed")
    drop_prompts([done.pk, waiting.pk])
    done.refresh_from_db()
    waiting.refresh_from_db()
    assert (done.prompt, done.text) == ("", "Because of Rayleigh scattering.")
    assert len(done.prompt_digest) == 64
    assert waiting.prompt == "needed"


@pytest.mark.usefixtures("not_stored")
def test_prompts_of_cancelled_and_expired_chats_are_blanked() -> None:
    cancelled, expired = make_chat(Status.QUEUED), make_chat(Status.QUEUED)
    cancel_chats([cancelled.pk], now=NOON, code="cancelled", detail="")
    waits = {expired.pk: Wait(expired.generation, expired.deadline - expired.received_at)}
    expire_chats(waits, check_clock=True, code="timeout", detail="")
    assert list(Chat.objects.values_list("prompt", flat=True)) == ["", ""]


def test_request_whose_deadline_has_not_passed_does_not_expire() -> None:
    chat = make_chat(Status.QUEUED, received_at=CLOCK.now())
    waits = {chat.pk: Wait(chat.generation, chat.deadline - chat.received_at)}
    assert expire_chats(waits, check_clock=True, code="timeout", detail="") == []
    chat.refresh_from_db()
    assert (chat.status, chat.prompt != "") == (Status.QUEUED, True)


def test_repeated_request_is_recognised_by_the_digest_of_its_prompt() -> None:
    chat = make_chat(prompt="secret")
    assert blank_prompts([chat.pk]) == 1
    assert blank_prompts([chat.pk]) == 0
    named = {request_key(chat)}
    (same,) = submit_chats([again(chat, "secret")], named=named)
    assert same is not None
    assert (same.chat.pk, same.fresh) == (chat.pk, False)
    assert submit_chats([again(chat, "another")], named=named) == [None]
    assert submit_chats([again(chat, "")], named=named) == [None]


def test_failed_request_that_is_sent_again_stores_its_prompt_again() -> None:
    chat = make_chat(Status.FAILED, prompt="secret")
    blank_prompts([chat.pk])
    (taken,) = submit_chats([again(chat, "secret")], named={request_key(chat)})
    assert taken is not None
    assert taken.fresh
    chat.refresh_from_db()
    assert (chat.status, chat.prompt, chat.prompt_digest) == (Status.QUEUED, "secret", "")
