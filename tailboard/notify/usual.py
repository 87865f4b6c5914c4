"""What is usual for a command: how long its runs take, and how long they write nothing.

The API, the page and the notifications of late and silent jobs all use these values."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import islice, pairwise
from math import inf
from statistics import median
from typing import NamedTuple

import storage
from tailboard.errors import JobNotFound
from tailboard.job import Job
from tailboard.keep_rules import group_of
from tailboard.notify.history import History, Run, finish_time
from tailboard.status import Status

RUNS_COUNTED = 10  # the last successes of a command
LEAST_RUNS = 3  # successes without which nothing is late or silent
LATE_FACTOR, LATE_MARGIN = 1.5, 60.0  # a late job takes so much longer than usual; seconds
SILENT_FACTOR, LEAST_SILENCE = 3.0, 60.0  # times the longest pause; seconds
REFRESH_TIME = 0.02  # seconds for reading records, in one refresh of the history
REFRESH_PAUSE = 200  # times the duration of a refresh: the time until the next one
FIRST_PAUSE = 20  # the same, until all records have been read once
MOST_GROUPS = 5_000  # whose times are remembered
SAMPLES_READ = 100_000  # the newest ones of a log: there is at most one a second


class Usual(NamedTuple):
    """What is usual for a job, in seconds; None if it is not known (yet)."""

    seconds: float | None  # the median of the last successes
    late_after: float | None  # a job that has been running for longer is late
    longest_pause: float | None  # the longest time for which the last successes wrote nothing
    silent_after: float | None  # a job that has written nothing for longer is silent


UNKNOWN = Usual(None, None, None, None)


def last_successes(runs: Sequence[Run]) -> list[Run]:
    """The newest runs that succeeded, up to RUNS_COUNTED. `runs`: newest first."""
    good = (run for run in runs if run.status is Status.SUCCEEDED and run.seconds is not None)
    return list(islice(good, RUNS_COUNTED))


def usual_seconds(runs: Sequence[Run]) -> float | None:
    """How long the runs of a command usually take; None if none has succeeded. `runs`: newest
    first."""
    times = [run.seconds for run in last_successes(runs) if run.seconds is not None]
    return round(median(times), 3) if times else None


def late_threshold(seconds: float) -> float:
    """The running time after which a job is late that usually takes so long."""
    return max(LATE_FACTOR * seconds, seconds + LATE_MARGIN)


def silent_threshold(longest_pause: float) -> float:
    return max(SILENT_FACTOR * longest_pause, LEAST_SILENCE)


def longest_pause(store: storage.Logs, run: Run) -> float:
    """The longest time for which a run wrote nothing, in seconds: before the first sample of its
    log, between two samples, and after the last. Its whole duration if its log cannot be read."""
    end = finish_time(run)
    begin = end - (run.seconds or 0.0)
    moments: list[float] = []
    with suppress(OSError, JobNotFound), store.open_log(run.id) as log, log.samples() as samples:
        moments = samples.moments(SAMPLES_READ)
        if len(samples) > SAMPLES_READ and moments:
            begin = max(begin, moments[0])
        moments.append(log.changed_at)
    during = sorted(moment for moment in moments if begin <= moment <= end)
    return max(later - earlier for earlier, later in pairwise([begin, *during, end]))


class _Group(NamedTuple):
    """What is known about the runs of a command."""

    runs: Sequence[Run]  # from which it was calculated
    pauses: Mapping[str, float]  # the longest pause of each of the last successes, by ID
    usual: Usual
    is_whole: bool  # False if pauses are still to be read


class UsualTimes:
    """What is usual for each command. Several threads may use it."""

    def __init__(self, store: storage.Store, history: History) -> None:
        self.store, self.history = store, history
        self._groups: dict[str, _Group] = {}
        self._next_refresh = 0.0  # on the monotonic clock

    def usual_of(self, job: Job, deadline: float = inf) -> Usual:
        """What is usual for a job of this kind; `job.warn_after` replaces `late_after`. After the
        `deadline` on the monotonic clock, no log is read, so that some pauses may not be known
        yet."""
        self._refresh()
        usual = self._usual_of_group(group_of(job), deadline)
        return usual if job.warn_after is None else usual._replace(late_after=job.warn_after)

    def is_complete(self, job: Job) -> bool:
        """Did the last call of `usual_of` have the time to read all pauses?"""
        known = self._groups.get(group_of(job))
        return known is None or known.is_whole

    def run_with_longest_pause(self, job: Job) -> tuple[Run, float] | None:
        """The run from which the `longest_pause` of `usual_of` comes, and its length in seconds.
        None if that is not known."""
        known = self._groups.get(group_of(job))
        if known is None or known.usual.longest_pause is None:
            return None
        run = max(last_successes(known.runs), key=lambda run: known.pauses[run.id])
        return run, known.pauses[run.id]

    def _refresh(self) -> None:
        """Bring the history up to date. Its duration depends on how many jobs have ended, and these
        values need not be the newest, so it takes only a small share of the time."""
        begun = time.monotonic()
        if begun >= self._next_refresh:
            self.history.try_refresh(REFRESH_TIME)
            now = time.monotonic()
            pause = REFRESH_PAUSE if self.history.is_complete else FIRST_PAUSE
            self._next_refresh = now + pause * (now - begun)

    def _usual_of_group(self, name: str, deadline: float) -> Usual:
        runs = self.history.groups.get(name)
        if runs is None:
            return UNKNOWN
        known = self._groups.get(name)
        if known is None or known.runs is not runs or not known.is_whole:
            if len(self._groups) >= MOST_GROUPS:
                self._groups.clear()
            known = self._groups[name] = self._examine(
                runs, known.pauses if known else {}, deadline
            )
        return known.usual

    def _examine(self, runs: Sequence[Run], pauses: Mapping[str, float], deadline: float) -> _Group:
        """`pauses`: those that are known already."""
        last = last_successes(runs)
        seconds = usual_seconds(runs)
        if seconds is None or len(last) < LEAST_RUNS:
            return _Group(runs, {}, UNKNOWN._replace(seconds=seconds), is_whole=True)
        found = {run.id: pauses[run.id] for run in last if run.id in pauses}
        for run in last:
            if run.id not in found and time.monotonic() < deadline:
                found[run.id] = longest_pause(self.store, run)
        usual = Usual(seconds, late_threshold(seconds), None, None)
        if len(found) < len(last):
            return _Group(runs, found, usual, is_whole=False)
        longest = round(max(found.values()), 3)
        silent_after = silent_threshold(longest)
        usual = usual._replace(longest_pause=longest, silent_after=silent_after)
        return _Group(runs, found, usual, is_whole=True)
