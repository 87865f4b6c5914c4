"""Commands that begin with `#!`: they run as a file, by the interpreter that they name."""

from __future__ import annotations

import stat
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from conftest import Processes, SmallDisk, wait_until

from storage import load_logs
from tailboard.folder.folder_store import FolderStore
from tailboard.job import Job
from tailboard.run.script import parse_interpreter
from tailboard.status import FINISHED, Status
from tailboard.titles import long_title, short_title

if TYPE_CHECKING:
    from flask.testing import FlaskClient

PYTHON = "#!/usr/bin/env python3\n"
BASH = "#!/bin/bash\nset -euo pipefail\n"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("#!/bin/sh", ["/bin/sh"]),
        ("#! \t/bin/sh \t", ["/bin/sh"]),
        ("#!/usr/bin/env python3", ["/usr/bin/env", "python3"]),
        ("#!/usr/bin/awk \t -v x=1  -f ", ["/usr/bin/awk", "-v x=1  -f"]),
        ("#!/opt/größer", ["/opt/größer"]),
    ],
)
def test_the_first_line_is_read_as_the_kernel_reads_it(line: str, words: list[str]) -> None:
    assert parse_interpreter(line) == words
    assert parse_interpreter(f"{line}\n#!/bin/false\n") == words


def test_a_script_runs_by_its_interpreter(
    storage: FolderStore, drain: Callable[..., None], tmp_path: Path
) -> None:
    (tmp_path / "own").symlink_to("/bin/echo")  # an interpreter that prints its arguments
    scripts = [
        (PYTHON + "import sys\nprint(sys.argv[1:], 'ö')", "[] ö\n"),
        (BASH + "[[ $JOB_ATTEMPT == 1 ]] && echo $VALUE && pwd", f"from the job\n{tmp_path}\n"),
        ("#!/bin/sh -e\nfalse\necho still here", ""),
        ("#!/usr/bin/env -S python3 -E\nimport sys\nprint(sys.flags.ignore_environment)", "1\n"),
        ("#! /bin/echo  a  b \nnothing", "a  b SCRIPT\n"),
        ("#!./own c\nnothing", "c SCRIPT\n"),
        ("#!/bin/sh\necho $0; cat <&0; ls -l $0 | cut -c 1-10", "SCRIPT\n-rwx------\n"),
        ("#!/bin/cat", "#!/bin/cat"),
    ]
    env = {"VALUE": "from the job"}
    jobs = [storage.submit(Job(command=c, cwd=str(tmp_path), env=env)) for c, _ in scripts]
    drain()
    for job, (command, log) in zip(jobs, scripts, strict=True):
        running = f"{storage.root}/running/{job.id}/script"
        assert load_logs(storage, job.id) == log.replace("SCRIPT", running), command
        found = Path(storage.locate(job.id)[1]) / "script"
        assert found.read_text() == command
        assert stat.S_IMODE(found.stat().st_mode) == 0o700
    ends = [storage.get(job.id).exit_code for job in jobs]
    assert ends == [0, 0, 1, 0, 0, 0, 0, 0]


NO_START = {
    "#!/usr/bin/nope": "the script's interpreter /usr/bin/nope does not exist",
    "#!/usr/bin/nope -x": "the script's interpreter /usr/bin/nope does not exist",
    "#!/bin/bash\r": (
        r"the script's interpreter '/bin/bash\r' does not exist: end its lines with LF, not CR LF"
    ),
    "#!/usr/bin/env python3\r": (
        r"the script's interpreter '/usr/bin/env python3\r' does not exist: "
        "end its lines with LF, not CR LF"
    ),
    "#!python3": (
        "the script's interpreter must be a path, such as /usr/bin/env python3, not python3"
    ),
    "#!/etc": "the script's interpreter /etc is not executable",
    "#!/etc/passwd": "the script's interpreter /etc/passwd is not executable",
    "#! ": "the script's first line, #!, does not name an interpreter",
}


def test_a_script_without_an_interpreter_says_so(
    storage: FolderStore, drain: Callable[..., None]
) -> None:
    jobs = [storage.submit(Job(command=f"{line}\necho hello\n", retries=1)) for line in NO_START]
    drain()
    for job, (line, reason) in zip(jobs, NO_START.items(), strict=True):
        found = storage.get(job.id)
        assert (found.status, found.exit_code, found.attempt) == (Status.FAILED, None, 1), line
        assert found.reason == f"cannot start: {reason}"
        assert load_logs(storage, job.id) == f"tailboard: {found.reason}\n"


def test_each_attempt_gets_the_script_as_it_was_submitted(
    storage: FolderStore, drain: Callable[..., None], tmp_path: Path
) -> None:
    """Whatever an earlier attempt has made of the file."""
    other = tmp_path / "other"
    other.write_text("theirs")
    line = f"echo $JOB_ATTEMPT; rm $0; [ $JOB_ATTEMPT = 2 ] || ln -s {other} $0; exit 1"
    job = storage.submit(Job(command=f"#!/bin/sh\n{line}", retries=2))
    drain()
    expected = "1\n--- attempt 2 ---\n2\n--- attempt 3 ---\n3\n"
    assert load_logs(storage, job.id) == expected
    assert other.read_text() == "theirs"


def test_scripts_come_from_everywhere(
    client: FlaskClient, storage: FolderStore, drain: Callable[..., None]
) -> None:
    """From the API, a saved command, a rerun and a terminal."""
    script = '#!/usr/bin/env python3\nimport os\nprint("read by Python", os.environ["WHO"])\n'
    body = {"command": script, "env": {"WHO": "api"}}
    posted = client.post("/jobs", json=body).get_json()["id"]
    again = client.post(f"/jobs/{posted}/rerun").get_json()["id"]
    saved = {"command": script, "params": [{"name": "WHO", "default": "saved"}]}
    answer = client.put("/saved/script", json=saved)
    assert answer.status_code == 201, answer.text
    started = client.post("/saved/script/run", json={}).get_json()["id"]
    runner = client.application.test_cli_runner()
    typed = runner.invoke(args=["submit", "--env", "WHO=cli", "-"], input=script).stdout.strip()
    drain()
    logs = [load_logs(storage, job_id) for job_id in (posted, again, started, typed)]
    assert logs == [f"read by Python {who}\n" for who in ("api", "api", "saved", "cli")]


def test_a_script_on_a_full_disk_starts_once_there_is_space(
    disk: SmallDisk, small: FolderStore, worker: Callable[..., object], processes: Processes
) -> None:
    job = small.submit(Job(command=f"#!/bin/sh\nexit 3\n{'#' * 29_000}"))
    disk.fill()
    disk.release(16 << 10)  # enough to claim the job, but not for the script
    worker()
    wait_until(lambda: "step=claim error='[Errno 28]" in processes.text(), describe=processes.text)
    assert (Path(small.root) / "queued" / "default" / job.id / "script").exists()
    disk.free()
    wait_until(lambda: small.get(job.id).status in FINISHED, describe=processes.text)
    assert (small.get(job.id).exit_code, small.get(job.id).attempt) == (3, 1)
    assert (Path(small.locate(job.id)[1]) / "script").stat().st_size > 29_000


@pytest.mark.parametrize(
    ("command", "title"),
    [
        (PYTHON + "# Nightly backup\n\nmain()\n", "main()"),
        (BASH + "\n  rsync -a /srv /backup\necho done", "rsync -a /srv /backup"),
        (PYTHON + "import sys\nfrom os import path\n\nprint(path)", "print(path)"),
        ("#!/usr/bin/env node\n// Nightly\nrun();", "run();"),
        ("#!/bin/bash\nset -e\n# nothing else\n", "#!/bin/bash"),
        ("#!/bin/sh", "#!/bin/sh"),
        ("#!/bin/sh\n# nothing\n\n", "#!/bin/sh"),
        ("# Nightly backup\nrsync -a /srv /backup", "# Nightly backup"),
        ("set -e\nmake", "set -e"),
    ],
)
def test_the_title_of_a_script_is_its_first_line_that_does_something(
    command: str, title: str
) -> None:
    assert long_title(None, command) == title
    assert title in command, "the page searches for it"
    assert short_title(None, command).startswith(title)
    assert long_title("nightly", command) == short_title("nightly", command) == "nightly"
