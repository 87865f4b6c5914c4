"""The lines of the audit log: each successful request that changes something writes one.

An operation declares its action in OPERATIONS. The path names the subject; routes add with `note`
what the path does not say. `write_line` runs after each request. A route that can still fail after
it has done the action calls `note_done` in between."""

from __future__ import annotations

import logging
import socket
from typing import Any

from flask import Flask, Response, abort, g, request

from tailboard.audit import Action, Actor, AuditFilter, Entry, encode_entry, new_entry
from tailboard.saved_command import DEFINITION, SavedCommand
from tailboard.values import utc
from tailboard.web.auth import PAGE_AGENT, command_user, visitor
from tailboard.web.me import Credential, credential
from tailboard.web.models import AuditQuery, Bulk
from tailboard.web.operations import OPERATIONS
from tailboard.web.route_match import operation_key
from tailboard.web.state import state

BULK_HEADER = "Tailboard-Bulk"  # names the bulk action to which a request belongs
SUBJECT_OF = {"job_id": "job", "name": "saved", "queue": "queue", "target": "target"}
IN_BULK = (Action.RERUN, Action.CANCEL, Action.DELETE)
MAX_FORWARDED = 100  # characters of X-Forwarded-For

log = logging.getLogger("tailboard")


def keep_audit_log(app: Flask) -> None:
    """Make the application write the audit log."""
    app.after_request(write_line)


# --- What routes say ------------------------------------------------------------------------------


def note(**subject: Any) -> None:
    """Add to the line of this request, or replace what the path says. Without secrets."""
    noted().update(subject)


def note_done(**subject: Any) -> None:
    """The action is done, so this request gets a line even if its response is an error, for example
    because the job cannot be read again."""
    g.action_done = True
    note(**subject)


def note_nothing() -> None:
    """This request has changed nothing, so it gets no line."""
    note(action=Action.NOTHING)


def noted() -> Entry:
    if "audited" not in g:
        g.audited = {}
    found: Entry = g.audited
    return found


def note_new_job(job_id: str) -> None:
    """A rerun's line is about the new job, as that of any other new job is."""
    view = request.view_args or {}
    note_done(job=job_id, **({"rerun_of": view["job_id"]} if "job_id" in view else {}))


def note_dependents(job_id: str, count: int) -> None:
    """With the job `job_id`, this rerun has submitted so many jobs that wait for it. If the request
    is repeated, they can be all that it has submitted."""
    if count:
        note_new_job(job_id)
        note(action=Action.RERUN, dependents=count)


def note_saved(before: SavedCommand | None, after: SavedCommand) -> None:
    """The command is saved. Which of its fields have changed; none for a new one."""
    note_done()
    if before is None:
        return
    old, new = before.definition(), after.definition()
    fields = [name for name in DEFINITION if old[name] != new[name]]
    if fields == ["paused"]:
        note(action=Action.PAUSE if after.paused else Action.RESUME)
    else:
        note(fields=fields)


# --- The line -------------------------------------------------------------------------------------


def actor() -> Actor:
    """Who sends this request."""
    if command_user() is not None:
        return command_actor(visitor())
    forwarded = request.headers.get("X-Forwarded-For")
    return Actor(
        visitor(),
        str(credential()),
        request.remote_addr,
        None if forwarded is None else forwarded[:MAX_FORWARDED],
        "page" if request.user_agent.string == PAGE_AGENT else None,
    )


def command_actor(user: str | None) -> Actor:
    """A user who runs a command on the storage. It has no address, so the line has the name of the
    machine."""
    return Actor(user, Credential.COMMAND, socket.gethostname())


def write_line(response: Response) -> Response:
    """Append the line of this request, if it has changed something."""
    has_failed = response.status_code >= 300 and not g.get("action_done", False)
    if request.url_rule is None or has_failed:
        return response
    operation = OPERATIONS.get(operation_key(request.method, request.url_rule))
    if operation is None or not operation.audit:
        return response
    subject = {SUBJECT_OF[name]: value for name, value in (request.view_args or {}).items()}
    subject |= noted()
    action = Action(subject.pop("action", operation.audit))
    if action is Action.NOTHING:
        return response
    append(action, actor(), subject)
    return response


def append(action: Action, who: Actor, subject: Entry) -> None:
    """Append a line, if the action is not part of a bulk action that has one. The jobs that are
    rerun with another one belong to no bulk action, so this has a line."""
    bulk = request.headers.get(BULK_HEADER)
    if bulk is not None and action in IN_BULK and "dependents" not in subject:
        job_id = str(subject.get("rerun_of") or subject.get("job"))
        part = state().bulks.subject_of(bulk, action, who, job_id)
        if part is not None and not part:
            return
        subject = subject if part is None else part
    store_line(new_entry(action, who, subject))


def store_line(entry: Entry) -> None:
    """Append a line. If that fails, the action was done nevertheless, and the program's log has the
    line instead."""
    try:
        state().store.audit.append(entry)
    except Exception as error:
        line = encode_entry(entry).decode()
        log.error("audit: a line is missing in the audit log reason=%r line=%s", why(error), line)


def why(error: Exception) -> str:
    """The error, with the path of the file that it concerns."""
    if isinstance(error, OSError) and isinstance(error.filename, str):
        return f"{error.filename}: {error.strerror}"
    return str(getattr(error, "strerror", None) or error)


# --- Bulk actions ---------------------------------------------------------------------------------


def remember_bulk(query: Bulk, ids: list[str]) -> str | None:
    """The name of the bulk action for which these jobs were chosen; see BulkMemory."""
    filters: Entry = {"status": query.status, "queue": query.queue, "by": query.by, "q": query.q}
    filters["since"] = None if query.since is None else utc(query.since)
    known = {name: str(value) for name, value in filters.items() if value}
    return state().bulks.remember(Action(query.to), actor(), known, ids)


# --- Reading --------------------------------------------------------------------------------------


def read_audit(query: AuditQuery) -> dict[str, Any]:
    """A page of the audit log, newest line first. 400 if `before` belongs to another storage."""
    wanted = AuditFilter(query.since, query.by, query.job)
    try:
        page = state().store.audit.read(wanted, query.limit, query.before)
    except ValueError as error:
        abort(400, str(error))
    return {"entries": page.entries, "next": page.next, "damaged": page.damaged}
