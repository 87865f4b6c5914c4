"""The JSON schemas of explanations, for schemas.py."""

from __future__ import annotations

from typing import Any

from tailboard.explain.part_name import PartName

Schema = dict[str, Any]
TEXT: Schema = {"type": "string"}
MAYBE_TEXT: Schema = {"type": ["string", "null"]}
COUNT: Schema = {"type": "integer", "minimum": 0}
MAYBE_COUNT: Schema = {"type": ["integer", "null"], "minimum": 0}
SECONDS: Schema = {"type": "number", "description": "Seconds."}
MAYBE_SECONDS: Schema = {"type": ["number", "null"], "description": "Seconds."}
TIME: Schema = {"type": ["string", "null"], "format": "date-time"}
FLAG: Schema = {"type": "boolean"}
PARTIAL = FLAG | {"description": "True if the work is not complete: repeat the request."}
OFFSET = COUNT | {"description": "Where the line begins, in bytes."}
LINE = MAYBE_COUNT | {"description": "Its number, from 1; null if unknown."}


def explanation_schemas() -> dict[str, Schema]:
    """The response to GET /jobs/ID/explain and its parts."""
    parts = {str(name): maybe(SCHEMA_OF[name]) for name in PartName}
    explanation = an_object(
        id=TEXT,
        status=refer("Status"),
        partial=PARTIAL,
        compared_with={"type": "array", "items": TEXT}
        | {"description": "The IDs of the earlier successes, newest first."},
    )
    explanation["properties"] |= parts  # those that were asked for
    return {
        "Explanation": explanation,
        "Place": an_object(offset=OFFSET, line=LINE, text=TEXT),
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
        "Sections": an_object(
            partial=PARTIAL,
            count=COUNT | {"description": "How many sections the log has."},
            sections=list_of("Section") | {"description": "At most the first 1,000."},
        ),
        "Section": an_object(
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
        "Results": an_object(
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
        "LogProgress": an_object(
            partial=PARTIAL,
            percent={"type": "number", "minimum": 0, "maximum": 100},
            text=MAYBE_TEXT,
            source={"enum": ["marker", "bar"]}
            | {"description": "`bar`: read from a progress bar that the job draws."},
            offset=OFFSET,
        ),
        "Progress": an_object(
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
        "Annotations": an_object(
            partial=PARTIAL,
            counts=an_object(error=COUNT, warning=COUNT, notice=COUNT),
            annotations=list_of("Annotation") | {"description": "At most the first 200."},
        ),
        "Annotation": an_object(
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
        "NewLines": an_object(
            partial=PARTIAL,
            unavailable=MAYBE_TEXT
            | {"description": "Why nothing can be said, in a sentence; null if it can."},
            count=COUNT | {"description": "How many lines are new."},
            first=maybe("Place")
            | {"description": "The first new line that reports an error, else the first new line."},
            ranges=list_of("NewRange") | {"description": "At most the first 1,000."},
        ),
        "NewRange": an_object(
            offset=OFFSET,
            end=COUNT | {"description": "The offset after its last line."},
            line=LINE,
            lines=COUNT,
        ),
        "Pauses": an_object(
            partial=PARTIAL,
            pauses=list_of("LogPause") | {"description": "At most ten, the longest first."},
        ),
        "LogPause": an_object(
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
        "Forecast": an_object(
            partial=PARTIAL,
            run=TEXT | {"description": "The ID of the success that it was compared with."},
            matched=COUNT | {"description": "How many of the newest lines match, in order."},
            percent={"type": "number", "minimum": 0, "maximum": 100},
            seconds_left=SECONDS,
            seconds_behind={"type": "number"}
            | {"description": "Compared with that run, seconds; negative: it is faster."},
            since=maybe("Place") | {"description": "The line after which it fell behind."},
        ),
        "Silence": an_object(
            partial=PARTIAL,
            seconds=SECONDS | {"description": "For how long it has written nothing, seconds."},
            longest_pause=SECONDS | {"description": "Of earlier runs, seconds."},
            run=TEXT | {"description": "The ID of the run with that pause."},
            after=maybe("Place") | {"description": "The line in that run's log before it."},
        ),
        "SeenBefore": an_object(
            partial=PARTIAL,
            here_count=COUNT,
            here=list_of("SameEnd") | {"description": "Of the same command: the newest 20."},
            elsewhere_count=COUNT,
            elsewhere=list_of("SameEnd") | {"description": "Of other commands: the newest 20."},
        ),
        "SameEnd": an_object(
            id=TEXT,
            title=TEXT,
            status=refer("Status"),
            finished_at=TIME,
            rerun=maybe("SameEndRerun")
            | {"description": "Its newest rerun that has ended, in the last 14 days; null: none."},
        ),
        "SameEndRerun": an_object(id=TEXT, status=refer("Status")),
    }


def an_object(**properties: Any) -> Schema:
    return {"type": "object", "properties": properties, "required": list(properties)}


def refer(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def maybe(name: str) -> Schema:
    return {"anyOf": [refer(name), {"type": "null"}]}


def list_of(name: str) -> Schema:
    return {"type": "array", "items": refer(name)}
