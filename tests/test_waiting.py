"""Waiting for the end of a job (GET /jobs/ID?wait=60), and what the server does if a client that
waits or follows a log disconnects."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests
from conftest import BY_HAND, BY_WORKER, ROOT, JobMaker, RedisServer, Site, serve_site, wait_until
from flask.testing import FlaskClient
from web import UNKNOWN, Stream, admitted, is_problem

from api import create_app
from tailboard.cli.in_process import LOCAL_URL, InProcessAdapter
from tailboard.status import Status

PLACES = 2  # for followers and waiting clients


@pytest.fixture(scope="module", params=["folder", "redis"])
def quiet(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    """An API that sends nothing to a waiting client for ten minutes, on each kind of storage."""
    settings = {"TAILBOARD_FOLLOWERS": str(PLACES)}
    if request.param == "redis":
        server: RedisServer = request.getfixturevalue("shared_redis")
        server.do("FLUSHALL")
        settings["TAILBOARD_STORAGE"] = server.url
    times = "tailboard.web.log_follow.KEEPALIVE_INTERVAL=600"
    with serve_site(tmp_path_factory.mktemp("quiet"), times, **settings) as site:
        yield site


@pytest.fixture
def queued(quiet: Site) -> Iterator[str]:
    """The ID of a queued job, which the test may cancel."""
    job_id: str = quiet.post("/jobs", {"command": "true", "queue": BY_HAND}).json()["id"]
    yield job_id
    quiet.post(f"/jobs/{job_id}/cancel")


def last_json(stream: Stream) -> dict[str, Any]:
    """The JSON at the end of a response that has ended."""
    found: dict[str, Any] = json.loads(stream.rest())
    return found


def test_the_response_comes_as_soon_as_the_job_has_ended(quiet: Site, queued: str) -> None:
    waiting = [admitted(quiet, f"/jobs/{queued}?wait=300") for _ in range(PLACES)]
    assert [stream.data.strip() for stream in waiting] == [b"", b""]
    assert quiet.post(f"/jobs/{queued}/cancel").status_code == 202
    for stream in waiting:
        assert last_json(stream) == quiet.get(f"/jobs/{queued}").json()
        assert stream.answer.headers["Content-Type"] == "application/json"


def test_the_response_has_the_exit_code_of_a_job_that_writes_all_the_time(site: Site) -> None:
    held = site.job_maker.running()
    stream = Stream(site, f"/jobs/{held.job.id}?wait=300")
    for _ in range(200):
        site.job_maker.write(held, b"line\n")
    site.job_maker.finish(held, Status.FAILED, 3)
    job = last_json(stream)
    assert (job["status"], job["exit_code"], job["attempts"][0]["exit_code"]) == ("failed", 3, 3)


def test_a_waiting_client_gets_white_space_meanwhile(site: Site) -> None:
    held = site.job_maker.running()
    stream = Stream(site, f"/jobs/{held.job.id}?wait=300")
    stream.has(b"\n")
    assert stream.data.strip() == b""
    site.job_maker.finish(held)
    assert last_json(stream)["status"] == "succeeded"


def test_after_the_time_the_job_is_returned_as_it_is(
    client: FlaskClient, job_maker: JobMaker
) -> None:
    """Also without our server, which reports that a client has disconnected."""
    for held in (None, job_maker.running()):
        job = job_maker.queued() if held is None else held.job
        answer = client.get(f"/jobs/{job.id}?wait=1")
        assert (answer.status_code, answer.get_json()["status"]) == (200, job.status)


def test_a_command_in_this_process_gives_its_place_back(job_maker: JobMaker) -> None:
    app = create_app({"STORAGE": job_maker.folder, "FOLLOWERS": 1})
    job = job_maker.queued()
    with requests.Session() as session:
        session.mount(LOCAL_URL, InProcessAdapter(app, "anna"))
        for _ in range(2):
            answer = session.get(f"{LOCAL_URL}/bulk?to=cancel&all=1")
            assert answer.json()["ids"] == [job.id]


def test_all_other_requests_are_served_while_no_place_is_free(quiet: Site, queued: str) -> None:
    paths = f"/jobs/{queued}?wait=300", f"/jobs/{queued}/logs?follow=1"
    waiting = [admitted(quiet, path) for path in paths]
    for path in paths:
        answer = quiet.get(path)
        is_problem(answer, 503, "too many clients are following logs or waiting for jobs")
        assert int(answer.headers["Retry-After"]) > 0
    assert quiet.get(f"/jobs/{queued}").json() == quiet.get(f"/jobs/{queued}?wait=0").json()
    quiet.post(f"/jobs/{queued}/cancel")
    for stream in waiting:
        stream.rest()


def test_an_ended_job_is_returned_at_once_and_takes_no_place(quiet: Site, queued: str) -> None:
    ended = quiet.post("/jobs", {"command": "true", "queue": BY_HAND}).json()["id"]
    quiet.post(f"/jobs/{ended}/cancel")
    waiting = [admitted(quiet, f"/jobs/{queued}?wait=300") for _ in range(PLACES)]
    assert quiet.get(f"/jobs/{ended}?wait=300").json()["status"] == "cancelled"
    for stream in waiting:
        stream.close()


@pytest.mark.parametrize("path", ["/jobs/{}?wait=300", "/jobs/{}/logs?follow=1"])
def test_the_place_of_a_client_that_disconnects_is_free_at_once(
    quiet: Site, queued: str, path: str
) -> None:
    """Not only at the next keepalive, which is minutes away on this site."""
    path = path.format(queued)
    streams = [admitted(quiet, path) for _ in range(PLACES)]
    for _ in range(3):
        streams.pop(0).close()
        streams.append(admitted(quiet, path))
    for stream in streams:
        stream.close()


def test_clients_that_disconnect_leave_no_descriptor_open(quiet: Site, queued: str) -> None:
    [server] = psutil.Process(quiet.processes.started[0].pid).children()
    paths = f"/jobs/{queued}?wait=300", f"/jobs/{queued}/logs?follow=1"

    def disconnect_all() -> None:
        for stream in [admitted(quiet, path) for path in paths]:
            stream.close()

    disconnect_all()  # the first request opens what stays open
    before = server.num_fds()
    for _ in range(5):
        disconnect_all()
    wait_until(lambda: server.num_fds() <= before, describe=lambda: server.open_files())


def test_head_takes_no_place(quiet: Site, queued: str) -> None:
    for _ in range(PLACES + 1):
        assert quiet.ask("HEAD", f"/jobs/{queued}?wait=300").status_code == 200


def test_a_job_that_is_deleted_meanwhile_is_returned_as_last_seen(site: Site) -> None:
    job = site.job_maker.queued()
    stream = Stream(site, f"/jobs/{job.id}?wait=300")
    shutil.rmtree(site.folder / "queued" / BY_HAND / job.id)
    shown = last_json(stream)
    assert (shown["id"], shown["status"]) == (job.id, "queued")
    is_problem(site.get(f"/jobs/{job.id}?wait=300"), 404, job.id)


def test_the_ci_step_of_the_docs_exits_with_the_code_of_its_job(
    served: Site, tmp_path: Path
) -> None:
    if not shutil.which("jq") or not shutil.which("curl"):
        pytest.skip("jq or curl is not installed")
    docs = (ROOT / "docs" / "http-api.md").read_text()
    [step] = re.findall(r"```sh\n(job=.*?)```", docs, re.DOTALL)
    body = {"command": "echo tested; exit 3", "queue": BY_WORKER}
    (tmp_path / "ci.sh").write_text(step.replace('{"command": "make test"}', json.dumps(body)))
    env = os.environ | {"URL": served.url, "AUTH": "Accept: */*"}
    ran = subprocess.run(
        ["bash", "-e", tmp_path / "ci.sh"], env=env, capture_output=True, text=True, timeout=60
    )
    assert (ran.returncode, ran.stdout) == (3, "tested\n"), ran.stderr


@pytest.mark.parametrize("value", ["", "-1", "301", "1.5", "60s", "+5", "1e2", "9" * 30])
def test_a_wrong_time_is_refused_in_one_sentence(site: Site, value: str) -> None:
    answer = site.get(f"/jobs/{UNKNOWN}", params={"wait": value})
    details = is_problem(answer, 400)
    assert details["detail"] == "wait must be a whole number from 0 to 300"


def test_an_unknown_job_or_parameter_is_refused(site: Site) -> None:
    is_problem(site.get(f"/jobs/{UNKNOWN}?wait=60"), 404, UNKNOWN)
    is_problem(site.get(f"/jobs/{UNKNOWN}?follow=1"), 400, "unknown field 'follow'", "wait")
