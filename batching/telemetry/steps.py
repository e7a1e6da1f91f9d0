"""The steps of a request and of a batch. Each function logs one step, counts it for /metrics, and
reports it to the live page, so that a caller reports a step with one call.

The JSON form of a log line carries `request_ids`, always a list, and `batch_id`.
"""

import logging
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from batching.engine.items import BatchItem, CallReport, PreparedCall, QueuedItem
from batching.engine.lanes import Priority
from batching.engine.planner import Batch as PlannedBatch
from batching.engine.runner import RunnableBatch
from batching.telemetry import log_files, metrics
from batching.telemetry.live_events import REPORTER, Event
from chats.services import Finish, Requester

logger = logging.getLogger("batching")


def requests_accepted(items: Sequence[QueuedItem]) -> None:
    if REPORTER.watched:
        REPORTER.report("accepted", items=_describe_items(items))
    logger.info(
        "[ENQUEUE] %s accepted: %s",
        _count(len(items), "request"),
        _list(f"{item.id} {item.priority.name}" for item in items),
        extra=_fields("enqueue", items, x_request_ids=[item.exchange for item in items]),
    )


def batch_dispatched(planned: PlannedBatch) -> None:
    """The planner released the batch. Its requests are not claimed yet."""
    logger.info(
        "[DISPATCH] %s of %s leave the queue (%s, %.1f ms after they were due).",
        _count(len(planned.items), "request"),
        planned.priority.name,
        planned.trigger,
        planned.lateness_s * 1000,
        extra=_fields("dispatch", planned.items),
    )


def batch_started(batch: RunnableBatch, planned: PlannedBatch) -> None:
    """The requests are claimed and the first call begins."""
    metrics.count_batch(planned, size=len(batch.items))
    if REPORTER.watched:
        claimed = {item.id for item in batch.items}
        REPORTER.report(
            "dispatched",
            batch_id=batch.id,
            lane=planned.priority.name,
            trigger=str(planned.trigger),
            items=_describe_items([item for item in planned.items if item.id in claimed]),
        )
    logger.info(
        "[BATCH_START] batch %s: %s, model %s.",
        batch.id,
        _list(str(item.id) for item in batch.items),
        batch.model,
        extra=_fields("batch_start", batch.items, batch_id=batch.id),
    )
    _call_started(batch, batch.first_call, batch.items)


def retry_started(batch: RunnableBatch, call: PreparedCall, items: Sequence[BatchItem]) -> None:
    """A call after the first one of its batch begins."""
    metrics.RETRIES.labels(batch.rule.priority.name).inc()
    _call_started(batch, call, items)


def _call_started(batch: RunnableBatch, call: PreparedCall, items: Sequence[BatchItem]) -> None:
    REPORTER.report("call_started", batch_id=batch.id, call_id=call.id, size=len(items))
    logger.info(
        "[LLM_BATCH] batch %s: call %s for %s starts.",
        batch.id,
        call.id,
        _count(len(items), "request"),
        extra=_fields("call_start", items, batch_id=batch.id, call_id=call.id),
    )


def answer_suspected(batch: RunnableBatch, item: BatchItem, reason: str) -> None:
    logger.warning(
        "batch %s: an answer to chat %s failed a leak check: %s.",
        batch.id,
        item.id,
        reason,
        extra=_fields("suspect", [item], batch_id=batch.id),
    )


def call_ended(batch: RunnableBatch, report: CallReport) -> None:
    """Writes a file, so it runs in a database thread, off the event loop."""
    metrics.count_call(batch.rule.priority, report)
    outcome = report.error.code if report.error else report.finish_reason
    REPORTER.report(
        "call_ended",
        batch_id=batch.id,
        call_id=report.call.id,
        duration_ms=round(report.duration_s * 1000),
        outcome=outcome,
    )
    outcome = outcome or "no finish reason"
    ids = {"batch_id": batch.id, "call_id": report.call.id, "request_ids": report.request_ids}
    logger.info(
        "[LLM_BATCH] batch %s: call %s ended after %.0f ms (%s).",
        batch.id,
        report.call.id,
        report.duration_s * 1000,
        outcome,
        extra={"action": "call_end", **ids},
    )
    log_files.write_call(batch, report, outcome=outcome)


def request_ended(
    finish: Finish, *, prompt: str, requester: Requester, lane: Priority, added_s: float | None
) -> None:
    """The end of a request that ran in a batch. `added_s` is the time that the gateway added to
    an answer. Writes a file, so it runs in a database thread, off the event loop."""
    values = finish.values
    metrics.ENDED.labels(lane.name, values.get("error_code", metrics.ANSWERED)).inc()
    if added_s is not None:
        metrics.ADDED.labels(lane.name).observe(max(0.0, added_s))
    REPORTER.report(
        "item_ended",
        id=finish.chat_id,
        status=values["status"],
        code=values.get("error_code", ""),
        latency_ms=values["latency_ms"],
    )
    log_files.write_request(finish, prompt=prompt, requester=requester)


def requests_dropped(lanes: Mapping[int, Priority], *, code: str) -> None:
    """The end of requests that no batch answers, by chat id: expired, cancelled or exhausted."""
    if lanes:
        REPORTER.report("left", ids=list(lanes), reason=code)
    for lane, number in Counter(lanes.values()).items():
        metrics.ENDED.labels(lane.name, code).inc(number)


def batch_ended(batch: RunnableBatch) -> None:
    REPORTER.report("batch_ended", batch_id=batch.id)
    logger.info(
        "[BATCH_COMPLETE] batch %s.",
        batch.id,
        extra=_fields("batch_complete", batch.items, batch_id=batch.id),
    )


def _describe_items(items: Iterable[QueuedItem]) -> list[Event]:
    now = time.monotonic()
    return [
        {
            "id": item.id,
            "lane": item.priority.name,
            "username": item.username,
            "age_ms": round((now - item.accepted) * 1000),
            "due_in_ms": round((item.due - now) * 1000),
        }
        for item in items
    ]


def _fields(
    action: str, items: Sequence[QueuedItem | BatchItem], **others: object
) -> dict[str, object]:
    ids = {"chat_ids": [i.id for i in items], "request_ids": [i.request_id for i in items]}
    return {"action": action, **ids, **others}


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _list(names: Iterable[str], most: int = 20) -> str:
    names = list(names)
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
