"""The OpenAPI document, generated from the table of operations."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from tailboard import __version__
from tailboard.notify_rules import TARGET_NAMES
from tailboard.saved_command import SAVED_NAMES
from tailboard.values import QUEUE_NAMES
from tailboard.web.audit import BULK_HEADER, IN_BULK
from tailboard.web.auth import needs_token
from tailboard.web.operation import Access, Operation
from tailboard.web.operations import OPERATIONS
from tailboard.web.schema_parts import COUNT, TEXT, refer
from tailboard.web.schemas import answer_schemas, body_schemas, request_schema, without_default

TAGS = {
    "jobs": "Submit, list, cancel, rerun and delete jobs.",
    "logs": "Read, follow and search logs. With a ticket a browser can read them without a token.",
    "files": "List and read the files that jobs have kept.",
    "saved commands": "Commands saved under a name, which can be run with values or on a schedule.",
    "queues": "Limit, pause and resume queues.",
    "notifications": "What was noticed about jobs, and to whom messages about it are sent.",
    "service": "Workers, health, metrics, and this description.",
}
OVERVIEW = (
    "Jobs and their logs. Times are RFC 3339 in UTC; a value that is unknown or does not apply is "
    "null. Errors are problem details (RFC 9457); `detail` is a sentence that says what is wrong "
    "and what is allowed. `x-role` is the least role that allows an operation: `read`, `run` (also "
    "saved commands and their jobs) or `all`."
)
SECURITY_SCHEMES = {
    "token": {
        "type": "http",
        "scheme": "bearer",
        "description": "The token of TAILBOARD_TOKEN, a named one of TAILBOARD_TOKENS, or (except "
        "for POST /sessions) a session key. "
        "An API with neither setting needs no token and serves only programs on its own machine. "
        "Behind a proxy that signs users in, no token is needed either: the proxy names the user "
        "in the header of TAILBOARD_USER_HEADER.",
    },
    "ticket": {
        "type": "apiKey",
        "in": "query",
        "name": "ticket",
        "description": "From POST /ticket or POST /jobs/{job_id}/ticket. "
        "It is valid for ten minutes and can only read logs and files.",
    },
}
SCHEMES = {  # access -> names in SECURITY_SCHEMES, of which one is enough
    Access.OPEN: (),
    Access.TICKET_OR_TOKEN: ("token", "ticket"),
    Access.ALL_LOGS: ("token", "ticket"),
    Access.TOKEN: ("token",),
    Access.TOKEN_ITSELF: ("token",),
}
ANSWER_HEADERS = {  # header -> its schema, and when it is sent and what it means
    "Location": (TEXT, "The path of the new resource."),
    "ETag": (TEXT, "For If-None-Match; that of a saved command for If-Match."),
    "Tailboard-Skipped": (TEXT, "With a 200: the ID of the job that has the key."),
    "Retry-After": (COUNT, "Seconds to wait before the next try."),
    "WWW-Authenticate": (TEXT, "Bearer"),
    "Content-Disposition": (TEXT, "The name for saving it; whether browsers show it or save it."),
    "X-Log-Offset": (COUNT, "Offset of the first byte of the response."),
    "X-Log-Next": (COUNT, "Offset from which to read next."),
    "X-Log-Size": (COUNT, "Size of the log in bytes."),
    "X-Log-Start": (COUNT, "Offset of the first byte that still exists."),
    "X-Log-Line": (COUNT, "Number of the first line of the response, if it is known in time."),
    "X-Log-Lines": (COUNT, "Number of lines in the log, if they have been counted."),
    "X-Log-Complete": ({"type": "boolean"}, "The job has ended, and this is the end of its log."),
    "X-Job-Status": (TEXT, "The job's status."),
}
PATH_PARAMETERS = {
    "job_id": TEXT | {"description": "the ID of a job"},
    "path": TEXT | {"description": "the path of a file, with %2F or / between the names"},
    "name": TEXT | {"description": f"the name of a saved command, {SAVED_NAMES}"},
    "queue": TEXT | {"description": f"the name of a queue, {QUEUE_NAMES}"},
    "target": TEXT | {"description": f"the name of a URL, {TARGET_NAMES}"},
}
IDEMPOTENCY_KEY = TEXT | {
    "minLength": 1,
    "description": "Any text without control characters other than a tab. Repeating a request with "
    "the same key creates nothing new; a different request with that key gets a 422.",
}
CONDITIONS: dict[str, dict[str, Any]] = {
    "If-Match": TEXT
    | {"description": "The ETag of what the request replaces, if it must not have changed."},
    "If-None-Match": TEXT | {"enum": ["*"], "description": "*: it must not exist yet."},
}
BULK_NAME = TEXT | {
    "description": "`bulk` of GET /bulk: the audit log then has one line for all of its jobs."
}
STATUSES = {
    "200": "Done",
    "201": "Created",
    "202": "The cancel is accepted",
    "204": "Done; no body",
    "206": "The part that Range asks for",
    "304": "Unchanged since If-None-Match; no body",
    "503": "Something needs attention",
}
ERRORS = {
    400: "A value is wrong; `detail` names it and says what is allowed.",
    401: "The token is missing or wrong.",
    403: "The visitor's role does not allow it; `detail` names the role that is needed. Also: "
    "without a token the API serves only programs on its own machine, and never other sites.",
    404: "It does not exist.",
    408: "The body did not arrive in time.",
    409: "Its state does not allow that.",
    412: "It is not as If-Match or If-None-Match says.",
    413: "The body is too large.",
    415: "The body is not application/json.",
    416: "The offset is past the end of the log or file.",
    422: "The Idempotency-Key belongs to a job that a different request submitted.",
    503: "Not possible now; try again later.",
}
MEDIA_SCHEMAS: dict[str, dict[str, Any]] = {
    "text/plain": TEXT,
    "text/event-stream": TEXT,
    "application/json": {"type": "object"},
    "application/octet-stream": {"type": "string", "format": "binary"},
    "application/zip": {"type": "string", "format": "binary"},
    "*/*": {"type": "string", "format": "binary"},
}


def describe_operations() -> dict[str, Any]:
    """The OpenAPI 3.1 document of this API."""
    paths: dict[str, dict[str, Any]] = {}
    for (method, path), operation in OPERATIONS.items():
        paths.setdefault(path, {})[method] = describe_operation(path, operation)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Tailboard", "version": __version__, "description": OVERVIEW},
        "servers": [{"url": "/"}],
        "tags": [{"name": name, "description": text} for name, text in TAGS.items()],
        "paths": paths,
        "components": {
            "schemas": answer_schemas() | body_schemas(),
            "responses": {f"Error{status}": describe_error_answer(status) for status in ERRORS},
            "securitySchemes": SECURITY_SCHEMES,
        },
    }


def describe_operation(path: str, operation: Operation) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": operation.id,
        "tags": [operation.tag],
        "summary": operation.summary,
        "security": describe_security(operation),
        "parameters": describe_parameters(path, operation),
    }
    if operation.access is not Access.OPEN:
        described["x-role"] = str(operation.role)
    if operation.description:
        described["description"] = operation.description
    if operation.body:
        content = {"application/json": {"schema": refer(operation.body.__name__)}}
        described["requestBody"] = {"required": operation.needs_body, "content": content}
    described["responses"] = describe_answers(path, operation)
    return described


def describe_security(operation: Operation) -> list[dict[str, list[str]]]:
    """The ways to authenticate, any one of which is enough; an empty one if no token is needed."""
    enough: list[dict[str, list[str]]] = [{name: []} for name in SCHEMES[operation.access]]
    if enough and not needs_token():
        enough.append({})
    return enough


def describe_parameters(path: str, operation: Operation) -> list[dict[str, Any]]:
    names = re.findall(r"{(\w+)}", path)
    parameters = [parameter(name, "path", PATH_PARAMETERS[name], True) for name in names]
    if operation.keyed:
        parameters.append(parameter("Idempotency-Key", "header", IDEMPOTENCY_KEY))
    if operation.conditional:
        parameters += [parameter(name, "header", schema) for name, schema in CONDITIONS.items()]
    if operation.audit in IN_BULK and "{job_id}" in path:
        parameters.append(parameter(BULK_HEADER, "header", BULK_NAME))
    if operation.query:
        model = request_schema(operation.query)
        for name, schema in model["properties"].items():
            is_required = name in model.get("required", ())
            parameters.append(parameter(name, "query", without_default(schema), is_required))
    return parameters


def parameter(
    name: str, place: str, schema: dict[str, Any], is_required: bool = False
) -> dict[str, Any]:
    described = {"name": name, "in": place, "required": is_required, "schema": schema}
    if "description" in schema:
        described["description"] = schema["description"]
    return described


def describe_answers(path: str, operation: Operation) -> dict[str, Any]:
    """The responses by status: the successful ones first, then the errors."""
    described = {
        status: describe_answer(status, answer, operation.headers)
        for status, answer in operation.answers.items()
    }
    for status in error_statuses(path, operation):
        reference = {"$ref": f"#/components/responses/Error{status}"}
        described.setdefault(str(status), reference)
    described["default"] = describe_problem("Any other error")
    return described


def error_statuses(path: str, operation: Operation) -> list[int]:
    """The error statuses that an operation can return, depending on what it accepts."""
    statuses = {403, 503, *operation.errors}
    if operation.access is not Access.OPEN:
        statuses.add(401)
    if operation.query or operation.body or operation.keyed:
        statuses.add(400)
    if operation.keyed:
        statuses.add(422)
    if operation.conditional:
        statuses.add(412)
    if operation.body:
        statuses |= {408, 413, 415}
    if "{job_id}" in path or "{name}" in path:
        statuses.add(404)
    return sorted(statuses)


def describe_answer(status: str, answer: str, headers: Sequence[str]) -> dict[str, Any]:
    described: dict[str, Any] = {"description": STATUSES[status]}
    if not answer:
        return described
    described["content"] = content = {}
    for each in answer.split():
        kind = each if "/" in each else "application/json"
        content[kind] = {"schema": MEDIA_SCHEMAS[kind] if kind == each else refer(each)}
    if headers:
        described["headers"] = describe_headers(headers)
    return described


def describe_headers(names: Sequence[str]) -> dict[str, Any]:
    described = {}
    for name in names:
        schema, text = ANSWER_HEADERS[name]
        described[name] = {"schema": schema, "description": text}
    return described


def describe_error_answer(status: int) -> dict[str, Any]:
    described = describe_problem(ERRORS[status])
    headers = {401: ["WWW-Authenticate"], 416: ["X-Log-Size"], 503: ["Retry-After"]}
    if status in headers:
        described["headers"] = describe_headers(headers[status])
    return described


def describe_problem(text: str) -> dict[str, Any]:
    content = {"application/problem+json": {"schema": refer("Problem")}}
    return {"description": text, "content": content}
