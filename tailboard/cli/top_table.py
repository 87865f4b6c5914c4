"""The table of `tailboard top`: running jobs with what they use, sorted. Pure: it reads nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from enum import StrEnum
from typing import Any, NamedTuple

from tailboard.cli.terminal import columns_of, cut_to, pad_to, printable
from tailboard.durations import format_duration, format_roughly
from tailboard.sizes import show_size
from tailboard.titles import short_title
from tailboard.values import parse_time

ID_LENGTH = 8  # the last characters of an ID, which the other commands accept
WIDE = 100  # columns of a terminal from which on the hosts are shown
MOST_HOST = 16  # columns
UNKNOWN = "-"
NOTHING = "No job is running."


class Sort(StrEnum):
    """What the jobs are sorted by; the highest value comes first. The first letter is its key."""

    CPU = "cpu"
    MEMORY = "memory"
    OUTPUT = "output"
    SILENT = "silent"


KEYS = {sort[0]: sort for sort in Sort}
HELP = "c cpu  m memory  o output  s silent  q quit"


class TopJob(NamedTuple):
    """A running job. None: not known."""

    id: str
    title: str
    cpu: float | None  # cores
    memory_bytes: int | None
    output: float | None  # bytes per second
    silent_since: float | None  # seconds since 1970
    started_at: float | None
    worker: str | None
    host: str | None

    def silent(self, now: float) -> float | None:
        """For how many seconds it has written nothing."""
        return None if self.silent_since is None else max(0.0, now - self.silent_since)

    def elapsed(self, now: float) -> float | None:
        return None if self.started_at is None else max(0.0, now - self.started_at)


class OutputRates:
    """How fast the logs of jobs grow, from one poll to the next."""

    def __init__(self) -> None:
        self.sizes: dict[str, tuple[float, int]] = {}  # by job ID: when, and how large

    def read(self, jobs: Iterable[dict[str, Any]], at: float) -> list[TopJob]:
        """The jobs of a poll at this time, in seconds of any steady clock."""
        listed = [*jobs]
        found = [read_job(job, self._rate(job["id"], job["log_size"], at)) for job in listed]
        self.sizes = {job["id"]: (at, job["log_size"]) for job in listed}
        return found

    def _rate(self, job_id: str, size: int, at: float) -> float | None:
        if job_id not in self.sizes or at <= self.sizes[job_id][0]:
            return None
        before, smaller = self.sizes[job_id]
        return max(0, size - smaller) / (at - before)


def read_job(job: dict[str, Any], output: float | None) -> TopJob:
    usage = job.get("usage") or {}
    silent_since, started_at = job.get("silent_since"), job["started_at"]
    return TopJob(
        id=job["id"],
        title=short_title(job["name"], job["command"]),
        cpu=usage.get("cpu"),
        memory_bytes=usage.get("memory_bytes"),
        output=output,
        silent_since=None if silent_since is None else parse_time(silent_since),
        started_at=None if started_at is None else parse_time(started_at),
        worker=job["worker"],
        host=job["host"],
    )


def sort_jobs(jobs: Sequence[TopJob], sort: Sort, now: float) -> list[TopJob]:
    """The highest value first; jobs without a value last, and of equals the oldest first."""
    values: dict[Sort, Callable[[TopJob], float | None]] = {
        Sort.CPU: lambda job: job.cpu,
        Sort.MEMORY: lambda job: job.memory_bytes,
        Sort.OUTPUT: lambda job: job.output,
        Sort.SILENT: lambda job: job.silent(now),
    }

    def rank(job: TopJob) -> tuple[float, str]:
        value = values[sort](job)
        return (1.0 if value is None else -value, job.id)

    return sorted(jobs, key=rank)


def as_object(job: TopJob, now: float) -> dict[str, Any]:
    """A job as JSON."""
    shown = job._asdict()
    del shown["silent_since"], shown["started_at"], shown["output"]
    times = {"silent_seconds": job.silent(now), "elapsed_seconds": job.elapsed(now)}
    rounded = {name: value and round(value, 1) for name, value in times.items()}
    rate = None if job.output is None else round(job.output)
    return shown | {"output_bytes_per_second": rate} | rounded


def table_lines(jobs: Sequence[TopJob], now: float, columns: int | None) -> list[str]:
    """The heading and a line for each job; NOTHING if there are none. `columns`: the width of the
    terminal; None: lines are not cut."""
    if not jobs:
        return [NOTHING]
    shows_host = columns is None or columns >= WIDE
    heading = ["ID", "CPU", "MEMORY", "OUTPUT", "SILENT", "RUNS FOR"]
    table = [[*heading, "HOST", "TITLE"], *(cells_of(job, now) for job in jobs)]
    width = max(sum(map(columns_of, row[6])) for row in table)
    lines = []
    for job_id, cpu, memory, output, silent, elapsed, host, title in table:
        line = f"{job_id:8}  {cpu:>5}  {memory:>9}  {output:>11}  {silent:>6}  {elapsed:>12}  "
        line += f"{pad_to(host, width)}  {title}" if shows_host else title
        lines.append(line if columns is None else cut_to(line, columns))
    return lines


def cells_of(job: TopJob, now: float) -> list[str]:
    """The texts of the columns."""
    silent, elapsed = job.silent(now), job.elapsed(now)
    return [
        job.id[-ID_LENGTH:],
        UNKNOWN if job.cpu is None else f"{job.cpu * 100:.0f}%",
        UNKNOWN if job.memory_bytes is None else show_size(job.memory_bytes),
        UNKNOWN if job.output is None else f"{show_size(round(job.output))}/s",
        UNKNOWN if silent is None else format_roughly(silent),
        UNKNOWN if elapsed is None else format_duration(elapsed),
        cut_to(printable(job.host or UNKNOWN), MOST_HOST),
        printable(job.title),
    ]


def count_running(count: int) -> str:
    if count == 0:
        return "no job is running"
    return "1 job is running" if count == 1 else f"{count} jobs are running"


def screen_lines(
    jobs: Sequence[TopJob], sort: Sort, now: float, note: str, size: tuple[int, int]
) -> list[str]:
    """All lines of a terminal with so many columns and lines. `note`: what is wrong, or empty."""
    columns, lines = size
    head = [f"{count_running(len(jobs))}, sorted by {sort}   {HELP}", printable(note)]
    table = table_lines(sort_jobs(jobs, sort, now), now, columns)
    room = max(1, lines - len(head))
    if len(table) > room:
        left_out = len(table) - room + 1
        table = [*table[: room - 1], f"and {left_out} more"]
    return [cut_to(line, columns) for line in [*head, *table]][:lines]
