"""JSON Schema by hand, where a serializer would say less."""

from typing import Any

Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}
COUNT: Schema = {"type": "integer", "minimum": 0}


def whole(**properties: Schema) -> Schema:
    """An object that always has all of these."""
    return {"type": "object", "properties": properties, "required": list(properties)}


def one_of_these(*values: Any) -> Schema:
    return {"enum": list(values)}


def server_sent(*documents: Schema, last: str | None = None) -> Schema:
    """One event of a stream, whose data is one of the documents as JSON, or the text `last`."""
    data: Schema = {
        "type": "string",
        "contentMediaType": "application/json",
        "contentSchema": {"anyOf": list(documents)},
    }
    return whole(data={"anyOf": [one_of_these(last), data]} if last else data)
