"""The API: jobs and their logs over HTTP.

A route parses, asks the storage once, and answers; errors rise to a handler for their class and
leave as problem details (RFC 9457). It imports nothing of ours but storage.
"""

from __future__ import annotations

import asyncio
import codecs
import contextvars
import ctypes
import errno
import fcntl
import hashlib
import heapq
import hmac
import io
import json
import logging
import os
import re
import resource
import secrets
import shutil
import socket
import stat
import sys
import threading
import time
import unicodedata
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from datetime import datetime
from difflib import get_close_matches
from enum import StrEnum
from getpass import getuser
from http import HTTPStatus
from ipaddress import ip_address
from itertools import islice, takewhile, zip_longest
from typing import Annotated, Any, Literal, NamedTuple, Self
from urllib.parse import unquote_to_bytes
from zoneinfo import ZoneInfo

import click
import psutil
from flask import Blueprint, Flask, Response, abort, current_app, g, request, stream_with_context
from flask.cli import with_appcontext
from granian import Granian
from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings
from granian.log import LogLevels
from granian.server.common import AbstractServer
from itsdangerous import BadSignature, URLSafeTimedSerializer
from prometheus_client import (
    CollectorRegistry,
    Counter,
    GCCollector,
    Histogram,
    Metric,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
)
from werkzeug.exceptions import (
    BadRequest,
    Conflict,
    HTTPException,
    MethodNotAllowed,
    NotFound,
    RequestedRangeNotSatisfiable,
    RequestEntityTooLarge,
    RequestTimeout,
    ServiceUnavailable,
    UnprocessableEntity,
)
from werkzeug.routing import Rule

import storage
from tailboard import workers
from tailboard.cron import CRON_FORM, ZONE_FORM
from tailboard.errors import JobNotFound, KeyReused, StoreError, StoreUnreachable, WrongState
from tailboard.files import read_small, replace_file
from tailboard.folder.access import check_private
from tailboard.folder.saved_files import ID_RE
from tailboard.job import MAX_RETRY_DELAY, WIRE, Job
from tailboard.keys import own_key
from tailboard.logs import TAIL_BYTES, EmptyLog, Log
from tailboard.machines.redis_link import is_redis
from tailboard.machines.redis_store import RedisStore
from tailboard.saved_command import (
    DEFINITION,
    MAX_PARAMS,
    PARAM_RE,
    SAVED_NAMES,
    Param,
    SavedCommand,
    check_room,
    encode_command,
)
from tailboard.schedules import Schedule, next_time
from tailboard.settings import RepeatedErrors, Settings, foreign_settings, start_logging
from tailboard.status import FINISHED, Status
from tailboard.values import (
    CONTROL_RE,
    QUEUE_NAMES,
    QUEUE_RE,
    RESOURCE_ERRNOS,
    age_of,
    check_queue,
    first_id,
    parse_time,
    utc,
)
from tailboard.workers import Machine, Pause, WorkerInfo

COUNT_TIME = 0.02  # seconds of a request for counting lines
COUNT_LIMIT = 256 << 20  # bytes whose lines are counted
LINE_COUNT_CACHE_SIZE = 1_000  # logs whose lines stay counted
LINE_NUMBER_TIME = 0.1  # seconds of a request for counting the lines before its first
COUNT_BLOCK = 1 << 20  # bytes at a time in which matches are counted
GREP_BYTES = 256 << 20  # of logs, searched for one answer
GREP_JOB_BYTES = 1 << 30  # the newest bytes of one log that are searched with all others
GREP_STEP = 100  # jobs listed at a time
GREP_COMMAND_TIME = 0.5  # seconds until `flask grep` prints what it has found
GREP_COMMAND_LINES = 1_000  # and no more lines than this
TURN_WAIT = 2.5  # seconds for which a search waits for its turn; the page waits 5 for an answer
BULK_TIME = 2.0  # seconds for finding the jobs that many are to be rerun, cancelled or deleted of
BULK_LIMIT = 2_000  # of these jobs in one answer
BULK_STEP = 500  # jobs listed at a time
SEARCH_TIME = 2.0  # seconds for one page of matches; as much again to count lines
MAX_TIMESTAMPED_BYTES = 256 << 10  # of a log, with times: these may make 26 bytes of each
BLOCK = 1 << 16  # bytes of a download's block, and of one event
KEEPALIVE_INTERVAL = 5.0  # seconds; a follower that is gone is noticed when something is sent to it
RECONNECT = 1_000  # milliseconds until a browser comes back
TICKET_AGE = 600  # seconds
ANY_LOG = "*"  # what a ticket for all logs is for; no job has this ID
MAX_BODY_BYTES = 1 << 20
MAX_ENV_BYTES = 64 << 10
MAX_AHEAD = 366 * 86_400  # seconds for which a job may be put off
MAX_SEARCHES = 2  # of long logs at a time
MAX_WAITING_SEARCHES = 12  # for their turn; each holds a thread
LONG_LOG_BYTES = 1 << 20  # shorter ones are searched in milliseconds
RECENT_FINISHED = 2_000  # IDs of ended jobs that the metrics remember
BUCKETS = (1, 5, 15, 60, 300, 900, 3_600, 14_400, 86_400)  # seconds
routes = Blueprint("tailboard", __name__, cli_group=None)


class CannotStart(click.ClickException):
    """The settings or the jobs folder cannot be used, or the routes do not match OPERATIONS. The
    message is one sentence that says why; `flask` and `python api.py` print it."""


class OutageLog:
    """Logs once a minute that the storage cannot be reached, and not for each request and follower
    that it fails."""

    INTERVAL = 60.0  # seconds

    def __init__(self) -> None:
        self.next_at = 0.0  # on the monotonic clock

    def report(self, error: OSError) -> None:
        now = time.monotonic()
        if now >= self.next_at:
            self.next_at = now + self.INTERVAL
            logging.getLogger("tailboard").error("storage: %s (logged once a minute)", error)


class Access(StrEnum):
    """What a request to a route must present if the settings have a token. Without a token in the
    settings, OPEN still serves everybody, and the others serve programs of the API's own machine.
    """

    OPEN = "nobody is asked"  # anyone who can connect is served
    TICKET_OR_TOKEN = "ticket or token"  # a ticket for the job in the path, or for all logs
    TOKEN = "token"  # the shared one, or a named one


class AppState:
    """The state of one application, and the metrics that it reports to Prometheus."""

    def __init__(self, settings: Settings, access: Mapping[str, Access]) -> None:
        self.settings = settings
        self.access = access  # by the endpoints of the routes, from OPERATIONS
        self.store: storage.Store = storage.open_store(settings.storage, settings.unreachable)
        self.followers = threading.Semaphore(settings.followers)
        self.searches = SearchTurns()
        self.outages = OutageLog()
        self.tokens = TokenFile(settings.tokens)
        # Empty: a page may read logs only with a ticket for its own origin.
        self.origins = settings.dashboard.split(",") if settings.dashboard else []
        self.lines: dict[str, tuple[int, int]] = {}  # job ID -> (offset, lines that end before it)
        self.finished = FinishedJobs(self.store)
        self.counting = threading.Lock()  # so that two scrapes at once count no job twice
        self.registry = CollectorRegistry()  # its numbers begin with this process
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self.registry)
        self.job_seconds = Histogram(
            "tailboard_job_seconds",
            "Start to end.",
            ["status"],
            buckets=BUCKETS,
            registry=self.registry,
        )
        self.request_seconds = Histogram(
            "tailboard_request_seconds",
            "Until the answer began.",
            ["method", "route", "status"],
            registry=self.registry,
        )
        self.log_bytes = Counter(
            "tailboard_log_bytes", "Log bytes of jobs that ended.", registry=self.registry
        )
        with suppress(StoreUnreachable):  # it starts all the same, and says so
            self.store.check()
            self.finished.start()

    def count_finished(self) -> None:
        """Count the jobs that have ended since the last scrape."""
        with self.counting:
            for job in self.finished.iter_new():
                self.log_bytes.inc(job.log_size)
                with suppress(ValueError, TypeError):  # not every end has a beginning
                    begun = datetime.fromisoformat(str(job.started_at))
                    lasted = datetime.fromisoformat(str(job.finished_at)) - begun
                    self.job_seconds.labels(job.status).observe(lasted.total_seconds())

    def collect(self) -> Iterator[Metric]:
        """The metrics. Those of the storage are counted anew at each scrape."""
        self.count_finished()
        yield from self.registry.collect()
        jobs = GaugeMetricFamily("tailboard_jobs", "Jobs by status.", labels=["status"])
        ended = CounterMetricFamily("tailboard_jobs_ended", "Ended so ever.", labels=["status"])
        for family, counts in (
            (jobs, self.store.counts()),
            (ended, self.store.finished_totals()),
        ):
            for status, count in counts.items():
                family.add_metric([status], count)
        depth = GaugeMetricFamily("tailboard_queue_jobs", "Jobs that wait.", labels=["queue"])
        age = GaugeMetricFamily("tailboard_queue_oldest_seconds", "Its age.", labels=["queue"])
        for queue, names in self.store.queued_by_queue().items():
            depth.add_metric([queue], len(names))
            age.add_metric([queue], age_of(names[0]))
        paused = GaugeMetricFamily("tailboard_queue_paused", "1: it is.", labels=["queue"])
        for pause in self.store.pauses.list():
            paused.add_metric([pause.queue], 1)
        yield from (jobs, ended, depth, age, paused)
        alive = self.store.workers()
        slots, busy = sum(w.slots for w in alive), sum(w.running for w in alive)
        yield GaugeMetricFamily("tailboard_workers", "Workers alive.", len(alive))
        yield GaugeMetricFamily("tailboard_slots", "Slots of all.", slots)
        yield GaugeMetricFamily("tailboard_slots_busy", "Slots that run a job.", busy)


class FinishedJobs:
    """Finds each job that ends after `start`, once.

    IDs sort by the time of submission, so a job that has just ended either has one of the highest
    IDs or was unfinished at the last look. Only these IDs are remembered: memory and the time of
    a look depend on the number of unfinished jobs, not on the history. An old job that is put back
    by hand (from a backup, say) is not new."""

    def __init__(self, store: storage.Store) -> None:
        self.store = store
        self.has_started = False
        self.unfinished: set[str] = set()  # IDs at the last look
        self.known: set[str] = set()  # IDs of jobs that have ended, RECENT_FINISHED at most
        # Each job that ended before the last look and has this ID, or a higher one, is known.
        self.mark = ""

    def start(self) -> None:
        """Take the jobs that have ended so far as known. Reads names, but no record."""
        unfinished = self.store.unfinished_ids()  # first: a job that ends now is then in both
        self.known = set(islice(self.store.iter_finished_ids(), RECENT_FINISHED))
        self.unfinished = unfinished - self.known
        if len(self.known) == RECENT_FINISHED:
            self.mark = min(self.known)
        self.has_started = True

    def iter_new(self) -> Iterator[Job]:
        """The jobs that have ended since the last call; those deleted in between are left out."""
        if not self.has_started:  # Redis was away
            self.start()
        unfinished = self.store.unfinished_ids()
        recent = set(takewhile(lambda job_id: job_id >= self.mark, self.store.iter_finished_ids()))
        left = self.unfinished - unfinished - recent
        for job in self.store.get_many(sorted((recent - self.known) | left)):
            if job.status in FINISHED:
                self.known.add(job.id)
                self.unfinished.discard(job.id)
                yield job
            else:  # it moved from one folder to another while they were listed
                unfinished.add(job.id)
        self.unfinished = unfinished - recent
        self._forget_old()

    def _forget_old(self) -> None:
        if len(self.known) > RECENT_FINISHED:
            newest = sorted(self.known)[-RECENT_FINISHED:]
            self.mark, self.known = newest[0], set(newest)


class Searcher(NamedTuple):
    """The sender of a search: the owner of a named token, or a visitor's address and the address of
    the connection, which may be that of a proxy or of the page."""

    peer: str
    visitor: str


class WaitingSearch:
    """A search that waits for its turn."""

    def __init__(self, searcher: Searcher) -> None:
        self.searcher = searcher
        self.is_refused = False


class SearchTurns:
    """The searches of long logs: a few run at a time, since each keeps a processor and the disk
    busy for seconds, and a few wait. The searcher with the fewest running searches is next, counted
    by peer first: only our own proxy can be trusted when it names visitors."""

    def __init__(self) -> None:
        self.running: list[Searcher] = []
        self.waiting: list[WaitingSearch] = []  # the longest first
        self.changed = threading.Condition()

    @contextmanager
    def turn(self, searcher: Searcher) -> Iterator[None]:
        """Wait for a turn and hold it; 503 if none is free within TURN_WAIT, or if too many others
        wait."""
        with self.changed:
            self._wait(WaitingSearch(searcher))
            self.running.append(searcher)
        try:
            yield
        finally:
            with self.changed:
                self.running.remove(searcher)
                self.changed.notify_all()

    def _wait(self, waiter: WaitingSearch) -> None:
        self.waiting.append(waiter)
        self._refuse_excess()
        try:
            self.changed.wait_for(lambda: waiter.is_refused or self._is_next(waiter), TURN_WAIT)
            if waiter.is_refused or not self._is_next(waiter):
                abort(503, "too many log searches are running; try again in a few seconds")
        finally:
            self.waiting.remove(waiter)
            self.changed.notify_all()  # another one may be next

    def _is_next(self, waiter: WaitingSearch) -> bool:
        if len(self.running) >= MAX_SEARCHES:
            return False
        accepted = [other for other in self.waiting if not other.is_refused]
        return waiter is min(accepted, key=lambda other: self._share(other, self.running))

    def _refuse_excess(self) -> None:
        """If too many searches wait, refuse the newest one of the searcher with the most."""
        accepted = [other for other in self.waiting if not other.is_refused]
        if len(accepted) > MAX_WAITING_SEARCHES:
            searchers = [other.searcher for other in accepted]
            newest_first = reversed(accepted)
            max(newest_first, key=lambda other: self._share(other, searchers)).is_refused = True
            self.changed.notify_all()

    @staticmethod
    def _share(waiter: WaitingSearch, searchers: Sequence[Searcher]) -> tuple[int, int]:
        """How many of these have the same peer, and how many are of the same searcher."""
        peers = [searcher.peer for searcher in searchers]
        return peers.count(waiter.searcher.peer), searchers.count(waiter.searcher)


def state() -> AppState:
    """The state of the application that answers this request."""
    found: AppState = current_app.extensions["tailboard"]
    return found


# The description of a field says what is allowed. It ends the sentence of the error: "limit must be
# a whole number from 1 to 500".
def text_field(pattern: str | re.Pattern[str], most: int, allowed: str = "") -> Any:
    return Field(pattern=pattern, max_length=most, description=allowed)


def int_field(least: int, most: int) -> Any:
    return Field(ge=least, le=most, description=f"a whole number from {least:,} to {most:,}")


def check_digits(given: Any) -> Any:
    """A number of a query has digits only; pydantic would also take `+5`, ` 5` and `1_000`."""
    if isinstance(given, str) and not re.fullmatch("[0-9]{1,20}", given):
        raise ValueError
    return given


DIGITS = BeforeValidator(check_digits, json_schema_input_type=int)
UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}  # seconds


def parse_since(given: str) -> float:
    """`since` as seconds since 1970: an age such as 30s, or an RFC 3339 time."""
    if age := re.fullmatch(r"([0-9]{1,9})([smhd])", given):
        return time.time() - int(age[1]) * UNITS[age[2]]
    if (then := datetime.fromisoformat(given)).tzinfo is None:
        raise ValueError
    return then.timestamp()


def parse_not_before(given: str) -> str:
    """`not_before` as RFC 3339 in UTC: such a time with its zone, or one from now, such as +10m."""
    if ahead := re.fullmatch(r"\+([0-9]{1,9})([smhd])", given):
        then = time.time() + int(ahead[1]) * UNITS[ahead[2]]
    elif RFC_3339.fullmatch(given):
        then = parse_time(given)
    else:
        raise ValueError
    if not 0 <= then <= time.time() + MAX_AHEAD:
        raise ValueError
    return utc(then)


def bounded_env(env: dict[str, str]) -> dict[str, str]:
    """ValueError, naming the largest variable, if it is too large in all."""
    sizes = {name: len(name.encode()) + len(value.encode()) for name, value in env.items()}
    if sum(sizes.values()) > MAX_ENV_BYTES:
        largest = max(sizes, key=lambda name: sizes[name])
        raise ValueError(f"{sum(sizes.values()):,} bytes are too many; {largest!r} has the most")
    return env


def wrong_variable(error: Any) -> str:
    """The end of a sentence that names the wrong variable of `env`; "" if `env` is not an object.
    `error` comes from pydantic. The value is not shown: it may be a secret."""
    _, *place = error["loc"]
    if "ctx" in error and not place:
        return f"; {error['ctx']['error']}"
    if not place:
        return ""
    name = repr(str(place[0])[:80])
    if place[-1] == "[key]":
        return f"; the name {name} is not allowed"
    return f"; the value of {name} is not a text of up to 30,000 characters without NUL"


# Arguments of a program: no NUL, and below the kernel's 128 KiB (MAX_ARG_STRLEN in execve(2)).
LINE = r"^[^\x00]*[^\x00\s][^\x00]*$"
Line = Annotated[str, text_field(LINE, 30_000)]
Text = Annotated[str, text_field(r"^[^\x00]*$", 30_000)]


def check_program(words: list[str]) -> list[str]:
    """ValueError if the first word, which names the program, is blank."""
    if not words[0].strip():
        raise ValueError
    return words


Words = Annotated[list[Text], Field(min_length=1, max_length=1_000), AfterValidator(check_program)]
RFC_3339 = re.compile(
    "[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}([.][0-9]{1,6})?(Z|[+-][0-9]{2}:[0-9]{2})"
)
VARIABLE = re.compile(r"^(?!TAILBOARD_|JOB_ID|JOB_ATTEMPT|JOB_STORAGE)[^\x00=]+$")
CWD = "an absolute path of up to 4,000 characters"
Label = Annotated[str | None, text_field(LINE, 200, "text of 1 to 200 characters")]
QUEUE = text_field(f"^{QUEUE_RE.pattern}$", 32, QUEUE_NAMES)
Offset = Annotated[
    int | None, DIGITS, Field(ge=0, le=1 << 62, description="a whole number of bytes, from 0")
]
Since = Annotated[float, BeforeValidator(parse_since, json_schema_input_type=str)]
SINCE = "like 30s, 5m, 2h or 1d, or a time like 2026-11-23T18:00:00Z"
NEEDLE = "1 to 200 characters of one line"
Needle = Annotated[str, text_field(r"^[^\n]+$", 200, NEEDLE)]
Filter = Annotated[str, text_field("", 200, "text of up to 200 characters")]
PLACE = rf"^({ID_RE.pattern})(?:\.([0-9]{{1,19}})\.([0-9]{{1,19}}))?$"
Flag = Annotated[bool, Field(description="0 or 1")]


class RequestModel(BaseModel):
    """The body or the parameters of a request."""

    @classmethod
    def parse(cls, data: object) -> Self:
        """The request in the data; 400 with a sentence that names the field and what is allowed."""
        if not isinstance(data, dict):
            abort(400, "the body must be a JSON object")
        if unknown := [name for name in data if name not in cls.model_fields]:
            known = ", ".join(cls.model_fields)
            abort(400, f"unknown field {unknown[0][:80]!r}; allowed fields: {known}")
        try:
            return cls.model_validate({k: v for k, v in data.items() if v is not None})
        except ValidationError as error:
            field, place = find_mistake(error)
            abort(400, f"{field} must be {cls.model_fields[field].description}{place}")


def find_mistake(error: ValidationError) -> tuple[str, str]:
    """(the field that is wrong, the end of the sentence, which names the wrong part of the field,
    or "")."""
    found = error.errors(include_url=False, include_input=False)
    field = found[0]["loc"][0]
    if field == "env":
        return "env", wrong_variable(found[0])
    # If a value may have one of two types, the error of the more likely type is nested deeper.
    deepest = max((each for each in found if each["loc"][0] == field), key=lambda e: len(e["loc"]))
    path = [part for part in deepest["loc"][1:] if not is_type_name(part)]
    if not path:
        return str(field), ""
    problem = {"missing": "missing", "extra_forbidden": "unknown"}.get(deepest["type"], "wrong")
    return str(field), f"; {problem}: {describe_place(path)}"


def is_type_name(part: int | str) -> bool:
    """Is it one of the types that `command` may have, and not a name or an index?"""
    return isinstance(part, str) and re.match(r"constrained-|list\[|function-", part) is not None


def describe_place(path: Sequence[int | str]) -> str:
    """A part of a value, from the inside: "'default' of item 1"."""
    words = [f"item {part + 1}" if isinstance(part, int) else repr(part[:80]) for part in path]
    return " of ".join(reversed(words))


class JobRequest(RequestModel):
    """What is asked of a job, whether it is submitted or saved."""

    model_config = ConfigDict(strict=True)

    command: Line | Words = Field(
        description="a shell line, or a list of a program and its arguments, "
        "not empty, of up to 30,000 characters each"
    )
    name: Label = None
    queue: Annotated[str, QUEUE] = "default"
    cwd: Annotated[str | None, text_field(r"^/[^\x00]*$", 4_000, CWD)] = None
    env: Annotated[
        dict[Annotated[str, text_field(VARIABLE, 200)], Text], AfterValidator(bounded_env)
    ] = Field(
        {},
        description="an object of texts, of up to 64 KiB in all, "
        "with names other than JOB_… and TAILBOARD_…",
    )
    timeout: float | None = Field(
        None, gt=0, le=1e9, description="a number of seconds above 0 and up to 1,000,000,000"
    )
    retries: Annotated[int, int_field(0, 100)] = 0
    retry_delay: float = Field(
        0,
        ge=0,
        le=MAX_RETRY_DELAY,
        description="a number of seconds from 0 to 3,600, which doubles with each retry",
    )


class Submission(JobRequest):
    """The body of POST /jobs."""

    not_before: Annotated[str | None, AfterValidator(parse_not_before)] = Field(
        None,
        description="a time like 2026-11-23T18:00:00Z, or like +30s, +10m, +2h or +1d from now, "
        "at most 366 days ahead",
    )
    submitted_by: Label = None


class Filters(RequestModel):
    """Which jobs are meant; `since` is about when they were submitted."""

    status: Status | None = Field(None, description=f"one of {', '.join(Status)}")
    queue: Annotated[str | None, QUEUE] = None
    since: Since | None = Field(None, description=SINCE)

    def first_id(self) -> str | None:
        return None if self.since is None else first_id(self.since)


class Listing(Filters):
    """The parameters of GET /jobs."""

    q: Filter = ""
    limit: Annotated[int, DIGITS, int_field(1, 500)] = 50
    before: Annotated[str | None, text_field(f"^{ID_RE.pattern}$", 24, "the ID of a job")] = None


class TicketRequest(RequestModel):
    """The body of POST /ticket and POST /jobs/ID/ticket."""

    model_config = ConfigDict(strict=True)

    origin: Annotated[
        str | None,
        text_field(
            r"^https?://[A-Za-z0-9._:\[\]-]+$",
            300,
            "the scheme, host and port of a page, like http://127.0.0.1:8501",
        ),
    ] = None


class PauseRequest(RequestModel):
    """The body of PUT /queues/NAME/pause."""

    model_config = ConfigDict(strict=True)

    why: Label = None
    by: Label = None


class LogQuery(RequestModel):
    """The parameters of GET /jobs/ID/logs."""

    tail: Annotated[int, DIGITS, int_field(0, 1_000_000)] = 1_000
    offset: Offset = None
    limit_bytes: Annotated[int, DIGITS, int_field(1, 4 << 20)] = 256 << 10
    since: Since | None = Field(None, description=SINCE)
    timestamps: Flag = False
    follow: Flag = False
    download: Flag = False
    q: Needle | None = Field(None, description=NEEDLE)
    limit: Annotated[int, DIGITS, int_field(1, 1_000)] = 100
    before: Offset = None
    count: Flag = False
    ticket: str | None = Field(
        None, description="a ticket from POST /ticket or POST /jobs/ID/ticket, instead of a token"
    )


class Grep(Filters):
    """The parameters of GET /logs."""

    q: Needle
    limit: Annotated[int, DIGITS, int_field(1, 1_000)] = 100
    per_job: Annotated[int, DIGITS, int_field(1, 1_000)] = 10
    before: Annotated[str | None, text_field(PLACE, 70, "what `next` said, or the ID of a job")] = (
        None
    )


class Bulk(Filters):
    """The parameters of GET /bulk."""

    to: Literal["rerun", "cancel", "delete"] = Field(description="rerun, cancel or delete")
    q: Filter = ""


class SavedParam(BaseModel):
    """A param in the body of PUT /saved/NAME. What its name may be, `storage` says."""

    model_config = ConfigDict(strict=True, extra="forbid")

    name: Annotated[str, Field(json_schema_extra={"pattern": f"^{PARAM_RE.pattern}$"})]
    label: Label = None
    default: Text | None = None
    choices: Annotated[list[Text], Field(min_length=1, max_length=100)] | None = None


class SavedRequest(JobRequest):
    """The body of PUT /saved/NAME."""

    params: list[SavedParam] = Field(
        [],
        max_length=MAX_PARAMS,
        description=f"a list of up to {MAX_PARAMS} objects, each with a name and perhaps "
        "a label, a default (a text) and choices (a list of texts)",
    )
    cron: Annotated[str | None, text_field(LINE, 200, CRON_FORM)] = None
    zone: Annotated[str, text_field(LINE, 100, ZONE_FORM)] = "UTC"
    paused: Annotated[bool, Field(description="true or false")] = False


class RunValues(RequestModel):
    """The body of POST /saved/NAME/run: what its fields are, the saved command says."""


class RunQuery(RequestModel):
    """The parameters of POST /saved/NAME/run."""

    submitted_by: Label = None


class BodyBroken(Exception):
    """The client went away in the middle of a body, or sent invalid chunks."""


class BodyLate(Exception):
    """The body did not arrive in time."""


class BodiesTooMany(Exception):
    """The bodies that are arriving now take too much memory."""


RETRY_AFTER = "5"  # seconds


@routes.app_errorhandler(HTTPException)
def problem_response(error: HTTPException) -> Response:
    """Any error as problem details (RFC 9457)."""
    response = error.get_response(request.environ)
    detail = describe_http_error(error)
    body = encode_problem(error.code or response.status_code, error.name, detail)
    answer = Response(body, response.status_code, response.headers)
    answer.content_type = "application/problem+json"
    if error.code == 401:
        answer.headers["WWW-Authenticate"] = "Bearer"
    if error.code == 503:
        answer.headers["Retry-After"] = RETRY_AFTER
    if isinstance(error, RequestedRangeNotSatisfiable) and error.length is not None:
        answer.headers["X-Log-Size"] = str(error.length)
    return answer


def encode_problem(status: int, title: str, detail: str) -> bytes:
    problem = {"type": "about:blank", "title": title, "status": status, "detail": detail}
    return json.dumps(problem, separators=(",", ":")).encode() + b"\n"


def describe_http_error(error: HTTPException) -> str:
    """The error in one sentence: ours instead of werkzeug's, which are for browsers."""
    if error.description and error.description != type(error).description:
        return str(error.description)
    if isinstance(error, NotFound):
        return describe_unknown_path(request.path)
    if isinstance(error, MethodNotAllowed):
        allowed = ", ".join(sorted(error.valid_methods or ()))
        return f"{request.method[:20]} is not allowed for {request.path[:100]}; allowed: {allowed}"
    if isinstance(error, RequestEntityTooLarge):
        return f"the body must have at most {MAX_BODY_BYTES:,} bytes"
    if isinstance(error, RequestedRangeNotSatisfiable):
        return f"Range must begin before byte {error.length}, the end of the log"
    return ERROR_SENTENCES.get(error.code or 500, error.name)


ERROR_SENTENCES = {
    400: "the request is not valid HTTP",
    500: "the API failed to answer this request; its log has the reason",
}


def describe_unknown_path(path: str) -> str:
    """A sentence: the path does not exist, which one was probably meant, where all are listed."""
    meant, asked = "", path.rstrip("/")
    if len(asked) < MAX_GUESSED_PATH:  # guessing takes time
        parts = asked.split("/")
        filled = {fill_template(template, parts): template for _, template in OPERATIONS}
        close = get_close_matches(asked, filled, n=1, cutoff=0.7)
        meant = f"; did you mean {filled[close[0]]}?" if close else ""
    return f"there is no {path[:100]!r}{meant or ';'} GET /openapi.json describes all paths"


def fill_template(template: str, parts: Sequence[str]) -> str:
    """The template of a path, with its {names} replaced by these parts."""
    filled = [
        part if template_part.startswith("{") else template_part
        for template_part, part in zip_longest(template.split("/"), parts, fillvalue="")
    ]
    return "/".join(filled[: template.count("/") + 1])


MAX_GUESSED_PATH = 200  # characters


@routes.app_errorhandler(JobNotFound)
def job_not_found(error: JobNotFound) -> Response:
    return problem_response(NotFound(str(error)[:200]))  # it repeats what was asked for


@routes.app_errorhandler(WrongState)
def wrong_state(error: WrongState) -> Response:
    return problem_response(Conflict(str(error)))


@routes.app_errorhandler(KeyReused)
def key_reused(error: KeyReused) -> Response:
    return problem_response(UnprocessableEntity(str(error)))


@routes.app_errorhandler(BodyBroken)
def body_broken(_: BodyBroken) -> Response:
    message = "the body broke off, or its chunks are not what they should be"
    return problem_response(BadRequest(message))


@routes.app_errorhandler(BodyLate)
def body_late(_: BodyLate) -> Response:
    return problem_response(RequestTimeout("the body did not arrive in time"))


@routes.app_errorhandler(BodiesTooMany)
def bodies_too_many(_: BodiesTooMany) -> Response:
    return problem_response(ServiceUnavailable("too many large bodies arrive now"))


@routes.app_errorhandler(RecursionError)
def body_too_deep(error: RecursionError) -> Response:
    if not has_body():
        raise error
    return problem_response(BadRequest("the body is nested too deeply"))


@routes.app_errorhandler(OSError)
def storage_unavailable(error: OSError) -> Response:
    if isinstance(error, StoreError):
        state().outages.report(error)
    else:
        current_app.logger.error("storage: %s", error)
    why = error.strerror or "it failed"
    return problem_response(ServiceUnavailable(f"the storage cannot do that now: {why}"))


TOKEN_NAME = re.compile(r"\w[\w.@+-]{0,63}")
TOKEN_NAMES = "1 to 64 letters, digits and . _ @ + -, with a letter, a digit or _ first"
TOKEN_LINE = re.compile(rf"({TOKEN_NAME.pattern})[ \t]+([0-9a-fA-F]{{64}})")
TOKEN_BYTES = 32
FRESH = 100_000_000  # nanoseconds in which two changes of a file may have one time stamp


class NamedToken(NamedTuple):
    """Whose it is, and its SHA-256. A token is 32 random bytes, so one plain hash is enough: no
    list of likely ones could be tried, which is what slow and salted hashes of passwords are for.
    """

    name: str
    sha256: str  # in lower-case hexadecimal


def parse_tokens(content: bytes) -> list[NamedToken]:
    """The tokens in a file; ValueError, which tells the number of the bad line and not what stands
    there: that may be a token."""
    found = []
    for number, line in enumerate(content.decode(errors="replace").split("\n"), 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        parts = TOKEN_LINE.fullmatch(line)
        if not parts:
            raise ValueError(f"line {number} is not NAME SHA256")
        found.append(NamedToken(parts[1], parts[2].lower()))
    return found


class TokenFile:
    """The named tokens, read again when their file has changed."""

    def __init__(self, path: str) -> None:
        self.path = path  # "": there is none
        self.known: list[NamedToken] = []  # those of the last time that all could be read
        self.stamp: tuple[int, ...] = ()  # of the file that was read
        self.errors = RepeatedErrors(logging.getLogger("tailboard"))

    def read(self) -> list[NamedToken]:
        """The tokens that the file holds now; ValueError, in one sentence, where it is bad."""
        try:
            return parse_tokens(read_small(os.path.realpath(self.path)))
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or error
            raise ValueError(f"TAILBOARD_TOKENS: {self.path} cannot be used: {why}") from None

    def check(self) -> None:
        """ValueError where nobody could come in with what the file holds."""
        if not self.read():
            message = f"{self.path} holds no token: `flask token NAME` makes one"
            raise ValueError(f"TAILBOARD_TOKENS: {message}")

    def refresh(self) -> None:
        """Read the file if it has changed. One that is bad or gone, half-written say, changes
        nothing: who may come in stays as it was, and the log says once what is wrong."""
        if not self.path:
            return
        stamp = self._stamp()
        if stamp == self.stamp != ():
            return
        self.stamp = stamp
        try:
            self.known = self.read()
            self.errors.resolved("tokens")
        except ValueError as error:
            self.errors.report("tokens", error)

    def _stamp(self) -> tuple[int, ...]:
        """What differs once the file has changed; () where that cannot be told."""
        with suppress(OSError):
            found = os.stat(self.path)
            if time.time_ns() - found.st_mtime_ns > FRESH:
                return found.st_mtime_ns, found.st_ctime_ns, found.st_ino, found.st_size
        return ()

    def find(self, token: bytes) -> NamedToken | None:
        """The entry of this token. All are compared, so that the time it takes tells nothing."""
        given = hashlib.sha256(token).hexdigest()
        found = None
        for each in self.known:
            if hmac.compare_digest(given, each.sha256):
                found = each
        return found


def visitor() -> str | None:
    """The name behind the request's token; None if it is the shared token, if no token was needed,
    or if this is a command and not a request."""
    named: NamedToken | None = g.get("named_token")
    return named.name if named else None


FORWARDING = ("Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Real-Ip")
LOOPBACK = re.compile(r"(localhost|127(\.[0-9]{1,3}){3}|\[::1\])(:[0-9]{1,5})?", re.IGNORECASE)
METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS")
READING = ("GET", "HEAD", "OPTIONS")
OTHER_SITES = ("cross-site", "same-site")  # in Sec-Fetch-Site: not the API's own origin


@routes.before_app_request
def authorize() -> None:
    """Refuse a request that lacks the access that its route declares. If no token is set, serve
    only programs of this machine. 401 and 403 come before every other answer, also before the 415
    for a body of another type."""
    g.begun = time.monotonic()
    refuse_other_sites()
    if required_access() is not Access.OPEN:
        if needs_token():
            require_token()
        else:
            require_this_machine()
    refuse_other_bodies()


def required_access() -> Access:
    """The access that the requested route declares. If no route serves the request, it needs the
    token, so that only clients with the token learn which paths exist. The exception is a method
    that an open path lacks: everybody gets its 405, as everybody may know that path."""
    declared = state().access
    if request.endpoint is not None:
        return declared.get(request.endpoint, Access.TOKEN)
    rules = [rule for rule in current_app.url_map.iter_rules() if rule.rule == request.path]
    if rules and all(declared.get(rule.endpoint) is Access.OPEN for rule in rules):
        return Access.OPEN
    return Access.TOKEN


def needs_token() -> bool:
    return bool(state().settings.token or state().settings.tokens)


def refuse_other_sites() -> None:
    """403 for a request that a page of another site makes the visitor's browser send: the browser
    may be on this machine, or hold a ticket. The dashboard's origins are allowed."""
    origin = request.headers.get("Origin")
    if is_dashboards(origin):
        return
    is_foreign = origin is not None and origin != request.host_url.rstrip("/")
    # Browsers do not always send Origin. Reading is allowed: a link to a log may stand anywhere.
    if request.method not in READING and request.headers.get("Sec-Fetch-Site") in OTHER_SITES:
        is_foreign = True
    if is_foreign:
        abort(403, "requests from another site's page are refused")


def is_dashboards(origin: str | None) -> bool:
    """Is this an origin of the dashboard's page? If no setting lists them, it is the origin in the
    request's ticket: the page's server names it, and no other site gets a ticket."""
    listed = state().origins
    if origin is None or listed:
        return origin in listed
    ticket = request_ticket()
    return ticket is not None and ticket.origin == origin


def require_token() -> None:
    """401 without the token that all share, a named one, or a ticket for what is asked."""
    shared, tokens = state().settings.token, state().tokens
    given = request.headers.get("Authorization", "").encode()
    is_shared = hmac.compare_digest(given, f"Bearer {shared}".encode()) and bool(shared)
    tokens.refresh()
    if given.startswith(b"Bearer "):
        g.named_token = tokens.find(given.removeprefix(b"Bearer "))
    if not is_shared and visitor() is None and request_ticket() is None:
        abort(401, "the token is missing or wrong")


def require_this_machine() -> None:
    """403 for other machines, for what a proxy forwards from them, and for a Host that another
    site's DNS points at this machine (DNS rebinding)."""
    if not ip_address(request.remote_addr or "0.0.0.0").is_loopback:
        abort(403, "without TAILBOARD_TOKEN only this machine is served")
    if not LOOPBACK.fullmatch(request.headers.get("Host", "")):
        abort(403, "without TAILBOARD_TOKEN the Host must be localhost or 127.0.0.1")
    if any(name in request.headers for name in FORWARDING):
        abort(403, "without TAILBOARD_TOKEN no proxy may forward requests")


def json_body(default: object) -> object:
    """The JSON of the body; `default` if it is empty. 400 names the mistake and its place."""
    if not has_body():
        return default
    try:
        return parse_json(request.get_data())
    except ValueError as error:
        abort(400, f"the body is not JSON: {error}")


def parse_json(content: bytes) -> Any:
    """The JSON; ValueError names the mistake and its place."""
    try:
        return json.loads(content, object_pairs_hook=unique_fields, parse_int=bounded_int)
    except json.JSONDecodeError as error:
        what = re.sub(" (starting )?at$", "", error.msg)
        place = f"at line {error.lineno}, column {error.colno}"
        raise ValueError(f"{what[0].lower()}{what[1:]} {place}") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"byte {error.start} is not UTF-8") from None


def unique_fields(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object; ValueError if a field appears twice, since either might be meant."""
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"the field {name[:80]!r} appears twice")
        found[name] = value
    return found


def bounded_int(digits: str) -> int:
    """A JSON number; ValueError with our own message if it is too long for Python."""
    if len(digits) > MAX_DIGITS:
        raise ValueError(f"a number has more than {MAX_DIGITS:,} digits")
    return int(digits)


MAX_DIGITS = 4_000  # Python's default limit is 4,300


def refuse_other_bodies() -> None:
    """415 for a body that is not JSON; a request without a body needs no type."""
    if request.method in ("POST", "PUT") and has_body() and request.mimetype != "application/json":
        abort(415, "Content-Type must be application/json")
    if request.content_encoding not in (None, "", "identity"):
        abort(415, "a body with Content-Encoding is not supported")


def query_parameters() -> dict[str, str]:
    """The parameters of the request; 400 if one is given twice, since either might be meant."""
    for name, values in request.args.lists():
        if len(values) > 1:
            abort(400, f"the parameter {name[:80]!r} appears twice")
    return request.args.to_dict()


def has_body() -> bool:
    return bool(request.content_length) or "Transfer-Encoding" in request.headers


TICKET_SALT = "tailboard log ticket"


class Ticket(NamedTuple):
    """What a ticket allows: to read a log, also from a page of this origin."""

    log: str  # a job's ID, or ANY_LOG
    origin: str | None = None


def request_ticket() -> Ticket | None:
    """The valid ticket of this request, if its route accepts tickets and reads the log that this
    one is for. A browser's EventSource and its download links cannot send headers."""
    if "ticket" not in g:
        g.ticket = None  # also for the headers of the 503 if the storage is away
        if required_access() is Access.TICKET_OR_TOKEN and request.args.get("ticket"):
            ticket = read_ticket(request.args["ticket"])
            job_id = (request.view_args or {}).get("job_id")
            g.ticket = ticket if ticket and ticket.log in (ANY_LOG, job_id) else None
    found: Ticket | None = g.ticket
    return found


def read_ticket(given: str) -> Ticket | None:
    """What a ticket allows; None if it is invalid, too old, or its token has been revoked."""
    tokens, secret = state().tokens, state().store.secret()
    tokens.refresh()
    keys = [ticket_key(secret, each) for each in tokens.known]
    if state().settings.token or not state().settings.tokens:
        keys.append(ticket_key(secret, None))
    with suppress(BadSignature):
        signer = URLSafeTimedSerializer(keys, salt=TICKET_SALT)
        match signer.loads(given, max_age=TICKET_AGE):
            case str(log):
                return Ticket(log)
            case [str(log), str(origin)]:
                return Ticket(log, origin)
    return None


def ticket_key(secret: bytes, named: NamedToken | None) -> bytes:
    """The key that signs the tickets of the owner of this token (None: of the shared one). They end
    when the token changes or is revoked. The store's secret is needed: anyone with a ticket could
    test guesses of the shared token against its signature, and a file of hashes need not be
    secret."""
    own = state().settings.token if named is None else named.sha256
    return secret + own.encode()


def make_ticket(log: str) -> tuple[dict[str, Any], int]:
    """A ticket for the log of this job, or for ANY_LOG; also for a page, if the body names its
    origin."""
    origin = TicketRequest.parse(json_body({})).origin
    key = ticket_key(state().store.secret(), g.get("named_token"))
    signer = URLSafeTimedSerializer(key, salt=TICKET_SALT)
    ticket = signer.dumps(log if origin is None else Ticket(log, origin))
    return {"ticket": ticket, "expires_in": TICKET_AGE}, 201


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
def add_security_headers(response: Response) -> Response:
    """No answer is a page, and only the dashboard's page may read one in a browser."""
    if response.status_code == 308:  # from /jobs//x to /jobs/x; werkzeug adds an HTML page
        response.data = b""
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["X-Frame-Options"] = "DENY"
    response.headers["Content-Security-Policy"] = "default-src 'none'; frame-ancestors 'none'"
    response.vary.add("Origin")
    origin = request.headers.get("Origin")
    if origin is not None and is_dashboards(origin):
        response.headers["Access-Control-Allow-Origin"] = origin
        response.headers["Access-Control-Expose-Headers"] = "*"
    return response


@routes.after_app_request
def observe_request(response: Response) -> Response:
    """Count the request for /metrics. Unknown methods and routes are counted as one: clients must
    not make up labels."""
    method = request.method if request.method in METHODS else "other"
    labels = method, str(request.url_rule or "none"), response.status_code
    state().request_seconds.labels(*labels).observe(time.monotonic() - g.begun)
    return response


Created = tuple[dict[str, Any], int, dict[str, str]]
KEY_CONTROL_RE = re.compile("[\x00-\x08\x0a-\x1f]")  # with storage.OWN_KEY


@routes.post("/jobs")
def create() -> Created:
    """Submit the job that the body describes."""
    key = idempotency_key()
    body = with_visitor(json_body(None), "submitted_by")
    wanted = Submission.parse(body)
    job = Job(**wanted.model_dump())
    return created(state().store.submit(job, key, hash_request(canonical(wanted, body))))


def canonical(wanted: Submission, body: Any) -> dict[str, Any]:
    """The content of a body, the same however it is written. Fields with default values are left
    out: a field that a later version adds must not change the content of a repeated request."""
    content = wanted.model_dump(exclude_defaults=True, exclude={"submitted_by"})
    if wanted.not_before is not None:
        content["not_before"] = body["not_before"]  # as sent: +10m is another time each time
    return content


@routes.post("/jobs/<job_id>/rerun")
def rerun(job_id: str) -> Created:
    """Submit a job like another one."""
    key = idempotency_key()
    if key == f"rerun {job_id}":  # documented: what `flask rerun` and the page use for many jobs
        return created(run_again(job_id, bulk_key(job_id)))
    return created(run_again(job_id, key, hash_request(None)))


def idempotency_key() -> str | None:
    key = request.headers.get("Idempotency-Key")
    if key is not None and not key.strip():
        abort(400, "Idempotency-Key must not be empty")
    if key is not None and KEY_CONTROL_RE.search(key):  # some servers let them pass
        abort(400, "Idempotency-Key must not contain control characters")
    return key


def hash_request(content: object) -> str:
    """The hash that distinguishes this request from others with the same Idempotency-Key: of its
    route and its content. The sender is left out: if two people, or two machines of a CI, send the
    same request with the same key, they want one job."""
    text = json.dumps([request.method, request.path, content], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def created(job: Job) -> Created:
    location = current_app.url_for("tailboard.show", job_id=job.id)
    return whole_job(job), 201, {"Location": location}


def make_job(body: object) -> Job:
    return Job(**Submission.parse(with_visitor(body, "submitted_by")).model_dump())


def with_visitor(body: object, field: str) -> object:
    """What is asked, with the name of whose token came with it in this field."""
    if visitor() is None or not isinstance(body, dict):
        return body
    return body | {field: name_of_visitor(body.get(field), field)}


def name_of_visitor(claimed: Any, field: str) -> Any:
    """Whose token came with the request; without a named one, who is claimed. 400 where the two
    differ."""
    name = visitor()
    if name is not None and claimed not in (None, name):
        abort(400, f"{field} must be {name!r}, whose token this is, or be left out")
    return name or claimed


def run_again(job_id: str, key: str | None = None, sent: str | None = None) -> Job:
    """Submit a job like another one. `sent`: the hash of the client's request."""
    old = state().store.get(job_id)
    options = {name: getattr(old, name) for name in Submission.model_fields}
    options["not_before"] = None  # that time was the other job's
    options["submitted_by"] = visitor() or old.submitted_by
    job = replace(make_job(options), rerun_of=old.id, saved=old.saved)
    return state().store.submit(job, key, sent)


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


def unless_known(answer: dict[str, Any]) -> Response:
    """The answer as JSON with an ETag; 304 for who has it already."""
    response = current_app.make_response(answer)
    response.add_etag()
    response.make_conditional(request)
    return response


@routes.get("/jobs/<job_id>")
def show(job_id: str) -> dict[str, Any]:
    return whole_job(state().store.get(job_id))


def queue_position(job: Job) -> dict[str, int]:
    """How many jobs of its queue are older than a queued job; nothing for any other job."""
    if job.status != Status.QUEUED:
        return {}
    waiting = state().store.queued_by_queue().get(job.queue, [])
    return {"queued_before": sum(other < job.id for other in waiting)}


def whole_job(job: Job) -> dict[str, Any]:
    """A job on its own; in a list it stands without env, attempts and its place in the queue."""
    shown = shown_job(job, pauses_by_queue() if job.status is Status.QUEUED else {})
    return shown | {"attempts": job.attempts_as_dicts()} | queue_position(job)


def shown_job(job: Job, pauses: Mapping[str, Pause]) -> dict[str, Any]:
    """A job; one that waits in a paused queue says so."""
    shown = job.as_dict()
    if job.status is Status.QUEUED and job.queue in pauses:
        said = [shown["reason"], pauses[job.queue].reason]
        shown["reason"] = "; ".join(filter(None, said))
    return shown


def pauses_by_queue() -> dict[str, Pause]:
    return {pause.queue: pause for pause in state().store.pauses.list()}


@routes.post("/jobs/<job_id>/cancel")
def cancel(job_id: str) -> tuple[dict[str, Any], int]:
    name = visitor()
    reason = f"cancelled by {name}" if name else "cancelled through the API"
    return whole_job(state().store.cancel(job_id, reason)), 202


@routes.delete("/jobs/<job_id>")
def delete(job_id: str) -> tuple[str, int]:
    state().store.delete(job_id)
    return "", 204


NAMES_SHOWN = 5  # of queues, in a sentence
RUNS_SHOWN = 5  # of a saved command, newest first
RUN_FIELDS = (
    "id",
    "status",
    "submitted_at",
    "started_at",
    "finished_at",
    "exit_code",
    "reason",
    "hint",
)
# Fields that only answers have. A PUT ignores them, so that the body of a GET can be sent back.
READ_ONLY_FIELDS = ("saved", "saved_at", "next_run", "last_run", "runs", "skipped")


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


def save_command(name: str, body: object) -> bool:
    """True where the name is new; 400 with a sentence where it is none that could run."""
    try:
        return state().store.saved.save(make_command(name, body))
    except ValueError as error:
        abort(400, str(error))


def make_command(name: str, body: object) -> SavedCommand:
    """The saved command that a body describes; ValueError, or 400, where it is none."""
    if isinstance(body, dict):
        body = {field: value for field, value in body.items() if field not in READ_ONLY_FIELDS}
    said = SavedRequest.parse(body).model_dump()
    said["params"] = [Param(**param) for param in said["params"]]
    command = SavedCommand(**said, saved=name)
    command.check()
    return command


def make_run(name: str, values: object, by: str | None) -> Job:
    """A job of a saved command with these values; 400 names one that is missing or bad."""
    command = state().store.saved.load(name)
    if not isinstance(values, dict):
        abort(400, "the body must be a JSON object of the params' values")
    try:
        job = command.job(values)
    except ValueError as error:
        abort(400, str(error))
    try:
        bounded_env(job.env)
    except ValueError as error:
        allowed = f"the values and env must be {MAX_ENV_BYTES >> 10} KiB at most in all"
        abort(400, f"{allowed}; {error}")
    job.submitted_by = by
    return job


def whole_command(command: SavedCommand) -> dict[str, Any]:
    """A saved command with its next run, its last ones, and how many of its times were skipped."""
    schedule = state().store.saved.load_schedule(command.saved)
    upcoming = next_time(command, schedule, time.time())
    runs = last_runs(command)
    return command.as_dict() | {
        "next_run": None if upcoming is None else utc(upcoming),
        "last_run": runs[0] if runs else None,
        "runs": runs,
        "skipped": skipped_times(schedule),
    }


def last_runs(command: SavedCommand) -> list[dict[str, Any]]:
    """Its newest jobs, in short; those that were deleted are left out."""
    store, runs = state().store, []
    for job_id in store.saved.runs(command.saved):
        with suppress(JobNotFound):
            job = store.get(job_id).as_dict()
            runs.append({name: job[name] for name in RUN_FIELDS})
        if len(runs) == RUNS_SHOWN:
            break
    return runs


def skipped_times(schedule: Schedule) -> dict[str, Any]:
    """How many times were skipped; the last of them, and the job that still waited or ran."""
    return {
        "count": schedule.skipped,
        "last_at": schedule.skipped_at,
        "for_job": schedule.skipped_for,
    }


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


def known_queue(name: str) -> str:
    """The name, if it can be a queue's; 400."""
    try:
        check_queue(name)
    except ValueError as error:
        abort(400, str(error))
    return name


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


def open_log(job_id: str) -> Log:
    """The job's log; an empty one where it has none yet, since that is no error here."""
    try:
        return state().store.open_log(job_id)
    except FileNotFoundError:
        return EmptyLog()


def begin_at(log: Log, query: LogQuery, size: int) -> int:
    """The offset at which the answer begins; 416 where that is past the end."""
    if query.offset is not None:
        if query.offset > size:
            message = f"offset must be at most {size}, the size of the log"
            raise RequestedRangeNotSatisfiable(size, description=message)
        return query.offset
    if query.since is not None:
        return min(size, log.offset_at_time(query.since))
    return log.tail(query.tail, size, MAX_TIMESTAMPED_BYTES if query.timestamps else TAIL_BYTES)


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


def read_range(job: Job, log: Log, query: LogQuery) -> Response:
    size = log.size
    etag = log_headers(job, log, 0, 0, size)["ETag"]
    if request.if_none_match.contains_raw(etag):
        return Response(status=304, headers={"ETag": etag})
    begin, data = read_asked(log, query, size)
    cut = begin + len(data) < size
    kept = trim_partial_utf8(data, job.status in FINISHED and not cut)
    data = kept if kept or not cut else data  # not even one character fits into the limit
    headers = log_headers(job, log, begin, begin + len(data), size)
    by_lines = query.offset is None and query.since is None
    if by_lines and (lines := count_lines(job.id, log, size)) is not None:
        headers["X-Log-Lines"] = str(lines)
    if (number := line_number(job.id, log, begin)) is not None:
        headers["X-Log-Line"] = str(number)
    body = log.add_timestamps(begin, data) if query.timestamps else data
    return Response(body, headers=headers, mimetype="text/plain")


def read_asked(log: Log, query: LogQuery, size: int) -> tuple[int, bytes]:
    """The bytes that are asked for; first, the offset at which they begin."""
    most = MAX_TIMESTAMPED_BYTES if query.timestamps else TAIL_BYTES
    if query.offset is None and query.since is None:
        return log.read_tail(query.tail, size, most)
    begin = begin_at(log, query, size)
    limit = min(query.limit_bytes, size - begin)
    return log.read(begin, min(limit, most) if query.timestamps else limit)


def count_lines(job_id: str, log: Log, size: int) -> int | None:
    """How many lines the log has; None where its head is gone, it is too large, or until a few
    requests have counted on from where the last one stopped."""
    if log.start > 0 or size > COUNT_LIMIT:
        return None
    at, lines = state().lines.get(job_id, (0, 0))
    at, more = log.count_lines(at, size, time.monotonic() + COUNT_TIME)
    remember_count(job_id, at, lines + more)
    unfinished = size > 0 and log.read(size - 1, 1)[1] != b"\n"
    return lines + more + unfinished if at == size else None


def line_number(job_id: str, log: Log, offset: int) -> int | None:
    """The number, from 1, of the line that the byte at an offset is part of. None if the head of
    the log was removed, if counting up to there would take too long, or until a few requests have
    each continued the count of the one before."""
    if log.start > 0:
        return None
    known, lines = state().lines.get(job_id, (0, 0))
    counted = known
    if offset < counted - offset:  # the beginning is nearer
        counted, lines = 0, 0
    if abs(offset - counted) > COUNT_LIMIT:  # in vain, and again with each request
        return None
    deadline = time.monotonic() + LINE_NUMBER_TIME
    at, more = log.count_lines(min(counted, offset), max(counted, offset), deadline)
    if at > known:
        remember_count(job_id, at, lines + more)
    if at < max(counted, offset):
        return None
    return 1 + (lines + more if offset >= counted else lines - more)


def remember_count(job_id: str, at: int, lines: int) -> None:
    """Remember how many lines end before this offset of a job's log, for the next request."""
    counts = state().lines
    counts.pop(job_id, None)  # the last one of the dictionary is the one used last
    counts[job_id] = at, lines
    while len(counts) > LINE_COUNT_CACHE_SIZE:
        counts.pop(next(iter(counts)), None)


def trim_partial_utf8(data: bytes, ended: bool) -> bytes:
    """The bytes without an unfinished UTF-8 character at their end, whose rest may follow."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    decoder.decode(data[-3:], final=ended)
    return data[: len(data) - len(decoder.getstate()[0])]


def search_in_turn(log: Log, needle: str, query: LogQuery) -> dict[str, Any]:
    """The matches, or how many they are; 503 where the log is long and others are searched."""
    if log.size - log.start <= LONG_LOG_BYTES:
        return search_or_count(log, needle, query)
    with state().searches.turn(searcher()):
        return search_or_count(log, needle, query)


def searcher() -> Searcher:
    """Who sent this request, as far as turns are counted."""
    if name := visitor():
        return Searcher(name, name)
    peer = request.remote_addr or ""
    return Searcher(peer, last_hop() or peer)


def last_hop() -> str:
    """The last address in X-Forwarded-For, which our own proxy or the page has added; a client may
    have made up all others. Empty if the header has no address."""
    added = request.headers.get("X-Forwarded-For", "").rpartition(",")[2].strip()
    with suppress(ValueError):
        return str(ip_address(added))
    return ""


def search_or_count(log: Log, needle: str, query: LogQuery) -> dict[str, Any]:
    return count_matches(log, needle) if query.count else search(log, needle, query)


def search(log: Log, needle: str, query: LogQuery) -> dict[str, Any]:
    """The lines that hold a text, newest first. `line` counts from 1; null where it is not known:
    the head of the log is gone, or counting took too long."""
    deadline = time.monotonic() + SEARCH_TIME
    before = log.size if query.before is None else min(query.before, log.size)
    hits, following = log.search(needle.encode(), before, query.limit, deadline)
    return {"matches": number_hits(log, hits, deadline + SEARCH_TIME), "next": following}


def number_hits(
    log: Log, hits: Sequence[tuple[int, bytes]], deadline: float
) -> list[dict[str, Any]]:
    """The lines found by Log.search, newest first, as JSON on the wire."""
    numbered: list[dict[str, Any]] = []
    at, line = 0, 1
    for offset, excerpt in reversed(hits):
        if log.start == 0:
            at, more = log.count_lines(at, offset, deadline)
            line += more
        number, shown = line if at == offset else None, excerpt.decode(errors="replace")
        numbered.append({"offset": offset, "line": number, "text": shown})
    return numbered[::-1]


def count_matches(log: Log, needle: str) -> dict[str, Any]:
    """How often a text stands in the log, in ASCII capitals or not; as far as time allowed, and
    `complete` says whether that was all of it."""
    wanted = needle.encode().lower()
    deadline = time.monotonic() + SEARCH_TIME
    at, size, count = log.start, log.size, 0
    while at < size and time.monotonic() < deadline:
        length = min(COUNT_BLOCK, size - at)
        overlap = len(wanted) - 1  # a match may reach over the end of its block
        count += log.pread(length + overlap, at).lower().count(wanted)
        at += length
    return {"count": count, "complete": at >= size}


def download(job: Job) -> Response:
    """The log as a file, or a Range of it. Of one that grows, what is there now."""
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
    response = Response(iter_range(log, begin, end), headers=headers, mimetype="text/plain")
    response.headers["Content-Disposition"] = f"attachment; filename={job.id}.log"
    response.accept_ranges, response.content_length = "bytes", end - begin
    if wanted and wanted.units == "bytes":
        response.status_code = 206
        response.content_range.set(begin - start, end - start, length)
    response.call_on_close(log.close)
    return response


def iter_range(log: Log, at: int, end: int) -> Iterator[bytes]:
    """The bytes of a log. DownloadBroken where some are gone, since the head of the log was given
    back or the job has truncated it: nothing else may stand in their place."""
    while at < end:
        begin, data = log.read(at, min(BLOCK, end - at))
        if begin > at or not data:
            raise DownloadBroken(f"bytes {at} to {end} of the log are not all there any more")
        yield data
        at += len(data)


class DownloadBroken(Exception):
    """Bytes that Content-Length has promised are gone: the connection has to close early."""


class Chunk(NamedTuple):
    """What to send next to a follower of a log. Without data and gap it is a keepalive."""

    at: int  # the offset to go on from
    data: bytes = b""
    gap: tuple[int, int] | None = None  # (from, to): bytes not kept, or backwards: truncated


def follow(job: Job, log: Log, query: LogQuery) -> Response:
    """Send the log from where it is asked for, and what is written, until the job has ended."""
    if (last := request.headers.get("Last-Event-ID")) is not None:
        if not re.fullmatch("[0-9]{1,18}", last):
            abort(400, "Last-Event-ID must be the id of an event, a whole number of bytes")
        query = LogQuery.parse({"offset": last, "timestamps": query.timestamps})
    size = log.size
    begin = begin_at(log, query, size)
    headers = log_headers(job, log, begin, begin, size) | {"X-Accel-Buffering": "no"}
    if not state().followers.acquire(blocking=False):
        abort(503, "no more followers are admitted now")
    chunks = follow_log(job.id, begin, query.timestamps)
    events = "text/event-stream" in request.headers.get("Accept", "")
    body = stream_with_context(stream(job.id, begin, chunks, events))
    kind = "text/event-stream" if events else "text/plain"
    response = Response(body, headers=headers, mimetype=kind)
    response.call_on_close(state().followers.release)
    return response


def stream(job_id: str, at: int, chunks: Iterator[Chunk], events: bool) -> Iterator[bytes]:
    """The text, or server-sent events: `data` is a JSON string, for log text holds \\r and \\n;
    `id` is the offset to resume from; the event `gap` tells what is missing, the event `end`
    carries the job."""
    yield b"retry: %d\n\n" % RECONNECT if events else b""  # so that the headers leave at once
    with suppress(JobNotFound):
        if not events:
            yield from plain_text(chunks)
            return
        for chunk in chunks:
            at = chunk.at
            yield make_event(chunk)
        job = json.dumps(whole_job(state().store.get(job_id)))
        yield f"event: end\nid: {at}\ndata: {job}\n\n".encode()


def make_event(chunk: Chunk) -> bytes:
    if chunk.gap:
        gap = json.dumps({"from": chunk.gap[0], "to": chunk.gap[1]})
        return f"event: gap\nid: {chunk.at}\ndata: {gap}\n\n".encode()
    if not chunk.data:
        return b": ping\n\n"
    shown = json.dumps(chunk.data.decode(errors="replace"), ensure_ascii=False)
    return f"id: {chunk.at}\ndata: {shown}\n\n".encode()


def plain_text(chunks: Iterator[Chunk]) -> Iterator[bytes]:
    """The bytes, with a line of its own for a gap. An empty piece sends nothing, but lets the
    server notice that the client is gone."""
    last = b"\n"
    for chunk in chunks:
        if chunk.gap:
            begin, end = chunk.gap
            message = "the log was truncated" if end < begin else f"{end - begin} bytes not kept"
            line = f"[{message}]\n".encode()
            yield line if last == b"\n" else b"\n" + line
            last = b"\n"
        else:
            yield chunk.data
            last = chunk.data[-1:] or last


def follow_log(job_id: str, at: int, timestamps: bool, wait: bool = True) -> Iterator[Chunk]:
    """What is written to a log from an offset on, as it is written, or only what is there.
    JobNotFound when the job is gone."""
    watch, log = state().store.watch(job_id), open_log(job_id)
    sent_at = time.monotonic()
    try:
        while True:
            ended = not wait or state().store.status(job_id) in FINISHED  # before the size
            if at == 0:  # perhaps it had no log when we opened it
                log.close()
                log = open_log(job_id)
            for chunk in read_on(log, at, timestamps, ended):
                yield chunk
                at, sent_at = chunk.at, time.monotonic()
            if ended:
                return
            watch.wait(KEEPALIVE_INTERVAL)
            if time.monotonic() - sent_at > KEEPALIVE_INTERVAL - 1:
                yield Chunk(at)
                sent_at = time.monotonic()
    finally:
        watch.close()
        log.close()


def read_on(log: Log, at: int, timestamps: bool, ended: bool) -> Iterator[Chunk]:
    """The pieces of a log from an offset to its end."""
    if log.is_truncated_below(at):
        size = log.size
        yield Chunk(size, gap=(at, size))
        return
    while True:
        begin, data = log.read(at, BLOCK)
        if begin > at:
            yield Chunk(begin, gap=(at, begin))
        data = trim_partial_utf8(data, ended and len(data) < BLOCK)
        if not data:
            return
        at = begin + len(data)
        yield Chunk(at, log.add_timestamps(begin, data) if timestamps else data)


class GrepPage:
    """One answer's worth of a search of all logs, newest jobs first: it ends once so many lines are
    found or so many bytes read, or time is up, and then `next` says where to go on."""

    def __init__(self, query: Grep, seconds: float, is_numbered: bool = True) -> None:
        self.query = query
        self.is_numbered = is_numbered  # are the lines' numbers wished for?
        self.deadline = time.monotonic() + seconds
        self.hits: list[dict[str, Any]] = []
        self.more_in: list[str] = []  # IDs of jobs that hold `per_job` lines, and perhaps more
        self.unreadable: list[str] = []  # IDs of jobs whose logs cannot be read
        self.jobs = self.bytes = 0  # that were searched
        self.next: str | None = None  # as `before`; None: that was all

    def as_dict(self) -> dict[str, Any]:
        counts = {"jobs": self.jobs, "bytes": self.bytes, "unreadable": len(self.unreadable)}
        return {
            "hits": self.hits,
            "more_in": self.more_in,
            "next": self.next,
            "searched": counts,
        }

    def search(self) -> Self:
        """Fill the page."""
        last = self._search_begun_job()
        while self.next is None:
            jobs, following = state().store.list(
                self.query.status,
                self.query.queue,
                "",
                GREP_STEP,
                last,
                self.query.first_id(),
                short=True,
            )
            for job in jobs:
                if self.jobs > 0 and self._is_full():
                    self.next = last
                    return self
                self._search_job(job)
                last = job.id
                if self.next is not None:
                    return self
            if following is None:
                return self
            last = following
            if self._is_full():
                self.next = last
        return self

    def _search_begun_job(self) -> str | None:
        """The ID of the job below which to go on; if the page before ended in its log, that is
        searched first."""
        place = re.fullmatch(PLACE, self.query.before or "")
        if place is None:
            return None
        job_id, offset, found = place.groups()
        if offset is not None:
            with suppress(JobNotFound):  # it was deleted
                self._search_job(state().store.get(job_id), int(offset), int(found))
        return str(job_id)

    def _is_full(self) -> bool:
        return (
            len(self.hits) >= self.query.limit
            or self.bytes >= GREP_BYTES
            or time.monotonic() > self.deadline
        )

    def _search_job(self, job: Job, before: int | None = None, found: int = 0) -> None:
        self.jobs += 1
        try:
            with open_log(job.id) as log:
                self._search_log(job, log, log.size if before is None else before, found)
        except JobNotFound:
            pass  # it was deleted
        except OSError as error:
            if isinstance(error, StoreError) or error.errno in RESOURCE_ERRNOS:
                raise
            self.unreadable.append(job.id)

    def _search_log(self, job: Job, log: Log, before: int, found: int) -> None:
        """Search a log from below an offset, where so many lines of it are found already."""
        size = log.size
        end = min(before, size)
        lowest = size - GREP_JOB_BYTES  # a log may be one huge hole
        floor = max(0, lowest, end - (GREP_BYTES - self.bytes))
        wanted = max(0, min(self.query.per_job - found, self.query.limit - len(self.hits)))
        lines, following = log.search(self.query.q.encode(), end, wanted, self.deadline, floor)
        self.bytes += max(0, end - (log.start if following is None else following))
        patience = LINE_NUMBER_TIME if self.is_numbered else 0.0
        numbered = number_hits(log, lines, time.monotonic() + patience)
        self.hits += [{"job": job_summary(job)} | line for line in numbered]
        found += len(lines)
        if following is None or following <= lowest:
            return
        if found >= self.query.per_job:
            self.more_in.append(job.id)
        else:
            self.next = f"{job.id}.{following}.{found}"


def job_title(job: Job) -> str:
    """What to call it, on one line."""
    return " ".join((job.name or str(job.command)).split())[:80]


def job_summary(job: Job) -> dict[str, Any]:
    """What a hit tells of its job."""
    return {
        "id": job.id,
        "name": job.name,
        "title": job_title(job),
        "queue": job.queue,
        "status": job.status,
        "submitted_at": job.submitted_at,
        "finished_at": job.finished_at,
    }


@routes.get("/logs")
def search_logs() -> dict[str, Any]:
    """The lines of all logs that hold a text, newest jobs first."""
    query = Grep.parse(query_parameters())
    with state().searches.turn(searcher()):
        return GrepPage(query, SEARCH_TIME).search().as_dict()


BULK_STATUSES: dict[str, Sequence[Status]] = {
    "rerun": FINISHED,
    "cancel": (Status.QUEUED, Status.RUNNING),
    "delete": FINISHED,
}
BULK_DONE = {"rerun": "run again", "cancel": "cancelled", "delete": "deleted"}


class Chosen(NamedTuple):
    """The jobs that filters choose for an action, in the order in which to do it."""

    jobs: list[Job]
    left_out: int  # jobs that were run again already
    complete: bool  # False: these are the newest of them


def choose(query: Bulk, limit: int, deadline: float) -> Chosen:
    """Find the jobs; 400 for a status whose jobs do not allow that."""
    allowed = BULK_STATUSES[query.to]
    if query.status not in (None, *allowed):
        message = f"only such jobs can be {BULK_DONE[query.to]}"
        abort(400, f"status must be one of {', '.join(allowed)}: {message}")
    statuses = [query.status] if query.status else allowed
    found: dict[str, Job] = {}  # by ID: one that moves meanwhile is met twice
    complete = True
    for status in statuses:
        count = 0
        for page in iter_pages(status, query.queue, query.q, query.first_id()):
            found |= {job.id: job for job in page}
            count += len(page)
            if count > limit or time.monotonic() > deadline:
                complete = False
                break
    jobs = sorted(found.values(), key=lambda job: job.id, reverse=True)
    complete = complete and len(jobs) <= limit
    return in_order(query.to, jobs[:limit], complete, deadline)


def in_order(action: str, jobs: list[Job], complete: bool, deadline: float) -> Chosen:
    """Of jobs that are newest first. Reruns stand in line as the jobs did. What waits is cancelled
    before what runs, else a free worker would start it."""
    if action == "cancel":
        return Chosen(sorted(jobs, key=lambda job: job.status is Status.RUNNING), 0, complete)
    if action == "delete" or not jobs:
        return Chosen(jobs[::-1], 0, complete)
    again: set[str | None] = set()  # a rerun is younger than its job
    for page in iter_pages(None, None, "", jobs[-1].id):
        again |= {job.rerun_of for job in page}
        if time.monotonic() > deadline:
            complete = False
            break
    left = [job for job in jobs[::-1] if job.id not in again]
    return Chosen(left, len(jobs) - len(left), complete)


def iter_pages(
    status: Status | None, queue: str | None, text: str, since: str | None
) -> Iterator[Sequence[Job]]:
    """All jobs, as Store.list gives them, a few at a time."""
    before = None
    while True:
        jobs, before = state().store.list(status, queue, text, BULK_STEP, before, since, short=True)
        yield jobs
        if before is None:
            return


def bulk_key(job_id: str) -> str:
    """The key of a rerun among many: each job is run again once, also if two people do it at a
    time."""
    return own_key(f"rerun {job_id}")


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


def some_names(names: Iterable[str]) -> str:
    """The first of these names, and how many more there are."""
    known = sorted(names)
    more = len(known) - NAMES_SHOWN
    return ", ".join(known[:NAMES_SHOWN]) + (f" and {more} more" if more > 0 else "")


@routes.get("/metrics")
def metrics() -> Response:
    return Response(generate_latest(state()), mimetype="text/plain")


TAGS = {
    "jobs": "Submit, list, cancel, rerun and delete jobs.",
    "logs": "Read, follow and search logs. With a ticket a browser can read them without a token.",
    "saved commands": "Commands that are kept under a name, run with values, or run at times.",
    "queues": "Pause and resume queues.",
    "service": "Workers, health, metrics, and this description.",
}
OVERVIEW = (
    "Jobs and their logs. Times are RFC 3339 in UTC; a value that is unknown or does not apply is "
    "null. Errors are problem details (RFC 9457); `detail` is one sentence that says what is wrong "
    "and what is allowed."
)
REF = "#/components/schemas/{model}"
TEXT = {"type": "string"}
MAYBE_TEXT = {"type": ["string", "null"]}
NUMBER = {"type": "integer"}
MAYBE_NUMBER = {"type": ["integer", "null"]}
TIME = {"type": ["string", "null"], "format": "date-time"}
COUNT = {"type": "integer", "minimum": 0}
TEXTS = {"type": "array", "items": TEXT}


ANSWER_HEADERS = {  # header -> its schema, and when it is sent and what it means
    "Location": (TEXT, "The path of what was created."),
    "ETag": (TEXT, "For If-None-Match."),
    "Retry-After": (COUNT, "Seconds after which to try again."),
    "WWW-Authenticate": (TEXT, "Bearer"),
    "X-Log-Offset": (COUNT, "Offset of the first byte of the answer."),
    "X-Log-Next": (COUNT, "Offset from which to read next."),
    "X-Log-Size": (COUNT, "Bytes of the log."),
    "X-Log-Start": (COUNT, "Offset of the first byte that is kept."),
    "X-Log-Line": (COUNT, "Number of the first line of the answer, if it is known soon enough."),
    "X-Log-Lines": (COUNT, "Lines of the log, if they are counted."),
    "X-Log-Complete": ({"type": "boolean"}, "The job has ended, and this is the end of its log."),
    "X-Job-Status": (TEXT, "The job's status."),
}
LOG_HEADERS = ["ETag", *(name for name in ANSWER_HEADERS if name.startswith("X-"))]


class Operation(NamedTuple):
    """One method of one path: who may call it, what it takes and what it answers."""

    access: Access
    id: str  # for the names of functions in generated clients
    tag: str  # one of TAGS
    summary: str
    answers: dict[str, str]  # status -> names of schemas (of JSON) and media types; "": no body
    description: str = ""
    query: type[RequestModel] | None = None
    body: type[RequestModel] | None = None
    keyed: bool = False  # takes an Idempotency-Key
    needs_body: bool = True  # if it takes one
    headers: Sequence[str] = ()  # of answers with a body, from ANSWER_HEADERS
    errors: tuple[int, ...] = ()  # besides those of every operation of its kind


TICKET_USE = (
    "For `GET /jobs/{job_id}/logs?ticket=…`. A page of the `origin` may read that answer, too,"
    " unless TAILBOARD_DASHBOARD lists the origins that may."
)


OPERATIONS: dict[tuple[str, str], Operation] = {
    ("get", "/jobs"): Operation(
        Access.TOKEN,
        "listJobs",
        "jobs",
        "List jobs, newest first",
        {"200": "Jobs", "304": ""},
        "A page may be short and have a `next` nevertheless: at most 2,000 jobs are read for it.",
        query=Listing,
    ),
    ("post", "/jobs"): Operation(
        Access.TOKEN,
        "submitJob",
        "jobs",
        "Submit a job",
        {"201": "Job"},
        "With an Idempotency-Key that was used before, the answer is the job of that time.",
        body=Submission,
        keyed=True,
        headers=["Location"],
    ),
    ("get", "/jobs/{job_id}"): Operation(
        Access.TOKEN, "getJob", "jobs", "Show a job", {"200": "Job"}
    ),
    ("delete", "/jobs/{job_id}"): Operation(
        Access.TOKEN, "deleteJob", "jobs", "Delete a job that has ended", {"204": ""}, errors=(409,)
    ),
    ("post", "/jobs/{job_id}/cancel"): Operation(
        Access.TOKEN,
        "cancelJob",
        "jobs",
        "Cancel a job",
        {"202": "Job"},
        "A queued job is cancelled at once. A running job is still running in the answer; its "
        "worker ends all of its processes.",
        errors=(409,),
    ),
    ("post", "/jobs/{job_id}/rerun"): Operation(
        Access.TOKEN,
        "rerunJob",
        "jobs",
        "Submit a job like this one",
        {"201": "Job"},
        "`rerun_of` of the new job is the ID of this one.",
        keyed=True,
        headers=["Location"],
    ),
    ("get", "/bulk"): Operation(
        Access.TOKEN,
        "chooseJobs",
        "jobs",
        "List the jobs to rerun, cancel or delete",
        {"200": "Chosen"},
        "It does nothing to them: ask for each of the IDs, in this order, on its own.",
        query=Bulk,
    ),
    ("get", "/jobs/{job_id}/logs"): Operation(
        Access.TICKET_OR_TOKEN,
        "readLog",
        "logs",
        "Read, follow, search or download a log",
        {
            "200": "text/plain LogSearch text/event-stream",
            "206": "text/plain",
            "304": "",
        },
        "At most one of `tail`, `offset`, `since` and `q`. With `q` the answer is JSON. With "
        "`follow=1` it ends when the job does; with `Accept: text/event-stream` it consists of "
        "events. A `ticket` replaces the token.",
        query=LogQuery,
        headers=LOG_HEADERS,
        errors=(416,),
    ),
    ("get", "/logs"): Operation(
        Access.TOKEN,
        "searchLogs",
        "logs",
        "Find lines in all logs, newest jobs first",
        {"200": "Hits"},
        "If `next` is not null, the search is not over: repeat it with that as `before`.",
        query=Grep,
    ),
    ("post", "/jobs/{job_id}/ticket"): Operation(
        Access.TOKEN,
        "createLogTicket",
        "logs",
        "Create a ticket for the log of one job",
        {"201": "Ticket"},
        TICKET_USE,
        body=TicketRequest,
        needs_body=False,
    ),
    ("post", "/ticket"): Operation(
        Access.TOKEN,
        "createTicket",
        "logs",
        "Create a ticket for the log of any job",
        {"201": "Ticket"},
        TICKET_USE,
        body=TicketRequest,
        needs_body=False,
    ),
    ("get", "/saved"): Operation(
        Access.TOKEN,
        "listSavedCommands",
        "saved commands",
        "List saved commands",
        {"200": "SavedCommands", "304": ""},
    ),
    ("get", "/saved/{name}"): Operation(
        Access.TOKEN,
        "getSavedCommand",
        "saved commands",
        "Show a saved command",
        {"200": "SavedCommand"},
    ),
    ("put", "/saved/{name}"): Operation(
        Access.TOKEN,
        "saveCommand",
        "saved commands",
        "Save a command",
        {"200": "SavedCommand", "201": "SavedCommand"},
        "201 if the name is new, 200 if it replaces a saved command. The body may also contain the "
        "fields that only the answers have; they are ignored. 409 if there is no room.",
        body=SavedRequest,
        headers=["Location"],
        errors=(409,),
    ),
    ("delete", "/saved/{name}"): Operation(
        Access.TOKEN,
        "deleteSavedCommand",
        "saved commands",
        "Delete a saved command",
        {"204": ""},
        "Its jobs are kept.",
    ),
    ("post", "/saved/{name}/run"): Operation(
        Access.TOKEN,
        "runSavedCommand",
        "saved commands",
        "Run a saved command",
        {"201": "Job"},
        "The body has values for its params, by their names.",
        query=RunQuery,
        body=RunValues,
        keyed=True,
        headers=["Location"],
        needs_body=False,
    ),
    ("get", "/queues"): Operation(
        Access.TOKEN,
        "listQueues",
        "queues",
        "List queues",
        {"200": "Queues"},
        "The queues in which jobs wait, that a worker serves by name, or that are paused.",
    ),
    ("put", "/queues/{queue}/pause"): Operation(
        Access.TOKEN,
        "pauseQueue",
        "queues",
        "Pause a queue",
        {"200": "Pause"},
        "No more jobs start from it; running jobs continue.",
        body=PauseRequest,
        needs_body=False,
        errors=(400,),
    ),
    ("delete", "/queues/{queue}/pause"): Operation(
        Access.TOKEN, "resumeQueue", "queues", "Resume a queue", {"204": ""}, errors=(400,)
    ),
    ("get", "/workers"): Operation(
        Access.TOKEN,
        "listWorkers",
        "service",
        "List workers and machines",
        {"200": "Workers"},
        "Also the storage, the queues that are paused, and the entries that cannot be read.",
    ),
    ("get", "/healthz"): Operation(
        Access.OPEN,
        "getHealth",
        "service",
        "Report health",
        {"200": "Health", "503": "Health"},
        "503 if something needs attention; `reason` says what. It needs no token.",
    ),
    ("get", "/metrics"): Operation(
        Access.TOKEN,
        "getMetrics",
        "service",
        "Report metrics for Prometheus",
        {"200": "text/plain"},
    ),
    ("get", "/"): Operation(
        Access.TOKEN, "getRoot", "service", "Say what this is", {"200": "Root"}
    ),
    ("get", "/openapi.json"): Operation(
        Access.TOKEN, "getOpenapi", "service", "Describe this API", {"200": "application/json"}
    ),
}


ERRORS = {
    400: "A value is wrong; `detail` names it and says what is allowed.",
    401: "The token is missing or wrong.",
    403: "Without a token the API serves only programs of its own machine, and never other sites.",
    404: "It does not exist.",
    408: "The body did not arrive in time.",
    409: "Its state does not allow that.",
    413: "The body is too large.",
    415: "The body is not application/json.",
    416: "The offset is past the end of the log.",
    422: "The Idempotency-Key belongs to a job that another request has submitted.",
    503: "Not possible now; try again later.",
}
PATH_PARAMETERS = {
    "job_id": TEXT | {"description": "the ID of a job"},
    "name": TEXT | {"description": f"the name of a saved command, {SAVED_NAMES}"},
    "queue": TEXT | {"description": f"the name of a queue, {QUEUE_NAMES}"},
}
IDEMPOTENCY_KEY = TEXT | {
    "minLength": 1,
    "description": "Any text without control characters other than a tab. A request that is sent "
    "again with the same key creates nothing new; another request with that key is a 422.",
}


# The meaning of the fields of answers that their names do not make clear.
NOTES = {
    "command": "A shell line, or a program and its arguments.",
    "cwd": "The folder to run in; null: the worker's.",
    "timeout": "Seconds that an attempt may run.",
    "retry_delay": "Seconds before the first retry, doubled before each further one.",
    "not_before": "The next attempt does not start before this time.",
    "attempt": "Number of the current or last attempt, from 1.",
    "exit_code": "128+n after signal n.",
    "reason": "A sentence, if the status needs one.",
    "hint": "The line of the log that says why it ended badly.",
    "pid": "Of the process that leads the job's process group.",
    "rerun_of": "The ID of the job that this one repeats.",
    "saved": "The name of the saved command.",
    "max_rss_bytes": "The most memory that one of its processes used.",
    "log_size": "Bytes of the log.",
    "log_start": "Offset of the first byte of the log that is kept.",
    "slots": "Jobs that can run at a time.",
    "running": "Jobs that run now.",
    "queues": "The queues that it serves; empty: all.",
    "seen_at": "Time of its last heartbeat.",
    "responds": "False: it lives, but sends no heartbeats.",
    "heard_at": "Time of its last report.",
    "state": "`heard of`, or `unreachable` and since when.",
    "spool": "The machine's name.",
    "cron": "A cron expression; null: it has no times.",
    "zone": "The IANA time zone of `cron`.",
    "paused": "Its times pass without a run.",
}


def match_operations(app: Flask) -> dict[str, Access]:
    """The access of each route of the application, by its endpoint. CannotStart unless each route
    has an entry in OPERATIONS and each entry has a route."""
    served = {key: rule.endpoint for rule in app.url_map.iter_rules() for key in served_by(rule)}
    for method, path in sorted(served.keys() - OPERATIONS.keys()):
        route = f"{method.upper()} {path}"
        raise CannotStart(f"the route {route} declares no access: OPERATIONS has no entry for it")
    for method, path in sorted(OPERATIONS.keys() - served.keys()):
        raise CannotStart(f"OPERATIONS has {method.upper()} {path}, which no route serves")
    declared: dict[str, Access] = {}
    for key, endpoint in served.items():
        access = OPERATIONS[key].access
        if declared.setdefault(endpoint, access) is not access:
            raise CannotStart(f"the routes of {endpoint} declare different access in OPERATIONS")
    return declared


def served_by(rule: Rule) -> list[tuple[str, str]]:
    """The keys in OPERATIONS of what this rule serves; Flask adds HEAD and OPTIONS by itself."""
    path = re.sub("<(.*?)>", r"{\1}", rule.rule)
    methods = (rule.methods or set()) - {"HEAD", "OPTIONS"}
    return [(method.lower(), path) for method in sorted(methods)]


@routes.get("/openapi.json")
def openapi() -> dict[str, Any]:
    """This API as OpenAPI 3.1 has it, made of the models that check what comes in."""
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


def without_default(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema, with its default only in the description: generated clients send every `default`
    that they find, and some parameters exclude each other."""
    schema = dict(schema)
    default = schema.pop("default", None)
    if default not in (None, False, ""):
        schema["description"] += f"; default: {default}"
    return schema


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


def request_schema(model: type[RequestModel]) -> dict[str, Any]:
    schema = model.model_json_schema(ref_template=REF)
    schema.pop("$defs", None)  # Status, which is among the answers' schemas
    return schema | {"additionalProperties": False}


def body_schemas() -> dict[str, Any]:
    """The bodies of requests, and what they contain."""
    models = (operation.body for operation in OPERATIONS.values())
    bodies = {model.__name__: request_schema(model) for model in models if model}
    return bodies | {
        "SavedParam": SavedParam.model_json_schema(),
        "RunValues": {"type": "object", "additionalProperties": TEXT},
    }


def answer_schemas() -> dict[str, Any]:
    """What routes answer with, by the names that OPERATIONS uses, and what these consist of."""
    return {
        "Status": {"type": "string", "enum": list(Status)},
        "Ticket": an_object(ticket=TEXT, expires_in=COUNT | {"description": "Seconds."}),
        "Problem": an_object(
            type=TEXT, title=TEXT, status=NUMBER, detail=TEXT | {"description": "One sentence."}
        ),
        **job_schemas(),
        **log_schemas(),
        **queue_schemas(),
        **saved_schemas(),
        **service_schemas(),
    }


def job_schemas() -> dict[str, Any]:
    """A job on its own and in a list, made of the dataclass that it is."""
    job = answer_fields(Job, WIRE)
    attempt = an_object(
        number=COUNT,
        started_at=TIME,
        finished_at=TIME,
        exit_code=MAYBE_NUMBER,
        status={"anyOf": [refer("Status"), {"type": "null"}]},
        hint=MAYBE_TEXT,
    )
    whole = an_object(**job, attempts=list_of("Attempt"))
    whole["properties"]["queued_before"] = COUNT | {
        "description": "Jobs of its queue that come before it, while it is queued."
    }
    return {
        "Job": whole,
        "Attempt": attempt,
        "ListedJob": listed_schema(job),
        "Jobs": an_object(
            jobs=list_of("ListedJob"),
            next=MAYBE_TEXT | {"description": "The `before` of the next page; null: the end."},
            counts=refer("Counts"),
            paused=list_of("Pause"),
        ),
        "Counts": an_object(**dict.fromkeys(Status, COUNT)),
        "Chosen": an_object(
            ids=TEXTS,
            left_out=COUNT | {"description": "Jobs that ran again already."},
            complete={"type": "boolean", "description": "False: these are only the newest."},
        ),
    }


def listed_schema(job: dict[str, Any]) -> dict[str, Any]:
    """A job in a list; `job`: the properties of one on its own."""
    listed = an_object(**{name: job[name] for name in job if name != "env"})
    listed["properties"]["command_cut"] = {
        "type": "boolean",
        "description": "True: `command` is only the beginning, which has the same type; "
        "GET /jobs/ID has all of it. Left out if the command is whole.",
    }
    return listed


def log_schemas() -> dict[str, Any]:
    """What searches of logs answer with."""
    job = answer_fields(Job, ["id", "name", "queue", "status", "submitted_at", "finished_at"])
    line = MAYBE_NUMBER | {"description": "Its number, from 1; null: not known."}
    following = MAYBE_TEXT | {"description": "The `before` with which to continue; null: the end."}
    following_offset = following | {"type": ["integer", "null"]}
    return {
        "HitJob": an_object(title=TEXT, **job),
        "Hit": an_object(job=refer("HitJob"), offset=COUNT, line=line, text=TEXT),
        "Searched": an_object(jobs=COUNT, bytes=COUNT, unreadable=COUNT),
        "Hits": an_object(
            hits=list_of("Hit"),
            more_in=TEXTS | {"description": "IDs of jobs that may have more such lines."},
            next=following,
            searched=refer("Searched"),
        ),
        "Match": an_object(offset=COUNT, line=line, text=TEXT),
        "Matches": an_object(matches=list_of("Match"), next=following_offset),
        "LogSearch": {"anyOf": [refer("Matches"), refer("MatchCount")]},
        "MatchCount": an_object(count=COUNT, complete={"type": "boolean"}),
    }


def queue_schemas() -> dict[str, Any]:
    paused = {"anyOf": [refer("Pause"), {"type": "null"}]}
    return {
        "Pause": an_object(**answer_fields(Pause)),
        "Queue": an_object(queue=TEXT, queued=COUNT, paused=paused),
        "Queues": an_object(queues=list_of("Queue")),
    }


def saved_schemas() -> dict[str, Any]:
    """A saved command on its own and in a list, made of the dataclass that it is."""
    command = {
        "saved": TEXT,
        **answer_fields(SavedCommand, DEFINITION),
        "saved_at": TIME,
        "next_run": TIME,
        "last_run": {"anyOf": [refer("SavedRun"), {"type": "null"}]},
        "runs": list_of("SavedRun"),
        "skipped": refer("Skipped"),
    }
    listed = {name: command[name] for name in command if name != "env"}
    return {
        "SavedCommand": an_object(**command),
        "ListedCommand": an_object(**listed),
        "SavedCommands": an_object(saved=list_of("ListedCommand")),
        "SavedRun": an_object(**answer_fields(Job, RUN_FIELDS)),
        "Skipped": an_object(count=COUNT, last_at=TIME, for_job=MAYBE_TEXT),
        "Param": an_object(**answer_fields(Param)),
    }


def service_schemas() -> dict[str, Any]:
    size = MAYBE_NUMBER | {"description": "Only of Redis."}
    store = an_object(kind={"enum": ["folder", "redis"]})
    store["properties"] |= {
        "version": MAYBE_TEXT | {"description": "Only of Redis."},
        "used_bytes": size,
        "max_bytes": size,
        "rolled_back_at": MAYBE_TEXT
        | {"description": "When Redis was seen to have returned to an older state. Only of Redis."},
    }
    return {
        "Worker": an_object(**answer_fields(WorkerInfo)),
        "Machine": an_object(**answer_fields(Machine)),
        "Root": an_object(name=TEXT, description=TEXT, page=TEXT, openapi=TEXT),
        "Storage": store,
        "Workers": an_object(
            workers=list_of("Worker"),
            machines=list_of("Machine"),
            paused=list_of("Pause"),
            storage=refer("Storage"),
            unreadable=TEXTS,
        ),
        "Health": an_object(
            status={"enum": ["ok", "unhealthy"]},
            reason=MAYBE_TEXT | {"description": "Why it is unhealthy."},
            workers=COUNT,
            oldest_queued_seconds={"type": ["number", "null"]},
            unreadable=COUNT,
        ),
    }


def answer_fields(kind: type, names: Iterable[str] = ()) -> dict[str, Any]:
    """The schemas of these fields of a dataclass (none given: of all), as answers have them."""
    known = TypeAdapter(kind).json_schema(ref_template=REF)["properties"]
    described = {}
    for name in names or known:
        schema = {key: value for key, value in known[name].items() if key in SCHEMA_KEYS}
        if name.endswith("_at") or name in ("not_before", "since"):
            schema = dict(TIME)
        if name in NOTES:
            schema["description"] = NOTES[name]
        described[name] = schema
    return described


SCHEMA_KEYS = ("type", "anyOf", "items", "additionalProperties", "$ref")  # and no title or default


def list_of(name: str) -> dict[str, Any]:
    return {"type": "array", "items": refer(name)}


def refer(name: str) -> dict[str, Any]:
    return {"$ref": REF.format(model=name)}


def an_object(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties)}


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


def change_token(tokens: TokenFile, name: str, token: str | None, is_replaced: bool) -> None:
    """Give NAME this token, or none. ValueError where it has one that is not to be replaced, or
    none that could be; and where the file is bad, which stays as it is."""
    path = os.path.realpath(tokens.path)
    with locked_folder(os.path.dirname(path)):
        is_there = os.path.exists(path)
        names = [each.name for each in tokens.read()] if is_there else []
        if name in names and not is_replaced:
            raise ValueError(f"{name} has a token already: --replace makes another")
        if name not in names and is_replaced:
            raise ValueError(f"{name} has no token")
        kept = read_small(path).splitlines() if is_there else []
        lines = [line for line in kept if line.split()[:1] != [name.encode()]]
        if token is not None:
            lines.append(f"{name} {hashlib.sha256(token.encode()).hexdigest()}".encode())
        replace_file(path, b"".join(line + b"\n" for line in lines))


@contextmanager
def locked_folder(path: str) -> Iterator[None]:
    """Hold a folder's lock, so that two commands at once do not undo each other's change."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


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
BODY_TIME = 10  # seconds for a whole body
CLIENT_TIME = 30  # seconds for a client to take the next bytes, or to prove that it lives
STOP_TIME = 2  # seconds for requests to end once the server stops; followers come back
MAX_HEAD_BYTES = 64 << 10
MAX_BODIES_BYTES = 64 << 20  # of all that arrive at a time; above that only small ones are taken
SMALL_BODY_BYTES = 64 << 10
MAX_CONNECTIONS = 4_000
WAITING_SHARE = 2  # of all connections, one in so many may wait for its client
WATCH_INTERVAL = 0.25  # seconds between looks at how many wait
OTHER_THREADS = 36  # beside the followers'
M_ARENA_MAX = -8  # in malloc.h; see mallopt(3)
MAX_HEAPS = 2
OPEN_FILES = "/dev/fd"  # a folder of the process's descriptors
LOG_INTERVAL = 60.0  # seconds between two lines about closed connections
DESCRIPTORS = 4  # of each follower, and of each other thread
ACCESS = logging.getLogger("tailboard.access")
# What ASGI calls them: https://asgi.readthedocs.io/en/latest/specs/www.html
Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


class FlaskOverAsgi:
    """The Flask application as an ASGI application. Bytes are received and sent in the event loop,
    so that a slow client holds no thread; Flask itself runs in threads."""

    def __init__(self, app: Flask) -> None:
        self.app = app
        state: AppState = app.extensions["tailboard"]
        self.outages = state.outages
        threads = state.settings.followers + OTHER_THREADS
        self.threads = ThreadPoolExecutor(threads, "request")
        self.bodies_bytes = 0  # of the bodies that arrive now
        self.connections = Connections(connection_limit(state.settings) // WAITING_SHARE)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.live(receive, send)
        else:
            await self.answer(scope, receive, send)

    async def live(self, receive: Receive, send: Send) -> None:
        """The background tasks, from the server's start to its end."""
        await receive()
        tasks = [
            asyncio.create_task(set_up_listeners(self.connections)),
            asyncio.create_task(leave_with_parent()),
        ]
        await send({"type": "lifespan.startup.complete"})
        await receive()
        for task in tasks:
            task.cancel()
        await send({"type": "lifespan.shutdown.complete"})

    async def answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        begun = time.monotonic()
        environ = make_environ(scope)
        environ["wsgi.input"] = await self.read_body(environ, receive)
        with self.connections.answering(scope["client"]):
            await self.answer_whole(scope, environ, receive, send, begun)

    async def answer_whole(
        self, scope: Scope, environ: dict[str, Any], receive: Receive, send: Send, begun: float
    ) -> None:
        """Answer a request whose body has arrived."""
        answer = WsgiResponse(self.threads)
        try:
            chunk = await answer.begin(self.app, environ)
        except DownloadBroken:
            chunk = await answer.fail(503, "the log has lost its beginning meanwhile; try again")
        except StoreError as error:
            self.outages.report(error)
            chunk = await answer.fail(503, f"the storage cannot do that now: {error}")
        except Exception:  # of ours: Flask itself answers those of a route
            self.app.logger.exception("no answer to %s %r", scope["method"], scope["raw_path"])
            chunk = await answer.fail(500, ERROR_SENTENCES[500])
        head = {"status": answer.status, "headers": answer.headers}
        await send({"type": "http.response.start"} | head)
        if answer.closed:
            await send({"type": "http.response.body", "body": chunk or b""})
        else:
            try:
                await stream_chunks(answer, chunk, receive, send)
            except StoreError as error:  # the answer breaks off: a follower reconnects
                self.outages.report(error)
        log_access(scope, answer, time.monotonic() - begun)

    async def read_body(self, environ: dict[str, Any], receive: Receive) -> Any:
        """The body as a file. Where it did not arrive, reading the file raises the reason."""
        if not environ.keys() & {"CONTENT_LENGTH", "HTTP_TRANSFER_ENCODING"}:
            return io.BytesIO()
        if int(environ.get("CONTENT_LENGTH", 0)) > MAX_BODY_BYTES:
            return io.BytesIO()  # Flask answers 413 without reading it
        body = bytearray()
        try:
            async with asyncio.timeout(BODY_TIME):
                await self.receive_body(body, receive)
        except TimeoutError:
            return FailedBody(BodyLate())
        except (BodyBroken, BodiesTooMany) as error:
            return FailedBody(error)
        finally:
            self.bodies_bytes -= len(body)
        return io.BytesIO(body)

    async def receive_body(self, body: bytearray, receive: Receive) -> None:
        """Fill `body`, up to a little more than Flask takes."""
        more = True
        while more and len(body) <= MAX_BODY_BYTES:
            message = await receive()
            if message["type"] != "http.request":
                raise BodyBroken
            body += message["body"]
            self.bodies_bytes += len(message["body"])
            if len(body) > SMALL_BODY_BYTES and self.bodies_bytes > MAX_BODIES_BYTES:
                raise BodiesTooMany
            more = message["more_body"]


async def stream_chunks(
    answer: WsgiResponse, chunk: bytes | None, receive: Receive, send: Send
) -> None:
    """Send chunk after chunk, each when the client has taken those before, until the end or until
    the client is gone."""
    gone = asyncio.create_task(disconnected(receive))
    try:
        while chunk is not None and not gone.done():
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
            chunk = await answer.next_chunk()
    except DownloadBroken as error:
        ACCESS.info("broken off: %s", error)
        return  # before its end, upon which the server closes the connection
    finally:
        gone.cancel()
        await answer.close()
    await send({"type": "http.response.body", "body": b""})


async def disconnected(receive: Receive) -> None:
    """Until the client is gone."""
    while (await receive())["type"] != "http.disconnect":
        pass


def log_access(scope: Scope, answer: WsgiResponse, seconds: float) -> None:
    path = scope["raw_path"].decode("latin-1")  # as it was sent; and no query, which holds tickets
    asked = f'{scope["client"][0]} "{scope["method"]} {path}"'
    ACCESS.info("%s %d %d bytes %.0f ms", asked, answer.status, answer.size, seconds * 1000)


class FailedBody:
    """A body that did not arrive: reading it raises the reason."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def read(self, size: int = -1) -> bytes:
        raise self.error

    readinto = readline = read


class WsgiResponse:
    """One WSGI answer (PEP 3333): its head, then its body chunk by chunk. A thread makes one chunk
    and is free again while the chunk is sent."""

    def __init__(self, threads: ThreadPoolExecutor) -> None:
        self.threads = threads
        # One context for all steps, whichever threads take them: Flask keeps its own there.
        self.context = contextvars.copy_context()
        self.status, self.size = 500, 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.body: Any = ()
        self.chunks: Iterator[bytes] = iter(())
        self.closed = False

    async def begin(self, app: Flask, environ: dict[str, Any]) -> bytes | None:
        """The head, and the first piece; where that is all, the body is closed."""
        return await self._step(self._begin, app, environ)

    async def fail(self, status: int, detail: str) -> bytes:
        """Answer with problem details, if the first piece is not available."""
        body = encode_problem(status, HTTPStatus(status).phrase, detail)
        self.status, self.size = status, len(body)
        self.headers = [
            (b"content-type", b"application/problem+json"),
            (b"content-length", b"%d" % len(body)),
        ]
        if status == 503:
            self.headers.append((b"retry-after", RETRY_AFTER.encode()))
        await self.close()
        return body

    async def next_chunk(self) -> bytes | None:
        return await self._step(self._next)

    async def close(self) -> None:
        await self._step(self._close)

    async def _step(self, function: Callable[..., bytes | None], *args: Any) -> bytes | None:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self.threads, self.context.run, function, *args)

    def _begin(self, app: Flask, environ: dict[str, Any]) -> bytes | None:
        self.body = app(environ, self._start)  # type: ignore[arg-type]  # Flask needs no write()
        self.chunks = iter(self.body)
        chunk = self._next()
        length = dict(self.headers).get(b"content-length")
        if chunk is None or length == b"%d" % len(chunk):
            self._close()
        return chunk

    def _start(self, status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> None:
        self.status = int(status.split()[0])
        self.headers = [(n.lower().encode("latin-1"), v.encode("latin-1")) for n, v in headers]

    def _next(self) -> bytes | None:
        chunk = next(self.chunks, None)
        self.size += len(chunk or b"")
        return chunk

    def _close(self) -> None:
        self.closed = True
        if hasattr(self.body, "close"):
            self.body.close()


def make_environ(scope: Scope) -> dict[str, Any]:
    """The WSGI environment of a request that came by ASGI."""
    environ = {
        "REQUEST_METHOD": scope["method"],
        "SCRIPT_NAME": "",
        "PATH_INFO": unquote_to_bytes(scope["raw_path"]).decode("latin-1"),
        "QUERY_STRING": scope["query_string"].decode("latin-1"),
        "SERVER_NAME": scope["server"][0],
        "SERVER_PORT": str(scope["server"][1]),
        "SERVER_PROTOCOL": f"HTTP/{scope['http_version']}",
        "REMOTE_ADDR": scope["client"][0],
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": scope["scheme"],
        "wsgi.input_terminated": True,  # it ends where the body ends
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
    }
    for name, value in scope["headers"]:
        if b"_" in name:  # would look like another that has a hyphen
            continue
        variable = name.decode("latin-1").upper().replace("-", "_")
        if variable not in ("CONTENT_TYPE", "CONTENT_LENGTH"):
            variable = f"HTTP_{variable}"
        before = f"{environ[variable]}," if variable in environ else ""
        environ[variable] = before + value.decode("latin-1")
    return environ


Peer = tuple[str, int]  # the address and port of a client


class Connections:
    """Closes connections if too many wait for their clients: for a request, or for the rest of its
    head or body. A client needs no token to open them, and the server has a limited number. Those
    of the address that has the most are closed first, and of these the oldest: a well-behaved
    client sends its request at once."""

    def __init__(self, limit: int) -> None:
        self.limit = limit  # connections that may wait
        self.busy: set[Peer] = set()  # clients whose requests are being answered
        self.known: list[Peer] = []  # clients that waited at the last look, the oldest first
        self.closed = 0  # since the last line in the log
        self.logged_at = -LOG_INTERVAL  # on the monotonic clock

    @contextmanager
    def answering(self, client: Sequence[Any]) -> Iterator[None]:
        """For the time in which this client waits for the server, and not the reverse."""
        peer = client[0], int(client[1])  # granian gives the port as text
        self.busy.add(peer)
        try:
            yield
        finally:
            self.busy.discard(peer)

    async def watch(self, port: int) -> None:
        """Close the excess connections to our `port` until the server ends."""
        while True:
            await asyncio.sleep(WATCH_INTERVAL)
            with suppress(OSError):  # no descriptor is free to look with: try again
                if len(os.listdir(OPEN_FILES)) > self.limit:  # else there can be no excess
                    await asyncio.to_thread(self._close_excess, port)

    def _close_excess(self, port: int) -> None:
        found = client_sockets(port)
        busy = self.busy.copy()
        waiting = {peer: fd for peer, fd in found.items() if peer not in busy}
        known = [peer for peer in self.known if peer in waiting]
        self.known = known + list(waiting.keys() - set(known))
        excess = excess_peers(self.known, len(waiting) - self.limit)
        for peer in excess:
            close_connection(waiting[peer], peer)
        self._log(excess)

    def _log(self, closed: list[Peer]) -> None:
        self.closed += len(closed)
        now = time.monotonic()
        if closed and now >= self.logged_at + LOG_INTERVAL:
            logging.getLogger("tailboard").warning(
                "closed %d connections that waited for their clients, the last of %s",
                self.closed,
                closed[-1][0],
            )
            self.closed, self.logged_at = 0, now


def excess_peers(peers: Sequence[Peer], count: int) -> list[Peer]:
    """`count` of these peers: each time the first one of the address that has the most left."""
    by_address: dict[str, deque[Peer]] = {}
    for peer in peers:
        by_address.setdefault(peer[0], deque()).append(peer)
    heap = [(-len(theirs), address) for address, theirs in by_address.items()]
    heapq.heapify(heap)
    chosen: list[Peer] = []
    while heap and len(chosen) < count:
        left, address = heapq.heappop(heap)
        chosen.append(by_address[address].popleft())
        if left < -1:
            heapq.heappush(heap, (left + 1, address))
    return chosen


def client_sockets(port: int) -> dict[Peer, int]:
    """The descriptors of the connections that clients have made to our port."""
    found = {}
    for name in os.listdir(OPEN_FILES):
        with suppress(OSError):  # not a socket, not connected, or just closed
            connection = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 0, int(name))
            try:
                ours, peer = connection.getsockname(), connection.getpeername()
            finally:
                connection.detach()  # the server's: it closes it
            if isinstance(peer, tuple) and ours[1] == port:
                found[peer[0], peer[1]] = int(name)
    return found


def close_connection(fd: int, peer: Peer) -> None:
    """Close the connection with this client; the server notices that it has ended."""
    with suppress(OSError), socket.socket(fileno=os.dup(fd)) as connection:
        if connection.getpeername()[:2] == peer:  # else the number is another connection's by now
            connection.shutdown(socket.SHUT_RDWR)


async def set_up_listeners(connections: Connections) -> None:
    """Set up the listening sockets as soon as they exist, and print the address: from now on
    clients can connect, and their connections are watched."""
    while not (listeners := listening_sockets()):
        await asyncio.sleep(0.01)
    bound_clients(listeners)
    host, port = listeners[0].getsockname()[:2]
    print(f"api: http://{f'[{host}]' if ':' in host else host}:{port}", flush=True)
    for listener in listeners:
        listener.close()
    await connections.watch(port)


def bound_clients(listeners: list[socket.socket]) -> None:
    """Close connections whose client reads nothing or has vanished: accepted connections inherit
    the time-outs of the listening socket."""
    for listener in listeners:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            timeout = CLIENT_TIME * 1000
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, timeout)
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, CLIENT_TIME)


def listening_sockets() -> list[socket.socket]:
    found = psutil.Process().net_connections("tcp")
    fds = [connection.fd for connection in found if connection.status == psutil.CONN_LISTEN]
    return [socket.socket(fileno=os.dup(fd)) for fd in fds]


async def leave_with_parent() -> None:
    """End with the server's first process: it watches this one, but where it is killed, this one
    would go on and keep the port."""
    parent = os.getppid()
    while os.getppid() == parent:
        await asyncio.sleep(1)
    os._exit(1)


def share_heaps() -> None:
    """Make all threads allocate from the same heaps. glibc would give each thread its own, and each
    heap would keep the space of the longest list that its thread ever made."""
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).mallopt(M_ARENA_MAX, MAX_HEAPS)


def serve_app() -> FlaskOverAsgi:
    """What the server's second process serves."""
    share_heaps()
    start_logging(sys.stdout)
    ACCESS.setLevel(logging.INFO)
    try:
        return FlaskOverAsgi(create_app())
    except CannotStart as error:
        sys.exit(f"api: {error.message}")


def resolve_bind(bind: str) -> tuple[str, int]:
    """`host:port` as an IP address and a port that are free; ValueError."""
    found = re.fullmatch(r"(?:\[([0-9a-fA-F:.%]+)\]|([^\s\[\]:/,]*)):([0-9]{1,5})", bind)
    if not found or not 0 < int(found[3]) < 65_536:
        allowed = "HOST:PORT with a port from 1 to 65535"
        raise ValueError(f"TAILBOARD_BIND must be {allowed}, not {bind!r:.80}")
    host, port = found[1] or found[2] or "0.0.0.0", int(found[3])
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        # The server would share the port with another server that allows it, such as one of ours.
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        raise ValueError(f"TAILBOARD_BIND: {bind} cannot be used: {error.strerror}") from None
    return str(address[0]), port


def raise_descriptor_limit() -> int:
    """Raise the limit of open files as far as is allowed, and return it."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    with suppress(ValueError, OSError):  # macOS says unlimited and means less
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return MAX_CONNECTIONS * 2 if soft == resource.RLIM_INFINITY else soft


def connection_limit(settings: Settings) -> int:
    """How many connections the server has at a time; ValueError if too few files may be open."""
    threads = settings.followers + OTHER_THREADS
    limit = raise_descriptor_limit()
    connections = limit - DESCRIPTORS * threads
    if connections < threads:
        raise ValueError(
            f"TAILBOARD_FOLLOWERS={settings.followers} needs {threads * (DESCRIPTORS + 1)} open "
            f"files, and the limit is {limit} (ulimit -n)"
        )
    return min(connections, MAX_CONNECTIONS)


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
