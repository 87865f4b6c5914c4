"""Whether other jobs have ended with the same hint."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tailboard.errors import JobNotFound
from tailboard.explain.failure_index import command_key, hint_key
from tailboard.explain.part import Part, Subject
from tailboard.notify.history import History, Run, run_of

MOST_SHOWN = 20  # jobs of the same command, and as many of others


class SeenBeforePart(Part):
    """Whether other jobs have ended with the same hint: of the same command, and of others."""

    def __init__(self) -> None:
        self._here: Sequence[str] = ()  # IDs, newest first
        self._elsewhere: Sequence[str] = ()
        self._existing: set[str] = set()  # IDs of jobs that existed when this part last looked
        self._read: dict[str, Run] = {}  # of the jobs that are shown, those that the History lacks

    def work(self, subject: Subject, deadline: float) -> bool:
        run = run_of(subject.job)
        key = hint_key(run)
        if key is None:
            return True
        subject.failures.work(subject.store, subject.history, deadline)
        same = [each for each in subject.failures.find(key) if each[0] != run.id]
        deleted, is_checked = self._check(subject, (job_id for job_id, _ in same), deadline)
        left = [each for each in same if each[0] not in deleted]
        own = command_key(run)
        self._here = [job_id for job_id, command in left if command == own]
        self._elsewhere = [job_id for job_id, command in left if command != own]
        self._read_shown(subject)
        return subject.failures.is_complete and is_checked

    def _check(
        self, subject: Subject, ids: Iterable[str], deadline: float
    ) -> tuple[set[str], bool]:
        """Returns which of these jobs were deleted, and whether all were checked before the
        deadline."""
        deleted: set[str] = set()
        for job_id in ids:
            if job_id in subject.history.known or job_id in self._existing:
                continue
            if time.monotonic() > deadline:
                return deleted, False
            try:
                subject.store.status(job_id)
                self._existing.add(job_id)
            except JobNotFound:
                subject.failures.forget(job_id)
                deleted.add(job_id)
        return deleted, True

    def _read_shown(self, subject: Subject) -> None:
        known = subject.history.known
        shown = [*self._here[:MOST_SHOWN], *self._elsewhere[:MOST_SHOWN]]
        unread = [job_id for job_id in shown if job_id not in known and job_id not in self._read]
        for job in subject.store.get_many(unread):
            self._read[job.id] = run_of(job)

    def answer(self, subject: Subject) -> dict[str, Any] | None:
        if hint_key(run_of(subject.job)) is None:
            return None
        reruns = newest_reruns(subject.history)
        return {
            "here_count": len(self._here),
            "here": [show_end(run, reruns) for run in self._shown(subject, self._here)],
            "elsewhere_count": len(self._elsewhere),
            "elsewhere": [show_end(run, reruns) for run in self._shown(subject, self._elsewhere)],
        }

    def _shown(self, subject: Subject, ids: Sequence[str]) -> list[Run]:
        known = subject.history.known
        found = (known.get(job_id) or self._read.get(job_id) for job_id in ids[:MOST_SHOWN])
        return [run for run in found if run is not None]


def newest_reruns(history: History) -> dict[str, Run]:
    """The newest rerun of each job that has ended, if the History has one."""
    reruns: dict[str, Run] = {}
    for runs in list(history.groups.values()):
        for run in runs:
            if run.rerun_of is not None and run.rerun_of < run.id:
                known = reruns.get(run.rerun_of)
                if known is None or known.id < run.id:
                    reruns[run.rerun_of] = run
    return reruns


def last_rerun(job_id: str, reruns: Mapping[str, Run]) -> Run | None:
    """The newest rerun of a job; if that was run again, too, the newest one of that."""
    found = reruns.get(job_id)
    while found is not None and found.id in reruns:
        found = reruns[found.id]
    return found


def show_end(run: Run, reruns: Mapping[str, Run]) -> dict[str, Any]:
    rerun = last_rerun(run.id, reruns)
    return {
        "id": run.id,
        "title": run.title,
        "status": run.status,
        "finished_at": run.finished_at,
        "rerun": None if rerun is None else {"id": rerun.id, "status": rerun.status},
    }
