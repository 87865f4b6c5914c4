"""The OpenAPI document, made from the table of operations."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from tailboard.web.auth import needs_token
from tailboard.web.operations import (
    ANSWER_HEADERS,
    ERRORS,
    IDEMPOTENCY_KEY,
    OPERATIONS,
    OVERVIEW,
    PATH_PARAMETERS,
    TAGS,
    TEXT,
    Access,
    Operation,
)
from tailboard.web.schemas import (
    answer_schemas,
    body_schemas,
    describe_problem,
    refer,
    request_schema,
    without_default,
)

SECURITY_SCHEMES = {
    "token": {
        "type": "http",
        "scheme": "bearer",
        "description": "The token of TAILBOARD_TOKEN, or a named one of TAILBOARD_TOKENS. An API "
        "that has neither needs no token, and serves only programs of its own machine.",
    },
    "ticket": {
        "type": "apiKey",
        "in": "query",
        "name": "ticket",
        "description": "From POST /ticket or POST /jobs/{job_id}/ticket. For ten minutes it reads "
        "logs, and nothing else.",
    },
}
SCHEMES = {  # access -> SECURITY_SCHEMES, of which each is enough
    Access.OPEN: (),
    Access.TICKET_OR_TOKEN: ("token", "ticket"),
    Access.TOKEN: ("token",),
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
MEDIA_SCHEMAS: dict[str, dict[str, Any]] = {
    "text/plain": TEXT,
    "text/event-stream": TEXT,
    "application/json": {"type": "object"},
}


def describe_operations() -> dict[str, Any]:
    """The OpenAPI 3.1 document of this API, made of the models that check the requests."""
    paths: dict[str, dict[str, Any]] = {}
    for (method, path), operation in OPERATIONS.items():
        paths.setdefault(path, {})[method] = describe_operation(path, operation)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Tailboard", "version": "1", "description": OVERVIEW},
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
    if operation.description:
        described["description"] = operation.description
    if operation.body:
        content = {"application/json": {"schema": refer(operation.body.__name__)}}
        described["requestBody"] = {"required": operation.needs_body, "content": content}
    described["responses"] = describe_answers(path, operation)
    return described


def describe_security(operation: Operation) -> list[dict[str, list[str]]]:
    """Each of these is enough. Without a token in the settings none is needed."""
    enough: list[dict[str, list[str]]] = [{name: []} for name in SCHEMES[operation.access]]
    if enough and not needs_token():
        enough.append({})
    return enough


def describe_parameters(path: str, operation: Operation) -> list[dict[str, Any]]:
    names = re.findall(r"{(\w+)}", path)
    parameters = [parameter(name, "path", PATH_PARAMETERS[name], True) for name in names]
    if operation.keyed:
        parameters.append(parameter("Idempotency-Key", "header", IDEMPOTENCY_KEY))
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
    """The answers by their statuses; those that are no errors first."""
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
    """The errors that an operation may answer with, because of what it takes."""
    statuses = {403, 503, *operation.errors}
    if operation.access is not Access.OPEN:
        statuses.add(401)
    if operation.query or operation.body or operation.keyed:
        statuses.add(400)
    if operation.keyed:
        statuses.add(422)
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
