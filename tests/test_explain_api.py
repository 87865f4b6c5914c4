"""GET /jobs/ID/explain: who can read it, what it refuses, and what no log can make it do."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from conftest import JobMaker, Site, in_processes
from flask.testing import FlaskClient
from web import UNKNOWN, is_problem

import api
from storage import WorkerStore
from tailboard.explain import explainer
from tailboard.explain.explainer import Explainer
from tailboard.explain.part import Part, Subject
from tailboard.explain.part_name import PartName
from tailboard.folder.claim import Claim
from tailboard.job import Job
from tailboard.journal import Outcome
from tailboard.logs import EmptyLog
from tailboard.notify.history import History
from tailboard.notify.usual import UsualTimes
from tailboard.status import Status

MOST_MEMORY = 64 << 10  # KiB


def explain(client: FlaskClient, job_id: str, parts: str = "") -> Any:
    """The explanation, once it is complete."""
    query = {"parts": parts} if parts else {}
    while True:
        answer = client.get(f"/jobs/{job_id}/explain", query_string=query)
        assert answer.status_code == 200, answer.text
        found = answer.get_json()
        if not found["partial"]:
            return found


def section_names(found: Any) -> list[str]:
    return [section["name"] for section in found["sections"]["sections"]]


# --- Access ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("query", ["explain?", "diff?with={job_id}&"])
def test_a_ticket_must_be_for_all_logs_since_the_answer_is_about_other_jobs_too(
    locked: Site, query: str
) -> None:
    job_id = locked.job_maker.ended(b"hello\n")
    path = f"/jobs/{job_id}/{query.format(job_id=job_id)}"
    assert locked.get(path).status_code == 200
    for place, status in (("/ticket", 200), (f"/jobs/{job_id}/ticket", 401)):
        ticket = locked.post(place).json()["ticket"]
        headers = {"Authorization": None}
        assert locked.get(f"{path}ticket={ticket}", headers=headers).status_code == status
    is_problem(locked.get(path, headers={"Authorization": None}), 401, "token")


# --- The request ----------------------------------------------------------------------------------


def test_only_the_parts_that_were_asked_for_are_returned(
    client: FlaskClient, job_maker: JobMaker
) -> None:
    job_id = job_maker.ended(b"--- Build\nok\n")
    plain = {"id", "status", "partial", "compared_with"}
    assert explain(client, job_id).keys() == plain | set(PartName)
    some = explain(client, job_id, "seen_before,sections")
    assert some.keys() == plain | {"sections", "seen_before"}
    assert section_names(some) == ["Build"] and some["seen_before"] is None


@pytest.mark.parametrize("query", ["parts=section", "parts=sections,", "parts=,", "parts=%00"])
def test_wrong_parts_are_refused_with_their_names(
    client: FlaskClient, job_maker: JobMaker, query: str
) -> None:
    path = f"/jobs/{job_maker.ended()}/explain"
    is_problem(client.get(f"{path}?{query}"), 400, "parts", ", ".join(PartName))


def test_an_explanation_that_has_not_changed_is_not_sent_again(
    client: FlaskClient, job_maker: JobMaker
) -> None:
    held = job_maker.running(b"--- Build\n")
    path = f"/jobs/{held.job.id}/explain?parts=annotations,results"
    etag = client.get(path).headers["ETag"]
    assert client.get(path, headers={"If-None-Match": etag}).status_code == 304
    job_maker.finish(held)
    assert client.get(path, headers={"If-None-Match": etag}).status_code == 200


def test_jobs_without_a_log_damaged_ones_and_deleted_ones(
    client: FlaskClient, job_maker: JobMaker
) -> None:
    queued = explain(client, job_maker.queued().id)
    assert queued["status"] == "queued" and queued["compared_with"] == []
    damaged = job_maker.ended(b"--- Build\n", Status.FAILED)
    job_maker.log(damaged).with_name("job.json").write_bytes(b'{"command": "tru\xff')
    assert section_names(explain(client, damaged)) == ["Build"]
    assert client.get(f"/jobs/{damaged}/diff?with={damaged}").status_code == 200
    deleted = job_maker.ended(b"--- Build\n", Status.FAILED)
    assert section_names(explain(client, deleted)) == ["Build"]
    job_maker.storage.delete(deleted)
    for job_id in (deleted, UNKNOWN):
        is_problem(client.get(f"/jobs/{job_id}/explain"), 404, job_id)


def test_an_explanation_starts_afresh_if_the_job_truncates_its_log(
    client: FlaskClient, job_maker: JobMaker
) -> None:
    held = job_maker.running(b"--- Test\n")
    job_id, log = held.job.id, job_maker.log(held.job.id)
    assert section_names(explain(client, job_id)) == ["Test"]
    log.write_bytes(b"--- Run\n")
    assert section_names(explain(client, job_id)) == ["Run"]
    log.write_bytes(b"--- Longer than before\n--- And more\n")
    assert section_names(explain(client, job_id)) == ["Longer than before", "And more"]
    job_maker.write(held, b"--- End\n")
    job_maker.finish(held)
    names = ["Longer than before", "And more", "End"]
    assert section_names(explain(client, job_id)) == names


# --- Redis ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("store_url", ["redis_url"], indirect=True)
def test_jobs_in_redis_are_explained_and_compared(
    store_url: str, store: WorkerStore, claim: Callable[[], Claim]
) -> None:
    ids = []
    for output, status in (
        (b"--- Build\n1\n", Status.SUCCEEDED),
        (b"--- Build\n2\nbad\n", Status.FAILED),
    ):
        store.submit(Job(command="true", name="migrate"))
        with claim() as held:
            with held.open_log_for_append() as log:
                log.write(output)
            ids.append(held.finish(Outcome(status, hint="bad")).id)
        assert store.get(ids[-1]).log_size == len(output)  # Redis has the log
    client = api.create_app({"STORAGE": store_url}).test_client()
    good, bad = ids
    found = explain(client, bad)
    assert found["compared_with"] == [good] and section_names(found) == ["Build"]
    compared = client.get(f"/jobs/{bad}/diff").get_json()
    assert compared["left"]["id"] == good
    assert [hunk["right_lines"] for hunk in compared["hunks"]] == [["--- Build", "2"], ["bad"]]


# --- Several viewers, and hostile logs ------------------------------------------------------------


class SlowPart(Part):
    """Works until another explanation does so, too."""

    both = threading.Barrier(2)

    def work(self, subject: Subject, deadline: float) -> bool:
        self.both.wait(60)
        return True

    def answer(self, subject: Subject) -> dict[str, Any] | None:
        return {}


def test_viewers_of_different_jobs_do_not_wait_for_each_other(
    job_maker: JobMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(explainer.PARTS, PartName.RESULTS, SlowPart)
    jobs = [job_maker.storage.get(job_maker.ended(name="job")) for _ in range(2)]
    past = History(job_maker.storage)
    shared = Explainer(job_maker.storage, past, UsualTimes(job_maker.storage, past))
    other = threading.Thread(
        target=shared.explain, args=(jobs[0], EmptyLog(), ["results"]), daemon=True
    )
    other.start()
    found = shared.explain(jobs[1], EmptyLog(), ["results"])  # BrokenBarrierError if it waits
    assert found["results"] == {"partial": False}
    other.join()


MARKERS = b"--- section %x \xff\n::group::\x1b[31m\x00\x9b%x\n::result k%d=%d\n::error::\x07%d\n"
NEEDED = r"""
import re, sys
from pathlib import Path
import api
def peak():  # of this process, KiB
    return int(re.search(r"VmHWM:\s*(\d+)", Path("/proc/self/status").read_text())[1])
client = api.create_app({"STORAGE": sys.argv[1]}).test_client()
paths = [f"/jobs/{sys.argv[2]}/explain", f"/jobs/{sys.argv[2]}/diff"]
before = peak()
for path in paths:
    while (answer := client.get(path)).get_json()["partial"]:
        pass
    assert answer.status_code == 200 and r"\u001b" not in answer.text, answer.text
print(peak() - before)
"""


def test_a_hostile_log_does_not_need_much_memory(job_maker: JobMaker) -> None:
    job_maker.ended(b"start\nend\n", name="job")
    held = job_maker.running(name="job")
    with held.open_log_for_append() as log:
        log.writelines([b"x" * (1 << 20)] * 80)  # a long line, then a progress bar
        log.writelines([b"\r 99 % done" * 100_000] * 80)
        log.writelines(MARKERS % (n, n, n, n, n) for n in range(25_000))
    with held:
        job_id = held.finish(Outcome(Status.FAILED, 1, hint="Error: it failed")).id
    [needed] = in_processes(1, NEEDED, job_maker.folder, job_id)
    assert int(needed) < MOST_MEMORY
