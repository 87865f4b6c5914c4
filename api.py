"""The API: jobs and their logs over HTTP.

A route parses, asks the storage once, and answers; errors rise to one handler for each kind and
leave as problem details (RFC 9457). It imports nothing of ours but storage.
"""

from __future__ import annotations

import hmac
import json
import os
import re
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict
from datetime import UTC, datetime
from getpass import getuser
from ipaddress import ip_address
from typing import Annotated, Any, TypeVar

import click
from flask import (
    Blueprint,
    Flask,
    Response,
    current_app,
    g,
    jsonify,
    request,
    stream_with_context,
    url_for,
)
from gunicorn.http.errors import ParseException
from gunicorn.workers.gthread import TConn
from itsdangerous import BadSignature, URLSafeTimedSerializer
from prometheus_client import CollectorRegistry, Counter, Histogram, Metric, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
)
from werkzeug.datastructures import Range, WWWAuthenticate
from werkzeug.exceptions import (
    BadRequest,
    Forbidden,
    HTTPException,
    RequestedRangeNotSatisfiable,
    ServiceUnavailable,
    Unauthorized,
    UnsupportedMediaType,
)

from storage import (
    BLOCK,
    FINISHED,
    ID,
    QUEUE,
    TAIL_BYTES,
    Job,
    JobNotFound,
    Log,
    Settings,
    Status,
    StoragePort,
    WrongState,
    open_storage,
)

MAX_BODY = 1 << 20  # bytes
RETRY_AFTER = 5  # seconds
COUNT_TIME = 0.02  # seconds of a request for counting lines
COUNT_LIMIT = 256 << 20  # bytes of a log whose lines are counted
COUNTED = 1_000  # logs whose lines stay counted
STAMPED = 256 << 10  # bytes at a time that are led by times, which may make 26 of each
FOLLOW_BLOCK = 1 << 16  # bytes of one event
PING = 15.0  # seconds
RECONNECT = 1_000  # milliseconds until a browser comes back
CLIENT_TIME = 10  # seconds for a client to send, or to take, the next bytes
TICKET_AGE = 300  # seconds
METHODS = ("GET", "HEAD", "POST", "DELETE", "OPTIONS")
ACTIVE = (Status.QUEUED, Status.RUNNING)
BEARER = WWWAuthenticate("bearer")
SEARCH_TIME = 2.0  # seconds for one page of matches; as much again to count lines

routes = Blueprint("tailboard", __name__, cli_group=None)


# --- What may come in ---------------------------------------------------------------------------

# Arguments of a program: no NUL, and below the kernel's 128 KiB (MAX_ARG_STRLEN in execve(2)).
Text = Annotated[str, StringConstraints(max_length=30_000, pattern=r"^[^\x00]*$")]
Line = Annotated[str, StringConstraints(max_length=30_000, pattern=r"^[^\x00]*[^\x00\s][^\x00]*$")]
Label = Annotated[Line, StringConstraints(max_length=200)]
QueueName = Annotated[str, StringConstraints(pattern=f"^{QUEUE.pattern}$")]
Variable = Annotated[str, StringConstraints(max_length=200, pattern=r"^[^\x00=]+$")]


def own_names(env: dict[str, str]) -> dict[str, str]:
    if any(name.startswith(("TAILBOARD_", "JOB_ID", "JOB_ATTEMPT", "JOB_STORAGE")) for name in env):
        raise ValueError
    return env


class Submission(BaseModel):
    """The body of POST /jobs. A description says what is allowed: it ends the error's sentence."""

    model_config = ConfigDict(strict=True)

    command: Line | Annotated[list[Text], Field(min_length=1, max_length=1_000)] = Field(
        description="a shell line, or a list of a program and its arguments, "
        "not empty, of up to 30,000 characters each"
    )
    name: Label | None = Field(None, description="text of 1 to 200 characters")
    queue: QueueName = Field("default", description="1 to 32 of the characters a-z 0-9 _ -")
    cwd: Annotated[str, StringConstraints(max_length=4_000, pattern=r"^/[^\x00]*$")] | None = Field(
        None, description="an absolute path"
    )
    env: Annotated[dict[Variable, Text], AfterValidator(own_names)] = Field(
        {}, description="an object of texts, with names other than JOB_… and TAILBOARD_…"
    )
    timeout: Annotated[float, Field(gt=0, le=1e9)] | None = Field(
        None, description="a number of seconds above 0 and up to 1,000,000,000"
    )
    retries: int = Field(0, ge=0, le=100, description="a whole number from 0 to 100")
    submitted_by: Label | None = Field(None, description="text of 1 to 200 characters")


def moment(text: str) -> float:
    """`since` as seconds since 1970: an age such as 30s, or an RFC 3339 time."""
    if found := re.fullmatch(r"([0-9]{1,9})([smhd])", text):
        return time.time() - int(found[1]) * {"s": 1, "m": 60, "h": 3_600, "d": 86_400}[found[2]]
    given = datetime.fromisoformat(text)
    if given.tzinfo is None:
        raise ValueError
    return given.timestamp()


class Listing(BaseModel):
    """The parameters of GET /jobs."""

    status: Status | None = Field(None, description=f"one of {', '.join(Status)}")
    queue: QueueName | None = Field(None, description="1 to 32 of the characters a-z 0-9 _ -")
    q: str = Field("", max_length=200, description="text of up to 200 characters")
    limit: int = Field(50, ge=1, le=500, description="a whole number from 1 to 500")
    before: str | None = Field(None, pattern=f"^{ID.pattern}$", description="the ID of a job")


class LogQuery(BaseModel):
    """The parameters of GET /jobs/ID/logs."""

    tail: int | None = Field(
        None, ge=0, le=1_000_000, description="a whole number of lines from 0 to 1,000,000"
    )
    offset: int | None = Field(None, ge=0, le=1 << 62, description="a whole number of bytes")
    limit_bytes: int = Field(
        256 << 10, ge=1, le=4 << 20, description="a whole number of bytes from 1 to 4,194,304"
    )
    since: Annotated[float, BeforeValidator(moment)] | None = Field(
        None, description="like 30s, 5m, 2h or 1d, or a time like 2026-11-23T18:00:00Z"
    )
    timestamps: bool = Field(False, description="0 or 1")
    follow: bool = Field(False, description="0 or 1")
    download: bool = Field(False, description="0 or 1")
    q: str | None = Field(
        None, min_length=1, max_length=200, pattern=r"^[^\n]+$", description="1 to 200 characters"
    )
    limit: int = Field(100, ge=1, le=1_000, description="a whole number from 1 to 1,000")
    before: int | None = Field(None, ge=0, le=1 << 62, description="a whole number of bytes")
    ticket: str | None = Field(None, description="a ticket of POST /jobs/ID/ticket")


Model = TypeVar("Model", bound=BaseModel)


def check(model: type[Model], data: object) -> Model:
    """The data as the model; 400 with a sentence that names the field and what is allowed."""
    if not isinstance(data, dict):
        raise BadRequest("the body must be a JSON object")
    if unknown := [name for name in data if name not in model.model_fields]:
        known = ", ".join(model.model_fields)
        raise BadRequest(f"there is no field {unknown[0]!r}; the fields are {known}")
    try:
        return model.model_validate({k: v for k, v in data.items() if v is not None})
    except ValidationError as error:
        field = str(error.errors()[0]["loc"][0])
        raise BadRequest(f"{field} must be {model.model_fields[field].description}") from None


# --- Errors -------------------------------------------------------------------------------------


def problem(status: int, title: str, detail: str | None) -> Response:
    """An error as problem details (RFC 9457)."""
    response = jsonify(type="about:blank", title=title, status=status, detail=detail or title)
    response.status_code = status
    response.content_type = "application/problem+json"
    return response


@routes.app_errorhandler(HTTPException)
def http_error(error: HTTPException) -> Response:
    response = problem(error.code or 500, error.name, error.description)
    for name, value in error.get_headers(request.environ):
        if name not in ("Content-Type", "Content-Length"):
            response.headers[name] = value
    return response


@routes.app_errorhandler(JobNotFound)
def not_found(error: JobNotFound) -> Response:
    return problem(404, "Not Found", str(error))


@routes.app_errorhandler(WrongState)
def conflict(error: WrongState) -> Response:
    return problem(409, "Conflict", str(error))


@routes.app_errorhandler(ParseException)
def bad_chunks(_: ParseException) -> Response:
    """What gunicorn finds while a route reads the body."""
    return problem(400, "Bad Request", "the body's chunks are not what they should be")


@routes.app_errorhandler(RecursionError)
def too_deep(_: RecursionError) -> Response:
    return problem(400, "Bad Request", "the body is nested too deeply")


@routes.app_errorhandler(OSError)
def unavailable(error: OSError) -> Response:
    if isinstance(error, BlockingIOError):
        return problem(408, "Request Timeout", "the body did not arrive in time")
    current_app.logger.error("storage: %s", error)
    detail = f"the storage cannot do that now: {error.strerror or 'it failed'}"
    response = problem(503, "Service Unavailable", detail)
    response.headers["Retry-After"] = str(RETRY_AFTER)
    return response


# --- The door -----------------------------------------------------------------------------------

FORWARDING = ("Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Real-Ip")
LOOPBACK = re.compile(r"(localhost|127(\.[0-9]{1,3}){3}|\[::1\])(:[0-9]{1,5})?", re.IGNORECASE)


@routes.before_app_request
def door() -> None:
    """Who may come in: whoever has the token; where there is none, programs of this machine, but
    no web page that makes a browser of this machine ask (DNS rebinding, cross-site requests)."""
    g.begun = time.monotonic()
    origin = request.headers.get("Origin")
    if origin and origin not in (*origins(), request.host_url.rstrip("/")):
        raise Forbidden("requests from another site's page are refused")
    if request.method == "POST" and request.mimetype != "application/json":
        raise UnsupportedMediaType("Content-Type must be application/json")
    if request.path == "/healthz":
        return
    token = settings().token
    if not token:
        if not ip_address(request.remote_addr or "0.0.0.0").is_loopback:
            raise Forbidden("without TAILBOARD_TOKEN only this machine is served")
        if not LOOPBACK.fullmatch(request.headers.get("Host", "")):
            raise Forbidden("without TAILBOARD_TOKEN the Host must be localhost or 127.0.0.1")
        if any(name in request.headers for name in FORWARDING):
            raise Forbidden("without TAILBOARD_TOKEN no proxy may forward requests")
        return
    given = request.headers.get("Authorization", "")
    if not hmac.compare_digest(given.encode(), f"Bearer {token}".encode()) and not has_ticket():
        raise Unauthorized("the token is missing or wrong", www_authenticate=BEARER)


def has_ticket() -> bool:
    """Is this a read of the log that a valid ticket is for? A browser's EventSource and its
    download links cannot send headers."""
    if request.endpoint != "tailboard.logs" or "ticket" not in request.args:
        return False
    try:
        job_id = tickets().loads(request.args["ticket"], max_age=TICKET_AGE)
    except BadSignature:
        return False
    return bool(job_id == (request.view_args or {}).get("job_id"))


def tickets() -> URLSafeTimedSerializer:
    return URLSafeTimedSerializer(settings().token, salt="tailboard log ticket")


@routes.post("/jobs/<job_id>/ticket")
def ticket(job_id: str) -> tuple[dict[str, Any], int]:
    """A ticket, for a few minutes, for reading this one log."""
    job = storage().get(job_id)
    return {"ticket": tickets().dumps(job.id), "expires_in": TICKET_AGE}, 201


def origins() -> list[str]:
    return [origin.strip().rstrip("/") for origin in settings().dashboard.split(",")]


@routes.after_app_request
def harden(response: Response) -> Response:
    """Nothing here is a page, and only the dashboard's own page may read it from a browser."""
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["X-Frame-Options"] = "DENY"
    response.headers["Content-Security-Policy"] = "default-src 'none'; frame-ancestors 'none'"
    response.vary.add("Origin")
    route, found = str(request.url_rule or "none"), current_app.extensions["metrics"]
    method = request.method if request.method in METHODS else "other"
    times = found.requests.labels(method, route, response.status_code)
    times.observe(time.monotonic() - g.begun)
    if (origin := request.headers.get("Origin")) in origins():
        response.headers["Access-Control-Allow-Origin"] = origin
        response.headers["Access-Control-Expose-Headers"] = "*"
    return response


# --- Routes -------------------------------------------------------------------------------------


def storage() -> StoragePort:
    found: StoragePort = current_app.extensions["storage"]
    return found


def settings() -> Settings:
    found: Settings = current_app.extensions["settings"]
    return found


@routes.post("/jobs")
def submit() -> tuple[dict[str, Any], int, dict[str, str]]:
    job = Job(**check(Submission, request.get_json()).model_dump())
    key = request.headers.get("Idempotency-Key")
    return created(storage().submit(job, key))


def created(job: Job) -> tuple[dict[str, Any], int, dict[str, str]]:
    return job.as_dict(), 201, {"Location": url_for("tailboard.show", job_id=job.id)}


@routes.get("/jobs")
def index() -> Response:
    asked = check(Listing, request.args.to_dict())
    jobs, following = storage().list(asked.status, asked.queue, asked.q, asked.limit, asked.before)
    counts = storage().counts()
    answer = jsonify(jobs=[job.as_dict() for job in jobs], next=following, counts=counts)
    answer.add_etag()
    answer.make_conditional(request)
    return answer


@routes.get("/jobs/<job_id>")
def show(job_id: str) -> dict[str, Any]:
    return storage().get(job_id).as_dict()


@routes.post("/jobs/<job_id>/cancel")
def cancel(job_id: str) -> tuple[dict[str, Any], int]:
    return storage().cancel(job_id, "cancelled through the API").as_dict(), 202


@routes.post("/jobs/<job_id>/rerun")
def rerun(job_id: str) -> tuple[dict[str, Any], int, dict[str, str]]:
    return created(run_again(storage().get(job_id)))


def run_again(old: Job) -> Job:
    asked = {name: getattr(old, name) for name in Submission.model_fields}
    return storage().submit(Job(**check(Submission, asked).model_dump(), rerun_of=old.id))


@routes.delete("/jobs/<job_id>")
def delete(job_id: str) -> tuple[str, int]:
    storage().delete(job_id)
    return "", 204


# --- Logs on the wire ---------------------------------------------------------------------------


@routes.get("/jobs/<job_id>/logs")
def logs(job_id: str) -> Response:
    """A job's log: its end, a part, all of it, what matches, or what comes."""
    asked = check(LogQuery, request.args.to_dict())
    places = [n for n in ("tail", "offset", "since", "q") if getattr(asked, n) is not None]
    if len(places) > 1:
        raise BadRequest(f"{places[0]} and {places[1]} exclude each other")
    job = storage().get(job_id)  # before the log's size, so that the last lines are not missed
    if asked.follow:
        return follow(job, asked)
    if asked.download:
        return download(job)
    with open_log(job_id) as log:
        return part(job, log, asked) if asked.q is None else found(log, asked.q, asked)


def open_log(job_id: str) -> Log:
    """The log; an empty one where a known job has logged nothing yet."""
    try:
        return storage().open_log(job_id)
    except FileNotFoundError:
        return Log(os.devnull)


def begin_at(log: Log, asked: LogQuery, size: int) -> int:
    """Where the answer begins; 416 past the end."""
    if asked.offset is not None:
        if asked.offset > size:
            raise RequestedRangeNotSatisfiable(
                description=f"offset must be at most {size}, the size of the log"
            )
        return asked.offset
    if asked.since is not None:
        return min(size, log.since(asked.since))
    most = STAMPED if asked.timestamps else TAIL_BYTES
    return log.tail(1000 if asked.tail is None else asked.tail, size, most)


def log_headers(job: Job, log: Log, begin: int, end: int, size: int) -> dict[str, str]:
    return {
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
    etag = f"{job.id}.{job.attempt}.{job.status}.{size}.{log.start}"
    if request.if_none_match.contains(etag):
        response = Response(status=304)
    else:
        begin = begin_at(log, asked, size)
        by_lines = asked.offset is None and asked.since is None
        limit = size - begin if by_lines else min(asked.limit_bytes, size - begin)
        limit = min(limit, STAMPED) if asked.timestamps else limit
        begin, data = log.read(begin, limit)
        cut = begin + len(data) < size
        held = half_character(data) if cut or job.status not in FINISHED else 0
        if held < len(data) or not cut:  # else not even one character fits into the limit
            data = data[: len(data) - held]
        headers = log_headers(job, log, begin, begin + len(data), size)
        if by_lines and (lines := count_lines(job.id, log, size)) is not None:
            headers["X-Log-Lines"] = str(lines)
        text = log.stamp(begin, data) if asked.timestamps else data
        response = Response(text, headers=headers, mimetype="text/plain")
    response.set_etag(etag)
    return response


def count_lines(job_id: str, log: Log, size: int) -> int | None:
    """How many lines the log has; None where its head is gone, it is too large, or until a few
    requests have counted on from where the last one stopped."""
    counted: dict[str, tuple[int, int]] = current_app.extensions["lines"]
    at, lines = counted.pop(job_id, (0, 0))
    if log.start > 0 or size > COUNT_LIMIT:
        return None
    at, more = log.count_lines(at, size, time.monotonic() + COUNT_TIME)
    counted[job_id] = at, lines + more
    while len(counted) > COUNTED:
        counted.pop(next(iter(counted)), None)
    unfinished = size > 0 and log.read(size - 1, 1)[1] != b"\n"
    return lines + more + unfinished if at == size else None


def half_character(data: bytes) -> int:
    """How many bytes at the end are the beginning of a UTF-8 character whose rest may follow."""
    for back in range(1, min(3, len(data)) + 1):
        if (byte := data[-back]) >= 0xC0:
            length = 2 + (byte >= 0xE0) + (byte >= 0xF0)
            return back if back < length and byte < 0xF5 else 0
        if byte < 0x80:
            break
    return 0


def found(log: Log, text: str, asked: LogQuery) -> Response:
    """The lines that hold a text, newest first. `line` counts from 1; null where it is not known:
    the head of the log is gone, or counting took too long."""
    deadline = time.monotonic() + SEARCH_TIME
    size = log.size
    before = size if asked.before is None else min(asked.before, size)
    hits, following = log.search(text.encode(), before, asked.limit, deadline)
    matches: list[dict[str, Any]] = []
    at, line = 0, 1
    for offset, excerpt in reversed(hits):
        if log.start == 0:
            at, more = log.count_lines(at, offset, deadline + SEARCH_TIME)
            line += more
        number, shown = line if at == offset else None, excerpt.decode(errors="replace")
        matches.append({"offset": offset, "line": number, "text": shown})
    return jsonify(matches=matches[::-1], next=following)


def download(job: Job) -> Response:
    """The whole log as a file, or a Range of it; one that still grows, as far as it has got."""
    log = open_log(job.id)
    start, size = log.start, log.size
    length = size - start
    begin, end, status = 0, length, 200
    asked = request.range
    if asked and asked.units == "bytes" and "If-Range" not in request.headers:
        first, last = asked.ranges[0]  # of several, the first is sent
        wanted = Range("bytes", [(max(first, -length), last)]).range_for_length(length)
        if wanted is None:
            log.close()
            raise RequestedRangeNotSatisfiable(length)
        (begin, end), status = wanted, 206
    headers = log_headers(job, log, start + begin, start + end, size) | {
        "Content-Disposition": f"attachment; filename={job.id}.log",
        "Accept-Ranges": "bytes",
        "Content-Length": str(end - begin),
    }
    if status == 206:
        headers["Content-Range"] = f"bytes {begin}-{end - 1}/{length}"
    response = Response(blocks(log, start + begin, start + end), status, headers, "text/plain")
    response.call_on_close(log.close)
    return response


def blocks(log: Log, at: int, end: int) -> Iterator[bytes]:
    """The bytes of a log; as many as were promised, even if its head is given back meanwhile."""
    while at < end:
        begin, data = log.read(at, min(BLOCK, end - at))
        yield (data := bytes(min(BLOCK, begin - at, end - at)) or data)
        at += len(data)


# --- Following a log ----------------------------------------------------------------------------


def follow(job: Job, asked: LogQuery) -> Response:
    """The log from where it is asked for, then what is written, until the job has ended."""
    events = "text/event-stream" in request.headers.get("Accept", "")
    if (last := request.headers.get("Last-Event-ID")) is not None:
        asked = check(LogQuery, {"offset": last, "timestamps": asked.timestamps})
    with open_log(job.id) as log:
        size = log.size
        begin = begin_at(log, asked, size)
        headers = log_headers(job, log, begin, begin, size) | {"X-Accel-Buffering": "no"}
    places: threading.Semaphore = current_app.extensions["followers"]
    if not places.acquire(blocking=False):
        raise ServiceUnavailable("no more followers are admitted now", retry_after=RETRY_AFTER)
    # The connection tells at once that the client has closed it, also while nothing is sent.
    client = request.environ.get("gunicorn.socket", request.environ.get("werkzeug.socket"))
    follower = Follower(job.id, begin, asked.timestamps, client)
    chunks, kind = (follower.events(), "event-stream") if events else (follower.text(), "plain")
    response = Response(stream_with_context(chunks), headers=headers, mimetype=f"text/{kind}")
    response.call_on_close(places.release)
    return response


class Follower:
    """Reads a log as it grows, until its job has ended or the client is gone."""

    def __init__(
        self, job_id: str, offset: int, timestamps: bool, client: socket.socket | None = None
    ) -> None:
        self.job_id, self.offset, self.timestamps = job_id, offset, timestamps
        self.others = [client.fileno()] if client else []

    def chunks(self) -> Iterator[bytes]:
        """What is written, as it is written; b"" when a while has gone by. ConnectionError when
        the client is gone, JobNotFound when the job is."""
        watch, log = storage().watch(self.job_id), open_log(self.job_id)
        try:
            while True:
                ended = storage().status(self.job_id) in FINISHED  # before the log's size
                if self.offset == 0:  # perhaps it had no log when we opened it
                    log.close()
                    log = open_log(self.job_id)
                while data := self.read(log, ended):
                    yield data
                if ended:
                    return
                if watch.wait(PING, *self.others):
                    raise ConnectionAbortedError
                yield b""
        finally:
            watch.close()
            log.close()

    def read(self, log: Log, ended: bool) -> bytes:
        begin, data = log.read(self.offset, FOLLOW_BLOCK)
        if not ended or len(data) == FOLLOW_BLOCK:
            data = data[: len(data) - half_character(data)]
        self.offset = begin + len(data)
        return log.stamp(begin, data) if self.timestamps else data

    def read_now(self) -> bytes:
        """The next block of what is there."""
        with open_log(self.job_id) as log:
            return self.read(log, ended=True)

    def text(self) -> Iterator[bytes]:
        yield b""  # so that the headers leave at once
        with suppress(ConnectionError, JobNotFound):
            yield from filter(None, self.chunks())

    def events(self) -> Iterator[str]:
        """Server-sent events: `data` is a JSON string, for log text holds \\r and \\n; `id` is the
        offset to resume from; the event `end` carries the job."""
        yield f"retry: {RECONNECT}\n\n"
        told = time.monotonic()
        with suppress(ConnectionError, JobNotFound):
            for data in self.chunks():
                if data:
                    text = json.dumps(data.decode(errors="replace"), ensure_ascii=False)
                    yield f"id: {self.offset}\ndata: {text}\n\n"
                elif time.monotonic() - told < PING - 1:
                    continue
                else:
                    yield ": ping\n\n"
                told = time.monotonic()
            job = json.dumps(storage().get(self.job_id).as_dict())
            yield f"event: end\nid: {self.offset}\ndata: {job}\n\n"


# --- Workers and health -------------------------------------------------------------------------


@routes.get("/workers")
def list_workers() -> dict[str, Any]:
    return {"workers": [asdict(info) for info in storage().workers()]}


@routes.get("/healthz")
def healthz() -> tuple[dict[str, Any], int]:
    """200, or 503 with a reason: nothing can be written, or jobs wait that no worker serves."""
    waiting, alive = storage().waiting(), storage().workers()
    served = [q for q in waiting if any(not w.queues or q in w.queues for w in alive)]
    reason = None
    if unserved := [queue for queue in waiting if queue not in served]:
        reason = f"jobs wait in {', '.join(unserved)}, and no worker serves that"
    try:
        storage().check()
    except OSError as error:
        reason = f"the storage cannot be written: {error.strerror}"
    age = max((age_of(names[0]) for names in waiting.values()), default=None)
    body = {"status": "unhealthy" if reason else "ok", "reason": reason, "workers": len(alive)}
    return body | {"oldest_queued_seconds": age}, 503 if reason else 200


def age_of(job_id: str) -> float:
    """Seconds since a job was submitted, by its ID."""
    then = datetime.strptime(job_id[:15], "%Y%m%d-%H%M%S").replace(tzinfo=UTC)
    return max(0.0, time.time() - then.timestamp())


class Metrics(Collector):
    """What Prometheus is told: counted from the storage at each scrape, but for the histograms,
    which begin with this process."""

    def __init__(self, storage: StoragePort) -> None:
        self.storage, self.registry = storage, CollectorRegistry()
        buckets = (1, 5, 15, 60, 300, 900, 3_600, 14_400, 86_400)
        self.seconds = Histogram(
            "tailboard_job_seconds",
            "From start to end of jobs.",
            ["status"],
            buckets=buckets,
            registry=self.registry,
        )
        self.requests = Histogram(
            "tailboard_request_seconds",
            "Until the answer began.",
            ["method", "route", "status"],
            registry=self.registry,
        )
        self.log_bytes = Counter(
            "tailboard_log_bytes", "Log bytes of jobs that ended.", registry=self.registry
        )
        self.seen = set(storage.ids())
        self.seen -= {job.id for s in ACTIVE for job in storage.list(s, limit=1_000_000)[0]}
        self.registry.register(self)

    def describe(self) -> list[Metric]:
        return []  # so that registering does not collect

    def collect(self) -> Iterator[Metric]:
        for job in self.storage.endings(self.seen):
            self.log_bytes.inc(job.log_size)
            with suppress(ValueError, TypeError):  # not every end has a beginning
                begun, end = map(
                    datetime.fromisoformat, (str(job.started_at), str(job.finished_at))
                )
                self.seconds.labels(job.status).observe((end - begun).total_seconds())
        jobs = GaugeMetricFamily("tailboard_jobs", "Jobs by status.", labels=["status"])
        ended = CounterMetricFamily("tailboard_jobs_ended", "Ended so ever.", labels=["status"])
        for family, counts in ((jobs, self.storage.counts()), (ended, self.storage.ended())):
            for status, count in counts.items():
                family.add_metric([status], count)
        depth = GaugeMetricFamily("tailboard_queue_jobs", "Jobs that wait.", labels=["queue"])
        age = GaugeMetricFamily("tailboard_queue_oldest_seconds", "Its age.", labels=["queue"])
        for queue, names in self.storage.waiting().items():
            depth.add_metric([queue], len(names))
            age.add_metric([queue], age_of(names[0]))
        alive = self.storage.workers()
        yield from (jobs, ended, depth, age)
        yield GaugeMetricFamily("tailboard_workers", "Workers alive.", len(alive))
        yield GaugeMetricFamily("tailboard_slots", "Slots of all.", sum(w.slots for w in alive))
        busy = sum(w.running for w in alive)
        yield GaugeMetricFamily("tailboard_slots_busy", "Slots that run a job.", busy)


@routes.get("/metrics")
def metrics() -> Response:
    found: Metrics = current_app.extensions["metrics"]
    return Response(generate_latest(found.registry), mimetype="text/plain")


# --- In a terminal: flask submit, jobs, logs … on the storage itself, so that no API need run -----


command: Callable[..., Callable[[Callable[..., None]], click.Command]] = routes.cli.command


class Command(click.Command):
    """Says what went wrong in one sentence and ends with exit code 1."""

    def invoke(self, context: click.Context) -> Any:
        try:
            return super().invoke(context)
        except HTTPException as error:
            raise click.ClickException(error.description or error.name) from None
        except BrokenPipeError:  # `flask jobs | head`: click knows what to do
            raise
        except (JobNotFound, WrongState, OSError) as error:
            raise click.ClickException(str(error)) from None


def find(part: str) -> Job:
    """The job whose ID starts or ends with this."""
    found = [i for i in storage().ids() if i.startswith(part) or i.endswith(part)] if part else []
    if len(found) != 1:
        raise click.ClickException(
            f"{len(found) or 'no'} jobs have an ID that starts or ends with {part!r}"
        )
    return storage().get(found[0])


def print_log(job: Job, offset: int, follow: bool) -> int:
    """The log from an offset on; the job's exit code, if it is followed to its end."""
    follower = Follower(job.id, offset, False)
    chunks: Iterable[bytes] = follower.text() if follow else iter(follower.read_now, b"")
    for data in chunks:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    code = storage().get(job.id).exit_code
    return 1 if code is None else code


@command("submit", cls=Command)
@click.argument("line", metavar="COMMAND")
@click.option("--name")
@click.option("--queue")
@click.option("--cwd", type=click.Path(resolve_path=True), help="The folder to run in.")
@click.option("--env", multiple=True, metavar="K=V", help="May be given several times.")
@click.option("--timeout", type=float, help="Seconds.")
@click.option("--retries", type=int)
@click.option("--follow", is_flag=True, help="Print the log; exit with the job's exit code.")
@click.pass_context
def submit_command(
    context: click.Context, /, line: str, env: tuple[str, ...], follow: bool, **given: Any
) -> None:
    """Queue COMMAND, a shell line (-: a script from standard input), and print its ID."""
    if bad := [pair for pair in env if "=" not in pair]:
        raise click.ClickException(f"--env must be NAME=VALUE, and {bad[0]!r} is not")
    if line == "-":
        line = sys.stdin.read()
    variables = dict(pair.split("=", 1) for pair in env)
    asked = {"command": line, "env": variables, "submitted_by": getuser(), **given}
    job = storage().submit(Job(**check(Submission, asked).model_dump()))
    click.echo(job.id, err=follow)
    if follow:
        context.exit(print_log(job, 0, True))


@command("jobs", cls=Command)
@click.option("--status", type=click.Choice([str(status) for status in Status]))
@click.option("--limit", type=click.IntRange(1, 500), default=20, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def jobs_command(status: str | None, limit: int, as_json: bool) -> None:
    """List jobs, newest first."""
    for job in storage().list(Status(status) if status else None, limit=limit)[0]:
        if as_json:
            click.echo(json.dumps(job.as_dict()))
        else:
            code = "" if job.exit_code is None else job.exit_code
            title = " ".join((job.name or str(job.command)).split())
            click.echo(f"{job.id}  {job.status:9}  {code!s:>3}  {title[:80]}")


@command("logs", cls=Command)
@click.argument("job_id", metavar="ID")
@click.option("-f", "--follow", is_flag=True, help="Go on until the job has ended.")
@click.option("--tail", metavar="N", help="The last N lines (default: 1000).")
@click.option("--since", metavar="AGE", help="Like 30s, 5m, or a time.")
def logs_command(job_id: str, follow: bool, tail: str | None, since: str | None) -> None:
    """Print a job's log."""
    job = find(job_id)
    asked = check(LogQuery, {"tail": tail, "since": since})
    with open_log(job.id) as log:
        offset = begin_at(log, asked, log.size)
    print_log(job, offset, follow)


def on_a_job(name: str, act: Callable[[Job], str]) -> None:
    @command(name, cls=Command, help=f"{name.capitalize()} a job.")
    @click.argument("job_id", metavar="ID")
    def act_on(job_id: str) -> None:
        click.echo(act(find(job_id)))


def delete_job(job: Job) -> str:
    storage().delete(job.id)
    return job.id


on_a_job("cancel", lambda job: storage().cancel(job.id, f"cancelled by {getuser()}").id)
on_a_job("rerun", lambda job: run_again(job).id)
on_a_job("delete", delete_job)


@command("workers", cls=Command)
def workers_command() -> None:
    """List the living workers."""
    for info in storage().workers():
        queues = ", ".join(info.queues) or "all queues"
        click.echo(f"{info.name}  {info.running} of {info.slots} slots busy  {queues}")


# --- The application ----------------------------------------------------------------------------


def create_app(config: Mapping[str, Any] | None = None) -> Flask:
    """The application. `config` holds settings that win over the environment's: STORAGE, TOKEN …,
    named as in the README without TAILBOARD_. ValueError where one is unknown or bad."""
    given = {f"TAILBOARD_{name}": str(value) for name, value in (config or {}).items()}
    app = Flask(__name__)
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY
    app.json.sort_keys = False  # type: ignore[attr-defined]
    settings = app.extensions["settings"] = Settings.read({**os.environ, **given})
    app.extensions["storage"] = open_storage(settings.storage)
    app.extensions["followers"] = threading.Semaphore(settings.followers)
    app.extensions["lines"] = {}
    app.extensions["metrics"] = Metrics(app.extensions["storage"])
    app.register_blueprint(routes)
    return app


def __getattr__(name: str) -> Flask:
    """`app`, for `flask run` and gunicorn; made on use, so that an import makes no folder."""
    if name != "app":
        raise AttributeError(name)
    try:
        globals()["app"] = create_app()
    except (OSError, ValueError) as error:
        print(f"api: {error}", file=sys.stderr)
        sys.exit(3)  # gunicorn's word for "do not try again"
    return globals()["app"]  # type: ignore[no-any-return]


# --- Settings of gunicorn, which reads them here: gunicorn -c python:api api:app ------------------

try:
    _settings = Settings.read()
except ValueError:  # create_app will say what is wrong
    _settings = Settings()
bind = _settings.bind
worker_class = "gthread"
threads = _settings.followers + 16  # for all that does not follow
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
