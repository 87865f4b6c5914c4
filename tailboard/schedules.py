"""When a saved command is due: which of its scheduled times are done, missed or next."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import NamedTuple

from tailboard.cron import cron_times
from tailboard.keys import own_key
from tailboard.saved_command import SavedCommand
from tailboard.values import is_count, is_text, known_fields, parse_time, utc

SCHEDULE = "schedule"  # the `submitted_by` of scheduled jobs
ON_TIME = 60.0  # seconds: a run that is later than this says so in its `submit_reason`
CLOCK_AHEAD = 3_600.0  # seconds: if a schedule begins further ahead, a wrong clock wrote it
SKIPS_TO_NOTICE = 3  # skipped runs in a row of which people are notified
MAX_COUNTED = 1_000  # missed times are counted up to this number
LOOK_BACK = (3_600.0, 86_400.0, 32 * 86_400.0, 366 * 86_400.0)  # seconds, see _last_time


@dataclass(slots=True, kw_only=True)
class Schedule:
    """The stored state of a saved command's scheduled times. Each time is RFC 3339 in UTC."""

    cron: str | None = None  # the command's own `cron`, `zone` and `paused` when this was written
    zone: str = "UTC"
    paused: bool = False
    since: str | None = None  # when these three were set: earlier times do not count
    settled: str | None = None  # times up to this one have run, were skipped, or do not count
    firing: str | None = None  # the time whose job is being submitted at this moment
    skipped: int = 0  # how many times were skipped because an earlier run was still active
    skipped_at: str | None = None  # when the last of them was skipped
    skipped_for: str | None = None  # the ID of the job that was still active then
    skipped_in_row: int = 0  # how many times were skipped since the last run was submitted

    def is_of(self, command: SavedCommand) -> bool:
        """Was this written for the command's current cron, zone and `paused`?"""
        known = (self.cron, self.zone, self.paused)
        return known == (command.cron, command.zone, command.paused)

    def adapted(self, command: SavedCommand, since: str | None) -> Schedule:
        """The same state for the command's current cron, zone and `paused`; times before `since` do
        not count."""
        return replace(
            self,
            cron=command.cron,
            zone=command.zone,
            paused=command.paused,
            since=since,
            skipped_in_row=0,
        )


class SavedState(NamedTuple):
    """A saved command with everything that is stored about it."""

    command: SavedCommand
    schedule: Schedule
    runs: Sequence[str]  # IDs of its last jobs, newest first


@dataclass(slots=True, kw_only=True)
class ScheduleDecision:
    """Whether to submit a job, skip a run, or only advance the schedule; and the schedule
    afterwards."""

    schedule: Schedule  # the schedule afterwards
    submits: bool = False  # submit a job
    skipped: int = 0  # how many times are skipped
    key: str | None = None  # the key of the job, see firing_key
    reason: str | None = None  # the `submit_reason` of the job, if it is late or replaces others
    # One line about missed or skipped runs, if someone is to be notified: about the job that
    # replaces them, or about `schedule.skipped_for`:
    notice: str | None = None


def due(
    command: SavedCommand, schedule: Schedule, now: float, active: str | None = None
) -> ScheduleDecision | None:
    """What to do for a saved command at the moment `now` (seconds since 1970); None: nothing is
    due. `active`: the ID of a job of this command that is queued or running, if there is one; then
    the times that are due are skipped."""
    if command.cron is None or command.paused:
        return None
    schedule = _current_schedule(command, schedule)
    begin = _counts_from(schedule, now)
    if begin is None:
        # Replace both, because the later one counts and either may have been written by a clock
        # that was ahead.
        return ScheduleDecision(schedule=replace(schedule, since=None, settled=utc(now)))
    count, first, last = missed_times(command.cron, command.zone, begin, now)
    if not count:
        return None
    after = replace(schedule, settled=utc(last), firing=None)
    if active is not None:
        after.skipped += count
        after.skipped_at, after.skipped_for = utc(last), active
        after.skipped_in_row += count
        notice = _notice_of_skipped(schedule.skipped_in_row, after.skipped_in_row)
        return ScheduleDecision(schedule=after, skipped=count, notice=notice)
    after.skipped_in_row = 0
    reason = None
    if count > 1 or now - last >= ON_TIME:
        reason = f"replaces {_missed(count, first, last)}, when no worker was running"
    return ScheduleDecision(
        schedule=after, submits=True, key=firing_key(command, last), reason=reason, notice=reason
    )


def _notice_of_skipped(before: int, now: int) -> str | None:
    """The notice that so many runs in a row were skipped: once for each row."""
    if before < SKIPS_TO_NOTICE <= now:
        return f"{now:,} scheduled runs in a row were skipped because this job has not ended"
    return None


def _current_schedule(command: SavedCommand, schedule: Schedule) -> Schedule:
    """The schedule, adapted to the command's current cron, zone and `paused`."""
    if schedule.is_of(command):
        return schedule
    return schedule.adapted(command, command.saved_at)  # its file was changed by hand


def _counts_from(schedule: Schedule, now: float) -> float | None:
    """The moment after which times count; None if none is known, or if it is so far ahead that a
    wrong clock wrote it."""
    found = [parse_time(text) for text in (schedule.since, schedule.settled) if text]
    begin = max(found, default=None)
    if begin is None or begin > now + CLOCK_AHEAD:
        return None
    return begin


def firing_key(command: SavedCommand, moment: float) -> str:
    """The key of the job for one time of a command (seconds since 1970). It makes sure that the job
    is submitted once, however many workers on however many machines try."""
    return own_key(f"{command.saved}@{datetime.fromtimestamp(moment, UTC):%Y-%m-%dT%H:%MZ}")


def missed_times(cron: str, zone: str, begin: float, now: float) -> tuple[int, float, float]:
    """(how many times there are after `begin` and up to `now`, the first, the last), in seconds
    since 1970; (0, 0.0, 0.0) if there are none. The count ends at MAX_COUNTED + 1."""
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
    """The last of many times. The search begins shortly before `now`, so that it need not step
    through years of minutes. CronSim backwards would miss a time in an hour that occurs twice."""
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
        return f"the scheduled run of {end:%Y-%m-%d %H:%M} UTC"
    number = f"more than {MAX_COUNTED:,}" if count > MAX_COUNTED else str(count)
    until = f"{end:%H:%M}" if begin.date() == end.date() else f"{end:%Y-%m-%d %H:%M}"
    return f"{number} scheduled runs between {begin:%Y-%m-%d %H:%M} and {until} UTC"


def next_time(command: SavedCommand, schedule: Schedule, now: float) -> float | None:
    """The next time of a command (seconds since 1970); None if it has none, or is paused."""
    if command.cron is None or command.paused:
        return None
    begin = _counts_from(_current_schedule(command, schedule), now)
    after = now if begin is None else max(now, begin)
    return next(cron_times(command.cron, command.zone, after), None)


def encode_schedule(schedule: Schedule) -> bytes:
    """The content of the file schedules/NAME.state: a line of JSON."""
    return json.dumps(asdict(schedule)).encode() + b"\n"


def parse_schedule(data: bytes) -> Schedule:
    """The schedule in the content of its file; ValueError says why if it is invalid."""
    schedule = Schedule(**known_fields(Schedule, json.loads(data)))
    words = (schedule.cron, schedule.zone, schedule.skipped_for)
    times = (schedule.since, schedule.settled, schedule.firing, schedule.skipped_at)
    counts = (schedule.skipped, schedule.skipped_in_row)
    if not all(map(is_text, (*words, *times))) or not all(map(is_count, counts)):
        raise ValueError("it is invalid")
    for text in times:
        if text is not None and datetime.fromisoformat(text).tzinfo is None:
            raise ValueError(f"{text!r} is not a timestamp")
    return schedule
