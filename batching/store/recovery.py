"""Puts the requests of processes that died back into the queue."""

from collections.abc import Collection, Mapping
from datetime import UTC, datetime, timedelta

from django.conf import settings
from django.db import transaction
from django.db.models import Q

from batching.engine.errors import UpstreamUnavailable
from batching.engine.runner import MAX_ATTEMPTS
from batching.models import Batch, CallStatus, ModelCall, Outcome
from batching.store.cancellation import report_dropped
from chats.leases import Recovery, expired_leases, recover_chats
from chats.models import Chat, Status
from chats.services import hand_back_chats


def take_back_expired(*, own: str, busy: Collection[int] = ()) -> Recovery:
    """Takes back chats whose lease ran out, but none of this process's own that are `busy`."""
    return _take_back(expired_leases(datetime.now(UTC), own=own, busy=busy), own=own)


def take_back_earlier(name: str, *, own: str) -> Recovery:
    """Takes back the chats of a dead process that had the same name.

    A process that still renews its leases is alive: it drains, or two processes have one name.
    """
    alive_until = datetime.now(UTC) + timedelta(seconds=settings.LEASE_S / 2)
    ended = Batch.objects.filter(outcome=Outcome.RUNNING, owner__startswith=f"{name}#")
    owners = set(ended.exclude(owner=own).values_list("owner", flat=True))
    alive = Chat.objects.filter(owner__in=owners, lease_until__gte=alive_until)
    owners -= set(alive.filter(status=Status.RUNNING).values_list("owner", flat=True))
    return _take_back(Q(owner__in=owners), own=own, owners=owners)


def give_up(ended_calls: Mapping[int, int], *, owner: str) -> None:
    """Puts the running chats of this process back. `ended_calls` counts ended calls per chat."""
    with transaction.atomic():
        hand_back_chats(ended_calls, owner=owner)
        _close_batches({owner}, now=datetime.now(UTC))


def _take_back(which: Q, *, own: str, owners: Collection[str] = ()) -> Recovery:
    now = datetime.now(UTC)
    error = UpstreamUnavailable("Every process that ran this request died.")
    with transaction.atomic():
        recovery = recover_chats(
            which, max_attempts=MAX_ATTEMPTS, now=now, code=error.code, detail=str(error)
        )
        dead = (recovery.owners | set(owners)) - {own}  # this process's other batches still run
        if dead:
            _close_batches(dead, now=now)
    report_dropped(recovery.exhausted, code=error.code)
    return recovery


def _close_batches(owners: Collection[str], *, now: datetime) -> None:
    """Ends the batches of dead processes, and their calls, which may have been billed."""
    batches = Batch.objects.filter(owner__in=owners, outcome=Outcome.RUNNING)
    ModelCall.objects.filter(batch__in=batches, status=CallStatus.STARTED).update(
        status=CallStatus.FAILED,
        perhaps_billed=True,
        error_code="died",
        error_detail="The process that made this call died before its end.",
    )
    batches.update(outcome=Outcome.FAILED, finished_at=now)
