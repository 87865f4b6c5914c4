"""Rerunning, cancelling or deleting many jobs: which ones, in which order, with which messages."""

from __future__ import annotations

import fcntl
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from command_site import HEEDS_CTRL_C, USER, Tailboard
from conftest import BY_HAND, ROOT, JobMaker, Site
from proxy import Proxy
from web import is_problem, token_line

import api
from api import create_app
from tailboard.job import Job
from tailboard.status import Status
from tailboard.web import bulk


def failed(job_maker: JobMaker, count: int, **fields: Any) -> list[str]:
    return [job_maker.ended(status=Status.FAILED, **fields) for _ in range(count)]


def reruns(job_maker: JobMaker) -> list[str | None]:
    """The job that each job is a rerun of, for the oldest job first."""
    return [job.rerun_of for job in job_maker.storage.list(limit=500)[0][::-1]]


# --- Which jobs -----------------------------------------------------------------------------------


def chosen(site: Site, queue: str, **query: str) -> tuple[list[str], int, bool]:
    answer = site.get("/bulk", params={"queue": queue} | query)
    assert answer.status_code == 200, answer.text
    found = answer.json()
    return found["ids"], found["left_out"], found["complete"]


def test_jobs_that_were_already_rerun_are_left_out(site: Site) -> None:
    first, second, third = failed(
        site.job_maker, 3, queue="bulk-rerun", name="deploy", submitted_by="anna"
    )
    site.job_maker.ended(queue="bulk-rerun")
    query = {"to": "rerun", "status": "failed"}
    assert chosen(site, "bulk-rerun", **query) == ([first, second, third], 0, True)
    again = site.post(f"/jobs/{second}/rerun").json()["id"]
    assert chosen(site, "bulk-rerun", **query) == ([first, third], 1, True)
    site.job_maker.finish(site.job_maker.start(site.job_maker.storage.get(again)), Status.FAILED)
    assert chosen(site, "bulk-rerun", **query) == ([first, third, again], 1, True)
    assert chosen(site, "bulk-rerun", q="nothing", **query) == ([], 0, True)
    assert chosen(site, "bulk-rerun", since="0s", **query) == ([], 0, True)
    assert chosen(site, "bulk-rerun", by="anna", **query) == ([first, third, again], 1, True)
    assert chosen(site, "bulk-rerun", by="ben", **query) == ([], 0, True)


def test_queued_jobs_are_cancelled_before_running_ones(site: Site) -> None:
    def make() -> str:
        return site.job_maker.queued(queue="bulk-cancel").id

    old = make()
    held = site.job_maker.start(site.job_maker.queued(queue="bulk-cancel"))
    new = make()
    failed(site.job_maker, 1, queue="bulk-cancel")
    assert chosen(site, "bulk-cancel", to="cancel") == ([new, old, held.job.id], 0, True)
    query = {"to": "cancel", "status": "running"}
    assert chosen(site, "bulk-cancel", **query) == ([held.job.id], 0, True)
    site.job_maker.finish(held)


def test_only_jobs_that_have_ended_are_deleted(site: Site) -> None:
    ended = [
        *failed(site.job_maker, 1, queue="bulk-delete"),
        site.job_maker.ended(queue="bulk-delete"),
    ]
    site.job_maker.queued(queue="bulk-delete")
    assert chosen(site, "bulk-delete", to="delete") == (ended, 0, True)


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ({}, "to must be rerun, cancel or delete"),
        ({"to": "restart"}, "to must be rerun, cancel or delete"),
        ({"to": "cancel", "status": "failed"}, "status must be one of queued, running"),
        ({"to": "delete", "status": "queued"}, "status must be one of succeeded, failed"),
        ({"to": "rerun", "since": "x"}, "since must be like 30s"),
        ({"to": "rerun", "limit": "5"}, "unknown field 'limit'"),
    ],
)
def test_an_impossible_bulk_action_is_refused_in_one_sentence(
    site: Site, query: dict[str, str], sentence: str
) -> None:
    is_problem(site.get("/bulk", params=query), 400, sentence)


def test_a_response_lists_the_newest_jobs_up_to_a_limit(
    job_maker: JobMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api, "BULK_LIMIT", 3)
    monkeypatch.setattr(bulk, "BULK_STEP", 2)
    client = create_app({"STORAGE": job_maker.folder}).test_client()
    jobs = failed(job_maker, 3)
    whole = {"ids": jobs, "left_out": 0, "complete": True}
    assert client.get("/bulk?to=rerun").get_json().items() >= whole.items()
    jobs += failed(job_maker, 2)
    part = {"ids": jobs[2:], "left_out": 0, "complete": False}
    assert client.get("/bulk?to=rerun").get_json().items() >= part.items()


def test_jobs_can_be_listed_since_a_time(site: Site) -> None:
    job_id = site.job_maker.ended(queue="listed-since")
    for since, expected in (("1h", [job_id]), ("0s", []), ("2020-01-01T00:00:00Z", [job_id])):
        listed = site.get("/jobs", params={"queue": "listed-since", "since": since}).json()
        assert [job["id"] for job in listed["jobs"]] == expected
        assert listed["next"] is None
    is_problem(site.get("/jobs?since=yesterday"), 400, "since must be like 30s")


# --- The commands ---------------------------------------------------------------------------------


def test_all_failed_jobs_are_run_again_in_order(tailboard: Tailboard) -> None:
    jobs = failed(tailboard.job_maker, 3)
    tailboard.job_maker.ended()
    done = tailboard("rerun", "--status", "failed", "--since", "1d", "--yes")
    assert done.exit_code == 0
    assert done.stderr.startswith("3 jobs:\n") and "3 jobs are run again\n" in done.stderr
    assert f"  {jobs[0]}  failed     true\n" in done.stderr
    new = [tailboard.storage.get(job_id) for job_id in done.stdout.split()]
    assert [job.rerun_of for job in new] == jobs and new == sorted(new, key=lambda job: job.id)
    assert {job.submitted_by for job in new} == {USER}


def test_a_repeated_rerun_runs_nothing_twice(tailboard: Tailboard) -> None:
    """Not even the reruns or their jobs, if the reruns have also failed."""
    storage, job_maker = tailboard.storage, tailboard.job_maker
    jobs = failed(job_maker, 2)
    assert tailboard("rerun", jobs[0]).exit_code == 0
    first = tailboard("rerun", "--status", "failed", "--yes")
    assert "1 job:" in first.stderr and "skipped: 1 job already rerun" in first.stderr
    again = tailboard("rerun", "--status", "failed", "--yes")
    assert (again.exit_code, again.stdout) == (0, "")
    assert again.stderr == "no jobs\nskipped: 2 jobs already rerun\n"
    for job in storage.list(Status.QUEUED)[0]:
        job_maker.finish(job_maker.start(job), Status.FAILED)
    newest = tailboard("rerun", "--status", "failed", "--yes")
    assert len(newest.stdout.split()) == 2
    assert sorted(filter(None, reruns(job_maker)[-2:])) == sorted(
        job.id for job in storage.list(Status.FAILED)[0][:2]
    )


def test_two_reruns_at_once_run_each_job_once(on_folder: Tailboard) -> None:
    jobs = failed(on_folder.job_maker, 15)
    both = [
        subprocess.Popen(
            [sys.executable, "-m", "tailboard", "rerun", "--status", "failed", "--yes"],
            env={**os.environ, **on_folder.env, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for _ in range(2)
    ]
    assert [each.wait(60) for each in both] == [0, 0]
    assert sorted(filter(None, reruns(on_folder.job_maker))) == jobs


def test_the_page_and_a_command_share_the_key_of_a_rerun(site: Site) -> None:
    [job_id] = failed(site.job_maker, 1)
    headers = {"Idempotency-Key": f"rerun {job_id}"}
    made = {site.post(f"/jobs/{job_id}/rerun", headers=headers).json()["id"] for _ in range(2)}
    store, key = site.job_maker.storage, bulk.bulk_key(job_id)
    made.add(store.submit(Job(command="true", rerun_of=job_id), key).id)
    assert len(made) == 1


def test_a_clients_key_cannot_prevent_a_rerun(tailboard: Tailboard) -> None:
    [job_id] = failed(tailboard.job_maker, 1)
    taken = tailboard("submit", "--idempotency-key", f"rerun {job_id}", "true").stdout
    done = tailboard("rerun", "--status", "failed", "--yes")
    assert done.exit_code == 0 and done.stdout != taken
    assert tailboard.storage.get(done.stdout.strip()).rerun_of == job_id


def test_all_queued_and_running_jobs_are_cancelled(tailboard: Tailboard) -> None:
    storage, job_maker = tailboard.storage, tailboard.job_maker
    kept = job_maker.queued(queue="other").id
    held, waiting = job_maker.running(), job_maker.queued()
    done = tailboard("cancel", "--queue", BY_HAND, "--yes")
    assert (done.exit_code, done.stdout.split()) == (0, [waiting.id, held.job.id])
    assert held.cancel_requested and storage.get(waiting.id).reason == f"cancelled by {USER}"
    assert storage.status(kept) is Status.QUEUED
    job_maker.finish(held)


def test_failures_of_a_bulk_command_are_reported_at_the_end(tailboard: Tailboard) -> None:
    first, second, third = failed(tailboard.job_maker, 3, name="deploy")
    with open(tailboard.job_maker.log(second).parent / "journal") as journal:
        fcntl.flock(journal, fcntl.LOCK_EX)
        done = tailboard("delete", "--q", "DEPLOY", "--yes")
    assert (done.exit_code, done.stdout.split()) == (1, [first, third])
    reported = f"2 jobs are deleted, 1 not\n{second}: job {second} is being recorded; try again\n"
    assert done.stderr.endswith(reported)
    assert [job.id for job in tailboard.storage.list()[0]] == [second]


def test_more_jobs_than_one_response_of_the_page_lists_are_deleted(
    on_folder: Tailboard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api, "BULK_LIMIT", 3)
    monkeypatch.setattr(api, "BULK_TIME", 0.0)
    monkeypatch.setattr(bulk, "BULK_STEP", 2)
    jobs = failed(on_folder.job_maker, 7)
    assert on_folder("delete", "--status", "failed", "--yes").stdout.split() == jobs


@pytest.mark.parametrize(
    ("words", "sentence", "code"),
    [
        ("rerun", "give an ID, or options such as --status failed --since 1d", 2),
        ("delete 2026 --status failed", "not both", 2),
        (
            "delete --status failed",
            "there is no terminal to ask on; --yes skips the question",
            1,
        ),
        ("cancel --status failed --yes", "status must be one of queued, running", 1),
        ("rerun --since x --yes", "since must be like 30s", 1),
    ],
)
def test_a_bulk_command_that_cannot_begin_fails_with_one_sentence(
    tailboard: Tailboard, words: str, sentence: str, code: int
) -> None:
    [job_id] = failed(tailboard.job_maker, 1)
    reported = tailboard(*words.split())
    assert reported.exit_code == code and sentence in reported.stderr
    assert [job.id for job in tailboard.storage.list()[0]] == [job_id]


def test_a_bulk_command_asks_on_a_terminal(on_folder: Tailboard) -> None:
    failed(on_folder.job_maker, 12)

    def answer(text: bytes) -> str:
        terminal, theirs = pty.openpty()
        os.write(terminal, text)
        done = subprocess.run(
            [sys.executable, "-m", "tailboard", "delete", "--status", "failed"],
            env={**os.environ, **on_folder.env, "PYTHONPATH": str(ROOT)},
            stdin=theirs,
            capture_output=True,
            text=True,
            timeout=60,
        )
        os.close(terminal)
        os.close(theirs)
        assert done.returncode == 0, done.stderr
        return done.stderr

    reported = answer(b"n\n")
    assert reported.startswith("12 jobs:\n") and "  and 2 more\nDelete them? [y/N]: " in reported
    assert len(on_folder.storage.list()[0]) == 12
    assert answer(b"y\n").endswith("12 jobs are deleted\n")
    assert on_folder.storage.list()[0] == []


# --- The commands and a server that does not respond ----------------------------------------------


@pytest.fixture
def proxy(command_site: Site) -> Iterator[Proxy]:
    """A connection to the server of `on_server` that a test can disturb."""
    with closing(Proxy(int(command_site.url.rpartition(":")[2]))) as proxy:
        yield proxy


def through(proxy: Proxy) -> dict[str, str]:
    return {"TAILBOARD_API": f"http://127.0.0.1:{proxy.port}"}


def test_a_deletion_whose_response_was_lost_is_done(on_server: Tailboard, proxy: Proxy) -> None:
    jobs = failed(on_server.job_maker, 1)
    proxy.loses = b"DELETE"
    done = on_server("delete", jobs[0], **through(proxy))
    assert (done.exit_code, done.stdout.split(), done.stderr) == (0, jobs, "")
    assert on_server.storage.list()[0] == []


def test_an_action_on_many_jobs_ends_with_the_server(
    on_server: Tailboard, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It reports what it has done."""
    monkeypatch.setattr("tailboard.cli.target.PATIENCE", 1.0)
    first, second, third = failed(on_server.job_maker, 3)
    proxy.holds = f"DELETE /jobs/{second}".encode()
    done = on_server("delete", "--status", "failed", "--yes", **through(proxy))
    assert (done.exit_code, done.stdout.split()) == (1, [first])
    url = through(proxy)["TAILBOARD_API"]
    reported = f"1 job is deleted, 2 not\ninterrupted: the server at {url} does not respond\n"
    assert done.stderr.endswith(reported)
    assert on_server.storage.status(third) is Status.FAILED


def test_a_silent_server_is_reported_before_anything_is_done(
    on_server: Tailboard, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tailboard.cli.target.PATIENCE", 0.5)
    proxy.holds = b"GET"
    for words in ("delete --status failed --yes", "grep x", "saved", "start a"):
        done = on_server(*words.split(), **through(proxy))
        url = through(proxy)["TAILBOARD_API"]
        assert (done.exit_code, done.stdout) == (1, ""), words
        assert done.stderr == f"Error: the server at {url} does not respond\n"


def test_a_refused_token_is_reported_once(on_server: Tailboard) -> None:
    failed(on_server.job_maker, 2)
    for words in ("delete --status failed --yes", "grep x", "saved pause a", "start a"):
        done = on_server(*words.split(), TAILBOARD_TOKEN="wrong")
        url = on_server.env["TAILBOARD_API"]
        assert (done.exit_code, done.stdout) == (1, ""), words
        assert done.stderr == f"Error: the server at {url} refused the token in TAILBOARD_TOKEN\n"


def test_an_interrupted_action_reports_what_it_has_done(on_server: Tailboard, proxy: Proxy) -> None:
    first, second, _ = failed(on_server.job_maker, 3)
    proxy.holds = f"DELETE /jobs/{second}".encode()
    process = subprocess.Popen(
        [sys.executable, "-c", HEEDS_CTRL_C, "delete", "--status", "failed", "--yes"],
        env={**os.environ, **on_server.env, **through(proxy), "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout and process.stdout.readline() == f"{first}\n"
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=30)[1].endswith("1 job is deleted, 2 not\n")
    assert process.returncode == 130


def test_a_role_that_does_not_allow_the_action_is_reported_once(
    on_server: Tailboard, command_site: Site
) -> None:
    tokens = command_site.folder.parent / "tokens"
    before = tokens.read_text()
    jobs = failed(on_server.job_maker, 2)
    tokens.write_text(before + token_line("wall", "the-token-of-the-wall").strip() + " read\n")
    try:
        done = on_server(
            "delete", "--status", "failed", "--yes", TAILBOARD_TOKEN="the-token-of-the-wall"
        )
    finally:
        tokens.write_text(before)
    why = "interrupted: this needs the role all; this token has the role read"
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr.endswith(f"0 jobs are deleted, 2 not\n{why}\n")
    assert len(on_server.storage.list()[0]) == len(jobs)
