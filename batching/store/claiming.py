"""Claims planned batches: queued requests become running and their first calls are recorded."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from operator import attrgetter

from django.conf import settings
from django.db import transaction

from batching.engine.items import BatchItem, QueuedItem
from batching.engine.lanes import DEFAULT_BUDGET, LaneRule, Scope
from batching.engine.planner import Batch as PlannedBatch
from batching.engine.planner import Trigger
from batching.engine.runner import RunnableBatch
from batching.models import Batch
from batching.store.calls import NewCall, insert_calls
from batching.store.lane_rules import describe_rule, longest_wait_s
from batching.store.queue import make_item
from chats.bulk_sql import BulkInsert
from chats.services import (
    QueuedRow,
    Requester,
    lock_oldest_queued,
    lock_queued,
    make_queued_row,
    start_chats,
)

_INSERT_BATCH = BulkInsert(Batch)
# The planner's timer and the row may differ by the error of the estimated database's time.
DUE_TOLERANCE_S = 0.01


@dataclass(frozen=True, slots=True)
class ClaimRequest:
    """A batch that the planner released, and the rule and the model that apply to it."""

    planned: PlannedBatch
    rule: LaneRule
    model: str


@dataclass(frozen=True, slots=True)
class Claim:
    """A claimed batch that is ready to run, its `queued` items, and the requester of each.

    `batch` is None if too few items could be claimed: then these, in `left`, stay queued.
    """

    batch: RunnableBatch | None = None
    queued: tuple[QueuedItem, ...] = ()
    requesters: dict[int, Requester] = field(default_factory=dict)
    left: tuple[QueuedItem, ...] = ()


def claim_batches(requests: Sequence[ClaimRequest], *, owner: str) -> list[Claim]:
    """Makes the planned items running and records their first calls, in one transaction.

    Leaves out items that meanwhile left the queue or have another generation, and items that the
    lane's current scope keeps apart from the first item: the sweep finds those still queued. A
    batch that is neither full nor due without these items is not formed; in a fleet the database's
    clock decides what is due. A batch that leaves but is not full gets more items: from the batches
    after it, and committed requests whose announcement was not read yet.
    """
    with transaction.atomic():
        rows = lock_queued([item.id for request in requests for item in request.planned.items])
        claimable = [(request, _list_claimable(request, rows)) for request in requests]
        _fill_batches(claimable, rows)
        leaving = [(r, items) for r, items in claimable if _may_leave(r, items, rows)]
        claims = iter(_form_batches(leaving, rows, owner=owner))
    return [
        next(claims) if _may_leave(request, items, rows) else _leave(request, items, rows)
        for request, items in claimable
    ]


def _list_claimable(request: ClaimRequest, rows: Mapping[int, QueuedRow]) -> list[QueuedItem]:
    """The items that still wait in the planned generation and may share a call with the first."""

    def find_group(item: QueuedItem) -> object:
        # The locked row decides: the planner may have grouped the items by an older rule.
        row = rows[item.id]
        return request.rule.group_of(row.client_id, row.requester.username)

    queued = [item for item in request.planned.items if item.id in rows]
    items = [item for item in queued if item.generation == rows[item.id].requester.generation]
    return [item for item in items if find_group(item) == find_group(items[0])]


def _may_leave(
    request: ClaimRequest, items: Sequence[QueuedItem], rows: Mapping[int, QueuedRow]
) -> bool:
    planned = request.planned
    complete = len(items) >= len(planned.items)
    if not items or len(items) >= request.rule.max_batch:
        return bool(items)
    if settings.REDIS_URL:
        due = any(rows[item.id].due_in_s <= DUE_TOLERANCE_S for item in items)
        return due or (complete and planned.trigger is Trigger.FULL)
    return complete or any(item.due <= planned.at for item in items)


def _leave(
    request: ClaimRequest, items: Sequence[QueuedItem], rows: Mapping[int, QueuedRow]
) -> Claim:
    """The items wait on; none of them is due before its row is."""
    due = {item.id: request.planned.at + rows[item.id].due_in_s for item in items}
    return Claim(left=tuple(replace(item, due=max(item.due, due[item.id])) for item in items))


def _fill_batches(
    claimable: Sequence[tuple[ClaimRequest, list[QueuedItem]]],
    rows: dict[int, QueuedRow],
) -> None:
    """Fills each batch that may leave: from the later ones, then from the committed rows.

    It looks for further rows only after the planned ones are locked: of two workers that planned
    the same batch, the second one must not lock what the first one adds.
    """
    for index, (request, items) in enumerate(claimable):
        room = _count_room(request.rule, items)
        if room == 0 or not _may_leave(request, items, rows):
            continue
        group = _group_columns(request.rule, rows[items[0].id])
        for other, later in claimable[index + 1 :]:
            while later and _group_columns(other.rule, rows[later[0].id]) == group:
                if not _add(later[0], items, request.rule):
                    break
                del later[0]
        if room := _count_room(request.rule, items):
            for chat in lock_oldest_queued(group, without=list(rows), limit=room):
                if not _add(make_item(chat, request.rule), items, request.rule):
                    break
                rows[chat.pk] = make_queued_row(chat)
        items.sort(key=attrgetter("id"))


def _count_room(rule: LaneRule, items: Sequence[QueuedItem]) -> int:
    """How many more items of this lane a call can hold; their prompts may still be too long."""
    output_left = DEFAULT_BUDGET.answers - sum(item.output_tokens for item in items)
    return max(0, min(rule.max_batch - len(items), output_left // rule.tokens))


def _add(item: QueuedItem, items: list[QueuedItem], rule: LaneRule) -> bool:
    """Adds the item if one call can hold it, too."""
    used = item.input_tokens + sum(other.input_tokens for other in items)
    if used > DEFAULT_BUDGET.input or _count_room(rule, items) == 0:
        return False
    items.append(item)
    return True


def _group_columns(rule: LaneRule, row: QueuedRow) -> dict[str, object]:
    """What the chats that may share a call with this one have in common: see `rule.group_of`."""
    columns: dict[str, object] = {"priority": rule.priority}
    if rule.scope is not Scope.EVERYONE:
        columns["client_id"] = row.client_id
    if rule.scope is Scope.USERNAME:
        columns["username"] = row.requester.username
    return columns


def _form_batches(
    claimed: Sequence[tuple[ClaimRequest, Sequence[QueuedItem]]],
    rows: Mapping[int, QueuedRow],
    *,
    owner: str,
) -> list[Claim]:
    if not claimed:
        return []
    now = next(iter(rows.values())).locked_at
    batches = [_make_batch(r, size=len(items), owner=owner, now=now) for r, items in claimed]
    _INSERT_BATCH.run(batches)
    new_calls = [
        NewCall(
            batch_id=batch.pk,
            rule=request.rule,
            model=request.model,
            items=tuple(_make_item(item, rows[item.id], request.rule) for item in items),
        )
        for batch, (request, items) in zip(batches, claimed, strict=True)
    ]
    start_chats(
        [(item.id, call.batch_id) for call in new_calls for item in call.items],
        owner=owner,
        now=now,
        lease_until=now + timedelta(seconds=settings.LEASE_S),
    )
    first_calls = insert_calls(new_calls, now=now)
    return [
        Claim(
            RunnableBatch(
                id=new.batch_id,
                rule=new.rule,
                model=new.model,
                items=tuple(new.items),
                first_call=first_call,
                probe=request.planned.probe,
            ),
            tuple(items),
            {item.id: rows[item.id].requester for item in new.items},
        )
        for new, first_call, (request, items) in zip(new_calls, first_calls, claimed, strict=True)
    ]


def _make_batch(request: ClaimRequest, *, size: int, owner: str, now: datetime) -> Batch:
    return Batch(
        priority=int(request.planned.priority),
        trigger=str(request.planned.trigger),
        size=size,
        model=request.model,
        settings=describe_rule(request.rule),
        owner=owner,
        lateness_ms=round(request.planned.lateness_s * 1000, 3),
        created_at=now,
    )


def _make_item(item: QueuedItem, row: QueuedRow, rule: LaneRule) -> BatchItem:
    # The client's own timeout counts in the queue only. From here on the calls are paid for: their
    # answer is stored for the same request id, even if no client waits any more.
    wait_s = max(row.wait_s, longest_wait_s(rule, respond_async=row.respond_async))
    return BatchItem(
        id=item.id,
        prompt=row.prompt,
        output_tokens=item.output_tokens,
        deadline=max(item.deadline, item.accepted + wait_s),  # on the planner's clock
        target=item.target,
        attempts=row.attempt,
        streamed=row.streamed,
        request_id=row.requester.request_id,
    )
