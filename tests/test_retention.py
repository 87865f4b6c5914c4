"""Which ended jobs are kept: rules of commands, GET /prune, `tailboard prune`, the field
`retention`."""

from __future__ import annotations

import fcntl
import json
import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from conftest import wait_until
from flask import Flask
from past_jobs import DAY, left_in, prune, put_ended, trust_clock

from api import create_app
from tailboard.cli.main import tailboard
from tailboard.folder.folder_store import FolderStore
from tailboard.job import Job
from tailboard.saved_command import SavedCommand
from tailboard.status import Status
from tailboard.values import BLOCK


@pytest.fixture
def storage(storage: FolderStore) -> FolderStore:
    """A folder whose retention trusts the clock."""
    trust_clock(storage)
    return storage


@pytest.fixture
def app(storage: FolderStore) -> Flask:
    return create_app({"STORAGE": storage.root})


def days_ago(days: float) -> float:
    return time.time() - days * DAY


def save(storage: FolderStore, name: str = "backup", **fields: Any) -> None:
    storage.saved.save(SavedCommand(saved=name, command="true", **fields))


def runs(storage: FolderStore, count: int, **fields: Any) -> list[str]:
    """Runs of `backup` on as many days, the newest of yesterday; the newest comes first."""
    return [
        put_ended(storage, days_ago(day), **{"saved": "backup"} | fields)
        for day in range(1, count + 1)
    ]


# --- Rules of commands ----------------------------------------------------------------------------


def test_as_many_runs_are_kept_as_the_command_says_now(storage: FolderStore) -> None:
    save(storage, keep_runs=3)
    ids = runs(storage, 5, keep_runs=1)  # which the command said when they were submitted
    other = put_ended(storage, days_ago(900), name="deploy", keep_runs=3)
    prune(storage, days=30)
    assert left_in(storage) == {*ids[:3], other}, "keep_runs alone: its age does not matter"
    save(storage, keep_runs=2)
    prune(storage)
    assert left_in(storage) == {*ids[:2], other}
    storage.saved.delete("backup")
    prune(storage)
    assert left_in(storage) == {ids[0], other}


def test_the_last_success_and_the_last_failure_of_a_command_are_kept(storage: FolderStore) -> None:
    save(storage, keep_runs=1, keep_days=1)
    newest, success, failure, *_ = [
        put_ended(storage, days_ago(day), status, saved="backup")
        for day, status in enumerate(
            [Status.CANCELLED, Status.SUCCEEDED, Status.LOST, Status.SUCCEEDED, Status.FAILED], 50
        )
    ]
    prune(storage, days=1, max_bytes=1)
    assert left_in(storage) == {success, failure}
    storage.delete(success)
    prune(storage, days=1)
    assert left_in(storage) == {failure}
    assert newest not in left_in(storage)


def test_a_damaged_command_still_keeps_its_last_success(storage: FolderStore, app: Flask) -> None:
    save(storage)
    (job_id,) = runs(storage, 1)
    Path(storage.root, "saved", "backup.json").write_text("{")
    trust_clock(storage)
    prune(storage, days=1)
    assert left_in(storage) == {job_id}
    assert retention(app, job_id)["reason"] == "the last success of backup is kept"


def test_files_count_as_bytes_and_jobs_with_rules_are_deleted_last(storage: FolderStore) -> None:
    size = 65_536
    ruled = put_ended(storage, days_ago(9), keep_days=90, files_bytes=size)
    plain = [put_ended(storage, days_ago(day), files_bytes=size) for day in (2, 3, 4)]
    prune(storage, max_bytes=2 * size)
    assert left_in(storage) == {ruled, plain[0]}
    prune(storage, max_bytes=size)
    assert left_in(storage) == {ruled}


def test_files_that_were_not_counted_are_measured_within_the_job(
    storage: FolderStore, tmp_path: Path
) -> None:
    size = 65_536
    linking, linked = (put_ended(storage, days_ago(day)) for day in (2, 3))
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").write_bytes(b"x" * size * 10)
    day = Path(storage.root, "succeeded")
    (day / linking[:8] / linking / "files").symlink_to(tmp_path / "other")
    files = day / linked[:8] / linked / "files"
    files.mkdir()
    (files / "a").write_bytes(b"x" * size)
    os.link(files / "a", files / "b")
    prune(storage, max_bytes=size)
    assert left_in(storage) == {linking, linked}
    prune(storage, max_bytes=size - 1)
    assert left_in(storage) == {linking}


def test_a_job_without_journal_and_record_is_as_old_as_its_folder(storage: FolderStore) -> None:
    job_id = put_ended(storage, days_ago(0), log_bytes=10)
    folder = Path(storage.locate(job_id)[1])
    (folder / "journal").unlink()
    (folder / "job.json").unlink()
    prune(storage, days=1)
    assert left_in(storage) == {job_id}
    os.utime(folder, (days_ago(2), days_ago(2)))
    trust_clock(storage)
    for _ in FolderStore(storage.root).prune(1, 0):
        pass
    assert left_in(storage) == set()


def test_a_rule_that_changes_during_a_pass_applies_at_once(storage: FolderStore) -> None:
    save(storage, keep_runs=1)
    ids = runs(storage, 4)
    steps = storage.prune(0, 0)
    while len(left_in(storage)) == len(ids):
        next(steps)
    save(storage, keep_runs=10)
    for _ in steps:
        pass
    assert len(left_in(storage)) == 3


def test_a_success_becomes_the_last_one_during_a_pass(storage: FolderStore) -> None:
    save(storage, keep_days=5)
    newest, *older = runs(storage, 8)
    steps = storage.prune(0, 0)
    while older[-1] in left_in(storage):
        next(steps)
    storage.delete(newest)
    for _ in steps:
        pass
    assert left_in(storage) == set(older[:-1])


def test_records_are_read_once_per_process(storage: FolderStore) -> None:
    save(storage, keep_runs=2)
    ids = runs(storage, 2)
    prune(storage)
    for job_id in ids:
        Path(storage.root, "succeeded", job_id[:8], job_id, "job.json").write_text("{}")
    newest = put_ended(storage, days_ago(1), saved="backup", job_id=f"{ids[0][:-4]}zzzz")
    prune(storage)
    assert left_in(storage) == {newest, ids[0]}


# --- Jobs that wait for others --------------------------------------------------------------------


def test_a_job_is_kept_until_the_one_that_waits_for_it_has_ended(storage: FolderStore) -> None:
    parent = put_ended(storage, days_ago(9))
    waiting = storage.submit(Job(command="true", after=[parent], retries=1))
    prune(storage, days=1)
    assert left_in(storage) == {parent}
    claim = storage.claim("w", "h")
    assert claim is not None
    with claim:
        prune(storage, days=1)
        assert left_in(storage) == {parent}, "a retry looks at it again"
        storage.cancel(waiting.id, "why")
    storage.delete(parent)  # a user can delete it at any time
    assert not left_in(storage)


def test_a_job_that_is_submitted_during_a_pass_keeps_its_parent(storage: FolderStore) -> None:
    parents = [put_ended(storage, days_ago(day)) for day in (7, 8, 9)]
    steps = storage.prune(1, 0)
    while len(left_in(storage)) == 3:
        next(steps)
    storage.submit(Job(command="true", after=[parents[0]]))
    for _ in steps:
        pass
    assert left_in(storage) == {parents[0]}


def test_a_parent_is_locked_while_a_job_is_submitted(storage: FolderStore) -> None:
    parent = put_ended(storage, days_ago(9))
    with storage._pruning.awaited.keep_parents(Job(command="true", after=[parent])):
        prune(storage, days=1)
        assert left_in(storage) == {parent}
    prune(storage, days=1)
    assert not left_in(storage)


def test_a_job_that_is_awaited_by_the_time_it_is_locked_is_kept(storage: FolderStore) -> None:
    parent = put_ended(storage, days_ago(9))
    folder = f"{storage.root}/succeeded/{parent[:8]}/{parent}"
    assert list(storage._remover.delete(Status.SUCCEEDED, folder, lambda: True)) == []
    assert left_in(storage) == {parent}


def test_a_job_is_refused_whose_parent_is_just_being_deleted(storage: FolderStore) -> None:
    parent = put_ended(storage, days_ago(9))
    folder = Path(storage.root, "succeeded", parent[:8], parent)
    errors: list[Exception] = []

    def submit() -> None:
        try:
            storage.submit(Job(command="true", after=[parent]))
        except ValueError as error:
            errors.append(error)

    with open(folder / "journal") as journal:
        fcntl.flock(journal, fcntl.LOCK_EX)
        thread = threading.Thread(target=submit)
        thread.start()
        folder.rename(Path(storage.root, "tmp", f"{parent}.deleted"))
    thread.join(20)
    wait_until(lambda: errors)
    assert str(errors[0]) == f"after: there is no job {parent!r}"
    assert not storage.unfinished_ids()


# --- GET /prune and `tailboard prune` -------------------------------------------------------------


@pytest.fixture
def overdue(storage: FolderStore) -> list[str]:
    """Jobs that are too old or too many, the oldest first."""
    save(storage, keep_runs=1)
    put_ended(storage, days_ago(1), saved="backup")
    many = put_ended(storage, days_ago(2), saved="backup", log_bytes=5_000)
    old = put_ended(storage, days_ago(41), Status.FAILED, name="make\x1b[2J", files_bytes=5_000)
    return [old, many]


def test_the_api_lists_what_would_be_deleted_and_why(app: Flask, overdue: list[str]) -> None:
    found = app.test_client().get("/prune").get_json()
    old, many = found["jobs"]
    assert [old["id"], many["id"]] == overdue and found["complete"] is True
    assert old["reason"].startswith("it ended before 20") and old["title"] == "make\x1b[2J"
    assert many["reason"] == "1 newer run of backup is kept"
    assert (many["title"], many["status"], many["bytes"]) == ("backup", "succeeded", 8_192)
    assert found["bytes"] == old["bytes"] + 8_192 and old["finished_at"].endswith("Z")


def test_the_list_of_the_api_has_no_deleted_job_and_a_limited_length(
    storage: FolderStore, app: Flask, overdue: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    client = app.test_client()
    monkeypatch.setattr("tailboard.web.prune.MOST_LISTED", 1)
    found = client.get("/prune").get_json()
    (job,) = found["jobs"]
    assert (job["id"], found["bytes"], found["complete"]) == (overdue[0], job["bytes"], False)
    storage.delete(overdue[0])
    found = client.get("/prune").get_json()
    assert ([job["id"] for job in found["jobs"]], found["complete"]) == (overdue[1:], True)


def test_the_api_lists_what_exceeds_its_own_limit_of_bytes(storage: FolderStore) -> None:
    app = create_app({"STORAGE": storage.root, "KEEP_BYTES": 65_536})
    job_id = put_ended(storage, days_ago(1), log_bytes=100_000, files_bytes=100_000)
    (job,) = app.test_client().get("/prune").get_json()["jobs"]
    assert (job["id"], job["reason"]) == (job_id, "the logs and files are above 65,536 bytes")


def test_a_log_that_is_trimmed_first_makes_room_in_the_list_too(storage: FolderStore) -> None:
    trimmed = put_ended(storage, days_ago(2), log_bytes=10 * BLOCK)
    small = put_ended(storage, days_ago(3), log_bytes=BLOCK)
    large = put_ended(storage, days_ago(4), files_bytes=3 * BLOCK)
    *_, found = storage.prunable(0, 3 * BLOCK)
    assert [each.job.id for each in found] == [large]
    prune(storage, max_bytes=3 * BLOCK)
    assert left_in(storage) == {trimmed, small}


def test_a_list_of_the_api_continues_where_it_stopped(
    app: Flask, overdue: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tailboard.web.prune_search.SEARCH_TIME", 0.0)
    client = app.test_client()
    assert client.get("/prune").get_json()["complete"] is False
    wait_until(lambda: client.get("/prune").get_json()["complete"])
    assert [job["id"] for job in client.get("/prune").get_json()["jobs"]] == overdue


def test_age_deletes_nothing_while_the_clock_is_not_trusted(
    storage: FolderStore, app: Flask, overdue: list[str]
) -> None:
    trust_clock(storage, trusted=False)
    found = app.test_client().get("/prune").get_json()
    assert [job["id"] for job in found["jobs"]] == overdue[1:]


def command(storage: FolderStore, *words: str) -> Result:
    runner = CliRunner(env={"TAILBOARD_STORAGE": storage.root})
    return runner.invoke(tailboard, ["prune", *words], prog_name="tailboard")


def test_a_dry_run_prints_the_jobs_and_deletes_none(
    storage: FolderStore, overdue: list[str]
) -> None:
    result = command(storage, "--dry-run")
    old, many = result.stdout.splitlines()
    assert old.startswith(f"{overdue[0]}  failed     ") and "make\ufffd[2J" in old
    assert many.endswith("1 newer run of backup is kept")
    assert result.stderr == "would delete 2 jobs, 16 KiB\n"
    rows = [
        json.loads(line) for line in command(storage, "--dry-run", "--json").stdout.splitlines()
    ]
    assert [row["id"] for row in rows] == overdue
    assert len(left_in(storage)) == 3


def test_pruning_deletes_the_jobs_at_once_with_one_line_in_the_audit_log(
    storage: FolderStore, app: Flask, overdue: list[str]
) -> None:
    refused = command(storage)
    assert refused.exit_code == 1
    assert refused.stderr.endswith("there is no terminal to ask on; --yes skips the question\n")
    journal = Path(storage.root, "failed", overdue[0][:8], overdue[0], "journal")
    with open(journal) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        result = command(storage, "--yes")
    assert (result.exit_code, result.stdout) == (1, f"{overdue[1]}\n")
    assert "1 job is deleted, 1 not\n" in result.stderr
    assert f"{overdue[0]}: job {overdue[0]} is being recorded; try again\n" in result.stderr
    assert command(storage, "--yes").stdout == f"{overdue[0]}\n"
    assert command(storage, "--yes").output == "Nothing to delete.\n"
    lines = app.test_client().get("/audit").get_json()["entries"]
    deleted = [(line["action"], line["count"], line["filter"]) for line in lines]
    assert deleted == [("delete", n, {"why": "retention"}) for n in (1, 2)]


# --- The field `retention` ------------------------------------------------------------------------


def retention(app: Flask, job_id: str) -> Any:
    return app.test_client().get(f"/jobs/{job_id}").get_json()["retention"]


def test_a_job_shows_when_it_is_deleted_and_why(storage: FolderStore, app: Flask) -> None:
    ended_at = days_ago(10)
    job_id = put_ended(storage, ended_at)
    shown = retention(app, job_id)
    assert shown["reason"] == "30 days after its end (TAILBOARD_KEEP_DAYS)"
    assert shown["delete_at"][:10] == time.strftime("%Y-%m-%d", time.gmtime(ended_at + 30 * DAY))
    runner = CliRunner(env={"TAILBOARD_STORAGE": storage.root})
    printed = runner.invoke(tailboard, ["show", job_id]).stdout
    row = next(line for line in printed.splitlines() if line.startswith("retention "))
    assert row.split(None, 1)[1] == f"{shown['delete_at']}: {shown['reason']}"
    own = put_ended(storage, ended_at, keep_days=1)
    assert retention(app, own)["reason"] == "1 day after its end (its keep_days)"
    queued = storage.submit(Job(command="true", after=[job_id]))
    assert retention(app, queued.id) is None
    assert retention(app, job_id) == {
        "delete_at": None,
        "reason": f"job {queued.id} waits for it",
    }


def test_a_run_shows_what_its_command_keeps(storage: FolderStore, app: Flask) -> None:
    save(storage, keep_runs=4)
    newest, second, *_, oldest = runs(storage, 6)
    kept = {"delete_at": None, "reason": "the last success of backup is kept"}
    assert retention(app, newest) == kept
    assert retention(app, second) == {
        "delete_at": None,
        "reason": "when 3 more runs of backup have ended",
    }
    assert retention(app, oldest)["reason"] == "now: 4 newer runs of backup are kept"
    save(storage, keep_runs=4, keep_days=7)
    shown = retention(app, second)
    assert shown["reason"] == (
        "7 days after its end (keep_days of backup) or when 3 more runs of backup have ended"
    )
    assert shown["delete_at"]
    old = put_ended(storage, days_ago(40), saved="backup")  # of which less is known
    save(storage, keep_runs=9)
    assert retention(app, old)["reason"] == "when it has 9 newer runs of backup"
    storage.delete(newest)
    put_ended(storage, days_ago(0.5), Status.FAILED, saved="backup")
    assert retention(app, second) == kept


def test_a_job_without_limits_says_so(storage: FolderStore) -> None:
    job_id = put_ended(storage, days_ago(400))
    for settings, reason in (
        ({"KEEP_DAYS": 0}, "no limit applies to it"),
        (
            {"KEEP_DAYS": 0, "KEEP_BYTES": 70_000},
            "when the logs and files of all jobs exceed 70,000 bytes",
        ),
    ):
        app = create_app({"STORAGE": storage.root} | settings)
        assert retention(app, job_id) == {"delete_at": None, "reason": reason}


def test_the_limits_of_the_worker_apply_whatever_the_api_has(
    storage: FolderStore, app: Flask
) -> None:
    """Otherwise `tailboard prune` would delete jobs that the worker keeps."""
    job_id = put_ended(storage, days_ago(40))
    client = app.test_client()
    assert [job["id"] for job in client.get("/prune").json["jobs"]] == [job_id]
    prune(storage, days=400)
    assert client.get("/prune").json["jobs"] == []
    retention = client.get(f"/jobs/{job_id}").json["retention"]
    assert retention["reason"] == "400 days after its end (TAILBOARD_KEEP_DAYS)"
    prune(storage)
    assert client.get(f"/jobs/{job_id}").json["retention"]["reason"] == "no limit applies to it"
