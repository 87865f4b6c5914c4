"""`tailboard audit`, and the lines that the commands write."""

from __future__ import annotations

import json
import re
import socket
import sys
from pathlib import Path
from typing import Any

import pytest
from command_site import USER, Tailboard
from conftest import BY_HAND, JobMaker, Processes
from web import UNKNOWN

from tailboard.audit import Action, Actor, new_entry
from tailboard.status import Status
from tailboard.values import new_id

Line = dict[str, Any]


def lines(tailboard: Tailboard, *words: str) -> list[Line]:
    """The lines of the audit log, newest first."""
    done = tailboard("audit", "--json", *words)
    assert done.exit_code == 0, done.output
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_the_log_is_printed_in_columns_newest_first(tailboard: Tailboard) -> None:
    job = tailboard.job_maker.queued().id
    assert tailboard("cancel", job).exit_code == 0
    assert tailboard("limit", "gpu", "2").exit_code == 0
    assert tailboard("limit", "gpu", "--none").exit_code == 0
    shown = tailboard("audit", "--limit", "3").stdout.splitlines()
    parts = [re.split("  +", line) for line in shown]
    assert [line[1:4] for line in parts] == [
        [USER, "limit", "queue gpu, limit removed"],
        [USER, "limit", "queue gpu, limit 2"],
        [USER, "cancel", f"job {job}"],
    ]
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", line[0]) for line in parts)
    assert all(line[4].startswith("from ") for line in parts)
    assert len({line.index(" limit ") for line in shown[:2]}) == 1


def test_lines_are_chosen_by_job_name_and_time(tailboard: Tailboard) -> None:
    done, other = (tailboard.job_maker.ended() for _ in range(2))
    again = tailboard("rerun", done).stdout.strip()
    assert tailboard("delete", done).exit_code == 0
    assert tailboard("delete", other).exit_code == 0
    assert [line["action"] for line in lines(tailboard, "--job", done)] == ["delete", "rerun"]
    assert [line["action"] for line in lines(tailboard, "--job", again[-8:])] == ["rerun"]
    assert lines(tailboard, "--job", done, "--by", "nobody") == []
    assert lines(tailboard, "--job", done, "--by", USER, "--since", "1h") != []
    nothing = tailboard("audit", "--job", UNKNOWN)
    assert (nothing.exit_code, nothing.stdout) == (0, "")
    assert nothing.stderr == "the audit log has no such line\n"
    wrong = tailboard("audit", "--since", "x")
    assert wrong.exit_code == 1 and "since must be like 30s" in wrong.stderr


@pytest.mark.parametrize("action", ["cancel", "rerun", "delete"])
def test_an_action_on_many_jobs_has_one_line(tailboard: Tailboard, action: str) -> None:
    queue = f"audit-{action}"
    for _ in range(3):
        if action == "cancel":
            tailboard.job_maker.queued(queue=queue)
        else:
            tailboard.job_maker.ended(status=Status.FAILED, queue=queue)
    done = tailboard(action, "--queue", queue, "--since", "1h", "--yes")
    assert done.exit_code == 0 and len(done.stdout.splitlines()) == 3
    found = lines(tailboard, "--limit", "2")
    assert (found[0]["action"], found[0]["count"]) == (action, 3)
    assert found[0]["filter"]["queue"] == queue and "since" in found[0]["filter"]
    assert len(found) == 1 or found[1].get("filter", {}).get("queue") != queue
    shown = tailboard("audit", "--limit", "1").stdout
    assert f"  {action}" in shown and f"3 jobs: queue={queue} since=" in shown


def test_a_command_on_the_folder_records_the_user_of_the_system(
    job_maker: JobMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SUDO_USER", "carla")
    tailboard = Tailboard(job_maker, {"TAILBOARD_STORAGE": str(job_maker.folder)})
    assert tailboard("submit", "--queue", BY_HAND, "true").exit_code == 0
    [line] = lines(tailboard)
    assert (line["by"], line["via"], line["from"]) == ("carla", "command", socket.gethostname())


def test_an_empty_log_says_so(job_maker: JobMaker) -> None:
    tailboard = Tailboard(job_maker, {"TAILBOARD_STORAGE": str(job_maker.folder)})
    empty = tailboard("audit")
    assert (empty.exit_code, empty.stdout, empty.stderr) == (0, "", "the audit log is empty\n")


def test_damaged_lines_are_reported(job_maker: JobMaker) -> None:
    tailboard = Tailboard(job_maker, {"TAILBOARD_STORAGE": str(job_maker.folder)})
    tailboard("submit", "--queue", BY_HAND, "true")
    [path] = (job_maker.folder / "audit").iterdir()
    path.write_bytes(b'{"at": "20' + path.read_bytes() + b"\xff\n")
    found = tailboard("audit")
    assert "submit" in found.stdout and found.stderr == "2 damaged lines skipped\n"


def test_control_characters_are_not_printed(job_maker: JobMaker) -> None:
    tailboard = Tailboard(job_maker, {"TAILBOARD_STORAGE": str(job_maker.folder)})
    actor = Actor("an\x1b]52na", "named", None)
    job_maker.storage.audit.append(new_entry(Action.CANCEL, actor, {"job": new_id()}))
    assert "\x1b" not in tailboard("audit").stdout


# --- Tokens ---------------------------------------------------------------------------------------


def test_changes_of_tokens_have_lines(job_maker: JobMaker, tmp_path: Path) -> None:
    env = {"TAILBOARD_STORAGE": str(job_maker.folder), "TAILBOARD_TOKENS": str(tmp_path / "tokens"),
           "SUDO_USER": "carla"}  # fmt: skip
    tailboard = Tailboard(job_maker, env)
    made = tailboard("token", "anna")
    assert made.exit_code == 0 and "audit" not in made.stderr
    assert tailboard("token", "anna").exit_code == 1  # it exists
    for options in (["--role", "read"], ["--replace"], ["--revoke"]):
        assert tailboard("token", "anna", *options).exit_code == 0
    found = [
        (line["action"], line["token"], line.get("role"), line["by"], line["via"])
        for line in lines(tailboard)[::-1]
    ]
    assert found == [
        ("make", "anna", "all", "carla", "command"),
        ("role", "anna", "read", "carla", "command"),
        ("replace", "anna", None, "carla", "command"),
        ("revoke", "anna", None, "carla", "command"),
    ]
    text = "".join(path.read_text() for path in (job_maker.folder / "audit").iterdir())
    assert made.stdout.strip() not in text
    assert "  carla  make     token anna, role all  " in tailboard("audit").stdout


def test_a_token_can_be_made_before_the_jobs_folder(tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    env = {"TAILBOARD_STORAGE": str(missing), "TAILBOARD_TOKENS": str(tmp_path / "tokens")}
    made = Tailboard(JobMaker(tmp_path / "other"), env)("token", "anna")
    assert made.exit_code == 0 and (tmp_path / "tokens").exists()
    assert not missing.exists()
    assert made.stderr.splitlines()[1] == (
        f"this is not in the audit log: the jobs folder {missing} does not exist "
        "(TAILBOARD_STORAGE)"
    )


def test_a_token_is_printed_before_its_line_is_stored(folder: Path, processes: Processes) -> None:
    """If the storage does not respond, Ctrl-C must not lose the token."""
    (folder / "audit").write_text("a file is in the way of the folder")
    env = {"TAILBOARD_TOKENS": str(folder.parent / "tokens")}
    assert processes.start(sys.executable, "-m", "tailboard", "token", "anna", **env).wait(60) == 0
    token, _, *reported = processes.text().splitlines()
    assert len(token) == 43 and "audit: a line is missing" in reported[0]
