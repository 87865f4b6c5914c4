"""The base of requests (bodies and query parameters), and the sentence for a mistake in one."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Self

from flask import abort
from pydantic import BaseModel, ValidationError


class RequestModel(BaseModel):
    """The body or the parameters of a request."""

    @classmethod
    def parse(cls, data: object) -> Self:
        """The request in the data; 400 with a sentence that names the field and what is allowed."""
        if not isinstance(data, dict):
            abort(400, "the body must be a JSON object")
        fields = {field.alias or name: field for name, field in cls.model_fields.items()}
        if unknown := [name for name in data if name not in fields]:
            known = ", ".join(fields)
            abort(400, f"unknown field {unknown[0][:80]!r}; allowed fields: {known}")
        # null means the default, if there is one
        given = {k: v for k, v in data.items() if v is not None or fields[k].is_required()}
        try:
            return cls.model_validate(given)
        except ValidationError as error:
            name, place = find_mistake(error)
            abort(400, f"{name} must be {fields[name].description}{place}")


def find_mistake(error: ValidationError) -> tuple[str, str]:
    """The wrong field, and the end of the error sentence: it names the wrong part of the field, or
    is empty."""
    found = error.errors(include_url=False, include_input=False)
    field = found[0]["loc"][0]
    if field == "env":
        return "env", wrong_variable(found[0])
    # If a value can have one of two types, the error of the more likely type is nested deeper.
    deepest = max((each for each in found if each["loc"][0] == field), key=lambda e: len(e["loc"]))
    path = [part for part in deepest["loc"][1:] if not is_type_name(part)]
    if not path:
        return str(field), ""
    problem = {"missing": "missing", "extra_forbidden": "unknown"}.get(deepest["type"], "wrong")
    return str(field), f"; {problem}: {describe_place(path)}"


def is_type_name(part: int | str) -> bool:
    """Is this part of an error's location the name of a type, not of a field or an index?"""
    return isinstance(part, str) and re.match(r"constrained-|list\[|function-", part) is not None


def describe_place(path: Sequence[int | str]) -> str:
    """A part of a value, from the inside: "'default' of item 1"."""
    words = [f"item {part + 1}" if isinstance(part, int) else repr(part[:80]) for part in path]
    return " of ".join(reversed(words))


def wrong_variable(error: Any) -> str:
    """The end of a sentence that names the wrong variable of `env`; "" if `env` is not an object.
    `error` comes from pydantic. The value is not shown: it may be a secret."""
    _, *place = error["loc"]
    if "ctx" in error and not place:
        return f"; {error['ctx']['error']}"
    if not place:
        return ""
    name = repr(str(place[0])[:80])
    if place[-1] == "[key]":
        return f"; the name {name} is not allowed"
    return f"; the value of {name} is not a string of up to 30,000 characters without NUL"
