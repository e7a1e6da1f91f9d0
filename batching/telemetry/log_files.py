"""The blocks of the two log files: one block per model call, one per finished request."""

import json
import logging
from collections.abc import Mapping

from django.conf import settings

from batching.engine.items import CallReport
from batching.engine.runner import RunnableBatch
from chats.services import Finish, Requester
from settings_app.snapshot import current_snapshot

calls = logging.getLogger("batching.log.calls")
pairs = logging.getLogger("batching.log.pairs")

_CONTROLS = [*range(0x20), *range(0x7F, 0xA0)]
_ESCAPES = {code: f"\\x{code:02x}" for code in _CONTROLS if chr(code) not in "\n\t"}
_ESCAPES |= {code: f"\\u{code:x}" for code in (0x2028, 0x2029)}  # line breaks for some programs


def write_call(batch: RunnableBatch, report: CallReport, *, outcome: str) -> None:
    tokens = str(report.usage.total) if report.usage else "unknown"
    tokens += " (estimated)" if report.estimated else ""
    head = (
        f"batch={batch.id} call={report.call.id} model={batch.model} outcome={outcome}"
        f" duration_ms={report.duration_s * 1000:.0f} tokens={tokens}"
    )
    parts: dict[str, str] = {}
    if _may_log_prompts():
        prompt = report.call.prompt
        parts |= {"instruction": prompt.system, "prompts": prompt.contents, "reply": report.reply}
    if report.error:
        parts["error"] = str(report.error)
    calls.info(_format_block(head, parts))


def write_request(finish: Finish, *, prompt: str, requester: Requester) -> None:
    values = finish.values
    head = (
        f"chat={finish.chat_id} username={json.dumps(requester.username)}"
        f" request_id={json.dumps(requester.request_id)} status={values['status']}"
        f" latency_ms={values['latency_ms']} queue_ms={values['queue_ms']}"
    )
    parts: dict[str, str] = {}
    if _may_log_prompts():
        parts["request"] = prompt
        if "text" in values:
            parts["response"] = values["text"]
    if "error_code" in values:
        parts["error"] = f"{values['error_code']}: {values['error_detail']}"
    pairs.info(_format_block(head, parts))


def _may_log_prompts() -> bool:
    return settings.LOG_PROMPTS and current_snapshot().store_prompts


def _format_block(head: str, parts: Mapping[str, str]) -> str:
    """Indents the lines of each part, so that no text can look like the head of another block.

    Lone surrogates, which UTF-8 cannot encode, and control characters, which a terminal would obey,
    are escaped.
    """
    lines = [head]
    for name, text in parts.items():
        lines += [f"--- {name}", *(f"    {line}" for line in text.split("\n"))]
    block = "\n".join(lines).translate(_ESCAPES)
    return block.encode("utf-8", "backslashreplace").decode()
