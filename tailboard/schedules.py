"""When a saved command is due: which of its times are settled, missed or next."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime

from tailboard.cron import cron_times
from tailboard.keys import own_key
from tailboard.saved_command import SavedCommand
from tailboard.values import is_count, is_text, known_fields, utc

SCHEDULE = "schedule"  # as whom schedules submit
ON_TIME = 60.0  # seconds by which a run may be late without a word
CLOCK_AHEAD = 3_600.0  # seconds: a schedule that begins further ahead is a wrong clock's
MAX_COUNTED = 1_000  # missed times that are counted
LOOK_BACK = (3_600.0, 86_400.0, 32 * 86_400.0, 366 * 86_400.0)  # seconds, see _last_time


@dataclass(slots=True, kw_only=True)
class Schedule:
    """What is remembered of a saved command's times, which are RFC 3339 in UTC."""

    cron: str | None = None  # as it was when this was written, and likewise the next two
    zone: str = "UTC"
    paused: bool = False
    since: str | None = None  # when the three became so: no time before it counts
    settled: str | None = None  # times up to it have run, were skipped, or are not wanted
    firing: str | None = None  # the time whose job is just being submitted
    skipped: int = 0  # times at which a run before it still waited or ran
    skipped_at: str | None = None  # the last of them
    skipped_for: str | None = None  # the ID of the job that was still there

    def is_of(self, command: SavedCommand) -> bool:
        """Was it written for the times that the command has now?"""
        known = (self.cron, self.zone, self.paused)
        return known == (command.cron, command.zone, command.paused)

    def adapted(self, command: SavedCommand, since: str | None) -> Schedule:
        """The same for the times that the command has now."""
        return replace(
            self, cron=command.cron, zone=command.zone, paused=command.paused, since=since
        )


@dataclass(slots=True, kw_only=True)
class ScheduleDecision:
    """Whether to submit a job, skip a run, or only advance the schedule; and the schedule
    afterwards."""

    schedule: Schedule  # as it is afterwards
    submits: bool = False  # a job is to be submitted
    skipped: int = 0  # times that are skipped
    key: str | None = None  # of the job, see firing_key
    reason: str | None = None  # of the job, where it stands for more than its own time


def due(
    command: SavedCommand, schedule: Schedule, now: float, active: str | None = None
) -> ScheduleDecision | None:
    """What is to be done at this moment (seconds since 1970); None: nothing. `active` is the ID of
    a job of the command that waits or runs: then the times that have come are skipped."""
    if command.cron is None or command.paused:
        return None
    schedule = _current_schedule(command, schedule)
    begin = _counts_from(schedule, now)
    if begin is None:
        # Replace both: the later one counts, and a clock that was ahead may have written either.
        return ScheduleDecision(schedule=replace(schedule, since=None, settled=utc(now)))
    count, first, last = missed_times(command.cron, command.zone, begin, now)
    if not count:
        return None
    after = replace(schedule, settled=utc(last), firing=None)
    if active is not None:
        after.skipped += count
        after.skipped_at, after.skipped_for = utc(last), active
        return ScheduleDecision(schedule=after, skipped=count)
    reason = None
    if count > 1 or now - last >= ON_TIME:
        reason = f"stands for {_missed(count, first, last)} that no worker was there for"
    return ScheduleDecision(
        schedule=after, submits=True, key=firing_key(command, last), reason=reason
    )


def _current_schedule(command: SavedCommand, schedule: Schedule) -> Schedule:
    """The schedule for the times that the command has now."""
    if schedule.is_of(command):
        return schedule
    return schedule.adapted(command, command.saved_at)  # its file was changed by hand


def _counts_from(schedule: Schedule, now: float) -> float | None:
    """The moment after which times count; None if none is known, or if it is so far ahead that a
    wrong clock wrote it."""
    found = [parse_timestamp(text) for text in (schedule.since, schedule.settled) if text]
    begin = max(found, default=None)
    if begin is None or begin > now + CLOCK_AHEAD:
        return None
    return begin


def parse_timestamp(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def firing_key(command: SavedCommand, moment: float) -> str:
    """Under which one time is run once, however many workers on however many machines try to."""
    return own_key(f"{command.saved}@{datetime.fromtimestamp(moment, UTC):%Y-%m-%dT%H:%MZ}")


def missed_times(cron: str, zone: str, begin: float, now: float) -> tuple[int, float, float]:
    """How many times there are after `begin` and up to `now`, the first and the last of them; more
    than MAX_COUNTED are counted as one more than that."""
    count, first, last = 0, 0.0, 0.0
    for moment in cron_times(cron, zone, begin):
        if moment > now:
            break
        first = first or moment
        count, last = count + 1, moment
        if count > MAX_COUNTED:
            return count, first, _last_time(cron, zone, begin, now)
    return count, first, last


def _last_time(cron: str, zone: str, begin: float, now: float) -> float:
    """The last of many times. Looking from a little before `now` spares years of minutes; CronSim
    backwards would pass over a time in an hour that comes twice."""
    for seconds in (*LOOK_BACK, now - begin):
        last = 0.0
        for moment in cron_times(cron, zone, max(begin, now - seconds)):
            if moment > now:
                break
            last = moment
        if last:
            return last
    return begin


def _missed(count: int, first: float, last: float) -> str:
    begin, end = datetime.fromtimestamp(first, UTC), datetime.fromtimestamp(last, UTC)
    if count == 1:
        return f"the run of {end:%Y-%m-%d %H:%M} UTC"
    number = f"more than {MAX_COUNTED:,}" if count > MAX_COUNTED else str(count)
    until = f"{end:%H:%M}" if begin.date() == end.date() else f"{end:%Y-%m-%d %H:%M}"
    return f"{number} runs from {begin:%Y-%m-%d %H:%M} to {until} UTC"


def next_time(command: SavedCommand, schedule: Schedule, now: float) -> float | None:
    """The next of its times that counts (seconds since 1970); None if there is none."""
    if command.cron is None or command.paused:
        return None
    begin = _counts_from(_current_schedule(command, schedule), now)
    after = now if begin is None else max(now, begin)
    return next(cron_times(command.cron, command.zone, after), None)


def encode_schedule(schedule: Schedule) -> bytes:
    return json.dumps(asdict(schedule)).encode() + b"\n"


def parse_schedule(data: bytes) -> Schedule:
    """ValueError, saying why, where it is none."""
    schedule = Schedule(**known_fields(Schedule, json.loads(data)))
    words = (schedule.cron, schedule.zone, schedule.skipped_for)
    times = (schedule.since, schedule.settled, schedule.firing, schedule.skipped_at)
    if not all(map(is_text, (*words, *times))) or not is_count(schedule.skipped):
        raise ValueError("it is not what it should be")
    for text in times:
        if text is not None and datetime.fromisoformat(text).tzinfo is None:
            raise ValueError(f"{text!r} is no time")
    return schedule
