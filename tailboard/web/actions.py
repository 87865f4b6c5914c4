"""What routes do with jobs and saved commands: make them from bodies, save and check them.
Errors are HTTP errors with a one-sentence message."""

from __future__ import annotations

from typing import Any

from flask import Response, abort, current_app, request

from tailboard.chains import check_then
from tailboard.errors import check_seen
from tailboard.folder.secret_params import NO_SHARED_KEY
from tailboard.job import Job
from tailboard.saved_command import Param, SavedCommand, check_room, encode_command
from tailboard.values import check_queue
from tailboard.web.audit import note_saved
from tailboard.web.auth import visitor
from tailboard.web.models import MAX_ENV_BYTES, SavedRequest, Submission, bounded_env
from tailboard.web.proxy_user import proxy_user
from tailboard.web.rules import complete_ping, complete_rules, find_command
from tailboard.web.state import state

# Fields that only responses have. A PUT ignores them, so that the body of a GET can be sent back.
READ_ONLY_FIELDS = ("saved", "saved_at", "next_run", "last_run", "runs", "skipped")


def make_job(body: object) -> Job:
    return Job(**Submission.parse(with_visitor(body, "submitted_by")).model_dump())


def with_visitor(body: object, field: str) -> object:
    """The body with the visitor's name in this field. If the visitor has none, the body as it is.
    400 if the client gives another name."""
    if visitor() is None or not isinstance(body, dict):
        return body
    return body | {field: name_of_visitor(body.get(field), field)}


def name_of_visitor(claimed: Any, field: str) -> Any:
    """The visitor's name; if the visitor has none, the name that the client claims. 400 if the two
    differ."""
    name = visitor()
    if name is not None and claimed not in (None, name):
        owner = "the owner of this token" if proxy_user() is None else "as the proxy says"
        abort(400, f"{field} must be {name!r}, {owner}, or left out")
    return name or claimed


def with_etag(answer: dict[str, Any]) -> Response:
    """The response as JSON with an ETag; 304 if the client already has it."""
    response = current_app.make_response(answer)
    response.add_etag()
    response.make_conditional(request)
    return response


def save_command(name: str, body: object, seen: str | None = None, like: str | None = None) -> bool:
    """Save the command that the body describes. Returns True if the name is new. 400 if the command
    could not run. `seen`: see `SavedCommands.save`; `like`: see `rules.complete_rules`."""
    before = find_command(name)
    try:
        command = make_command(name, body, like)
        is_new = state().store.saved.save(command, seen)
    except ValueError as error:
        abort(400, str(error))
    note_saved(before, command)
    return is_new


def check_command(
    name: str, body: object, seen: str | None = None, like: str | None = None
) -> SavedCommand:
    """The command that `save_command` would save; it raises the same errors, and saves nothing."""
    try:
        command = make_command(name, body, like)
        known = {each.saved: each for each in state().store.saved.list()}
        check_seen(name, seen, known[name].digest() if name in known else "")
        sizes = {each.saved: len(encode_command(each)) for each in known.values()}
        check_room(name, len(encode_command(command)), sizes)
        check_then(command, state().store.saved.load)
    except ValueError as error:
        abort(400, str(error))
    return command


def make_command(name: str, body: object, like: str | None) -> SavedCommand:
    """The saved command that a body describes. A URL whose end is hidden is that of the stored
    command, or of the job `like`. ValueError or 400 if the command could not run."""
    if isinstance(body, dict):
        body = {field: value for field, value in body.items() if field not in READ_ONLY_FIELDS}
    fields = SavedRequest.parse(body).model_dump()
    fields["params"] = [Param(**param) for param in fields["params"]]
    command = SavedCommand(**fields, saved=name)
    command.check()
    if command.secret_names() and not state().store.seals_params:
        raise ValueError(f"params: {NO_SHARED_KEY}")
    if command.notify or command.ping:
        stored = find_command(name)
        rules, ping = (stored.notify, stored.ping) if stored else (None, None)
        command.notify = complete_rules(command.notify, rules, like)
        command.ping = complete_ping(command.ping, ping)
    return command


def make_run(name: str, values: object, by: str | None) -> Job:
    """A job of a saved command with these values, for the submitter `by`. 400 if a value is missing
    or bad."""
    command = state().store.saved.load(name)
    if not isinstance(values, dict):
        abort(400, "the body must be a JSON object with values of the params")
    try:
        job = command.job(values)
    except ValueError as error:
        abort(400, str(error))
    try:
        bounded_env(job.env | job.secret_values)
    except ValueError as error:
        allowed = f"the values and env must be at most {MAX_ENV_BYTES >> 10} KiB in total"
        abort(400, f"{allowed}; {error}")
    job.submitted_by = by
    return job


def public_values(job: Job, values: Any) -> dict[str, Any]:
    """The values of a run without those of secret params. Only these identify a repeated request:
    a stored hash of a short secret could be guessed."""
    return {name: value for name, value in values.items() if name not in job.secret_params}


def valid_queue(name: str) -> str:
    """The name of a queue; 400 if no queue can have it."""
    try:
        check_queue(name)
    except ValueError as error:
        abort(400, str(error))
    return name
