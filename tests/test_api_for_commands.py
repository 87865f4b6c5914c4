"""What the API offers to programs that do what the commands do: jobs by a part of their ID, all
jobs for a bulk action, whole searches, saved commands with everything, and the version."""

from __future__ import annotations

from typing import Any

import pytest
import requests
from conftest import JobMaker, Site
from flask.testing import FlaskClient
from web import is_problem

import api
from storage import WorkerStore
from tailboard import __version__, saved_command
from tailboard.job import Job
from tailboard.status import Status
from tailboard.web import bulk, long_answer
from tailboard.web.auth import COMMAND_USER

# --- Jobs by a part of their ID -------------------------------------------------------------------


def ids_of(answer: Any) -> list[str]:
    assert answer.status_code == 200, answer.text
    return [job["id"] for job in answer.get_json()["jobs"]]


def test_a_job_is_found_by_the_beginning_or_the_end_of_its_id(
    store: WorkerStore, store_url: str
) -> None:
    ids = [store.submit(Job(command="x" * 5_000, env={"A": "b"})).id for _ in range(3)]
    client = api.create_app({"STORAGE": store_url}).test_client()
    for part in (ids[1], ids[1][-8:], ids[1][:-1]):
        found = client.get("/jobs", query_string={"id": part})
        assert ids_of(found) == [ids[1]]
        [job] = found.get_json()["jobs"]
        assert job["command_cut"] and "env" not in job
    everything = client.get("/jobs", query_string={"id": ids[0][:4]})
    assert ids_of(everything) == sorted(ids, reverse=True)
    for part in ("nothing", ids[0][1:-1], "*", "日本", "../.."):
        nothing = client.get("/jobs", query_string={"id": part})
        assert (ids_of(nothing), nothing.get_json()["searched"]) == ([], 0)
    client.application.extensions["tailboard"].store.close()


def test_many_jobs_with_a_part_in_common_are_listed_in_pages(
    client: FlaskClient, job_maker: JobMaker
) -> None:
    ids = sorted((job_maker.queued().id for _ in range(5)), reverse=True)
    first = client.get("/jobs?id=2&limit=2")
    second = client.get(f"/jobs?id=2&limit=3&before={ids[1]}")
    assert (ids_of(first), ids_of(second)) == (ids[:2], ids[2:])
    places = [
        (page["next"], page["skipped"], page["searched"])
        for page in (first.get_json(), second.get_json())
    ]
    assert places == [(ids[1], 0, 5), (None, 2, 5)]


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ({"id": ""}, "id must be the beginning or the end of an ID, 1 to 24 characters"),
        ({"id": "2" * 25}, "id must be the beginning or the end of an ID, 1 to 24 characters"),
        ({"id": "2\n"}, "id must be the beginning or the end of an ID, 1 to 24 characters"),
        ({"id": "2", "status": "failed"}, "use only one of id and status"),
        ({"id": "2", "q": "x", "queue": "a"}, "use only one of id and queue"),
        ({"id": "2", "since": "1d"}, "use only one of id and since"),
        ({"id": "2", "by": "anna"}, "use only one of id and by"),
    ],
)
def test_a_wrong_part_of_an_id_is_refused_in_one_sentence(
    client: FlaskClient, query: dict[str, str], sentence: str
) -> None:
    details = is_problem(client.get("/jobs", query_string=query), 400)
    assert details["detail"] == sentence


# --- All jobs for a bulk action -------------------------------------------------------------------


def test_all_jobs_are_listed_without_a_limit(
    client: FlaskClient, job_maker: JobMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api, "BULK_LIMIT", 1)
    monkeypatch.setattr(api, "BULK_TIME", 0.0)
    monkeypatch.setattr(bulk, "BULK_STEP", 2)
    monkeypatch.setattr(long_answer, "SPACE_INTERVAL", 0.0)
    ids = [job_maker.ended(status=Status.FAILED) for _ in range(5)]
    job_maker.storage.submit(Job(command="true", rerun_of=ids[1]))
    answer = client.get("/bulk?to=rerun&all=1")
    assert answer.mimetype == "application/json" and answer.data.startswith(b"\n")
    rest = [each for each in ids if each != ids[1]]
    found = answer.get_json()
    assert found == {"ids": rest, "left_out": 1, "complete": True, "bulk": found["bulk"]}
    assert client.get("/bulk?to=delete&all=1").get_json()["ids"] == ids
    newest = client.get("/bulk?to=delete").get_json()
    assert (newest["ids"], newest["left_out"], newest["complete"]) == (ids[-1:], 0, False)


def test_a_wrong_request_for_all_jobs_is_refused_before_they_are_searched(
    client: FlaskClient,
) -> None:
    is_problem(client.get("/bulk?to=cancel&status=failed&all=1"), 400, "status must be one of")
    is_problem(client.get("/bulk?to=cancel&all=x"), 400, "all must be 0 or 1")


def test_a_request_for_all_jobs_takes_a_followers_place(
    job_maker: JobMaker, folder: object
) -> None:
    client = api.create_app({"STORAGE": folder, "FOLLOWERS": 1}).test_client()
    job = job_maker.queued()
    with client.get(f"/jobs/{job.id}?wait=1") as waiting:
        is_problem(client.get("/bulk?to=cancel&all=1"), 503, "too many clients")
        assert waiting.get_json()["id"] == job.id
    for _ in range(2):  # the place is free again
        with client.get("/bulk?to=cancel&all=1") as answer:
            assert answer.get_json()["ids"] == [job.id]


# --- Whole searches -------------------------------------------------------------------------------


def test_a_search_can_do_without_the_numbers_of_lines(
    client: FlaskClient, job_maker: JobMaker
) -> None:
    job_maker.ended(b"needle\n" * 1_200)
    lines = {numbers: search(client, numbers)["line"] for numbers in ("0", "1")}
    assert lines == {"0": None, "1": 1_200}
    query = "q=needle&limit=1000&per_job=1000000000&numbers=0"
    first = client.get(f"/logs?{query}").get_json()
    assert (len(first["hits"]), first["more_in"], first["unreadable"]) == (1_000, [], [])
    rest = client.get(f"/logs?{query}&before={first['next']}").get_json()
    assert (len(rest["hits"]), rest["next"]) == (200, None)


def search(client: FlaskClient, numbers: str) -> dict[str, Any]:
    """The newest line that contains the needle."""
    found = client.get(f"/logs?q=needle&limit=1&numbers={numbers}").get_json()
    hit: dict[str, Any] = found["hits"][0]
    return hit


# --- Saved commands -------------------------------------------------------------------------------


def test_saved_commands_are_listed_with_their_env_on_request(client: FlaskClient) -> None:
    assert client.put("/saved/one", json={"command": "a", "env": {"A": "b"}}).status_code == 201
    [listed] = client.get("/saved").get_json()["saved"]
    [whole] = client.get("/saved?env=1").get_json()["saved"]
    assert whole == listed | {"env": {"A": "b"}} == client.get("/saved/one").get_json()


def test_a_command_can_be_checked_without_being_saved(client: FlaskClient) -> None:
    body = {"command": "make", "cron": "@daily", "timeout": 60, "params": [{"name": "A"}]}
    refused = client.put("/saved/one?check=1", json=body)
    is_problem(refused, 400, "A needs a default before this can run on a schedule")
    del body["params"]
    checked = client.put("/saved/one?check=1", json=body)
    assert checked.status_code == 200 and checked.get_json()["next_run"]
    is_problem(client.get("/saved/one"), 404)
    saved = client.put("/saved/one", json=body)
    unknown_before = {"saved_at": None}
    assert checked.get_json() == saved.get_json() | unknown_before
    assert checked.headers["ETag"] == saved.headers["ETag"]
    changed = client.put("/saved/one?check=1", json=body | {"command": "make all"})
    assert changed.headers["ETag"] != saved.headers["ETag"]
    assert client.get("/saved/one").get_json() == saved.get_json()


def test_a_check_finds_what_would_refuse_the_command(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.put("/saved/one", json={"command": "a"})
    for headers in ({"If-Match": '"x"'}, {"If-None-Match": "*"}):
        for query in ("", "?check=1"):
            answer = client.put(f"/saved/one{query}", json={"command": "b"}, headers=headers)
            is_problem(answer, 412, "'one'")
    large = {"command": "é" * 30_000, "env": {"A": "x" * 29_000, "B": "y" * 29_000}, "cwd": "/a"}
    large["queue"], large["name"] = "a", "é" * 200
    large["params"] = [{"name": "P", "default": "z" * 29_000}]  # type: ignore[assignment]
    for query in ("", "?check=1"):
        is_problem(client.put(f"/saved/two{query}", json=large), 400, "must have at most 131,072")
        is_problem(client.put(f"/saved/No{query}", json={"command": "a"}), 400, "the name of")
        is_problem(client.put(f"/saved/two{query}", json=[]), 400, "must be a JSON object")
    is_problem(client.put("/saved/two?check=x", json={"command": "a"}), 400, "check must be 0 or 1")
    monkeypatch.setattr(saved_command, "MAX_SAVED", 1)
    for query in ("", "?check=1"):
        answer = client.put(f"/saved/two{query}", json={"command": "a"})
        is_problem(answer, 409, "there are already 1 saved commands: delete one first")


# --- Who asks whom --------------------------------------------------------------------------------


def test_the_version_is_reported_by_every_description(site: Site, locked: Site) -> None:
    for path in ("/", "/me", "/healthz"):
        assert site.get(path).json()["version"] == __version__, path
    assert site.get("/openapi.json").json()["info"]["version"] == __version__
    assert requests.get(f"{locked.url}/healthz", timeout=30).json()["version"] == __version__


def test_the_kind_of_the_token_is_reported(site: Site, locked: Site, client: FlaskClient) -> None:
    assert site.get("/me").json()["token"] == "none"
    assert locked.get("/me").json()["token"] == "shared"
    key = locked.post("/sessions").json()["key"]
    with_key = locked.get("/me", headers={"Authorization": f"Bearer {key}"}).json()
    assert with_key["token"] == "shared" and with_key["session"]
    command = client.get("/me", environ_overrides={COMMAND_USER: "anna"}).get_json()
    assert (command["token"], command["name"]) == ("command", "anna")
