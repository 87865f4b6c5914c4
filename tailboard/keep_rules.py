"""Which ended jobs are deleted, and why. Pure: no file, no clock, no Redis.

The rules, in this order. Runs of a command are the jobs of one group: those of a saved command, or
else those with the same title. Newer means submitted later.

1. Never deleted: the newest success and the newest failure of each saved command that exists, and
   the jobs that a queued job waits for.
2. By age: jobs that ended more than `keep_days` days ago, if the clock can be trusted.
3. By runs: jobs with at least `keep_runs` newer runs that have ended. Not within a minute of their
   end.
4. By bytes, while all ended jobs together take more than `max_bytes`: first jobs without rules,
   then jobs with rules, and of both the oldest first. Not within an hour of their end.

A job's rules are those of its saved command as it is now, or its own if there is no such command.
Without `keep_days`, TAILBOARD_KEEP_DAYS applies, except to jobs with `keep_runs`.

If a job does not fit into the room that newer ones leave, older ones that fit are kept: one huge
job must not push out the whole history. But no job with rules is deleted to save bytes while there
is one without."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

from tailboard.job import Job, JobOptions
from tailboard.status import Status
from tailboard.titles import long_title
from tailboard.values import utc

DAY = 86_400.0  # seconds
MIN_KEPT = 3_600.0  # seconds after its end in which no job is deleted to save bytes
# The same for the number of runs: a client that waits for a job, and the sender of notifications,
# must still find it.
RUN_GRACE = 60.0
FAILURES = (Status.FAILED, Status.TIMED_OUT, Status.LOST)
Bound = Literal["age", "runs", "bytes"]
Kind = Literal["success", "failure"]


class Rules(NamedTuple):
    """What a saved command or a job says about how long its runs are kept; None: nothing."""

    keep_runs: int | None = None
    keep_days: int | None = None


NO_RULES = Rules()


class KeepLimits(NamedTuple):
    """The limits of all jobs; 0: no limit."""

    days: int  # TAILBOARD_KEEP_DAYS
    max_bytes: int  # TAILBOARD_KEEP_BYTES


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Origin:
    """What the rules need to know of a job's record. Many jobs share one."""

    group: str
    saved: str | None  # the saved command that started it
    rules: Rules  # its own


class EndedJob(NamedTuple):
    """An ended job, as far as the rules need it."""

    id: str
    status: Status
    ended_at: float  # seconds since 1970
    origin: Origin
    log_bytes: int  # on the disk; with Redis, in its memory
    files_bytes: int

    @property
    def size(self) -> int:
        """Bytes of its log and its files."""
        return self.log_bytes + self.files_bytes


class Prunable(NamedTuple):
    """A job that is to be deleted now."""

    job: EndedJob
    bound: Bound
    reason: str  # a sentence without its full stop
    guard: str | None  # because of this newer job, it is not the last success or failure


@dataclass(frozen=True, slots=True)
class Facts:
    """What decides, besides the jobs that have ended."""

    now: float  # seconds since 1970
    days: int  # TAILBOARD_KEEP_DAYS; 0: no limit
    max_bytes: int  # TAILBOARD_KEEP_BYTES; 0: no limit
    trusts_clock: bool
    # The rules of each saved command that exists; None for a damaged one, whose jobs have their own
    commands: Mapping[str, Rules | None]
    awaited: Mapping[str, str]  # a job that a queued one waits for -> that queued one

    def rules_of(self, origin: Origin) -> Rules:
        if origin.saved is None:
            return origin.rules
        rules = self.commands.get(origin.saved)
        return origin.rules if rules is None else rules

    def exists(self, saved: str | None) -> bool:
        """Is this the name of a saved command?"""
        return saved is not None and saved in self.commands

    def is_recent(self, job: EndedJob, seconds: float) -> bool:
        """Has it ended within so many seconds? A time that is further in the future is wrong."""
        return abs(self.now - job.ended_at) < seconds


# --- The parts of the rules -----------------------------------------------------------------------


def group_of(job: Job) -> str:
    """What the runs of a command have in common: the name of the saved command, else the title."""
    return job.saved or title_of(job)


def title_of(job: Job) -> str:
    return long_title(job.name, job.command) or job.id


def rules_in(options: JobOptions) -> Rules:
    """The rules of a job or a saved command."""
    return Rules(options.keep_runs, options.keep_days)


def kind_of(status: Status) -> Kind | None:
    """What the last of each command is kept of; None for a cancelled job."""
    if status is Status.SUCCEEDED:
        return "success"
    return "failure" if status in FAILURES else None


def days_kept(rules: Rules, days: int) -> int:
    """Days for which a job with these rules is kept; 0: whatever its age. `days`: the global
    limit."""
    if rules.keep_days is not None:
        return rules.keep_days
    return days if rules.keep_runs is None else 0


def newer_runs(count: int, group: str) -> str:
    return f"{count:,} newer {'run' if count == 1 else 'runs'} of {group}"


# --- One look at all jobs -------------------------------------------------------------------------


class Finding(NamedTuple):
    """What the rules say about one job, before its bytes."""

    bound: Bound | None  # that it exceeds
    guard: str | None  # the newer success or failure of its command; None if it needs none
    kept: str | None  # why it is never deleted; None if it can be
    has_rules: bool


class Keeper:
    """Looks at the ended jobs one after another, newest first."""

    def __init__(self, facts: Facts) -> None:
        self.facts = facts
        self._runs: Counter[str] = Counter()  # ended runs of each group, so far
        self._last: dict[tuple[str, Kind], str] = {}  # of each saved command: the newest job

    def look_at(self, job: EndedJob) -> Finding:
        facts, origin = self.facts, job.origin
        rules = facts.rules_of(origin)
        newer = self._runs[origin.group]
        self._runs[origin.group] = newer + 1
        guard, kept = self._guard(job)
        bound: Bound | None = None
        days = days_kept(rules, facts.days)
        if days and facts.trusts_clock and job.ended_at < facts.now - days * DAY:
            bound = "age"
        elif rules.keep_runs is not None and newer >= rules.keep_runs:
            bound = None if facts.is_recent(job, RUN_GRACE) else "runs"
        waiting = facts.awaited.get(job.id)
        if kept is None and waiting is not None:
            kept = f"job {waiting} waits for it"
        return Finding(bound, guard, kept, rules != NO_RULES)

    def _guard(self, job: EndedJob) -> tuple[str | None, str | None]:
        """(the newer job with whose existence this one is not the last success or failure of its
        command; why it is kept because it is the last one)."""
        saved, kind = job.origin.saved, kind_of(job.status)
        if saved is None or kind is None or not self.facts.exists(saved):
            return None, None
        guard = self._last.setdefault((saved, kind), job.id)
        if guard != job.id:
            return guard, None
        return None, f"the last {kind} of {saved} is kept"

    def prunable(self, job: EndedJob, bound: Bound, finding: Finding) -> Prunable:
        return Prunable(job, bound, self._reason(job, bound), finding.guard)

    def _reason(self, job: EndedJob, bound: Bound) -> str:
        facts, rules = self.facts, self.facts.rules_of(job.origin)
        if bound == "bytes":
            return f"the logs and files are above {facts.max_bytes:,} bytes"
        if bound == "runs":
            count = rules.keep_runs or 0
            are = "is" if count == 1 else "are"
            return f"{newer_runs(count, job.origin.group)} {are} kept"
        return f"it ended before {utc(facts.now - days_kept(rules, facts.days) * DAY)}"


# --- Bytes ----------------------------------------------------------------------------------------


@dataclass(slots=True)
class Totals:
    """Bytes of all ended jobs."""

    fixed: int = 0  # of those that are not deleted to save bytes
    ruled: int = 0  # of the others with rules
    plain: int = 0  # of those without

    def add(self, facts: Facts, job: EndedJob, finding: Finding) -> None:
        if finding.kept is not None or facts.is_recent(job, MIN_KEPT):
            self.fixed += job.size
        elif finding.has_rules:
            self.ruled += job.size
        else:
            self.plain += job.size

    @property
    def all(self) -> int:
        return self.fixed + self.ruled + self.plain


class Room:
    """Which jobs fit into `max_bytes`. They are looked at newest first."""

    def __init__(self, facts: Facts, totals: Totals) -> None:
        self._facts = facts
        left = max(0, facts.max_bytes - totals.fixed)
        self._left = {True: left, False: max(0, left - totals.ruled)}  # by `has_rules`
        # If there is room for the jobs with rules, none of them is deleted; if there is not, no job
        # without rules is kept.

    def has_room(self, job: EndedJob, finding: Finding) -> bool:
        """Does the job fit? If so, it takes its room."""
        if finding.kept is not None or self._facts.is_recent(job, MIN_KEPT):
            return True
        if job.size > self._left[finding.has_rules]:
            return False
        self.take(job, finding)
        return True

    def take(self, job: EndedJob, finding: Finding) -> None:
        """The job is kept."""
        left = self._left[finding.has_rules] - job.size
        self._left[finding.has_rules] = max(0, left)
