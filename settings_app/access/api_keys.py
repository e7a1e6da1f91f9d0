"""Creates and changes API keys, and caches them so that a known key needs no query."""

import hashlib
import re
import time
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import ClassVar

from django.db import transaction
from django.db.models import QuerySet
from rest_framework.exceptions import AuthenticationFailed

from settings_app.history import Author, record_key_changed, record_key_created, record_key_deleted
from settings_app.models import ApiClient, ApiKey
from settings_app.services import announce_change
from settings_app.snapshot import Snapshot, current_snapshot

# A changed key is noticed earlier: like any change of the settings, within a second.
CACHE_S = 60.0
MAX_CACHED = 10_000
_KEY_PATTERN = re.compile(r"[A-Za-z0-9]{8}\.[A-Za-z0-9]{32}")


class InvalidKey(AuthenticationFailed):
    default_detail = "This API key is not valid: it is unknown, revoked or expired."
    auth_header = "Bearer"


@dataclass(frozen=True, slots=True)
class Principal:
    """A valid key as `request.auth` and `request.user`: its client, and what it permits."""

    is_authenticated: ClassVar[bool] = True
    is_active: ClassVar[bool] = True
    pk: ClassVar[None] = None

    prefix: str
    client_id: int
    is_staff: bool
    requests_per_minute: int | None
    expires_at: datetime | None

    def get_username(self) -> str:
        return f"key {self.prefix}"


class KeyCache:
    """Caches keys by digest. It is emptied when any key changes."""

    def __init__(self) -> None:
        # The principal, or None for an invalid key, and until when (in monotonic seconds) it holds.
        self._keys: dict[bytes, tuple[Principal | None, float]] = {}
        self._snapshot: Snapshot | None = None
        self._last_used: dict[str, datetime] = {}

    def find_cached(self, key: str) -> Principal | None:
        """Reads the cache; None means that the database must be read. Raises InvalidKey."""
        if self._snapshot is not current_snapshot():
            return None
        principal, until = self._keys.get(_digest(key), (None, 0.0))
        return None if until < time.monotonic() else self._use(principal)

    def read_principal(self, key: str) -> Principal:
        """Reads the database and caches the result. Raises InvalidKey."""
        # The snapshot is taken before the query, so a change during the query discards the result.
        snapshot = current_snapshot()
        principal = _find_principal(key)
        if self._snapshot is not snapshot or len(self._keys) >= MAX_CACHED:
            self._keys, self._snapshot = {}, snapshot
        self._keys[_digest(key)] = principal, time.monotonic() + CACHE_S
        return self._use(principal)

    def _use(self, principal: Principal | None) -> Principal:
        now = datetime.now(UTC)
        if principal is None or (principal.expires_at is not None and principal.expires_at <= now):
            raise InvalidKey
        self._last_used[principal.prefix] = now
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
        announce_change()  # This comes first because it locks the row that every writer locks.
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
        announce_change()  # This takes the same lock.
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
