"""Serializer fields that the APIs of several apps share."""

import sys
from datetime import UTC, datetime
from typing import Any

from rest_framework import serializers

from settings_app.models import Priority


class StrictIntegerField(serializers.IntegerField):
    """Accepts a JSON number without a fraction, such as 3 or 3.0, but neither a string nor true."""

    def to_internal_value(self, data: Any) -> int:
        if type(data) is float and data.is_integer():
            return int(data)
        if type(data) is not int:
            self.fail("invalid")
        return data


class StrictFloatField(serializers.FloatField):
    """Accepts a finite JSON number, but neither a string nor true."""

    def to_internal_value(self, data: Any) -> float:
        # The comparison is also false for NaN and for an integer that no float can hold.
        if type(data) not in (int, float) or not abs(data) <= sys.float_info.max:
            self.fail("invalid")
        return float(data)


class StrictBooleanField(serializers.BooleanField):
    """Accepts true and false, but neither a string nor a number."""

    def to_internal_value(self, data: Any) -> bool:
        if type(data) is not bool:
            self.fail("invalid", input=data)
        return data


class StrictCharField(serializers.CharField):
    """Accepts a JSON string, but no number."""

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str):
            self.fail("invalid")
        return super().to_internal_value(data)


class PriorityField(serializers.Field[int, Any, int, Any]):
    """Accepts HIGH, MEDIUM or LOW in any case, or 2, 1 or 0 as a number or a string."""

    default_error_messages = {"invalid": "Must be HIGH, MEDIUM or LOW, or 2, 1 or 0."}

    def to_internal_value(self, data: Any) -> Priority:
        if type(data) not in (int, str):
            self.fail("invalid")
        name = str(data).strip().upper()
        for priority in Priority:
            if name in (priority.name, str(priority.value)):
                return priority
        self.fail("invalid")

    def to_representation(self, value: int) -> int:
        return int(value)


class TimestampField(serializers.DateTimeField):
    """Accepts ISO 8601 text; without an offset it means UTC, and a date means its midnight."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(default_timezone=UTC, **kwargs)

    def to_internal_value(self, value: Any) -> datetime:
        if not isinstance(value, str):
            self.fail("invalid", format="ISO 8601")
        try:
            return super().to_internal_value(value).astimezone(UTC)
        except (OverflowError, ValueError):
            self.fail("invalid", format="ISO 8601")
