"""Which running jobs are late or silent.

A job is looked at only when it can be late or silent by what is known, so a thousand running jobs
cost next to nothing. All durations are those of the monotonic clock: a job is not late because
somebody has set the clock."""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from math import inf
from typing import NamedTuple, Self

import storage
from tailboard.durations import format_usual
from tailboard.files import boot_id
from tailboard.job import Job
from tailboard.notify.usual import Usual, UsualTimes
from tailboard.notify_rules import Event, Rule
from tailboard.status import Status
from tailboard.values import parse_time

CLOCK_TOLERANCE = 2.0  # seconds by which the two clocks may differ if none has jumped
RECHECK = 30.0  # seconds after which the usual times are looked up again
RETRY = 5.0  # seconds until a job that is about to start, or could not be read, is read again
LOOKS_AT_ONCE = 100  # jobs that one look reads; the others follow with the next look
READ_TIME = 0.1  # seconds that one look may spend reading the logs of earlier runs
UNREFINED_STEPS = 4  # looks in the time after which a job is silent, if its clock is not known
WATCHED = frozenset({Event.LATE, Event.SILENT})


class Sign(NamedTuple):
    """A running job is late or silent."""

    job: Job
    event: Event
    text: str  # "usually 36 s, now 2 min"


class Moment(NamedTuple):
    """What the clocks show."""

    monotonic: float
    wall: float  # seconds since 1970

    @classmethod
    def now(cls) -> Self:
        return cls(time.monotonic(), time.time())


@dataclass(slots=True)
class Watched:
    """An attempt of a running job, as it was last read. Its times are those of the monotonic
    clock."""

    job: Job
    events: set[Event]  # for which to look
    begun_at: float
    grew_at: float  # when its log last grew, or the attempt began
    read_at: float
    offset: float | None = None  # of its clocks when it began, wall minus monotonic; None: unknown
    plan: float = inf  # when to look at it next

    def clocks_agree(self, now: Moment) -> bool:
        """Has no clock jumped since the attempt began, so that the time of the log is reliable?"""
        if self.offset is None:
            return False
        return abs(now.wall - now.monotonic - self.offset) <= CLOCK_TOLERANCE

    def written_at(self, now: Moment) -> float | None:
        """When the log was last written to, on the monotonic clock; None if that is not known."""
        changed_at = self.job.log_changed_at
        if changed_at is None or not self.clocks_agree(now):
            return None
        return now.monotonic - max(0.0, now.wall - changed_at)

    def next_read(self, usual: Usual) -> float:
        """When it can be late or silent, by what is known; infinity if nothing is known."""
        times = [inf]
        if Event.LATE in self.events and usual.late_after is not None:
            times.append(self.begun_at + usual.late_after)
        if Event.SILENT in self.events and usual.silent_after is not None:
            times.append(self.grew_at + usual.silent_after)
            if self.offset is None:  # only a look shows whether its log has grown since the last
                times.append(self.read_at + usual.silent_after / UNREFINED_STEPS)
        return min(times)

    def pop_signs(self, usual: Usual, now: Moment) -> Sequence[Sign]:
        """What it shows now, each event once."""
        signs = []
        running, silent = now.monotonic - self.begun_at, now.monotonic - self.grew_at
        is_late = usual.late_after is not None and running >= usual.late_after
        is_silent = usual.silent_after is not None and silent >= usual.silent_after
        if is_late and Event.LATE in self.events:
            signs.append(Sign(self.job, Event.LATE, late_text(self.job, usual, running)))
        if is_silent and Event.SILENT in self.events:
            signs.append(Sign(self.job, Event.SILENT, silent_text(usual, silent)))
        self.events -= {sign.event for sign in signs}
        return signs

    def is_same_attempt(self, job: Job) -> bool:
        return (job.attempt, job.started_at) == (self.job.attempt, self.job.started_at)


def begin_watch(job: Job, events: set[Event], earliest: float, now: Moment) -> Watched:
    """What is known of an attempt that is read for the first time; it has not begun before
    `earliest`."""
    begun_at, offset = begin_of(job, earliest, now)
    found = Watched(job, events, begun_at, now.monotonic, now.monotonic, offset)
    if job.reason is not None:  # its machine does not report, so its log may have grown
        return found
    if job.log_size == 0:
        found.grew_at = begun_at
    elif (written_at := found.written_at(now)) is not None:
        found.grew_at = max(begun_at, written_at)
    return found


def begin_of(job: Job, earliest: float, now: Moment) -> tuple[float, float | None]:
    """When the attempt of a running job began, on our monotonic clock; and the offset of its
    clocks."""
    started_at = now.wall
    with suppress(ValueError):
        started_at = parse_time(job.started_at or "")
    attempt = job.attempts[-1] if job.attempts else None
    if attempt and attempt.boot == boot_id() and attempt.started_monotonic is not None:
        begun_at = min(attempt.started_monotonic, now.monotonic)
        return begun_at, started_at - begun_at
    # It runs on another machine, whose clock may differ from ours.
    age = max(0.0, now.wall - started_at)
    return max(earliest, now.monotonic - age), None


def continue_watch(known: Watched, job: Job, now: Moment) -> None:
    """Note what has changed since the same attempt was read."""
    before, known.job = known.job, job
    read_at, known.read_at = known.read_at, now.monotonic
    if job.reason is not None:  # as above
        known.grew_at = now.monotonic
    elif (job.log_size, job.log_changed_at) != (before.log_size, before.log_changed_at):
        written_at = known.written_at(now)
        known.grew_at = now.monotonic if written_at is None else max(read_at, written_at)


def late_text(job: Job, usual: Usual, seconds: float) -> str:
    """How much longer than usual the job has been running: for so many seconds."""
    if usual.seconds is not None:
        return f"usually {format_usual(usual.seconds)}, now {format_usual(seconds)}"
    limit = format_usual(job.warn_after or 0.0)
    return f"running for {format_usual(seconds)}, expected at most {limit}"


def silent_text(usual: Usual, seconds: float) -> str:
    longest = format_usual(usual.longest_pause or 0.0)
    return f"silent for {format_usual(seconds)}, never longer than {longest} before"


class RunningWatch:
    """Finds the running jobs that are late or silent, on all machines that share the storage."""

    def __init__(
        self,
        store: storage.Store,
        usual_times: UsualTimes,
        rules_of: Callable[[Job], Sequence[Rule]],
    ) -> None:
        """`rules_of` returns the rules that apply to a job."""
        self.store, self.usual_times, self.rules_of = store, usual_times, rules_of
        self.watched: dict[str, Watched | None] = {}  # by ID; None: not to be looked at
        self.unread: dict[str, float] = {}  # by ID: it has not begun before this time
        self.plans: list[tuple[float, str]] = []  # a heap: when to look at which job
        self.listed_at = -inf  # when the running jobs were last listed
        self.deadline = 0.0  # for reading logs of earlier runs

    def look(self, now: Moment | None = None) -> Sequence[Sign]:
        """The jobs that have become late or silent since the last call; to be called every second.
        Each sign is reported once: call `repeat` if it could not be stored."""
        now = now or Moment.now()
        self.deadline = time.monotonic() + READ_TIME
        self._list(now)
        self._read_new(now)
        return self._check(self._pop_due(now), now)

    def repeat(self, sign: Sign) -> None:
        """Report a sign again after a while."""
        known = self.watched.get(sign.job.id)
        if known is not None:
            known.events.add(sign.event)
            self._plan(known, time.monotonic() + RETRY)

    def _list(self, now: Moment) -> None:
        """Find out which jobs have begun and which have ended."""
        running = {each.id for each in self.store.list_running()}
        for job_id in self.watched.keys() - running:
            del self.watched[job_id]
        for job_id in self.unread.keys() - running:
            del self.unread[job_id]
        for job_id in running - self.watched.keys() - self.unread.keys():
            self.unread[job_id] = self.listed_at
        self.listed_at = now.monotonic

    def _read_new(self, now: Moment) -> None:
        ids = list(islice(self.unread, LOOKS_AT_ONCE))
        for job in self.store.get_many(ids):
            self._watch(job, self.unread[job.id], now)
        for job_id in ids:
            del self.unread[job_id]

    def _watch(self, job: Job, earliest: float, now: Moment) -> None:
        """Watch a job that is read for the first time, if its rules name late or silent."""
        self.watched[job.id] = None
        if job.status is not Status.RUNNING:  # a machine is about to start it
            heapq.heappush(self.plans, (now.monotonic + RETRY, job.id))
            return
        events = {event for rule in self.rules_of(job) for event in WATCHED if event in rule["on"]}
        if events:
            known = self.watched[job.id] = begin_watch(job, events, earliest, now)
            self._plan_next(known, now)

    def _plan_next(self, known: Watched, now: Moment) -> None:
        """Look at a job when it can be late or silent, or its usual times can have changed."""
        self._plan(known, min(self._next_read(known), now.monotonic + RECHECK))

    def _next_read(self, known: Watched) -> float:
        return known.next_read(self.usual_times.usual_of(known.job, self.deadline))

    def _plan(self, known: Watched, at: float) -> None:
        known.plan = at
        heapq.heappush(self.plans, (at, known.job.id))

    def _pop_due(self, now: Moment) -> Sequence[str]:
        """The IDs of the jobs that must be read now. If that fails, they are read again later."""
        due: list[str] = []
        while self.plans and self.plans[0][0] <= now.monotonic and len(due) < LOOKS_AT_ONCE:
            at, job_id = heapq.heappop(self.plans)
            known = self.watched.get(job_id)
            if known is None:  # it was about to start, so the next call finds it again
                self.watched.pop(job_id, None)
            elif at != known.plan:
                continue  # this plan was replaced
            elif self._next_read(known) > now.monotonic:
                self._plan_next(known, now)
            else:
                due.append(job_id)
                self._plan(known, now.monotonic + RETRY)
        return due

    def _check(self, due: Sequence[str], now: Moment) -> Sequence[Sign]:
        """Read these jobs again, and return what they show now."""
        signs: list[Sign] = []
        for job in self.store.get_many(due):
            known = self.watched[job.id]
            if known is None or job.status is not Status.RUNNING:
                continue
            if known.is_same_attempt(job):
                continue_watch(known, job, now)
            else:
                known = begin_watch(job, known.events, known.read_at, now)
                self.watched[job.id] = known
            signs += known.pop_signs(self.usual_times.usual_of(job, self.deadline), now)
            if known.events:
                self._plan_next(known, now)
            else:
                known.plan = inf
        return signs
