"""The state of the model for people: simulated, without a key, with a rejected key, or failing.

`capacity` is what this process knows of the workers; None before its start, or without a worker.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from batching.engine.capacity import Capacity
from batching.llm.access import ModelState, model_state
from batching.models import CallStatus, ModelCall
from settings_app.snapshot import current_snapshot

# Error codes that begin with this are failures of the model service itself.
UPSTREAM = "upstream_"
OK_TEXT = "The model answers."


@dataclass(frozen=True)
class Notice:
    level: Literal["info", "bad"]
    text: str
    at: datetime | None = None


def list_notices(capacity: Capacity | None) -> list[Notice]:
    state, problem = model_state(), current_snapshot().key_problem
    notices = [Notice("bad", problem)] if problem else []
    if state is ModelState.SIMULATED:
        text = "No model key is in use: every answer is simulated and begins with [simulated]."
        return [*notices, Notice("info", text)]
    if state is ModelState.NO_API_KEY:
        text = "No model key is in use: every request is refused (503 no_api_key)."
        return [*notices, Notice("bad", text)]
    return [*notices, *_list_pauses(capacity), *_list_call_trouble()]


def _list_pauses(capacity: Capacity | None) -> list[Notice]:
    """That the circuit breaker is open."""
    if capacity is None or not (capacity.paused_s or capacity.down):
        return []
    text = (
        f"The model service fails again and again: no call is made for {capacity.paused_s:.0f} s,"
        " then one alone tries it. New requests are refused (503 upstream_unavailable) while that"
        " fails too."
    )
    return [Notice("bad", text)]


def _list_call_trouble() -> list[Notice]:
    """That the newest call failed at the model service, until one succeeds."""
    columns = ("status", "error_code", "error_detail", "started_at")
    ended = ModelCall.objects.exclude(status=CallStatus.STARTED).only(*columns)
    call = ended.order_by("-id").first()
    if call is None or not call.error_code.startswith(UPSTREAM):
        return []
    text = f"The newest model call failed ({call.error_code}): {call.error_detail}"
    return [Notice("bad", text[:500], at=call.started_at)]


def read_model_state(capacity: Capacity | None) -> dict[str, str]:
    """`{"state", "level", "text"}`; the same notices as the pages show."""
    state, notices = _find_state(capacity), list_notices(capacity)
    if not notices:
        return {"state": "ok", "level": "info", "text": OK_TEXT}
    level = "bad" if any(notice.level == "bad" for notice in notices) else "info"
    return {"state": state, "level": level, "text": " ".join(n.text for n in notices)}


def _find_state(capacity: Capacity | None) -> str:
    match model_state():
        case ModelState.SIMULATED | ModelState.NO_API_KEY as state:
            return str(state)
    if capacity is not None and (capacity.paused_s or capacity.down):
        return "breaker_open"
    ended = ModelCall.objects.exclude(status=CallStatus.STARTED).order_by("-id")
    code, detail = ended.values_list("error_code", "error_detail").first() or ("", "")
    if code == "upstream_rejected_key":
        return "key_refused"
    return "quota" if "quota" in detail or "answered 429" in detail else "failing"
