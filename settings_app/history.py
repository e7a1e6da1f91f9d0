"""Records every change of the settings and API keys, in the transaction of the change."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

from settings_app.crypto import DecryptionFailed, decrypt
from settings_app.model_key import mask_key
from settings_app.models import ApiKey, GatewaySettings, Lane, SettingsChange, Via

SETTINGS = "Settings"
ANYONE = "anyone (open access)"
UNREADABLE = "(cannot be decrypted)"
KEY_FIELDS = ("name", "owner", "is_staff", "requests_per_minute", "expiry_date", "revoked")


class Named(Protocol):
    """A Django user, or the holder of an API key."""

    def get_username(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Author:
    name: str
    via: Via


COMMAND = Author("command", Via.COMMAND)


def find_author(user: Named, via: Via) -> Author:
    """Names the user; a Django user without a name has no session and uses open access."""
    return Author(user.get_username() or ANYONE, via)


def record_settings_changes(
    row: GatewaySettings, values: Mapping[str, Any], *, api_key: str | None, by: Author
) -> None:
    """Records the changes of settings. Call before the change, with the settings row locked."""
    before = {name: getattr(row, name) for name in values}
    changes = _compare(before, values)
    if api_key is not None:
        changes |= _compare_keys(row.api_key_encrypted, api_key)
    _store(SETTINGS, changes, by)


def record_lane_changes(lanes: Mapping[int, Mapping[str, Any]], *, by: Author) -> None:
    """Records the changes of lanes. Call before the change, with the settings row locked."""
    rows = Lane.objects.in_bulk(list(lanes))
    for priority, values in lanes.items():
        before = {name: getattr(rows[priority], name) for name in values}
        _store(str(rows[priority]), _compare(before, values), by)


def record_key_created(key: ApiKey, *, by: Author) -> None:
    _store(name_key(key), {"created": ("", _describe_key(key))}, by)


def record_key_changed(old: ApiKey, new: ApiKey, *, by: Author) -> None:
    before, after = ({name: getattr(key, name) for name in KEY_FIELDS} for key in (old, new))
    _store(name_key(new), _compare(before, after), by)


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


def _compare(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    return {
        name: (_format(before[name]), _format(value))
        for name, value in after.items()
        if before[name] != value
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
    shown = {name: value for name, value in values.items() if value not in ("", "false")}
    return "\n".join(
        f"{name}: {value}" for name, value in ({"client": key.client.name} | shown).items()
    )
