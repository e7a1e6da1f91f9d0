"""The lines that mark a request's way in the server log, and the blocks of the two log files.

The same steps are told to those who watch the live page.
For machines a line names what it concerns: `request_ids`, always a list, and `batch_id`.
"""

import json
import logging
from collections.abc import Iterable, Sequence

from django.conf import settings

from batching.engine.call import BatchItem, CallReport, PreparedCall
from batching.engine.planner import Batch as PlannedBatch
from batching.engine.planner import QueuedItem
from batching.engine.runner import RunnableBatch
from batching.telemetry.live_events import REPORTER
from chats.services import Finish, Requester

server = logging.getLogger("batching")
calls = logging.getLogger("batching.log.calls")
pairs = logging.getLogger("batching.log.pairs")

_CONTROLS = [*range(0x20), *range(0x7F, 0xA0)]
_WRITTEN_OUT = {code: f"\\x{code:02x}" for code in _CONTROLS if chr(code) not in "\n\t"}


def enqueued(items: Sequence[QueuedItem]) -> None:
    REPORTER.accepted(items)
    server.info(
        "[ENQUEUE] %s accepted: %s",
        _count(len(items), "request"),
        _list(f"{item.id} {item.priority.name}" for item in items),
        extra={
            "action": "enqueue",
            "chat_ids": [item.id for item in items],
            "request_ids": [item.request_id for item in items],
            "x_request_ids": [item.exchange for item in items],
        },
    )


def dispatched(batch: PlannedBatch) -> None:
    server.info(
        "[DISPATCH] %s of %s leave the queue (%s, %.1f ms after they were due).",
        _count(len(batch.items), "request"),
        batch.priority.name,
        batch.trigger,
        batch.lateness_s * 1000,
        extra={
            "action": "dispatch",
            "chat_ids": [item.id for item in batch.items],
            "request_ids": [item.request_id for item in batch.items],
        },
    )


def batch_started(batch: RunnableBatch, planned: PlannedBatch) -> None:
    REPORTER.dispatched(batch, planned)
    server.info(
        "[BATCH_START] batch %s: %s, model %s.",
        batch.id,
        _list(str(item.id) for item in batch.items),
        batch.model,
        extra=_fields("batch_start", batch, batch.items),
    )
    call_started(batch, batch.first_call, batch.items)


def call_started(batch: RunnableBatch, call: PreparedCall, items: Sequence[BatchItem]) -> None:
    REPORTER.call_started(batch, call, items)
    server.info(
        "[LLM_BATCH] batch %s: call %s for %s starts.",
        batch.id,
        call.id,
        _count(len(items), "request"),
        extra=_fields("call_start", batch, items) | {"call_id": call.id},
    )


def batch_ended(batch: RunnableBatch) -> None:
    REPORTER.batch_ended(batch)
    server.info(
        "[BATCH_COMPLETE] batch %s.",
        batch.id,
        extra=_fields("batch_complete", batch, batch.items),
    )


def suspected(batch: RunnableBatch, item: BatchItem, reason: str) -> None:
    server.warning(
        "batch %s: an answer to chat %s is not trusted: %s.",
        batch.id,
        item.id,
        reason,
        extra=_fields("suspect", batch, [item]),
    )


def call_ended(batch: RunnableBatch, report: CallReport) -> None:
    """Writes a file, so it runs in a database thread, off the event loop."""
    REPORTER.call_ended(batch, report)
    outcome = report.error.code if report.error else report.finish_reason or "no finish reason"
    server.info(
        "[LLM_BATCH] batch %s: call %s ended after %.0f ms (%s).",
        batch.id,
        report.call.id,
        report.duration_s * 1000,
        outcome,
        extra={
            "action": "call_end",
            "batch_id": batch.id,
            "call_id": report.call.id,
            "request_ids": report.request_ids,
        },
    )
    tokens = report.usage.total if report.usage else "unknown"
    lines = [
        f"batch={batch.id} call={report.call.id} model={batch.model} outcome={outcome}"
        f" duration_ms={report.duration_s * 1000:.0f} tokens={tokens}"
    ]
    if settings.LOG_PROMPTS:
        prompt = report.call.prompt
        lines += ["--- instruction", prompt.system, "--- prompts", prompt.contents]
        lines += ["--- reply", report.reply]
    if report.error:
        lines += ["--- error", str(report.error)]
    calls.info(_join_lines(lines))


def chat_ended(finish: Finish, *, prompt: str, requester: Requester) -> None:
    """Writes a file, so it runs in a database thread, off the event loop."""
    REPORTER.chat_ended(finish)
    values = finish.values
    lines = [
        f"chat={finish.chat_id} username={json.dumps(requester.username)}"
        f" request_id={json.dumps(requester.request_id)} status={values['status']}"
        f" latency_ms={values['latency_ms']} queue_ms={values['queue_ms']}"
    ]
    if settings.LOG_PROMPTS:
        lines += ["--- request", prompt]
        if "text" in values:
            lines += ["--- response", values["text"]]
    if "error_code" in values:
        lines += ["--- error", f"{values['error_code']}: {values['error_detail']}"]
    pairs.info(_join_lines(lines))


def _fields(action: str, batch: RunnableBatch, items: Sequence[BatchItem]) -> dict[str, object]:
    return {
        "action": action,
        "batch_id": batch.id,
        "chat_ids": [item.id for item in items],
        "request_ids": [item.request_id for item in items],
    }


def _join_lines(lines: list[str]) -> str:
    """With lone surrogates and control characters written out.

    No file in UTF-8 takes the former, and a terminal obeys the latter.
    """
    text = "\n".join(lines).translate(_WRITTEN_OUT)
    return text.encode("utf-8", "backslashreplace").decode()


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _list(names: Iterable[str], most: int = 20) -> str:
    names = list(names)
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
