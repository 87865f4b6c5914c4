"""Explains jobs by their logs: `GET /jobs/ID/explain`."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Sequence
from typing import Any

import storage
from tailboard.explain.annotations import AnnotationsPart
from tailboard.explain.earlier_runs import earlier_successes
from tailboard.explain.failure_index import FailureIndex
from tailboard.explain.forecast import ForecastPart
from tailboard.explain.live_forecasts import LiveForecasts
from tailboard.explain.live_marks import LiveMarks
from tailboard.explain.new_lines import NewLinesPart
from tailboard.explain.part import Part, Subject
from tailboard.explain.part_name import PartName
from tailboard.explain.pauses import PausesPart
from tailboard.explain.profiles import Profiles
from tailboard.explain.progress import ProgressPart
from tailboard.explain.results import ResultsPart
from tailboard.explain.sections import SectionsPart
from tailboard.explain.seen_before import SeenBeforePart
from tailboard.explain.silence import SilencePart
from tailboard.explain.truncation import TruncationCheck
from tailboard.job import Job
from tailboard.logs import Log
from tailboard.notify.history import History, Run
from tailboard.notify.usual import UsualTimes

PART_TIME = 0.2  # seconds of work for one part in one request
MOST_EXPLAINED = 20  # jobs whose explanations are kept
PARTS: dict[PartName, Callable[[], Part]] = {
    PartName.SECTIONS: SectionsPart,
    PartName.PROGRESS: ProgressPart,
    PartName.RESULTS: ResultsPart,
    PartName.ANNOTATIONS: AnnotationsPart,
    PartName.NEW_LINES: NewLinesPart,
    PartName.PAUSES: PausesPart,
    PartName.FORECAST: ForecastPart,
    PartName.SILENCE: SilencePart,
    PartName.SEEN_BEFORE: SeenBeforePart,
}


class Explanation:
    """What its parts have found out about one attempt of a job so far."""

    def __init__(self) -> None:
        self.lock = threading.Lock()  # held while its parts work
        self.restart()

    def restart(self) -> None:
        self.parts = {name: make() for name, make in PARTS.items()}
        self.truncation = TruncationCheck()  # since the log was last read


class Explainer:
    """Explains jobs in steps. Several threads may use it; two requests for the same job take
    turns."""

    def __init__(self, store: storage.Store, history: History, usual_times: UsualTimes) -> None:
        self.store, self.history, self.usual_times = store, history, usual_times
        self.profiles, self.marks, self.failures = Profiles(), LiveMarks(store), FailureIndex()
        self.forecasts = LiveForecasts(store, history, self.profiles)
        # By ID and attempt; the one used last comes last.
        self._kept: dict[tuple[str, int], Explanation] = {}
        self._lock = threading.Lock()

    def explain(self, job: Job, log: Log, names: Collection[str]) -> dict[str, Any]:
        """The parts of the explanation that have these names. Each works for PART_TIME at most; one
        that is not complete then has `partial`, and continues in the next call."""
        earlier = self._earlier_successes(job)
        explanation = self._explanation_of(job)
        with explanation.lock:
            if explanation.truncation.is_found(log):
                explanation.restart()
                self.marks.forget(job)
            explanation.truncation.remember(log, log.size)
            subject = self._subject(job, log, earlier)
            answers, is_partial = {}, not self.history.is_complete
            for name in [name for name in explanation.parts if name in names]:
                answers[str(name)], is_complete = work_on(explanation.parts[name], subject)
                is_partial = is_partial or not is_complete
        return {
            "id": job.id,
            "status": job.status,
            "partial": is_partial,
            "compared_with": [run.id for run in earlier],
            **answers,
        }

    def _subject(self, job: Job, log: Log, earlier: Sequence[Run]) -> Subject:
        return Subject(
            job,
            log,
            earlier,
            self.store,
            self.history,
            self.usual_times,
            self.profiles,
            self.failures,
            self.marks.of(job).marks,
        )

    def _earlier_successes(self, job: Job) -> Sequence[Run]:
        self.history.try_refresh(PART_TIME)
        return earlier_successes(self.history.groups, job)

    def _explanation_of(self, job: Job) -> Explanation:
        key = (job.id, job.attempt)
        with self._lock:
            explanation = self._kept.pop(key, None) or Explanation()
            self._kept[key] = explanation
            while len(self._kept) > MOST_EXPLAINED:
                self._kept.pop(next(iter(self._kept)))
        return explanation


def work_on(part: Part, subject: Subject) -> tuple[dict[str, Any] | None, bool]:
    """The answer of a part after some more work, and whether that is complete."""
    is_complete = part.work(subject, time.monotonic() + PART_TIME)
    answer = part.answer(subject)
    return None if answer is None else {"partial": not is_complete, **answer}, is_complete
