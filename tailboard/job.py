"""A job: its fields, its record on disk and its JSON form."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from tailboard import values
from tailboard.job_option import (
    Check,
    CommandLine,
    FormField,
    option,
    options_of,
    places_of,
    recorded,
    unrecorded,
)
from tailboard.journal import Attempt
from tailboard.notify_rules import RULES, Rule, is_rules, mask_rules
from tailboard.status import Status
from tailboard.values import (
    ID_RE,
    LINE,
    QUEUE_NAMES,
    QUEUE_RE,
    SECRET_RE,
    cut_text,
    is_bool,
    is_count,
    is_env,
    is_queue_name,
    is_text,
    is_time,
    plain_number,
)

VERSION = 2  # of job.json; a record of another one is shown, but never run
MAX_SECONDS = 1e9  # of a timeout and the like
SECONDS_ALLOWED = f"a number of seconds above 0 and up to {MAX_SECONDS:,.0f}"
MAX_RETRY_DELAY = 3_600.0  # seconds between two attempts
LISTED_COMMAND = 2_000  # bytes of a command, as JSON, in a list
LISTED_TEXT = 4_000  # characters of any other text in a list
LISTED_VALUES = 1_000  # characters of all values of params in a list
MAX_AFTER = 32  # jobs that one job can wait for
MAX_SECRETS = 32  # secrets that one job can have
MOST_KEPT_RUNS = 10_000
MOST_KEPT_DAYS = 36_500  # 100 years
LEAST_MEMORY = 8 << 20  # bytes; the shell that starts the command needs some of them
MOST_BYTES = 1 << 53  # above it, JavaScript rounds whole numbers


class IfBusy(StrEnum):
    """What happens to a new job if another job with its key is queued or running."""

    WAIT = "wait"  # it waits until no job with its key runs
    LATEST = "latest"  # it also replaces the older jobs that wait
    REPLACE = "replace"  # it also cancels the one that runs
    SKIP = "skip"  # it is not queued


class AfterStatus(StrEnum):
    """What a job expects of the jobs that it waits for."""

    SUCCEEDED = "succeeded"
    ENDED = "ended"  # in whatever way


def is_command(value: Any) -> bool:
    words = [value] if isinstance(value, str) else value
    return isinstance(words, list) and bool(words) and all(isinstance(w, str) for w in words)


def is_object(value: Any) -> bool:
    return isinstance(value, dict)


def is_timeout(value: Any) -> bool:
    return value is None or (type(value) in (int, float) and 0 <= value <= MAX_SECONDS)


def is_if_busy(value: Any) -> bool:
    return value is None or value in list(IfBusy)


def is_after(value: Any) -> bool:
    """Is this a list of job IDs, of MAX_AFTER at most?"""
    if not isinstance(value, list) or len(value) > MAX_AFTER:
        return False
    return all(isinstance(each, str) and ID_RE.fullmatch(each) for each in value)


def is_secret_names(value: Any) -> bool:
    """Is this a list of names of secrets, of MAX_SECRETS at most, without repetition?"""
    if not isinstance(value, list) or len(value) > MAX_SECRETS:
        return False
    names = [each for each in value if isinstance(each, str) and SECRET_RE.fullmatch(each)]
    return len(set(names)) == len(value)


def is_names(value: Any) -> bool:
    """Is this a list of strings?"""
    return isinstance(value, list) and all(isinstance(each, str) for each in value)


def is_after_status(value: Any) -> bool:
    return value in list(AfterStatus)


def is_retry_delay(value: Any) -> bool:
    return type(value) in (int, float) and 0 <= value <= MAX_RETRY_DELAY


def is_kept_runs(value: Any) -> bool:
    return value is None or (type(value) is int and 1 <= value <= MOST_KEPT_RUNS)


def is_kept_days(value: Any) -> bool:
    return value is None or (type(value) is int and 1 <= value <= MOST_KEPT_DAYS)


def is_log_limit(value: Any) -> bool:
    return value is None or (type(value) is int and values.BLOCK <= value <= MOST_BYTES)


def is_memory(value: Any) -> bool:
    return value is None or (type(value) is int and LEAST_MEMORY <= value <= MOST_BYTES)


def is_nice(value: Any) -> bool:
    return value is None or (type(value) is int and -20 <= value <= 19)


@dataclass(slots=True, kw_only=True)
class JobOptions:
    """What a client can ask of a job, now or in a saved command. To add an option, declare it here:
    .github/CONTRIBUTING.md lists what else it needs."""

    command: str | list[str] = option(
        kind="command",
        check=is_command,
        allowed="a non-empty shell command line, or a non-empty list of a program and its "
        "arguments, each at most 30,000 characters",
        meaning="A shell command line, or a program and its arguments.",
        form=FormField(),
    )
    name: str | None = option(
        None,
        kind="text",
        check=is_text,
        allowed="a string of 1 to 200 characters",
        limits={"pattern": LINE, "max_length": 200},
        form=FormField(),
    )
    queue: str = option(
        "default",
        kind="text",
        check=is_queue_name,
        allowed=QUEUE_NAMES,
        limits={"pattern": f"^{QUEUE_RE.pattern}$", "max_length": 32},
        command_line=CommandLine(help="The queue to wait in (default: default)."),
        form=FormField(),
    )
    cwd: str | None = option(  # None: the worker's own folder
        None,
        kind="folder",
        check=is_text,
        allowed="an absolute path of up to 4,000 characters",
        limits={"pattern": r"^/[^\x00]*$", "max_length": 4_000},
        meaning="The folder to run in; null: the worker's.",
        command_line=CommandLine(help="The folder to run in (default: the worker's)."),
        form=FormField(),
    )
    env: dict[str, str] = option(
        dict,
        kind="variables",
        check=is_env,
        record_check=is_object,
        allowed="an object of strings, at most 64 KiB in total; names may not begin with JOB_ or "
        "TAILBOARD_",
        command_line=CommandLine(
            help="A variable of its environment. Can be given several times.", metavar="K=V"
        ),
        form=FormField(),
    )
    timeout: float | int | None = option(
        None,
        kind="seconds",
        check=is_timeout,
        allowed=SECONDS_ALLOWED,
        limits={"gt": 0, "le": MAX_SECONDS},
        meaning="Seconds that an attempt may run before it is ended.",
        command_line=CommandLine(help="Seconds that it may run before it is ended.", metavar="S"),
        form=FormField(error="The timeout must be a number of seconds."),
    )
    retries: int = option(
        0,
        kind="count",
        check=is_count,
        allowed="a whole number from 0 to 100",
        limits={"ge": 0, "le": 100},
        command_line=CommandLine(
            help="How often to run it again if it fails (default: 0).", metavar="N"
        ),
        form=FormField(error="Retries must be a whole number."),
    )
    retry_delay: float | int = option(
        0,
        kind="seconds",
        check=is_retry_delay,
        allowed="a number of seconds from 0 to 3,600; it doubles with each retry",
        limits={"ge": 0, "le": MAX_RETRY_DELAY},
        meaning="Seconds before the first retry; doubled for each further retry.",
        command_line=CommandLine(
            help="Seconds before the first retry; doubled for each further retry.", metavar="S"
        ),
        form=FormField(error="The delay must be a number of seconds."),
    )
    key: str | None = option(
        None,
        kind="text",
        check=is_text,
        allowed="a string of 1 to 64 characters",
        limits={"pattern": LINE, "max_length": 64},
        meaning="At most one job with this key runs at a time, whatever its queue.",
        command_line=CommandLine(help="At most one job with this key runs at a time."),
        form=FormField(),
    )
    if_busy: str | None = option(
        None,
        kind="choice",
        choices=tuple(IfBusy),
        check=is_if_busy,
        allowed=f"one of {', '.join(IfBusy)}, and needs a key",
        meaning="What happens if another job has the key; null: it waits.",
        command_line=CommandLine(help="What to do if another job has the key (default: wait)."),
        form=FormField(),
    )
    urgent: bool = option(
        False,
        kind="flag",
        check=is_bool,
        allowed="true or false",
        meaning="It starts before all jobs that are not urgent.",
        command_line=CommandLine(help="Start it before all jobs that are not urgent."),
        form=FormField(),
    )
    notify: list[Rule] | None = option(
        None,
        kind="rules",
        check=is_rules,
        allowed=RULES,
        meaning="Who is notified of which event; null: as TAILBOARD_NOTIFY says.",
        command_line=CommandLine(
            help="Whom to notify of what, such as failed,lost=ops; none: nobody (default: as "
            "TAILBOARD_NOTIFY says).",
            metavar="EVENTS=TO",
        ),
    )
    warn_after: float | int | None = option(
        None,
        kind="seconds",
        check=is_timeout,
        allowed=SECONDS_ALLOWED,
        limits={"gt": 0, "le": MAX_SECONDS},
        meaning="Seconds after which a running job is late; null: if it takes longer than usual.",
        command_line=CommandLine(
            help="Seconds after which it is late (default: if it takes longer than usual).",
            metavar="S",
        ),
    )
    warn_waiting: float | int | None = option(
        None,
        kind="seconds",
        check=is_timeout,
        allowed=SECONDS_ALLOWED,
        limits={"gt": 0, "le": MAX_SECONDS},
        meaning="Seconds after which a queued job has waited too long; null: never.",
        command_line=CommandLine(
            help="Seconds after which it has been queued for too long (default: never).",
            metavar="S",
        ),
    )
    secrets: list[str] = option(
        list,
        kind="names",
        check=is_secret_names,
        allowed=f"a list of up to {MAX_SECRETS} different names of [A-Za-z_][A-Za-z0-9_]*, at most "
        "64 characters each, that are not in env and do not begin with JOB_ or TAILBOARD_",
        limits={"max_length": MAX_SECRETS},
        meaning="The secrets whose values it gets as environment variables.",
        command_line=CommandLine(
            help="A secret that it gets as a variable. Can be given several times.",
            metavar="NAME",
            flag="--secret",
        ),
        form=FormField(),
    )
    keep_files: bool = option(
        False,
        kind="flag",
        check=is_bool,
        allowed="true or false",
        meaning="Each attempt has a folder of its own for its files.",
        command_line=CommandLine(help="Keep the files of each attempt, in files/1, files/2 …"),
    )
    keep_runs: int | None = option(
        None,
        kind="count",
        check=is_kept_runs,
        allowed=f"a whole number from 1 to {MOST_KEPT_RUNS:,}",
        limits={"ge": 1, "le": MOST_KEPT_RUNS},
        meaning="How many runs of this command are kept; null: any number.",
        command_line=CommandLine(
            help="How many of its runs to keep (default: any number).", metavar="N"
        ),
    )
    keep_days: int | None = option(
        None,
        kind="count",
        check=is_kept_days,
        allowed=f"a whole number of days from 1 to {MOST_KEPT_DAYS:,}",
        limits={"ge": 1, "le": MOST_KEPT_DAYS},
        meaning="Days after its end until it is deleted; null: as TAILBOARD_KEEP_DAYS says.",
        command_line=CommandLine(
            help="Days after its end until it is deleted (default: as TAILBOARD_KEEP_DAYS says).",
            metavar="N",
        ),
    )
    log_max_bytes: int | None = option(
        None,
        kind="bytes",
        check=is_log_limit,
        allowed=f"a whole number of bytes from {values.BLOCK:,} on",
        limits={"ge": values.BLOCK, "le": MOST_BYTES},
        meaning="How much of its log is kept; null: as TAILBOARD_LOG_MAX_BYTES says.",
        command_line=CommandLine(
            help="How much of its log to keep, such as 10M, if that is less than "
            "TAILBOARD_LOG_MAX_BYTES.",
            metavar="SIZE",
        ),
    )
    max_memory: int | None = option(
        None,
        kind="bytes",
        check=is_memory,
        allowed=f"a whole number of bytes from {LEAST_MEMORY:,} on",
        limits={"ge": LEAST_MEMORY, "le": MOST_BYTES},
        meaning="How much memory it may use; null: any amount.",
        command_line=CommandLine(
            help="How much memory it may use, such as 512M or 2G (default: any amount).",
            metavar="SIZE",
        ),
    )
    nice: int | None = option(
        None,
        kind="count",
        check=is_nice,
        allowed="a whole number from -20 to 19",
        limits={"ge": -20, "le": 19},
        meaning="Its scheduling priority: the higher, the less processor time it gets.",
        command_line=CommandLine(
            help="Its priority: 19 gets the least processor time (default: the worker's).",
            metavar="N",
        ),
    )


@dataclass(slots=True, kw_only=True)
class Job(JobOptions):
    """One job. Times are RFC 3339 in UTC; None if something is not known or does not apply.

    A recorded field is in job.json; the others come from the job's folder and its journal. The
    fields are in the order of the JSON."""

    id: str = recorded("", check=is_text)
    not_before: str | None = recorded(None, check=is_time)  # earliest time of its first attempt
    after: list[str] = recorded(list, check=is_after)  # IDs of the jobs that it waits for
    after_status: str = recorded(AfterStatus.SUCCEEDED, check=is_after_status)
    attempt: int = unrecorded(1)
    status: Status = unrecorded(Status.QUEUED)
    submitted_at: str | None = recorded(None, check=is_text)
    started_at: str | None = unrecorded(None)
    finished_at: str | None = unrecorded(None)
    exit_code: int | None = unrecorded(None)  # 128+n after signal n, as in a shell
    reason: str | None = unrecorded(None)  # explains the status, if it needs explaining
    hint: str | None = unrecorded(None)  # the log line that probably shows why it failed
    worker: str | None = unrecorded(None)
    host: str | None = unrecorded(None)
    pid: int | None = unrecorded(None)  # of the shim, which leads the job's process group
    submitted_by: str | None = recorded(None, check=is_text)
    rerun_of: str | None = recorded(None, check=is_text)
    saved: str | None = recorded(None, check=is_text)  # the saved command that started it
    # The values of its params, which are in `env`, too:
    values: dict[str, str] = recorded(dict, check=is_env)
    # The names of its secret params, whose values are sealed in its folder:
    secret_params: list[str] = recorded(list, check=is_names)
    # The saved command that starts once this job has succeeded:
    then: str | None = recorded(None, check=is_text)
    # Its saved command has a ping URL, which this file must not contain:
    pings: bool = recorded(False, check=is_bool, on_wire=False)
    cpu_seconds: float | int | None = unrecorded(None)
    max_rss_bytes: int | None = unrecorded(None)
    # Of its files when it ended, up to MAX_LISTED; None: not known (yet):
    files_count: int | None = unrecorded(None)
    files_bytes: int | None = unrecorded(None)
    log_size: int = unrecorded(0)  # bytes
    log_start: int = unrecorded(0)  # offset of the first byte that is kept
    # Not in the JSON as they are:
    submit_reason: str | None = recorded(None, check=is_text, on_wire=False)  # why, in a sentence
    version: int = recorded(VERSION, check=is_count, on_wire=False)  # of job.json; 0: damaged
    # When its log was last written to, in seconds since 1970; None if it has no log:
    log_changed_at: float | None = unrecorded(None, on_wire=False)
    # When the next attempt of a job that is queued again can start:
    retried_at: str | None = unrecorded(None, on_wire=False)
    attempts: list[Attempt] = unrecorded(list, on_wire=False)  # claimed ones, oldest first
    # The values of its secret params, until it is submitted:
    secret_values: dict[str, str] = unrecorded(dict, on_wire=False, is_shown=False)
    is_short: bool = unrecorded(False, on_wire=False)  # `shorten` made it
    is_command_cut: bool = unrecorded(False, on_wire=False)
    # `submit` returned it for an Idempotency-Key that an earlier request had:
    is_repeat: bool = unrecorded(False, on_wire=False)

    def as_dict(self) -> dict[str, Any]:
        """The job as JSON for clients; while it is queued, `not_before` is that of its next
        attempt."""
        shown = {name: getattr(self, name) for name in WIRE}
        shown["not_before"] = self.retried_at or self.not_before
        shown["reason"] = self.whole_reason
        shown["notify"] = mask_rules(self.notify)
        for name in SECONDS:
            shown[name] = plain_number(shown[name])
        if self.is_short:
            del shown["env"]
        if self.is_command_cut:
            shown["command_cut"] = True
        return shown

    @property
    def whole_reason(self) -> str | None:
        """Why it was submitted and why it is as it is, if there is anything to say."""
        reasons = [reason for reason in (self.submit_reason, self.reason) if reason]
        return "; ".join(reasons) or None

    def attempts_as_dicts(self) -> list[dict[str, Any]]:
        """Its attempts as JSON for clients, oldest first, without claims that never started."""
        dicts = [attempt.as_dict() for attempt in self.attempts if not attempt.never_started]
        if self.status is Status.RUNNING and dicts:
            dicts[-1]["status"] = Status.RUNNING
        return dicts


PLACES_OF_JOB = {"id": places_of(Job)["id"]} | places_of(Job)  # JSON begins with the ID
WIRE = [name for name, places in PLACES_OF_JOB.items() if places.is_on_wire]
RECORD_CHECKS: dict[str, Check] = {  # a user may have edited a record
    name: places.record_check for name, places in PLACES_OF_JOB.items() if places.record_check
}
RECORD = list(RECORD_CHECKS)
# Fields that clients can send as 60 or as 60.0:
SECONDS = [name for name, declared in options_of(Job).items() if declared.kind == "seconds"]


def parse_record(data: bytes, job_id: str) -> Job:
    """The Job that a job.json contains; ValueError says why if it is invalid."""
    record = json.loads(data)
    if not isinstance(record, dict):
        raise ValueError("it is not a JSON object")
    known = {name: record[name] for name in RECORD if name in record}
    job = Job(**{"command": None, "version": None} | known | {"id": job_id})
    for name, is_good in RECORD_CHECKS.items():
        if not is_good(getattr(job, name)):
            raise ValueError(f"its {name} is invalid")
    if job.version != VERSION:
        job.reason = f"another version of Tailboard wrote its record (version {job.version})"
    return job


def matches(
    job: Job, status: Status | None, queue: str | None, needle: str, by: str | None = None
) -> bool:
    """Does the job match these conditions of `Jobs.list`? `needle` is the condition `text`,
    casefolded."""
    if status not in (None, job.status) or queue not in (None, job.queue):
        return False
    if by not in (None, job.submitted_by):
        return False
    return not needle or needle in f"{job.name or ''}\n{job.command}\n{job.id}".casefold()


def shorten(job: Job) -> Job:
    """The job as a list shows it: without env and attempts, and with long texts cut. A command can
    be a megabyte long, and so can the text that a job writes into its own journal."""
    texts = {name: getattr(job, name) for name in WIRE if isinstance(getattr(job, name), str)}
    cut = {name: text[:LISTED_TEXT] for name, text in texts.items() if len(text) > LISTED_TEXT}
    command = cut_command(job.command)
    changes: dict[str, Any] = cut | {"command": command, "is_command_cut": command != job.command}
    changes["values"] = cut_values(job.values)
    if job.submit_reason:
        changes["submit_reason"] = job.submit_reason[:LISTED_TEXT]
    return replace(job, env={}, attempts=[], is_short=True, **changes)


def cut_command(command: str | list[str]) -> str | list[str]:
    """The beginning of a command, at most LISTED_COMMAND bytes as JSON, of the same type."""
    if isinstance(command, str):
        return cut_text(command, LISTED_COMMAND)
    kept: list[str] = []
    room = LISTED_COMMAND
    for word in command:
        room -= len('"", ')
        if room <= 0:
            break
        kept.append(cut_text(word, room))
        if kept[-1] != word:
            break
        room -= len(json.dumps(word))
    return kept or [""]


def cut_values(values: dict[str, str]) -> dict[str, str]:
    """The values of a job's params, each with at most its share of LISTED_VALUES."""
    return {name: value[: LISTED_VALUES // len(values)] for name, value in values.items()}


def encode_record(job: Job) -> bytes:
    """A job's record as one line, without fields that have their default."""
    plain = Job(command="")
    record = {name: getattr(job, name) for name in RECORD}
    kept = {n: v for n, v in record.items() if n in ("id", "version") or v != getattr(plain, n)}
    return json.dumps(kept, ensure_ascii=True).encode() + b"\n"
