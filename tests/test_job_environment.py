"""What a job runs as: the environment that it inherits from its worker."""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import PROGRAMS, ROOT, Processes

from storage import load_logs
from tailboard.folder.folder_store import FolderStore
from tailboard.job import Job
from tailboard.run.environment import DEFAULT_PATH, base_environment

OWN_PROGRAMS = f"{sys.prefix}/bin"
PRINT_ENV = [sys.executable, str(PROGRAMS / "print_environment.py")]
needs_virtual_environment = pytest.mark.skipif(
    sys.prefix == sys.base_prefix, reason="the tests do not run in a virtual environment"
)

Inherited = Callable[..., dict[str, str]]


@pytest.fixture
def inherited(storage: FolderStore, processes: Processes, tmp_path: Path) -> Inherited:
    """Runs a job under a worker in a folder of its own; returns the environment of the job."""

    def run(*starter: str, env_file: str = "", **env: str) -> dict[str, str]:
        home = tmp_path / "home"
        home.mkdir()
        (home / ".env").write_text(env_file)
        worker = [sys.executable, str(ROOT / "worker.py"), "--drain"]
        (home / "Procfile").write_text(f"worker: {shlex.join(worker)}\n")
        job = storage.submit(Job(command=PRINT_ENV))
        command = [*starter] or worker
        started = processes.start(*command, home=home, **env | {"FLASK_SKIP_DOTENV": ""})
        assert started.wait(60) == 0, processes.text()
        found: dict[str, str] = json.loads(load_logs(storage, job.id))
        assert (found["JOB_ID"], found["JOB_ATTEMPT"]) == (job.id, "1")
        assert found["JOB_STORAGE"]
        assert found["PYTHONUNBUFFERED"] == "1"
        return found

    return run


ENV_FILE = """
TAILBOARD_KEEP_DAYS=9
TAILBOARD_JOB_ENV=DB_HOST, TAILBOARD_TOKEN
DB_HOST=db.example.org
DB_PASSWORD="hunter2  # no comment"
SET_BEFORE=by the file
"""


@needs_virtual_environment
def test_a_job_inherits_nothing_of_what_started_its_worker(inherited: Inherited) -> None:
    found = inherited(
        *(sys.executable, "-m", "honcho", "start"),
        env_file=ENV_FILE,
        PATH=f"{OWN_PROGRAMS}:/usr/local/bin:/usr/bin:/bin",
        VIRTUAL_ENV=sys.prefix,
        VIRTUAL_ENV_PROMPT="(.venv) ",
        PS1="(.venv) $ ",
        _=f"{OWN_PROGRAMS}/honcho",
        TAILBOARD_TOKEN="correct-horse-battery",
        TAILBOARD_WEBHOOK_ON="failed",
        OF_THE_USER="stays",
    )
    assert found["PATH"] == "/usr/local/bin:/usr/bin:/bin"
    assert found["DB_HOST"] == "db.example.org"
    assert found["OF_THE_USER"] == "stays"
    removed = {"PORT", "HONCHO_PROCESS_NAME", "VIRTUAL_ENV", "VIRTUAL_ENV_PROMPT", "PS1"}
    assert found.keys().isdisjoint(removed)
    assert found.keys().isdisjoint({"DB_PASSWORD", "SET_BEFORE"}), "honcho takes both from the file"
    assert found.get("_") != f"{OWN_PROGRAMS}/honcho"
    ours = {name: value for name, value in found.items() if name.startswith("TAILBOARD_")}
    assert ours == {"TAILBOARD_TOKEN": "correct-horse-battery"}


def test_a_variable_that_was_set_before_does_not_come_from_the_file(inherited: Inherited) -> None:
    found = inherited(env_file=ENV_FILE, SET_BEFORE="by the user", PORT="8080")
    assert found["SET_BEFORE"] == "by the user"
    assert found["PORT"] == "8080"
    assert found["DB_HOST"] == "db.example.org"
    assert "DB_PASSWORD" not in found


def strings(env: dict[bytes, bytes]) -> dict[str, str]:
    return {os.fsdecode(name): os.fsdecode(value) for name, value in env.items()}


@needs_virtual_environment
@pytest.mark.parametrize(
    ("path", "kept"),
    [
        (f"{OWN_PROGRAMS}:/usr/bin", "/usr/bin"),
        (f"/usr/bin:{OWN_PROGRAMS}/:/bin", "/usr/bin:/bin"),
        (f"{OWN_PROGRAMS}:{OWN_PROGRAMS}", DEFAULT_PATH),
        (f"{sys.prefix}/bin/../bin:/srv/venv/bin::.", "/srv/venv/bin::."),
        ("/usr/bin", "/usr/bin"),
    ],
)
def test_python_in_a_job_is_not_that_of_the_worker(path: str, kept: str) -> None:
    assert strings(base_environment([], [], {"PATH": path}))["PATH"] == kept
    assert strings(base_environment(["PATH"], [], {"PATH": path}))["PATH"] == path


def test_the_virtual_environment_of_the_user_stays() -> None:
    env = {
        "VIRTUAL_ENV": "/srv/venv",
        "VIRTUAL_ENV_PROMPT": "(venv) ",
        "PATH": "/srv/venv/bin:/bin",
    }
    assert strings(base_environment([], [], env)) == env | {"PYTHONUNBUFFERED": "1"}


@needs_virtual_environment
def test_named_variables_reach_jobs_whoever_has_set_them() -> None:
    env = {
        "HONCHO_PROCESS_NAME": "worker.1",
        "PORT": "5100",
        "VIRTUAL_ENV": sys.prefix,
        "TAILBOARD_API": "https://ci.example.org/api",
        "DB_HOST": "db.example.org",
        "DB_PASSWORD": "hunter2",
    }
    named = ["PORT", "VIRTUAL_ENV", "TAILBOARD_API", "DB_HOST", "NOT_SET"]
    found = strings(base_environment(named, ["DB_HOST", "DB_PASSWORD"], env))
    assert found.keys() == {*named[:-1], "PATH", "PYTHONUNBUFFERED"}
    assert found["PATH"] == DEFAULT_PATH
