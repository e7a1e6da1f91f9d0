"""Deletes rows that have become old, or those of one username, in short transactions.

It deletes only rows that have ended and are counted in DailyStat. DailyStat itself stays, so the
analytics do not change.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db import transaction
from django.db.models import Exists, OuterRef, Q, QuerySet

from batching.models import Batch, CallStatus, DailyStat, ModelCall, Outcome
from chats.leases import lock_available
from chats.models import OPEN_STATUSES, Chat
from chats.prompts import blank_prompts
from settings_app.snapshot import current_snapshot

CHUNK = 200
DAY = timedelta(days=1)
SCANNED_AT_ONCE = 2000


@dataclass(frozen=True, slots=True)
class Extent:
    """What to delete: chats received before `before`, or of `username`, or both.

    The same username at two clients is two people, so `client_id` is given with it.
    """

    before: datetime | None = None
    username: str | None = None
    client_id: int | None = None

    @property
    def matching(self) -> Q:
        limits = {
            "received_at__lt": self.before,
            "username": self.username,
            "client": self.client_id,
        }
        return Q(**{name: value for name, value in limits.items() if value is not None})

    @property
    def deletable(self) -> Q:
        return self.matching & Q(rolled_up=True) & ~Q(status__in=OPEN_STATUSES)

    @property
    def deletable_chats(self) -> QuerySet[Chat]:
        return Chat.objects.filter(self.deletable)


def count_extent(extent: Extent) -> Counter[str]:
    """How many rows `prune` would delete, and how many chats it would keep as `open`."""
    staying = Chat.objects.filter(~extent.deletable, batch=OuterRef("pk"))
    taken = Chat.objects.filter(extent.deletable, batch=OuterRef("pk"))
    batches = _deletable_batches().filter(Exists(taken), ~Exists(staying))
    if extent.username is None:
        batches |= _empty_batches().filter(created_at__lt=extent.before)
    return Counter(
        chats=extent.deletable_chats.count(),
        batches=batches.count(),
        calls=ModelCall.objects.filter(batch__in=batches).count(),
        open=Chat.objects.filter(extent.matching, status__in=OPEN_STATUSES).count(),
    )


def prune(extent: Extent, *, size: int = CHUNK) -> Iterator[Counter[str]]:
    """Deletes chunk by chunk; yields the number of rows of each chunk."""
    while removed := prune_chunk(extent, size=size):
        yield removed


def trusts_clock(now: datetime, *, steady_s: float) -> bool:
    """Whether rows may be deleted for their age, although the clock may have been set ahead.

    The clock must have run for a day without a jump, or have stored rows a day ago. So there is a
    day to correct a wrong clock.
    """
    yesterday = Chat.objects.filter(received_at__range=(now - 2 * DAY, now - DAY))
    return timedelta(seconds=steady_s) >= DAY or yesterday.exists()


def prune_old(*, now: datetime) -> int:
    """Deletes one chunk of what the retention setting calls old; returns the number of rows."""
    days = current_snapshot().retention_days
    return prune_chunk(Extent(before=now - timedelta(days=days))).total() if days else 0


def prune_chunk(extent: Extent, *, size: int = CHUNK) -> Counter[str]:
    """Deletes chats, their batches once these are empty, and the calls of such batches."""
    with transaction.atomic():
        order = "received_at" if extent.username is None else "id"
        rows = lock_available(extent.deletable_chats.order_by(order))[:size]
        chats = list(rows.values_list("pk", "batch_id", "received_at"))
        Chat.objects.filter(pk__in=[pk for pk, *_ in chats]).delete()
        _mark_days(at for *_, at in chats)
        removed = Counter(chats=len(chats))
        removed += _delete_batches(_empty_batches().filter(pk__in={batch for _, batch, _ in chats}))
        if not chats and extent.before is not None:
            old = _empty_batches().filter(created_at__lt=extent.before).order_by("created_at")
            removed += _delete_batches(old[:size])
    return +removed


def _delete_batches(batches: QuerySet[Batch]) -> Counter[str]:
    created = dict(batches.values_list("pk", "created_at"))
    rows = ModelCall.objects.filter(batch__in=created)
    _mark_days([*created.values(), *rows.values_list("started_at", flat=True)])
    calls, _ = rows.delete()
    Batch.objects.filter(pk__in=created).delete()
    return Counter(batches=len(created), calls=calls)


def _mark_days(times: Iterable[datetime]) -> None:
    """Marks the figures of these days as figures of more rows than there are now."""
    days = {at.astimezone(UTC).date() for at in times}
    if days:
        DailyStat.objects.filter(day__in=days, rows_deleted=False).update(rows_deleted=True)


def _deletable_batches() -> QuerySet[Batch]:
    """Batches that have ended and are counted in DailyStat, as are all their calls."""
    uncounted = ModelCall.objects.filter(batch=OuterRef("pk"), rolled_up=False)
    ended = Batch.objects.filter(rolled_up=True).exclude(outcome=Outcome.RUNNING)
    return ended.filter(~Exists(uncounted))


def _empty_batches() -> QuerySet[Batch]:
    """Deletable batches without a chat: theirs were deleted, or ran again in another batch."""
    return _deletable_batches().filter(~Exists(Chat.objects.filter(batch=OuterRef("pk"))))


def scrub_calls(chat_ids: Iterable[int] | None) -> Iterator[int]:
    """Blanks prompt and reply of ended calls that carried one of the chats (None: of all calls).

    The text of a call holds the words of all its items, so those of other chats go, too. It scans
    all calls, because a chat may also have been in an earlier batch. Yields the number of calls
    scanned, page by page.
    """
    wanted = None if chat_ids is None else frozenset(chat_ids)
    texts = ModelCall.objects.exclude(status=CallStatus.STARTED).exclude(prompt="", reply="")
    calls = ModelCall.objects.values_list("pk", "item_ids")
    for page in _read_pages(calls, size=SCANNED_AT_ONCE):
        ids = [pk for pk, items in page if wanted is None or not wanted.isdisjoint(items)]
        for start in range(0, len(ids), CHUNK):
            part = ids[start : start + CHUNK]
            texts.filter(pk__in=part).update(prompt="", reply="")
        yield len(page)


def scrub_chats() -> Iterator[int]:
    """Blanks the prompts of all chats that have ended; yields the number, page by page."""
    for page in _read_pages(Chat.objects.values_list("pk"), size=CHUNK):
        yield blank_prompts([pk for (pk,) in page])


def _read_pages(rows: QuerySet[Any, Any], *, size: int) -> Iterator[list[Any]]:
    """Yields the rows in pages, in the order of the key, which is their first column."""
    page = list(rows.order_by("pk")[:size])
    while page:
        yield page
        page = list(rows.filter(pk__gt=page[-1][0]).order_by("pk")[:size])
