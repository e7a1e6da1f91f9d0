"""What people must know about the model: it is simulated, it has no key, it refuses the key or
fails."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from batching.models import CallStatus, ModelCall
from batching.process.runtime import find_capacity, get_runtime
from batching.store.lane_rules import ModelState, model_state
from settings_app.snapshot import current_snapshot, refresh_if_stale

UPSTREAM = "upstream_"
"""what the codes of failures begin with that are the model service's own"""


@dataclass(frozen=True)
class Notice:
    level: Literal["info", "bad"]
    text: str
    at: datetime | None = None


def list_notices() -> list[Notice]:
    state, problem = model_state(), current_snapshot().key_problem
    notices = [Notice("bad", problem)] if problem else []
    if state is ModelState.SIMULATED:
        text = "No model key is in use: every answer is simulated and begins with [simulated]."
        return [*notices, Notice("info", text)]
    if state is ModelState.NO_API_KEY:
        text = "No model key is in use: every request is refused (503 no_api_key)."
        return [*notices, Notice("bad", text)]
    return [*notices, *_list_pauses(), *_list_call_trouble()]


def _list_pauses() -> list[Notice]:
    """That the circuit breaker is open."""
    capacity = find_capacity()
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


async def explain_key_trouble() -> str:
    """Asks the model service; "" if key and model work, else why they do not."""
    runtime = await get_runtime()
    snapshot = await runtime.database.run(refresh_if_stale)
    match model_state():
        case ModelState.SIMULATED:
            return "No key is set: answers are simulated."
        case ModelState.NO_API_KEY:
            return snapshot.key_problem or "No key is set."
    return await runtime.model.test_key(snapshot.model)
