"""`judge`, the pure function that decides where a job belongs; and when a queued job may start."""

from __future__ import annotations

import signal
from contextlib import suppress
from dataclasses import dataclass, replace

from tailboard.job import MAX_RETRY_DELAY, Job
from tailboard.journal import Attempt, CancelRequest, Outcome
from tailboard.status import Status
from tailboard.values import parse_time, utc

START_DELAY = 1.0  # seconds after the first failed start, doubled after each further one
LOST_REASON = "its process disappeared without an exit code (killed, or the machine restarted)"
RETRIED = (Status.FAILED, Status.TIMED_OUT, Status.LOST)


@dataclass(slots=True)
class Verdict:
    """The state that a job belongs to, and why."""

    status: Status  # QUEUED or a final one
    outcome: Outcome  # how the last attempt ended
    recorded: bool  # the journal needs no line: it already has `ended`, or no attempt began
    next_attempt: int = 1  # if it is queued


def judge(
    retries: int,
    attempt: Attempt,
    cancel: CancelRequest | None,
    boot: str,
    changed_at: float,
) -> Verdict:
    """The state that a job belongs to, if its folder is not in a final one. It presumes that the
    shim is dead: a caller that acts on the verdict holds the journal's lock.

    `retries`: the job's option. `attempt`: the job's last one. `cancel`: a request to cancel it,
    which overrides every other outcome: `FolderStore.cancel` accepts it only before the end.
    `boot`: the ID of this boot, "" if unknown. `changed_at`: the journal's mtime, in seconds since
    1970, which is the time of the exit if no line `ended` follows."""
    outcome = _outcome_of(attempt, boot, changed_at)
    recorded = outcome is attempt.ended or attempt.number == 0
    if cancel and outcome.status is not Status.CANCELLED:
        outcome = replace(outcome, status=Status.CANCELLED, reason=cancel.reason, hint=None)
        return Verdict(Status.CANCELLED, outcome, recorded=False)
    if outcome.status in RETRIED and not outcome.final and attempt.number <= retries:
        return Verdict(Status.QUEUED, outcome, recorded, attempt.number + 1)
    if outcome.status is Status.QUEUED:
        return Verdict(Status.QUEUED, outcome, recorded, max(attempt.number, 1))
    return Verdict(outcome.status, outcome, recorded)


@dataclass(slots=True, frozen=True)
class Delay:
    """How long a queued job has to wait."""

    until: float = 0.0  # seconds since 1970
    at_most: float = (
        0.0  # seconds: upper bound of the remaining delay, in case the wall clock jumps
    )

    def seconds_left(self, now: float) -> float:
        """Seconds left at `now` (seconds since 1970); 0 if the delay is over."""
        return max(0.0, min(self.until - now, self.at_most))


def delay_before_start(job: Job, verdict: Verdict, changed_at: float) -> Delay:
    """How long a queued job has to wait: before its first attempt until `not_before`, before a
    retry for the retry delay, counted from the end of the attempt before. A job that was put back
    because its command never started has already waited.

    `changed_at` is the journal's mtime, in seconds since 1970. It is the time of the exit if the
    journal has no line `ended`."""
    outcome = verdict.outcome
    if verdict.status is not Status.QUEUED:
        return Delay()
    if outcome.failed_starts:
        pause = retry_pause(START_DELAY, outcome.failed_starts + 1)
    elif outcome.status is Status.QUEUED:
        if verdict.next_attempt == 1 and job.not_before:
            return Delay(parse_time(job.not_before), float("inf"))
        return Delay()
    else:
        pause = retry_pause(job.retry_delay, verdict.next_attempt)
    ended_at = changed_at
    with suppress(ValueError):
        ended_at = parse_time(outcome.finished_at or "")
    return Delay(ended_at + pause, pause) if pause else Delay()


def retry_pause(delay: float, attempt: int) -> float:
    """Seconds between the end of the attempt before and this `attempt`: `delay` before the second
    attempt, twice as many before the third, and so on, up to MAX_RETRY_DELAY."""
    return min(delay * 2.0 ** min(attempt - 2, 60), MAX_RETRY_DELAY)


def _outcome_of(attempt: Attempt, boot: str, changed_at: float) -> Outcome:
    """How an attempt ended whose lock is free, apart from requests to cancel it."""
    if attempt.ended:
        return attempt.ended
    if attempt.number == 0:
        return Outcome(Status.QUEUED)
    if attempt.exit_code is not None:
        return _outcome_of_exit(attempt, attempt.exit_code, utc(changed_at))
    if attempt.stopping:
        return replace(attempt.stopping)
    if attempt.pid is not None or not boot or attempt.boot != boot:
        reason = LOST_REASON
        return Outcome(Status.LOST, reason=reason)
    return Outcome(Status.QUEUED)


def _outcome_of_exit(attempt: Attempt, code: int, at: str) -> Outcome:
    if attempt.stopping:
        return replace(attempt.stopping, exit_code=code, finished_at=at)
    if code == 0:
        return Outcome(Status.SUCCEEDED, 0, finished_at=at)
    reason = None
    with suppress(ValueError):
        reason = f"ended by {signal.Signals(code - 128).name}"
    return Outcome(Status.FAILED, code, reason, at)
