"""Every change of a batch's and a model call's row."""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from django.conf import settings
from django.db import transaction

from batching.engine.call import BatchItem, CallReport, PreparedCall
from batching.engine.lanes import DEFAULT_BUDGET, LaneRule
from batching.engine.planner import Batch as PlannedBatch
from batching.engine.planner import QueuedItem
from batching.engine.prompt import CombinedPrompt, combine
from batching.engine.runner import RunnableBatch
from batching.models import Batch, CallKind, CallStatus, ModelCall, Outcome
from batching.store.lane_rules import describe_rule
from chats.bulk_sql import BulkInsert, BulkUpdate
from chats.models import FINAL_STATUSES, Chat, Status
from chats.services import QueuedRow, Requester, count_attempt, lock_queued, start_chats
from settings_app.snapshot import current_snapshot

_END_CALL_COLUMNS = [
    "status",
    "reply",
    "finish_reason",
    "error_code",
    "error_detail",
    "perhaps_billed",
    "prompt_tokens",
    "output_tokens",
    "thoughts_tokens",
    "cached_tokens",
    "first_token_ms",
    "duration_ms",
]
_INSERT_BATCH = BulkInsert(Batch)
_INSERT_CALL = BulkInsert(ModelCall)
_END_CALL = BulkUpdate(ModelCall, assign=_END_CALL_COLUMNS, where=["id", "status"])
_END_BATCH = BulkUpdate(Batch, assign=["outcome", "finished_at"], where=["id", "outcome"])


@dataclass(frozen=True, slots=True)
class ClaimRequest:
    """A batch that the planner let go, with the rules and the model it leaves under."""

    planned: PlannedBatch
    rule: LaneRule
    model: str


@dataclass(frozen=True, slots=True)
class Claim:
    """What a claimed batch needs to run, and the requester of each of its chats.

    Without a `batch` there was nothing to claim, or too little: then `left` waits on.
    """

    batch: RunnableBatch | None = None
    requesters: dict[int, Requester] = field(default_factory=dict)
    left: tuple[QueuedItem, ...] = ()


def claim_batches(requests: Sequence[ClaimRequest], *, owner: str, now: datetime) -> list[Claim]:
    """Makes the planned items running and records their first calls, in one transaction.

    Items that meanwhile left the queue or were sent again are left out, and so are those that may
    not share a call with the first under the lane's scope as it is now: the sweep finds them still
    queued. Where that leaves a batch that is neither full nor due any more, it is not formed.
    """
    with transaction.atomic():
        rows = lock_queued([item.id for request in requests for item in request.planned.items])
        held = [[i for i in r.planned.items if _is_of(i, rows.get(i.id))] for r in requests]
        held = [_keep_scope(r.rule, items, rows) for r, items in zip(requests, held, strict=True)]
        allowed = [
            items if _may_leave(request, items) else []
            for request, items in zip(requests, held, strict=True)
        ]
        filled = [(r, items) for r, items in zip(requests, allowed, strict=True) if items]
        claims = iter(_claim_filled(filled, rows, owner=owner, now=now))
    return [
        next(claims) if items else Claim(left=tuple(all_held))
        for items, all_held in zip(allowed, held, strict=True)
    ]


def _is_of(item: QueuedItem, row: QueuedRow | None) -> bool:
    return row is not None and item.generation in (row.requester.generation, 0)


def _keep_scope(
    rule: LaneRule, items: list[QueuedItem], rows: Mapping[int, QueuedRow]
) -> list[QueuedItem]:
    """Judged by the locked rows, whatever a message or an older rule said."""

    def group_of(item: QueuedItem) -> str:
        row = rows[item.id]
        return rule.group_of(row.client_id, row.requester.username)

    return [item for item in items if group_of(item) == group_of(items[0])]


def _may_leave(request: ClaimRequest, items: Sequence[QueuedItem]) -> bool:
    planned = request.planned
    complete = len(items) == len(planned.items) or len(items) >= request.rule.max_batch
    return bool(items) and (complete or any(item.due <= planned.at for item in items))


def _claim_filled(
    filled: Sequence[tuple[ClaimRequest, Sequence[QueuedItem]]],
    rows: Mapping[int, QueuedRow],
    *,
    owner: str,
    now: datetime,
) -> list[Claim]:
    batches = [_make_batch(r, items, owner=owner, now=now) for r, items in filled]
    _INSERT_BATCH.run(batches)
    start_chats(
        [
            (item.id, batch.pk)
            for batch, (_, items) in zip(batches, filled, strict=True)
            for item in items
        ],
        owner=owner,
        now=now,
        lease_until=now + timedelta(seconds=settings.LEASE_S),
    )
    works = [_make_works(request, items, rows) for request, items in filled]
    calls = [
        _make_call(batch.pk, work, rule=request.rule, model=request.model, now=now)
        for batch, work, (request, _) in zip(batches, works, filled, strict=True)
    ]
    _INSERT_CALL.run([call for call, _ in calls])
    return [
        Claim(
            RunnableBatch(
                id=batch.pk,
                rule=request.rule,
                model=request.model,
                items=work,
                first_call=PreparedCall(call.pk, prompt),
                probe=request.planned.probe,
            ),
            {item.id: rows[item.id].requester for item in work},
        )
        for batch, work, (call, prompt), (request, _) in zip(
            batches, works, calls, filled, strict=True
        )
    ]


def start_call(
    batch: RunnableBatch, items: Sequence[BatchItem], *, owner: str, now: datetime
) -> PreparedCall:
    """Records a further call for some of a batch's items before it is made."""
    with transaction.atomic():
        count_attempt([item.id for item in items], owner=owner)
        call, prompt = _make_call(batch.id, items, rule=batch.rule, model=batch.model, now=now)
        _INSERT_CALL.run([call])
    return PreparedCall(call.pk, prompt)


def end_calls(reports: Sequence[CallReport]) -> None:
    _END_CALL.run([[*_describe_end(r), r.call.id, CallStatus.STARTED] for r in reports])


def end_batches(batch_ids: Sequence[int], *, now: datetime) -> None:
    """Closes batches whose chats all have their end; the outcome follows from theirs."""
    statuses: dict[int, list[str]] = {batch_id: [] for batch_id in batch_ids}
    chats = Chat.objects.filter(batch_id__in=batch_ids).values_list("batch_id", "status")
    for batch_id, status in chats if batch_ids else ():
        statuses[batch_id].append(status)
    _END_BATCH.run(
        [
            (_judge_outcome(found), now, batch_id, Outcome.RUNNING)
            for batch_id, found in statuses.items()
            if all(status in FINAL_STATUSES for status in found)
        ]
    )


def _judge_outcome(statuses: Sequence[str]) -> Outcome:
    done = statuses.count(Status.DONE)
    if done == 0:
        return Outcome.FAILED
    return Outcome.DONE if done == len(statuses) else Outcome.PARTIAL


def _make_batch(
    request: ClaimRequest, items: Sequence[QueuedItem], *, owner: str, now: datetime
) -> Batch:
    return Batch(
        priority=int(request.planned.priority),
        trigger=str(request.planned.trigger),
        size=len(items),
        model=request.model,
        settings=describe_rule(request.rule),
        owner=owner,
        lateness_ms=round(request.planned.lateness_s * 1000, 3),
        created_at=now,
    )


def _make_works(
    request: ClaimRequest, items: Sequence[QueuedItem], rows: Mapping[int, QueuedRow]
) -> tuple[BatchItem, ...]:
    return tuple(
        BatchItem(
            id=item.id,
            prompt=rows[item.id].prompt,
            output_tokens=item.output_tokens,
            deadline=_find_deadline(item, rows[item.id]),
            target=item.target,
            attempts=rows[item.id].attempt,
            streamed=rows[item.id].streamed,
            request_id=rows[item.id].requester.request_id,
        )
        for item in items
    )


def _find_deadline(item: QueuedItem, row: QueuedRow) -> float:
    """On the planner's clock. Whoever joined since the item was planned may wait for longer."""
    return max(item.deadline, item.accepted + row.wait_s)


def _make_call(
    batch_id: int, items: Sequence[BatchItem], *, rule: LaneRule, model: str, now: datetime
) -> tuple[ModelCall, CombinedPrompt]:
    prompt = combine(
        [item.prompt for item in items],
        model=model,
        style=rule.style,
        output_tokens=sum(item.output_tokens for item in items),
        draw=_draw_key,
        budget=DEFAULT_BUDGET,
    )
    call = ModelCall(
        batch_id=batch_id,
        priority=int(rule.priority),
        kind=str(CallKind.SINGLE if len(items) == 1 else CallKind.COMBINED),
        attempt=max(item.attempts for item in items) + 1,
        model=model,
        item_ids=[item.id for item in items],
        prompt=str(prompt) if current_snapshot().store_prompts else "",
        started_at=now,
    )
    return call, prompt


def _describe_end(report: CallReport) -> list[object]:
    """The values of `_END_CALL_COLUMNS`."""
    error, usage = report.error, report.usage
    return [
        str(CallStatus.FAILED if error else CallStatus.COMPLETE),
        _make_storable(report.reply) if current_snapshot().store_prompts else "",
        _make_storable(report.finish_reason)[:40],
        error.code if error else "",
        str(error) if error else "",
        report.perhaps_billed,
        usage.prompt if usage else None,
        usage.output if usage else None,
        usage.thoughts if usage else None,
        usage.cached if usage else None,
        _milliseconds(report.first_token_s),
        _milliseconds(report.duration_s),
    ]


def _make_storable(text: str) -> str:
    """Without NUL and lone surrogates, which a model may write and no database keeps."""
    return text.replace("\x00", "\ufffd").encode("utf-8", "replace").decode()


def _draw_key() -> str:
    return secrets.token_hex(5)


def _milliseconds(seconds: float | None) -> int | None:
    return None if seconds is None else max(0, round(seconds * 1000))
