"""Which other jobs have ended with the same hint as a failed one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from storage import WorkerStore
from tailboard.explain import explainer, failure_index
from tailboard.explain.explainer import Explainer
from tailboard.folder.claim import Claim
from tailboard.job import Job
from tailboard.journal import Outcome
from tailboard.logs import EmptyLog
from tailboard.notify import history
from tailboard.notify.history import History
from tailboard.notify.usual import UsualTimes
from tailboard.status import Status

End = Callable[..., Job]
LOST = "psycopg.OperationalError: connection to 10.0.0.7 lost after 31 s"


@pytest.fixture(autouse=True)
def steps_are_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine may not read a single record in the usual time."""
    monkeypatch.setattr(explainer, "PART_TIME", 60.0)


@pytest.fixture
def end(store: WorkerStore, claim: Callable[[], Claim]) -> End:
    """Makes a job that has ended. Nothing else may be queued."""

    def end(hint: str | None = None, status: Status = Status.FAILED, **fields: Any) -> Job:
        store.submit(Job(**{"command": "true", "name": "migrate"} | fields))
        with claim() as held:
            return held.finish(Outcome(status, 1, hint=hint))

    return end


@pytest.fixture
def explain(store: WorkerStore) -> Explainer:
    past = History(store)
    return Explainer(store, past, UsualTimes(store, past))


def seen_before(explain: Explainer, job: Job) -> Any:
    found = explain.explain(job, EmptyLog(), ["seen_before"])["seen_before"]
    assert found is None or found["partial"] is False
    return found


def ids(shown: list[dict[str, Any]]) -> list[str]:
    return [each["id"] for each in shown]


def test_jobs_with_the_same_hint_are_found_here_and_elsewhere(explain: Explainer, end: End) -> None:
    first = end(LOST.replace("31", "8"))
    end("another error")
    end(LOST, status=Status.SUCCEEDED)  # its attempt before may have left a hint
    other_queue = end(LOST, queue="nightly", status=Status.TIMED_OUT)
    saved = end(LOST, saved="migrate")
    job = end(LOST)
    newer = end(LOST.replace("31", "4"))
    found = seen_before(explain, job)
    assert ids(found["here"]) == [newer.id, first.id] and found["here_count"] == 2
    assert ids(found["elsewhere"]) == [saved.id, other_queue.id] and found["elsewhere_count"] == 2
    assert found["elsewhere"][1]["status"] == Status.TIMED_OUT
    shown = {"title": "migrate", "status": "failed", "finished_at": first.finished_at}
    assert found["here"][1] == {"id": first.id, "rerun": None, **shown}
    again = end(LOST, saved="migrate", queue="nightly")
    assert ids(seen_before(explain, again)["here"]) == [saved.id]


@pytest.mark.parametrize(
    ("hint", "status"), [(None, "failed"), ("--- 12 ---", "failed"), (LOST, "succeeded")]
)
def test_nothing_is_said_without_a_hint_that_means_something(
    explain: Explainer, end: End, hint: str | None, status: Status
) -> None:
    end(hint)
    assert seen_before(explain, end(hint, Status(status))) is None


def test_the_last_rerun_of_each_is_shown(explain: Explainer, end: End) -> None:
    first, second = end(LOST), end(LOST)
    again = end(LOST, rerun_of=first.id)
    good = end(rerun_of=again.id, status=Status.SUCCEEDED)
    found = seen_before(explain, end(LOST))
    assert ids(found["here"]) == [again.id, second.id, first.id]
    passed = {"id": good.id, "status": "succeeded"}
    assert [each["rerun"] for each in found["here"]] == [passed, None, passed]


def test_jobs_that_the_history_no_longer_has_are_found(
    explain: Explainer, end: End, store: WorkerStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if more jobs end between two requests than it can hold, and after some are deleted."""
    monkeypatch.setattr(history, "MOST_JOBS", 3)
    monkeypatch.setattr(failure_index, "LIST_STEP", 2)
    old = [end(LOST) for _ in range(5)]
    lost = [end(LOST, status=Status.LOST)]
    expected = [each.id for each in [*lost, *reversed(old)]]
    job = end(LOST)
    assert ids(seen_before(explain, job)["here"]) == expected
    store.delete(old[0].id)
    store.delete(old[3].id)
    expected = [job_id for job_id in expected if job_id not in (old[0].id, old[3].id)]
    other = Explainer(store, explain.history, explain.usual_times)
    assert ids(seen_before(other, job)["here"]) == expected
    newer = [end(LOST).id for _ in range(7)]
    last = end(LOST)
    found = seen_before(explain, last)
    assert ids(found["here"]) == [*reversed(newer), job.id, *expected]


def test_the_search_of_old_jobs_continues_in_the_next_request(
    explain: Explainer, end: End, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "MOST_JOBS", 1)
    old = [end(LOST).id for _ in range(3)]
    job = end(LOST)
    explain.history.refresh()
    monkeypatch.setattr(explainer, "PART_TIME", 0.0)
    found = explain.explain(job, EmptyLog(), ["seen_before"])["seen_before"]
    assert found["partial"] is True and found["here"] == []
    monkeypatch.setattr(explainer, "PART_TIME", 60.0)
    assert ids(seen_before(explain, job)["here"]) == old[::-1]


def test_the_index_keeps_the_newest_jobs(
    explain: Explainer, end: End, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(failure_index, "MOST_FAILURES", 3)
    ended = [end(LOST) for _ in range(6)]
    found = seen_before(explain, ended.pop())
    assert ids(found["here"]) == [job.id for job in ended[:-3:-1]]
