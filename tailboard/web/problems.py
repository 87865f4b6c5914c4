"""Errors as problem details (RFC 9457)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from itertools import zip_longest

from flask import Flask, Response, current_app, request
from werkzeug.exceptions import (
    BadRequest,
    Conflict,
    Forbidden,
    HTTPException,
    MethodNotAllowed,
    NotFound,
    PreconditionFailed,
    RequestedRangeNotSatisfiable,
    RequestEntityTooLarge,
    RequestTimeout,
    ServiceUnavailable,
    UnprocessableEntity,
)

from tailboard.access_role import Role
from tailboard.errors import (
    CommandChanged,
    FilesElsewhere,
    JobNotFound,
    KeyReused,
    NotAFile,
    StoreError,
    WrongState,
)
from tailboard.web.bodies import MAX_BODY_BYTES, BodiesTooMany, BodyBroken, BodyLate
from tailboard.web.operations import OPERATIONS
from tailboard.web.requests import has_body
from tailboard.web.state import state

RETRY_AFTER = "5"  # seconds
ERROR_SENTENCES = {
    400: "the request is not valid HTTP",
    500: "the API failed to answer this request; its log has the reason",
}
MAX_GUESSED_PATH = 200  # characters


class RoleMissing(Forbidden):
    """A 403 because of the visitor's role. Its problem details have two more members: `needs`, the
    role that the request needs, and `role`, that of the visitor; null if the visitor has none."""

    def __init__(self, detail: str, needs: Role, role: Role | None) -> None:
        super().__init__(detail)
        self.members = {"needs": needs, "role": role}


class DownloadBroken(Exception):
    """Bytes that Content-Length has promised no longer exist: the connection has to close early."""


def add_error_handlers(app: Flask) -> None:
    """Make the application turn every exception of a route into problem details."""
    app.register_error_handler(HTTPException, problem_response)
    app.register_error_handler(JobNotFound, job_not_found)
    for conflict in (WrongState, NotAFile, FilesElsewhere):
        app.register_error_handler(conflict, wrong_state)
    app.register_error_handler(KeyReused, key_reused)
    app.register_error_handler(CommandChanged, command_changed)
    app.register_error_handler(BodyBroken, body_broken)
    app.register_error_handler(BodyLate, body_late)
    app.register_error_handler(BodiesTooMany, bodies_too_many)
    app.register_error_handler(RecursionError, body_too_deep)
    app.register_error_handler(OSError, storage_unavailable)


def problem_response(error: HTTPException) -> Response:
    """The error as problem details."""
    response = error.get_response(request.environ)
    detail = describe_http_error(error)
    more = error.members if isinstance(error, RoleMissing) else {}
    body = encode_problem(error.code or response.status_code, error.name, detail, more)
    answer = Response(body, response.status_code, response.headers)
    answer.content_type = "application/problem+json"
    if error.code == 401:
        answer.headers["WWW-Authenticate"] = "Bearer"
    if error.code == 503:
        answer.headers["Retry-After"] = RETRY_AFTER
    if isinstance(error, RequestedRangeNotSatisfiable) and error.length is not None:
        answer.headers["X-Log-Size"] = str(error.length)
    return answer


def encode_problem(
    status: int, title: str, detail: str, more: Mapping[str, str | None] | None = None
) -> bytes:
    known = {"type": "about:blank", "title": title, "status": status, "detail": detail}
    problem = {**known, **(more or {})}
    return json.dumps(problem, separators=(",", ":")).encode() + b"\n"


def describe_http_error(error: HTTPException) -> str:
    """The error in one sentence. Werkzeug's own messages are meant for people with a browser."""
    if error.description and error.description != type(error).description:
        return str(error.description)
    if isinstance(error, NotFound):
        return describe_unknown_path(request.path)
    if isinstance(error, MethodNotAllowed):
        allowed = ", ".join(sorted(error.valid_methods or ()))
        return f"{request.method[:20]} is not allowed for {request.path[:100]}; allowed: {allowed}"
    if isinstance(error, RequestEntityTooLarge):
        return f"the body can have at most {MAX_BODY_BYTES:,} bytes"
    if isinstance(error, RequestedRangeNotSatisfiable):
        return f"Range must begin before byte {error.length}, the end of the log"
    return ERROR_SENTENCES.get(error.code or 500, error.name)


def describe_unknown_path(path: str) -> str:
    """A sentence that says that the path does not exist, which path was probably meant, and where
    to find all paths."""
    meant, asked = "", path.rstrip("/")
    if len(asked) < MAX_GUESSED_PATH:  # guessing takes time
        parts = asked.split("/")
        filled = {fill_template(template, parts): template for _, template in OPERATIONS}
        close = get_close_matches(asked, filled, n=1, cutoff=0.7)
        meant = f"; did you mean {filled[close[0]]}?" if close else ""
    return f"there is no {path[:100]!r}{meant or ';'} GET /openapi.json describes all paths"


def fill_template(template: str, parts: Sequence[str]) -> str:
    """The template of a path with its {names} replaced by the parts of a real path."""
    filled = [
        part if template_part.startswith("{") else template_part
        for template_part, part in zip_longest(template.split("/"), parts, fillvalue="")
    ]
    return "/".join(filled[: template.count("/") + 1])


def job_not_found(error: JobNotFound) -> Response:
    return problem_response(NotFound(str(error)[:200]))  # it contains the ID from the request


def wrong_state(error: WrongState | NotAFile | FilesElsewhere) -> Response:
    return problem_response(Conflict(str(error)))


def command_changed(error: CommandChanged) -> Response:
    return problem_response(PreconditionFailed(str(error)))


def key_reused(error: KeyReused) -> Response:
    return problem_response(UnprocessableEntity(str(error)))


def body_broken(_: BodyBroken) -> Response:
    message = "the body is incomplete, or its chunks are invalid"
    return problem_response(BadRequest(message))


def body_late(_: BodyLate) -> Response:
    return problem_response(RequestTimeout("the body did not arrive in time"))


def bodies_too_many(_: BodiesTooMany) -> Response:
    return problem_response(
        ServiceUnavailable("too many large request bodies are arriving; try again later")
    )


def body_too_deep(error: RecursionError) -> Response:
    if not has_body():
        raise error
    return problem_response(BadRequest("the body is nested too deeply"))


def storage_unavailable(error: OSError) -> Response:
    if isinstance(error, StoreError):
        state().outages.report(error)
    else:
        current_app.logger.error("storage: %s", error)
    why = error.strerror or "it failed"
    return problem_response(ServiceUnavailable(f"storage unavailable: {why}"))
