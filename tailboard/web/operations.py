"""The table of the API's operations."""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple

from flask import Flask
from werkzeug.routing import Rule

from tailboard.saved_command import SAVED_NAMES
from tailboard.values import QUEUE_NAMES
from tailboard.web.models import (
    Bulk,
    Grep,
    Listing,
    LogQuery,
    PauseRequest,
    RequestModel,
    RunQuery,
    RunValues,
    SavedRequest,
    Submission,
    TicketRequest,
)

TAGS = {
    "jobs": "Submit, list, cancel, rerun and delete jobs.",
    "logs": "Read, follow and search logs. With a ticket a browser can read them without a token.",
    "saved commands": "Commands that are kept under a name, run with values, or run at times.",
    "queues": "Pause and resume queues.",
    "service": "Workers, health, metrics, and this description.",
}
OVERVIEW = (
    "Jobs and their logs. Times are RFC 3339 in UTC; a value that is unknown or does not apply is "
    "null. Errors are problem details (RFC 9457); `detail` is one sentence that says what is wrong "
    "and what is allowed."
)
REF = "#/components/schemas/{model}"
TEXT = {"type": "string"}
COUNT = {"type": "integer", "minimum": 0}


ANSWER_HEADERS = {  # header -> its schema, and when it is sent and what it means
    "Location": (TEXT, "The path of what was created."),
    "ETag": (TEXT, "For If-None-Match."),
    "Retry-After": (COUNT, "Seconds after which to try again."),
    "WWW-Authenticate": (TEXT, "Bearer"),
    "X-Log-Offset": (COUNT, "Offset of the first byte of the answer."),
    "X-Log-Next": (COUNT, "Offset from which to read next."),
    "X-Log-Size": (COUNT, "Bytes of the log."),
    "X-Log-Start": (COUNT, "Offset of the first byte that is kept."),
    "X-Log-Line": (COUNT, "Number of the first line of the answer, if it is known soon enough."),
    "X-Log-Lines": (COUNT, "Lines of the log, if they are counted."),
    "X-Log-Complete": ({"type": "boolean"}, "The job has ended, and this is the end of its log."),
    "X-Job-Status": (TEXT, "The job's status."),
}
LOG_HEADERS = ["ETag", *(name for name in ANSWER_HEADERS if name.startswith("X-"))]
TICKET_USE = (
    "For `GET /jobs/{job_id}/logs?ticket=…`. A page of the `origin` may read that answer, too,"
    " unless TAILBOARD_DASHBOARD lists the origins that may."
)


ERRORS = {
    400: "A value is wrong; `detail` names it and says what is allowed.",
    401: "The token is missing or wrong.",
    403: "Without a token the API serves only programs of its own machine, and never other sites.",
    404: "It does not exist.",
    408: "The body did not arrive in time.",
    409: "Its state does not allow that.",
    413: "The body is too large.",
    415: "The body is not application/json.",
    416: "The offset is past the end of the log.",
    422: "The Idempotency-Key belongs to a job that another request has submitted.",
    503: "Not possible now; try again later.",
}
PATH_PARAMETERS = {
    "job_id": TEXT | {"description": "the ID of a job"},
    "name": TEXT | {"description": f"the name of a saved command, {SAVED_NAMES}"},
    "queue": TEXT | {"description": f"the name of a queue, {QUEUE_NAMES}"},
}
IDEMPOTENCY_KEY = TEXT | {
    "minLength": 1,
    "description": "Any text without control characters other than a tab. A request that is sent "
    "again with the same key creates nothing new; another request with that key is a 422.",
}


# The meaning of the fields of answers that their names do not make clear.
NOTES = {
    "command": "A shell line, or a program and its arguments.",
    "cwd": "The folder to run in; null: the worker's.",
    "timeout": "Seconds that an attempt may run.",
    "retry_delay": "Seconds before the first retry, doubled before each further one.",
    "not_before": "The next attempt does not start before this time.",
    "attempt": "Number of the current or last attempt, from 1.",
    "exit_code": "128+n after signal n.",
    "reason": "A sentence, if the status needs one.",
    "hint": "The line of the log that says why it ended badly.",
    "pid": "Of the process that leads the job's process group.",
    "rerun_of": "The ID of the job that this one repeats.",
    "saved": "The name of the saved command.",
    "max_rss_bytes": "The most memory that one of its processes used.",
    "log_size": "Bytes of the log.",
    "log_start": "Offset of the first byte of the log that is kept.",
    "slots": "Jobs that can run at a time.",
    "running": "Jobs that run now.",
    "queues": "The queues that it serves; empty: all.",
    "seen_at": "Time of its last heartbeat.",
    "responds": "False: it lives, but sends no heartbeats.",
    "heard_at": "Time of its last report.",
    "state": "`heard of`, or `unreachable` and since when.",
    "spool": "The machine's name.",
    "cron": "A cron expression; null: it has no times.",
    "zone": "The IANA time zone of `cron`.",
    "paused": "Its times pass without a run.",
}


class Access(StrEnum):
    """What a request to a route must present if the settings have a token. Without a token in the
    settings, OPEN still serves everybody, and the others serve programs of the API's own machine.
    """

    OPEN = "nobody is asked"  # anyone who can connect is served
    TICKET_OR_TOKEN = "ticket or token"  # a ticket for the job in the path, or for all logs
    TOKEN = "token"  # the shared one, or a named one


class Operation(NamedTuple):
    """One method of one path: who may call it, what it takes and what it answers."""

    access: Access
    id: str  # for the names of functions in generated clients
    tag: str  # one of TAGS
    summary: str
    answers: dict[str, str]  # status -> names of schemas (of JSON) and media types; "": no body
    description: str = ""
    query: type[RequestModel] | None = None
    body: type[RequestModel] | None = None
    keyed: bool = False  # takes an Idempotency-Key
    needs_body: bool = True  # if it takes one
    headers: Sequence[str] = ()  # of answers with a body, from ANSWER_HEADERS
    errors: tuple[int, ...] = ()  # besides those of every operation of its kind


OPERATIONS: dict[tuple[str, str], Operation] = {
    ("get", "/jobs"): Operation(
        Access.TOKEN,
        "listJobs",
        "jobs",
        "List jobs, newest first",
        {"200": "Jobs", "304": ""},
        "A page may be short and have a `next` nevertheless: at most 2,000 jobs are read for it.",
        query=Listing,
    ),
    ("post", "/jobs"): Operation(
        Access.TOKEN,
        "submitJob",
        "jobs",
        "Submit a job",
        {"201": "Job"},
        "With an Idempotency-Key that was used before, the answer is the job of that time.",
        body=Submission,
        keyed=True,
        headers=["Location"],
    ),
    ("get", "/jobs/{job_id}"): Operation(
        Access.TOKEN, "getJob", "jobs", "Show a job", {"200": "Job"}
    ),
    ("delete", "/jobs/{job_id}"): Operation(
        Access.TOKEN, "deleteJob", "jobs", "Delete a job that has ended", {"204": ""}, errors=(409,)
    ),
    ("post", "/jobs/{job_id}/cancel"): Operation(
        Access.TOKEN,
        "cancelJob",
        "jobs",
        "Cancel a job",
        {"202": "Job"},
        "A queued job is cancelled at once. A running job is still running in the answer; its "
        "worker ends all of its processes.",
        errors=(409,),
    ),
    ("post", "/jobs/{job_id}/rerun"): Operation(
        Access.TOKEN,
        "rerunJob",
        "jobs",
        "Submit a job like this one",
        {"201": "Job"},
        "`rerun_of` of the new job is the ID of this one.",
        keyed=True,
        headers=["Location"],
    ),
    ("get", "/bulk"): Operation(
        Access.TOKEN,
        "chooseJobs",
        "jobs",
        "List the jobs to rerun, cancel or delete",
        {"200": "Chosen"},
        "It does nothing to them: ask for each of the IDs, in this order, on its own.",
        query=Bulk,
    ),
    ("get", "/jobs/{job_id}/logs"): Operation(
        Access.TICKET_OR_TOKEN,
        "readLog",
        "logs",
        "Read, follow, search or download a log",
        {
            "200": "text/plain LogSearch text/event-stream",
            "206": "text/plain",
            "304": "",
        },
        "At most one of `tail`, `offset`, `since` and `q`. With `q` the answer is JSON. With "
        "`follow=1` it ends when the job does; with `Accept: text/event-stream` it consists of "
        "events. A `ticket` replaces the token.",
        query=LogQuery,
        headers=LOG_HEADERS,
        errors=(416,),
    ),
    ("get", "/logs"): Operation(
        Access.TOKEN,
        "searchLogs",
        "logs",
        "Find lines in all logs, newest jobs first",
        {"200": "Hits"},
        "If `next` is not null, the search is not over: repeat it with that as `before`.",
        query=Grep,
    ),
    ("post", "/jobs/{job_id}/ticket"): Operation(
        Access.TOKEN,
        "createLogTicket",
        "logs",
        "Create a ticket for the log of one job",
        {"201": "Ticket"},
        TICKET_USE,
        body=TicketRequest,
        needs_body=False,
    ),
    ("post", "/ticket"): Operation(
        Access.TOKEN,
        "createTicket",
        "logs",
        "Create a ticket for the log of any job",
        {"201": "Ticket"},
        TICKET_USE,
        body=TicketRequest,
        needs_body=False,
    ),
    ("get", "/saved"): Operation(
        Access.TOKEN,
        "listSavedCommands",
        "saved commands",
        "List saved commands",
        {"200": "SavedCommands", "304": ""},
    ),
    ("get", "/saved/{name}"): Operation(
        Access.TOKEN,
        "getSavedCommand",
        "saved commands",
        "Show a saved command",
        {"200": "SavedCommand"},
    ),
    ("put", "/saved/{name}"): Operation(
        Access.TOKEN,
        "saveCommand",
        "saved commands",
        "Save a command",
        {"200": "SavedCommand", "201": "SavedCommand"},
        "201 if the name is new, 200 if it replaces a saved command. The body may also contain the "
        "fields that only the answers have; they are ignored. 409 if there is no room.",
        body=SavedRequest,
        headers=["Location"],
        errors=(409,),
    ),
    ("delete", "/saved/{name}"): Operation(
        Access.TOKEN,
        "deleteSavedCommand",
        "saved commands",
        "Delete a saved command",
        {"204": ""},
        "Its jobs are kept.",
    ),
    ("post", "/saved/{name}/run"): Operation(
        Access.TOKEN,
        "runSavedCommand",
        "saved commands",
        "Run a saved command",
        {"201": "Job"},
        "The body has values for its params, by their names.",
        query=RunQuery,
        body=RunValues,
        keyed=True,
        headers=["Location"],
        needs_body=False,
    ),
    ("get", "/queues"): Operation(
        Access.TOKEN,
        "listQueues",
        "queues",
        "List queues",
        {"200": "Queues"},
        "The queues in which jobs wait, that a worker serves by name, or that are paused.",
    ),
    ("put", "/queues/{queue}/pause"): Operation(
        Access.TOKEN,
        "pauseQueue",
        "queues",
        "Pause a queue",
        {"200": "Pause"},
        "No more jobs start from it; running jobs continue.",
        body=PauseRequest,
        needs_body=False,
        errors=(400,),
    ),
    ("delete", "/queues/{queue}/pause"): Operation(
        Access.TOKEN, "resumeQueue", "queues", "Resume a queue", {"204": ""}, errors=(400,)
    ),
    ("get", "/workers"): Operation(
        Access.TOKEN,
        "listWorkers",
        "service",
        "List workers and machines",
        {"200": "Workers"},
        "Also the storage, the queues that are paused, and the entries that cannot be read.",
    ),
    ("get", "/healthz"): Operation(
        Access.OPEN,
        "getHealth",
        "service",
        "Report health",
        {"200": "Health", "503": "Health"},
        "503 if something needs attention; `reason` says what. It needs no token.",
    ),
    ("get", "/metrics"): Operation(
        Access.TOKEN,
        "getMetrics",
        "service",
        "Report metrics for Prometheus",
        {"200": "text/plain"},
    ),
    ("get", "/"): Operation(
        Access.TOKEN, "getRoot", "service", "Say what this is", {"200": "Root"}
    ),
    ("get", "/openapi.json"): Operation(
        Access.TOKEN, "getOpenapi", "service", "Describe this API", {"200": "application/json"}
    ),
}


def match_operations(app: Flask) -> dict[str, Access]:
    """The access of each route of the application, by its endpoint. ValueError unless each route
    has an entry in OPERATIONS and each entry has a route."""
    served = {key: rule.endpoint for rule in app.url_map.iter_rules() for key in served_by(rule)}
    for method, path in sorted(served.keys() - OPERATIONS.keys()):
        route = f"{method.upper()} {path}"
        raise ValueError(f"the route {route} declares no access: OPERATIONS has no entry for it")
    for method, path in sorted(OPERATIONS.keys() - served.keys()):
        raise ValueError(f"OPERATIONS has {method.upper()} {path}, which no route serves")
    declared: dict[str, Access] = {}
    for key, endpoint in served.items():
        access = OPERATIONS[key].access
        if declared.setdefault(endpoint, access) is not access:
            raise ValueError(f"the routes of {endpoint} declare different access in OPERATIONS")
    return declared


def served_by(rule: Rule) -> list[tuple[str, str]]:
    """The keys in OPERATIONS of what this rule serves; Flask adds HEAD and OPTIONS by itself."""
    path = re.sub("<(.*?)>", r"{\1}", rule.rule)
    methods = (rule.methods or set()) - {"HEAD", "OPTIONS"}
    return [(method.lower(), path) for method in sorted(methods)]
