"""The API for limits, keys, urgent jobs and jobs that wait for others: what it accepts, and how it
says what a queued job waits for. test_store_contract.py tests which job starts when."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from typing import Any

import pytest
from conftest import JobMaker
from flask.testing import FlaskClient
from prometheus_client.parser import text_string_to_metric_families
from web import UNKNOWN, is_problem

import api
from storage import WorkerStore
from tailboard.job import MAX_AFTER
from tailboard.journal import Outcome
from tailboard.saved_command import SavedCommand
from tailboard.status import Status
from tailboard.web import reruns, waiting
from tailboard.web.health import served_queues
from tailboard.workers import WorkerInfo


def submit(client: FlaskClient, **fields: Any) -> dict[str, Any]:
    """The job that a request has submitted."""
    answer = client.post("/jobs", json={"command": "true"} | fields)
    assert answer.status_code == 201, answer.text
    job: dict[str, Any] = answer.get_json()
    return job


def reason_of(client: FlaskClient, job_id: str) -> str | None:
    """The reason of a job, which is the same on its own and in lists."""
    reason: str | None = client.get(f"/jobs/{job_id}").get_json()["reason"]
    for query in ({}, {"id": job_id}):
        listed = client.get("/jobs", query_string=query).get_json()["jobs"]
        assert [job["reason"] for job in listed if job["id"] == job_id] == [reason]
    return reason


# --- What a job waits for -------------------------------------------------------------------------


def test_the_reason_names_the_jobs_that_a_job_waits_for(
    client: FlaskClient, job_maker: JobMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = [job_maker.queued().id for _ in range(5)]
    waits = {count: submit(client, after=ids[:count])["id"] for count in (1, 2, 3, 5)}
    for most in (100, 0):  # statuses read one by one, or together
        monkeypatch.setattr(waiting, "MOST_LOOKUPS", most)
        assert reason_of(client, waits[1]) == f"waits for {ids[0]}"
        assert reason_of(client, waits[2]) == f"waits for {ids[0]} and {ids[1]}"
        assert reason_of(client, waits[3]) == f"waits for {ids[0]}, {ids[1]} and 1 other"
        assert reason_of(client, waits[5]) == f"waits for {ids[0]}, {ids[1]} and 3 others"
    job_maker.finish(job_maker.start(job_maker.storage.get(ids[0])))
    assert reason_of(client, waits[1]) is None
    assert reason_of(client, waits[2]) == f"waits for {ids[1]}"
    job_maker.finish(job_maker.start(job_maker.storage.get(ids[1])), Status.FAILED)
    assert reason_of(client, waits[2]) == f"will be cancelled: {ids[1]} failed"


def test_the_reason_names_the_job_that_has_the_key(
    client: FlaskClient, job_maker: JobMaker
) -> None:
    first, second = submit(client, key="K", queue="a"), submit(client, key="K", queue="b")
    assert reason_of(client, second["id"]) is None  # whichever starts first
    with job_maker.start(job_maker.storage.get(first["id"])):
        expected = f"waits for {first['id']}, which has the key 'K'"
        assert reason_of(client, second["id"]) == expected
        client.put("/queues/b/pause", json={"why": "tests"})
        assert reason_of(client, second["id"]) == f"{expected}; its queue is paused: tests"
        later = submit(client, key="K", not_before="+1h")
        assert reason_of(client, later["id"]) is None


def test_the_reason_names_the_jobs_that_use_up_the_limit(
    client: FlaskClient, job_maker: JobMaker
) -> None:
    running = [job_maker.running(queue="q") for _ in range(4)]
    ids = [held.job.id for held in running]
    job = submit(client, queue="q")
    turn = "waits for a turn in queue q, whose limit is"
    for limit, jobs in (
        (5, None),
        (4, f"{turn} 4: {ids[0]}, {ids[1]} and 2 others are running"),
        (3, f"{turn} 3: {ids[0]}, {ids[1]} and 2 others are running"),
    ):
        assert client.put("/queues/q", json={"limit": limit}).status_code == 200
        assert reason_of(client, job["id"]) == jobs
    for held in running[2:]:
        job_maker.finish(held)
    client.put("/queues/q", json={"limit": 2})
    assert reason_of(client, job["id"]) == f"{turn} 2: {ids[0]} and {ids[1]} are running"
    job_maker.finish(running[1])
    client.put("/queues/q", json={"limit": 1})
    assert reason_of(client, job["id"]) == f"{turn} 1: {ids[0]} is running"
    [answer] = [client.get(f"/jobs/{job['id']}?wait=1").get_json()]
    assert answer["reason"] == f"{turn} 1: {ids[0]} is running"
    job_maker.finish(running[0])
    assert reason_of(client, job["id"]) is None


def test_runs_of_saved_commands_show_the_reason_too(
    client: FlaskClient, job_maker: JobMaker
) -> None:
    job_maker.storage.saved.save(SavedCommand(saved="deploy", command="true", key="K"))
    with job_maker.running(key="K") as held:
        client.post("/saved/deploy/run")
        [run] = client.get("/saved/deploy").get_json()["runs"]
        assert run["reason"] == f"waits for {held.job.id}, which has the key 'K'"


def test_the_reason_is_the_same_on_each_storage(
    store: WorkerStore, store_url: str, claim: Callable[[], Any]
) -> None:
    client = api.create_app({"STORAGE": store_url}).test_client()
    first = submit(client, key="K")
    with claim() as held:
        assert held.job.id == first["id"]
        keyed, limited = submit(client, key="K", queue="a"), submit(client)
        after = submit(client, after=[first["id"], keyed["id"]], queue="a")
        client.put("/queues/default", json={"limit": 1})
        shown = {job["id"]: job["reason"] for job in client.get("/jobs").get_json()["jobs"]}
        assert shown == {
            first["id"]: None,
            keyed["id"]: f"waits for {first['id']}, which has the key 'K'",
            limited["id"]: "waits for a turn in queue default, whose limit is 1: "
            f"{first['id']} is running",
            after["id"]: f"waits for {first['id']} and {keyed['id']}",
        }
        held.finish(Outcome(Status.SUCCEEDED))
    client.application.extensions["tailboard"].store.close()


def test_a_list_without_queued_jobs_does_not_read_the_limits(
    client: FlaskClient, job_maker: JobMaker
) -> None:
    job_maker.ended(key="K")
    limits = job_maker.folder / "queues"
    shutil.rmtree(limits, ignore_errors=True)
    limits.write_text("not a folder")
    assert len(client.get("/jobs").get_json()["jobs"]) == 1
    job_maker.queued()
    is_problem(client.get("/jobs"), 503, "storage unavailable")


# --- Bodies ---------------------------------------------------------------------------------------

IF_BUSY = "if_busy must be one of wait, latest, replace, skip, and needs a key"
AFTER = f"after must be a list of up to {MAX_AFTER} job IDs"
LIMIT = "limit must be a whole number from 1 to 10,000, or null"


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"key": ""}, "key must be a string of 1 to 64 characters"),
        ({"key": "x" * 65}, "key must be a string of 1 to 64 characters"),
        ({"key": 7}, "key must be a string of 1 to 64 characters"),
        ({"key": "\x00"}, "key must be a string of 1 to 64 characters"),
        ({"key": 7, "if_busy": "wait"}, "key must be a string of 1 to 64 characters"),
        ({"if_busy": "wait"}, IF_BUSY),
        ({"if_busy": "skip", "key": None}, IF_BUSY),
        ({"key": "K", "if_busy": "stop"}, IF_BUSY),
        ({"urgent": 1}, "urgent must be true or false"),
        ({"after": UNKNOWN}, AFTER),
        ({"after": ["x"]}, f"{AFTER}; wrong: item 1"),
        ({"after": [UNKNOWN, 7]}, f"{AFTER}; wrong: item 2"),
        ({"after": [UNKNOWN] * (MAX_AFTER + 1)}, AFTER),
        ({"after": [UNKNOWN]}, f"after: there is no job '{UNKNOWN}'"),
        ({"after_status": "failed"}, "after_status must be one of succeeded, ended"),
        ({"then": "x"}, "unknown field 'then'"),
    ],
)
def test_a_wrong_value_of_a_job_is_refused_in_one_sentence(
    client: FlaskClient, fields: dict[str, Any], sentence: str
) -> None:
    details = is_problem(client.post("/jobs", json={"command": "true"} | fields), 400)
    assert details["detail"].startswith(sentence)
    if "then" not in fields:
        assert details["detail"] == sentence


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "sentence"),
    [
        ("PUT", "/queues/q", {}, 400, LIMIT),
        ("PUT", "/queues/q", None, 400, LIMIT),
        ("PUT", "/queues/q", {"limit": 0}, 400, LIMIT),
        ("PUT", "/queues/q", {"limit": -1}, 400, LIMIT),
        ("PUT", "/queues/q", {"limit": 10_001}, 400, LIMIT),
        ("PUT", "/queues/q", {"limit": "1"}, 400, LIMIT),
        ("PUT", "/queues/q", {"limit": 1.5}, 400, LIMIT),
        ("PUT", "/queues/q", {"limit": True}, 400, LIMIT),
        ("PUT", "/queues/q", {"max": 1}, 400, "unknown field 'max'; allowed fields: limit"),
        ("PUT", "/queues/q", [1], 400, "the body must be a JSON object"),
        ("PUT", "/queues/Q", {"limit": 1}, 400, "queue must be 1 to 32 of the characters"),
        ("POST", f"/jobs/{UNKNOWN}/urgent", None, 404, f"there is no job '{UNKNOWN}'"),
        ("DELETE", f"/jobs/{UNKNOWN}/urgent", None, 404, f"there is no job '{UNKNOWN}'"),
        ("POST", f"/jobs/{UNKNOWN}/rerun", {"with_after": True}, 404, "there is no job"),
        (
            "POST",
            f"/jobs/{UNKNOWN}/rerun",
            {"with_after": "yes"},
            400,
            "with_after must be true or false",
        ),
        ("POST", f"/jobs/{UNKNOWN}/rerun", {"x": 1}, 400, "unknown field 'x'"),
    ],
)
def test_a_wrong_request_is_refused_in_one_sentence(
    client: FlaskClient, method: str, path: str, body: object, status: int, sentence: str
) -> None:
    options = {} if body is None else {"json": body}
    details = is_problem(client.open(path, method=method, **options), status)
    assert details["detail"].startswith(sentence)
    assert client.get("/queues").get_json() == {"queues": []}


def test_an_id_that_is_given_twice_counts_once(client: FlaskClient) -> None:
    first, second = submit(client)["id"], submit(client)["id"]
    assert submit(client, after=[second, first, second])["after"] == [second, first]


# --- A key that is busy ---------------------------------------------------------------------------


def test_with_skip_the_response_is_the_job_that_is_in_the_way(
    client: FlaskClient, job_maker: JobMaker
) -> None:
    ended = job_maker.ended(key="K", if_busy="skip")
    first = submit(client, key="K", if_busy="skip")
    job_maker.storage.saved.save(
        SavedCommand(saved="deploy", command="true", key="K", if_busy="skip")
    )
    body = {"command": "true", "key": "K", "if_busy": "skip"}
    for path in ("/jobs", "/saved/deploy/run", f"/jobs/{ended}/rerun"):
        answer = client.post(path, json=body if path == "/jobs" else {})
        assert answer.status_code == 200, answer.text
        assert answer.get_json()["id"] == answer.headers["Tailboard-Skipped"] == first["id"]
        assert "Location" not in answer.headers
    assert len(client.get("/jobs?status=queued").get_json()["jobs"]) == 1
    client.post(f"/jobs/{first['id']}/cancel")
    again = client.post("/jobs", json=body)
    assert again.status_code == 201 and "Tailboard-Skipped" not in again.headers


# --- Urgent ---------------------------------------------------------------------------------------


def test_a_waiting_job_becomes_urgent_and_ordinary_again(
    client: FlaskClient, job_maker: JobMaker
) -> None:
    job = submit(client)
    urgent = submit(client, urgent=True)
    assert urgent["urgent"] is True and "queued_before" not in urgent
    for method, urgent in (("POST", True), ("POST", True), ("DELETE", False), ("DELETE", False)):
        answer = client.open(f"/jobs/{job['id']}/urgent", method=method)
        assert answer.status_code == 200 and answer.get_json()["urgent"] is urgent
        assert client.get(f"/jobs/{job['id']}").get_json()["urgent"] is urgent
    ended = job_maker.ended()
    for method in ("POST", "DELETE"):
        details = is_problem(client.open(f"/jobs/{ended}/urgent", method=method), 409, ended)
        assert "only a job that waits can" in details["detail"]


# --- Reruns ---------------------------------------------------------------------------------------


def cancelled_chain(client: FlaskClient, job_maker: JobMaker) -> tuple[str, list[str]]:
    """The ID of a failed job, and those of three jobs that were cancelled because of it: two wait
    for it, and one for the first of these."""
    first = submit(client, queue="q", name="first", key="K", if_busy="latest")["id"]
    ids = [submit(client, after=[first], env={"A": "b"})["id"]]
    ids.append(submit(client, after=[first, ids[0]], after_status="succeeded")["id"])
    ids.append(submit(client, after=[ids[0]])["id"])
    job_maker.finish(job_maker.start(job_maker.storage.get(first)), Status.FAILED)
    cause = {ids[0]: f"{first} failed", ids[1]: f"{first} failed"}
    for job_id in ids:
        job_maker.storage.cancel(job_id, cause.get(job_id, f"{ids[0]} was cancelled"))
    job_maker.storage.cancel(submit(client, after=[first])["id"], "cancelled by anna")
    return first, ids


def test_a_plain_rerun_waits_for_no_other_job(client: FlaskClient, job_maker: JobMaker) -> None:
    first, ids = cancelled_chain(client, job_maker)
    again = client.post(f"/jobs/{ids[0]}/rerun").get_json()
    assert (again["after"], again["rerun_of"], again["env"]) == ([], ids[0], {"A": "b"})
    assert "reruns" not in again
    again = client.post(f"/jobs/{first}/rerun", json={"with_after": False}).get_json()
    assert (again["key"], again["if_busy"], again["urgent"]) == ("K", "latest", False)
    urgent = submit(client, urgent=True)["id"]
    assert client.post(f"/jobs/{urgent}/rerun").get_json()["urgent"] is True


def test_a_rerun_with_after_repeats_the_jobs_that_were_cancelled_because_of_it(
    client: FlaskClient, job_maker: JobMaker
) -> None:
    first, ids = cancelled_chain(client, job_maker)
    headers = {"Idempotency-Key": "again"}
    answer = client.post(f"/jobs/{first}/rerun", json={"with_after": True}, headers=headers)
    assert answer.status_code == 201, answer.text
    root, reruns = answer.get_json(), answer.get_json()["reruns"]
    jobs = [client.get(f"/jobs/{job_id}").get_json() for job_id in reruns]
    assert [job["rerun_of"] for job in jobs] == ids and root["rerun_of"] == first
    assert [job["after"] for job in jobs] == [[root["id"]], [root["id"], reruns[0]], [reruns[0]]]
    assert jobs[0]["env"] == {"A": "b"} and reruns == sorted(reruns)
    assert answer.headers["Location"].endswith(root["id"])
    for job_id in reruns[1:]:  # as if the request had been interrupted
        client.post(f"/jobs/{job_id}/cancel")
        client.delete(f"/jobs/{job_id}")
    repeated = client.post(f"/jobs/{first}/rerun", json={"with_after": True}, headers=headers)
    assert repeated.get_json()["id"] == root["id"]
    assert repeated.get_json()["reruns"][0] == reruns[0]
    assert len(repeated.get_json()["reruns"]) == 3
    is_problem(client.post(f"/jobs/{first}/rerun", headers=headers), 422, root["id"])


def test_a_rerun_with_after_that_is_not_possible_submits_nothing(
    client: FlaskClient, job_maker: JobMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, _ = cancelled_chain(client, job_maker)
    before = client.get("/jobs").get_json()["counts"]
    other = job_maker.ended()
    job = submit(client, after=[other, first])["id"]
    job_maker.storage.cancel(job, f"{first} failed")
    client.delete(f"/jobs/{other}")

    def refused(status: int, *words: str) -> None:
        answer = client.post(f"/jobs/{first}/rerun", json={"with_after": True})
        is_problem(answer, status, *words)

    refused(409, f"job {job} also waits for {other}, which was deleted")
    monkeypatch.setattr(reruns, "MOST_DEPENDENTS", 3)
    refused(409, f"more than 3 jobs were cancelled because of {first}: rerun it alone")
    monkeypatch.setattr(reruns, "SEARCH_TIME", -1.0)
    refused(503, f"the jobs that wait for {first} were not found within -1 seconds")
    assert client.get("/jobs").get_json()["counts"] == before | {"cancelled": 5}


def test_a_rerun_with_after_leaves_out_deleted_jobs_whose_end_is_enough(
    client: FlaskClient, job_maker: JobMaker
) -> None:
    other, first = job_maker.ended(), submit(client)["id"]
    second = submit(client, after=[first])["id"]
    third = submit(client, after=[other, second], after_status="ended")["id"]
    for job_id, reason in ((first, ""), (second, f"{first} was cancelled"), (third, f"{second} x")):
        job_maker.storage.cancel(job_id, reason)
    client.delete(f"/jobs/{other}")
    again = client.post(f"/jobs/{first}/rerun", json={"with_after": True}).get_json()
    last = client.get(f"/jobs/{again['reruns'][1]}").get_json()
    assert (last["after"], last["after_status"]) == ([again["reruns"][0]], "ended")


# --- Queues and metrics ---------------------------------------------------------------------------


def test_queues_show_their_limits_and_their_jobs(client: FlaskClient, job_maker: JobMaker) -> None:
    row = {"queued": 0, "running": 0, "limit": None, "paused": None}
    assert client.put("/queues/new", json={"limit": None}).get_json() == row | {"queue": "new"}
    job_maker.queued(queue="busy")
    with job_maker.running(queue="busy"), job_maker.running(queue="free"):
        limited = client.put("/queues/busy", json={"limit": 7}).get_json()
        client.put("/queues/idle", json={"limit": 1})
        worker = WorkerInfo(name="w", host="h", pid=1, queues=["!excluded"])
        job_maker.storage.heartbeat(worker, 0)
        rows = client.get("/queues").get_json()["queues"]
        busy = row | {"queue": "busy", "queued": 1, "running": 1, "limit": 7}
        free = row | {"queue": "free", "running": 1}
        assert rows == [busy, free, row | {"queue": "idle", "limit": 1}]
        assert limited == busy
        text = client.get("/metrics").text
    families = {each.name: each.samples for each in text_string_to_metric_families(text)}
    shown = {
        name: {each.labels["queue"]: each.value for each in families[f"tailboard_queue_{name}"]}
        for name in ("running", "limit", "jobs")
    }
    assert shown["running"] == {"busy": 1, "free": 1}
    assert shown["limit"] == {"busy": 7, "idle": 1}
    assert shown["jobs"] == {"busy": 1}
    assert client.put("/queues/busy", json={"limit": None}).get_json() == busy | {"limit": None}


def test_a_worker_serves_all_queues_but_those_that_it_excludes() -> None:
    def served(*queues: str) -> set[str]:
        worker = WorkerInfo(name="w", host="h", pid=1, queues=list(queues))
        return served_queues({"a": 1, "b": 1}, [worker])

    assert served() == {"a", "b"}
    assert served("a") == served("!b") == {"a"}
    assert served("!a", "!b") == served("a", "!b") == served("???") == set()
