"""What drf-spectacular cannot see by itself: our own fields, and who is let in."""

from typing import Any

from django.conf import settings
from drf_spectacular.extensions import (
    OpenApiAuthenticationExtension,
    OpenApiSerializerExtension,
    OpenApiSerializerFieldExtension,
)
from rest_framework.serializers import JSONField

from chats.serializers import QueryParameters
from llmbatch.openapi.forms import Schema
from settings_app.model_key import MAX_MODEL_LENGTH

NO_NUL = r"^[^\x00]+$"
NOT_BLANK = r"^[^\x00]*\S[^\x00]*$"
# Key and model are stripped. "" matches none: where it is allowed, spectacular adds it by `oneOf`.
SHAPES: dict[str, Schema] = {
    "prompt": {"pattern": NOT_BLANK},
    "api_key": {"pattern": r"^\s*[\x21-\x7e]{1,200}\s*$"},
    "model": {
        "pattern": r"^(\s+|\s*[A-Za-z0-9_-]+([./][A-Za-z0-9_-]+)*\s*)$",
        "maxLength": MAX_MODEL_LENGTH,
    },
}


class TextInRequest(OpenApiSerializerFieldExtension):
    target_class = "rest_framework.fields.CharField"

    def map_serializer_field(self, auto_schema: Any, direction: str) -> Schema:
        if direction == "response":
            return {"type": "string"}
        field = self.target
        usual = NOT_BLANK if field.trim_whitespace and not field.allow_blank else NO_NUL
        return {"type": "string", **SHAPES.get(field.field_name, {"pattern": usual})}


class StrictTextInRequest(TextInRequest):
    target_class = "settings_app.fields.StrictCharField"


class PriorityInRequest(OpenApiSerializerFieldExtension):
    target_class = "settings_app.fields.PriorityField"

    def map_serializer_field(self, auto_schema: Any, direction: str) -> Schema:
        if isinstance(self.target.parent, QueryParameters):
            return {"type": "string", "enum": ["HIGH", "MEDIUM", "LOW", "2", "1", "0"]}
        return {
            "anyOf": [
                {"type": "string", "enum": ["HIGH", "MEDIUM", "LOW"]},
                {"type": "integer", "enum": [2, 1, 0]},
            ],
            "description": "A name in any case, or its number.",
        }


class StatusInAddress(OpenApiSerializerFieldExtension):
    target_class = "chats.serializers.StatusField"

    def map_serializer_field(self, auto_schema: Any, direction: str) -> Schema:
        return {"type": "string", "enum": list(self.target.choices)}


class TimestampInAddress(OpenApiSerializerFieldExtension):
    target_class = "chats.serializers.TimestampParameter"

    def map_serializer_field(self, auto_schema: Any, direction: str) -> Schema:
        timestamp = {"type": "string", "format": "date-time"}
        return {"anyOf": [timestamp, {"type": "string", "format": "date"}]}


class ClosedObject(OpenApiSerializerExtension):
    target_class = "settings_app.serializers.KnownFieldsSerializer"
    match_subclasses = True

    def map_serializer(self, auto_schema: Any, direction: str) -> Schema:
        schema = auto_schema._map_serializer(self.target, direction, bypass_extensions=True)
        # Not by `allow_null`, of which spectacular makes a `oneOf` that null satisfies twice.
        ignored = {
            name: {"description": "Part of the document, ignored when it is sent back."}
            for name, field in self.target.fields.items()
            if isinstance(field, JSONField)
        }
        properties = schema["properties"] | ignored
        return {**schema, "properties": properties, "additionalProperties": False}


class BearerScheme(OpenApiAuthenticationExtension):
    target_class = "settings_app.access.auth.BearerKey"
    name = "apiKey"

    def get_security_definition(self, auto_schema: Any) -> Schema:
        return {
            "type": "http",
            "scheme": "bearer",
            "description": "An API key, made in the admin or by `manage.py create_api_key`.",
        }


class SessionScheme(OpenApiAuthenticationExtension):
    target_class = "settings_app.access.auth.StaffSession"
    name = "session"

    def get_security_definition(self, auto_schema: Any) -> Schema:
        return {
            "type": "apiKey",
            "in": "cookie",
            "name": settings.SESSION_COOKIE_NAME,
            "description": "A member of staff, logged in at `/admin/`. What changes something needs"
            " the header `X-CSRFToken` too.",
        }
