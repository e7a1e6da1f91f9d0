"""Stores demo history together with its figures per day, and removes both."""

from collections import Counter
from collections.abc import Iterator
from itertools import islice

from django.db import reset_queries, transaction
from django.db.models import QuerySet

from batching.analytics.rollup import count_rows, measure_rows, uncount_rows
from batching.demo.history import DEMO_OWNER, DemoBatch
from batching.models import Batch, ModelCall
from chats.models import Chat

BATCHES_A_TRANSACTION = 400  # A running server waits for the write lock until one ends.


def store_history(history: Iterator[DemoBatch]) -> Iterator[Counter[str]]:
    """Yields how many rows each transaction stored and counted. Later rows have higher ids."""
    while entries := list(islice(history, BATCHES_A_TRANSACTION)):
        batches = [entry.batch for entry in entries if entry.batch]
        chats = [chat for entry in entries for chat in entry.chats]
        carried = [pair for entry in entries for pair in entry.calls]
        carried.sort(key=lambda pair: pair[0].started_at)
        calls = [call for call, _ in carried]
        with transaction.atomic():
            Batch.objects.bulk_create(batches)
            Chat.objects.bulk_create(sorted(chats, key=lambda chat: chat.received_at))
            for call, of_call in carried:
                call.item_ids = [chat.pk for chat in of_call]
            ModelCall.objects.bulk_create(calls)
            count_rows(measure_rows(chats=chats, batches=batches, calls=calls))
        reset_queries()  # Under DEBUG, Django keeps all statements with their values.
        yield Counter(chats=len(chats), batches=len(batches), calls=len(calls))


def remove_history() -> Iterator[Counter[str]]:
    """Yields how many rows each transaction deleted and subtracted from the figures.

    Rows that the retention or `prune` has deleted stay counted, as for real requests.
    """
    for ids in _list_ids(Batch.objects.filter(owner=DEMO_OWNER)):
        yield _remove(ids, Chat.objects.filter(batch__in=ids))
    chats = Chat.objects.filter(owner=DEMO_OWNER, batch=None)
    for ids in _list_ids(chats):
        yield _remove([], chats.filter(pk__in=ids))


def _list_ids(rows: QuerySet[Batch] | QuerySet[Chat]) -> Iterator[list[int]]:
    last, ids = 0, rows.order_by("pk").values_list("pk", flat=True)
    while page := list(ids.filter(pk__gt=last)[:BATCHES_A_TRANSACTION]):
        yield page
        last = page[-1]


@transaction.atomic
def _remove(batch_ids: list[int], chats: QuerySet[Chat]) -> Counter[str]:
    batches = Batch.objects.filter(pk__in=batch_ids).select_for_update()
    calls = ModelCall.objects.filter(batch__in=batch_ids).select_for_update()
    chats = chats.select_for_update()
    uncount_rows(measure_rows(chats=list(chats), batches=list(batches), calls=list(calls)))
    removed = Counter(chats=len(chats), batches=len(batches), calls=len(calls))
    for rows in (chats, calls, batches):
        rows.delete()
    return removed
