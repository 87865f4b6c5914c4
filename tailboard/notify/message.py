"""The text of a message about a job."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import NamedTuple

from storage import Store
from tailboard.durations import format_duration
from tailboard.errors import JobNotFound
from tailboard.job import Job
from tailboard.journal import shorten_hint
from tailboard.masking import SecretsDamaged
from tailboard.notices import Notice
from tailboard.notify.history import Run, seconds_of
from tailboard.notify_rules import BAD_ENDS, Event
from tailboard.status import FAILURES
from tailboard.titles import short_title
from tailboard.values import CONTROL_RE
from tailboard.visible_text import visible_text

LINES = 20  # of the log
LINE_LENGTH = 300  # characters
LOG_LENGTH = 4_000  # characters of all lines: many services refuse long messages
LOG_BYTES = 1 << 16  # of the end of the log that are read, and searched for the hint
RUNS_COUNTED = 20  # earlier runs
SIGNS = {
    **dict.fromkeys(BAD_ENDS, "✕"),
    Event.CANCELLED: "⊘",
    Event.SUCCEEDED: "✓",
    Event.RECOVERED: "✓",
    Event.MISSED: "⚠",
}
OTHER_SIGN = "⧖"  # it takes long: late, silent, waiting
TEXT_IN_TITLE = (Event.RECOVERED, Event.LATE, Event.SILENT, Event.WAITING)
BEFORE_START = (Event.MISSED, Event.WAITING)


class Message(NamedTuple):
    """A message, for tailboard/notify/deliver.py."""

    title: str
    body: str
    kind: str  # failure, success or warning


class LogEnd(NamedTuple):
    """The end of a log."""

    lines: Sequence[str]  # the last ones, as a terminal would show them
    hint_at: int | None  # the offset of the line of the hint; None if it is not among them


def compose(
    job: Job, notice: Notice, log: LogEnd, earlier: Sequence[Run], page_url: str
) -> Message:
    """The message about an event of a job. `earlier`: the runs before it. `page_url`: "" if it is
    not known. It never contains the job's environment or its params."""
    body = "\n\n".join(filter(None, _paragraphs(job, notice, log, earlier, page_url)))
    return Message(_valid(title_of(job, notice)), _valid(body), _kind_of(notice.event))


def _valid(text: str) -> str:
    """The text without lone surrogates, which a name can contain and UTF-8 cannot."""
    return text.encode(errors="replace").decode()


def _kind_of(event: str) -> str:
    if event in BAD_ENDS:
        return "failure"
    return "success" if event in (Event.SUCCEEDED, Event.RECOVERED) else "warning"


# --- The title ------------------------------------------------------------------------------------


def title_of(job: Job, notice: Notice) -> str:
    """For example "✕ backup db1 failed (exit 2) after 13 s"."""
    sign = SIGNS.get(Event(notice.event), OTHER_SIGN)
    name = CONTROL_RE.sub("", short_title(job.name, job.command)) or job.id
    return f"{sign} {name} {_what_happened(job, notice)}"


def _what_happened(job: Job, notice: Notice) -> str:
    code = "" if job.exit_code is None else f" (exit {job.exit_code})"
    seconds = seconds_of(job)
    after = "" if seconds is None else f" after {format_duration(seconds)}"
    words = {
        Event.FAILED: f"failed{code}{after}",
        Event.TIMED_OUT: f"timed out{after}",
        Event.LOST: f"was lost{after}",
        Event.CANCELLED: f"was cancelled{after}",
        Event.SUCCEEDED: f"succeeded{after}",
        Event.RECOVERED: f"succeeded again {notice.text}",
        Event.LATE: f"is late: {notice.text}",
        Event.SILENT: f"has been {notice.text}",
        Event.MISSED: "missed its schedule",
        Event.WAITING: f"has been {notice.text}",
    }
    return words[Event(notice.event)]


# --- The body -------------------------------------------------------------------------------------


def _paragraphs(
    job: Job, notice: Notice, log: LogEnd, earlier: Sequence[Run], page_url: str
) -> Iterator[str]:
    yield "\n".join(filter(None, [job.hint, job.reason]))
    yield "\n".join(filter(None, _facts(job, notice, earlier)))
    yield link_to(job.id, log.hint_at, page_url) if page_url else f"Job {job.id}"
    if log.lines:
        yield "\n".join(["The end of its log:", *log.lines])


def _facts(job: Job, notice: Notice, earlier: Sequence[Run]) -> Iterator[str]:
    """What puts the event into context, one fact per line."""
    if notice.event not in TEXT_IN_TITLE:
        yield notice.text[:1].upper() + notice.text[1:]
    if job.submitted_by:
        yield f"Submitted by {CONTROL_RE.sub('', job.submitted_by)}"
    if notice.event not in BEFORE_START:
        yield f"Attempt {job.attempt} of {job.retries + 1}"
    yield _earlier_failures(earlier[:RUNS_COUNTED])


def _earlier_failures(runs: Sequence[Run]) -> str:
    if not runs:
        return "No earlier run is known"
    failed = sum(run.status in FAILURES for run in runs)
    if len(runs) == 1:
        return "The run before failed" if failed else "The run before did not fail"
    return f"Of the {len(runs)} runs before, {failed or 'none'} failed"


def link_to(job_id: str, at: int | None, page_url: str) -> str:
    """The address of a job on the page, at the line of its log that begins at the offset `at`."""
    line = "" if at is None else f"&at={at}"
    return f"{page_url}/?job={job_id}{line}"


# --- The log --------------------------------------------------------------------------------------


def read_log_end(store: Store, job: Job) -> LogEnd:
    """The end of the job's log; without lines if it has no log, or if it cannot be masked."""
    with suppress(FileNotFoundError, JobNotFound, SecretsDamaged), store.open_log(job.id) as log:
        size = log.size
        offset, data = log.read(max(0, size - LOG_BYTES), LOG_BYTES)
        last = log.read_tail(LINES, size, LOG_BYTES)[1]
        return LogEnd(visible_lines(last), offset_of_hint(job.hint, offset, data))
    return LogEnd([], None)


def visible_lines(data: bytes) -> Sequence[str]:
    """The lines without colours and control characters; the first ones are left out if they are
    too long together."""
    lines: list[str] = []
    room = LOG_LENGTH
    for raw in reversed(data.decode(errors="replace").rstrip("\n").split("\n")):
        line = CONTROL_RE.sub("", visible_text(raw).replace("\t", "    ")).rstrip()
        if len(line) > LINE_LENGTH:
            line = line[: LINE_LENGTH - 1] + "…"
        room -= len(line) + 1
        if room < 0:
            break
        lines.append(line)
    return lines[::-1] if any(lines) else []


def offset_of_hint(hint: str | None, offset: int, data: bytes) -> int | None:
    """Where the last line with this hint begins, in data that were read at the offset; None if
    there is none."""
    end = offset + len(data)
    for raw in reversed(data.split(b"\n") if hint else ()):
        begin = end - len(raw)
        if shorten_hint(visible_text(raw.decode(errors="replace"))) == hint:
            return begin
        end = begin - 1
    return None
