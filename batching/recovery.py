"""Takes back what dead processes were running."""

from collections.abc import Collection
from datetime import UTC, datetime

from django.db import transaction
from django.db.models import Q

from batching.engine.errors import UpstreamUnavailable
from batching.engine.runner import MAX_ATTEMPTS
from batching.models import Batch, CallStatus, ModelCall, Outcome
from chats.leases import Recovery, earlier_incarnations, expired_leases, recover_chats


def take_back_expired(*, own: str) -> Recovery:
    """What processes held that stopped renewing their leases."""
    return _take_back(expired_leases(datetime.now(UTC), own=own), owners=())


def take_back_earlier(name: str, *, own: str) -> Recovery:
    """What an earlier process of this name left behind when it died."""
    ended = Batch.objects.filter(outcome=Outcome.RUNNING, owner__startswith=f"{name}#")
    owners = set(ended.exclude(owner=own).values_list("owner", flat=True))
    return _take_back(earlier_incarnations(name, own=own), owners=owners)


def _take_back(which: Q, *, owners: Collection[str]) -> Recovery:
    now = datetime.now(UTC)
    error = UpstreamUnavailable("The processes that ran this request died each time.")
    with transaction.atomic():
        recovery = recover_chats(
            which, max_attempts=MAX_ATTEMPTS, now=now, code=error.code, detail=str(error)
        )
        dead = recovery.owners | set(owners)
        if dead:
            _close_calls(dead)
            Batch.objects.filter(owner__in=dead, outcome=Outcome.RUNNING).update(
                outcome=Outcome.FAILED, finished_at=now
            )
    return recovery


def _close_calls(owners: Collection[str]) -> None:
    """The model's side may have answered, and counted, calls whose process died."""
    batches = Batch.objects.filter(owner__in=owners, outcome=Outcome.RUNNING)
    ModelCall.objects.filter(batch__in=batches, status=CallStatus.STARTED).update(
        status=CallStatus.FAILED,
        perhaps_billed=True,
        error_code="died",
        error_detail="The process that made this call died before its end.",
    )
