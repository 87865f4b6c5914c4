"""The API: the routes over HTTP, and the application and the server that serve them.

A route parses the request, calls the storage, and returns the response. Exceptions propagate, and
the handlers of tailboard/web/problems.py turn each into problem details (RFC 9457). OPERATIONS in
tailboard/web/operations.py declares who can call which route."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import click
from flask import Blueprint, Flask, Response, abort, current_app, g, request
from prometheus_client import generate_latest

import storage
from tailboard import __version__
from tailboard.cli.all import COMMANDS
from tailboard.env_file import load_env_file
from tailboard.folder.access import check_private
from tailboard.job import Job
from tailboard.program_log import start_logging
from tailboard.settings import Settings, is_redis, warn_of_foreign_settings
from tailboard.status import FINISHED
from tailboard.web import log_search
from tailboard.web.actions import (
    check_command,
    make_run,
    name_of_visitor,
    public_values,
    save_command,
    valid_queue,
    with_etag,
    with_visitor,
)
from tailboard.web.asgi import ACCESS, FlaskOverAsgi
from tailboard.web.audit import keep_audit_log, note_done, note_nothing, read_audit
from tailboard.web.auth import cancel_reason, guard, require_role_for
from tailboard.web.bodies import MAX_BODY_BYTES
from tailboard.web.bulk import bulk_key, check_status, choose, choose_all
from tailboard.web.compare import compare_in_turn
from tailboard.web.explain import explain_in_turn
from tailboard.web.file_archive import send_zip
from tailboard.web.files import list_job_files, raw_path, send_file
from tailboard.web.grep import GrepPage
from tailboard.web.health import check_health
from tailboard.web.history import list_failures, list_names
from tailboard.web.job_wait import wait_for_job
from tailboard.web.listing import find_jobs, list_jobs
from tailboard.web.log_follow import follow
from tailboard.web.log_read import download, open_log, place_line, read_range
from tailboard.web.log_search import check_search, search_in_turn, searcher
from tailboard.web.me import describe_visitor
from tailboard.web.models import (
    Attention,
    AuditQuery,
    Bulk,
    DiffQuery,
    ExplainQuery,
    FileQuery,
    FilesQuery,
    Grep,
    JobQuery,
    Listing,
    LogQuery,
    NoticeQuery,
    NotificationTest,
    PauseRequest,
    QueueRequest,
    RerunRequest,
    RunQuery,
    SavedListing,
    SaveQuery,
    Submission,
    SubmitQuery,
    TargetRequest,
    UsageQuery,
)
from tailboard.web.notifications import (
    list_targets,
    name_target,
    recent_notices,
    remove_target,
    send_test,
)
from tailboard.web.openapi import describe_operations
from tailboard.web.problems import add_error_handlers
from tailboard.web.prune import list_prunable
from tailboard.web.queues import Queues
from tailboard.web.requests import (
    canonical,
    hash_request,
    idempotency_key,
    json_body,
    query_parameters,
    seen_etag,
)
from tailboard.web.reruns import run_again, run_again_with_after
from tailboard.web.route_match import AnyPath
from tailboard.web.rules import complete_rules
from tailboard.web.server import connection_limit, make_server, resolve_bind, share_heaps
from tailboard.web.sign_in import end_session, start_session
from tailboard.web.state import AppState, state
from tailboard.web.submissions import Created, submit
from tailboard.web.tickets import ANY_LOG, make_ticket
from tailboard.web.tokens import TokenFile
from tailboard.web.usage_samples import list_samples
from tailboard.web.users import UserFile
from tailboard.web.views import (
    ShownCommand,
    job_with_log,
    shown_command,
    whole_commands,
    whole_job,
)

BULK_TIME = 2.0  # seconds for finding the jobs of one response of GET /bulk without `all`
BULK_LIMIT = 2_000  # jobs in such a response
routes = Blueprint("tailboard", __name__)


# --- Jobs -----------------------------------------------------------------------------------------


@routes.post("/jobs")
def create() -> Created:
    """Submit the job that the body describes."""
    key = idempotency_key()
    query = SubmitQuery.parse(query_parameters())
    body = with_visitor(json_body(None), "submitted_by")
    wanted = Submission.parse(body)
    job = Job(**wanted.model_dump())
    job.notify = complete_rules(job.notify, None, query.like)
    return submit(job, key, hash_request(canonical(wanted, body)))


@routes.get("/jobs")
def index() -> Response:
    """A page of the list of jobs, newest first; with `id`, of those whose ID starts or ends so."""
    query = Listing.parse(query_parameters())
    found = list_jobs(query) if query.id is None else find_jobs(query.id, query)
    return with_etag(found)


@routes.get("/jobs/<job_id>")
def show(job_id: str) -> Response | dict[str, Any]:
    """One job, with its attempts; with `wait`, as soon as it has ended."""
    query = JobQuery.parse(query_parameters())
    job = state().store.get(job_id)
    if query.wait == 0 or job.status in FINISHED:
        return job_with_log(job)
    return wait_for_job(job, query.wait)


@routes.post("/jobs/<job_id>/cancel")
def cancel(job_id: str) -> tuple[dict[str, Any], int]:
    """Request that the job be cancelled."""
    require_role_for(state().store.get(job_id))
    job = state().store.cancel(job_id, cancel_reason())
    note_done()
    return whole_job(job), 202


@routes.post("/jobs/<job_id>/rerun")
def rerun(job_id: str) -> Created:
    """Submit a job like this one; with `with_after`, also the jobs that were cancelled because of
    it."""
    key = idempotency_key()
    wanted = RerunRequest.parse(json_body({}))
    sent: str | None = hash_request({"with_after": True} if wanted.with_after else None)
    if key == f"rerun {job_id}":  # documented: `tailboard rerun` and the page send it for many jobs
        key, sent = bulk_key(job_id), None
    again = run_again_with_after if wanted.with_after else run_again
    return again(job_id, key, sent)


@routes.post("/jobs/<job_id>/urgent")
def make_urgent(job_id: str) -> dict[str, Any]:
    """Let a queued job start before all jobs that are not urgent."""
    job = state().store.set_urgent(job_id, True)
    note_done()
    return whole_job(job)


@routes.delete("/jobs/<job_id>/urgent")
def make_ordinary(job_id: str) -> dict[str, Any]:
    """Let an urgent job start in its turn."""
    job = state().store.set_urgent(job_id, False)
    note_done()
    return whole_job(job)


@routes.delete("/jobs/<job_id>")
def delete(job_id: str) -> tuple[str, int]:
    """Delete a job that has ended."""
    state().store.delete(job_id)
    return "", 204


@routes.get("/bulk")
def bulk() -> Response | dict[str, Any]:
    """The IDs of the jobs to rerun, cancel or delete. This does not change them: the client then
    sends one request per job."""
    query = Bulk.parse(query_parameters())
    check_status(query)
    if query.all:
        return choose_all(query)
    return choose(query, BULK_LIMIT, time.monotonic() + BULK_TIME).as_answer(query)


@routes.get("/prune")
def prune() -> dict[str, Any]:
    """The ended jobs that would be deleted now, and why."""
    return list_prunable()


@routes.get("/names")
def names() -> Response:
    """The last runs of each job name or saved command."""
    return with_etag(list_names(state().history))


@routes.get("/attention")
def attention() -> Response:
    """The jobs that failed, timed out or were lost after a time, folded by name."""
    since = Attention.parse(query_parameters()).since
    return with_etag(list_failures(state().history, since))


# --- Logs -----------------------------------------------------------------------------------------


@routes.get("/jobs/<job_id>/logs")
def logs(job_id: str) -> Response | dict[str, Any]:
    """A job's log: its end, a part of it, all of it, the lines that match, or new output as the job
    writes it."""
    query = LogQuery.parse(query_parameters())
    selectors = query.model_fields_set & {"tail", "offset", "line", "since", "q"}
    if len(selectors) > 1:
        abort(400, f"use only one of {' and '.join(sorted(selectors))}")
    check_search(query)
    job = state().store.get(job_id)  # before the size of the log, so that no last line is missed
    if query.download and not query.follow:
        return download(job)
    with open_log(job_id) as log:
        query = place_line(job, log, query)
        if query.follow:
            return follow(job, log, query)
        if query.q is None:
            return read_range(job, log, query)
        return search_in_turn(log, query.q, query)


@routes.get("/jobs/<job_id>/explain")
def explain(job_id: str) -> Response:
    """What a job's log says, compared with the logs of its earlier runs."""
    query = ExplainQuery.parse(query_parameters())
    job = state().store.get(job_id)
    with open_log(job_id) as log:
        return with_etag(explain_in_turn(job, log, query))


@routes.get("/jobs/<job_id>/diff")
def diff(job_id: str) -> Response:
    """A job's log, compared with that of another job."""
    query = DiffQuery.parse(query_parameters())
    return with_etag(compare_in_turn(state().store.get(job_id), query))


@routes.get("/jobs/<job_id>/usage")
def usage(job_id: str) -> Response:
    """What a job used over time."""
    query = UsageQuery.parse(query_parameters())
    return with_etag(list_samples(state().store.usage(job_id), query.limit))


@routes.get("/logs")
def search_logs() -> dict[str, Any]:
    """The lines of all logs that contain a text, newest jobs first."""
    query = Grep.parse(query_parameters())
    with state().searches.turn(searcher()):
        return GrepPage(query, log_search.SEARCH_TIME).search().as_dict()


@routes.post("/jobs/<job_id>/ticket")
def ticket(job_id: str) -> tuple[dict[str, Any], int]:
    """A ticket with which a browser can read the log of this job for a few minutes."""
    return make_ticket(state().store.get(job_id).id)


@routes.post("/ticket")
def ticket_for_any_log() -> tuple[dict[str, Any], int]:
    """A ticket with which a browser can read any log for a few minutes, and nothing else. A page
    that lists many jobs gets one before a visitor chooses a job."""
    return make_ticket(ANY_LOG)


# --- Files ----------------------------------------------------------------------------------------


@routes.get("/jobs/<job_id>/files")
def list_files(job_id: str) -> Response:
    """The files of a job."""
    FilesQuery.parse(query_parameters())
    return with_etag(list_job_files(job_id))


@routes.get("/jobs/<job_id>/files/<anything:path>")
def read_file(job_id: str, path: str) -> Response:
    """A file of a job, or a part of it."""
    query = FileQuery.parse(query_parameters())
    return send_file(state().store.get(job_id), raw_path(job_id), query)


@routes.get("/jobs/<job_id>/files.zip")
def download_files(job_id: str) -> Response:
    """The files of a job in an archive."""
    FilesQuery.parse(query_parameters())
    return send_zip(state().store.get(job_id))


# --- Saved commands -------------------------------------------------------------------------------


@routes.get("/saved")
def list_saved() -> Response:
    """All saved commands, by name; without `env`, which can be large, unless it is requested."""
    query = SavedListing.parse(query_parameters())
    listed = whole_commands()
    if not query.env:
        for row in listed:
            del row["env"]
    return with_etag({"saved": listed})


@routes.get("/saved/<name>")
def show_saved(name: str) -> ShownCommand:
    """One saved command, with its next run and its latest runs."""
    return shown_command(state().store.saved.load(name))


@routes.put("/saved/<name>")
def save(name: str) -> ShownCommand | Created:
    """Save the command that the body describes: 201 if the name is new, else 200. With `check`,
    only return the command as it would be saved."""
    query = SaveQuery.parse(query_parameters())
    body = json_body(None)
    if query.check:
        note_nothing()
        return shown_command(check_command(name, body, seen_etag(), query.like))
    is_new = save_command(name, body, seen_etag(), query.like)
    shown, etag = show_saved(name)
    location = current_app.url_for("tailboard.show_saved", name=name)
    return shown, 201 if is_new else 200, {"Location": location, **etag}


@routes.delete("/saved/<name>")
def delete_saved(name: str) -> tuple[str, int]:
    """Delete a saved command; its jobs are kept."""
    state().store.saved.delete(name)
    return "", 204


@routes.post("/saved/<name>/run")
def run_saved(name: str) -> Created:
    """Submit a job of a saved command; the body contains the values of its params."""
    by = name_of_visitor(RunQuery.parse(query_parameters()).submitted_by, "submitted_by")
    values = json_body({})
    job = make_run(name, values, by)
    return submit(job, idempotency_key(), hash_request(public_values(job, values)))


# --- Queues ---------------------------------------------------------------------------------------


@routes.get("/queues")
def list_queues() -> dict[str, Any]:
    """Lists queues that have jobs, a limit or a pause, or are named by a worker."""
    return {"queues": Queues().as_list()}


@routes.put("/queues/<queue>")
def change_queue(queue: str) -> dict[str, Any]:
    """Set or remove the limit of a queue. Running jobs continue, even if there are more."""
    wanted = QueueRequest.parse(json_body({}))
    state().store.limits.set(valid_queue(queue), wanted.limit)
    note_done(limit=wanted.limit)
    return Queues().show(queue)


@routes.put("/queues/<queue>/pause")
def pause(queue: str) -> dict[str, Any]:
    """Start no more jobs from a queue until it is resumed; running jobs continue."""
    wanted = PauseRequest.parse(with_visitor(json_body({}), "by"))
    return asdict(state().store.pauses.pause(valid_queue(queue), wanted.why, wanted.by))


@routes.delete("/queues/<queue>/pause")
def resume(queue: str) -> tuple[str, int]:
    """End the pause of a queue."""
    state().store.pauses.resume(valid_queue(queue))
    return "", 204


# --- Notifications --------------------------------------------------------------------------------


@routes.get("/notifications")
def list_notifications() -> Response:
    """What was noticed about jobs since a time, and to whom messages about it were sent."""
    return with_etag(recent_notices(NoticeQuery.parse(query_parameters())))


@routes.get("/notifications/targets")
def list_notify_targets() -> dict[str, Any]:
    """The URLs that rules can name, without their secrets."""
    return {"targets": list_targets()}


@routes.put("/notifications/targets/<target>")
def set_notify_target(target: str) -> tuple[dict[str, Any], int]:
    """Name a URL: 201 if the name is new, else 200."""
    shown, is_new = name_target(target, TargetRequest.parse(json_body({})))
    return shown, 201 if is_new else 200


@routes.delete("/notifications/targets/<target>")
def delete_notify_target(target: str) -> tuple[str, int]:
    """Remove the name of a URL. Rules that have the name send nothing from then on."""
    remove_target(target)
    return "", 204


@routes.post("/notifications/test")
def send_test_message() -> Response:
    """Send a test message to a URL or name, and report the answer."""
    return send_test(NotificationTest.parse(json_body({})))


# --- The visitor ----------------------------------------------------------------------------------


@routes.get("/me")
def me() -> dict[str, Any]:
    """Whose token or session key the request has."""
    return describe_visitor()


@routes.post("/sessions")
def sign_in() -> Response:
    """A session key for the request's token."""
    return start_session()


@routes.delete("/sessions/current")
def sign_out() -> tuple[str, int]:
    """End the session whose key the request has."""
    end_session()
    return "", 204


# --- The audit log --------------------------------------------------------------------------------


@routes.get("/audit")
def audit() -> dict[str, Any]:
    """Who did what, newest first."""
    return read_audit(AuditQuery.parse(query_parameters()))


# --- The service ----------------------------------------------------------------------------------


@routes.get("/workers")
def list_workers() -> dict[str, Any]:
    """The living workers, the machines that share the jobs, the paused queues, the storage, and
    the entries of it that cannot be read."""
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
    """The health of the service: 503 if something needs attention, with the reason."""
    health = check_health()
    return health, 503 if health["reason"] else 200


@routes.get("/metrics")
def metrics() -> Response:
    """The metrics for Prometheus."""
    return Response(generate_latest(state().metrics), mimetype="text/plain")


@routes.get("/openapi.json")
def openapi() -> dict[str, Any]:
    """The description of this API."""
    return describe_operations()


@routes.get("/")
def describe_api() -> dict[str, Any]:
    """A short description, for anyone who opens the address that the API prints."""
    page_port = os.environ.get("STREAMLIT_SERVER_PORT") or "8501"  # as Streamlit reads it
    return {
        "name": "Tailboard",
        "description": "This is Tailboard's API, for programs. People use the page.",
        "page": next(iter(state().origins), f"http://localhost:{page_port}"),
        "openapi": "/openapi.json",
        "version": __version__,
    }


# --- The application ------------------------------------------------------------------------------


class CannotStart(click.ClickException):
    """The settings or the jobs folder cannot be used, or the routes do not match OPERATIONS. The
    message is one sentence that says why; the commands and `python api.py` print it."""


def create_app(config: Mapping[str, Any] | None = None) -> Flask:
    """The application. `config` contains settings that override those of the environment: STORAGE,
    TOKEN …, named as in docs/settings.md but without TAILBOARD_. CannotStart if one is unknown or
    bad, or if a route declares no access."""
    given = {f"TAILBOARD_{name}": str(value) for name, value in (config or {}).items()}
    env = {**os.environ, **given}
    app = Flask(__name__, static_folder=None)  # the page serves static/ itself
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY_BYTES
    app.json.sort_keys = False  # type: ignore[attr-defined]
    app.url_map.converters["anything"] = AnyPath
    app.register_blueprint(routes)
    app.cli.commands.update(COMMANDS)
    add_error_handlers(app)
    app.before_request(start_clock)
    try:
        access = guard(app)
        keep_audit_log(app)
        settings = Settings.read(env)
        store = storage.open_store(
            settings.storage, settings.unreachable, is_server(), settings.secret_key
        )
        app.extensions["tailboard"] = AppState(settings, store, access)
    except (OSError, ValueError) as error:
        raise CannotStart(str(error)) from None
    app.after_request(count_request)
    warn_of_foreign_settings(app.logger, env)
    return app


def is_server() -> bool:
    """Does this process serve requests of others, and not run a command? A command must not make a
    jobs folder in whatever directory it is run."""
    command = click.get_current_context(silent=True)
    return command is None or command.command is program or command.info_name == "run"


def start_clock() -> None:
    g.begun = time.monotonic()


def count_request(response: Response) -> Response:
    """Count the request for /metrics."""
    route = str(request.url_rule or "none")
    seconds = time.monotonic() - g.begun
    state().metrics.count_request(request.method, route, response.status_code, seconds)
    return response


# --- The server -----------------------------------------------------------------------------------


@click.command(context_settings={"max_content_width": 100})
@click.version_option(__version__, message="tailboard %(version)s")
def program() -> None:
    """Serves Tailboard's HTTP API. It has no options: its settings are variables of the environment
    or in the file .env, such as TAILBOARD_BIND for the address."""
    main()


def main() -> None:
    """`python api.py`, after its arguments were checked."""
    os.environ.setdefault("PYTHONSAFEPATH", "1")  # no modules of the current folder in the server
    try:
        env_file = load_env_file()
        settings = Settings.read()
        address = resolve_bind(settings.bind)
        check_storage(settings)
        server = make_server(address, connection_limit(settings))
    except (OSError, ValueError) as error:
        sys.exit(f"api: {error}")
    if env_file:
        print(f"api: settings from {env_file}", flush=True)
    server.serve(target_loader=serve_app, wrap_loader=False)


def check_storage(settings: Settings) -> None:
    """OSError or ValueError, in one sentence, if the API could not start with this storage, these
    tokens or these users. `create_app` would find out only in the server's second process."""
    if not is_redis(settings.storage):
        check_private("TAILBOARD_STORAGE", settings.storage)
    storage.open_store(settings.storage)
    if settings.tokens:
        TokenFile(settings.tokens).check()
    if settings.user_header:
        UserFile(settings.users).check(settings.group_header)


def serve_app() -> FlaskOverAsgi:
    """The application as the server's second process runs it."""
    share_heaps()
    start_logging(sys.stdout)
    ACCESS.setLevel(logging.INFO)
    try:
        return FlaskOverAsgi(create_app())
    except CannotStart as error:
        sys.exit(f"api: {error.message}")


if __name__ == "__main__":
    program()
