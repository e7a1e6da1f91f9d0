"""Writes the records of model calls and closes the records of batches."""

import secrets
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from django.db import transaction
from django.db.models import QuerySet

from batching.engine.items import BatchItem, CallReport, PreparedCall
from batching.engine.lanes import DEFAULT_BUDGET, LaneRule
from batching.engine.prompt import CombinedPrompt, combine
from batching.engine.runner import RunnableBatch
from batching.models import Batch, CallKind, CallStatus, ModelCall, Outcome
from chats.bulk_sql import BulkInsert, BulkUpdate
from chats.models import FINAL_STATUSES, Chat, Status
from chats.services import count_attempt, lock_running, return_attempts, settle_shares
from settings_app.snapshot import current_snapshot

_TOKEN_COLUMNS = ["prompt_tokens", "output_tokens", "thoughts_tokens", "cached_tokens"]
_END_CALL_COLUMNS = ["status", "reply", "finish_reason", "error_code", "error_detail"]
_END_CALL_COLUMNS += ["perhaps_billed", *_TOKEN_COLUMNS, "estimated"]
_END_CALL_COLUMNS += ["first_token_ms", "duration_ms"]
_INSERT_CALL = BulkInsert(ModelCall)
_END_CALL = BulkUpdate(ModelCall, assign=_END_CALL_COLUMNS, where=["id", "status"])
_END_BATCH = BulkUpdate(Batch, assign=["outcome", "finished_at"], where=["id", "outcome"])


@dataclass(frozen=True, slots=True)
class NewCall:
    """A call that has no record yet, for some or all items of a batch."""

    batch_id: int
    rule: LaneRule
    model: str
    items: Sequence[BatchItem]


def start_call(
    batch: RunnableBatch,
    items: Sequence[BatchItem],
    *,
    owner: str,
    now: datetime,
    repeated: bool = False,
) -> tuple[PreparedCall | None, list[BatchItem]]:
    """Records a further call of a batch before it is made, for the items that the owner still runs.

    Returns the call, if there is one, and its items. `repeated`: the same call may be recorded
    already, by a transaction whose end is unknown.
    """
    with transaction.atomic():
        if repeated:
            lock_running([item.id for item in items], owner=owner)
            earlier = ModelCall.objects.filter(batch=batch.id, started_at=now)
            forget_unsent(earlier, owner=owner, chat_ids={item.id for item in items})
        attempts = lock_running([item.id for item in items], owner=owner)
        held = [item for item in items if attempts.get(item.id) == item.attempts]
        if not held:
            return None, []
        count_attempt([item.id for item in held])
        [call] = insert_calls([NewCall(batch.id, batch.rule, batch.model, held)], now=now)
    return call, held


def forget_unsent(
    calls: QuerySet[ModelCall], *, owner: str, chat_ids: Collection[int] | None = None
) -> None:
    """Deletes the records of calls that were never sent, so that they do not count as attempts.

    All ends of the owner's calls must be stored. `chat_ids`: only calls for these chats alone.
    """
    rows = calls.filter(status=CallStatus.STARTED).values_list("pk", "item_ids")
    unsent = [(pk, ids) for pk, ids in rows if chat_ids is None or set(ids).issubset(chat_ids)]
    return_attempts(Counter(chat_id for _, ids in unsent for chat_id in ids), owner=owner)
    ModelCall.objects.filter(pk__in=[pk for pk, _ in unsent]).delete()


def insert_calls(calls: Sequence[NewCall], *, now: datetime) -> list[PreparedCall]:
    """Builds the prompt of each call and records the call as started."""
    prompts = [_combine_prompts(call) for call in calls]
    rows = [_make_row(call, prompt, now=now) for call, prompt in zip(calls, prompts, strict=True)]
    _INSERT_CALL.run(rows)
    return [PreparedCall(row.pk, prompt) for row, prompt in zip(rows, prompts, strict=True)]


def end_calls(reports: Sequence[CallReport]) -> None:
    """Ends calls and adds their shares of tokens to the chats, for each call at most once.

    A call that is already ended stays unchanged: a commit was repeated, or another process took the
    chats and closed the batch. Call it in a transaction.
    """
    if not reports:
        return
    ids = [report.call.id for report in reports]
    started = ModelCall.objects.filter(pk__in=ids, status=CallStatus.STARTED)
    # Rows are locked in the order of their keys, so that two processes cannot wait for each other.
    locked = started.order_by("pk").select_for_update().values_list("pk", flat=True)
    open_ids = set(locked)
    ending = [report for report in reports if report.call.id in open_ids]
    _END_CALL.run([[*_list_end_values(r), r.call.id, CallStatus.STARTED] for r in ending])
    shares = [share for report in ending for share in report.shares.items()]
    settle_shares([(s.prompt, s.output, s.thoughts, s.cached, pk) for pk, s in shares])


def end_batches(sizes: Mapping[int, int], *, now: datetime) -> list[int]:
    """Closes those of the batches of which no chat runs; returns their ids.

    `sizes` maps the id of a batch to its size.
    """
    if not sizes:
        return []
    statuses: dict[int, list[str]] = {batch_id: [] for batch_id in sizes}
    chats = Chat.objects.filter(batch_id__in=sizes).values_list("batch_id", "status")
    for batch_id, status in chats:
        statuses[batch_id].append(status)
    final = set(FINAL_STATUSES)
    answered = {
        pk: found.count(Status.DONE) for pk, found in statuses.items() if final.issuperset(found)
    }
    outcomes = {pk: find_outcome(done, size=sizes[pk]) for pk, done in answered.items()}
    _END_BATCH.run([(outcome, now, pk, Outcome.RUNNING) for pk, outcome in outcomes.items()])
    return list(outcomes)


def find_outcome(answered: int, *, size: int) -> Outcome:
    """The outcome of an ended batch. A request that it lost to another batch is not answered."""
    if answered == 0:
        return Outcome.FAILED
    return Outcome.DONE if answered == size else Outcome.PARTIAL


def _combine_prompts(call: NewCall) -> CombinedPrompt:
    return combine(
        [item.prompt for item in call.items],
        model=call.model,
        style=call.rule.style,
        output_tokens=sum(item.output_tokens for item in call.items),
        draw=lambda: secrets.token_hex(5),
        budget=DEFAULT_BUDGET,
    )


def _make_row(call: NewCall, prompt: CombinedPrompt, *, now: datetime) -> ModelCall:
    return ModelCall(
        batch_id=call.batch_id,
        priority=int(call.rule.priority),
        kind=str(CallKind.SINGLE if len(call.items) == 1 else CallKind.COMBINED),
        attempt=max(item.attempts for item in call.items) + 1,
        model=call.model,
        item_ids=[item.id for item in call.items],
        prompt=str(prompt) if current_snapshot().store_prompts else "",
        started_at=now,
    )


def _list_end_values(report: CallReport) -> list[object]:
    """The values of `_END_CALL_COLUMNS`, in that order."""
    error, usage = report.error, report.usage
    return [
        str(CallStatus.FAILED if error else CallStatus.COMPLETE),
        _make_storable(report.reply) if current_snapshot().store_prompts else "",
        _make_storable(report.finish_reason)[:40],
        error.code if error else "",
        str(error) if error else "",
        report.perhaps_billed,
        *((usage.prompt, usage.output, usage.thoughts, usage.cached) if usage else [None] * 4),
        report.estimated,
        _to_milliseconds(report.first_token_s),
        _to_milliseconds(report.duration_s),
    ]


def _make_storable(text: str) -> str:
    """Replaces NUL characters and lone surrogates, which no database stores."""
    return text.replace("\x00", "\ufffd").encode("utf-8", "replace").decode()


def _to_milliseconds(seconds: float | None) -> int | None:
    return None if seconds is None else max(0, round(seconds * 1000))
