"""Stores accepted requests, or joins them to earlier ones with the same request id."""

from collections.abc import Sequence
from dataclasses import dataclass

from django.db import IntegrityError, transaction
from django.db.models import F

from chats.bulk_sql import BulkInsert
from chats.models import OPEN_STATUSES, Chat, Status
from chats.prompts import is_prompt_of

# The client's id, the username and the request id. Together they are unique.
RequestKey = tuple[int | None, str, str]

MAX_WAITERS = 32_000  # The column holds at most 32 767.
_INSERT = BulkInsert(Chat)
# When a request is sent again, its row takes these values from the new chat, which is queued.
_RENEWED = [
    *("prompt", "prompt_digest", "created_at", "received_at", "due_at", "deadline", "origin"),
    *("waiters", "streamed", "status", "dispatched_at", "completed_at", "batch", "attempt"),
    *("owner", "lease_until", "latency_ms", "queue_ms", "error_code", "error_detail", "suspect"),
    "rolled_up",
]


@dataclass(frozen=True, slots=True)
class Submission:
    """The row that will answer a request; `fresh` if it enters the queue for it."""

    chat: Chat
    fresh: bool


def submit_chats(chats: Sequence[Chat], *, named: set[RequestKey]) -> list[Submission | None]:
    """Stores requests in one transaction; returns None for each one that was refused.

    `named` are the keys whose request id the client chose. If a row with such a key exists, the
    request joins it: it waits with the open request or gets the stored answer. A request that
    failed, expired or was cancelled is queued again. A request with another prompt or priority
    than the row is refused.
    """
    try:
        with transaction.atomic():
            return _accept(chats, _lock_existing(named))
    except IntegrityError:
        # Another process has inserted one of the keys since. Each row is now found or stored alone.
        accepted: list[Submission | None] = []
        for chat in chats:
            with transaction.atomic():
                accepted += _accept([chat], _lock_existing({request_key(chat)}))
        return accepted


def request_key(chat: Chat) -> RequestKey:
    return (chat.client_id, chat.username, chat.request_id)


def _lock_existing(named: set[RequestKey]) -> dict[RequestKey, Chat]:
    if not named:
        return {}
    clients, usernames, request_ids = (set(column) for column in zip(*named, strict=True))
    rows = (
        Chat.objects.select_for_update(of=("self",))
        .filter(client__in=clients, username__in=usernames, request_id__in=request_ids)
        .annotate(batch_size=F("batch__size"))
    )
    return {request_key(chat): chat for chat in rows if request_key(chat) in named}


def _accept(chats: Sequence[Chat], existing: dict[RequestKey, Chat]) -> list[Submission | None]:
    known, inserts = dict(existing), []
    accepted: list[Submission | None] = []
    for chat in chats:
        key = request_key(chat)
        held = known.get(key)
        if held is None:
            known[key] = chat
            inserts.append(chat)
            accepted.append(Submission(chat, fresh=True))
        elif held.priority != chat.priority or not is_prompt_of(held, chat.prompt):
            accepted.append(None)
        else:
            accepted.append(Submission(held, fresh=_take_up(held, chat)))
    _INSERT.run(inserts)
    return accepted


def _take_up(held: Chat, chat: Chat) -> bool:
    """Makes the row answer one more request; returns True if the row entered the queue for it."""
    if held.status == Status.DONE:
        return False
    if held.status in OPEN_STATUSES:
        held.waiters = min(held.waiters + 1, MAX_WAITERS)
        held.deadline = max(held.deadline, chat.deadline)
        held.streamed |= chat.streamed  # This takes effect if the row is still queued.
        if held.pk is not None:
            held.save(update_fields=["waiters", "deadline", "streamed"])
        return False
    for name in _RENEWED:
        setattr(held, name, getattr(chat, name))
    held.save(update_fields=_RENEWED)
    return True
