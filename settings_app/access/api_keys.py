"""Creates and changes API keys, and caches them so that a known key needs no query."""

import hashlib
import re
import time
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from datetime import UTC, datetime

from django.db import transaction
from django.db.models import QuerySet

from settings_app.history import (
    Author,
    record_key_changed,
    record_key_created,
    record_key_deleted,
)
from settings_app.models import ApiClient, ApiKey
from settings_app.services import announce_change
from settings_app.snapshot import Snapshot, current_snapshot

# A changed key is noticed earlier: like any change of the settings, within a second.
CACHE_S = 60.0
MAX_CACHED = 10_000
_KEY_PATTERN = re.compile(r"[A-Za-z0-9]{8}\.[A-Za-z0-9]{32}")


@dataclass(frozen=True, slots=True)
class Principal:
    """The client that a valid key belongs to, and what the key permits."""

    prefix: str
    client_id: int
    is_staff: bool
    requests_per_minute: int | None
    expires_at: datetime | None


@dataclass(frozen=True, slots=True)
class CachedKey:
    """`principal` is None for an invalid key; `expires_at` is in monotonic seconds."""

    principal: Principal | None
    expires_at: float


class KeyCache:
    """Caches keys by digest. It is emptied when any key changes."""

    def __init__(self) -> None:
        self._keys: dict[bytes, CachedKey] = {}
        self._snapshot: Snapshot | None = None
        self._last_used: dict[str, datetime] = {}

    def find_cached(self, key: str) -> CachedKey | None:
        """Reads the cache; None means that the database must be read."""
        if self._snapshot is not current_snapshot():
            return None
        cached = self._keys.get(_digest(key))
        if cached is None or cached.expires_at < time.monotonic():
            return None
        principal, now = cached.principal, datetime.now(UTC)
        if principal is None:
            return cached
        if principal.expires_at is not None and principal.expires_at <= now:
            return CachedKey(None, cached.expires_at)
        self._last_used[principal.prefix] = now
        return cached

    def read_principal(self, key: str) -> Principal | None:
        """Reads the database and caches the result, also for an invalid key."""
        # The snapshot is taken before the query, so a change during the query discards the result.
        snapshot = current_snapshot()
        principal = _find_principal(key)
        if self._snapshot is not snapshot or len(self._keys) >= MAX_CACHED:
            self._keys, self._snapshot = {}, snapshot
        self._keys[_digest(key)] = CachedKey(principal, time.monotonic() + CACHE_S)
        if principal is not None:
            self._last_used[principal.prefix] = datetime.now(UTC)
        return principal

    def write_last_used(self) -> int:
        """Stores when keys were last used; returns the number of keys used since the last call."""
        last_used, self._last_used = self._last_used, {}
        for prefix, timestamp in last_used.items():
            ApiKey.objects.filter(prefix=prefix).update(last_used_at=timestamp)
        return len(last_used)


KEY_CACHE = KeyCache()


def store_api_key(row: ApiKey, *, by: Author) -> str:
    """Stores a new row, with a new client if it has none; returns the generated key."""
    with transaction.atomic():
        key = ApiKey.objects.assign_key(row)
        if not row.client_id:
            row.client = ApiClient.objects.create(name=_free_name(row.name, row.prefix))
        row.save(force_insert=True)
        record_key_created(row, by=by)
        announce_change()
    return key


def change_api_key(row: ApiKey, fields: Sequence[str], *, by: Author) -> bool:
    """Stores the named fields of an edited row; returns False if the row was deleted since.

    The other fields keep their stored values, so that editing a name cannot undo a revocation.
    """
    with transaction.atomic():
        announce_change()  # This comes first because it takes the lock of all writers.
        stored = ApiKey.objects.filter(pk=row.pk).first()
        if stored is None:
            return False
        before = copy(stored)
        for field in fields:
            setattr(stored, field, getattr(row, field))
        record_key_changed(before, stored, by=by)
        stored.save(update_fields=fields)
    return True


def delete_api_keys(rows: QuerySet[ApiKey], *, by: Author) -> None:
    with transaction.atomic():
        announce_change()  # This takes the lock, as above.
        for row in rows.select_related("client"):
            record_key_deleted(row, by=by)
        rows.delete()


def _free_name(name: str, prefix: str) -> str:
    return f"{name} {prefix}" if ApiClient.objects.filter(name=name).exists() else name


def _find_principal(key: str) -> Principal | None:
    if not _KEY_PATTERN.fullmatch(key):
        return None
    try:
        row = ApiKey.objects.get_from_key(key)
    except ApiKey.DoesNotExist:
        return None
    assert isinstance(row, ApiKey)
    if row.has_expired:
        return None
    return Principal(
        row.prefix, row.client_id, row.is_staff, row.requests_per_minute, row.expiry_date
    )


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()
