"""Who runs a chat, until when, and what becomes of it if that process dies."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from django.db import connection
from django.db.models import Q, QuerySet

from chats.models import Chat, Status
from chats.prompts import drop_prompts


@dataclass(frozen=True, slots=True)
class Recovery:
    """What was taken back from dead processes; `exhausted` chats have no attempt left."""

    requeued: list[int]
    exhausted: list[int]
    owners: set[str]


def renew_leases(owner: str, *, until: datetime) -> int:
    """The process still runs its chats; gives how many they are."""
    running = Chat.objects.filter(status=Status.RUNNING, owner=owner)
    return running.update(lease_until=until)


def expired_leases(now: datetime, *, own: str) -> Q:
    """Chats whose process has not renewed in time. Never one's own: a jump of the clock is none."""
    return Q(lease_until__lt=now) & ~Q(owner=own)


def earlier_incarnations(name: str, *, own: str) -> Q:
    """What a process of this name held before it was started again."""
    return Q(owner__startswith=f"{name}#") & ~Q(owner=own)


def recover_chats(
    which: Q, *, max_attempts: int, now: datetime, code: str, detail: str
) -> Recovery:
    """Puts running chats back into the queue, or fails those without an attempt left.

    Call it in a transaction: rows that another process is just taking back are passed over.
    """
    held = Chat.objects.filter(which, status=Status.RUNNING)
    rows = list(lock_free(held).values_list("pk", "attempt", "owner"))
    exhausted = [pk for pk, attempt, _ in rows if attempt >= max_attempts]
    requeued = [pk for pk, attempt, _ in rows if attempt < max_attempts]
    Chat.objects.filter(pk__in=requeued).update(
        status=Status.QUEUED, owner="", lease_until=None, batch=None
    )
    _fail(exhausted, now=now, code=code, detail=detail)
    return Recovery(requeued, exhausted, {owner for _, _, owner in rows})


def lock_free(rows: QuerySet[Chat]) -> QuerySet[Chat]:
    """Locks rows and passes over those that another process is just working on."""
    if connection.features.has_select_for_update_skip_locked:
        return rows.select_for_update(skip_locked=True)
    return rows  # SQLite: the transaction itself is the lock


def _fail(ids: Sequence[int], *, now: datetime, code: str, detail: str) -> None:
    Chat.objects.filter(pk__in=ids).update(
        status=Status.FAILED,
        completed_at=now,
        lease_until=None,
        error_code=code,
        error_detail=detail,
    )
    drop_prompts(ids)
