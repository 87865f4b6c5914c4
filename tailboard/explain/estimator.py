"""Estimates how far a running job is, and how far behind, by comparing it with an earlier run."""

from __future__ import annotations

import time
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from typing import NamedTuple

from tailboard.error_lines import attempt_notice
from tailboard.explain.anchors import longest_increasing
from tailboard.explain.growth import Growth, moment_of
from tailboard.explain.log_lines import LineReader
from tailboard.explain.normal import line_key
from tailboard.explain.profile import Profile
from tailboard.job import Job
from tailboard.logs import Log

LEAST_MATCHES = 5  # lines that occur in both runs in the same order
NEWEST_MATCHES = 200  # lines of which these must be a part
NEWEST_IN_ORDER, IN_ORDER = 20, 0.75  # the newest matches, and what part of them is in order
LEAST_COVERAGE = 0.5  # of the lines of the earlier run that occur only once, from match to match
MOST_AFTER = 2  # matches after the last one that is in order: the job may have jumped back
SAME_MOMENT = 2.0  # seconds between lines that may as well have been written together
MOST_UNKNOWN = 20  # lines without a match at the end, beyond three times as many as in that run
LEAST_DELAY, LEAST_SHARE = 5.0, 0.05  # seconds, and part of the run: less is not a delay
MOST_PERCENT = 99  # of a job that has not ended
EARLY_DELAY = 0.25  # part of the delay that may have arisen before the line that is named


class AnchorMatch(NamedTuple):
    """A line of the job that is also an anchor of the earlier run: see Anchors."""

    place: int  # its number in that run, from 0
    offset: int  # where it begins in the job's log
    number: int | None  # of the line in the job's log, from 1


class Estimate(NamedTuple):
    """Where a job is, compared with an earlier run."""

    matched: int  # lines that occur in both runs, in order; of the newest ones
    percent: float
    seconds_left: float
    seconds_behind: float  # negative: it is faster
    last: AnchorMatch  # the newest line that both have


class Limits(NamedTuple):
    """How much an Estimator reads and remembers of a job."""

    window: int  # bytes at the end of its log; earlier ones that were not read yet are skipped
    matches: int  # of older ones, every second is dropped each time there are more
    samples: int  # of the log's size; the newest ones


class Estimator:
    """Compares a running job's log with the profile of an earlier run. It reads the log in steps,
    and continues as the log grows."""

    def __init__(self, profile: Profile, limits: Limits) -> None:
        """`profile` is complete."""
        self.profile, self.limits = profile, limits
        self.anchors = profile.anchors
        self.growth = Growth(limits.samples)
        self.matches: list[AnchorMatch] = []
        self.unknown = 0  # lines since the last match
        self.changed_at = 0.0  # when the log was last written to, in seconds since 1970
        self._reader = LineReader()
        self._order: list[AnchorMatch] | None = None  # see `_in_order`; None: outdated

    def work(self, job: Job, log: Log, deadline: float) -> bool:
        """Read on until the `deadline` on the monotonic clock. Returns True if all lines were read;
        an unfinished one is read once it has ended."""
        size = log.size
        if size < self._reader.at:  # the job has truncated its log
            self._restart(0)
        if size - self._reader.at > self.limits.window:
            self._restart(log.next_line(size - self.limits.window, deadline))
        self.changed_at = log.changed_at
        notice = attempt_notice(job.attempt).encode()
        for line in self._reader.read(log, False, deadline):
            if line.raw == notice:
                self._clear()
            place = self.anchors.place_of(line_key(line.raw))
            if place is None:
                self.unknown += 1
            elif not self.matches or self.matches[-1].place != place:
                self._add(AnchorMatch(place, line.offset, line.number))
        if self.matches and not self.growth.covers(self.matches[-1].offset):
            self.growth.read(log)
        return self._reader.is_at_end(log) or time.monotonic() < deadline

    def _restart(self, offset: int) -> None:
        self._reader = LineReader()
        self._reader.at, self.unknown = offset, 0
        if offset:
            self._reader.number = None
        else:
            self._clear()
            self.growth = Growth(self.limits.samples)

    def _clear(self) -> None:
        self.matches, self._order = [], None

    def _add(self, match: AnchorMatch) -> None:
        self.unknown, self._order = 0, None
        self.matches.append(match)
        if len(self.matches) > self.limits.matches:
            half = self.limits.matches // 2
            self.matches = self.matches[:-half:2] + self.matches[-half:]

    def estimate(self, job: Job, now: float) -> Estimate | None:
        """Where the job is at the time `now`, in seconds since 1970; None if that would be a
        guess."""
        if self._order is None:
            self._order = self._in_order()
        seconds, started = self.profile.run.seconds, moment_of(job.started_at)
        if seconds is None or started is None or not self._order:
            return None
        last = self._order[-1]
        following = self._next_place(last.place)
        if self.unknown > MOST_UNKNOWN + 3 * (following - last.place - 1):
            return None
        then = self._time_there(last.place)
        due = max(then, self._time_there(following))
        here = self._time_here(last) - started
        if not (0 <= then <= seconds and 0 <= here):
            return None
        expected = then + max(0.0, now - started - here)
        position = min(expected, due)
        return Estimate(
            len(self._order),
            min(100 * position / seconds, MOST_PERCENT),
            # If the next line is overdue by more than that, nobody knows how long the job takes.
            seconds - position if expected - due <= seconds - position else 0.0,
            max(here - then, now - started - due),
            last,
        )

    def _in_order(self) -> list[AnchorMatch]:
        """Those of the newest matches that both have in the same order; none if that says
        nothing."""
        newest = self.matches[-NEWEST_MATCHES:]
        chosen = longest_increasing([match.place for match in newest])
        if not is_in_order(chosen, len(newest)):
            return []
        places = [newest[each].place for each in chosen]
        if not (self._is_covered(places) and self._is_covered(places[-LEAST_MATCHES:])):
            return []
        return [newest[each] for each in chosen]

    def _is_covered(self, places: Sequence[int]) -> bool:
        """Has the job written enough of the lines that the earlier run wrote from the first to the
        last of these places? If not, it does something else, or the same in another order."""
        anchors = self.anchors.places
        there = bisect_right(anchors, places[-1]) - bisect_left(anchors, places[0])
        return len(places) >= LEAST_COVERAGE * there

    def _next_place(self, place: int) -> int:
        """The number of the next line that is due in the earlier run, after those that it has
        written together with this one; the number of all its lines if there is none."""
        growth, offsets = self.profile.growth, self.profile.offsets
        sample = bisect_right(growth.times, self.profile.time_of(offsets[place]) + SAME_MOMENT)
        written = growth.sizes[sample - 1] if sample else 0
        later = max(place + 1, bisect_left(offsets, written))
        found = bisect_left(self.anchors.places, later)
        return self.anchors.places[found] if found < len(self.anchors.places) else len(offsets)

    def _time_there(self, place: int) -> float:
        """When the earlier run has written a line, in seconds since it began."""
        if place >= len(self.profile.offsets):
            return self.profile.run.seconds or 0.0
        return self.profile.time_of(self.profile.offsets[place]) - self.profile.started_at

    def _time_here(self, match: AnchorMatch) -> float:
        return self.growth.time_of(match.offset, self.changed_at)

    def since(self, job: Job, estimate: Estimate) -> AnchorMatch | None:
        """The last line after which most of the delay arose; None if there is no delay, or if it
        arose before the first line that matches."""
        started, behind = moment_of(job.started_at) or 0.0, estimate.seconds_behind
        if behind < max(LEAST_DELAY, LEAST_SHARE * (self.profile.run.seconds or 0.0)):
            return None
        for place in reversed(longest_increasing([match.place for match in self.matches])):
            match = self.matches[place]
            delay = self._time_here(match) - started - self._time_there(match.place)
            if match.offset <= estimate.last.offset and delay <= EARLY_DELAY * behind:
                return match
        return None


def is_in_order(chosen: Sequence[int], count: int) -> bool:
    """Are the matches at the places `chosen` enough, and most of the newest ones? `count`: how many
    matches there are. If the job does its work again, for example, the newest ones are not."""
    if len(chosen) < LEAST_MATCHES or count - 1 - chosen[-1] > MOST_AFTER:
        return False
    newest = min(count, NEWEST_IN_ORDER)
    in_order = sum(place >= count - newest for place in chosen)
    return in_order >= IN_ORDER * newest
