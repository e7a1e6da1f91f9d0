"""Stores accepted requests, or joins them to earlier ones with the same request id."""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from django.db import (
    Error,
    IntegrityError,
    InterfaceError,
    InternalError,
    OperationalError,
    connection,
    transaction,
)
from django.db.models import F, QuerySet

from chats.bulk_sql import BulkInsert
from chats.models import OPEN_STATUSES, Chat, Status
from chats.prompts import is_prompt_of

logger = logging.getLogger("batching")

# The client's id, the username and the request id. Together they are unique.
RequestKey = tuple[int | None, str, str]

MAX_WAITERS = 32_000  # The column holds at most 32 767.
# Postgres has ended this transaction in favour of another one.
DEADLOCK = "40P01"
# With these the database fails, whatever the request.
_OUTAGES = (OperationalError, InterfaceError, InternalError)
_INSERT = BulkInsert(Chat)
# When a request is sent again, its row takes these values from the new chat, which is queued.
_RENEWED = [
    *("prompt", "prompt_digest", "created_at", "received_at", "due_at", "deadline", "origin"),
    *("waiters", "streamed", "status", "dispatched_at", "completed_at", "batch", "attempt"),
    *("owner", "lease_until", "latency_ms", "queue_ms", "error_code", "error_detail", "suspect"),
    *("respond_async", "rolled_up"),
]


@dataclass(frozen=True, slots=True)
class Submission:
    """The row that will answer a request; `fresh` if it enters the queue for it."""

    chat: Chat
    fresh: bool


class OutcomeUnknown(OperationalError):
    """The connection broke during the commit: the rows may be stored."""


# What became of a request: None if it conflicts with an earlier one, or why it was not stored.
Result = Submission | Exception | None


def submit_chats(chats: Sequence[Chat], *, named: set[RequestKey]) -> list[Result]:
    """Stores requests in one transaction, or one by one if a member makes that fail.

    `named` are the keys whose request id the client chose. If a row with such a key exists, the
    request joins it: it waits with the open request or gets the stored answer. A request that
    failed, expired or was cancelled is queued again. A request with another prompt or priority
    than the row is refused.
    """
    try:
        return [*_submit(chats, named)]
    except _OUTAGES as error:
        if not _is_deadlock(error):
            return [error] * len(chats)
    except Exception as error:
        # The fault of a member shows again when it is alone.
        cause = type(error).__name__
        logger.warning("%s requests are stored one by one (%s).", len(chats), cause)
    return _submit_singly(chats)


def _submit_singly(chats: Sequence[Chat]) -> list[Result]:
    results: list[Result] = []
    for chat in chats:
        try:
            results += _submit([chat], {request_key(chat)})
        except _OUTAGES as error:
            # The database fails, not this request: the others would only wait for the same error.
            return [*results, *[error] * (len(chats) - len(results))]
        except Exception as error:
            results.append(error)
    return results


def _submit(chats: Sequence[Chat], named: set[RequestKey]) -> list[Submission | None]:
    """Tries again if another process got in the way."""
    try:
        return _store(chats, named)
    except IntegrityError:
        pass  # It has probably inserted one of the keys since: then the row is found now.
    except OperationalError as error:
        if not _is_deadlock(error):
            raise
    return _store(chats, named)


def _store(chats: Sequence[Chat], named: set[RequestKey]) -> list[Submission | None]:
    committing = False
    try:
        with transaction.atomic():
            accepted = _accept(chats, named)
            committing = True
        return accepted
    except _OUTAGES as error:
        if committing:
            raise OutcomeUnknown from error
        raise


def _is_deadlock(error: Error) -> bool:
    return getattr(error.__cause__, "sqlstate", "") == DEADLOCK


def find_stored(chats: Sequence[Chat]) -> list[tuple[int, int]]:
    """Chat id and generation of those requests that a commit of unknown outcome has stored."""
    rows = _select(request_key(chat) for chat in chats)
    stored = {(request_key(row), row.generation): row.pk for row in rows}
    keys = [(request_key(chat), chat.generation) for chat in chats]
    return [(stored[key], key[1]) for key in keys if key in stored]


def request_key(chat: Chat) -> RequestKey:
    return (chat.client_id, chat.username, chat.request_id)


def _lock_existing(named: set[RequestKey]) -> dict[RequestKey, Chat]:
    if not named:
        return {}
    # Ordered by id, as every function locks several chats.
    rows = _select(named).select_for_update(of=("self",)).order_by("pk")
    found = rows.annotate(batch_size=F("batch__size"))
    return {request_key(chat): chat for chat in found if request_key(chat) in named}


def _select(keys: Iterable[RequestKey]) -> QuerySet[Chat]:
    """The chats with these keys, and some that mix the parts of several keys."""
    clients, usernames, request_ids = (set(column) for column in zip(*keys, strict=True))
    return Chat.objects.filter(
        client__in=clients, username__in=usernames, request_id__in=request_ids
    )


def _accept(chats: Sequence[Chat], named: set[RequestKey]) -> list[Submission | None]:
    known, inserts = _lock_existing(named), []
    accepted: list[Submission | None] = []
    for chat in chats:
        chat.pk, chat.waiters = None, 1  # An attempt that was rolled back may have changed them.
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
    chosen = sum(request_key(chat) in named for chat in inserts)
    if chosen > 1 and connection.vendor != "sqlite":
        # Two processes that insert the same ids would wait for each other if their orders differed.
        # The keys keep the order of arrival. SQLite has one writer at a time.
        _INSERT.reserve_keys(inserts)
        inserts.sort(key=request_key)
    _INSERT.run(inserts)
    return accepted


def _take_up(held: Chat, chat: Chat) -> bool:
    """Makes the row answer one more request; returns True if the row entered the queue for it."""
    if held.status == Status.DONE:
        return False
    if held.status in OPEN_STATUSES:
        held.waiters = min(held.waiters + 1, MAX_WAITERS)
        held.deadline = max(held.deadline, chat.deadline)
        # These take effect if the row is still queued.
        held.streamed |= chat.streamed
        held.respond_async |= chat.respond_async
        if held.pk is not None:
            held.save(update_fields=["waiters", "deadline", "streamed", "respond_async"])
        return False
    for name in _RENEWED:
        setattr(held, name, getattr(chat, name))
    held.save(update_fields=_RENEWED)
    return True
