"""The blocks of the two log files: one block per model call, one per finished request."""

import json
import logging

from django.conf import settings

from batching.engine.call import CallReport
from batching.engine.runner import RunnableBatch
from chats.services import Finish, Requester

calls = logging.getLogger("batching.log.calls")
pairs = logging.getLogger("batching.log.pairs")

_CONTROLS = [*range(0x20), *range(0x7F, 0xA0)]
_ESCAPES = {code: f"\\x{code:02x}" for code in _CONTROLS if chr(code) not in "\n\t"}


def write_call(batch: RunnableBatch, report: CallReport, *, outcome: str) -> None:
    tokens = str(report.usage.total) if report.usage else "unknown"
    tokens += " (estimated)" if report.estimated else ""
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


def write_request(finish: Finish, *, prompt: str, requester: Requester) -> None:
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


def _join_lines(lines: list[str]) -> str:
    """Escapes lone surrogates, which UTF-8 cannot encode, and control characters, which a
    terminal would obey."""
    text = "\n".join(lines).translate(_ESCAPES)
    return text.encode("utf-8", "backslashreplace").decode()
