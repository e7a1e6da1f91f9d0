"""The model's state in one word and one sentence, for those who watch."""

from batching.models import CallStatus, ModelCall
from batching.process.runtime import find_capacity
from batching.store.lane_rules import ModelState, model_state
from batching.store.model_status import list_notices

OK_TEXT = "The model answers."


def read_model_state() -> dict[str, str]:
    """`{"state", "level", "text"}`; the same notices as the pages show."""
    state, notices = _find_state(), list_notices()
    if not notices:
        return {"state": "ok", "level": "info", "text": OK_TEXT}
    level = "bad" if any(notice.level == "bad" for notice in notices) else "info"
    return {"state": state, "level": level, "text": " ".join(n.text for n in notices)}


def _find_state() -> str:
    match model_state():
        case ModelState.SIMULATED | ModelState.NO_API_KEY as state:
            return str(state)
    capacity = find_capacity()
    if capacity is not None and (capacity.paused_s or capacity.down):
        return "breaker_open"
    ended = ModelCall.objects.exclude(status=CallStatus.STARTED).order_by("-id")
    code, detail = ended.values_list("error_code", "error_detail").first() or ("", "")
    if code == "upstream_rejected_key":
        return "key_refused"
    return "quota" if "quota" in detail or "answered 429" in detail else "failing"
