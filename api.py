"""The API: jobs and their logs over HTTP.

A route parses, asks the storage once, and answers; errors rise to one handler and leave as problem
details (RFC 9457). It imports nothing of ours but storage.
"""

from __future__ import annotations

import codecs
import hmac
import json
import os
import re
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from getpass import getuser
from ipaddress import ip_address
from typing import Annotated, Any, Self

import click
from flask import Blueprint, Flask, Response, abort, current_app, g, request, stream_with_context
from gunicorn.http.errors import ParseException
from gunicorn.workers.gthread import TConn
from itsdangerous import BadSignature, URLSafeTimedSerializer
from prometheus_client import REGISTRY, Counter, Histogram, Metric, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from werkzeug.exceptions import HTTPException, default_exceptions
from werkzeug.local import LocalProxy

import storage
from storage import FINISHED, EmptyLog, Job, JobNotFound, Log, Settings, Status, WrongState

COUNT_TIME = 0.02  # seconds of a request for counting lines
COUNT_LIMIT = 256 << 20  # bytes of a log whose lines are counted
COUNTED = 1_000  # logs whose lines stay counted
SEARCH_TIME = 2.0  # seconds for one page of matches; as much again to count lines
STAMPED = 256 << 10  # bytes at a time that are led by times, which may make 26 of each
BLOCK = 1 << 16  # bytes of a download's block, and of one event
PING = 15.0  # seconds
RECONNECT = 1_000  # milliseconds until a browser comes back
CLIENT_TIME = 10  # seconds for a client to send, or to take, the next bytes
TICKET_AGE = 300  # seconds

BUCKETS = (1, 5, 15, 60, 300, 900, 3_600, 14_400, 86_400)  # seconds
JOB_SECONDS = Histogram("tailboard_job_seconds", "Start to end.", ["status"], buckets=BUCKETS)
LABELS = ("method", "route", "status")
REQUEST_SECONDS = Histogram("tailboard_request_seconds", "Until the answer began.", LABELS)
LOG_BYTES = Counter("tailboard_log_bytes", "Log bytes of jobs that ended.")

routes = Blueprint("tailboard", __name__, cli_group=None)


class Tailboard:
    """What an application holds, and what it tells Prometheus."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.storage: storage.Store = storage.open_store(settings.storage, settings.unreachable)
        self.followers = threading.Semaphore(settings.followers)
        self.tickets = URLSafeTimedSerializer(settings.token, salt="tailboard log ticket")
        self.origins = [origin.strip().rstrip("/") for origin in settings.dashboard.split(",")]
        self.lines: dict[str, tuple[int, int]] = {}  # of a job's log: up to an offset, how many
        self.seen: set[str] = set()  # IDs of jobs that have ended and were counted
        self.has_seen = False  # those that ended before this process began
        with suppress(storage.StoreAway):  # it starts all the same, and says so
            check_storage(self.storage)
            self.see_finished()

    def see_finished(self) -> None:
        """Count no job that ended before this process began."""
        if not self.has_seen:
            for _ in self.storage.iter_new_finished(self.seen):
                pass
            self.has_seen = True

    def collect(self) -> Iterator[Metric]:
        """Counts the storage at each scrape; only REGISTRY's numbers begin with this process."""
        self.see_finished()
        for job in self.storage.iter_new_finished(self.seen):
            LOG_BYTES.inc(job.log_size)
            with suppress(ValueError, TypeError):  # not every end has a beginning
                begun = datetime.fromisoformat(str(job.started_at))
                lasted = datetime.fromisoformat(str(job.finished_at)) - begun
                JOB_SECONDS.labels(job.status).observe(lasted.total_seconds())
        yield from REGISTRY.collect()
        jobs = GaugeMetricFamily("tailboard_jobs", "Jobs by status.", labels=["status"])
        ended = CounterMetricFamily("tailboard_jobs_ended", "Ended so ever.", labels=["status"])
        for family, counts in (
            (jobs, self.storage.counts()),
            (ended, self.storage.finished_totals()),
        ):
            for status, count in counts.items():
                family.add_metric([status], count)
        depth = GaugeMetricFamily("tailboard_queue_jobs", "Jobs that wait.", labels=["queue"])
        age = GaugeMetricFamily("tailboard_queue_oldest_seconds", "Its age.", labels=["queue"])
        for queue, names in self.storage.queued_by_queue().items():
            depth.add_metric([queue], len(names))
            age.add_metric([queue], age_of(names[0]))
        yield from (jobs, ended, depth, age)
        alive = self.storage.workers()
        slots, busy = sum(w.slots for w in alive), sum(w.running for w in alive)
        yield GaugeMetricFamily("tailboard_workers", "Workers alive.", len(alive))
        yield GaugeMetricFamily("tailboard_slots", "Slots of all.", slots)
        yield GaugeMetricFamily("tailboard_slots_busy", "Slots that run a job.", busy)


def check_storage(store: storage.Store) -> None:
    """ValueError where Redis may forget on its own."""
    if isinstance(store, storage.RedisStore):
        store.check_server()


tailboard: Tailboard = LocalProxy(lambda: current_app.extensions["tailboard"])  # type: ignore


# --- What may come in ---------------------------------------------------------------------------


# A description says what is allowed: it ends the error's sentence.
def text(pattern: str | re.Pattern[str], most: int, allowed: str = "") -> Any:
    return Field(pattern=pattern, max_length=most, description=allowed)


def whole(least: int, most: int) -> Any:
    return Field(ge=least, le=most, description=f"a whole number from {least:,} to {most:,}")


def moment(given: str) -> float:
    """`since` as seconds since 1970: an age such as 30s, or an RFC 3339 time."""
    if age := re.fullmatch(r"([0-9]{1,9})([smhd])", given):
        return time.time() - int(age[1]) * {"s": 1, "m": 60, "h": 3_600, "d": 86_400}[age[2]]
    if (then := datetime.fromisoformat(given)).tzinfo is None:
        raise ValueError
    return then.timestamp()


# Arguments of a program: no NUL, and below the kernel's 128 KiB (MAX_ARG_STRLEN in execve(2)).
LINE = r"^[^\x00]*[^\x00\s][^\x00]*$"
Line = Annotated[str, text(LINE, 30_000)]
Text = Annotated[str, text(r"^[^\x00]*$", 30_000)]
VARIABLE = re.compile(r"^(?!TAILBOARD_|JOB_ID|JOB_ATTEMPT|JOB_STORAGE)[^\0=]+\Z")
Label = Annotated[str | None, text(LINE, 200, "text of 1 to 200 characters")]
QUEUE = text(f"^{storage.QUEUE_RE.pattern}$", 32, storage.QUEUE_NAMES)
Offset = Annotated[int | None, Field(ge=0, le=1 << 62, description="a whole number of bytes")]
Flag = Annotated[bool, Field(description="0 or 1")]


class Asked(BaseModel):
    """What a client asks for."""

    @classmethod
    def check(cls, data: object) -> Self:
        """Made of the data; 400 with a sentence that names the field and what is allowed."""
        if not isinstance(data, dict):
            abort(400, "the body must be a JSON object")
        if unknown := [name for name in data if name not in cls.model_fields]:
            known = ", ".join(cls.model_fields)
            abort(400, f"there is no field {unknown[0]!r}; the fields are {known}")
        try:
            return cls.model_validate({k: v for k, v in data.items() if v is not None})
        except ValidationError as error:
            field = str(error.errors()[0]["loc"][0])
            abort(400, f"{field} must be {cls.model_fields[field].description}")


class Submission(Asked):
    """The body of POST /jobs."""

    model_config = ConfigDict(strict=True)

    command: Line | Annotated[list[Text], Field(min_length=1, max_length=1_000)] = Field(
        description="a shell line, or a list of a program and its arguments, "
        "not empty, of up to 30,000 characters each"
    )
    name: Label = None
    queue: Annotated[str, QUEUE] = "default"
    cwd: Annotated[str | None, text(r"^/[^\x00]*$", 4_000, "an absolute path")] = None
    env: dict[Annotated[str, text(VARIABLE, 200)], Text] = Field(
        {}, description="an object of texts, with names other than JOB_… and TAILBOARD_…"
    )
    timeout: float | None = Field(
        None, gt=0, le=1e9, description="a number of seconds above 0 and up to 1,000,000,000"
    )
    retries: Annotated[int, whole(0, 100)] = 0
    submitted_by: Label = None


class Listing(Asked):
    """The parameters of GET /jobs."""

    status: Status | None = Field(None, description=f"one of {', '.join(Status)}")
    queue: Annotated[str | None, QUEUE] = None
    q: Annotated[str, text("", 200, "text of up to 200 characters")] = ""
    limit: Annotated[int, whole(1, 500)] = 50
    before: Annotated[str | None, text(f"^{storage.ID_RE.pattern}$", 24, "the ID of a job")] = None


class LogQuery(Asked):
    """The parameters of GET /jobs/ID/logs."""

    tail: Annotated[int, whole(0, 1_000_000)] = 1_000
    offset: Offset = None
    limit_bytes: Annotated[int, whole(1, 4 << 20)] = 256 << 10
    since: Annotated[float, BeforeValidator(moment)] | None = Field(
        None, description="like 30s, 5m, 2h or 1d, or a time like 2026-11-23T18:00:00Z"
    )
    timestamps: Flag = False
    follow: Flag = False
    download: Flag = False
    q: Annotated[str | None, text(r"^[^\n]+$", 200, "1 to 200 characters")] = None
    limit: Annotated[int, whole(1, 1_000)] = 100
    before: Offset = None
    ticket: str | None = None


# --- Errors -------------------------------------------------------------------------------------

ERRORS: dict[type[Exception], tuple[int, str]] = {
    JobNotFound: (404, "{0}"),
    WrongState: (409, "{0}"),
    ParseException: (400, "the body's chunks are not what they should be"),  # gunicorn's
    RecursionError: (400, "the body is nested too deeply"),
    BlockingIOError: (408, "the body did not arrive in time"),
    OSError: (503, "the storage cannot do that now: {1}"),
}
HEADERS = {401: {"WWW-Authenticate": "Bearer"}, 503: {"Retry-After": "5"}}


@routes.app_errorhandler(HTTPException)
def problem(error: Exception) -> Any:
    """An error as problem details (RFC 9457)."""
    if not isinstance(error, HTTPException):
        status, detail = next(told for kind, told in ERRORS.items() if isinstance(error, kind))
        if status == 503:
            current_app.logger.error("storage: %s", error)
        why = getattr(error, "strerror", None) or "it failed"
        error = default_exceptions[status](detail.format(error, why))
    response = error.get_response(request.environ)
    told = {"type": "about:blank", "title": error.name, "status": error.code}
    body = current_app.make_response(told | {"detail": error.description or error.name})
    response.data, response.content_type = body.data, "application/problem+json"
    response.headers.update(HEADERS.get(response.status_code, {}))
    return response


for _kind in ERRORS:
    routes.app_errorhandler(_kind)(problem)


# --- The door -----------------------------------------------------------------------------------

FORWARDING = ("Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Real-Ip")
LOOPBACK = re.compile(r"(localhost|127(\.[0-9]{1,3}){3}|\[::1\])(:[0-9]{1,5})?", re.IGNORECASE)
METHODS = ("GET", "HEAD", "POST", "DELETE", "OPTIONS")


@routes.before_app_request
def door() -> None:
    """Who may come in: whoever has the token; where there is none, programs of this machine, but
    no web page that makes a browser of this machine ask (DNS rebinding, cross-site requests)."""
    g.begun = time.monotonic()
    origin = request.headers.get("Origin")
    if origin and origin not in (*tailboard.origins, request.host_url.rstrip("/")):
        abort(403, "requests from another site's page are refused")
    if request.method == "POST" and request.mimetype != "application/json":
        abort(415, "Content-Type must be application/json")
    if request.path == "/healthz":
        return
    if token := tailboard.settings.token:
        given = request.headers.get("Authorization", "")
        if not hmac.compare_digest(given.encode(), f"Bearer {token}".encode()) and not has_ticket():
            abort(401, "the token is missing or wrong")
    elif not ip_address(request.remote_addr or "0.0.0.0").is_loopback:
        abort(403, "without TAILBOARD_TOKEN only this machine is served")
    elif not LOOPBACK.fullmatch(request.headers.get("Host", "")):
        abort(403, "without TAILBOARD_TOKEN the Host must be localhost or 127.0.0.1")
    elif any(name in request.headers for name in FORWARDING):
        abort(403, "without TAILBOARD_TOKEN no proxy may forward requests")


def has_ticket() -> bool:
    """Is this a read of the log that a valid ticket is for? A browser's EventSource and its
    download links cannot send headers."""
    if request.endpoint == "tailboard.logs":
        with suppress(BadSignature):
            job_id = tailboard.tickets.loads(request.args.get("ticket", ""), max_age=TICKET_AGE)
            return bool(job_id == (request.view_args or {})["job_id"])
    return False


@routes.post("/jobs/<job_id>/ticket")
def ticket(job_id: str) -> tuple[dict[str, Any], int]:
    """A ticket, for a few minutes, for reading this one log."""
    job = tailboard.storage.get(job_id)
    return {"ticket": tailboard.tickets.dumps(job.id), "expires_in": TICKET_AGE}, 201


@routes.after_app_request
def harden(response: Response) -> Response:
    """Nothing here is a page, and only the dashboard's own page may read it from a browser."""
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["X-Frame-Options"] = "DENY"
    response.headers["Content-Security-Policy"] = "default-src 'none'; frame-ancestors 'none'"
    response.vary.add("Origin")
    if (origin := request.headers.get("Origin")) in tailboard.origins:
        response.headers["Access-Control-Allow-Origin"] = origin
        response.headers["Access-Control-Expose-Headers"] = "*"
    method = request.method if request.method in METHODS else "other"
    labels = method, str(request.url_rule or "none"), response.status_code
    REQUEST_SECONDS.labels(*labels).observe(time.monotonic() - g.begun)
    return response


# --- Routes -------------------------------------------------------------------------------------


@routes.post("/jobs")
@routes.post("/jobs/<job_id>/rerun")
def create(job_id: str | None = None) -> tuple[dict[str, Any], int, dict[str, str]]:
    """A new job, as the body says or as another was."""
    key = request.headers.get("Idempotency-Key")
    job = run_again(job_id) if job_id else submit(request.get_json(), key)
    return whole_job(job), 201, {"Location": current_app.url_for("tailboard.show", job_id=job.id)}


def submit(asked: object, key: str | None = None, rerun_of: str | None = None) -> Job:
    job = Job(**Submission.check(asked).model_dump(), rerun_of=rerun_of)
    return tailboard.storage.submit(job, key)


def run_again(job_id: str) -> Job:
    old = tailboard.storage.get(job_id)
    return submit({name: getattr(old, name) for name in Submission.model_fields}, rerun_of=old.id)


@routes.get("/jobs")
def index() -> Response:
    asked = Listing.check(request.args.to_dict())
    port = tailboard.storage
    jobs, following = port.list(asked.status, asked.queue, asked.q, asked.limit, asked.before)
    answer = {"jobs": [job.as_dict() for job in jobs], "next": following, "counts": port.counts()}
    response = current_app.make_response(answer)
    response.add_etag()
    response.make_conditional(request)
    return response


@routes.get("/jobs/<job_id>")
def show(job_id: str) -> dict[str, Any]:
    return whole_job(tailboard.storage.get(job_id))


def whole_job(job: Job) -> dict[str, Any]:
    """A job on its own; in a list it stands without its attempts."""
    return job.as_dict() | {"attempts": job.attempts_as_dicts()}


@routes.post("/jobs/<job_id>/cancel")
def cancel(job_id: str) -> tuple[dict[str, Any], int]:
    return whole_job(tailboard.storage.cancel(job_id, "cancelled through the API")), 202


@routes.delete("/jobs/<job_id>")
def delete(job_id: str) -> tuple[str, int]:
    tailboard.storage.delete(job_id)
    return "", 204


# --- Logs on the wire ---------------------------------------------------------------------------


@routes.get("/jobs/<job_id>/logs")
def logs(job_id: str) -> Response | dict[str, Any]:
    """A job's log: its end, a part, all of it, what matches, or what comes."""
    asked = LogQuery.check(request.args.to_dict())
    places = asked.model_fields_set & {"tail", "offset", "since", "q"}
    if len(places) > 1:
        abort(400, f"{' and '.join(sorted(places))} exclude each other")
    job = tailboard.storage.get(job_id)  # before the log's size: the last lines are not missed
    if asked.download and not asked.follow:
        return download(job)
    with open_log(job_id) as log:
        if asked.follow:
            return follow(job, log, asked)
        return part(job, log, asked) if asked.q is None else search(log, asked.q, asked)


def open_log(job_id: str) -> Log:
    """The log; an empty one where a known job has logged nothing yet."""
    try:
        return tailboard.storage.open_log(job_id)
    except FileNotFoundError:
        return EmptyLog()


def begin_at(log: Log, asked: LogQuery, size: int) -> int:
    """Where the answer begins; 416 past the end."""
    if asked.offset is not None:
        if asked.offset > size:
            abort(416, description=f"offset must be at most {size}, the size of the log")
        return asked.offset
    if asked.since is not None:
        return min(size, log.offset_at_time(asked.since))
    return log.tail(asked.tail, size, STAMPED if asked.timestamps else storage.TAIL_BYTES)


def log_headers(job: Job, log: Log, begin: int, end: int, size: int) -> dict[str, str]:
    return {
        "ETag": f'"{job.id}.{job.attempt}.{job.status}.{size}.{log.start}"',
        "X-Log-Offset": str(begin),
        "X-Log-Next": str(end),
        "X-Log-Size": str(size),
        "X-Log-Start": str(log.start),
        "X-Log-Complete": str(job.status in FINISHED and end == size).lower(),
        "X-Job-Status": job.status,
        "Cache-Control": "no-cache",
    }


def part(job: Job, log: Log, asked: LogQuery) -> Response:
    size = log.size
    etag = log_headers(job, log, 0, 0, size)["ETag"]
    if request.if_none_match.contains_raw(etag):
        return Response(status=304, headers={"ETag": etag})
    begin, data = read_asked(log, asked, size)
    cut = begin + len(data) < size
    kept = complete(data, job.status in FINISHED and not cut)
    data = kept if kept or not cut else data  # else not even one character fits into the limit
    headers = log_headers(job, log, begin, begin + len(data), size)
    by_lines = asked.offset is None and asked.since is None
    if by_lines and (lines := count_lines(job.id, log, size)) is not None:
        headers["X-Log-Lines"] = str(lines)
    body = log.add_timestamps(begin, data) if asked.timestamps else data
    return Response(body, headers=headers, mimetype="text/plain")


def read_asked(log: Log, asked: LogQuery, size: int) -> tuple[int, bytes]:
    """The part that is asked for, led by the offset where it begins."""
    most = STAMPED if asked.timestamps else storage.TAIL_BYTES
    if asked.offset is None and asked.since is None:
        return log.read_tail(asked.tail, size, most)
    begin = begin_at(log, asked, size)
    limit = min(asked.limit_bytes, size - begin)
    return log.read(begin, min(limit, most) if asked.timestamps else limit)


def count_lines(job_id: str, log: Log, size: int) -> int | None:
    """How many lines the log has; None where its head is gone, it is too large, or until a few
    requests have counted on from where the last one stopped."""
    counted = tailboard.lines
    at, lines = counted.pop(job_id, (0, 0))
    if log.start > 0 or size > COUNT_LIMIT:
        return None
    at, more = log.count_lines(at, size, time.monotonic() + COUNT_TIME)
    counted[job_id] = at, lines + more
    while len(counted) > COUNTED:
        counted.pop(next(iter(counted)), None)
    unfinished = size > 0 and log.read(size - 1, 1)[1] != b"\n"
    return lines + more + unfinished if at == size else None


def complete(data: bytes, ended: bool) -> bytes:
    """Without the beginning, at its end, of a UTF-8 character whose rest may follow."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    decoder.decode(data[-3:], final=ended)
    return data[: len(data) - len(decoder.getstate()[0])]


def search(log: Log, needle: str, asked: LogQuery) -> dict[str, Any]:
    """The lines that hold a text, newest first. `line` counts from 1; null where it is not known:
    the head of the log is gone, or counting took too long."""
    deadline = time.monotonic() + SEARCH_TIME
    before = log.size if asked.before is None else min(asked.before, log.size)
    hits, following = log.search(needle.encode(), before, asked.limit, deadline)
    matches: list[dict[str, Any]] = []
    at, line = 0, 1
    for offset, excerpt in reversed(hits):
        if log.start == 0:
            at, more = log.count_lines(at, offset, deadline + SEARCH_TIME)
            line += more
        number, shown = line if at == offset else None, excerpt.decode(errors="replace")
        matches.append({"offset": offset, "line": number, "text": shown})
    return {"matches": matches[::-1], "next": following}


def download(job: Job) -> Response:
    """The whole log as a file, or a Range of it; one that still grows, as far as it has got."""
    log = open_log(job.id)
    start, size = log.start, log.size
    begin, end, length = start, size, size - start
    etag = log_headers(job, log, begin, end, size)["ETag"]
    wanted = request.range if request.headers.get("If-Range") in (None, etag) else None
    if wanted and wanted.units == "bytes":
        first, last = wanted.ranges[0]  # of several, the first is sent
        begin = max(start, size + first) if first < 0 else start + first
        end = min(size, start + last) if last else size
        if begin >= end:
            log.close()
            abort(416, length)
    headers = log_headers(job, log, begin, end, size)
    response = Response(blocks(log, begin, end), headers=headers, mimetype="text/plain")
    response.headers["Content-Disposition"] = f"attachment; filename={job.id}.log"
    response.accept_ranges, response.content_length = "bytes", end - begin
    if wanted and wanted.units == "bytes":
        response.status_code = 206
        response.content_range.set(begin - start, end - start, length)
    response.call_on_close(log.close)
    return response


def blocks(log: Log, at: int, end: int) -> Iterator[bytes]:
    """The bytes of a log; as many as were promised, even if its head is given back meanwhile."""
    while at < end:
        begin, data = log.read(at, min(BLOCK, end - at))
        yield (data := bytes(min(BLOCK, begin - at, end - at)) or data)
        at += len(data)


Parts = Iterator[tuple[int, bytes]]  # the offset behind some bytes, and them


def follow(job: Job, log: Log, asked: LogQuery) -> Response:
    """The log from where it is asked for, then what is written, until the job has ended."""
    if (last := request.headers.get("Last-Event-ID")) is not None:
        asked = LogQuery.check({"offset": last, "timestamps": asked.timestamps})
    size = log.size
    begin = begin_at(log, asked, size)
    headers = log_headers(job, log, begin, begin, size) | {"X-Accel-Buffering": "no"}
    if not tailboard.followers.acquire(blocking=False):
        abort(503, "no more followers are admitted now")
    # The connection tells at once that the client has closed it, also while nothing is sent.
    client = request.environ.get("gunicorn.socket", request.environ.get("werkzeug.socket"))
    parts = written(job.id, begin, asked.timestamps, client)
    events = "text/event-stream" in request.headers.get("Accept", "")
    body = stream_with_context(stream(job.id, begin, parts, events))
    kind = "text/event-stream" if events else "text/plain"
    response = Response(body, headers=headers, mimetype=kind)
    response.call_on_close(tailboard.followers.release)
    return response


def stream(job_id: str, at: int, parts: Parts, events: bool) -> Iterator[bytes]:
    """The text, or server-sent events: `data` is a JSON string, for log text holds \\r and \\n;
    `id` is the offset to resume from; the event `end` carries the job."""
    yield b"retry: %d\n\n" % RECONNECT if events else b""  # so that the headers leave at once
    with suppress(ConnectionError, JobNotFound):
        for at, data in parts:
            if not events:
                yield data
            elif data:
                shown = json.dumps(data.decode(errors="replace"), ensure_ascii=False)
                yield f"id: {at}\ndata: {shown}\n\n".encode()
            else:
                yield b": ping\n\n"
        if events:
            job = json.dumps(whole_job(tailboard.storage.get(job_id)))
            yield f"event: end\nid: {at}\ndata: {job}\n\n".encode()


def written(job_id: str, at: int, timestamps: bool, client: Any = None, wait: bool = True) -> Parts:
    """What is written to a log from an offset on, as it is written, or only what is there; b"" when
    a while has gone by. ConnectionError when the client is gone, JobNotFound when the job is."""
    others = [client.fileno()] if client else []
    watch, log = tailboard.storage.watch(job_id), open_log(job_id)
    told = time.monotonic()
    try:
        while True:
            ended = not wait or tailboard.storage.status(job_id) in FINISHED  # before the size
            if at == 0:  # perhaps it had no log when we opened it
                log.close()
                log = open_log(job_id)
            while True:
                begin, data = log.read(at, BLOCK)
                if not (data := complete(data, ended and len(data) < BLOCK)):
                    break
                at = begin + len(data)
                yield at, log.add_timestamps(begin, data) if timestamps else data
                told = time.monotonic()
            if ended:
                return
            if watch.wait(PING, *others):
                raise ConnectionAbortedError
            if time.monotonic() - told > PING - 1:
                yield at, b""
                told = time.monotonic()
    finally:
        watch.close()
        log.close()


# --- Workers, health, metrics -------------------------------------------------------------------


@routes.get("/workers")
def list_workers() -> dict[str, Any]:
    """The workers that live; where several machines share the jobs, all of them; and what in the
    storage cannot be read and was passed over."""
    port = tailboard.storage
    return {
        "workers": list(port.workers()),
        "machines": list(port.machines()),
        "storage": port.describe(),
        "unreadable": list(port.unreadable()),
    }


@routes.get("/healthz")
def healthz() -> tuple[dict[str, Any], int]:
    """200, or 503 with a reason: nothing can be written, or jobs wait that no worker serves. It
    needs no token, so it names nothing: what cannot be read is counted, /workers names it."""
    waiting, alive = tailboard.storage.queued_by_queue(), tailboard.storage.workers()
    reason = None
    if unserved := waiting.keys() - {q for w in alive for q in w.queues or waiting}:
        reason = f"jobs wait in {', '.join(sorted(unserved))}, and no worker serves that"
    try:
        tailboard.storage.check_writable()
    except OSError as error:
        reason = f"the storage cannot be written: {error.strerror}"
    age = max((age_of(names[0]) for names in waiting.values()), default=None)
    body = {
        "status": "unhealthy" if reason else "ok",
        "reason": reason,
        "workers": len(alive),
        "oldest_queued_seconds": age,
        "unreadable": len(tailboard.storage.unreadable()),
    }
    return body, 503 if reason else 200


def age_of(job_id: str) -> float:
    """Seconds since a job was submitted, by its ID; 0 where that holds no such date."""
    with suppress(ValueError):
        then = datetime.strptime(job_id[:15], "%Y%m%d-%H%M%S").replace(tzinfo=UTC)
        return max(0.0, time.time() - then.timestamp())
    return 0.0


@routes.get("/metrics")
def metrics() -> Response:
    return Response(generate_latest(tailboard), mimetype="text/plain")


# --- In a terminal: flask submit, jobs, logs … on the storage itself, so that no API need run -----


class Command(click.Command):
    """Says what went wrong in one sentence and ends with exit code 1."""

    def invoke(self, context: click.Context) -> Any:
        try:
            return super().invoke(context)
        except BrokenPipeError:  # `flask jobs | head`: click knows what to do
            raise
        except (HTTPException, JobNotFound, WrongState, OSError) as error:
            raise click.ClickException(getattr(error, "description", str(error))) from None


routes.cli.command_class = Command


def find(part: str) -> Job:
    """The job whose ID starts or ends with this."""
    found = tailboard.storage.find(part)
    if len(found) == 1:
        return tailboard.storage.get(found[0])
    many = len(found) or "no"
    raise click.ClickException(f"{many} jobs have an ID that starts or ends with {part!r}")


@routes.cli.command("submit")
@click.argument("command")
@click.option("--name")
@click.option("--queue")
@click.option("--cwd", type=click.Path(resolve_path=True), help="The folder to run in.")
@click.option("--env", multiple=True, metavar="K=V", help="May be given several times.")
@click.option("--timeout", type=float, help="Seconds.")
@click.option("--retries", type=int)
@click.option("--follow", is_flag=True, help="Print the log; exit with the job's exit code.")
def submit_command(command: str, env: tuple[str, ...], follow: bool, **given: Any) -> None:
    """Queue COMMAND, a shell line (-: a script from standard input), and print its ID."""
    if bad := [pair for pair in env if "=" not in pair]:
        raise click.ClickException(f"--env must be NAME=VALUE, and {bad[0]!r} is not")
    given["command"] = sys.stdin.read() if command == "-" else command
    given["env"] = dict(pair.split("=", 1) for pair in env)
    job = submit(given | {"submitted_by": getuser()})
    click.echo(job.id, err=follow)
    if follow:
        for _, data in written(job.id, 0, False):
            click.echo(data, nl=False)
        code = tailboard.storage.get(job.id).exit_code
        sys.exit(1 if code is None else code)


@routes.cli.command("jobs")
@click.option("--status", type=click.Choice([str(status) for status in Status]))
@click.option("--limit", type=click.IntRange(1, 500), default=20, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def jobs_command(status: str | None, limit: int, as_json: bool) -> None:
    """List jobs, newest first."""
    for job in tailboard.storage.list(Status(status) if status else None, limit=limit)[0]:
        code = "" if job.exit_code is None else job.exit_code
        title = " ".join((job.name or str(job.command)).split())
        line = f"{job.id}  {job.status:9}  {code!s:>3}  {title[:80]}"
        click.echo(json.dumps(job.as_dict()) if as_json else line)


@routes.cli.command("logs")
@click.argument("job_id", metavar="ID")
@click.option("-f", "--follow", is_flag=True, help="Go on until the job has ended.")
@click.option("--tail", metavar="N", help="The last N lines (default: 1000).")
@click.option("--since", metavar="AGE", help="Like 30s, 5m, or a time.")
def logs_command(job_id: str, follow: bool, **place: str | None) -> None:
    """Print a job's log."""
    job, asked = find(job_id), LogQuery.check(place)
    with open_log(job.id) as log:
        offset = begin_at(log, asked, log.size)
    for _, data in written(job.id, offset, False, wait=follow):
        click.echo(data, nl=False)


def on_a_job(name: str, act: Callable[[Job], Job | None]) -> None:
    @routes.cli.command(name, help=f"{name.capitalize()} a job.")
    @click.argument("job_id", metavar="ID")
    def act_on(job_id: str) -> None:
        job = find(job_id)
        click.echo((act(job) or job).id)


on_a_job("cancel", lambda job: tailboard.storage.cancel(job.id, f"cancelled by {getuser()}"))
on_a_job("rerun", lambda job: run_again(job.id))
on_a_job("delete", lambda job: tailboard.storage.delete(job.id))


@routes.cli.command("workers")
def workers_command() -> None:
    """List the living workers."""
    for info in tailboard.storage.workers():
        queues = ", ".join(info.queues) or "all queues"
        click.echo(f"{info.name}  {info.running} of {info.slots} slots busy  {queues}")
    for machine in tailboard.storage.machines():
        heard = f"heard of at {machine.heard_at}"
        click.echo(f"machine {machine.spool}  {machine.running} running  {machine.state}, {heard}")


@routes.cli.command("mark-lost")
@click.argument("spool")
def mark_lost_command(spool: str) -> None:
    """Give up a machine, by the name of its SPOOL that `workers` shows: its running jobs are lost,
    or queued again where they may be retried. Prints the lost ones."""
    store = tailboard.storage
    if not isinstance(store, storage.RedisStore):
        raise click.ClickException("only machines that share their jobs by Redis can be given up")
    try:
        for job in store.mark_lost(spool, f"its machine {spool} was given up by {getuser()}"):
            click.echo(job.id)
    except ValueError as error:
        raise click.ClickException(str(error)) from None


# --- The application ----------------------------------------------------------------------------


def create_app(config: Mapping[str, Any] | None = None) -> Flask:
    """The application. `config` holds settings that win over the environment's: STORAGE, TOKEN …,
    named as in the README without TAILBOARD_. ValueError where one is unknown or bad."""
    given = {f"TAILBOARD_{name}": str(value) for name, value in (config or {}).items()}
    app = Flask(__name__)
    app.config["MAX_CONTENT_LENGTH"] = 1 << 20  # bytes of a body
    app.json.sort_keys = False  # type: ignore[attr-defined]
    env = {**os.environ, **given}
    app.extensions["tailboard"] = Tailboard(Settings.read(env))
    for name in storage.foreign_settings(env):
        app.logger.warning("ignored variable=%s reason=%r", name, "it is no setting of Tailboard")
    app.register_blueprint(routes)
    return app


def __getattr__(name: str) -> Flask:
    """`app`, for `flask run` and gunicorn; made on use, so that an import makes no folder."""
    if name != "app":
        raise AttributeError(name)
    try:
        return globals().setdefault("app", create_app())  # type: ignore[no-any-return]
    except (OSError, ValueError) as error:
        print(f"api: {error}", file=sys.stderr)
        sys.exit(3)  # gunicorn's word for "do not try again"


# Settings of gunicorn, which reads them here: gunicorn -c python:api api:app
_settings = Settings()
with suppress(ValueError):  # create_app will say what is wrong
    _settings = Settings.read()
bind = _settings.bind
threads = _settings.followers + 16  # for all that does not follow; several mean gthread
accesslog = "-"
access_log_format = '%(h)s "%(m)s %(U)s" %(s)s %(B)s bytes %(M)s ms'  # no query: it holds tickets
control_socket_disable = True
graceful_timeout = 2  # seconds; followers come back


def post_worker_init(worker: Any) -> None:
    """No client keeps a thread by sending or reading nothing, or by vanishing without a word:
    accepted connections inherit this. Nor does one that leaves open what we have ended keep all
    others waiting: gunicorn lingers for its goodbye, up to 2 s, on the thread that accepts."""
    for listener in worker.sockets:
        listener.sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if hasattr(socket, "TCP_KEEPIDLE"):
            listener.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 6 * CLIENT_TIME)
        for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
            listener.sock.setsockopt(socket.SOL_SOCKET, option, struct.pack("ll", CLIENT_TIME, 0))
    close = TConn.close

    def close_elsewhere(connection: Any, graceful: bool = False) -> None:
        try:
            worker.tpool.submit(close, connection, graceful)
        except RuntimeError:  # the server stops
            close(connection)

    TConn.close = close_elsewhere
