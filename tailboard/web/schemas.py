"""The JSON schemas of responses and request bodies, for openapi.py. Schemas of jobs, saved commands
and similar objects are made from their dataclasses, those of bodies from their models."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pydantic import TypeAdapter

from tailboard.access_role import Role
from tailboard.job import WIRE, Job, JobOptions
from tailboard.job_files import FileKind
from tailboard.job_option import options_of
from tailboard.notify_rules import Event
from tailboard.saved_command import DEFINITION, Param, SavedCommand
from tailboard.status import Status
from tailboard.web.audit_schemas import audit_schemas
from tailboard.web.compare_schemas import comparison_schemas
from tailboard.web.explain_schemas import explanation_schemas, log_fields
from tailboard.web.me import Credential
from tailboard.web.models import NotifyRule, SavedParam
from tailboard.web.operations import OPERATIONS
from tailboard.web.request_model import RequestModel
from tailboard.web.saved_runs import RUN_FIELDS
from tailboard.web.schema_parts import (
    COUNT,
    FLAG,
    MAYBE_COUNT,
    MAYBE_NUMBER,
    MAYBE_TEXT,
    NUMBER,
    REF,
    TEXT,
    TEXTS,
    TIME,
    array_of,
    maybe,
    object_schema,
    refer,
)
from tailboard.workers import GIVEN_UP, REACHABLE, Machine, Pause, WorkerInfo

MAYBE_USUAL = maybe("Usual")
CORES = {
    "type": ["number", "null"],
    "description": "How many cores were busy since the sample before, on average; null for the "
    "first sample of an attempt.",
}
MEMORY = COUNT | {"description": "The resident memory of its processes, in total."}
BULK = MAYBE_TEXT | {
    "description": "For the header Tailboard-Bulk of the requests for these jobs: the audit log "
    "then has one line for all of them."
}
SILENT_SINCE = TIME | {
    "description": "While it is running: when it last wrote to its log, or started; null if that "
    "is not known."
}
SCHEMA_KEYS = ("type", "anyOf", "items", "additionalProperties", "$ref")  # no title, no default
# Explains the response fields whose names are not self-explanatory.
NOTES = {
    "not_before": "The next attempt starts no earlier than this.",
    "attempt": "Number of the current or last attempt, from 1.",
    "exit_code": "128+n after signal n.",
    "reason": "A sentence that explains the status, if needed.",
    "hint": "The log line that probably shows why the job failed.",
    "pid": "ID of the process that leads the job's process group.",
    "after": "The IDs of the jobs that it waits for.",
    "after_status": "What it expects of them: `succeeded`, or `ended` in whatever way.",
    "then": "The saved command that starts after a run that has succeeded.",
    "rerun_of": "The ID of the job that this one repeats.",
    "saved": "The name of the saved command.",
    "values": "The values of the saved command's params; in a list, long ones are cut.",
    "secret_params": "The names of its secret params, whose values are not shown.",
    "max_rss_bytes": "Peak memory of its largest process.",
    "log_size": "Size of the log in bytes.",
    "log_start": "Offset of the first log byte that still exists.",
    "slots": "How many jobs can run at once.",
    "running": "How many jobs are running.",
    "queues": "The queues that it serves, or after a `!` those that it does not; all if empty.",
    "seen_at": "Time of its last heartbeat.",
    "responds": "False if the process exists but sends no heartbeats.",
    "heard_at": "Time of its last report.",
    "state": f"`{REACHABLE}` while it reports, otherwise `{GIVEN_UP}`.",
    "spool": "The machine's name.",
    "ping": "A URL that is called when a run starts and when it ends; its end is hidden.",
    "cron": "A cron expression; null if it has no schedule.",
    "zone": "The IANA time zone of `cron`.",
    "paused": "True if scheduled runs are skipped.",
} | {name: option.meaning for name, option in options_of(JobOptions).items() if option.meaning}


def answer_schemas() -> dict[str, Any]:
    """The responses of the routes, by the names that OPERATIONS uses, and the parts of
    responses."""
    return {
        "Status": {"type": "string", "enum": list(Status)},
        "Ticket": object_schema(ticket=TEXT, expires_in=COUNT | {"description": "Seconds."}),
        "Problem": problem_schema(),
        **job_schemas(),
        **history_schemas(),
        **log_schemas(),
        **file_schemas(),
        **explanation_schemas(),
        **comparison_schemas(),
        **queue_schemas(),
        **saved_schemas(),
        **notification_schemas(),
        **visitor_schemas(),
        **audit_schemas(),
        **service_schemas(),
    }


def job_schemas() -> dict[str, Any]:
    """A job on its own and in a list."""
    job = field_schemas(Job, WIRE)
    attempt = object_schema(
        number=COUNT,
        started_at=TIME,
        finished_at=TIME,
        exit_code=MAYBE_NUMBER,
        status=maybe("Status"),
        hint=MAYBE_TEXT,
    )
    return {
        "Job": whole_job(job),
        "Usual": usual_times(),
        "Attempt": attempt,
        "Usage": usage_now(),
        "Samples": object_schema(samples=array_of("Sample")),
        "Sample": usage_sample(),
        "ListedJob": listed_job(job),
        "Jobs": object_schema(
            jobs=array_of("ListedJob"),
            next=MAYBE_TEXT | {"description": "The `before` of the next page; null at the end."},
            skipped=COUNT
            | {
                "description": "How many jobs with this status, or with this `id`, are newer than "
                "the page."
            },
            searched=COUNT
            | {
                "description": "How many jobs with this status were searched for this page and "
                "the pages before it, from the newest on; with `id`, how many IDs match."
            },
            counts=refer("Counts"),
            paused=array_of("Pause"),
        ),
        "Counts": object_schema(**dict.fromkeys(Status, COUNT)),
        "Chosen": chosen_schema(),
        **retention_schemas(),
    }


def retention_schemas() -> dict[str, Any]:
    """When a job is deleted, and which jobs would be deleted now."""
    size = COUNT | {"description": "Of its log and its files."}
    return {
        "Retention": object_schema(
            delete_at=TIME | {"description": "Null if its age is no reason to delete it."},
            reason=TEXT | {"description": "What it is kept for, or which limits apply."},
        ),
        "PrunableJob": object_schema(
            id=TEXT,
            title=TEXT | {"description": "The name of its saved command, or else its title."},
            status=refer("Status"),
            finished_at=TIME,
            bytes=size,
            reason=TEXT,
        ),
        "Prunable": object_schema(
            jobs=array_of("PrunableJob"),
            bytes=COUNT | {"description": "Of all these jobs."},
            complete={"type": "boolean", "description": "False if there may be more."},
            bulk=BULK,
        ),
    }


def chosen_schema() -> dict[str, Any]:
    """The jobs that GET /bulk chooses."""
    return object_schema(
        ids=TEXTS,
        left_out=COUNT | {"description": "How many jobs have already been rerun."},
        complete={"type": "boolean", "description": "False if these are only the newest jobs."},
        bulk=BULK,
    )


def whole_job(job: dict[str, Any]) -> dict[str, Any]:
    """A job on its own. `job`: the properties that it has in a list, too."""
    noticed = array_of("Notice") | {"description": "What was noticed about it, oldest first."}
    whole = object_schema(**job, attempts=array_of("Attempt"), notifications=noticed)
    whole["properties"]["queued_before"] = COUNT | {
        "description": "While it is queued, unless it is urgent: how many older jobs wait in its "
        "queue."
    }
    whole["properties"]["reruns"] = TEXTS | {
        "description": "After a rerun with `with_after`: the IDs of the new jobs that wait for it."
    }
    whole["properties"]["cancel_requested"] = {
        "type": "boolean",
        "description": "While it is running: whether its processes are being ended after a cancel.",
    }
    whole["properties"]["usual"] = MAYBE_USUAL | {
        "description": "In the response to GET /jobs/ID: what is usual for it; null if that is "
        "not known yet."
    }
    whole["properties"]["retention"] = maybe("Retention") | {
        "description": "In the response to GET /jobs/ID: when and why it is deleted; null while it "
        "has not ended."
    }
    whole["properties"]["silent_since"] = SILENT_SINCE
    whole["properties"]["usage"] = maybe("Usage") | {
        "description": "In the response to GET /jobs/ID, while it is running: what its processes "
        "use; null if that is not known yet."
    }
    whole["properties"] |= log_fields()
    return whole


def listed_job(job: dict[str, Any]) -> dict[str, Any]:
    """A job in a list. `job`: the properties of a job on its own."""
    listed = object_schema(**{name: job[name] for name in job if name != "env"})
    listed["properties"]["command_cut"] = {
        "type": "boolean",
        "description": "True if `command` is only the beginning, in the same type; "
        "GET /jobs/ID returns all of it. Left out if the command is complete.",
    }
    listed["properties"]["usual"] = MAYBE_USUAL | {
        "description": "While it is running: what is usual for it; null if that is not known yet."
    }
    listed["properties"]["silent_since"] = SILENT_SINCE
    listed["properties"]["usage"] = maybe("Usage") | {
        "description": "While it is running: what its processes use, at most a minute ago if that "
        "has changed little; null if it is not known yet."
    }
    listed["properties"] |= log_fields()
    return listed


def usage_now() -> dict[str, Any]:
    """What the processes of a running job use."""
    return object_schema(
        at=TIME | {"description": "When it was measured."}, cpu=CORES, memory_bytes=MEMORY
    )


def usage_sample() -> dict[str, Any]:
    """The same at one time of its run."""
    cpu_seconds = {
        "type": "number",
        "minimum": 0,
        "description": "Processor time since its attempt began.",
    }
    return object_schema(at=TIME, cpu=CORES, cpu_seconds=cpu_seconds, memory_bytes=MEMORY)


def usual_times() -> dict[str, Any]:
    """What the last ten successes of the same saved command, or of the same title, took."""

    def seconds(description: str) -> dict[str, Any]:
        return {"type": ["number", "null"], "description": description}

    return object_schema(
        seconds=seconds("Their median duration."),
        late_after=seconds("A job that has been running for longer is late."),
        longest_pause=seconds("The longest time for which one of them wrote nothing."),
        silent_after=seconds("A job that has written nothing for longer is silent."),
        silent_since=TIME
        | {"description": "When it last wrote, or started; null if it is not running."},
    )


def history_schemas() -> dict[str, Any]:
    """The responses that summarize ended jobs, by name."""
    complete = {
        "type": "boolean",
        "description": "False while the API still reads the records of older jobs: ask again.",
    }
    run = {
        "type": "array",
        "items": {"type": ["string", "number", "null"]},
        "minItems": 3,
        "maxItems": 3,
        "description": "ID, status, seconds from start to end (null: it never started).",
    }
    seconds = {
        "type": ["number", "null"],
        "description": "Of the last ten runs that succeeded, seconds.",
    }
    newest = field_schemas(Job, ["id", "status", "exit_code", "reason", "hint", "finished_at"])
    from_saved = {"type": "boolean", "description": "Did it come from a saved command?"}
    return {
        "Names": object_schema(
            names=array_of("Name"),
            more=COUNT | {"description": "How many more names there are."},
            complete=complete,
        ),
        "Name": object_schema(
            name=TEXT,
            title=TEXT | {"description": "Of the newest run."},
            saved={"type": "boolean", "description": "Is it the name of a saved command?"},
            runs={"type": "array", "items": run, "description": "At most 20, oldest first."},
            median=seconds,
            succeeded=COUNT,
            ended=COUNT,
            last_at=TIME,
        ),
        "Attention": object_schema(failures=array_of("Failures"), complete=complete),
        "Failures": object_schema(name=TEXT, count=COUNT, newest=refer("NewestFailure")),
        "NewestFailure": object_schema(title=TEXT, saved=from_saved, **newest),
    }


def file_schemas() -> dict[str, Any]:
    """The list of a job's files."""
    file = object_schema(
        path=TEXT | {"description": "U+FFFD replaces what is not UTF-8."},
        url=TEXT | {"description": "The path of the request that returns the file."},
        kind={"type": "string", "enum": list(FileKind)},
        size=MAYBE_COUNT | {"description": "In bytes; null unless it is a file."},
        modified={"type": "string", "format": "date-time"},
    )
    complete = FLAG | {"description": "False: there are more of them."}
    elsewhere = MAYBE_TEXT | {
        "description": "If only a machine has their content: a sentence that says which, and where."
    }
    files = object_schema(files=array_of("File"), complete=complete, elsewhere=elsewhere)
    return {"File": file, "Files": files}


def log_schemas() -> dict[str, Any]:
    """The responses to searches of one log (Matches) and of all logs (Hits)."""
    job = field_schemas(Job, ["id", "name", "queue", "status", "submitted_at", "finished_at"])
    line = MAYBE_NUMBER | {"description": "Its number, from 1; null if unknown."}
    following = MAYBE_TEXT | {
        "description": "The `before` or `after` with which to continue; null at the end."
    }
    following_offset = following | {"type": ["integer", "null"]}
    return {
        "HitJob": object_schema(title=TEXT, **job),
        "Hit": object_schema(job=refer("HitJob"), offset=COUNT, line=line, text=TEXT),
        "Searched": object_schema(jobs=COUNT, bytes=COUNT, unreadable=COUNT),
        "Hits": object_schema(
            hits=array_of("Hit"),
            more_in=TEXTS | {"description": "IDs of jobs that might have more such lines."},
            next=following,
            searched=refer("Searched"),
            unreadable=TEXTS | {"description": "IDs of jobs whose logs cannot be read."},
        ),
        "Match": object_schema(offset=COUNT, line=line, text=TEXT),
        "Matches": object_schema(matches=array_of("Match"), next=following_offset),
        "LogSearch": {"anyOf": [refer("Matches"), refer("MatchCount"), refer("MatchPlaces")]},
        "MatchCount": object_schema(count=COUNT, complete={"type": "boolean"}),
        "MatchPlaces": object_schema(
            lines=COUNT | {"description": "How many lines match."},
            lines_before=MAYBE_NUMBER
            | {"description": "How many of them begin before `upto`; null if unknown."},
            places={
                "type": "array",
                "items": COUNT,
                "description": "The offsets of at most 1,000 of them, evenly chosen.",
            },
            complete={"type": "boolean"},
        ),
    }


def queue_schemas() -> dict[str, Any]:
    paused = maybe("Pause")
    return {
        "Pause": object_schema(**field_schemas(Pause)),
        "Queue": object_schema(
            queue=TEXT,
            queued=COUNT | {"description": "How many of its jobs wait."},
            running=COUNT | {"description": "How many of its jobs run."},
            limit=MAYBE_NUMBER | {"description": "How many can run at a time; null: no limit."},
            paused=paused,
        ),
        "Queues": object_schema(queues=array_of("Queue")),
    }


def saved_schemas() -> dict[str, Any]:
    """A saved command on its own and in a list."""
    command = {
        "saved": TEXT,
        **field_schemas(SavedCommand, DEFINITION),
        "saved_at": TIME,
        "next_run": TIME,
        "last_run": maybe("SavedRun"),
        "runs": array_of("SavedRun"),
        "skipped": refer("Skipped"),
    }
    listed = object_schema(**{name: command[name] for name in command if name != "env"})
    listed["properties"]["env"] = command["env"] | {"description": "With `env=1`."}
    return {
        "SavedCommand": object_schema(**command),
        "ListedCommand": listed,
        "SavedCommands": object_schema(saved=array_of("ListedCommand")),
        "SavedRun": object_schema(**field_schemas(Job, RUN_FIELDS)),
        "Skipped": object_schema(count=COUNT, last_at=TIME, for_job=MAYBE_TEXT),
        "Param": object_schema(**field_schemas(Param)),
    }


def notification_schemas() -> dict[str, Any]:
    """What was noticed about jobs, and the URLs that rules can name."""
    to = TEXT | {"description": "A name, or a URL whose end is hidden."}
    delivery = object_schema(
        to=to,
        tries=COUNT,
        sent_at=TIME | {"description": "Null if it was not sent (yet)."},
        error=MAYBE_TEXT | {"description": "Of the last try."},
        pending={"type": "boolean", "description": "Will it be tried (again)?"},
    )
    notice = {
        "event": TEXT | {"description": f"One of {', '.join(Event)}."},
        "at": TIME,
        "text": TEXT | {"description": "One line that says more than the event; can be empty."},
        "deliveries": array_of("Delivery")
        | {"description": "The messages; empty if nobody was to be notified."},
    }
    return {
        "Notice": object_schema(**notice),
        "Delivery": delivery,
        "Notification": object_schema(job=TEXT, title=TEXT, saved=MAYBE_TEXT, **notice),
        "Notifications": object_schema(notifications=array_of("Notification")),
        "Target": object_schema(name=TEXT, to=to),
        "Targets": object_schema(targets=array_of("Target")),
        "TestResult": object_schema(
            to=to,
            ok={"type": "boolean", "description": "Was the message accepted?"},
            answer=TEXT | {"description": "What the service answered, in one line."},
        ),
    }


def service_schemas() -> dict[str, Any]:
    size = MAYBE_NUMBER | {"description": "Only with Redis."}
    store = object_schema(kind={"enum": ["folder", "redis"]})
    store["properties"] |= {
        "version": MAYBE_TEXT | {"description": "Only with Redis."},
        "used_bytes": size,
        "max_bytes": size,
        "rolled_back_at": MAYBE_TEXT
        | {"description": "When Redis returned to an older state. Only with Redis."},
    }
    return {
        "Worker": object_schema(**field_schemas(WorkerInfo)),
        "Machine": object_schema(**field_schemas(Machine)),
        "Root": object_schema(name=TEXT, description=TEXT, page=TEXT, openapi=TEXT, version=TEXT),
        "Storage": store,
        "Workers": object_schema(
            workers=array_of("Worker"),
            machines=array_of("Machine"),
            paused=array_of("Pause"),
            storage=refer("Storage"),
            unreadable=TEXTS,
        ),
        "Health": object_schema(
            status={"enum": ["ok", "unhealthy"]},
            reason=MAYBE_TEXT | {"description": "Why it is unhealthy."},
            workers=COUNT,
            oldest_queued_seconds={"type": ["number", "null"]},
            unreadable=COUNT,
            free_bytes=MAYBE_COUNT | {"description": "What the API's user can still write."},
            total_bytes=MAYBE_COUNT | {"description": "Of the jobs folder's file system."},
            version=TEXT,
        ),
    }


def problem_schema() -> dict[str, Any]:
    schema = object_schema(
        type=TEXT, title=TEXT, status=NUMBER, detail=TEXT | {"description": "One sentence."}
    )
    schema["properties"] |= {
        "needs": TEXT | {"description": "With a 403: the role that the request needs."},
        "role": MAYBE_TEXT | {"description": "With a 403: the visitor's role; null if none."},
    }
    return schema


def visitor_schemas() -> dict[str, Any]:
    """Whose token or session a request has."""
    return {
        "Me": object_schema(
            name=MAYBE_TEXT,
            named={"type": "boolean", "description": "Does the API accept named tokens?"},
            role={"enum": list(Role), "description": "What the visitor may do, see `x-role`."},
            session=maybe("SessionEnd"),
            token={"enum": list(Credential)},
            version=TEXT,
        ),
        "Session": object_schema(key=TEXT, expires_at=TIME, name=MAYBE_TEXT),
        "SessionEnd": object_schema(expires_at=TIME),
    }


def field_schemas(kind: type, names: Iterable[str] = ()) -> dict[str, Any]:
    """The schemas of these fields of a dataclass, as responses contain them; of all fields if no
    names are given."""
    known = TypeAdapter(kind).json_schema(ref_template=REF)["properties"]
    described = {}
    for name in names or known:
        schema = {key: value for key, value in known[name].items() if key in SCHEMA_KEYS}
        if name.endswith("_at") or name in ("not_before", "since"):
            schema = dict(TIME)
        if name == "notify":
            schema = {"anyOf": [array_of("NotifyRule"), {"type": "null"}]}
        if name in NOTES:
            schema["description"] = NOTES[name]
        described[name] = schema
    return described


def body_schemas() -> dict[str, Any]:
    """The bodies of requests, by the names of their models, and the parts of bodies."""
    models = (operation.body for operation in OPERATIONS.values())
    bodies = {model.__name__: request_schema(model) for model in models if model}
    return bodies | {
        "SavedParam": SavedParam.model_json_schema(),
        "NotifyRule": NotifyRule.model_json_schema(),
        "RunValues": {"type": "object", "additionalProperties": TEXT},
    }


def request_schema(model: type[RequestModel]) -> dict[str, Any]:
    schema = model.model_json_schema(ref_template=REF)
    schema.pop("$defs", None)  # Status, which is among the schemas of responses
    return schema | {"additionalProperties": False}


def without_default(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema with its default moved into the description. Generated clients send every
    `default` that they find, and some parameters are mutually exclusive."""
    schema = dict(schema)
    default = schema.pop("default", None)
    if default not in (None, False, ""):
        schema["description"] += f"; default: {int(default) if default is True else default}"
    return schema
