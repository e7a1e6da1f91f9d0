"""The settings in the engine's terms, and how the model is reached at this moment."""

import enum
from functools import lru_cache
from typing import TYPE_CHECKING

from django.conf import settings

from batching.engine.lanes import LaneRule, Priority, Scope
from batching.llm.access import ModelAccess
from settings_app.snapshot import Snapshot, current_snapshot

if TYPE_CHECKING:
    from batching.llm.simulated.transport import SimulatedTransport


class ModelState(enum.StrEnum):
    """Where the answers come from."""

    GEMINI = "gemini"
    SIMULATED = "simulated"
    NO_API_KEY = "no_api_key"


@lru_cache(maxsize=2)
def read_rules(snapshot: Snapshot) -> dict[Priority, LaneRule]:
    return {
        Priority(lane.priority): LaneRule(
            priority=Priority(lane.priority),
            window_s=lane.window_s,
            max_batch=lane.max_batch,
            tokens=lane.tokens,
            latency_s=lane.latency_ms / 1000,
            max_queue=lane.max_queue,
            scope=Scope(lane.batch_scope),
            style=lane.style,
            hold=lane.hold_until_checked,
        )
        for lane in snapshot.lanes.values()
    }


def current_rules() -> dict[Priority, LaneRule]:
    return read_rules(current_snapshot())


@lru_cache(maxsize=1)
def _simulated_transport() -> "SimulatedTransport":
    from batching.llm.simulated.transport import SimulatedTransport

    return SimulatedTransport(kept_calls=0)  # whole prompts, and nobody asks for them


def read_access() -> ModelAccess:
    """A key goes to Gemini. Without one, DEBUG gives the simulated model, or the given address."""
    key, version = current_snapshot().api_key, settings.GEMINI_API_VERSION
    if key:
        return ModelAccess(key, settings.GEMINI_BASE_URL, version)
    if settings.DEBUG and settings.GEMINI_BASE_URL:
        return ModelAccess("no-key", settings.GEMINI_BASE_URL, version)
    if settings.DEBUG:
        return ModelAccess("simulated", "", version, _simulated_transport())
    return ModelAccess(None)


def model_state() -> ModelState:
    if current_snapshot().api_key or (settings.DEBUG and settings.GEMINI_BASE_URL):
        return ModelState.GEMINI
    return ModelState.SIMULATED if settings.DEBUG else ModelState.NO_API_KEY
