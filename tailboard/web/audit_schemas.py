"""The JSON schemas of the audit log."""

from __future__ import annotations

from typing import Any

from tailboard.audit import SUBJECTS, Action
from tailboard.web.me import Credential
from tailboard.web.schema_parts import (
    COUNT,
    MAYBE_NUMBER,
    MAYBE_TEXT,
    TEXT,
    TEXTS,
    TIME,
    array_of,
    object_schema,
)


def audit_schemas() -> dict[str, Any]:
    """A page of the audit log. A line has more fields, depending on the action."""
    entry = object_schema(
        at=TIME,
        action={"enum": [action for action in Action if action]},
        by=MAYBE_TEXT | {"description": "The name, if it is known."},
        via={"enum": list(Credential), "description": "As `token` of GET /me."},
        **{"from": MAYBE_TEXT | {"description": "The client's address."}},
    )
    entry["properties"] |= {name: TEXT for name in SUBJECTS}
    entry["properties"] |= {
        "rerun_of": TEXT,
        "dependents": COUNT | {"description": "Jobs that were rerun with it."},
        "fields": TEXTS | {"description": "Which fields of a saved command have changed."},
        "limit": MAYBE_NUMBER | {"description": "Of the queue."},
        "role": TEXT | {"description": "Of the token."},
        "count": COUNT | {"description": "How many jobs a bulk action has chosen."},
        "filter": {"type": "object", "additionalProperties": TEXT},
        "first_job": TEXT | {"description": "The lowest ID of the jobs that were changed."},
        "last_job": TEXT | {"description": "The highest ID of the jobs that were changed."},
        "forwarded_for": TEXT | {"description": "X-Forwarded-For: a client can invent it."},
        "agent": TEXT | {"description": "`page`: it came through the page."},
    }
    return {
        "AuditEntry": entry,
        "AuditPage": object_schema(
            entries=array_of("AuditEntry"),
            next=MAYBE_TEXT | {"description": "The `before` of the next page; null at the end."},
            damaged=COUNT | {"description": "Lines that cannot be read, and were skipped."},
        ),
    }
