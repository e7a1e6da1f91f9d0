"""Records every change of the settings and API keys, in the transaction of the change."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from django.db.models import Model

from settings_app.crypto import DecryptionFailed, decrypt
from settings_app.model_key import mask_key
from settings_app.models import ApiKey, GatewaySettings, Lane, SettingsChange, Via

SETTINGS = "Settings"
ANYONE = "anyone (open access)"
UNREADABLE = "(cannot be decrypted)"
KEY_FIELDS = ("name", "owner", "is_staff", "requests_per_minute", "expiry_date", "revoked")


@dataclass(frozen=True, slots=True)
class Author:
    name: str
    via: Via


COMMAND = Author("command", Via.COMMAND)


def find_author(username: str, via: Via) -> Author:
    """A Django user without a name has no session and uses open access."""
    return Author(username or ANYONE, via)


def record_settings_changes(
    row: GatewaySettings,
    values: Mapping[str, Any],
    lanes: Mapping[int, Mapping[str, Any]],
    *,
    api_key: str | None,
    by: Author,
) -> None:
    """Records changes. Call before the change, with the settings row locked."""
    changes = _compare(row, values)
    if api_key is not None:
        changes |= _compare_keys(row.api_key_encrypted, api_key)
    _store(SETTINGS, changes, by)
    rows = Lane.objects.in_bulk(list(lanes))
    for priority, lane in lanes.items():
        _store(str(rows[priority]), _compare(rows[priority], lane), by)


def record_key_created(key: ApiKey, *, by: Author) -> None:
    _store(name_key(key), {"created": ("", _describe_key(key))}, by)


def record_key_changed(old: ApiKey, new: ApiKey, *, by: Author) -> None:
    values = {name: getattr(new, name) for name in KEY_FIELDS}
    _store(name_key(new), _compare(old, values), by)


def record_key_deleted(key: ApiKey, *, by: Author) -> None:
    _store(name_key(key), {"deleted": (_describe_key(key), "")}, by)


def name_key(key: ApiKey) -> str:
    return f"API key {key.prefix} ({key.name})"


def _store(subject: str, changes: Mapping[str, tuple[str, str]], by: Author) -> None:
    SettingsChange.objects.bulk_create(
        SettingsChange(
            by=by.name, via=by.via, subject=subject, field=field, before=before, after=after
        )
        for field, (before, after) in changes.items()
    )


def _compare(row: Model, after: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    return {
        name: (_format(getattr(row, name)), _format(value))
        for name, value in after.items()
        if getattr(row, name) != value
    }


def _compare_keys(encrypted: str, new: str) -> dict[str, tuple[str, str]]:
    """Compares whole keys, because two keys may have the same mask."""
    try:
        old = decrypt(encrypted) if encrypted else ""
    except DecryptionFailed:
        return {"api_key": (UNREADABLE, mask_key(new) or "")}
    return {} if old == new else {"api_key": (mask_key(old) or "", mask_key(new) or "")}


def _format(value: Any) -> str:
    """Formats a value as the API does, and None as ""."""
    match value:
        case None:
            return ""
        case bool():
            return str(value).lower()
        case datetime():
            return f"{value.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
    return str(value)


def _describe_key(key: ApiKey) -> str:
    values = {name: _format(getattr(key, name)) for name in KEY_FIELDS}
    shown = [f"{name}: {value}" for name, value in values.items() if value not in ("", "false")]
    return "\n".join([f"client: {key.client.name}", *shown])
