"""Explains in sentences what the settings of a lane mean for a request.

Placeholders such as {window_s} are filled here, and by `lane_help.js` while the user types.
"""

from typing import Any

from settings_app.models import BatchScope, Lane

UNITS = {
    **{"window_s": "s", "max_batch": "requests", "tokens": "tokens"},
    **{"latency_ms": "ms", "max_queue": "requests", "queue_share": "%"},
}
EFFECTS = {
    "window_s": "A request waits at most {window_s} s for others; a full batch leaves at once.",
    "max_batch": "At most {max_batch} requests share one model call.",
    "tokens": "An answer may take {tokens} tokens. A longer one is cut off; its request is then"
    " repeated alone, and fails as truncated if the answer is cut off again.",
    "latency_ms": "An answer within {latency_ms} ms of acceptance is in time. The lane whose"
    " oldest request is nearest to this goes first. A client waits at most 30 s longer.",
    "max_queue": "While {max_queue} requests wait, the next one is refused (503 queue_full).",
    "queue_share": "While others wait, one client may hold {queue_share} % of these places.",
}
SCOPES = {
    BatchScope.EVERYONE: "Prompts of different clients may share a model call.",
    BatchScope.CLIENT: "Only prompts of one client share a model call: batches are smaller.",
    BatchScope.USERNAME: "Only prompts of one username share a model call: batches are smallest.",
}
HELD = {
    True: "Answers are sent after the whole reply was read and checked.",
    False: "Answers are sent while the reply is still streaming.",
}


def format_effect(name: str, value: Any) -> str:
    number = f"{value:,}".removesuffix(".0") if isinstance(value, int | float) else value
    return EFFECTS[name].format(**{name: number})


def describe_lane(lane: Lane) -> list[str]:
    return [
        *(format_effect(name, getattr(lane, name)) for name in EFFECTS),
        SCOPES[BatchScope(lane.batch_scope)],
        HELD[lane.hold_until_checked],
    ]


def compare_fields(lanes: list[Lane]) -> list[tuple[str, str, list[str]]]:
    """Lists every setting except the style: its label, its unit, and its value in each lane."""
    numbers = [
        (
            str(field.verbose_name).partition(" (")[0],
            UNITS[field.name],
            [f"{getattr(lane, field.name):,}".removesuffix(".0") for lane in lanes],
        )
        for field in Lane._meta.concrete_fields
        if field.name in UNITS
    ]
    held = ["yes" if lane.hold_until_checked else "no" for lane in lanes]
    return [
        *numbers,
        ("batches hold", "", [str(lane.get_batch_scope_display()) for lane in lanes]),
        ("hold until checked", "", held),
    ]
