"""Which entry of OPERATIONS belongs to which route of the application."""

from __future__ import annotations

import re
from typing import NamedTuple

from flask import Flask
from werkzeug.routing import BaseConverter, Rule

from tailboard.access_role import Role
from tailboard.web.operation import Access
from tailboard.web.operations import OPERATIONS


class AnyPath(BaseConverter):
    """The part of a route that matches the rest of the path, whatever it contains: also slashes at
    its beginning and its end, and newlines. No redirection removes double slashes from it."""

    regex = "(?s:.*)"
    part_isolating = False
    weight = 200


class Requirement(NamedTuple):
    """What a request to a route needs."""

    access: Access
    role: Role  # of the visitor, unless the access is OPEN


def match_operations(app: Flask) -> dict[str, Requirement]:
    """What each route of the application requires, by its endpoint. ValueError unless each route
    has an entry in OPERATIONS and each entry has a route."""
    served = {key: rule.endpoint for rule in app.url_map.iter_rules() for key in served_by(rule)}
    for method, path in sorted(served.keys() - OPERATIONS.keys()):
        route = f"{method.upper()} {path}"
        raise ValueError(f"the route {route} declares no access: OPERATIONS has no entry for it")
    for method, path in sorted(OPERATIONS.keys() - served.keys()):
        raise ValueError(f"OPERATIONS has {method.upper()} {path}, which no route serves")
    declared: dict[str, Requirement] = {}
    for key, endpoint in served.items():
        required = Requirement(OPERATIONS[key].access, OPERATIONS[key].role)
        if declared.setdefault(endpoint, required) != required:
            raise ValueError(f"the routes of {endpoint} declare different access in OPERATIONS")
    return declared


def operation_key(method: str, rule: Rule) -> tuple[str, str]:
    """The key in OPERATIONS of a request with this method to this route."""
    return method.lower(), re.sub(r"<(?:\w+:)?(.*?)>", r"{\1}", rule.rule)


def served_by(rule: Rule) -> list[tuple[str, str]]:
    """The keys in OPERATIONS that this rule serves. Flask adds HEAD and OPTIONS itself."""
    methods = (rule.methods or set()) - {"HEAD", "OPTIONS"}
    return [operation_key(method, rule) for method in sorted(methods)]
