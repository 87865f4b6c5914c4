"""The progress of running jobs in a list, estimated from their last successes."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple

import storage
from tailboard.errors import JobNotFound
from tailboard.explain.earlier_runs import earlier_successes
from tailboard.explain.estimator import Estimate, Estimator, Limits
from tailboard.explain.profiles import Profiles
from tailboard.explain.reference import Reference
from tailboard.job import Job
from tailboard.keep_rules import group_of
from tailboard.notify.history import History, Run
from tailboard.status import Status

LIMITS = Limits(window=256 << 10, matches=400, samples=500)
INTERVAL = 2.0  # seconds after which an estimate is made again
MOST_JOBS = 1_000  # whose estimates are kept
FORGET_AFTER = 60.0  # seconds since the last request: each estimate keeps an earlier run in memory


class Forecast(NamedTuple):
    """The progress of a job, rounded so that not every response differs from the last one."""

    percent: int
    seconds_left: int


class LiveForecasts:
    """Estimates the progress of many running jobs in little time: it reads only the newest lines of
    each log. Several threads may use it."""

    def __init__(self, store: storage.Store, history: History, profiles: Profiles) -> None:
        self.store, self.history, self.profiles = store, history, profiles
        # By ID and attempt; the one used last comes last.
        self._kept: dict[tuple[str, int], LiveForecast] = {}
        self._lock = threading.Lock()

    def of(self, job: Job, deadline: float) -> Forecast | None:
        """The progress of a running job; None if nothing can be said. After the `deadline` on the
        monotonic clock, nothing is read, and the last estimate counts."""
        kept = self._kept_of(job)
        now = time.monotonic()
        is_due = now >= kept.made_at + INTERVAL
        if is_due and now < deadline and kept.lock.acquire(blocking=False):
            try:
                if self._estimate(job, kept, deadline):
                    kept.made_at = now
            finally:
                kept.lock.release()
        return kept.forecast

    def _kept_of(self, job: Job) -> LiveForecast:
        key = (job.id, job.attempt)
        with self._lock:
            kept = self._kept.pop(key, None) or LiveForecast()
            self._kept[key] = kept
            kept.used_at = time.monotonic()
            self._forget_oldest(kept.used_at)
        return kept

    def _forget_oldest(self, now: float) -> None:
        """Forget the jobs for which no estimate is requested any longer: most have ended."""
        while self._kept:
            key, oldest = next(iter(self._kept.items()))
            if oldest.used_at + FORGET_AFTER >= now and len(self._kept) <= MOST_JOBS:
                break
            del self._kept[key]

    def _estimate(self, job: Job, kept: LiveForecast, deadline: float) -> bool:
        """Returns False if there was not enough time."""
        runs = self.history.groups.get(group_of(job), ())
        if kept.runs is not runs:  # other jobs of this command have ended since
            kept.runs = runs
            kept.use(earlier_successes(self.history.groups, job))
        if not kept.reference.work(self.store, self.profiles, deadline):
            return False
        profile = kept.reference.profile
        if profile is None or job.status is not Status.RUNNING or job.reason:
            kept.forecast = None
            return True
        if kept.estimator is None or kept.estimator.profile is not profile:
            kept.estimator = Estimator(profile, LIMITS)
            kept.state = None
        state, is_complete = (job.log_size, job.log_changed_at), True
        if state != kept.state:
            with suppress(OSError, JobNotFound), self.store.open_log(job.id) as log:
                is_complete = kept.estimator.work(job, log, deadline)
                kept.state = state if is_complete else None
        kept.forecast = rounded(kept.estimator.estimate(job, time.time()))
        return is_complete


class LiveForecast:
    """What is known of an attempt."""

    def __init__(self) -> None:
        self.lock = threading.Lock()  # held while the rest changes
        self.runs: Sequence[Run] | None = None  # of its command, from which `reference` was chosen
        self.reference = Reference(())
        self.estimator: Estimator | None = None
        self.state: tuple[int, float | None] | None = None  # size and time of the log that was read
        self.forecast: Forecast | None = None
        # On the monotonic clock:
        self.made_at = float("-inf")  # a complete estimate
        self.used_at = 0.0

    def use(self, earlier: Sequence[Run]) -> None:
        """Compare the attempt with the newest of these successes."""
        if self.reference.earlier != earlier:
            self.reference = Reference(earlier)


def rounded(estimate: Estimate | None) -> Forecast | None:
    if estimate is None:
        return None
    left = estimate.seconds_left
    step = next((step for limit, step in ((60, 5), (600, 30)) if left < limit), 60)
    return Forecast(int(estimate.percent), round(left / step) * step)
