"""JSON schemas of values, arrays and objects, of which the schemas of responses consist."""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]
REF = "#/components/schemas/{model}"
TEXT: Schema = {"type": "string"}
MAYBE_TEXT: Schema = {"type": ["string", "null"]}
TEXTS: Schema = {"type": "array", "items": TEXT}
COUNT: Schema = {"type": "integer", "minimum": 0}
MAYBE_COUNT: Schema = {"type": ["integer", "null"], "minimum": 0}
NUMBER: Schema = {"type": "integer"}
MAYBE_NUMBER: Schema = {"type": ["integer", "null"]}
SECONDS: Schema = {"type": "number", "description": "Seconds."}
MAYBE_SECONDS: Schema = {"type": ["number", "null"], "description": "Seconds."}
TIME: Schema = {"type": ["string", "null"], "format": "date-time"}
FLAG: Schema = {"type": "boolean"}


def array_of(name: str) -> Schema:
    """An array of the objects that the schema of this name describes."""
    return {"type": "array", "items": refer(name)}


def refer(name: str) -> Schema:
    """A reference to the schema of this name."""
    return {"$ref": REF.format(model=name)}


def maybe(name: str) -> Schema:
    """What the schema of this name describes, or null."""
    return {"anyOf": [refer(name), {"type": "null"}]}


def object_schema(**properties: Any) -> Schema:
    """An object that has all of these properties."""
    return {"type": "object", "properties": properties, "required": list(properties)}
