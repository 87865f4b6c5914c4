"""Jobs over HTTP: what each route accepts and returns, and the error for each bad request."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from conftest import (
    BY_WORKER,
    ROOT,
    Gate,
    JobMaker,
    RedisServer,
    Site,
    clean_environment,
    files_limited_to,
    free_port,
    wait_until,
)
from flask import Flask
from flask.testing import FlaskClient
from web import RFC3339, UNKNOWN, is_problem

from api import create_app
from storage import WorkerStore
from tailboard.folder.claim import Claim
from tailboard.folder.folder_store import FolderStore
from tailboard.job import Job
from tailboard.journal import Outcome
from tailboard.machines.redis_store import RedisStore
from tailboard.status import FINISHED, Status
from tailboard.values import utc
from tailboard.web.metrics import FinishedJobs

FIELDS = {  # the fields of a job as sent, with their possible types
    "id": str,
    "command": (str, list),
    "name": (str, type(None)),
    "queue": str,
    "cwd": (str, type(None)),
    "env": dict,
    "timeout": (int, float, type(None)),
    "retries": int,
    "retry_delay": (int, float),
    "not_before": (str, type(None)),
    "attempt": int,
    "status": str,
    "submitted_at": str,
    "started_at": (str, type(None)),
    "finished_at": (str, type(None)),
    "exit_code": (int, type(None)),
    "reason": (str, type(None)),
    "hint": (str, type(None)),
    "worker": (str, type(None)),
    "host": (str, type(None)),
    "pid": (int, type(None)),
    "submitted_by": (str, type(None)),
    "rerun_of": (str, type(None)),
    "cpu_seconds": (int, float, type(None)),
    "max_rss_bytes": (int, type(None)),
    "log_size": int,
}


@pytest.fixture
def running(job_maker: JobMaker) -> Iterator[Claim]:
    """A job whose lock we hold: it counts as running and does nothing."""
    with job_maker.running() as held:
        yield held


def check_job(job: dict[str, Any], *absent: str) -> None:
    """Checks a job as sent: every field is present, has its type, and is null if unknown."""
    assert FIELDS.keys() - job.keys() == set(absent)
    for name in FIELDS.keys() - set(absent):
        assert isinstance(job[name], FIELDS[name]), (name, job[name])
        assert not isinstance(job[name], bool), name
    assert job["status"] in tuple(Status)
    for name in ("submitted_at", "started_at", "finished_at"):
        assert job[name] is None or RFC3339.fullmatch(job[name]), job[name]


# --- Success --------------------------------------------------------------------------------------


def test_a_submitted_job_runs_and_all_its_fields_are_returned(served: Site, tmp_path: Path) -> None:
    before = datetime.now(UTC) - timedelta(milliseconds=1)
    options = {
        "command": ["sh", "-c", "echo $GREETING; pwd"],
        "name": "報告書 №1",
        "queue": BY_WORKER,
        "cwd": str(tmp_path),
        "env": {"GREETING": "こんにちは"},
        "timeout": 59.5,
        "retries": 2,
        "submitted_by": "花子",
    }
    answer = served.post("/jobs", options)
    assert answer.status_code == 201
    job = answer.json()
    assert answer.headers["Location"] == f"/jobs/{job['id']}"
    check_job(job)
    assert {name: job[name] for name in options} == options
    assert (job["attempt"], job["status"]) == (1, "queued")
    assert job["started_at"] is job["finished_at"] is job["exit_code"] is job["pid"] is None
    ended = served.wait(job["id"])
    check_job(ended)
    assert (ended["status"], ended["exit_code"], ended["reason"]) == ("succeeded", 0, None)
    assert ended["worker"] and ended["host"]
    assert ended["cpu_seconds"] >= 0
    text = f"こんにちは\n{tmp_path}\n"
    assert ended["log_size"] == len(text.encode())
    times = [datetime.fromisoformat(ended[f"{n}_at"]) for n in ("submitted", "started", "finished")]
    assert [before, *times] == sorted([before, *times])
    log = served.get(f"/jobs/{job['id']}/logs")
    assert (log.status_code, log.content.decode()) == (200, text)
    assert log.headers["Content-Type"] == "text/plain; charset=utf-8"


def test_a_minimal_job_has_defaults_and_nulls(client: FlaskClient) -> None:
    answer = client.post("/jobs", json={"command": "true"})
    job = answer.json
    check_job(job)
    assert client.get(answer.headers["Location"]).json == job | {
        "usual": None,
        "progress": None,
        "results": {},
        "results_partial": False,
        "retention": None,
    }
    given = {"command": "true", "queue": "default", "env": {}, "retries": 0, "attempt": 1}
    given |= {"status": "queued", "log_size": 0, "retry_delay": 0}
    assert {name: job[name] for name in given} == given
    others = FIELDS.keys() - given.keys() - {"id", "submitted_at"}
    assert {name: job[name] for name in others} == dict.fromkeys(others)


def test_a_null_is_equivalent_to_a_missing_field(client: FlaskClient) -> None:
    answer = client.post("/jobs", json=dict.fromkeys(FIELDS_OF_BODY) | {"command": "true"})
    assert answer.status_code == 201


FIELDS_OF_BODY = (
    "command name queue cwd env timeout retries retry_delay not_before submitted_by".split()
)


@pytest.mark.parametrize(
    "field",
    [
        {"command": "echo 日本語 🎉 é \u2028 \t\r\n\x01\x7f"},
        {"command": ["printf", "%s", "", "日本語", "a\nb"]},
        {"command": "x" * 30_000},
        {"name": "あ" * 200},
        {"queue": "_a-9" * 8},
        {"cwd": "/no/such/folder/日本"},
        {"env": {"KEY.with-dots": "", "日本": "語", "A": "b=c"}},
        {"env": {"A": "x" * 30_000, "B": "日" * 10_000, "C": "x" * (35_536 - 30_000 - 3)}},
        {"timeout": 1},
        {"timeout": 1e9},
        {"timeout": 0.001},
        {"retries": 0},
        {"retries": 100},
    ],
    ids=lambda field: json.dumps(field)[:40],
)
def test_valid_values_are_stored_unchanged(client: FlaskClient, field: dict[str, Any]) -> None:
    answer = client.post("/jobs", json={"command": "true"} | field)
    assert answer.status_code == 201, answer.text
    [(name, value)] = field.items()
    assert client.get(answer.headers["Location"]).json[name] == value


def test_every_response_has_seconds_as_the_same_number(client: FlaskClient) -> None:
    body = {"command": "true", "timeout": 60}
    made = client.post("/jobs", json=body)
    again = client.post(f"/jobs/{made.json['id']}/rerun")
    client.put("/saved/a", json=body)
    answers = [made, again, client.get(f"/jobs/{made.json['id']}"), client.get("/jobs")]
    answers += [client.get("/saved"), client.post("/saved/a/run")]
    for answer in answers:
        assert set(re.findall('"timeout":(.*?),', answer.text)) == {"60"}, answer.text
        assert set(re.findall('"retry_delay":(.*?),', answer.text)) == {"0"}, answer.text


ENV_RULE = (
    "env must be an object of strings, at most 64 KiB in total; names may not begin with JOB_ or "
    "TAILBOARD_"
)
NO_TEXT = "is not a string of up to 30,000 characters without NUL"


@pytest.mark.parametrize(
    ("env", "culprit"),
    [
        ({"A": "1", "SECRET": 2}, f"; the value of 'SECRET' {NO_TEXT}"),
        ({"A": "1", "B": "nul\0"}, f"; the value of 'B' {NO_TEXT}"),
        ({"A": "1", "JOB_ID": "2"}, "; the name 'JOB_ID' is not allowed"),
        ({"A": "1", "": "2"}, "; the name '' is not allowed"),
        ({"A": "1", "B": "x" * 25_000, "C": "x" * 29_000, "D": "x" * 20_000},
         "; 74,005 bytes are too many; 'C' is the largest"),
        (["A"], ""),
    ],
)  # fmt: skip
def test_an_error_in_env_names_the_variable(client: FlaskClient, env: Any, culprit: str) -> None:
    for method, path in (("POST", "/jobs"), ("PUT", "/saved/a")):
        answer = client.open(path, method=method, json={"command": "true", "env": env})
        is_problem(answer, 400, ENV_RULE + culprit)


def test_the_same_idempotency_key_returns_the_same_job(client: FlaskClient) -> None:
    def submit(key: str) -> Any:
        body = {"command": "true"}
        return client.post("/jobs", json=body, headers={"Idempotency-Key": key})

    first, again, other = submit("k 1"), submit("k 1"), submit("k 2")
    assert first.status_code == again.status_code == 201
    assert first.json == again.json
    assert first.headers["Location"] == again.headers["Location"]
    assert other.json["id"] != first.json["id"]
    assert client.get("/jobs").json["counts"]["queued"] == 2
    for key in ("日本".encode().decode("latin-1"), "../../etc", "x" * 5_000, "\x7f"):
        assert submit(key).json["id"] == submit(key).json["id"]


def test_a_rerun_honours_the_idempotency_key(client: FlaskClient, job_maker: JobMaker) -> None:
    old = job_maker.ended()

    def rerun(key: str) -> Any:
        return client.post(f"/jobs/{old}/rerun", json={}, headers={"Idempotency-Key": key})

    first, again, other = rerun("k 1"), rerun("k 1"), rerun("k 2")
    assert first.status_code == again.status_code == 201
    assert first.json == again.json
    assert first.json["rerun_of"] == other.json["rerun_of"] == old
    assert other.json["id"] != first.json["id"]


@pytest.mark.parametrize("key", ["", " ", "\t"])
def test_an_empty_idempotency_key_is_refused(
    client: FlaskClient, job_maker: JobMaker, key: str
) -> None:
    for path in ("/jobs", f"/jobs/{job_maker.ended()}/rerun"):
        body = {"command": "true"}
        answer = client.post(path, json=body, headers={"Idempotency-Key": key})
        is_problem(answer, 400, "Idempotency-Key must not be empty")
    assert client.get("/jobs").json["counts"]["queued"] == 0


SAME_BODY: dict[str, Any] = {"command": "true", "env": {"A": "1", "B": "2"}, "timeout": 60}


@pytest.mark.parametrize(
    "body",
    [
        {"timeout": 60.0, "env": {"B": "2", "A": "1"}, "command": "true"},
        SAME_BODY | {"retries": 0, "queue": "default", "name": None},
        SAME_BODY | {"submitted_by": "ben"},
    ],
)
def test_a_key_with_an_equivalent_request_returns_its_job(
    client: FlaskClient, body: dict[str, Any]
) -> None:
    headers = {"Idempotency-Key": "k"}
    first = client.post("/jobs", json=SAME_BODY | {"submitted_by": "anna"}, headers=headers)
    again = client.post("/jobs", json=body, headers=headers)
    assert (again.status_code, again.json) == (201, first.json)


def test_a_repeated_relative_time_is_the_same_request(client: FlaskClient) -> None:
    body, headers = {"command": "true", "not_before": "+10m"}, {"Idempotency-Key": "k"}
    first = client.post("/jobs", json=body, headers=headers)
    before = first.json["not_before"]
    wait_until(lambda: utc(time.time() + 600) > before)
    assert client.post("/jobs", json=body, headers=headers).json["id"] == first.json["id"]


def test_a_key_with_another_request_is_a_422_that_names_its_job(
    client: FlaskClient, job_maker: JobMaker
) -> None:
    headers = {"Idempotency-Key": "k"}
    job_id = client.post("/jobs", json=SAME_BODY, headers=headers).json["id"]
    client.put("/saved/x", json={"command": "true"})
    others: list[tuple[str, Any]] = [
        ("/jobs", SAME_BODY | {"command": "false"}),
        ("/jobs", SAME_BODY | {"not_before": "+10m"}),
        ("/jobs", {"command": "true"}),
        (f"/jobs/{job_maker.ended()}/rerun", {}),
        ("/saved/x/run", {}),
    ]
    for path, body in others:
        answer = client.post(path, json=body, headers=headers)
        is_problem(
            answer,
            422,
            f"this Idempotency-Key belongs to job {job_id}, which a different request submitted: "
            "repeat that request, or use a new key",
        )
    assert client.get("/jobs").json["counts"]["queued"] == 1


def test_a_key_is_bound_to_the_values_of_its_run(client: FlaskClient) -> None:
    client.put("/saved/x", json={"command": "true", "params": [{"name": "A"}]})

    def run(value: str) -> Any:
        headers = {"Idempotency-Key": "k"}
        return client.post("/saved/x/run", json={"A": value}, headers=headers)

    assert run("1").json == run("1").json
    assert run("2").status_code == 422


@pytest.mark.parametrize("key", ["\x1frerun x", "a\0", "a\x1b[2J"])
def test_a_key_with_control_characters_is_refused(client: FlaskClient, key: str) -> None:
    answer = client.post("/jobs", json={"command": "true"}, headers={"Idempotency-Key": key})
    is_problem(answer, 400, "Idempotency-Key must not contain control characters")


def test_one_key_sent_by_many_clients_at_once_makes_one_job(site: Site) -> None:
    found: list[str] = []
    barrier = threading.Barrier(12)

    def submit() -> None:
        barrier.wait()
        body = {"command": "true", "queue": "nobody", "name": "once only"}
        answer = site.post("/jobs", body, headers={"Idempotency-Key": "at once"})
        found.append(answer.json()["id"])

    threads = [threading.Thread(target=submit) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 12 and len(set(found)) == 1
    assert len(site.get("/jobs?q=once+only").json()["jobs"]) == 1


def test_the_list_is_newest_first_and_paged_to_its_end(
    client: FlaskClient, job_maker: JobMaker
) -> None:
    made = [job_maker.queued(name=f"job {n}").id for n in range(7)]
    seen: list[str] = []
    path, pages = "/jobs?limit=3", 0
    while path:
        page = client.get(path).json
        assert set(page) == {"jobs", "next", "counts", "paused", "skipped", "searched"}
        seen += [job["id"] for job in page["jobs"]]
        path = page["next"] and f"/jobs?limit=3&before={page['next']}"
        pages += 1
    assert seen == made[::-1]
    assert pages == 3
    for job in client.get("/jobs").json["jobs"]:
        check_job(job, "env")


def test_a_list_omits_env_but_a_single_job_includes_it(
    client: FlaskClient, job_maker: JobMaker
) -> None:
    job = job_maker.queued(env={"A": "x" * 10_000})
    answer = client.get("/jobs")
    assert [listed["id"] for listed in answer.json["jobs"]] == [job.id]
    assert len(answer.data) < 10_000
    assert client.get(f"/jobs/{job.id}").json["env"] == job.env


def test_the_list_is_filtered_by_status_queue_and_text(
    client: FlaskClient, job_maker: JobMaker
) -> None:
    ids = {status: job_maker.ended(status=status, name=f"It {status}") for status in FINISHED}
    with job_maker.running(name="Läuft gerade") as held:
        deploy = job_maker.queued(queue="deploy", command=["./deploy", "日本"]).id
        waits = job_maker.queued().id

        def listed(query: str) -> set[str]:
            return {job["id"] for job in client.get(f"/jobs?{query}").json["jobs"]}

        for status, job_id in ids.items():
            assert listed(f"status={status}") == {job_id}
        assert listed("status=running") == {held.job.id}
        assert listed("status=queued") == {deploy, waits}
        assert listed("queue=deploy") == {deploy}
        assert listed("queue=deploy&status=running") == set()
        assert listed("q=LÄUFT") == {held.job.id}
        assert listed("q=日本") == {deploy}
        assert listed(f"q={waits}") == {waits}
        assert listed("q=It+FAILED") == {ids[Status.FAILED]}
        assert listed("q=.*") == set()
        counts = client.get("/jobs?status=running").json["counts"]
        assert counts == dict.fromkeys(FINISHED, 1) | {"running": 1, "queued": 2}


def test_an_empty_list_has_all_counts_at_zero(client: FlaskClient) -> None:
    expected = {"jobs": [], "next": None, "counts": dict.fromkeys(Status, 0), "paused": []}
    expected |= {"skipped": 0, "searched": 0}
    assert client.get("/jobs").json == expected


def test_an_unchanged_list_is_a_304_and_a_changed_one_is_not(
    client: FlaskClient, job_maker: JobMaker
) -> None:
    job_maker.queued()
    first = client.get("/jobs")
    same = client.get("/jobs", headers={"If-None-Match": first.headers["ETag"]})
    assert (same.status_code, same.data) == (304, b"")
    assert same.headers["ETag"] == first.headers["ETag"]
    job_maker.queued()
    changed = client.get("/jobs", headers={"If-None-Match": first.headers["ETag"]})
    assert changed.status_code == 200
    assert changed.headers["ETag"] != first.headers["ETag"]


def test_a_queued_job_is_cancelled_at_once(client: FlaskClient, job_maker: JobMaker) -> None:
    job = job_maker.queued()
    answer = client.post(f"/jobs/{job.id}/cancel", json={})
    assert answer.status_code == 202
    check_job(answer.json)
    assert answer.json["status"] == "cancelled"
    assert answer.json["reason"] and answer.json["started_at"] is None
    is_problem(client.post(f"/jobs/{job.id}/cancel", json={}), 409, job.id, "cancelled")


def test_a_running_job_is_cancelled_by_its_worker(served: Site, gate: Gate) -> None:
    job_id = served.submit(f"echo started; {gate.wait}")
    served.wait(job_id, "running")
    wait_until(lambda: served.get(f"/jobs/{job_id}/logs").text == "started\n")
    running = served.get(f"/jobs/{job_id}").json()
    assert isinstance(running["pid"], int) and running["cancel_requested"] is False
    answer = served.post(f"/jobs/{job_id}/cancel")
    assert answer.status_code == 202
    assert answer.json().get("cancel_requested", True)  # missing if it has already ended
    check_job(answer.json())
    ended = served.wait(job_id)
    assert (ended["status"], ended["exit_code"]) == ("cancelled", 143)
    assert ended["reason"] == "cancelled through the API"
    is_problem(served.post(f"/jobs/{job_id}/cancel"), 409)


def test_the_reason_of_a_cancel_names_the_page(client: FlaskClient, job_maker: JobMaker) -> None:
    path = f"/jobs/{job_maker.queued().id}/cancel"
    answer = client.post(path, json={}, headers={"User-Agent": "tailboard-page"})
    assert answer.json["reason"] == "cancelled from the page"


@pytest.mark.parametrize("status", FINISHED)
def test_an_ended_job_cannot_be_cancelled_but_can_be_deleted(
    client: FlaskClient, job_maker: JobMaker, status: Status
) -> None:
    job_id = job_maker.ended(b"text\n", status)
    words = "timed out" if status is Status.TIMED_OUT else status
    is_problem(client.post(f"/jobs/{job_id}/cancel", json={}), 409, job_id, words)
    answer = client.delete(f"/jobs/{job_id}")
    assert (answer.status_code, answer.data) == (204, b"")
    is_problem(client.get(f"/jobs/{job_id}"), 404, job_id)
    is_problem(client.get(f"/jobs/{job_id}/logs"), 404, job_id)
    is_problem(client.delete(f"/jobs/{job_id}"), 404, job_id)


def test_a_job_that_has_not_ended_cannot_be_deleted(
    client: FlaskClient, job_maker: JobMaker, running: Claim
) -> None:
    for job in (job_maker.queued(), running.job):
        is_problem(client.delete(f"/jobs/{job.id}"), 409, job.id, job.status)
        assert client.get(f"/jobs/{job.id}").status_code == 200


def test_a_rerun_is_a_new_job_with_the_same_options(
    client: FlaskClient, job_maker: JobMaker
) -> None:
    options = {
        "command": ["echo", "日本"],
        "name": "again",
        "queue": "by-hand",
        "cwd": "/",
        "env": {"A": "1"},
        "timeout": 5.0,
        "retries": 1,
        "submitted_by": "somebody",
    }
    old = job_maker.ended(b"text\n", Status.FAILED, **options)
    answer = client.post(f"/jobs/{old}/rerun", json={})
    assert answer.status_code == 201
    job = answer.json
    check_job(job)
    assert answer.headers["Location"] == f"/jobs/{job['id']}"
    assert {name: job[name] for name in options} == options
    assert (job["rerun_of"], job["status"], job["log_size"]) == (old, "queued", 0)
    assert job["id"] > old
    assert job["exit_code"] is job["started_at"] is job["finished_at"] is None
    assert client.get(f"/jobs/{old}").json["status"] == "failed"


def test_the_api_does_not_serve_the_pages_files(client: FlaskClient) -> None:
    assert client.application.static_folder is None
    assert client.get("/static/format.js").status_code == 404


def test_a_queued_job_shows_how_many_jobs_are_ahead_of_it(
    client: FlaskClient, job_maker: JobMaker
) -> None:
    jobs = [job_maker.queued() for _ in range(3)]
    job_maker.queued(queue="another")
    for number, job in enumerate(jobs):
        assert client.get(f"/jobs/{job.id}").json["queued_before"] == number
    job_maker.finish(job_maker.start(jobs[0]))
    assert client.get(f"/jobs/{jobs[2].id}").json["queued_before"] == 1
    assert "queued_before" not in client.get(f"/jobs/{jobs[0].id}").json


def test_a_queued_job_has_an_empty_log(client: FlaskClient, job_maker: JobMaker) -> None:
    answer = client.get(f"/jobs/{job_maker.queued().id}/logs")
    assert (answer.status_code, answer.data) == (200, b"")
    assert answer.headers["X-Job-Status"] == "queued"
    assert answer.headers["X-Log-Size"] == answer.headers["X-Log-Next"] == "0"
    assert answer.headers["X-Log-Complete"] == "false"


def test_running_workers_are_listed(served: Site) -> None:
    [worker] = wait_until(lambda: served.get("/workers").json()["workers"])
    names = "name host pid slots queues running started_at seen_at responds".split()
    assert set(worker) == set(names)
    assert (worker["slots"], worker["queues"]) == (4, [BY_WORKER])
    assert isinstance(worker["running"], int) and worker["pid"] > 0
    assert RFC3339.fullmatch(worker["started_at"]) and RFC3339.fullmatch(worker["seen_at"])


def test_without_workers_the_list_is_empty(client: FlaskClient) -> None:
    assert client.get("/workers").json == {
        "workers": [],
        "machines": [],
        "paused": [],
        "storage": {"kind": "folder"},
        "unreadable": [],
    }


def test_health_names_only_a_few_of_many_queues(client: FlaskClient, job_maker: JobMaker) -> None:
    for number in range(12):
        job_maker.queued(queue=f"queue-{number:02}")
    reported = client.get("/healthz").json["reason"]
    named = ", ".join(f"queue-{number:02}" for number in range(5))
    assert reported == f"jobs wait in {named} and 7 more, which no worker serves"


def test_many_concurrent_health_checks_get_the_truth(client: FlaskClient) -> None:
    with ThreadPoolExecutor(8) as pool:
        answers = list(
            pool.map(lambda _: client.application.test_client().get("/healthz"), [0] * 400)
        )
    assert {(answer.status_code, answer.json["reason"]) for answer in answers} == {(200, None)}


def test_a_list_of_jobs_with_large_commands_is_small(
    client: FlaskClient, job_maker: JobMaker
) -> None:
    command = ["true", *["x" * 29_000] * 34]
    ended = {job_maker.ended(command=command, cwd="/" + "d" * 3_999) for _ in range(20)}
    plain = job_maker.queued(command="echo plain").id
    answer = client.get("/jobs")
    assert len(answer.data) < 30 * 7_000
    jobs = {job["id"]: job for job in answer.json["jobs"]}
    assert "command_cut" not in jobs[plain]
    for job_id in ended:
        assert jobs[job_id]["command_cut"] is True
        assert jobs[job_id]["command"][0] == "true"
    assert set(client.get("/bulk?to=delete").json["ids"]) == ended
    whole = client.get(f"/jobs/{min(ended)}").json
    assert whole["command"] == command and "command_cut" not in whole
    again = client.post(f"/jobs/{min(ended)}/rerun").json
    assert again["command"] == command


def test_long_texts_in_a_record_are_cut_in_a_list(client: FlaskClient, job_maker: JobMaker) -> None:
    path = job_maker.log(ended := job_maker.ended()).with_name("job.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"name": "n" * 900_000}))
    (job,) = client.get("/jobs").json["jobs"]
    assert job["name"] == "n" * 4_000
    assert len(client.get(f"/jobs/{ended}").json["name"]) == 900_000


def samples(client: FlaskClient) -> dict[str, float]:
    """The samples in the metrics, by name and labels."""
    reported = {}
    for line in client.get("/metrics").text.splitlines():
        if not line.startswith("#"):
            name, _, value = line.rpartition(" ")
            reported[name] = float(value)
    return reported


def test_concurrent_scrapes_count_an_end_once(client: FlaskClient, job_maker: JobMaker) -> None:
    for _ in range(60):
        job_maker.ended(b"text\n")
    clients = [client.application.test_client() for _ in range(8)]
    with ThreadPoolExecutor(len(clients)) as pool:
        list(pool.map(samples, clients))
    reported = samples(client)
    assert reported["tailboard_log_bytes_total"] == 60 * len(b"text\n")
    assert reported['tailboard_job_seconds_count{status="succeeded"}'] == 60


def test_each_application_counts_its_own_requests(client: FlaskClient, folder: Path) -> None:
    counted = 'tailboard_request_seconds_count{method="GET",route="/workers",status="200"}'
    other = create_app({"STORAGE": folder}).test_client()
    for _ in range(3):
        client.get("/workers")
    other.get("/workers")
    assert (samples(client)[counted], samples(other)[counted]) == (3, 1)
    assert samples(client)["process_open_fds"] > 0


def test_deleted_jobs_are_still_counted(client: FlaskClient, job_maker: JobMaker) -> None:
    ended = [job_maker.ended() for _ in range(5)]
    samples(client)
    for job_id in ended:
        client.delete(f"/jobs/{job_id}")
    assert samples(client)['tailboard_job_seconds_count{status="succeeded"}'] == 5


def test_the_application_starts_without_reading_a_record(job_maker: JobMaker, folder: Path) -> None:
    ended = {job_maker.ended() for _ in range(20)}
    waiting = job_maker.queued().id

    def opened(act: Callable[[], object]) -> set[str]:
        """The IDs of the jobs whose files this thread opens."""
        paths = audit("open", act)
        return {part for path in paths for part in path.split("/") if part in {*ended, waiting}}

    applications: list[Flask] = []
    assert opened(lambda: applications.append(create_app({"STORAGE": folder}))) == set()
    client = applications[0].test_client()
    assert opened(lambda: client.get("/metrics")) == set()
    assert opened(lambda: client.get("/jobs")) == {*ended, waiting}


def test_the_address_is_printed_once_clients_can_connect(folder: Path) -> None:
    port = free_port()
    env = clean_environment(folder, TAILBOARD_BIND=f"127.0.0.1:{port}")
    command = [sys.executable, "api.py"]
    with subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout
            assert process.stdout.readline() == f"api: http://127.0.0.1:{port}\n".encode()
            socket.create_connection(("127.0.0.1", port), 10).close()
        finally:
            process.terminate()


def audit(event: str, act: Callable[[], object]) -> list[str]:
    """The first arguments of these audit events of Python in this thread, while the context
    lasts."""
    found: list[str] = []
    thread = threading.get_ident()
    is_over = False

    def hook(name: str, arguments: tuple[Any, ...]) -> None:
        if name == event and not is_over and threading.get_ident() == thread:
            found.append(str(arguments[0]))

    sys.addaudithook(hook)  # permanently: a hook cannot be removed
    act()
    is_over = True
    return found


def test_an_application_over_redis_starts_without_reading_a_record(redis: RedisServer) -> None:
    with closing(RedisStore(redis.url)) as store:
        for _ in range(20):
            store.cancel(store.submit(Job(command="true")).id, "why")
    redis.do("CONFIG", "RESETSTAT")
    client = create_app({"STORAGE": redis.url}).test_client()
    calls = redis.do("INFO", "commandstats")
    assert "cmdstat_zrevrangebylex" in calls
    assert "cmdstat_get" not in calls and "cmdstat_hmget" not in calls
    assert samples(client)["tailboard_log_bytes_total"] == 0
    with closing(RedisStore(redis.url)) as store:
        store.cancel(store.submit(Job(command="true")).id, "why")
    assert samples(client)['tailboard_jobs_ended_total{status="cancelled"}'] == 21


def test_each_ended_job_is_found_once(
    store: WorkerStore,
    bring: Callable[..., Job],
    claim: Callable[[], Claim],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Even one whose ID is below all remembered ones, because it ran long."""
    monkeypatch.setattr("tailboard.web.metrics.RECENT_FINISHED", 3)
    before = [bring(Status.SUCCEEDED).id for _ in range(5)]
    store.submit(Job(command="true"))
    finished = FinishedJobs(store)
    with claim() as long:
        finished.start()
        assert list(finished.iter_new()) == []
        later = [bring(status).id for status in FINISHED]
        assert [job.id for job in finished.iter_new()] == later
        last = bring(Status.FAILED)
        assert [job.id for job in finished.iter_new()] == [last.id]
        assert len(finished.known) == 3
        ended = long.finish(Outcome(Status.LOST))
    assert [job.id for job in finished.iter_new()] == [ended.id]
    for job_id in (before[0], last.id):
        store.delete(job_id)
    waiting = store.submit(Job(command="true"))
    assert list(finished.iter_new()) == []
    assert finished.unfinished == {waiting.id}
    store.cancel(waiting.id, "why")
    store.delete(waiting.id)
    assert list(finished.iter_new()) == []
    assert finished.unfinished == set()


def test_requests_waiting_for_a_folder_listing_share_one(job_maker: JobMaker, folder: Path) -> None:
    """Otherwise each of many requests would hold all names in memory while jobs end."""
    for _ in range(3):
        job_maker.ended()
    store, asking = FolderStore(folder), threading.Barrier(8)
    (day,) = (folder / "succeeded").iterdir()
    for path in (folder, *folder.rglob("*")):
        os.utime(path, (1, 1))
    assert store.counts()[Status.SUCCEEDED] == 3  # from now on, all but the day's are known
    os.utime(day)
    threads: set[int] = set()
    read: list[int] = []

    def is_asking(thread: int) -> bool:
        frame = sys._current_frames()[thread]
        return frame.f_code.co_name == "names_in" and frame.f_locals.get("folder") == str(day)

    def all_others_ask() -> bool:
        return all(is_asking(thread) for thread in threads - {threading.get_ident()})

    def hook(name: str, arguments: tuple[Any, ...]) -> None:
        if name == "os.listdir" and arguments[0] == str(day):
            read.append(threading.get_ident())
            if len(read) == 1:
                wait_until(all_others_ask, 20)

    def count() -> int:
        threads.add(threading.get_ident())
        asking.wait(60)
        return store.counts()[Status.SUCCEEDED]

    sys.addaudithook(hook)
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda _: count(), range(8))) == [3] * 8
    assert len(read) <= 2, "one that began before the others asked, and one for all these"


def test_a_damaged_or_newer_record_is_shown_with_a_reason(
    client: FlaskClient, job_maker: JobMaker
) -> None:
    damaged, newer, fine = job_maker.ended(), job_maker.ended(), job_maker.ended()
    job_maker.log(damaged).with_name("job.json").write_bytes(b'{"command": "tru\xff')
    record = {"command": "true", "version": 99, "colour": "blue"}
    job_maker.log(newer).with_name("job.json").write_text(json.dumps(record))
    jobs = {job["id"]: job for job in client.get("/jobs").json["jobs"]}
    assert set(jobs) == {damaged, newer, fine}
    assert "job.json" in jobs[damaged]["reason"]
    assert "99" in jobs[newer]["reason"]
    assert jobs[fine]["reason"] is None
    for job_id in (damaged, newer):
        assert client.get(f"/jobs/{job_id}").json["reason"] == jobs[job_id]["reason"]
        assert client.get(f"/jobs/{job_id}/logs").status_code == 200
    is_problem(client.post(f"/jobs/{damaged}/rerun", json={}), 400, "command")


@pytest.mark.parametrize(
    "record",
    [
        b"[]",
        b"null",
        b"",
        b"[" * 100_000,
        b'{"command": "x", "version": 2, "env": 5}',
        b'{"command": "x", "version": 2, "name": {"a": [1]}, "exit_code": "no", "reason": 7}',
        b'{"command": "x", "version": 2, "submitted_at": NaN, "cpu_seconds": Infinity}',
        b'{"command": "\\ud800", "version": 2, "name": "\\ud800"}',
        b'{"command": "x", "version": 2, "id": 5, "status": "great", "pid": "1", "log_size": -1}',
    ],
)
def test_no_record_causes_a_server_error(
    client: FlaskClient, job_maker: JobMaker, record: bytes
) -> None:
    job_id = job_maker.ended(b"text\n")
    job_maker.log(job_id).with_name("job.json").write_bytes(record)
    for path in ("/jobs", "/jobs?q=x", f"/jobs/{job_id}", f"/jobs/{job_id}/logs?timestamps=1"):
        answer = client.get(path)
        assert answer.status_code == 200, (path, answer.text)
    assert client.post(f"/jobs/{job_id}/rerun", json={}).status_code in (201, 400)
    assert client.delete(f"/jobs/{job_id}").status_code == 204


# --- Errors ---------------------------------------------------------------------------------------

LONG = "x" * 30_001
WRONG: dict[str, list[Any]] = {
    "command": ["", " \n", "a\0b", LONG, 5, True, 1.5, {}, [], [1], ["a", None], ["a\0"], [[]]],
    "name": ["", "  ", "x" * 201, "a\0", 5, [], {}, False],
    "queue": ["", "A", "a b", "../x", "ä", "x" * 33, "a\n", 5, [], "a/b", "a\0"],
    "cwd": ["", "relative", "./x", "/a\0b", "/" + "x" * 4_000, 5, [], "~", "\n/x"],
    "env": [[], "A=1", {"": "x"}, {"A=B": "x"}, {"A\0": "x"}, {"A": 5}, {"A": None}, {"A": "\0"}],
    "timeout": [0, -1, "5", 1e10, float("nan"), float("inf"), -float("inf"), True, [], 10**400],
    "retries": [-1, 101, 1.5, "1", True, 10**30, [], float("nan"), 1.0],
    "retry_delay": [-1, 3_601, "1", True, 10**30, [], float("nan"), float("inf")],
    "not_before": [
        1,
        "",
        "soon",
        "10m",
        "+10",
        "+1y",
        "+367d",
        "+999999999d",
        "2026-11-23",
        "2026-11-23T18:00:00",
        "2026-13-01T00:00:00Z",
        "2026-11-23T25:00:00Z",
        "0001-01-01T00:00:00+14:00",
        "9999-12-31T23:59:59-12:00",
    ],
    "submitted_by": ["", " ", "x" * 201, "a\0", 5, [], {}],
}
WRONG["command"] += [[LONG], ["x"] * 1_001]
WRONG["env"] += [{"A": "x" * 30_000, "B": "日" * 10_000, "C": "x" * (35_536 - 30_000 - 2)}]
WRONG["env"] += [
    {"TAILBOARD_X": "x"},
    {"JOB_ID": "x"},
    {"JOB_FILES": "x"},
    {"JOB_ATTEMPT": "1"},
    {"x" * 201: "y"},
]
ALLOWED = {
    "command": "shell command line",
    "name": "200",
    "queue": "a-z",
    "cwd": "absolute",
    "env": "64 KiB",
    "timeout": "seconds",
    "retries": "0 to 100",
    "retry_delay": "0 to 3,600",
    "not_before": "at most 366 days ahead",
    "submitted_by": "200",
}


@pytest.mark.parametrize("field", WRONG)
def test_an_invalid_field_is_named_with_its_allowed_values(client: FlaskClient, field: str) -> None:
    for value in WRONG[field]:
        body = json.dumps({"command": "true"} | {field: value})
        answer = client.post("/jobs", data=body, content_type="application/json")
        details = is_problem(answer, 400, ALLOWED[field])
        assert details["detail"].startswith(f"{field} must be "), (value, details)
        assert len(answer.text) < 1_000
    assert client.get("/jobs").json["jobs"] == []


def test_a_missing_command_is_reported(client: FlaskClient) -> None:
    is_problem(client.post("/jobs", json={}), 400, "command must be ")
    is_problem(client.post("/jobs", json={"command": None}), 400, "command must be ")


@pytest.mark.parametrize("name", ["comand", "id", "status", "", "日本", "a\0b", "\ud800", "x" * 99])
def test_an_unknown_field_is_refused_and_named(client: FlaskClient, name: str) -> None:
    for value in (1, None):
        body = json.dumps({"command": "true", name: value})
        answer = client.post("/jobs", data=body, content_type="application/json")
        is_problem(answer, 400, repr(name[:80]), *FIELDS_OF_BODY)
        assert len(answer.text) < 500


@pytest.mark.parametrize(
    ("wrong", "reported"),
    [
        ({"command": ["echo", 5]}, "; wrong: item 2"),
        ({"command": ["echo", "a\0"]}, "; wrong: item 2"),
        (
            {"command": ["", "a"]},
            "command must be a non-empty shell command line, or a non-empty list of a program",
        ),
        (
            {"command": [" "]},
            "command must be a non-empty shell command line, or a non-empty list of a program",
        ),
    ],
    ids=str,
)
def test_an_invalid_part_of_a_field_is_named(
    client: FlaskClient, wrong: dict[str, Any], reported: str
) -> None:
    is_problem(client.post("/jobs", json={"command": "true"} | wrong), 400, reported)
    is_problem(client.put("/saved/name", json={"command": "true"} | wrong), 400, reported)


@pytest.mark.parametrize(
    ("param", "reported"),
    [
        ({"name": "B", "x": 1}, "; unknown: 'x' of item 2"),
        ({"label": "B"}, "; missing: 'name' of item 2"),
        ({"name": "B", "default": 5}, "; wrong: 'default' of item 2"),
        ({"name": "B", "choices": ["a", 5]}, "; wrong: item 2 of 'choices' of item 2"),
        (5, "; wrong: item 2"),
    ],
    ids=str,
)
def test_an_invalid_part_of_a_param_is_named(
    client: FlaskClient, param: object, reported: str
) -> None:
    body = {"command": "true", "params": [{"name": "A"}, param]}
    is_problem(client.put("/saved/name", json=body), 400, reported)


def test_a_param_value_that_no_variable_can_have_is_named(client: FlaskClient) -> None:
    client.put("/saved/name", json={"command": "true", "params": [{"name": "A"}]})
    for value in ("\ud800", "a\0"):
        answer = client.post("/saved/name/run", json={"A": value})
        is_problem(answer, 400, "A must be a string of up to 30,000 characters without NUL")


@pytest.mark.parametrize("number", ["+5", "%205", "1_0", "%EF%BC%95", "5.0", "9" * 30])
def test_a_number_in_a_query_must_consist_of_digits(client: FlaskClient, number: str) -> None:
    for path in (f"/jobs?limit={number}", f"/logs?q=x&per_job={number}"):
        is_problem(client.get(path.replace("+", "%2B")), 400, "must be a whole number from 1")


def test_a_repeated_parameter_is_refused(client: FlaskClient, job_maker: JobMaker) -> None:
    logs = f"/jobs/{job_maker.ended(b'x')}/logs?tail=1&tail=2"
    for path in ("/jobs?queue=a&queue=b", "/bulk?to=rerun&to=delete", "/logs?q=a&q=b", logs):
        is_problem(client.get(path), 400, "appears twice")


def test_a_compressed_body_is_refused(client: FlaskClient) -> None:
    headers = {"Content-Encoding": "gzip"}
    answer = client.post("/jobs", json={"command": "true"}, headers=headers)
    is_problem(answer, 415, "Content-Encoding is not supported")


def test_an_invalid_last_event_id_is_named(client: FlaskClient, job_maker: JobMaker) -> None:
    path = f"/jobs/{job_maker.ended(b'x')}/logs?follow=1"
    is_problem(client.get(path, headers={"Last-Event-ID": "x"}), 400, "Last-Event-ID must be")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"null",
        b"5",
        b'"text"',
        b"[]",
        b"[1, 2]",
        b"\xff\xfe",
        b"\0",
        b'{"command": "\xff"}',
        b'{"command": "\\ud800"}',
        b'{"command": ["\\udfff"]}',
        b'{"command": "true", "name": "\\ud800"}',
        b'{"command": "true", "env": {"\\ud800": "x"}}',
        b'{"command": "true", "env": {"A": "\\ud800"}}',
        b'{"command": "true", "cwd": "/\\udc00"}',
        b'{"command": "true", "timeout": NaN}',
        b'{"command": "true", "timeout": 1e999}',
        b'{"command": "true", "retries": ' + b"9" * 5_000 + b"}",
        b'{"command": "true"} {"command": "true"}',
        b"[" * 100_000,
        b'{"a":' * 50_000,
        b'{"command": ' + b"[" * 50_000 + b"]" * 50_000 + b"}",
        "\ufeff{}".encode(),
        '{"command": "true", "name": 5}'.encode("utf-16"),
    ],
    ids=lambda body: ascii(body[:40]),
)
def test_a_body_with_invalid_json_is_a_400(client: FlaskClient, body: bytes) -> None:
    answer = client.post("/jobs", data=body, content_type="application/json")
    is_problem(answer, 400)
    assert client.get("/jobs").json["jobs"] == []


def test_a_repeated_field_is_refused(client: FlaskClient) -> None:
    body = b'{"command": "one", "command": "two"}'
    answer = client.post("/jobs", data=body, content_type="application/json")
    is_problem(answer, 400, "the field 'command' appears twice")


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("status=done", "status"),
        ("status=", "status"),
        ("status=QUEUED", "status"),
        ("queue=A", "queue"),
        ("queue=", "queue"),
        ("queue=..%2Frunning", "queue"),
        ("by=", "by"),
        ("by=" + "x" * 201, "by"),
        ("limit=0", "limit"),
        ("limit=501", "limit"),
        ("limit=x", "limit"),
        ("limit=", "limit"),
        ("limit=1e3", "limit"),
        ("limit=" + "9" * 5_000, "limit"),
        ("before=x", "before"),
        ("before=", "before"),
        (f"before={UNKNOWN}x", "before"),
        (f"before={UNKNOWN}%0A", "before"),
        ("before=..%2F..", "before"),
        ("q=" + "x" * 201, "q"),
    ],
)
def test_an_invalid_parameter_of_the_list_is_named(
    client: FlaskClient, query: str, field: str
) -> None:
    details = is_problem(client.get(f"/jobs?{query}"), 400)
    assert details["detail"].startswith(f"{field} must be "), details


@pytest.mark.parametrize("path", ["/jobs", f"/jobs/{UNKNOWN}/logs"])
def test_an_unknown_parameter_is_refused_and_named(client: FlaskClient, path: str) -> None:
    is_problem(client.get(f"{path}?colour=blue"), 400, "'colour'")
    is_problem(client.get(f"{path}?%00=1"), 400)
    is_problem(client.get(f"{path}?Limit=1"), 400, "'Limit'")


ID_ROUTES = [
    ("GET", "/jobs/{}"),
    ("DELETE", "/jobs/{}"),
    ("POST", "/jobs/{}/cancel"),
    ("POST", "/jobs/{}/rerun"),
    ("POST", "/jobs/{}/ticket"),
    ("GET", "/jobs/{}/logs"),
    ("GET", "/jobs/{}/logs?follow=1"),
    ("GET", "/jobs/{}/logs?download=1"),
    ("GET", "/jobs/{}/logs?offset=0"),
    ("GET", "/jobs/{}/logs?q=x"),
]


@pytest.mark.parametrize(("method", "path"), ID_ROUTES)
def test_an_unknown_job_is_a_404_everywhere(client: FlaskClient, method: str, path: str) -> None:
    for job_id in (UNKNOWN, "x", "20261123", "running", UNKNOWN.upper(), UNKNOWN + "0"):
        json_body = {} if method == "POST" else None
        is_problem(client.open(path.format(job_id), method=method, json=json_body), 404, job_id)


def test_an_unknown_address_is_a_404(client: FlaskClient) -> None:
    for path in ("/job", "/jobs/", f"/jobs/{UNKNOWN}/", f"/jobs/{UNKNOWN}/log", "/static/x"):
        is_problem(client.get(path), 404)


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "/jobs", {"GET", "POST"}),
        ("PATCH", f"/jobs/{UNKNOWN}", {"GET", "DELETE"}),
        ("GET", f"/jobs/{UNKNOWN}/cancel", {"POST"}),
        ("DELETE", f"/jobs/{UNKNOWN}/logs", {"GET"}),
        ("DELETE", "/workers", {"GET"}),
        ("BREW", "/jobs", {"GET", "POST"}),
    ],
)
def test_a_405_lists_the_allowed_methods(
    client: FlaskClient, method: str, path: str, allowed: set[str]
) -> None:
    answer = client.open(path, method=method)
    is_problem(answer, 405)
    assert allowed <= set(answer.headers["Allow"].split(", "))


def test_a_json_content_type_may_name_a_charset(client: FlaskClient) -> None:
    kind = "application/json; charset=utf-8"
    body = '{"command": "echo 日本"}'.encode()
    assert client.post("/jobs", data=body, content_type=kind).json["command"] == "echo 日本"


def test_a_body_over_1_mib_is_a_413_and_one_of_1_mib_is_not(client: FlaskClient) -> None:
    def body(size: int) -> bytes:
        return b'{"command": "true"' + b" " * (size - 19) + b"}"

    for size, status in ((1 << 20, 201), ((1 << 20) + 1, 413)):
        answer = client.post("/jobs", data=body(size), content_type="application/json")
        assert answer.status_code == status, answer.text
    is_problem(answer, 413)


def test_a_storage_that_cannot_write_is_a_503_until_it_can(
    client: FlaskClient, folder: Path
) -> None:
    shutil.rmtree(folder / "tmp")
    (folder / "tmp").write_text("in the way")
    answer = client.post("/jobs", json={"command": "true"})
    details = is_problem(answer, 503, "storage")
    assert int(answer.headers["Retry-After"]) > 0
    assert str(folder) not in details["detail"]
    assert client.get("/jobs").status_code == 200
    (folder / "tmp").unlink()
    (folder / "tmp").mkdir()
    assert client.post("/jobs", json={"command": "true"}).status_code == 201


@pytest.mark.parametrize("instead", ["nothing", "a file"])
def test_a_missing_storage_is_never_a_500(
    client: FlaskClient, job_maker: JobMaker, folder: Path, instead: str
) -> None:
    job_id = job_maker.ended(b"text\n")
    shutil.rmtree(folder)
    if instead == "a file":
        folder.write_text("in the way")
    answer = client.post("/jobs", json={"command": "true"})
    is_problem(answer, 503, "storage")
    assert int(answer.headers["Retry-After"]) > 0
    for method, path in ID_ROUTES:
        json_body = {} if method == "POST" else None
        is_problem(client.open(path.format(job_id), method=method, json=json_body), 404)
    for path in ("/jobs", "/workers"):
        assert client.get(path).status_code in (200, 503)


def test_a_full_disk_is_a_503(
    client: FlaskClient, job_maker: JobMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = job_maker.queued()
    with files_limited_to(0):
        answer = client.post("/jobs", json={"command": "true"})
        cancelled = client.post(f"/jobs/{job.id}/cancel", json={})
    is_problem(answer, 503, "storage")
    is_problem(cancelled, 503, "storage")
    [left] = client.get("/jobs").json["jobs"]
    assert (left["id"], left["status"]) == (job.id, "queued")


def test_a_head_request_is_answered_like_get_without_the_body(site: Site) -> None:
    job_id = site.job_maker.ended(b"text\n")
    for path in ("/jobs", f"/jobs/{job_id}", f"/jobs/{job_id}/logs", "/workers", "/healthz"):
        answer = site.ask("HEAD", path)
        assert (answer.status_code, answer.content) == (site.get(path).status_code, b""), path


def test_responses_are_json_with_unescaped_characters(site: Site) -> None:
    job = site.job_maker.queued(name="報告 🎉 \u2028 \x7f")
    check: Callable[[str], Any] = lambda path: site.get(path).json()  # noqa: E731
    assert check(f"/jobs/{job.id}")["name"] == job.name
    assert site.get(f"/jobs/{job.id}").headers["Content-Type"] == "application/json"


def test_outcomes_are_returned_as_they_were_recorded(
    client: FlaskClient, job_maker: JobMaker
) -> None:
    with job_maker.running() as held:
        outcome = Outcome(Status.FAILED, 137, "ended by SIGKILL")
        held.finish(outcome)
    job = client.get(f"/jobs/{held.job.id}").json
    check_job(job)
    assert (job["status"], job["exit_code"]) == ("failed", 137)
    assert job["reason"] == "ended by SIGKILL"
