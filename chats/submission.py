"""What becomes of a request at the door: stored, joined to one that is there, or refused."""

from collections.abc import Sequence
from dataclasses import dataclass

from django.db import IntegrityError, transaction
from django.db.models import F

from chats.bulk_sql import BulkInsert
from chats.models import OPEN_STATUSES, Chat, Status
from chats.prompts import is_prompt_of

RequestKey = tuple[int, str, str]

_INSERT = BulkInsert(Chat)
_RENEWED = ["prompt", "created_at", "received_at", "due_at", "deadline"]
_RENEWED += ["origin", "waiters", "streamed"]
MAX_WAITERS = 32_000  # what its column takes
_CLEARED = {
    "status": Status.QUEUED,
    "dispatched_at": None,
    "completed_at": None,
    "batch": None,
    "attempt": 0,
    "owner": "",
    "lease_until": None,
    "latency_ms": None,
    "queue_ms": None,
    "error_code": "",
    "error_detail": "",
    "prompt_digest": "",
    "suspect": "",
    "rolled_up": False,
}


@dataclass(frozen=True, slots=True)
class Submission:
    """The row that answers a request. `fresh`: it waits in the queue since now."""

    chat: Chat
    fresh: bool


def submit_chats(chats: Sequence[Chat], *, named: set[RequestKey]) -> list[Submission | None]:
    """Stores requests in one transaction; None for one that conflicts with an earlier request.

    `named` are the keys whose request id the client chose. Such a key that is known already joins
    the running request or leads to the stored answer, if prompt and priority are the same; one
    that failed, expired or was cancelled waits anew.
    """
    try:
        with transaction.atomic():
            return _accept(chats, _lock_existing(named))
    except IntegrityError:
        # Another process inserted one of the keys meanwhile: row by row it is found or stored.
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
    """Lets the row serve one request more; True if it has to wait in the queue for that."""
    if held.status == Status.DONE:
        return False
    if held.status in OPEN_STATUSES:
        held.waiters = min(held.waiters + 1, MAX_WAITERS)
        held.deadline = max(held.deadline, chat.deadline)
        held.streamed |= chat.streamed  # in time if it is still queued
        if held.pk is not None:
            held.save(update_fields=["waiters", "deadline", "streamed"])  # the row is locked
        return False
    for name in _RENEWED:
        setattr(held, name, getattr(chat, name))
    for name, value in _CLEARED.items():
        setattr(held, name, value)
    held.save(update_fields=[*_RENEWED, *_CLEARED])
    return True
