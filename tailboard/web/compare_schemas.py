"""The JSON schemas of comparisons, for schemas.py."""

from __future__ import annotations

from tailboard.explain import compare
from tailboard.explain.compare import CONTEXT, HunkKind
from tailboard.web.explain_schemas import LINE, OFFSET, PARTIAL
from tailboard.web.schema_parts import (
    COUNT,
    FLAG,
    TEXT,
    TEXTS,
    TIME,
    Schema,
    array_of,
    object_schema,
    refer,
)


def comparison_schemas() -> dict[str, Schema]:
    """The response to GET /jobs/ID/diff."""
    return {
        "Comparison": object_schema(
            left=refer("ComparedSide"),
            right=refer("ComparedSide") | {"description": "The job in the path."},
            partial=PARTIAL,
            same=FLAG | {"description": "Are all lines that were compared the same?"},
            hunks=array_of("Hunk"),
            more=FLAG | {"description": "Are there more hunks after these?"},
        ),
        "ComparedSide": object_schema(
            id=TEXT,
            title=TEXT,
            status=refer("Status"),
            finished_at=TIME,
            lines=COUNT | {"description": "How many lines were compared."},
            cut=FLAG
            | {
                "description": "Does the log have more lines? After the common beginning of both "
                f"logs, {compare.MOST_LINES:,} lines are compared."
            },
        ),
        **hunk_schemas(),
    }


def hunk_schemas() -> dict[str, Schema]:
    offsets = {
        "type": "array",
        "items": COUNT,
        "description": "Where each of them begins, in bytes.",
    }
    return {
        "Hunk": object_schema(
            kind={"enum": list(HunkKind)},
            left=refer("HunkPlace"),
            right=refer("HunkPlace"),
            left_lines=TEXTS,
            right_lines=TEXTS,
            left_offsets=offsets,
            right_offsets=offsets,
            folded=COUNT
            | {
                "description": "How many lines of the longer side are left out: of equal lines all "
                f"but the first {CONTEXT} and the last {CONTEXT}, of others those after the first "
                f"{compare.MOST_IN_HUNK}."
            },
        ),
        "HunkPlace": object_schema(
            line=LINE, offset=OFFSET, count=COUNT | {"description": "How many lines."}
        ),
    }
