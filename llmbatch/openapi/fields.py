"""Teaches drf-spectacular this project's own fields, serializers and authentication."""

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
# The server strips key and model. No pattern matches "": where a field may be blank, spectacular
# adds the empty string with `oneOf`.
PATTERNS: dict[str, Schema] = {
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
        default = NOT_BLANK if field.trim_whitespace and not field.allow_blank else NO_NUL
        return {"type": "string", **PATTERNS.get(field.field_name, {"pattern": default})}


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
            "description": "A name in upper or lower case, or its number.",
        }


class StatusInQuery(OpenApiSerializerFieldExtension):
    target_class = "chats.serializers.StatusField"

    def map_serializer_field(self, auto_schema: Any, direction: str) -> Schema:
        return {"type": "string", "enum": list(self.target.choices)}


class TimestampInQuery(OpenApiSerializerFieldExtension):
    target_class = "chats.serializers.TimestampParameter"

    def map_serializer_field(self, auto_schema: Any, direction: str) -> Schema:
        timestamp = {"type": "string", "format": "date-time"}
        return {"anyOf": [timestamp, {"type": "string", "format": "date"}]}


class ObjectWithKnownFields(OpenApiSerializerExtension):
    target_class = "settings_app.serializers.KnownFieldsSerializer"
    match_subclasses = True

    def map_serializer(self, auto_schema: Any, direction: str) -> Schema:
        schema = auto_schema._map_serializer(self.target, direction, bypass_extensions=True)
        # With `allow_null` spectacular would make a `oneOf` of which null matches both branches.
        ignored = {
            name: {"description": "Returned by GET; ignored in a request."}
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
            "description": "An API key, created in the admin or with `./gateway create_api_key`.",
        }


class SessionScheme(OpenApiAuthenticationExtension):
    target_class = "settings_app.access.auth.StaffSession"
    name = "session"

    def get_security_definition(self, auto_schema: Any) -> Schema:
        return {
            "type": "apiKey",
            "in": "cookie",
            "name": settings.SESSION_COOKIE_NAME,
            "description": "A staff session, opened at `/admin/`. Requests that change something"
            " also need the header `X-CSRFToken`.",
        }
