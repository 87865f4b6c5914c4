"""The JSON schemas of explanations, for schemas.py."""

from __future__ import annotations

from tailboard.explain.part_name import PartName
from tailboard.web.schema_parts import (
    COUNT,
    FLAG,
    MAYBE_COUNT,
    MAYBE_SECONDS,
    MAYBE_TEXT,
    SECONDS,
    TEXT,
    TEXTS,
    TIME,
    Schema,
    array_of,
    maybe,
    object_schema,
    refer,
)

PARTIAL = FLAG | {"description": "True if the work is not complete: repeat the request."}
OFFSET = COUNT | {"description": "Where the line begins, in bytes."}
LINE = MAYBE_COUNT | {"description": "Its number, from 1; null if unknown."}


def explanation_schemas() -> dict[str, Schema]:
    """The response to GET /jobs/ID/explain and its parts."""
    parts = {str(name): maybe(SCHEMA_OF[name]) for name in PartName}
    explanation = object_schema(
        id=TEXT,
        status=refer("Status"),
        partial=PARTIAL,
        compared_with=TEXTS | {"description": "The IDs of the earlier successes, newest first."},
    )
    explanation["properties"] |= parts  # those that were asked for
    return {
        "Explanation": explanation,
        "Place": object_schema(offset=OFFSET, line=LINE, text=TEXT),
        **marker_schemas(),
        **derived_schemas(),
        **other_job_schemas(),
    }


SCHEMA_OF = {
    PartName.SECTIONS: "Sections",
    PartName.PROGRESS: "LogProgress",
    PartName.RESULTS: "Results",
    PartName.ANNOTATIONS: "Annotations",
    PartName.NEW_LINES: "NewLines",
    PartName.PAUSES: "Pauses",
    PartName.FORECAST: "Forecast",
    PartName.SILENCE: "Silence",
    PartName.SEEN_BEFORE: "SeenBefore",
}


def marker_schemas() -> dict[str, Schema]:
    """What a job has written to its log for Tailboard to recognise."""
    return {
        "Sections": object_schema(
            partial=PARTIAL,
            count=COUNT | {"description": "How many sections the log has."},
            sections=array_of("Section") | {"description": "At most the first 1,000."},
        ),
        "Section": object_schema(
            name=TEXT,
            kind={"enum": ["section", "group"]},
            is_open=FLAG | {"description": "Did the job ask to show it unfolded?"},
            offset=OFFSET,
            line=LINE,
            end=MAYBE_COUNT
            | {"description": "The offset where it ends; null while the job may write to it."},
            started_at=TIME,
            seconds=MAYBE_SECONDS,
            errors=COUNT | {"description": "How many of its lines report an error."},
        ),
        "Results": object_schema(
            partial=PARTIAL,
            count=COUNT,
            results={"type": "object", "additionalProperties": TEXT},
        ),
        **progress_schemas(),
        **annotation_schemas(),
    }


def progress_schemas() -> dict[str, Schema]:
    """Progress in an explanation and in a job."""
    return {
        "LogProgress": object_schema(
            partial=PARTIAL,
            percent={"type": "number", "minimum": 0, "maximum": 100},
            text=MAYBE_TEXT,
            source={"enum": ["marker", "bar"]}
            | {"description": "`bar`: read from a progress bar that the job draws."},
            offset=OFFSET,
        ),
        "Progress": object_schema(
            percent={"type": "number", "minimum": 0, "maximum": 100},
            text=MAYBE_TEXT,
            source={"enum": ["marker", "bar", "earlier_runs"]}
            | {
                "description": "`bar`: read from a progress bar that the job draws; "
                "`earlier_runs`: estimated."
            },
            seconds_left=MAYBE_SECONDS,
        ),
    }


def log_fields() -> dict[str, Schema]:
    """The fields of a job that are read from its log."""
    return {
        "progress": maybe("Progress")
        | {"description": "While it is running, if it is known; in the responses to GET."},
        "results": {"type": "object", "additionalProperties": TEXT}
        | {
            "description": "What the job has written to its log with `::result`; in the response "
            "to GET /jobs/ID, and to GET /jobs with `results=1`."
        },
        "results_partial": FLAG
        | {"description": "True if the log was not read to its end: repeat the request."},
    }


def annotation_schemas() -> dict[str, Schema]:
    return {
        "Annotations": object_schema(
            partial=PARTIAL,
            counts=object_schema(error=COUNT, warning=COUNT, notice=COUNT),
            annotations=array_of("Annotation") | {"description": "At most the first 200."},
        ),
        "Annotation": object_schema(
            level={"enum": ["error", "warning", "notice"]},
            text=TEXT,
            file=MAYBE_TEXT,
            file_line=MAYBE_COUNT,
            offset=OFFSET,
            line=LINE,
        ),
    }


def derived_schemas() -> dict[str, Schema]:
    """What is special about the lines and the pauses of a log."""
    return {
        "NewLines": object_schema(
            partial=PARTIAL,
            unavailable=MAYBE_TEXT
            | {"description": "Why nothing can be said, in a sentence; null if it can."},
            count=COUNT | {"description": "How many lines are new."},
            first=maybe("Place")
            | {"description": "The first new line that reports an error, else the first new line."},
            ranges=array_of("NewRange") | {"description": "At most the first 1,000."},
        ),
        "NewRange": object_schema(
            offset=OFFSET,
            end=COUNT | {"description": "The offset after its last line."},
            line=LINE,
            lines=COUNT,
        ),
        "Pauses": object_schema(
            partial=PARTIAL,
            pauses=array_of("LogPause") | {"description": "At most ten, the longest first."},
        ),
        "LogPause": object_schema(
            seconds=SECONDS,
            began_at=TIME,
            usually=MAYBE_SECONDS
            | {"description": "The median of the same pause in earlier runs, seconds."},
            before=maybe("Place") | {"description": "The last line before it; null at the start."},
            after=maybe("Place") | {"description": "The first line after it; null at the end."},
        ),
    }


def other_job_schemas() -> dict[str, Schema]:
    """How a job differs from its earlier runs, and which others ended in the same way."""
    return {
        "Forecast": object_schema(
            partial=PARTIAL,
            run=TEXT | {"description": "The ID of the success that it was compared with."},
            matched=COUNT | {"description": "How many of the newest lines match, in order."},
            percent={"type": "number", "minimum": 0, "maximum": 100},
            seconds_left=SECONDS,
            seconds_behind={"type": "number"}
            | {"description": "Compared with that run, seconds; negative: it is faster."},
            since=maybe("Place") | {"description": "The line after which it fell behind."},
        ),
        "Silence": object_schema(
            partial=PARTIAL,
            seconds=SECONDS | {"description": "For how long it has written nothing, seconds."},
            longest_pause=SECONDS | {"description": "Of earlier runs, seconds."},
            run=TEXT | {"description": "The ID of the run with that pause."},
            after=maybe("Place") | {"description": "The line in that run's log before it."},
        ),
        "SeenBefore": object_schema(
            partial=PARTIAL,
            here_count=COUNT,
            here=array_of("SameEnd") | {"description": "Of the same command: the newest 20."},
            elsewhere_count=COUNT,
            elsewhere=array_of("SameEnd") | {"description": "Of other commands: the newest 20."},
        ),
        "SameEnd": object_schema(
            id=TEXT,
            title=TEXT,
            status=refer("Status"),
            finished_at=TIME,
            rerun=maybe("SameEndRerun")
            | {"description": "Its newest rerun that has ended, in the last 14 days; null: none."},
        ),
        "SameEndRerun": object_schema(id=TEXT, status=refer("Status")),
    }
