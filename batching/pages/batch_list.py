"""Lists batches page by page by descending id, each with the outcome of its requests."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.db.models import Count

from batching.models import Batch, ModelCall
from chats.id_ranges import MAX_ID, find_id_range
from chats.models import Chat, Status

PAGE_SIZE = 50


@dataclass(frozen=True, slots=True)
class ListedBatch:
    """`calls` includes retries; `duration_s` is None while the batch runs."""

    batch: Batch
    calls: int
    answered: int
    failed: int

    @property
    def duration_s(self) -> float | None:
        ended = self.batch.finished_at
        return None if ended is None else (ended - self.batch.created_at).total_seconds()


@dataclass(frozen=True, slots=True)
class BatchPage:
    """Newest first. The next page begins below the id `older`; None on the last page."""

    rows: Sequence[ListedBatch]
    count: int
    older: int | None


def list_batches(conditions: Mapping[str, Any], *, before: int = MAX_ID) -> BatchPage:
    """The newest batches below the id `before` that match all `conditions`."""
    matching = Batch.objects.filter(**conditions)
    created = {name: at for name, at in conditions.items() if name.startswith("created_at")}
    if created:
        matching = matching.filter(pk__range=find_id_range(Batch.objects.filter(**created)))
    below = matching.filter(pk__lt=before).order_by("-pk")
    found = list(below[: PAGE_SIZE + 1])
    shown = found[:PAGE_SIZE]
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
