"""Leases of running chats: which worker runs a chat until when, and what happens if it dies."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import connection, transaction
from django.db.models import Q, QuerySet

from chats.clock import CLOCK
from chats.models import Chat, Status
from chats.prompts import drop_prompts

# A lease with more than this many lengths left began before the database's clock was set back. A
# process that was started with another LEASE_S may have a somewhat longer one.
MAX_LEASES = 4
# The values that return a running chat to the queue.
REQUEUED: dict[str, Any] = {
    **{"status": Status.QUEUED, "owner": "", "lease_until": None, "batch": None}
}


@dataclass(frozen=True, slots=True)
class Recovery:
    """Chats that lost their process, and their batches; `exhausted` chats have no attempt left."""

    requeued: list[int]
    exhausted: list[int]
    batch_ids: set[int]
    request_ids: list[str]


def renew_leases(ids: Sequence[int], *, owner: str) -> dict[int, int | None]:
    """Extends the owner's leases of these chats. Returns those that it still holds, with the ids
    of their batches."""
    with transaction.atomic():
        # Locked in the order of ids, as every function locks several chats.
        running = Chat.objects.select_for_update().order_by("pk").filter(status=Status.RUNNING)
        rows = running.filter(pk__in=ids, owner=owner).values_list("pk", "batch_id")
        held: dict[int, int | None] = dict(rows)
        lease_until = CLOCK.sql_now() + timedelta(seconds=settings.LEASE_S)
        Chat.objects.filter(pk__in=held).update(lease_until=lease_until)
    return held


def expired_leases(*, own: str, busy: Collection[int] = ()) -> Q:
    """Matches chats whose lease was not renewed in time, or began before the clock was set back.

    It excludes the chats that the calling process (`own`) is `busy` with: their leases may look
    expired after a jump of the clock.
    """
    now = CLOCK.sql_now()
    expired = Q(lease_until__lt=now)
    expired |= Q(lease_until__gt=now + timedelta(seconds=MAX_LEASES * settings.LEASE_S))
    return expired & ~Q(owner=own, pk__in=busy)


def fresh_leases() -> Q:
    """Matches chats whose lease was renewed within the last half of its length."""
    now, length = CLOCK.sql_now(), timedelta(seconds=settings.LEASE_S)
    return Q(lease_until__gte=now + length / 2, lease_until__lte=now + MAX_LEASES * length)


def recover_chats(
    which: Q, *, max_attempts: int, now: datetime, code: str, detail: str
) -> Recovery:
    """Puts running chats back into the queue, or fails those without an attempt left.

    Call it in a transaction. It skips rows that another process is recovering at the same time.
    """
    held = Chat.objects.filter(which, status=Status.RUNNING)
    rows = list(lock_available(held).values_list("pk", "attempt", "batch_id", "request_id"))
    exhausted = [pk for pk, attempt, *_ in rows if attempt >= max_attempts]
    requeued = [pk for pk, attempt, *_ in rows if attempt < max_attempts]
    Chat.objects.filter(pk__in=requeued).update(**REQUEUED)
    end_chats(exhausted, Status.FAILED, now=now, code=code, detail=detail)
    batch_ids = {batch_id for _, _, batch_id, _ in rows if batch_id is not None}
    return Recovery(requeued, exhausted, batch_ids, [row[3] for row in rows])


def end_chats(ids: Sequence[int], status: Status, *, now: datetime, code: str, detail: str) -> None:
    """Ends locked chats with an error."""
    Chat.objects.filter(pk__in=ids).update(
        status=status, completed_at=now, lease_until=None, error_code=code, error_detail=detail
    )
    drop_prompts(ids)


def lock_available(rows: QuerySet[Chat]) -> QuerySet[Chat]:
    """Locks rows and skips those that another transaction has locked."""
    if connection.features.has_select_for_update_skip_locked:
        return rows.select_for_update(skip_locked=True)
    return rows  # In SQLite the transaction itself is the lock.
