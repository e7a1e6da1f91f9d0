"""Which model answers, and how to reach it. Does not import the SDK, which loads slowly."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING

from django.conf import settings

from settings_app.snapshot import current_snapshot

if TYPE_CHECKING:
    import httpx2

    from batching.llm.simulated.transport import SimulatedTransport


@dataclass(frozen=True, slots=True)
class ModelAccess:
    """How to reach the model. `transport`, if set, replaces the network."""

    api_key: str | None = field(repr=False)
    base_url: str = ""
    api_version: str = "v1beta"
    transport: httpx2.AsyncBaseTransport | None = None


class ModelState(enum.StrEnum):
    """Where the answers come from."""

    GEMINI = "gemini"
    SIMULATED = "simulated"
    NO_API_KEY = "no_api_key"


@lru_cache(maxsize=1)
def _simulated_transport() -> SimulatedTransport:
    from batching.llm.simulated.transport import Responder, SimulatedTransport

    return SimulatedTransport(Responder())


def read_access() -> ModelAccess:
    """With a key: Gemini. Without one, if DEBUG is on: the configured address or the simulation."""
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
