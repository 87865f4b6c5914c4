"""The table of the API's operations: who can call each one, its parameters and its responses.

At the start the API reads from it which access each route needs, see route_match.py; openapi.py
describes the API from it. job_operations.py has the operations on jobs."""

from __future__ import annotations

from tailboard.access_role import Role
from tailboard.audit import Action
from tailboard.web.job_operations import JOB_OPERATIONS, SKIP
from tailboard.web.models import (
    AuditQuery,
    NoticeQuery,
    NotificationTest,
    PauseRequest,
    QueueRequest,
    RunQuery,
    RunValues,
    SavedListing,
    SavedRequest,
    SaveQuery,
    TargetRequest,
)
from tailboard.web.operation import Access, Operation

OPERATIONS: dict[tuple[str, str], Operation] = {
    **JOB_OPERATIONS,
    ("get", "/saved"): Operation(
        Access.TOKEN,
        Role.READ,
        id="listSavedCommands",
        tag="saved commands",
        summary="List saved commands",
        answers={"200": "SavedCommands", "304": ""},
        description="`env` is left out unless `env=1` requests it.",
        query=SavedListing,
    ),
    ("get", "/saved/{name}"): Operation(
        Access.TOKEN,
        Role.READ,
        id="getSavedCommand",
        tag="saved commands",
        summary="Show a saved command",
        answers={"200": "SavedCommand"},
        description="The ETag changes with its definition, not with its runs.",
        headers=["ETag"],
    ),
    ("put", "/saved/{name}"): Operation(
        Access.TOKEN,
        Role.ALL,
        id="saveCommand",
        audit=Action.SAVE,
        tag="saved commands",
        summary="Save a command",
        answers={"200": "SavedCommand", "201": "SavedCommand"},
        description=(
            "201 if the name is new, 200 if it replaces a saved command. The body may also "
            "contain the fields that only responses have; they are ignored. 409 if there are too "
            "many saved commands. 412 with `If-Match`, if it has another ETag, and with "
            "`If-None-Match: *`, if it exists. With `check=1` nothing is saved: the response is an "
            "error, or 200 and the command as it would be saved."
        ),
        query=SaveQuery,
        body=SavedRequest,
        conditional=True,
        headers=["Location", "ETag"],
        errors=(409,),
    ),
    ("delete", "/saved/{name}"): Operation(
        Access.TOKEN,
        Role.ALL,
        id="deleteSavedCommand",
        audit=Action.DELETE,
        tag="saved commands",
        summary="Delete a saved command",
        answers={"204": ""},
        description="Its jobs are kept.",
    ),
    ("post", "/saved/{name}/run"): Operation(
        Access.TOKEN,
        Role.RUN,
        id="runSavedCommand",
        audit=Action.RUN,
        tag="saved commands",
        summary="Run a saved command",
        answers={"201": "Job", "200": "Job"},
        description=f"The body maps names of params to their values. {SKIP}",
        query=RunQuery,
        body=RunValues,
        keyed=True,
        headers=["Location", "Tailboard-Skipped"],
        needs_body=False,
    ),
    ("get", "/queues"): Operation(
        Access.TOKEN,
        Role.READ,
        id="listQueues",
        tag="queues",
        summary="List queues",
        answers={"200": "Queues"},
        description="Lists queues that have jobs, a limit or a pause, or are named by a worker.",
    ),
    ("put", "/queues/{queue}"): Operation(
        Access.TOKEN,
        Role.ALL,
        id="changeQueue",
        audit=Action.LIMIT,
        tag="queues",
        summary="Set the limit of a queue",
        answers={"200": "Queue"},
        description=(
            "At most `limit` of its jobs run at a time, on all machines together; null removes "
            "the limit. Running jobs continue, even if there are more."
        ),
        body=QueueRequest,
    ),
    ("put", "/queues/{queue}/pause"): Operation(
        Access.TOKEN,
        Role.ALL,
        id="pauseQueue",
        audit=Action.PAUSE,
        tag="queues",
        summary="Pause a queue",
        answers={"200": "Pause"},
        description="No more jobs start from it; running jobs continue.",
        body=PauseRequest,
        needs_body=False,
        errors=(400,),
    ),
    ("delete", "/queues/{queue}/pause"): Operation(
        Access.TOKEN,
        Role.ALL,
        id="resumeQueue",
        audit=Action.RESUME,
        tag="queues",
        summary="Resume a queue",
        answers={"204": ""},
        errors=(400,),
    ),
    ("get", "/notifications"): Operation(
        Access.TOKEN,
        Role.READ,
        id="listNotifications",
        tag="notifications",
        summary="List recent notifications, newest first",
        answers={"200": "Notifications", "304": ""},
        description=(
            "What was noticed about jobs since then, by default in the last day, and to whom "
            "messages about it were sent. Pings are left out."
        ),
        query=NoticeQuery,
    ),
    ("get", "/notifications/targets"): Operation(
        Access.TOKEN,
        Role.READ,
        id="listTargets",
        tag="notifications",
        summary="List the named URLs",
        answers={"200": "Targets"},
        description="`to` is only the beginning of a URL: what follows can be a secret.",
    ),
    ("put", "/notifications/targets/{target}"): Operation(
        Access.TOKEN,
        Role.ALL,
        id="setTarget",
        audit=Action.SET,
        tag="notifications",
        summary="Name a URL",
        answers={"200": "Target", "201": "Target"},
        description="201 if the name is new, 200 if its URL is replaced.",
        body=TargetRequest,
        errors=(409,),
    ),
    ("delete", "/notifications/targets/{target}"): Operation(
        Access.TOKEN,
        Role.ALL,
        id="removeTarget",
        audit=Action.REMOVE,
        tag="notifications",
        summary="Remove the name of a URL",
        answers={"204": ""},
        description="Messages to this name are no longer sent.",
        errors=(404,),
    ),
    ("post", "/notifications/test"): Operation(
        Access.TOKEN,
        Role.ALL,
        id="testTarget",
        audit=Action.TEST,
        tag="notifications",
        summary="Send a test message",
        answers={"200": "TestResult"},
        description=(
            "200 even if the message was refused: `ok` is then false. The response comes when the "
            "service has answered, after 20 s at the latest; white space precedes the JSON."
        ),
        body=NotificationTest,
    ),
    ("get", "/me"): Operation(
        Access.TOKEN,
        Role.READ,
        id="getMe",
        tag="service",
        summary="Show whose token this is",
        answers={"200": "Me"},
        description=(
            "`name` is null unless the request has a named token, a session key made for one, or a "
            "user of a proxy. `session` is null unless it has a session key. `token` is the kind "
            "of the token, `none` if the API needs none. `role` is what the visitor may do."
        ),
    ),
    ("post", "/sessions"): Operation(
        Access.TOKEN_ITSELF,
        Role.READ,
        id="startSession",
        audit=Action.SIGN_IN,
        tag="service",
        summary="Sign in",
        answers={"201": "Session"},
        description=(
            "The `key` replaces the token until the session ends: after 30 days, when it is ended "
            "(`DELETE /sessions/current`), or when the token is revoked or replaced. 409 if the "
            "API needs no token, and for a user of a proxy."
        ),
        errors=(409,),
    ),
    ("delete", "/sessions/current"): Operation(
        Access.TOKEN,
        Role.READ,
        id="endSession",
        audit=Action.SIGN_OUT,
        tag="service",
        summary="Sign out",
        answers={"204": ""},
        description="Ends the session whose key the request has.",
        errors=(404,),
    ),
    ("get", "/audit"): Operation(
        Access.TOKEN,
        Role.ALL,
        id="readAudit",
        tag="service",
        summary="Read the audit log, newest line first",
        answers={"200": "AuditPage"},
        description="A page can be short and still have a `next`.",
        query=AuditQuery,
    ),
    ("get", "/workers"): Operation(
        Access.TOKEN,
        Role.READ,
        id="listWorkers",
        tag="service",
        summary="List workers and machines",
        answers={"200": "Workers"},
        description=("Also shows the storage, paused queues, and entries that cannot be read."),
    ),
    ("get", "/healthz"): Operation(
        Access.OPEN,
        Role.READ,
        id="getHealth",
        tag="service",
        summary="Report health",
        answers={"200": "Health", "503": "Health"},
        description="503 if something needs attention; `reason` explains it. Needs no token.",
    ),
    ("get", "/metrics"): Operation(
        Access.TOKEN,
        Role.READ,
        id="getMetrics",
        tag="service",
        summary="Report metrics for Prometheus",
        answers={"200": "text/plain"},
    ),
    ("get", "/"): Operation(
        Access.TOKEN,
        Role.READ,
        id="getRoot",
        tag="service",
        summary="Identify this API",
        answers={"200": "Root"},
    ),
    ("get", "/openapi.json"): Operation(
        Access.TOKEN,
        Role.READ,
        id="getOpenapi",
        tag="service",
        summary="Describe this API",
        answers={"200": "application/json"},
    ),
}
