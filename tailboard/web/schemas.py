"""The JSON schemas of the API's answers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pydantic import TypeAdapter

from tailboard.job import WIRE, Job
from tailboard.saved_command import DEFINITION, Param, SavedCommand
from tailboard.status import Status
from tailboard.web.models import RequestModel, SavedParam
from tailboard.web.operations import COUNT, NOTES, OPERATIONS, REF, TEXT
from tailboard.web.views import RUN_FIELDS
from tailboard.workers import Machine, Pause, WorkerInfo

MAYBE_TEXT = {"type": ["string", "null"]}
NUMBER = {"type": "integer"}
MAYBE_NUMBER = {"type": ["integer", "null"]}
TIME = {"type": ["string", "null"], "format": "date-time"}
TEXTS = {"type": "array", "items": TEXT}
SCHEMA_KEYS = ("type", "anyOf", "items", "additionalProperties", "$ref")  # and no title or default


def without_default(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema, with its default only in the description: generated clients send every `default`
    that they find, and some parameters exclude each other."""
    schema = dict(schema)
    default = schema.pop("default", None)
    if default not in (None, False, ""):
        schema["description"] += f"; default: {default}"
    return schema


def describe_problem(text: str) -> dict[str, Any]:
    content = {"application/problem+json": {"schema": refer("Problem")}}
    return {"description": text, "content": content}


def request_schema(model: type[RequestModel]) -> dict[str, Any]:
    schema = model.model_json_schema(ref_template=REF)
    schema.pop("$defs", None)  # Status, which is among the answers' schemas
    return schema | {"additionalProperties": False}


def body_schemas() -> dict[str, Any]:
    """The bodies of requests, and what they contain."""
    models = (operation.body for operation in OPERATIONS.values())
    bodies = {model.__name__: request_schema(model) for model in models if model}
    return bodies | {
        "SavedParam": SavedParam.model_json_schema(),
        "RunValues": {"type": "object", "additionalProperties": TEXT},
    }


def answer_schemas() -> dict[str, Any]:
    """What routes answer with, by the names that OPERATIONS uses, and what these consist of."""
    return {
        "Status": {"type": "string", "enum": list(Status)},
        "Ticket": an_object(ticket=TEXT, expires_in=COUNT | {"description": "Seconds."}),
        "Problem": an_object(
            type=TEXT, title=TEXT, status=NUMBER, detail=TEXT | {"description": "One sentence."}
        ),
        **job_schemas(),
        **log_schemas(),
        **queue_schemas(),
        **saved_schemas(),
        **service_schemas(),
    }


def job_schemas() -> dict[str, Any]:
    """A job on its own and in a list, made of the dataclass that it is."""
    job = answer_fields(Job, WIRE)
    attempt = an_object(
        number=COUNT,
        started_at=TIME,
        finished_at=TIME,
        exit_code=MAYBE_NUMBER,
        status={"anyOf": [refer("Status"), {"type": "null"}]},
        hint=MAYBE_TEXT,
    )
    whole = an_object(**job, attempts=list_of("Attempt"))
    whole["properties"]["queued_before"] = COUNT | {
        "description": "Jobs of its queue that come before it, while it is queued."
    }
    return {
        "Job": whole,
        "Attempt": attempt,
        "ListedJob": listed_schema(job),
        "Jobs": an_object(
            jobs=list_of("ListedJob"),
            next=MAYBE_TEXT | {"description": "The `before` of the next page; null: the end."},
            counts=refer("Counts"),
            paused=list_of("Pause"),
        ),
        "Counts": an_object(**dict.fromkeys(Status, COUNT)),
        "Chosen": an_object(
            ids=TEXTS,
            left_out=COUNT | {"description": "Jobs that ran again already."},
            complete={"type": "boolean", "description": "False: these are only the newest."},
        ),
    }


def listed_schema(job: dict[str, Any]) -> dict[str, Any]:
    """A job in a list; `job`: the properties of one on its own."""
    listed = an_object(**{name: job[name] for name in job if name != "env"})
    listed["properties"]["command_cut"] = {
        "type": "boolean",
        "description": "True: `command` is only the beginning, which has the same type; "
        "GET /jobs/ID has all of it. Left out if the command is whole.",
    }
    return listed


def log_schemas() -> dict[str, Any]:
    """What searches of logs answer with."""
    job = answer_fields(Job, ["id", "name", "queue", "status", "submitted_at", "finished_at"])
    line = MAYBE_NUMBER | {"description": "Its number, from 1; null: not known."}
    following = MAYBE_TEXT | {"description": "The `before` with which to continue; null: the end."}
    following_offset = following | {"type": ["integer", "null"]}
    return {
        "HitJob": an_object(title=TEXT, **job),
        "Hit": an_object(job=refer("HitJob"), offset=COUNT, line=line, text=TEXT),
        "Searched": an_object(jobs=COUNT, bytes=COUNT, unreadable=COUNT),
        "Hits": an_object(
            hits=list_of("Hit"),
            more_in=TEXTS | {"description": "IDs of jobs that may have more such lines."},
            next=following,
            searched=refer("Searched"),
        ),
        "Match": an_object(offset=COUNT, line=line, text=TEXT),
        "Matches": an_object(matches=list_of("Match"), next=following_offset),
        "LogSearch": {"anyOf": [refer("Matches"), refer("MatchCount")]},
        "MatchCount": an_object(count=COUNT, complete={"type": "boolean"}),
    }


def queue_schemas() -> dict[str, Any]:
    paused = {"anyOf": [refer("Pause"), {"type": "null"}]}
    return {
        "Pause": an_object(**answer_fields(Pause)),
        "Queue": an_object(queue=TEXT, queued=COUNT, paused=paused),
        "Queues": an_object(queues=list_of("Queue")),
    }


def saved_schemas() -> dict[str, Any]:
    """A saved command on its own and in a list, made of the dataclass that it is."""
    command = {
        "saved": TEXT,
        **answer_fields(SavedCommand, DEFINITION),
        "saved_at": TIME,
        "next_run": TIME,
        "last_run": {"anyOf": [refer("SavedRun"), {"type": "null"}]},
        "runs": list_of("SavedRun"),
        "skipped": refer("Skipped"),
    }
    listed = {name: command[name] for name in command if name != "env"}
    return {
        "SavedCommand": an_object(**command),
        "ListedCommand": an_object(**listed),
        "SavedCommands": an_object(saved=list_of("ListedCommand")),
        "SavedRun": an_object(**answer_fields(Job, RUN_FIELDS)),
        "Skipped": an_object(count=COUNT, last_at=TIME, for_job=MAYBE_TEXT),
        "Param": an_object(**answer_fields(Param)),
    }


def service_schemas() -> dict[str, Any]:
    size = MAYBE_NUMBER | {"description": "Only of Redis."}
    store = an_object(kind={"enum": ["folder", "redis"]})
    store["properties"] |= {
        "version": MAYBE_TEXT | {"description": "Only of Redis."},
        "used_bytes": size,
        "max_bytes": size,
        "rolled_back_at": MAYBE_TEXT
        | {"description": "When Redis was seen to have returned to an older state. Only of Redis."},
    }
    return {
        "Worker": an_object(**answer_fields(WorkerInfo)),
        "Machine": an_object(**answer_fields(Machine)),
        "Root": an_object(name=TEXT, description=TEXT, page=TEXT, openapi=TEXT),
        "Storage": store,
        "Workers": an_object(
            workers=list_of("Worker"),
            machines=list_of("Machine"),
            paused=list_of("Pause"),
            storage=refer("Storage"),
            unreadable=TEXTS,
        ),
        "Health": an_object(
            status={"enum": ["ok", "unhealthy"]},
            reason=MAYBE_TEXT | {"description": "Why it is unhealthy."},
            workers=COUNT,
            oldest_queued_seconds={"type": ["number", "null"]},
            unreadable=COUNT,
        ),
    }


def answer_fields(kind: type, names: Iterable[str] = ()) -> dict[str, Any]:
    """The schemas of these fields of a dataclass (none given: of all), as answers have them."""
    known = TypeAdapter(kind).json_schema(ref_template=REF)["properties"]
    described = {}
    for name in names or known:
        schema = {key: value for key, value in known[name].items() if key in SCHEMA_KEYS}
        if name.endswith("_at") or name in ("not_before", "since"):
            schema = dict(TIME)
        if name in NOTES:
            schema["description"] = NOTES[name]
        described[name] = schema
    return described


def list_of(name: str) -> dict[str, Any]:
    return {"type": "array", "items": refer(name)}


def refer(name: str) -> dict[str, Any]:
    return {"$ref": REF.format(model=name)}


def an_object(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties)}
