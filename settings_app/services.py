"""Changes the settings, here at once and in other processes within a second."""

import logging
from collections.abc import Mapping
from typing import Any

from asgiref.sync import async_to_sync
from channels.layers import get_channel_layer
from django.conf import settings
from django.db import transaction
from django.db.models import F
from django.utils import timezone

from settings_app.crypto import encrypt
from settings_app.history import COMMAND, Author, record_settings_changes
from settings_app.models import GatewaySettings, Lane, Priority
from settings_app.snapshot import refresh_snapshot

logger = logging.getLogger("settings_app")

CHANGED_CHANNEL = settings.BATCHING_CHANNEL


def update_settings(
    *,
    api_key: str | None = None,
    model: str | None = None,
    retention_days: int | None = None,
    store_prompts: bool | None = None,
    lanes: Mapping[int, Mapping[str, Any]] | None = None,
    by: Author = COMMAND,
) -> None:
    """Stores valid values, all or none of them. None keeps a value, "" clears it."""
    lanes = {priority: changes for priority, changes in (lanes or {}).items() if changes}
    given = {"model": model, "retention_days": retention_days, "store_prompts": store_prompts}
    values = {name: value for name, value in given.items() if value is not None}
    names = (["api_key"] if api_key is not None else []) + [*values, *_name_changes(lanes)]
    if not names:
        return
    with transaction.atomic():
        # Only changed columns are written, so two people can edit different fields at the same
        # time. Every writer locks this row first.
        row = GatewaySettings.objects.select_for_update().get(pk=1)
        record_settings_changes(row, values, lanes, api_key=api_key, by=by)
        _update_gateway(values, api_key=api_key)
        for priority, changes in lanes.items():
            Lane.objects.filter(priority=priority).update(**changes, updated_at=timezone.now())
        transaction.on_commit(_announce_change)
    logger.info(
        "Settings were changed by %s: %s.",
        by.name,
        ", ".join(names),
        extra={"action": "settings_changed", "fields": names},
    )


def announce_change() -> None:
    """Makes all processes drop what they cached, after a change of an API key, for example."""
    with transaction.atomic():
        _update_gateway({}, api_key=None)
        transaction.on_commit(_announce_change)


def _update_gateway(values: Mapping[str, Any], *, api_key: str | None) -> None:
    key = {} if api_key is None else {"api_key_encrypted": encrypt(api_key) if api_key else ""}
    GatewaySettings.objects.filter(pk=1).update(
        **values, **key, version=F("version") + 1, updated_at=timezone.now()
    )


def _announce_change() -> None:
    refresh_snapshot()
    try:
        layer = get_channel_layer()
        if layer is not None:
            async_to_sync(layer.send)(CHANGED_CHANNEL, {"type": "settings.changed"})
    except Exception as error:
        # Every process also reads the version once a second, so the message is not essential.
        logger.warning(
            "The change of settings could not be announced (%s).",
            type(error).__name__,
            extra={"action": "settings_unannounced"},
        )


def _name_changes(lanes: Mapping[int, Mapping[str, Any]]) -> list[str]:
    return [f"{Priority(p).name} {column}" for p, changes in lanes.items() for column in changes]
