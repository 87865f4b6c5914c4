"""Where the time of a job went, how far it is compared with its last success, and its silence."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import pytest
from conftest import JobMaker
from past_runs import end_with_lines, rewrite_claim, write_lines

from tailboard.explain.anchors import longest_increasing
from tailboard.explain.explainer import Explainer
from tailboard.explain.part_name import PartName
from tailboard.folder.claim import Claim
from tailboard.logs import EmptyLog
from tailboard.notify import usual
from tailboard.notify.history import History
from tailboard.notify.usual import UsualTimes
from tailboard.values import utc

NAMES = [PartName.PAUSES, PartName.FORECAST, PartName.SILENCE]
Lines = Sequence[tuple[float, str]]
DEPLOY = (
    (3.0, "starting"),
    (5.0, "fetching 12 files\n"),
    (35.0, "fetched\nmigrating orders"),
    (100.0, "migrated"),
    (110.0, "indexing"),
    (118.0, "indexed"),
)


@pytest.fixture(autouse=True)
def all_records_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usual, "REFRESH_TIME", 60.0)


class Explained:
    """Jobs named "deploy", and what their logs explain."""

    def __init__(self, maker: JobMaker) -> None:
        self.maker, self.storage = maker, maker.storage
        times = UsualTimes(self.storage, History(self.storage))
        self.explainer = Explainer(self.storage, times.history, times)

    def past(self, seconds: float, *lines: tuple[float, str]) -> str:
        return end_with_lines(self.maker.running(name="deploy"), seconds, *lines).id

    def running(self, seconds: float, *lines: tuple[float, str]) -> Claim:
        """A job that has been running for so long."""
        held = self.maker.running(name="deploy")
        if lines:
            write_lines(held, *((at - seconds, line) for at, line in lines))
        rewrite_claim(held.folder, started_at=utc(time.time() - seconds))
        return held

    def explain(self, job_id: str) -> dict[str, Any]:
        """Its parts about times, once they are complete."""
        job = self.storage.get(job_id)
        while True:
            with self.storage.open_log(job_id) if job.log_size else EmptyLog() as log:
                found = self.explainer.explain(job, log, NAMES)
            if not found["partial"]:
                return {name: found[name] for name in NAMES}


@pytest.fixture
def jobs(job_maker: JobMaker) -> Explained:
    return Explained(job_maker)


def slower(lines: Lines, factor: float) -> Lines:
    return [(at * factor, line) for at, line in lines]


def texts(pause: dict[str, Any]) -> tuple[str | None, str | None]:
    before, after = pause["before"], pause["after"]
    return before and before["text"], after and after["text"]


def test_the_longest_pauses_with_their_lines_and_what_is_usual(jobs: Explained) -> None:
    for factor in (0.9, 1.0, 1.2):
        jobs.past(125 * factor, *slower(DEPLOY, factor))
    late = [(at + 40 * (at > 35), line) for at, line in DEPLOY]
    done = jobs.past(170, *late)
    pauses = jobs.explain(done)["pauses"]["pauses"]
    found = [(round(each["seconds"]), round(each["usually"]), *texts(each)) for each in pauses]
    assert found == [
        (105, 65, "migrating orders", "migrated"),
        (30, 30, "fetching 12 files", "fetched"),
        (12, 7, "indexed", None),
        (10, 10, "migrated", "indexing"),
        (8, 8, "indexing", "indexed"),
        (3, 3, None, "starting"),
        (2, 2, "starting", "fetching 12 files"),
    ]
    assert pauses[0]["before"]["line"] == 5 and pauses[0]["after"]["line"] == 6
    assert pauses[0]["after"]["offset"] == pauses[0]["before"]["offset"] + len("migrating orders\n")


def test_a_running_job_is_compared_with_the_last_success(jobs: Explained) -> None:
    run = jobs.past(125, *DEPLOY)
    held = jobs.running(130, *DEPLOY[:3], (125, "migrated"))
    found = jobs.explain(held.job.id)["forecast"]
    assert found["run"] == run and found["matched"] == 5
    assert found["percent"] == pytest.approx(84, abs=1.5)  # 105 s of 125 s
    assert found["seconds_left"] == pytest.approx(20, abs=2)
    assert found["seconds_behind"] == pytest.approx(25, abs=1)
    assert found["since"]["text"] == "migrating orders" and found["since"]["line"] == 5


def test_a_job_that_is_silent_for_longer_than_ever(jobs: Explained) -> None:
    longest = jobs.past(125, *DEPLOY)
    for _ in range(2):
        jobs.past(100, *slower(DEPLOY, 0.8))
    held = jobs.running(400, (3, "starting"), (100, "fetching 9 files"))
    found = jobs.explain(held.job.id)["silence"]
    assert found["run"] == longest
    assert found["longest_pause"] == pytest.approx(65, abs=0.1)
    assert found["seconds"] == pytest.approx(300, abs=5)
    assert found["after"] == {"offset": 36, "line": 5, "text": "migrating orders"}


def test_longest_increasing() -> None:
    assert longest_increasing([]) == []
    assert longest_increasing([3, 1, 2, 9, 2, 3, 4, 0]) == [1, 2, 5, 6]
