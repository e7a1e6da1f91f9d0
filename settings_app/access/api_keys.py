"""API keys: who holds one, remembered so that a known key costs no query and no thread."""

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
    COMMAND,
    Author,
    record_changed_key,
    record_deleted_key,
    record_new_key,
)
from settings_app.models import ApiClient, ApiKey
from settings_app.services import announce_change
from settings_app.snapshot import Snapshot, current_snapshot

REMEMBERED_S = 60.0
"""at most; a change of any key is heard of within a second, with that of the settings"""
MAX_REMEMBERED = 10_000
_FORM = re.compile(r"[A-Za-z0-9]{8}\.[A-Za-z0-9]{32}")


@dataclass(frozen=True, slots=True)
class Principal:
    """What a valid key says about who asks."""

    prefix: str
    client_id: int
    is_staff: bool
    requests_per_minute: int | None
    expires_at: datetime | None


@dataclass(frozen=True, slots=True)
class Memory:
    """`principal` is None for a key that is none; `until` is in monotonic seconds."""

    principal: Principal | None
    until: float


class KeyRing:
    """The keys that this process has seen lately, by digest; empty after every change of a key."""

    def __init__(self) -> None:
        self._known: dict[bytes, Memory] = {}
        self._snapshot: Snapshot | None = None
        self._used: dict[str, datetime] = {}

    def recall(self, key: str) -> Memory | None:
        """Without a query; None if the database has to be asked."""
        if self._snapshot is not current_snapshot():
            return None
        memory = self._known.get(_digest(key))
        if memory is None or memory.until < time.monotonic():
            return None
        principal, now = memory.principal, datetime.now(UTC)
        if principal is None:
            return memory
        if principal.expires_at is not None and principal.expires_at <= now:
            return Memory(None, memory.until)
        self._used[principal.prefix] = now
        return memory

    def look_up(self, key: str) -> Principal | None:
        """Asks the database, and remembers what it says, also of a wrong key."""
        snapshot = current_snapshot()  # before the query: a change meanwhile makes this too old
        principal = _find_principal(key)
        if self._snapshot is not snapshot or len(self._known) >= MAX_REMEMBERED:
            self._known, self._snapshot = {}, snapshot
        self._known[_digest(key)] = Memory(principal, time.monotonic() + REMEMBERED_S)
        if principal is not None:
            self._used[principal.prefix] = datetime.now(UTC)
        return principal

    def write_last_used(self) -> int:
        """Stores when each key was used last; gives how many were used since the last time."""
        used, self._used = self._used, {}
        for prefix, moment in used.items():
            ApiKey.objects.filter(prefix=prefix).update(last_used_at=moment)
        return len(used)


KEY_RING = KeyRing()


def create_api_key(
    *,
    name: str,
    client: ApiClient | None = None,
    owner: str = "",
    is_staff: bool = False,
    requests_per_minute: int | None = None,
    by: Author = COMMAND,
) -> tuple[ApiKey, str]:
    """The stored row and the key, which nobody can read again."""
    row = ApiKey(name=name, owner=owner, is_staff=is_staff, requests_per_minute=requests_per_minute)
    if client is not None:
        row.client = client
    return row, store_api_key(row, by=by)


def store_api_key(row: ApiKey, *, by: Author) -> str:
    """Gives a new row its key and, if it has none, a client of its own; returns the key."""
    with transaction.atomic():
        key = ApiKey.objects.assign_key(row)
        if row.client_id is None:
            row.client = ApiClient.objects.create(name=_free_name(row.name, row.prefix))
        row.save(force_insert=True)
        record_new_key(row, by=by)
        announce_change()
    return key


def change_api_key(row: ApiKey, fields: Sequence[str], *, by: Author) -> bool:
    """Stores those fields of an edited row; False if it was deleted meanwhile.

    The others stay as they are: whoever edits a name must not undo a revocation.
    """
    with transaction.atomic():
        announce_change()  # first, because it takes the lock that every writer begins with
        stored = ApiKey.objects.filter(pk=row.pk).first()
        if stored is None:
            return False
        before = copy(stored)
        for field in fields:
            setattr(stored, field, getattr(row, field))
        record_changed_key(before, stored, by=by)
        stored.save(update_fields=fields)
    return True


def delete_api_keys(rows: QuerySet[ApiKey], *, by: Author) -> None:
    with transaction.atomic():
        announce_change()  # as above
        for row in rows.select_related("client"):
            record_deleted_key(row, by=by)
        rows.delete()


def _free_name(name: str, prefix: str) -> str:
    return f"{name} {prefix}" if ApiClient.objects.filter(name=name).exists() else name


def _find_principal(key: str) -> Principal | None:
    if not _FORM.fullmatch(key):
        return None  # no database need see it
    try:
        row = ApiKey.objects.get_from_key(key)
    except ApiKey.DoesNotExist:
        return None
    if row.has_expired:
        return None
    return Principal(
        row.prefix, row.client_id, row.is_staff, row.requests_per_minute, row.expiry_date
    )


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()
