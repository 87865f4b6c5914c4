"""The API: jobs and their logs over HTTP.

A route parses, asks the storage once, and answers; errors rise to a handler for their class and
leave as problem details (RFC 9457). It imports nothing of ours but storage.
"""

from __future__ import annotations

import errno
import io
import json
import logging
import os
import re
import secrets
import shutil
import stat
import sys
import time
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import datetime
from getpass import getuser
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import click
from flask import Flask, Response, abort, current_app, g, request
from flask.cli import with_appcontext
from granian import Granian
from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings
from granian.log import LogLevels
from granian.server.common import AbstractServer
from prometheus_client import generate_latest
from werkzeug.exceptions import HTTPException

import storage
from tailboard import workers
from tailboard.errors import JobNotFound, StoreUnreachable, WrongState
from tailboard.files import read_small, replace_file
from tailboard.folder.access import check_private
from tailboard.job import Job
from tailboard.machines.redis_link import is_redis
from tailboard.machines.redis_store import RedisStore
from tailboard.saved_command import check_room, encode_command
from tailboard.settings import Settings, foreign_settings, start_logging
from tailboard.status import Status
from tailboard.values import CONTROL_RE, age_of, parse_time
from tailboard.web import log_search
from tailboard.web.actions import (
    Created,
    known_queue,
    make_command,
    make_job,
    make_run,
    name_of_visitor,
    run_again,
    save_command,
    unless_known,
    with_visitor,
)
from tailboard.web.asgi import ACCESS, FlaskOverAsgi
from tailboard.web.auth import ANY_LOG, METHODS, make_ticket, visitor
from tailboard.web.bulk import BULK_DONE, Chosen, bulk_key, choose
from tailboard.web.log_follow import follow, follow_log, plain_text
from tailboard.web.log_read import begin_at, download, open_log, read_range
from tailboard.web.log_search import GrepPage, search_in_turn, searcher
from tailboard.web.models import (
    UNITS,
    Bulk,
    Grep,
    JobRequest,
    Listing,
    LogQuery,
    PauseRequest,
    RunQuery,
    Submission,
)
from tailboard.web.operations import OPERATIONS, match_operations
from tailboard.web.problems import MAX_BODY_BYTES
from tailboard.web.requests import (
    canonical,
    hash_request,
    idempotency_key,
    json_body,
    parse_json,
    query_parameters,
)
from tailboard.web.server import connection_limit, resolve_bind, share_heaps
from tailboard.web.state import AppState, CannotStart, routes, state
from tailboard.web.tokens import TOKEN_NAME, TOKEN_NAMES, TokenFile, change_token
from tailboard.web.views import (
    job_title,
    pauses_by_queue,
    shown_job,
    some_names,
    whole_command,
    whole_job,
)

GREP_COMMAND_TIME = 0.5  # seconds until `flask grep` prints what it has found
GREP_COMMAND_LINES = 1_000  # and no more lines than this
BULK_TIME = 2.0  # seconds for finding the jobs that many are to be rerun, cancelled or deleted of
BULK_LIMIT = 2_000  # of these jobs in one answer
TOKEN_BYTES = 32


@routes.post("/jobs/<job_id>/ticket")
def ticket(job_id: str) -> tuple[dict[str, Any], int]:
    """A ticket, for a few minutes, for reading this one log."""
    return make_ticket(state().store.get(job_id).id)


@routes.post("/ticket")
def ticket_for_any_log() -> tuple[dict[str, Any], int]:
    """A ticket, for a few minutes, for reading any log and nothing else: a page that shows many
    jobs has it at hand before a visitor chooses one."""
    return make_ticket(ANY_LOG)


@routes.after_app_request
def observe_request(response: Response) -> Response:
    """Count the request for /metrics. Unknown methods and routes are counted as one: clients must
    not make up labels."""
    method = request.method if request.method in METHODS else "other"
    labels = method, str(request.url_rule or "none"), response.status_code
    state().request_seconds.labels(*labels).observe(time.monotonic() - g.begun)
    return response


@routes.post("/jobs")
def create() -> Created:
    """Submit the job that the body describes."""
    key = idempotency_key()
    body = with_visitor(json_body(None), "submitted_by")
    wanted = Submission.parse(body)
    job = Job(**wanted.model_dump())
    return created(state().store.submit(job, key, hash_request(canonical(wanted, body))))


@routes.post("/jobs/<job_id>/rerun")
def rerun(job_id: str) -> Created:
    """Submit a job like another one."""
    key = idempotency_key()
    if key == f"rerun {job_id}":  # documented: what `flask rerun` and the page use for many jobs
        return created(run_again(job_id, bulk_key(job_id)))
    return created(run_again(job_id, key, hash_request(None)))


def created(job: Job) -> Created:
    location = current_app.url_for("tailboard.show", job_id=job.id)
    return whole_job(job), 201, {"Location": location}


@routes.get("/jobs")
def index() -> Response:
    query = Listing.parse(query_parameters())
    store = state().store
    jobs, following = store.list(
        query.status, query.queue, query.q, query.limit, query.before, query.first_id(), short=True
    )
    pauses = pauses_by_queue()
    listed = [shown_job(job, pauses) for job in jobs]
    paused = list(pauses.values())
    answer = {"jobs": listed, "next": following, "counts": store.counts(), "paused": paused}
    return unless_known(answer)


@routes.get("/jobs/<job_id>")
def show(job_id: str) -> dict[str, Any]:
    return whole_job(state().store.get(job_id))


@routes.post("/jobs/<job_id>/cancel")
def cancel(job_id: str) -> tuple[dict[str, Any], int]:
    name = visitor()
    reason = f"cancelled by {name}" if name else "cancelled through the API"
    return whole_job(state().store.cancel(job_id, reason)), 202


@routes.delete("/jobs/<job_id>")
def delete(job_id: str) -> tuple[str, int]:
    state().store.delete(job_id)
    return "", 204


@routes.get("/saved")
def list_saved() -> Response:
    """All saved commands, by name; without `env`, which may be large."""
    listed = [whole_command(command) for command in state().store.saved.list()]
    for row in listed:
        del row["env"]
    return unless_known({"saved": listed})


@routes.get("/saved/<name>")
def show_saved(name: str) -> dict[str, Any]:
    return whole_command(state().store.saved.load(name))


@routes.put("/saved/<name>")
def save(name: str) -> Created:
    """Keep the command that the body describes under this name: 201 where that is new, else 200."""
    body = json_body(None)
    is_new = save_command(name, body)
    location = current_app.url_for("tailboard.show_saved", name=name)
    status = 201 if is_new else 200
    return whole_command(state().store.saved.load(name)), status, {"Location": location}


@routes.delete("/saved/<name>")
def delete_saved(name: str) -> tuple[str, int]:
    state().store.saved.delete(name)
    return "", 204


@routes.post("/saved/<name>/run")
def run_saved(name: str) -> Created:
    """Submit a job of a saved command; the body holds the values of its params."""
    by = name_of_visitor(RunQuery.parse(query_parameters()).submitted_by, "submitted_by")
    values = json_body({})
    job = make_run(name, values, by)
    return created(state().store.submit(job, idempotency_key(), hash_request(values)))


@routes.get("/queues")
def list_queues() -> dict[str, Any]:
    """The queues in which jobs wait, that a worker serves by name, or that are paused."""
    store = state().store
    waiting, pauses = store.queued_by_queue(), pauses_by_queue()
    served = {name for worker in store.workers() for name in worker.queues}
    names = sorted({*waiting, *pauses, *served})
    return {
        "queues": [
            {"queue": name, "queued": len(waiting.get(name, ())), "paused": pauses.get(name)}
            for name in names
        ]
    }


@routes.put("/queues/<queue>/pause")
def pause(queue: str) -> dict[str, Any]:
    """Claim nothing from a queue until it is resumed; what runs goes on."""
    body = json_body({})
    asked = PauseRequest.parse(with_visitor(body, "by"))
    return asdict(state().store.pauses.pause(known_queue(queue), asked.why, asked.by))


@routes.delete("/queues/<queue>/pause")
def resume(queue: str) -> tuple[str, int]:
    state().store.pauses.resume(known_queue(queue))
    return "", 204


@routes.get("/jobs/<job_id>/logs")
def logs(job_id: str) -> Response | dict[str, Any]:
    """A job's log: its end, a part, all of it, what matches, or what comes."""
    query = LogQuery.parse(query_parameters())
    selectors = query.model_fields_set & {"tail", "offset", "since", "q"}
    if len(selectors) > 1:
        abort(400, f"{' and '.join(sorted(selectors))} exclude each other")
    if query.count and query.q is None:
        abort(400, "count goes with q, the text whose matches are counted")
    job = state().store.get(job_id)  # before the log's size: the last lines are not missed
    if query.download and not query.follow:
        return download(job)
    with open_log(job_id) as log:
        if query.follow:
            return follow(job, log, query)
        if query.q is None:
            return read_range(job, log, query)
        return search_in_turn(log, query.q, query)


@routes.get("/logs")
def search_logs() -> dict[str, Any]:
    """The lines of all logs that hold a text, newest jobs first."""
    query = Grep.parse(query_parameters())
    with state().searches.turn(searcher()):
        return GrepPage(query, log_search.SEARCH_TIME).search().as_dict()


@routes.get("/bulk")
def bulk() -> dict[str, Any]:
    """The IDs of the jobs to rerun, cancel or delete one after another; nothing is done to them."""
    query = Bulk.parse(query_parameters())
    chosen = choose(query, BULK_LIMIT, time.monotonic() + BULK_TIME)
    ids = [job.id for job in chosen.jobs]
    return {"ids": ids, "left_out": chosen.left_out, "complete": chosen.complete}


@routes.get("/")
def describe_api() -> dict[str, Any]:
    """What this is, for anyone who opens the address that the API prints."""
    page_port = os.environ.get("STREAMLIT_SERVER_PORT") or "8501"  # as Streamlit reads it
    return {
        "name": "Tailboard",
        "description": "This is the API of Tailboard, for programs; people use the page.",
        "page": next(iter(state().origins), f"http://localhost:{page_port}"),
        "openapi": "/openapi.json",
    }


@routes.get("/workers")
def list_workers() -> dict[str, Any]:
    """The living workers, the machines that share the jobs, the queues that are paused, and what
    cannot be read."""
    store = state().store
    return {
        "workers": list(store.workers()),
        "machines": list(store.machines()),
        "paused": list(store.pauses.list()),
        "storage": store.describe(),
        "unreadable": list(store.unreadable()),
    }


@routes.get("/healthz")
def healthz() -> tuple[dict[str, Any], int]:
    """200, or 503 with a reason: nothing can be written, a worker does not respond, or jobs wait
    that no worker serves, in a queue that is not paused. It needs no token, so it names nothing
    but a few of these queues: what cannot be read is counted, and /workers names it."""
    waiting, alive = state().store.queued_by_queue(), state().store.workers()
    for paused in state().store.pauses.list():  # they wait because somebody wants them to
        waiting.pop(paused.queue, None)
    reason = None
    if unserved := waiting.keys() - {q for w in alive for q in w.queues or waiting}:
        reason = f"jobs wait in {some_names(unserved)}, and no worker serves that"
    if silent := sum(not worker.responds for worker in alive):
        period = f"{workers.UNRESPONSIVE_AFTER:g} s"
        reason = f"workers that have not responded for {period}: {silent} of {len(alive)}"
    reason = state().store.problem() or reason
    try:
        state().store.check_writable()
    except OSError as error:
        reason = f"the storage cannot be written: {error.strerror}"
    age = max((age_of(names[0]) for names in waiting.values()), default=None)
    body = {
        "status": "unhealthy" if reason else "ok",
        "reason": reason,
        "workers": len(alive),
        "oldest_queued_seconds": age,
        "unreadable": len(state().store.unreadable()),
    }
    return body, 503 if reason else 200


@routes.get("/metrics")
def metrics() -> Response:
    return Response(generate_latest(state()), mimetype="text/plain")


# They work on the storage itself, so that no API need run.


class Command(click.Command):
    """A command that prints an error as one sentence and ends with exit code 1."""

    def invoke(self, context: click.Context) -> Any:
        try:
            return super().invoke(context)
        except BrokenPipeError:  # `flask jobs | head`: click knows what to do
            raise
        except (HTTPException, JobNotFound, WrongState, OSError) as error:
            raise click.ClickException(printable(describe_error(error))) from None


def printable(text: str) -> str:
    """The text without control characters. Clients choose the names of jobs, reasons and more: on a
    terminal they could write to its clipboard (OSC 52), or over other lines."""
    return CONTROL_RE.sub("\ufffd", text)


def echo_line(text: str, err: bool = False) -> None:
    """Print a line that is not the content of a log."""
    click.echo(printable(text), err=err)


def describe_error(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename is not None:
        return f"{os.fsdecode(error.filename)}: {error.strerror}"
    return str(getattr(error, "description", error))


routes.cli.command_class = Command


SHOWN_IDS = 5  # of the jobs that an ambiguous ID fits


def find(part: str) -> Job:
    """The job whose ID starts or ends with this."""
    found = state().store.find(part)
    if len(found) == 1:
        return state().store.get(found[0])
    message = f"{len(found) or 'no'} jobs have an ID that starts or ends with {part!r}"
    if found:
        message += f": {', '.join(found[:SHOWN_IDS])}"
    if len(found) > SHOWN_IDS:
        message += f" and {len(found) - SHOWN_IDS} more"
    raise click.ClickException(message)


Option = Callable[[Callable[..., None]], Callable[..., None]]


def job_options(command: Callable[..., None]) -> Callable[..., None]:
    """The options that say how a job runs, whether it is submitted or saved."""
    folder = click.Path(resolve_path=True)
    pause = "Seconds, doubled with each retry."
    options: list[Option] = [
        click.option("--queue"),
        click.option("--cwd", type=folder, help="The folder to run in."),
        click.option("--env", multiple=True, metavar="K=V", help="May be given several times."),
        click.option("--timeout", type=float, help="Seconds."),
        click.option("--retries", type=int),
        click.option("--retry-delay", type=float, metavar="S", help=pause),
    ]
    for option in reversed(options):
        command = option(command)
    return command


@routes.cli.command("submit")
@click.argument("command")
@click.option("--name")
@job_options
@click.option("--not-before", metavar="TIME", help="Like +10m, +2h, or 2026-11-23T18:00:00Z.")
@click.option("--follow", is_flag=True, help="Print the log; exit with the job's exit code.")
def submit_command(command: str, env: tuple[str, ...], follow: bool, **given: Any) -> None:
    """Queue COMMAND, a shell line (-: a script from standard input), and print its ID."""
    given["command"] = read_script() if command == "-" else command
    given["env"] = parse_pairs("--env", env)
    job = state().store.submit(make_job(given | {"submitted_by": getuser()}))
    echo_line(job.id, err=follow)
    if follow:
        follow_to_end(job)


def read_script() -> str:
    """The text on standard input, whatever the locale."""
    content = io.BytesIO(sys.stdin.buffer.read())
    try:
        return io.TextIOWrapper(content, "utf-8").read()
    except UnicodeDecodeError as error:
        message = f"the script must be UTF-8 text, and its byte {error.start} is not"
        raise click.ClickException(message) from None


def follow_to_end(job: Job) -> None:
    """Print a job's log as it is written; exit with its exit code."""
    for data in plain_text(follow_log(job.id, 0, False)):
        click.echo(data, nl=False)
    code = state().store.get(job.id).exit_code
    sys.exit(1 if code is None else code)


@routes.cli.command("jobs")
@click.option("--status", type=click.Choice([str(status) for status in Status]))
@click.option("--limit", type=click.IntRange(1, 500), default=20, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def jobs_command(status: str | None, limit: int, as_json: bool) -> None:
    """List jobs, newest first. On a terminal a line below says why one ended badly, or waits."""
    pauses, columns = pauses_by_queue(), terminal_columns()
    for job in state().store.list(Status(status) if status else None, limit=limit)[0]:
        shown = shown_job(job, pauses)
        lines = [json.dumps(shown)] if as_json else job_lines(job, shown, columns)
        for line in lines:
            echo_line(line)


def terminal_columns() -> int | None:
    """How wide the terminal is that is written to; None where it is none."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def job_lines(job: Job, shown: dict[str, Any], columns: int | None) -> list[str]:
    """A job as text. For programs, which have no columns, it is one line."""
    code = "" if job.exit_code is None else job.exit_code
    line = f"{job.id}  {job.status:9}  {code!s:>3}  {job_title(job)}"
    if columns is None:
        return [line]
    lines = [line]
    if explanation := what_happened(shown):
        lines.append(f"    {explanation}")
    return [cut_to(line, columns) for line in lines]


def what_happened(job: dict[str, Any]) -> str:
    """Why a job ended badly, or waits; nothing where there is nothing to say."""
    explanation = [" ".join(text.split()) for text in (job["reason"], job["hint"]) if text]
    return ": ".join(explanation) or time_to_wait(job)


def time_to_wait(job: dict[str, Any]) -> str:
    """In how long a queued job may start that waits for its time; nothing for any other."""
    if job["status"] != Status.QUEUED or job["not_before"] is None:
        return ""
    left = parse_time(job["not_before"]) - time.time()
    if left <= 0:
        return ""
    unit = next(unit for unit in "dhms" if left >= UNITS[unit] or unit == "s")
    verb = "again" if job["attempt"] > 1 else "starts"
    return f"{verb} in {left / UNITS[unit]:.0f} {'min' if unit == 'm' else unit}"


def cut_to(text: str, columns: int) -> str:
    """The text, so far as it fits into a line of a terminal, where CJK characters are wide."""
    for place, character in enumerate(text):
        columns -= 2 if unicodedata.east_asian_width(character) in "WF" else 1
        if columns < 0:
            return text[: max(0, place - 1)] + "…"
    return text


@routes.cli.command("logs")
@click.argument("job_id", metavar="ID")
@click.option("-f", "--follow", is_flag=True, help="Go on until the job has ended.")
@click.option("--tail", metavar="N", help="The last N lines (default: 1000).")
@click.option("--since", metavar="AGE", help="Like 30s, 5m, or a time.")
def logs_command(job_id: str, follow: bool, **place: str | None) -> None:
    """Print a job's log."""
    if all(place.values()):
        raise click.ClickException("--tail and --since exclude each other")
    job, query = find(job_id), LogQuery.parse(place)
    with open_log(job.id) as log:
        offset = begin_at(log, query, log.size)
    for data in plain_text(follow_log(job.id, offset, False, wait=follow)):
        click.echo(data, nl=False)


def filter_options(command: Callable[..., None]) -> Callable[..., None]:
    """The options by which a command chooses jobs, as GET /jobs has them."""
    status = click.Choice([str(status) for status in Status])
    options: list[Option] = [
        click.option("--status", type=status),
        click.option("--since", metavar="AGE", help="Submitted since: like 30s, 1d, or a time."),
        click.option("--queue"),
    ]
    for option in reversed(options):
        command = option(command)
    return command


@routes.cli.command("grep")
@click.argument("text")
@filter_options
@click.option("--limit", type=click.IntRange(1), metavar="N", help="End after N lines.")
@click.option("--per-job", type=click.IntRange(1), metavar="N", help="At most N lines of a job.")
def grep_command(text: str, limit: int | None, per_job: int | None, **filters: str | None) -> None:
    """Print the lines of all logs that hold TEXT, in ASCII capitals or not, as `ID name: line`, the
    newest job and the newest line first. Exit code 1: there is none."""
    query = Grep.parse(filters | {"q": text})
    count = 0
    try:
        for page in grep_pages(query, limit or sys.maxsize, per_job or sys.maxsize):
            print_hits(page)
            count += len(page.hits)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    sys.exit(0 if count else 1)


def grep_pages(query: Grep, limit: int, per_job: int) -> Iterator[GrepPage]:
    """A search of all logs to its end, or until so many lines are found."""
    while limit > 0:
        now = {"limit": min(limit, GREP_COMMAND_LINES), "per_job": per_job}
        page = GrepPage(query.model_copy(update=now), GREP_COMMAND_TIME, False).search()
        yield page
        if page.next is None:
            return
        limit -= len(page.hits)
        query = query.model_copy(update={"before": page.next})


def print_hits(page: GrepPage) -> None:
    for hit in page.hits:
        line = " ".join(hit["text"].splitlines())  # of a progress bar, say, which has \r
        click.echo(f"{hit['job']['id']} {printable(hit['job']['title'])}: {line}")
    for job_id in page.unreadable:
        echo_line(f"{job_id}: its log cannot be read", err=True)


class Action(NamedTuple):
    """What a command does to a job, or to many."""

    name: str
    one: Callable[[Job], Job | None]
    of_many: Callable[[Job], Job | None]


def add_action(action: Action) -> None:
    name = action.name.capitalize()
    help_text = f"{name} the job of this ID, or all jobs that the options choose."

    @routes.cli.command(action.name, help=help_text)
    @click.argument("job_id", metavar="[ID]", required=False)
    @filter_options
    @click.option("--q", metavar="TEXT", help="In name, command or ID.")
    @click.option("--yes", is_flag=True, help="Do not ask.")
    def act(job_id: str | None, yes: bool, **filters: str | None) -> None:
        is_filtered = any(filters.values())
        if job_id is not None and is_filtered:
            raise click.ClickException("an ID and options that choose jobs exclude each other")
        if job_id is not None:
            job = find(job_id)
            echo_line((action.one(job) or job).id)
        elif is_filtered:
            act_on_many(action, Bulk.parse(filters | {"to": action.name}), yes)
        else:
            raise click.ClickException("give an ID, or options such as --status failed --since 1d")


def cancel_as_user(job: Job) -> Job:
    return state().store.cancel(job.id, f"cancelled by {getuser()}")


def delete_job(job: Job) -> None:
    state().store.delete(job.id)


add_action(Action("cancel", cancel_as_user, cancel_as_user))


add_action(Action("rerun", lambda j: run_again(j.id), lambda j: run_again(j.id, bulk_key(j.id))))


add_action(Action("delete", delete_job, delete_job))


INTERRUPTED = 130  # the exit code after Ctrl-C, as shells say it
SHOWN_JOBS = 10  # of many, before the question
PROGRESS_INTERVAL = 1.0  # seconds


def count_of(jobs: int) -> str:
    return "1 job" if jobs == 1 else f"{jobs} jobs"


def act_on_many(action: Action, query: Bulk, yes: bool) -> None:
    """Say which jobs these are, ask, do it, and say what could not be done."""
    chosen = choose(query, sys.maxsize, float("inf"))
    show_chosen(chosen)
    if not chosen.jobs:
        return
    if not yes and not sys.stdin.isatty():
        raise click.ClickException("nobody can be asked here: --yes does it unasked")
    if not yes and not click.confirm(f"{action.name.capitalize()} them?", err=True):
        return
    Progress(action, chosen.jobs).run()


def show_chosen(chosen: Chosen) -> None:
    echo_line(f"{count_of(len(chosen.jobs))}:" if chosen.jobs else "no jobs", err=True)
    for job in chosen.jobs[:SHOWN_JOBS]:
        echo_line(f"  {job.id}  {job.status:9}  {job_title(job)}", err=True)
    if len(chosen.jobs) > SHOWN_JOBS:
        echo_line(f"  and {len(chosen.jobs) - SHOWN_JOBS} more", err=True)
    if chosen.left_out:
        message = f"left out: {count_of(chosen.left_out)} that ran again since"
        echo_line(message, err=True)


class Progress:
    """An action on many jobs: what was done goes to standard output, an ID a line, all else to
    standard error."""

    def __init__(self, action: Action, jobs: Sequence[Job]) -> None:
        self.action, self.jobs = action, jobs
        self.done = 0
        self.failures: list[str] = []
        self.shown_at = time.monotonic()

    def run(self) -> None:
        """Exit code 1 where something could not be done."""
        try:
            for number, job in enumerate(self.jobs, 1):
                self._act(job)
                self._show_progress(number)
        except KeyboardInterrupt:
            self._sum_up()
            sys.exit(INTERRUPTED)
        except StoreUnreachable as error:  # so it would be for all others
            self.failures.append(f"broken off: {error}")
        self._sum_up()
        sys.exit(1 if self.failures else 0)

    def _act(self, job: Job) -> None:
        try:
            result = self.action.of_many(job) or job
        except StoreUnreachable:
            raise
        except (HTTPException, JobNotFound, WrongState, OSError) as error:
            self.failures.append(f"{job.id}: {describe_error(error)}")
            return
        self.done += 1
        echo_line(result.id)

    def _show_progress(self, number: int) -> None:
        now = time.monotonic()
        if now - self.shown_at > PROGRESS_INTERVAL:
            echo_line(f"{number} of {len(self.jobs)}", err=True)
            self.shown_at = now

    def _sum_up(self) -> None:
        left = len(self.jobs) - self.done
        rest = f", {left} not" if left else ""
        are = "is" if self.done == 1 else "are"
        done = BULK_DONE[self.action.name]
        echo_line(f"{count_of(self.done)} {are} {done}{rest}", err=True)
        for failure in self.failures:
            echo_line(failure, err=True)


# Saved commands. `flask run` is Flask's own, hence `flask start`; `flask pause` and `resume` are
# left to queues, hence `flask saved pause`.


@routes.cli.command("save")
@click.argument("name")
@click.argument("command", required=False)
@click.option(
    "--from", "job_id", metavar="ID", help="Save what this job ran, where COMMAND is none."
)
@click.option("--name", "label", help="Of its jobs (default: NAME).")
@job_options
@click.option("--param", multiple=True, metavar="P[=DEFAULT]", help="May be given several times.")
@click.option("--cron", help="Like '0 3 * * *', or @daily.")
@click.option("--zone", help="Of its times, like Europe/Berlin (default: UTC).")
def save_command_line(
    name: str,
    command: str | None,
    job_id: str | None,
    label: str | None,
    env: tuple[str, ...],
    param: tuple[str, ...],
    **given: Any,
) -> None:
    """Keep COMMAND, a shell line (-: a script from standard input), under NAME, in place of what
    it was. A variable of a job's env that becomes a param gives its default."""
    if (command is None) == (job_id is None):
        raise click.ClickException("give either a COMMAND or --from ID")
    said: dict[str, Any] = {"command": read_script() if command == "-" else command, "env": {}}
    if job_id is not None:
        job = find(job_id)
        said = {field: getattr(job, field) for field in JobRequest.model_fields}
    said |= {field: value for field, value in given.items() if value is not None}
    said["name"] = label or said.get("name")
    said["env"] = said["env"] | parse_pairs("--env", env)
    said["params"] = [parse_param(text, said["env"]) for text in param]
    is_new = save_command(name, said)
    echo_line(f"{'saved' if is_new else 'replaced'} {name}")


def parse_pairs(option: str, pairs: tuple[str, ...]) -> dict[str, str]:
    if bad := [pair for pair in pairs if "=" not in pair]:
        raise click.ClickException(f"{option} must be NAME=VALUE, not {bad[0][:80]!r}")
    values: dict[str, str] = {}
    for name, _, value in (pair.partition("=") for pair in pairs):
        if name in values:
            raise click.ClickException(f"{name[:80]!r} is given twice")
        values[name] = value
    return values


def parse_param(text: str, env: dict[str, str]) -> dict[str, str | None]:
    """`P=DEFAULT`, or `P`, whose default is the value that env has for it: it leaves env."""
    name, has_default, default = text.partition("=")
    known = env.pop(name, None)
    return {"name": name, "default": default if has_default else known}


@routes.cli.command("start")
@click.argument("name")
@click.argument("values", nargs=-1, metavar="[P=VALUE]...")
@click.option("--follow", is_flag=True, help="Print the log; exit with the job's exit code.")
def start_command(name: str, values: tuple[str, ...], follow: bool) -> None:
    """Run the saved command NAME with these values, and print the job's ID."""
    job = state().store.submit(make_run(name, parse_pairs("a value", values), getuser()))
    echo_line(job.id, err=follow)
    if follow:
        follow_to_end(job)


@routes.cli.group("saved", invoke_without_command=True)
@click.pass_context
@with_appcontext
def saved_commands(context: click.Context) -> None:
    """List saved commands; keep them, or their times, by the commands below."""
    if context.invoked_subcommand is not None:
        return
    for command in state().store.saved.list():
        echo_line(describe_command(whole_command(command)))


saved_commands.command_class = Command


def describe_command(shown: dict[str, Any]) -> str:
    """A saved command in one line: name, times, last run, what it runs."""
    times = "no times" if shown["cron"] is None else f"{shown['cron']} {shown['zone']}"
    if shown["paused"]:
        times += ", paused"
    elif shown["next_run"] is not None:
        times += f", next {time_in_zone(shown['next_run'], shown['zone'])}"
    last = shown["last_run"]
    ran = "never ran"
    if last is not None:
        ran = f"{last['status']} {time_in_zone(last['submitted_at'], shown['zone'])}"
    if shown["skipped"]["count"]:
        ran += f", {shown['skipped']['count']} skipped"
    params = " ".join(param["name"] for param in shown["params"])
    line = " ".join(str(shown["command"]).split())[:60]
    return "  ".join(
        part for part in (shown["saved"], f"({times})", f"({ran})", params, line) if part
    )


def time_in_zone(text: str, zone: str) -> str:
    """A time in UTC, as it is on the wire, to the minute in a zone, which is named."""
    if zone == "UTC":
        return f"{text[:16]}Z"
    return f"{datetime.fromisoformat(text).astimezone(ZoneInfo(zone)):%Y-%m-%d %H:%M} {zone}"


@saved_commands.command("delete")
@click.argument("name")
def delete_saved_command(name: str) -> None:
    """Forget a saved command; its jobs stay."""
    state().store.saved.delete(name)
    echo_line(name)


def switch_times(word: str, paused: bool, text: str) -> None:
    @saved_commands.command(word, help=text)
    @click.argument("name")
    def switch(name: str) -> None:
        command = state().store.saved.load(name)
        state().store.saved.save(replace(command, paused=paused))
        echo_line(name)


switch_times("pause", True, "Let a saved command's times pass; it can still be started.")


switch_times("resume", False, "Let its times count again, from now on.")


@saved_commands.command("export")
@click.argument("folder", type=click.Path(file_okay=False))
def export_command(folder: str) -> None:
    """Write each saved command into FOLDER/NAME.json, for git to keep. Only you can read the files:
    `env` may contain secrets."""
    os.makedirs(folder, exist_ok=True)
    commands = {
        os.path.join(folder, f"{command.saved}.json"): command
        for command in state().store.saved.list()
    }
    for path in commands:
        if os.path.lexists(path) and not stat.S_ISREG(os.lstat(path).st_mode):
            raise click.ClickException(f"{path} is not a regular file: remove it first")
    for path, command in commands.items():
        replace_file(path, encode_command(command), private=True)
        echo_line(path)


@saved_commands.command("import")
@click.argument("folder", type=click.Path(exists=True, file_okay=False))
def import_command(folder: str) -> None:
    """Save each FOLDER/NAME.json, as `export` writes them: all, or none where one is bad."""
    store = state().store
    names = sorted(name for name in os.listdir(folder) if re.fullmatch(r"[^.].*\.json", name))
    commands = [read_exported(os.path.join(folder, name)) for name in names]
    before = store.saved.list()
    sizes = {each.saved: len(encode_command(each)) for each in before}
    for name, definition in commands:
        sizes[name] = check_import(name, definition, sizes)
    known = {each.saved: each.definition() for each in before}
    for name, definition in commands:
        if known.get(name) == definition:
            echo_line(f"unchanged {name}")
            continue
        is_new = save_command(name, definition)
        echo_line(f"{'saved' if is_new else 'replaced'} {name}")


def check_import(name: str, definition: dict[str, Any], sizes: Mapping[str, int]) -> int:
    """The bytes of a definition; an error if there is no room for it beside those of `sizes`."""
    size = len(encode_command(make_command(name, definition)))
    try:
        check_room(name, size, sizes)
    except (ValueError, WrongState) as error:
        raise click.ClickException(f"{name}: {error}") from None
    return size


def read_exported(path: str) -> tuple[str, dict[str, Any]]:
    """The name and the definition in a file; an error names the file."""
    name = os.path.basename(path).removesuffix(".json")
    try:
        return name, make_command(name, parse_json(read_small(path))).definition()
    except OSError as error:
        why = "it is a symbolic link" if error.errno == errno.ELOOP else error.strerror
        raise click.ClickException(f"{path} cannot be read: {why}") from None
    except (ValueError, RecursionError) as error:
        raise click.ClickException(f"{path}: {error}") from None
    except HTTPException as error:
        raise click.ClickException(f"{path}: {error.description}") from None


@routes.cli.command("workers")
def workers_command() -> None:
    """List the living workers."""
    alive = state().store.workers()
    if not alive:
        echo_line("no worker is running: `python worker.py` starts one", err=True)
    for info in alive:
        queues = ", ".join(info.queues) or "all queues"
        silent = "" if info.responds else f"  does not respond, last seen at {info.seen_at}"
        echo_line(f"{info.name}  {info.running} of {info.slots} slots busy  {queues}{silent}")
    for pause in state().store.pauses.list():
        echo_line(f"queue {pause.queue} is paused since {pause.since}{pause.words}")
    for machine in state().store.machines():
        heard = f"heard of at {machine.heard_at}"
        echo_line(f"machine {machine.spool}  {machine.running} running  {machine.state}, {heard}")


@routes.cli.command("pause")
@click.argument("queue")
@click.option("--why", metavar="TEXT", help="Shown to who waits for it.")
def pause_command(queue: str, why: str | None) -> None:
    """Claim nothing from QUEUE until it is resumed; what runs goes on."""
    request = PauseRequest.parse({"why": why, "by": getuser()})
    state().store.pauses.pause(known_queue(queue), request.why, request.by)


@routes.cli.command("resume")
@click.argument("queue")
def resume_command(queue: str) -> None:
    """End the pause of QUEUE."""
    state().store.pauses.resume(known_queue(queue))


@routes.cli.command("access")
def access_command() -> None:
    """List the routes of the API: method, path, and what a request must present. Without
    TAILBOARD_TOKEN and TAILBOARD_TOKENS the API asks for neither token nor ticket; it then serves
    only programs of its own machine."""
    width = max(len(path) for _, path in OPERATIONS)
    for (method, path), operation in OPERATIONS.items():
        echo_line(f"{method.upper():6}  {path:{width}}  {operation.access}")


@routes.cli.command("token")
@click.argument("name")
@click.option("--replace", is_flag=True, help="NAME's token until now is good no more.")
@click.option("--revoke", is_flag=True, help="NAME's token is good no more; no other is made.")
def token_command(name: str, replace: bool, revoke: bool) -> None:
    """Make a token for NAME, in the file that TAILBOARD_TOKENS names, and print it this once."""
    tokens = state().tokens
    if not tokens.path:
        raise click.ClickException("TAILBOARD_TOKENS must name the file of the tokens")
    if not TOKEN_NAME.fullmatch(name):
        raise click.ClickException(f"NAME must be {TOKEN_NAMES}")
    if replace and revoke:
        raise click.ClickException("--replace and --revoke exclude each other")
    token = None if revoke else secrets.token_urlsafe(TOKEN_BYTES)
    try:
        change_token(tokens, name, token, replace or revoke)
    except OSError as error:
        message = f"TAILBOARD_TOKENS: {tokens.path} cannot be used: {error.strerror}"
        raise click.ClickException(message) from None
    except ValueError as error:
        raise click.ClickException(str(error)) from None
    if token is None:
        echo_line(f"{name}'s token is good no more", err=True)
        return
    echo_line(token)
    echo_line(f"{tokens.path} holds its SHA-256 only: it is shown this once", err=True)


@routes.cli.command("mark-lost")
@click.argument("spool")
def mark_lost_command(spool: str) -> None:
    """Give up a machine, by the name of its SPOOL that `workers` shows: its running jobs are lost,
    or queued again if they have retries left, or cancelled if a cancel was accepted. Prints the IDs
    of those that have ended."""
    store = state().store
    if not isinstance(store, RedisStore):
        raise click.ClickException("only machines that share their jobs by Redis can be given up")
    try:
        for job in store.mark_lost(spool, f"its machine {spool} was given up by {getuser()}"):
            echo_line(job.id)
    except ValueError as error:
        raise click.ClickException(str(error)) from None


def create_app(config: Mapping[str, Any] | None = None) -> Flask:
    """The application. `config` contains settings that override those of the environment: STORAGE,
    TOKEN …, named as in the README without TAILBOARD_. CannotStart if one is unknown or bad, or if
    a route declares no access."""
    given = {f"TAILBOARD_{name}": str(value) for name, value in (config or {}).items()}
    env = {**os.environ, **given}
    app = Flask(__name__, static_folder=None)  # static/ is the page's, which serves it itself
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY_BYTES
    app.json.sort_keys = False  # type: ignore[attr-defined]
    app.register_blueprint(routes)
    access = match_operations(app)
    try:
        app.extensions["tailboard"] = AppState(Settings.read(env), access)
    except (OSError, ValueError) as error:
        raise CannotStart(str(error)) from None
    for name in foreign_settings(env):
        app.logger.warning("ignored variable=%s reason=%r", name, "it is no setting of Tailboard")
    return app


HEADER_TIME = 10  # seconds for the whole head of a request, and until an idle connection is closed
STOP_TIME = 2  # seconds for requests to end once the server stops; followers come back
MAX_HEAD_BYTES = 64 << 10


def serve_app() -> FlaskOverAsgi:
    """What the server's second process serves."""
    share_heaps()
    start_logging(sys.stdout)
    ACCESS.setLevel(logging.INFO)
    try:
        return FlaskOverAsgi(create_app())
    except CannotStart as error:
        sys.exit(f"api: {error.message}")


def make_server() -> AbstractServer[Any]:
    """The server as the settings want it; OSError and ValueError say what is wrong with them."""
    settings = Settings.read()
    host, port = resolve_bind(settings.bind)
    if not is_redis(settings.storage):
        check_private("TAILBOARD_STORAGE", settings.storage)
    storage.open_store(settings.storage)
    if settings.tokens:
        TokenFile(settings.tokens).check()
    connections = connection_limit(settings)
    return Granian(
        "api",  # its name; serve_app gives what it serves
        address=host,
        port=port,
        interface=Interfaces.ASGI,
        http=HTTPModes.http1,
        http1_settings=HTTP1Settings(HEADER_TIME * 1000, max_buffer_size=MAX_HEAD_BYTES),
        websockets=False,
        backpressure=connections,
        workers_kill_timeout=STOP_TIME,
        log_level=LogLevels.error,
    )


def main() -> None:
    """`python api.py`"""
    try:
        server = make_server()
    except (OSError, ValueError) as error:
        sys.exit(f"api: {error}")
    server.serve(target_loader=serve_app, wrap_loader=False)


if __name__ == "__main__":
    main()
