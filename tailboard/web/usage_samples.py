"""What jobs use, as the API shows it: all samples of one job, and the newest of running jobs."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import storage
from tailboard.job import Job
from tailboard.status import Status
from tailboard.usage import UsageSample, cores_used, thin
from tailboard.values import utc
from tailboard.web.models import MOST_SAMPLES

READ_INTERVAL = 2.0  # seconds between two reads of a job's newest samples, for lists
STEADY_TIME = 60.0  # seconds for which a list can repeat a sample that differs little
SAME_CORES, SAME_SHARE = 0.05, 0.1  # changes below these are little
MOST_SHOWN = 2_000  # jobs whose values are remembered


def list_samples(samples: Sequence[UsageSample], limit: int | None) -> dict[str, Any]:
    """The samples of a job: all of them, thinned to MOST_SAMPLES, or the newest `limit` ones."""
    if limit is None:
        samples = thin(samples, MOST_SAMPLES)
    rates = cores_used(samples)
    newest = slice(-(limit or MOST_SAMPLES), None)
    shown = zip(samples[newest], rates[newest], strict=True)
    return {"samples": [show_sample(sample, cores) for sample, cores in shown]}


def show_sample(sample: UsageSample, cores: float | None) -> dict[str, Any]:
    used = {"cpu_seconds": round(sample.cpu_seconds, 2)}
    return show_latest(sample, cores) | used


def show_latest(sample: UsageSample, cores: float | None) -> dict[str, Any]:
    return {
        "at": utc(sample.at),
        "cpu": None if cores is None else round(cores, 2),
        "memory_bytes": sample.memory_bytes,
    }


class Shown(NamedTuple):
    """What lists show of a running job."""

    read_at: float  # on the monotonic clock
    sample: UsageSample | None = None  # None: this attempt has none yet
    cores: float | None = None

    def as_field(self) -> dict[str, Any]:
        return {"usage": self.sample and show_latest(self.sample, self.cores)}


class SteadyUsage:
    """The field `usage` of running jobs.

    Lists repeat the values that they showed before if the new ones differ little: otherwise each
    sample of an idle job would change the ETag of the list. The samples are not read for each
    request, since there can be hundreds of jobs."""

    def __init__(self, store: storage.Store) -> None:
        self.store = store
        self.shown: dict[str, Shown] = {}  # by job ID

    def exactly(self, job: Job) -> dict[str, Any]:
        """The field of a single job, from its newest sample; left out if it is not running."""
        return self._read([job])[job.id].as_field() if job.status is Status.RUNNING else {}

    def of(self, jobs: Iterable[Job]) -> dict[str, dict[str, Any]]:
        """The fields of those of these jobs that are running, by ID."""
        running = {job.id: job for job in jobs if job.status is Status.RUNNING}
        before = {job_id: shown for job_id in running if (shown := self.shown.get(job_id))}
        oldest = time.monotonic() - READ_INTERVAL
        current = {job_id for job_id, shown in before.items() if shown.read_at > oldest}
        read = self._read([job for job in running.values() if job.id not in current])
        changed = {job_id: steady(before.get(job_id), shown) for job_id, shown in read.items()}
        self._remember(changed)
        return {job_id: shown.as_field() for job_id, shown in (before | changed).items()}

    def _read(self, jobs: Sequence[Job]) -> dict[str, Shown]:
        """What is known of these running jobs now."""
        now = time.monotonic()
        found = self.store.latest_usage([job.id for job in jobs]) if jobs else {}
        return {job.id: newest(job, found.get(job.id, ()), now) for job in jobs}

    def _remember(self, changed: dict[str, Shown]) -> None:
        """Jobs that were not listed for the longest time are forgotten."""
        for job_id, shown in changed.items():
            self.shown.pop(job_id, None)
            self.shown[job_id] = shown
        for job_id in [*self.shown][:-MOST_SHOWN]:
            self.shown.pop(job_id, None)


def newest(job: Job, samples: Sequence[UsageSample], now: float) -> Shown:
    """The newest of a job's last samples, if it is from its current attempt."""
    if not samples or job.started_at is None or utc(samples[-1].at) < job.started_at:
        return Shown(now)
    return Shown(now, samples[-1], cores_used(samples)[-1])


def steady(before: Shown | None, after: Shown) -> Shown:
    """What a list shows next: the same as before if that is recent and differs little."""
    if before is None or not is_similar(before, after):
        return after
    return before._replace(read_at=after.read_at)


def is_similar(before: Shown, after: Shown) -> bool:
    if before.sample is None or after.sample is None:
        return before.sample is after.sample
    if before.cores is None or after.cores is None:
        return before.sample == after.sample
    change = abs(after.cores - before.cores)
    has_same_cores = change < SAME_CORES or change < SAME_SHARE * before.cores
    memory = before.sample.memory_bytes
    has_same_memory = abs(after.sample.memory_bytes - memory) <= SAME_SHARE * memory
    is_recent = 0 <= after.sample.at - before.sample.at < STEADY_TIME
    return has_same_cores and has_same_memory and is_recent
