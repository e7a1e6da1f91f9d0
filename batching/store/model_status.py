"""The status of the model for people: simulated, without a key, with a rejected key, or failing.

`capacity` is what this process knows of the workers; None before its start, or without a worker.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from batching.engine.capacity import Capacity
from batching.engine.errors import TimedOut
from batching.llm.access import ModelState, model_state
from batching.llm.limits import PROJECT_STATES
from batching.models import CallStatus, ModelCall
from settings_app.history import SETTINGS
from settings_app.models import SettingsChange
from settings_app.snapshot import current_snapshot


@dataclass(frozen=True)
class Notice:
    """One sentence for the banner of every page. `state` is the word for it on the live page."""

    state: str
    level: Literal["info", "bad"]
    text: str
    at: datetime | None = None


def read_model_state(capacity: Capacity | None) -> dict[str, str]:
    """`{"state", "level", "text"}` for the live page; the text is that of the notices."""
    notices = list_notices(capacity)
    if not notices:
        return {"state": "ok", "level": "info", "text": "The model answers."}
    state = next((n.state for n in notices if n.state != "failing"), "failing")
    level = "bad" if any(notice.level == "bad" for notice in notices) else "info"
    return {"state": state, "level": level, "text": " ".join(n.text for n in notices)}


def list_notices(capacity: Capacity | None) -> list[Notice]:
    """Everything that keeps the model from answering; empty if it answers."""
    state, problem = model_state(), current_snapshot().key_problem
    notices = [Notice("failing", "bad", problem)] if problem else []
    if state is ModelState.SIMULATED:
        text = "No model key is in use: every answer is simulated and begins with [simulated]."
        return [*notices, Notice(str(state), "info", text)]
    if state is ModelState.NO_API_KEY:
        text = "No model key is in use: every request is refused (503 no_api_key)."
        return [*notices, Notice(str(state), "bad", text)]
    if capacity is not None and (capacity.paused_s or capacity.down):  # the breaker is open
        text = (
            "The model service fails again and again: no call is made for"
            f" {capacity.paused_s:.0f} s, then a single call tests it. New requests are refused"
            " (503 upstream_unavailable) if that call fails too."
        )
        notices.append(Notice("breaker_open", "bad", text))
    return [*notices, *_list_call_failures()]


def _list_call_failures() -> list[Notice]:
    """A notice if the newest call failed at the model service itself, not in the gateway.

    It is shown until a call succeeds, or somebody changes the key or the model.
    """
    columns = ("status", "error_code", "error_detail", "started_at")
    ended = ModelCall.objects.exclude(status=CallStatus.STARTED).only(*columns)
    # A call that ended because nobody waited any more says nothing about the service.
    call = ended.exclude(error_code=TimedOut.code).order_by("-id").first()
    if call is None or not call.error_code.startswith("upstream_"):
        return []
    changes = SettingsChange.objects.filter(subject=SETTINGS, field__in=["api_key", "model"])
    if changes.filter(changed_at__gt=call.started_at).exists():
        return []
    state = "failing"
    if call.error_code == "upstream_rejected_key":
        state = "key_refused"
    elif call.error_detail in PROJECT_STATES or "answered 429" in call.error_detail:
        state = "quota"
    text = f"The newest model call failed ({call.error_code}): {call.error_detail}"
    return [Notice(state, "bad", text[:500], at=call.started_at)]
