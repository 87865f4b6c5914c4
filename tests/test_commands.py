"""The commands that submit, list, show, follow and await jobs, on a folder without a running API.
tests/test_remote.py tests them over HTTP."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result
from conftest import ROOT, Gate, JobMaker, Processes, wait_until

from tailboard.cli.jobs import format_seconds, parse_command
from tailboard.cli.terminal import WrongUsage
from tailboard.folder.folder_store import FolderStore
from tailboard.job import Job
from tailboard.status import Status

Typed = Callable[..., Result]
Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def typed(folder: Path) -> Typed:
    """Runs a command in this process."""
    from api import create_app

    app = create_app({"STORAGE": folder})
    return lambda *words: app.test_cli_runner().invoke(args=words)


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "tailboard", *words]


@pytest.fixture
def run(processes: Processes, tmp_path: Path) -> Run:
    """Runs `tailboard` as a program in another directory than the checkout, on the jobs folder."""
    processes.env |= {"PYTHONPATH": str(ROOT)}
    (tmp_path / "elsewhere").mkdir()

    def run(*words: str, **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command(*words),
            cwd=tmp_path / "elsewhere",
            env={name: value for name, value in (processes.env | env).items() if value},
            capture_output=True,
            text=True,
            timeout=60,
        )

    return run


# --- What belongs to the command ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("ls",), "ls"),
        (("ls", "-la"), "ls -la"),
        (("make test | tee out",), "make test | tee out"),
        (("echo", "a b", "$HOME"), "echo 'a b' '$HOME'"),
        (("grep", "-r", "--", "-x"), "grep -r -- -x"),
    ],
)
def test_everything_after_the_first_word_belongs_to_the_command(
    words: tuple[str, ...], line: str
) -> None:
    assert parse_command(words) == line


def test_options_after_a_shell_line_are_not_taken_for_arguments() -> None:
    with pytest.raises(WrongUsage, match=r"options such as --name come before .*'a b'"):
        parse_command(("a b", "--name", "x"))


def test_submit_takes_its_own_options_before_the_command(
    typed: Typed, storage: FolderStore
) -> None:
    assert typed("submit", "--name", "list", "ls", "-la", "--name").exit_code == 0
    job = storage.list()[0][0]
    assert (job.command, job.name) == ("ls -la --name", "list")


def test_submit_with_a_key_submits_one_job(typed: Typed, storage: FolderStore) -> None:
    ids = [typed("submit", "--idempotency-key", "k", "true").stdout for _ in range(2)]
    assert ids[0] == ids[1] and len(storage.list()[0]) == 1
    done = typed("submit", "--idempotency-key", "k", "false")
    assert done.exit_code == 1 and "Idempotency-Key" in done.output


# --- A missing folder -----------------------------------------------------------------------------


@pytest.mark.parametrize("words", [["jobs"], ["submit", "true"], ["saved"], ["logs", "x"]])
def test_no_command_makes_a_jobs_folder_by_chance(
    run: Run, tmp_path: Path, words: list[str]
) -> None:
    home = tmp_path / "home"
    done = run(*words, TAILBOARD_STORAGE="", HOME=str(home), XDG_CONFIG_HOME=str(home))
    assert done.returncode == 1 and not done.stdout
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"Error: no jobs folder: {tmp_path}/elsewhere/jobs does not exist.")
    assert "tailboard up" in line and "tailboard login" in line
    assert not (tmp_path / "elsewhere" / "jobs").exists()


def test_a_command_that_writes_makes_the_folder_that_a_setting_names(
    run: Run, tmp_path: Path
) -> None:
    named = tmp_path / "named"
    assert run("jobs", TAILBOARD_STORAGE=str(named)).returncode == 1
    assert not named.exists()
    job_id = run("submit", "true", TAILBOARD_STORAGE=str(named)).stdout.strip()
    assert (named / "queued" / "default" / job_id / "job.json").exists()
    assert run("jobs", TAILBOARD_STORAGE=str(named)).stdout.startswith(job_id)


# --- Listing and showing --------------------------------------------------------------------------


def test_jobs_are_filtered(typed: Typed, job_maker: JobMaker) -> None:
    job_maker.ended(name="first", queue="night", submitted_by="anna")
    job_maker.ended(name="second", status=Status.FAILED)

    def names(*words: str) -> list[str]:
        return [line.split()[-1] for line in typed("jobs", *words).stdout.splitlines()]

    assert names() == ["second", "first"]
    assert names("--queue", "night") == names("--by", "anna") == names("--q", "FIRST") == ["first"]
    assert names("--since", "1d", "--status", "failed") == ["second"]
    assert names("--limit", "1") == ["second"]
    assert "since must be like 30s" in typed("jobs", "--since", "soon").stderr


@pytest.mark.parametrize(
    ("seconds", "text"), [(-3, "0s"), (59.9, "59s"), (60, "1m"), (7_300, "2h"), (9e5, "10d")]
)
def test_ages_are_short(seconds: float, text: str) -> None:
    assert format_seconds(seconds) == text


def test_show_prints_the_fields_that_are_set(typed: Typed, job_maker: JobMaker) -> None:
    job_id = job_maker.ended(name="two lines", command="echo 1\necho 行\x1b[2J", env={"A": "1"})
    shown = typed("show", job_id[-8:]).stdout
    assert f"id            {job_id}\n" in shown
    assert "command       echo 1\n              echo 行\ufffd[2J\n" in shown
    assert 'env           {"A": "1"}\n' in shown and "not_before" not in shown
    assert json.loads(typed("show", "--json", job_id).stdout)["id"] == job_id


def test_queues_lists_queues_with_their_pauses(typed: Typed, storage: FolderStore) -> None:
    assert "no queue has" in typed("queues").stderr
    storage.submit(Job(command="true", queue="gpu"))
    typed("pause", "night", "--why", "deploy")
    gpu, night = typed("queues").stdout.splitlines()
    assert gpu == "gpu    1 queued, 0 running"
    assert night.startswith("night  0 queued, 0 running  paused since ") and night.endswith(
        ": deploy"
    )


# --- Following and waiting ------------------------------------------------------------------------


def test_a_command_that_awaits_a_job_exits_with_its_code(
    run: Run, processes: Processes, storage: FolderStore
) -> None:
    processes.worker()
    done = run("submit", "--follow", "echo line; exit 3")
    assert (done.stdout, done.returncode) == ("line\n", 3)
    job_id = done.stderr.strip()
    followed = run("logs", "-f", job_id)
    assert (followed.stdout, followed.returncode) == ("line\n", 3)
    assert run("logs", job_id).returncode == 0
    waited = run("wait", job_id)
    assert (waited.stdout, waited.returncode) == ("", 3)
    waited = run("submit", "--wait", "echo line; exit 4")
    assert (waited.stdout, waited.stderr, waited.returncode) == (f"{newest(storage)}\n", "", 4)


def newest(storage: FolderStore) -> str:
    return storage.list(limit=1)[0][0].id


def test_a_follower_says_that_the_job_timed_out(run: Run, processes: Processes) -> None:
    processes.worker()
    done = run("submit", "--follow", "--timeout", "0.5", "sleep", "60")
    assert done.returncode == 143
    assert "timed out: ran longer than its time limit of 0.5 s" in done.stderr


def test_a_follower_says_that_no_worker_runs(
    run: Run, processes: Processes, storage: FolderStore, tmp_path: Path
) -> None:
    with open(tmp_path / "said", "wb") as said:
        follower = subprocess.Popen(
            command("submit", "--wait", "true"), cwd=tmp_path, env=processes.env, stderr=said
        )
    wait_until(lambda: b"waits: no worker is running" in (tmp_path / "said").read_bytes())
    processes.worker()
    assert follower.wait(60) == 0


def test_a_follower_whose_job_was_not_queued_waits_for_the_job_in_the_way(
    run: Run, processes: Processes, gate: Gate, tmp_path: Path
) -> None:
    processes.worker()
    first = run("submit", "--key", "K", f"{gate.wait}; exit 3").stdout.strip()
    with open(tmp_path / "said", "wb") as said:
        follower = subprocess.Popen(
            command("submit", "--key", "K", "--if-busy", "skip", "--wait", "true"),
            cwd=tmp_path,
            env=processes.env,
            stdout=subprocess.DEVNULL,
            stderr=said,
        )
    sentence = f"nothing was queued: {first} has the key 'K'\n"
    wait_until(lambda: (tmp_path / "said").read_text() == sentence)
    gate.open()
    assert follower.wait(60) == 3


def test_ctrl_c_ends_the_follow_and_not_the_job(
    run: Run, processes: Processes, storage: FolderStore, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    processes.worker()
    line = f"echo begun; until [ -e {gate} ]; do sleep 0.05; done"
    with open(tmp_path / "said", "wb") as said:
        follower = subprocess.Popen(
            command("submit", "--follow", line),
            cwd=tmp_path,
            env=processes.env,
            stdout=said,
            stderr=said,
        )
    wait_until(lambda: b"begun" in (tmp_path / "said").read_bytes())
    os.kill(follower.pid, signal.SIGINT)
    assert follower.wait(30) == 130
    job_id = newest(storage)
    said_at_last = (tmp_path / "said").read_text().splitlines()[-1]
    assert said_at_last == f"{job_id} keeps running; `tailboard cancel {job_id}` stops it"
    assert storage.get(job_id).status is Status.RUNNING
    gate.touch()
    assert run("wait", job_id).returncode == 0


def test_waiting_has_a_limit(typed: Typed, storage: FolderStore) -> None:
    job = storage.submit(Job(command="true"))
    waited = typed("wait", "--timeout", "0.1", job.id)
    assert waited.exit_code == 124
    assert waited.stderr == f"{job.id} is still queued after 0.1 s\n"


def test_a_folder_is_relative_to_the_current_one_only_on_this_machine(
    typed: Typed, storage: FolderStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    typed("submit", "--cwd", ".", "true")
    assert storage.list()[0][0].cwd == str(tmp_path)
