"""GET /names and GET /attention: the last runs of each name, and recent failures."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable

import pytest
from conftest import JobMaker
from flask.testing import FlaskClient

from storage import WorkerStore
from tailboard.job import Job
from tailboard.journal import Outcome
from tailboard.notify import history
from tailboard.saved_command import SavedCommand
from tailboard.status import Status
from tailboard.web.history import list_failures, list_names


def end(maker: JobMaker, status: Status = Status.SUCCEEDED, code: int = 0, **fields: str) -> Job:
    """A job that has ended with this status."""
    with maker.running(**fields) as held:
        held.finish(Outcome(status, code, final=True, reason=fields.get("reason"), hint="why not"))
        return held.job


def rows(client: FlaskClient) -> dict[str, dict[str, object]]:
    answer = client.get("/names").json
    assert answer is not None and answer["complete"]
    return {row["name"]: row for row in answer["names"]}


def test_each_name_has_its_last_runs_and_its_success_rate(
    client: FlaskClient, job_maker: JobMaker
) -> None:
    first = [end(job_maker, name="nightly") for _ in range(22)]
    failed = end(job_maker, Status.FAILED, 3, name="nightly")
    job_maker.running(name="nightly")  # has not ended
    other = end(job_maker, command="make test")
    found = rows(client)
    assert list(found) == ["make test", "nightly"]  # the newest run first
    nightly = found["nightly"]
    shown = [run[0] for run in nightly["runs"]]  # type: ignore[attr-defined]
    assert shown == [job.id for job in [*first[3:], failed]]
    assert nightly["runs"][-1][1] == "failed"  # type: ignore[index]
    assert (nightly["succeeded"], nightly["ended"], nightly["saved"]) == (22, 23, False)
    assert nightly["median"] is not None and nightly["last_at"] == failed.finished_at
    job_maker.storage.delete(other.id)
    assert list(rows(client)) == ["nightly"]


def test_runs_of_a_saved_command_have_its_name(client: FlaskClient, job_maker: JobMaker) -> None:
    job_maker.storage.saved.save(SavedCommand(command="true", name="日本 deploy", saved="deploy"))
    made = client.post("/saved/deploy/run", json={}).json
    assert made is not None
    with job_maker.start(job_maker.storage.get(made["id"])) as held:
        held.finish(Outcome(Status.SUCCEEDED, 0, final=True))
    row = rows(client)["deploy"]
    assert (row["saved"], row["title"]) == (True, "日本 deploy")


def test_failures_since_a_time_are_folded_by_name(client: FlaskClient, job_maker: JobMaker) -> None:
    old = end(job_maker, Status.FAILED, 1, name="backup")
    for status in (Status.TIMED_OUT, Status.LOST, Status.FAILED):
        newest = end(job_maker, status, 7, name="backup")
    end(job_maker, Status.CANCELLED, 0, name="stopped")
    other = end(job_maker, Status.FAILED, 1, name="other")

    def failures(**query: str) -> list[tuple[str, int, str]]:
        answer = client.get("/attention", query_string=query).json
        assert answer is not None and answer["complete"]
        found = answer["failures"]
        return [(each["name"], each["count"], each["newest"]["id"]) for each in found]

    assert failures() == [("other", 1, other.id), ("backup", 4, newest.id)]
    assert failures(since=str(old.finished_at))[1] == ("backup", 3, newest.id)
    assert failures(since=str(other.finished_at)) == []
    assert client.get("/attention?since=yesterday").status_code == 400
    shown = client.get("/attention").json
    assert shown is not None
    assert shown["failures"][0]["newest"]["hint"] == "why not"


def test_an_unchanged_answer_is_304_and_reads_no_record(
    client: FlaskClient, job_maker: JobMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    end(job_maker, Status.FAILED, 1, name="one")
    etags = {path: client.get(path).headers["ETag"] for path in ("/names", "/attention")}
    # A record that is read again would now change the answer.
    (record,) = job_maker.folder.glob("failed/*/*/job.json")
    record.write_text(record.read_text().replace('"one"', '"two"'))
    for path, etag in etags.items():
        assert client.get(path, headers={"If-None-Match": etag}).status_code == 304
    end(job_maker, name="three")
    assert client.get("/names", headers={"If-None-Match": etags["/names"]}).status_code == 200


def test_many_records_are_read_in_several_requests(
    client: FlaskClient, job_maker: JobMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(5):
        end(job_maker, name=f"job {number}")
    monkeypatch.setattr(history, "READ_TIME", -1.0)
    monkeypatch.setattr(history, "READ_STEP", 1)
    answer = client.get("/names").json
    assert (len(answer["names"]), answer["complete"]) == (1, False)
    monkeypatch.setattr(history, "READ_STEP", 50)
    assert len(rows(client)) == 5


def test_the_response_stays_small_with_many_names(client: FlaskClient) -> None:
    runs = []
    for number in range(5_000):
        name = f"{number % 100:03} {'名' * 90}"
        job = Job(command="true", id=str(uuid.uuid4())[:24], name=name, status=Status.SUCCEEDED)
        runs.append(history.run_of(job))
    known = client.application.extensions["tailboard"].history
    known._add(runs)
    known.stamp = known._storage_stamp()
    response = client.get("/names")
    answer = json.loads(response.data)
    assert len(response.data) <= 60_000
    assert answer["names"] and len(answer["names"]) + answer["more"] == 100


def test_every_kind_of_store_has_a_history(store: WorkerStore, bring: Callable[..., Job]) -> None:
    job = bring(Status.FAILED, name="nightly")
    known = history.History(store)
    assert [run.id for run in known.runs_of("nightly")] == [job.id]
    assert list_failures(known, 0.0)["failures"][0]["newest"]["id"] == job.id
    store.delete(job.id)
    assert known.runs_of("nightly") == ()
    assert list_names(known) == {"names": [], "more": 0, "complete": True}


def test_a_history_that_is_kept_up_to_date_equals_a_new_one(
    store: WorkerStore, bring: Callable[..., Job]
) -> None:
    kept, jobs = history.History(store), []
    for name in ("one", "two", "one"):
        jobs.append(bring(Status.FAILED, name=name))
        kept.refresh()
    store.delete(jobs.pop(0).id)
    jobs.append(bring(Status.SUCCEEDED, name="two"))
    kept.refresh()
    jobs += [bring(Status.CANCELLED, name="one"), bring(Status.SUCCEEDED, name="three")]
    assert [run.id for run in kept.runs_of("two")] == [jobs[2].id, jobs[0].id]
    new = history.History(store)
    new.refresh()
    assert kept.groups == new.groups and kept.known.keys() == {job.id for job in jobs}
