"""The settings as one immutable value in memory, read on the hot path without a query."""

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import Literal

from django.conf import settings

from settings_app.crypto import DecryptionFailed, decrypt
from settings_app.models import GatewaySettings, Lane


@dataclass(frozen=True, slots=True)
class LaneSettings:
    priority: int
    window_s: float
    max_batch: int
    tokens: int
    latency_ms: int
    max_queue: int
    batch_scope: str
    hold_until_checked: bool
    style: str


@dataclass(frozen=True, eq=False)
class Snapshot:
    """`key_problem` says why a stored key cannot be used; then no key counts as set.

    Each one equals itself alone, so what is derived from it can be cached by it.
    """

    api_key: str | None = field(repr=False)
    key_source: Literal["stored", "environment"] | None
    key_problem: str
    model: str
    lanes: Mapping[int, LaneSettings]
    retention_days: int
    """0 is for ever"""
    store_prompts: bool
    version: int


class _Memory:
    """The one snapshot of this process; replaced as a whole, so readers need no lock."""

    lock = threading.Lock()
    snapshot: Snapshot | None = None


def current_snapshot() -> Snapshot:
    """From memory; only the first call of a process reads the database."""
    return _Memory.snapshot or refresh_snapshot()


def refresh_snapshot() -> Snapshot:
    """From the database; every later reader of this process gets it."""
    # One reader at a time, or a slow one could put an older state over a newer.
    with _Memory.lock:
        _Memory.snapshot = _read_snapshot()
        return _Memory.snapshot


def refresh_if_stale() -> Snapshot:
    """Reads one number, and the rest only if another process changed it."""
    snapshot = _Memory.snapshot
    version = GatewaySettings.objects.values_list("version", flat=True).get(pk=1)
    if snapshot is not None and snapshot.version == version:
        return snapshot
    return refresh_snapshot()


def forget_snapshot() -> None:
    """Makes the next reader read the database; for tests, whose rows come and go."""
    _Memory.snapshot = None


def _read_snapshot() -> Snapshot:
    # The version first: should a change fall between the reads, the next look at it differs.
    row = GatewaySettings.objects.get(pk=1)
    key, source, problem = _read_key(row.api_key_encrypted)
    columns = [column.name for column in fields(LaneSettings)]
    lanes = {lane["priority"]: LaneSettings(**lane) for lane in Lane.objects.values(*columns)}
    return Snapshot(
        api_key=key,
        key_source=source,
        key_problem=problem,
        model=row.model or settings.GEMINI_MODEL,
        lanes=MappingProxyType(lanes),
        retention_days=row.retention_days,
        store_prompts=row.store_prompts,
        version=row.version,
    )


def _read_key(
    encrypted: str,
) -> tuple[str | None, Literal["stored", "environment"] | None, str]:
    if encrypted:
        try:
            return decrypt(encrypted), "stored", ""
        except DecryptionFailed as error:
            return None, None, str(error)
    if settings.GEMINI_API_KEY:
        return settings.GEMINI_API_KEY, "environment", ""
    return None, None, ""
