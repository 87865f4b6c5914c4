"""Where the time went: the longest pauses of a log."""

from __future__ import annotations

from heapq import nlargest
from typing import Any

from tailboard.explain.growth import Gap, Growth, moment_of
from tailboard.explain.log_lines import Line
from tailboard.explain.normal import line_key
from tailboard.explain.part import Part, Place, Subject
from tailboard.explain.places import LineNumbers, line_after, line_before
from tailboard.explain.usual_pauses import Pause, UsualPauses
from tailboard.job import Job
from tailboard.logs import Log
from tailboard.values import utc

MOST_PAUSES = 10  # in the answer
LEAST_PAUSE = 2.0  # seconds; there is at most one sample a second
UNSAMPLED = 2.0  # seconds for which a growth of the log can be without a sample


class PausesPart(Part):
    """Where the time went: the longest pauses of a log. Those of a running job have ended, too."""

    def __init__(self) -> None:
        self.growth = Growth()
        self.is_closed = False  # has the job ended?
        self.longest: list[Gap] = []
        # The lines before and after each of them:
        self.lines: dict[Gap, tuple[Line | None, Line | None]] = {}
        self.numbers = LineNumbers()
        self.usual = UsualPauses()

    def work(self, subject: Subject, deadline: float) -> bool:
        self._find(subject)
        lines = self.lines.values()
        offsets = [line.offset for pair in lines for line in pair if line is not None]
        is_counted = self.numbers.work(subject.log, offsets, deadline)
        wanted = {pause_of(gap, *self.lines[gap]) for gap in self.longest}
        return self.usual.work(subject, wanted, deadline) and is_counted

    def _find(self, subject: Subject) -> None:
        log, growth = subject.log, self.growth
        size, begin = log.size, log.start
        has_changed = growth.read(log)
        is_end = subject.has_ended and not self.is_closed
        if has_changed or is_end:
            others = first_gap(subject.job, growth) if begin == 0 else []
            if subject.has_ended:
                self.is_closed = True
                others += close(growth, subject.job, log)
            gaps = others + growth.longest_gaps(MOST_PAUSES, begin, size - 1)
            self.longest = [
                gap for gap in nlargest(MOST_PAUSES, gaps) if gap.seconds >= LEAST_PAUSE
            ]
            self.lines = {gap: lines_around(log, gap) for gap in self.longest}

    def answer(self, subject: Subject) -> dict[str, Any] | None:
        if subject.job.started_at is None:
            return None
        return {"pauses": [self._shown(gap, *self.lines[gap]) for gap in self.longest]}

    def _shown(self, gap: Gap, before: Line | None, after: Line | None) -> dict[str, Any]:
        usually = self.usual.seconds(pause_of(gap, before, after))
        return {
            "seconds": round(gap.seconds, 3),
            "began_at": utc(gap.began_at),
            "usually": usually,
            "before": self._place(before),
            "after": self._place(after),
        }

    def _place(self, line: Line | None) -> dict[str, Any] | None:
        if line is None:
            return None
        return Place.of(line._replace(number=self.numbers.known.get(line.offset)))._asdict()


def first_gap(job: Job, growth: Growth) -> list[Gap]:
    """The time before the first line; none if it is not known."""
    started = [each.started_at for each in job.attempts if not each.never_started]
    begun = moment_of((started or [job.started_at])[0])
    if begun is None or not growth.times or not growth.is_whole:
        return []
    return [Gap(growth.times[0] - begun, begun, 0)]


def close(growth: Growth, job: Job, log: Log) -> list[Gap]:
    """Add the last growth of the log of an ended job. Returns the time after the last line; none
    if it is not known.

    A worker samples each growth within UNSAMPLED seconds, except for the last one. If it missed an
    earlier one, it was not running, and it is unknown when the last lines were written."""
    finished, changed_at = moment_of(job.finished_at), log.changed_at
    if finished is None:
        return []
    previous = growth.times[-1] if growth.times else 0.0
    if log.size > (growth.sizes[-1] if growth.sizes else 0):
        if min(changed_at - previous, finished - changed_at) > UNSAMPLED:
            return []
        growth.close(log.size, min(changed_at, finished))
    if not growth.times:
        return []
    return [Gap(finished - growth.times[-1], growth.times[-1], growth.sizes[-1])]


def lines_around(log: Log, gap: Gap) -> tuple[Line | None, Line | None]:
    """The last line that begins before the gap, and the one that the job wrote after it: the same
    line, if the gap is inside of a line."""
    return line_before(log, gap.size), line_after(log, gap.size)


def pause_of(gap: Gap, before: Line | None, after: Line | None) -> Pause:
    return Pause(
        before=None if before is None else line_key(before.raw),
        after=None if after is None else line_key(after.raw),
        is_inside=before is not None and before == after,
        is_first=gap.size == 0,
    )
