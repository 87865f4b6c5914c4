"""Requests that a command sends in its own process: they carry the user's name and need no token,
and no client can forge one over HTTP."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from conftest import TOKEN, JobMaker, Site
from web import JSON, is_problem, raw, status_of

from api import create_app
from tailboard.web.auth import COMMAND_USER

Ask = Callable[..., Any]


@pytest.fixture(params=["", TOKEN], ids=["open", "with a token"])
def ask(request: pytest.FixtureRequest, job_maker: JobMaker) -> Ask:
    """Sends a request as a command of anna does, to an API without a token and one with a token."""
    settings = {"STORAGE": job_maker.folder} | ({"TOKEN": request.param} if request.param else {})
    client = create_app(settings).test_client()
    return lambda method, path, user="anna", **options: client.open(
        path, method=method, environ_overrides={COMMAND_USER: user}, **options
    )


def test_a_command_needs_no_token_and_acts_in_its_users_name(ask: Ask, job_maker: JobMaker) -> None:
    made = ask("POST", "/jobs", json={"command": "true"})
    assert (made.status_code, made.get_json()["submitted_by"]) == (201, "anna")
    job_id = made.get_json()["id"]
    assert ask("POST", f"/jobs/{job_id}/cancel").get_json()["reason"] == "cancelled by anna"
    assert ask("POST", f"/jobs/{job_id}/rerun", user="bert").get_json()["submitted_by"] == "bert"
    paused = ask("PUT", "/queues/nightly/pause", json={"why": "a test"})
    assert paused.get_json()["by"] == "anna"
    assert ask("PUT", "/saved/hello", json={"command": "true"}).status_code == 201
    assert ask("POST", "/saved/hello/run").get_json()["submitted_by"] == "anna"


def test_a_command_cannot_act_in_another_name(ask: Ask) -> None:
    answer = ask("POST", "/jobs", json={"command": "true", "submitted_by": "bert"})
    is_problem(answer, 400, "submitted_by must be 'anna'")


@pytest.mark.parametrize("user", ["", None, b"anna", True])
def test_only_a_name_replaces_the_token(job_maker: JobMaker, user: object) -> None:
    client = create_app({"STORAGE": job_maker.folder, "TOKEN": TOKEN}).test_client()
    is_problem(client.get("/jobs", environ_overrides={COMMAND_USER: user}), 401)


FORGERIES = [
    COMMAND_USER,
    COMMAND_USER.upper(),
    "Tailboard-User",
    "Tailboard_User",
    "Http-Tailboard.User",
    f"HTTP_{COMMAND_USER}",
    "X-Tailboard-User",
]


@pytest.mark.parametrize("name", FORGERIES)
def test_no_header_makes_a_request_one_of_a_command(locked: Site, site: Site, name: str) -> None:
    headers = [("Host", "localhost"), (name, "anna"), *JSON.items()]
    body = b'{"command": "true", "queue": "by-hand", "name": "forged"}'
    assert status_of(raw(locked, "POST", "/jobs", headers, body)) in (400, 401)
    answer = raw(site, "POST", "/jobs", headers, body)
    assert status_of(answer) == 400 or b'"submitted_by":null' in answer


def test_no_parameter_or_path_makes_a_request_one_of_a_command(locked: Site) -> None:
    for path in (f"/jobs?{COMMAND_USER}=anna", f"/jobs;{COMMAND_USER}=anna", "/anna@/jobs"):
        assert status_of(raw(locked, "GET", path, [("Host", "localhost")])) == 401, path
