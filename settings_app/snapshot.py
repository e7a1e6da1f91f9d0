"""Holds the settings as an immutable value in memory, so that requests need no query."""

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import Literal

from django.conf import settings

from settings_app.crypto import DecryptionFailed, decrypt
from settings_app.models import GatewaySettings, Lane

KeySource = Literal["stored", "environment"]


@dataclass(frozen=True, slots=True)
class LaneSettings:
    priority: int
    tokens: int
    latency_ms: int
    window_s: float
    max_batch: int
    max_queue: int
    queue_share: int
    batch_scope: str
    hold_until_checked: bool
    style: str


@dataclass(frozen=True, eq=False)
class Snapshot:
    """The settings at one version. `key_problem` explains why a stored key cannot be used.

    Snapshots are compared by identity, so caches can use one as their key.
    """

    api_key: str | None = field(repr=False)
    key_source: KeySource | None
    key_problem: str
    model: str
    lanes: Mapping[int, LaneSettings]
    retention_days: int  # 0 means no limit.
    store_prompts: bool
    version: int


class _Memory:
    """The snapshot of this process. It is replaced as a whole, so readers need no lock."""

    lock = threading.Lock()
    snapshot: Snapshot | None = None


def current_snapshot() -> Snapshot:
    """Returns the snapshot in memory; only the first call reads the database."""
    return _Memory.snapshot or refresh_snapshot()


def has_snapshot() -> bool:
    """Whether `current_snapshot` needs no query, so that the event loop may call it."""
    return _Memory.snapshot is not None


def refresh_snapshot() -> Snapshot:
    """Reads a snapshot from the database and keeps it in memory."""
    # The lock keeps a slow reader from replacing a newer snapshot by an older one.
    with _Memory.lock:
        _Memory.snapshot = _read_snapshot()
        return _Memory.snapshot


def refresh_if_stale() -> Snapshot:
    """Reads the version, and a new snapshot only if the version has changed."""
    snapshot = _Memory.snapshot
    version = GatewaySettings.objects.values_list("version", flat=True).get(pk=1)
    if snapshot is not None and snapshot.version == version:
        return snapshot
    return refresh_snapshot()


def forget_snapshot() -> None:
    """Empties the memory, for tests, whose rows are rolled back."""
    _Memory.snapshot = None


def _read_snapshot() -> Snapshot:
    # The row with the version is read first. If a change happens between the two reads, its version
    # is newer than this one, so the next `refresh_if_stale` reads again.
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


def _read_key(encrypted: str) -> tuple[str | None, KeySource | None, str]:
    if encrypted:
        try:
            return decrypt(encrypted), "stored", ""
        except DecryptionFailed as error:
            return None, None, str(error)
    if settings.GEMINI_API_KEY:
        return settings.GEMINI_API_KEY, "environment", ""
    return None, None, ""
