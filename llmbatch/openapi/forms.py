"""Builds JSON Schemas that a serializer cannot express."""

from typing import Any

Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}
COUNT: Schema = {"type": "integer", "minimum": 0}


def whole(**properties: Schema) -> Schema:
    """An object in which all of these properties are required."""
    return {"type": "object", "properties": properties, "required": list(properties)}


def one_of_these(*values: Any) -> Schema:
    return {"enum": list(values)}


def server_sent(*documents: Schema, last: str | None = None) -> Schema:
    """An event of a stream. Its data is one of the documents as JSON, or the text `last`."""
    data: Schema = {
        "type": "string",
        "contentMediaType": "application/json",
        "contentSchema": {"anyOf": list(documents)},
    }
    return whole(data={"anyOf": [one_of_these(last), data]} if last else data)
