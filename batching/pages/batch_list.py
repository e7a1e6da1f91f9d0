"""Batches page by page along the id, each with what became of it."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db.models import Count

from batching.models import Batch, ModelCall, Outcome
from chats.id_ranges import MAX_ID, find_id_range, within
from chats.models import Chat, Status
from settings_app.models import Priority

LISTED_AT_ONCE = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchFilter:
    """Which batches; None narrows nothing. `created_until` is exclusive."""

    priority: Priority | None = None
    outcome: Outcome | None = None
    created_from: datetime | None = None
    created_until: datetime | None = None

    @property
    def same(self) -> dict[str, Any]:
        named = {"priority": self.priority, "outcome": self.outcome}
        return {name: value for name, value in named.items() if value is not None}

    @property
    def dated(self) -> dict[str, datetime]:
        ends = {"created_at__gte": self.created_from, "created_at__lt": self.created_until}
        return {name: value for name, value in ends.items() if value is not None}


@dataclass(frozen=True, slots=True)
class ListedBatch:
    """`calls` counts retries too; `took_s` is None while it runs."""

    batch: Batch
    calls: int
    answered: int
    failed: int

    @property
    def took_s(self) -> float | None:
        ended = self.batch.finished_at
        return None if ended is None else (ended - self.batch.created_at).total_seconds()


@dataclass(frozen=True, slots=True)
class BatchPage:
    """A page, newest first; `older` is the id to go on below."""

    rows: Sequence[ListedBatch]
    count: int
    older: int | None


def list_batches(which: BatchFilter, *, before: int = MAX_ID) -> BatchPage:
    """The newest batches below the id `before`."""
    matching = Batch.objects.filter(**which.same)
    if which.dated:
        span = find_id_range(Batch.objects.filter(**which.dated))
        matching = matching.filter(within(span), **which.dated)
    below = matching.filter(pk__lt=before).order_by("-pk")
    found = list(below[: LISTED_AT_ONCE + 1])
    shown = found[:LISTED_AT_ONCE]
    older = shown[-1].pk if len(found) > len(shown) else None
    return BatchPage(_describe(shown), matching.count(), older)


def _describe(batches: Sequence[Batch]) -> list[ListedBatch]:
    ids = [batch.pk for batch in batches]
    calls = Counter(
        ModelCall.objects.filter(batch__in=ids).order_by().values_list("batch_id", flat=True)
    )
    ended = {
        (batch, status): count
        for batch, status, count in Chat.objects.filter(batch__in=ids)
        .order_by()
        .values_list("batch_id", "status")
        .annotate(Count("pk"))
    }
    return [
        ListedBatch(
            batch,
            calls[batch.pk],
            ended.get((batch.pk, Status.DONE), 0),
            ended.get((batch.pk, Status.FAILED), 0),
        )
        for batch in batches
    ]
