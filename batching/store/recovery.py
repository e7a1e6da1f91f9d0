"""Requeues the requests of processes that died or stop, and closes their batches."""

from collections.abc import Collection
from datetime import datetime, timedelta

from django.conf import settings
from django.db import transaction
from django.db.models import Exists, OuterRef, Q

from batching.engine.call import TAIL_S
from batching.engine.errors import UpstreamUnavailable
from batching.engine.runner import MAX_ATTEMPTS
from batching.models import Batch, CallStatus, ModelCall, Outcome
from batching.store.calls import end_batches, forget_unsent
from batching.store.cancellation import report_dropped
from chats.clock import CLOCK
from chats.leases import Recovery, expired_leases, fresh_leases, recover_chats
from chats.models import Chat, Status


def take_back_expired(*, own: str, busy: Collection[int] = ()) -> Recovery:
    """Takes back chats whose lease ran out, but none of this process's own that are `busy`."""
    return _take_back(expired_leases(own=own, busy=busy))


def take_back_earlier(name: str, *, own: str) -> Recovery:
    """Takes back the chats of a dead process that had the same name.

    A process that still renews its leases is alive: it drains, or two processes have one name.
    """
    ended = Batch.objects.filter(outcome=Outcome.RUNNING, owner__startswith=f"{name}#")
    owners = set(ended.exclude(owner=own).values_list("owner", flat=True))
    alive = Chat.objects.filter(fresh_leases(), owner__in=owners)
    owners -= set(alive.filter(status=Status.RUNNING).values_list("owner", flat=True))
    return _take_back(Q(owner__in=owners), owners=owners)


def give_up(*, owner: str) -> Recovery:
    """Puts the running chats of this process back. All ends of its calls must be stored.

    So a call that is still marked as started was never sent: it is deleted and does not count as an
    attempt. Every call that was sent counts.
    """
    with transaction.atomic():
        held = Chat.objects.select_for_update().filter(status=Status.RUNNING, owner=owner)
        list(held.values_list("pk"))  # locks them: no call is added from here on
        running = Batch.objects.filter(owner=owner, outcome=Outcome.RUNNING)
        forget_unsent(ModelCall.objects.filter(batch__in=running), owner=owner)
        return _take_back(Q(owner=owner), owners={owner})


def undo_claims(chat_ids: Collection[int], *, owner: str, newest: int) -> Recovery:
    """Puts back what a claim of these chats has claimed, if its commit succeeded unnoticed.

    Call it before the owner claims anything else. No call of such a batch was sent. `newest` is the
    owner's newest batch that it knows: that one, and earlier ones, run.
    """
    with transaction.atomic():
        claimed = Chat.objects.filter(pk__in=chat_ids, status=Status.RUNNING, owner=owner)
        batch_ids = set(claimed.filter(batch__gt=newest).values_list("batch_id", flat=True))
        held = Chat.objects.select_for_update().filter(batch__in=batch_ids)
        list(held.values_list("pk"))
        forget_unsent(ModelCall.objects.filter(batch__in=batch_ids), owner=owner)
        return _take_back(Q(owner=owner, batch__in=batch_ids))


def close_abandoned(*, busy: Collection[int] = ()) -> None:
    """Closes batches without a running chat that nobody closed, but none that is `busy`.

    Their process died between the end of the last chat and the end of the batch.
    """
    silent_since = CLOCK.now() - timedelta(seconds=settings.LEASE_S + TAIL_S)
    chats = Chat.objects.filter(batch=OuterRef("pk"))
    active = chats.filter(Q(status=Status.RUNNING) | Q(completed_at__gte=silent_since))
    running = Batch.objects.filter(outcome=Outcome.RUNNING, created_at__lt=silent_since)
    abandoned = set(running.filter(~Exists(active)).values_list("pk", flat=True)) - set(busy)
    if abandoned:
        with transaction.atomic():
            _close_batches(abandoned, now=CLOCK.now())


def _take_back(which: Q, *, owners: Collection[str] = ()) -> Recovery:
    """Recovers chats and closes their batches, and all batches of the dead `owners`."""
    now = CLOCK.now()
    error = UpstreamUnavailable("Every process that ran this request died or was stopped.")
    with transaction.atomic():
        recovery = recover_chats(
            which, max_attempts=MAX_ATTEMPTS, now=now, code=error.code, detail=str(error)
        )
        left = Batch.objects.filter(owner__in=owners, outcome=Outcome.RUNNING)
        left_ids = left.values_list("pk", flat=True) if owners else ()
        _close_batches(recovery.batch_ids.union(left_ids), now=now)
    report_dropped(recovery.exhausted, code=error.code)
    return recovery


def _close_batches(batch_ids: Collection[int], *, now: datetime) -> None:
    """Ends those of the batches of which no chat runs, and their calls, which may be billed."""
    running = Batch.objects.filter(pk__in=batch_ids, outcome=Outcome.RUNNING)
    ended = end_batches(dict(running.values_list("pk", "size")), now=now)
    ModelCall.objects.filter(batch__in=ended, status=CallStatus.STARTED).update(
        status=CallStatus.FAILED,
        perhaps_billed=True,
        error_code="died",
        error_detail="The process that made this call died before its end.",
    )
