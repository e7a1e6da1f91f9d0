"""Describes the settings as a JSON document, and validates a changed document."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from django.db.models import Model
from rest_framework import serializers

from settings_app.fields import (
    StrictBooleanField,
    StrictCharField,
    StrictFloatField,
    StrictIntegerField,
)
from settings_app.model_key import mask_key, validate_key, validate_model
from settings_app.models import MAX_RETENTION_DAYS, BatchScope, GatewaySettings, Lane, Priority
from settings_app.snapshot import Snapshot

LANE_FIELDS = {
    "high_priority": Priority.HIGH,
    "medium_priority": Priority.MEDIUM,
    "low_priority": Priority.LOW,
}


def describe_settings(snapshot: Snapshot) -> dict[str, Any]:
    lanes = {name: asdict(snapshot.lanes[priority]) for name, priority in LANE_FIELDS.items()}
    for lane in lanes.values():
        del lane["priority"]
    return {
        "api_key": mask_key(snapshot.api_key),
        "model": snapshot.model,
        **lanes,
        "retention_days": snapshot.retention_days,
        "store_prompts": snapshot.store_prompts,
        "api_key_source": snapshot.key_source,
        **({"api_key_problem": snapshot.key_problem} if snapshot.key_problem else {}),
    }


class KnownFieldsSerializer(serializers.Serializer[Any]):
    """Refuses unknown fields, so that a misspelt setting is not silently ignored."""

    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, dict):
            unknown = {str(name) for name in data} - set(self.fields)
            if unknown:
                raise serializers.ValidationError(
                    {name: ["There is no such setting."] for name in sorted(unknown)[:20]}
                )
        return super().to_internal_value(data)


class LaneSerializer(KnownFieldsSerializer):
    tokens = StrictIntegerField(min_value=1, max_value=65_536, required=False)
    latency_ms = StrictIntegerField(min_value=1, max_value=3_600_000, required=False)
    latency = StrictIntegerField(min_value=1, max_value=3_600_000, required=False)
    window_s = StrictFloatField(min_value=0, max_value=3600, required=False)
    max_batch = StrictIntegerField(min_value=1, max_value=100, required=False)
    max_queue = StrictIntegerField(min_value=1, max_value=1_000_000, required=False)
    queue_share = StrictIntegerField(min_value=1, max_value=100, required=False)
    batch_scope = serializers.ChoiceField(BatchScope.values, required=False)
    hold_until_checked = StrictBooleanField(required=False)
    # DRF removes declared fields from the class, so this one hides no attribute of `Field`.
    style = StrictCharField(max_length=2000, required=False)  # type: ignore[assignment]

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if "latency" in attrs:
            latency = attrs.pop("latency")
            if attrs.setdefault("latency_ms", latency) != latency:
                raise serializers.ValidationError(
                    {"latency": ["It means latency_ms, which has another value here."]}
                )
        return attrs


class SettingsSerializer(KnownFieldsSerializer):
    """Validates any subset of the document; `valid_changes` are arguments of `update_settings`."""

    api_key = StrictCharField(
        required=False, allow_blank=True, allow_null=True, trim_whitespace=False
    )
    model = StrictCharField(required=False, allow_blank=True, validators=[validate_model])
    high_priority = LaneSerializer(required=False)
    medium_priority = LaneSerializer(required=False)
    low_priority = LaneSerializer(required=False)
    retention_days = StrictIntegerField(min_value=0, max_value=MAX_RETENTION_DAYS, required=False)
    store_prompts = StrictBooleanField(required=False)
    api_key_source = serializers.JSONField(required=False, allow_null=True, write_only=True)
    api_key_problem = serializers.JSONField(required=False, allow_null=True, write_only=True)

    def validate_api_key(self, value: str | None) -> str | None:
        """Returns None, which changes nothing, for the mask of the current key."""
        if not value:
            return value
        key = value.strip()
        if key == self.context["mask"]:
            return None
        validate_key(key)
        return key

    @property
    def valid_changes(self) -> dict[str, Any]:
        valid = self.validated_data
        names = ("api_key", "model", "retention_days", "store_prompts")
        lanes = {LANE_FIELDS[name]: valid[name] for name in LANE_FIELDS if name in valid}
        return {name: valid.get(name) for name in names} | {"lanes": lanes}


def list_changed_models(changes: Mapping[str, Any]) -> list[type[Model]]:
    """The models that `update_settings` writes for these arguments."""
    values = [value for name, value in changes.items() if name != "lanes"]
    models: list[type[Model]] = [Lane] if any(changes["lanes"].values()) else []
    return models if values.count(None) == len(values) else [GatewaySettings, *models]
