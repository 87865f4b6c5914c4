"""The commands, as people type them."""

from __future__ import annotations

import fcntl
import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import pytest
import requests
from click.testing import Result
from conftest import ROOT, JobMaker, Processes, free_port, wait_until

from storage import load_logs
from tailboard import __version__
from tailboard.folder.folder_store import FolderStore
from tailboard.job import Job
from tailboard.journal import Outcome
from tailboard.saved_command import Param, SavedCommand
from tailboard.status import Status
from tailboard.values import CONTROL_RE
from tailboard.web.operations import OPERATIONS
from tailboard.web.server import resolve_bind
from tailboard.workers import WorkerInfo

Run = Callable[..., "subprocess.CompletedProcess[str]"]
Typed = Callable[..., Result]


@pytest.fixture
def flask(processes: Processes) -> Run:
    def run(*words: str, text: str | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "flask", *words],
            cwd=ROOT,
            env=processes.env,
            input=text,
            capture_output=True,
            text=True,
            timeout=60,
        )

    return run


def test_submit_prints_the_id_and_accepts_every_option(flask: Run, storage: FolderStore) -> None:
    options = "--name n --queue q --cwd tests --env A=1 --env B=x=y --timeout 2.5 --retries 3"
    done = flask("submit", *options.split(), "echo hi")
    assert done.returncode == 0, done.stderr
    job = storage.get(done.stdout.strip())
    assert (job.command, job.name, job.queue, job.cwd) == ("echo hi", "n", "q", str(ROOT / "tests"))
    assert (job.env, job.timeout, job.retries) == ({"A": "1", "B": "x=y"}, 2.5, 3)
    assert job.submitted_by


def test_following_prints_the_log_and_exits_with_the_jobs_code(
    flask: Run, processes: Processes
) -> None:
    processes.worker()
    done = flask("submit", "--follow", "echo 行; printf end; exit 7")
    assert (done.stdout, done.returncode) == ("行\nend", 7)


def test_a_script_is_read_from_standard_input(
    flask: Run, processes: Processes, storage: FolderStore, ended: Callable[..., Job]
) -> None:
    processes.worker()
    done = flask("submit", "-", text="for i in 1 2\ndo echo $i\ndone\n")
    assert ended(done.stdout.strip()).status is Status.SUCCEEDED
    assert load_logs(storage, done.stdout.strip()) == "1\n2\n"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["submit", " "], "command must be a non-empty shell command line"),
        (["submit", "--retries", "-1", "true"], "retries must be a whole number"),
        (["submit", "--queue", "A B", "true"], "queue must be 1 to 32"),
        (["submit", "--env", "A", "true"], "--env must be NAME=VALUE"),
        (["logs", "nope"], "no job has an ID that starts or ends with 'nope'"),
        (["cancel", ""], "no job has an ID"),
        (["logs", "--since", "x", "2"], "since must be like 30s"),
    ],
)
def test_an_error_is_one_sentence_and_a_non_zero_exit_code(
    flask: Run, storage: FolderStore, words: list[str], sentence: str
) -> None:
    if "--since" in words:
        storage.submit(Job(command="true"))
    done = flask(*words)
    assert done.returncode and not done.stdout
    assert sentence in done.stderr and len(done.stderr.splitlines()) == 1, done.stderr


def test_a_unique_prefix_or_suffix_of_an_id_is_enough(flask: Run, storage: FolderStore) -> None:
    first, second = storage.submit(Job(command="a")), storage.submit(Job(command="b"))
    assert "2 jobs" in flask("cancel", first.id[:8]).stderr
    assert flask("cancel", first.id[-8:]).returncode == 0
    assert storage.get(first.id).status is Status.CANCELLED
    assert flask("delete", first.id).returncode == 0
    assert "only jobs that have ended" in flask("delete", second.id).stderr
    assert flask("rerun", second.id).returncode == 0
    listed = flask("jobs", "--json", "--status", "queued").stdout.splitlines()
    assert [json.loads(line)["rerun_of"] for line in listed] == [second.id, None]
    assert second.id in flask("jobs").stdout


def test_logs_prints_a_part_or_follows_until_the_end(
    flask: Run, processes: Processes, storage: FolderStore, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    processes.worker()
    job = storage.submit(Job(command=f"seq 5; until [ -e {gate} ]; do sleep 0.05; done; echo more"))
    wait_until(lambda: storage.get(job.id).log_size == 10)
    assert flask("logs", "--tail", "2", job.id).stdout == "4\n5\n"
    assert flask("logs", "--since", "1h", job.id).stdout == "1\n2\n3\n4\n5\n"
    follower = subprocess.Popen(
        [sys.executable, "-m", "flask", "logs", "-f", "--tail", "1", job.id],
        cwd=ROOT,
        env=processes.env,
        stdout=subprocess.PIPE,
    )
    assert follower.stdout and follower.stdout.readline() == b"5\n"
    gate.touch()
    assert follower.communicate(timeout=20)[0] == b"more\n"
    assert flask("workers").stdout.count("slots busy") == 1


@pytest.mark.parametrize("bind", ["one that no machine has", "one that is taken"])
def test_an_unusable_address_is_reported_in_one_sentence(processes: Processes, bind: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        address = f"127.0.0.1:{port}" if "taken" in bind else "192.0.2.1:5000"
        done = subprocess.run(
            [sys.executable, "api.py"],
            cwd=ROOT,
            env=processes.env | {"TAILBOARD_BIND": address},
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert done.returncode == 1 and not done.stdout
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"api: TAILBOARD_BIND: {address} cannot be used: ")


@pytest.mark.parametrize(
    "bind",
    ["127.0.0.1", "127.0.0.1:0", "127.0.0.1:99999", "unix:/tmp/socket", "127.0.0.1:1,127.0.0.1:2"],
)
def test_an_invalid_address_is_refused(bind: str) -> None:
    with pytest.raises(
        ValueError, match=f"TAILBOARD_BIND must be HOST:PORT .* 1 to 65535, not '{bind}'"
    ):
        resolve_bind(bind)


@pytest.mark.parametrize("bind", ["localhost:{}", "[::1]:{}", ":{}"])
def test_an_address_may_be_a_name_an_ipv6_address_or_a_wildcard(
    processes: Processes, bind: str
) -> None:
    port = free_port()
    host = bind.partition(":{}")[0] or "127.0.0.1"
    health = f"http://{host}:{port}/healthz"
    processes.serve(health, sys.executable, "api.py", TAILBOARD_BIND=bind.format(port))
    assert requests.get(health, timeout=20).json()["workers"] == 0


def test_flask_run_serves_the_api(processes: Processes) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    processes.serve(f"{url}/healthz", sys.executable, "-m", "flask", "run", "-p", str(port))
    assert requests.get(f"{url}/jobs", timeout=20).json()["jobs"] == []


def test_flask_reads_the_env_file_but_not_in_tests(processes: Processes, tmp_path: Path) -> None:
    checkout = tmp_path / "checkout"
    checkout.mkdir()
    for name in ("api.py", "storage.py", "tailboard", "static", ".flaskenv"):
        (checkout / name).symlink_to(ROOT / name)
    (checkout / ".env").write_text("TAILBOARD_KEEP_DAYS=foo\n")
    as_users = processes.env.keys() - {"FLASK_SKIP_DOTENV", "FLASK_APP"}
    for names, said in ((as_users, "TAILBOARD_KEEP_DAYS must be"), (processes.env.keys(), "")):
        ran = subprocess.run(
            [sys.executable, "-m", "flask", "jobs"],
            cwd=checkout,
            env={name: processes.env[name] for name in names},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert bool(ran.returncode) is bool(said) and said in ran.stderr, ran


def test_an_invalid_setting_prevents_the_start_with_one_sentence(
    processes: Processes, folder: Path
) -> None:
    settings = ("TAILBOARD_KEPDAYS", "1"), ("TAILBOARD_KEEP_DAYS", "-1"), ("TAILBOARD_TOKEN", "")
    for name, value in settings:
        started = [
            subprocess.Popen(
                [sys.executable, *command],
                cwd=ROOT,
                env=processes.env | {name: value},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for command in (
                ["worker.py"],
                ["-m", "flask", "jobs"],
                ["api.py"],
            )
        ]
        for process in started:
            said = process.communicate(timeout=60)[1]
            assert process.returncode and name in said, said
            assert len(said.splitlines()) == 1, said


# --- Saved commands -------------------------------------------------------------------------------


@pytest.fixture
def typed(folder: Path) -> Typed:
    """Runs the same commands in this process, since dozens of processes would take too long."""
    from api import create_app

    app = create_app({"STORAGE": folder})
    return lambda *words: app.test_cli_runner().invoke(args=words)


@pytest.mark.parametrize(
    ("sudo_user", "name"),
    [("anna", "anna"), ("", "bert"), (None, "bert")],
)
def test_a_command_run_by_sudo_names_the_person_who_called_it(
    typed: Typed,
    storage: FolderStore,
    monkeypatch: pytest.MonkeyPatch,
    sudo_user: str | None,
    name: str,
) -> None:
    monkeypatch.setenv("LOGNAME", "bert")
    monkeypatch.delenv("SUDO_USER", raising=False)
    if sudo_user is not None:
        monkeypatch.setenv("SUDO_USER", sudo_user)
    assert typed("submit", "true").exit_code == 0
    assert typed("pause", "default").exit_code == 0
    assert storage.list()[0][0].submitted_by == name
    assert storage.pauses.list()[0].by == name


def test_a_user_without_a_name_is_named_by_number(
    typed: Typed, storage: FolderStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a container that runs as any number."""
    for variable in ("SUDO_USER", "LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 4_000_000_000)
    assert typed("submit", "true").exit_code == 0
    assert storage.list()[0][0].submitted_by == "4000000000"


@pytest.mark.parametrize(
    ("words", "reported"),
    [
        (["submit", "--env", "A=1", "--env", "A=2", "true"], "'A' is set twice"),
        (["submit", "--env", "=x", "true"], "; the name '' is not allowed"),
        (["start", "there", "A=1", "A=2"], "'A' is set twice"),
        (["start", "there", "A=\udcff"], "A must be a string of up to 30,000 characters"),
        (
            ["logs", "JOB", "--tail", "1", "--since", "1d"],
            "give either --tail or --since, not both",
        ),
        (["logs", "x" * 999], "no job has an ID that starts or ends with 'xxx"),
        (["token", "ana", "--replace", "--revoke"], "give either --replace or --revoke, not both"),
        (["token", "ana"], "TAILBOARD_TOKENS: /nowhere/tokens cannot be used: No such file"),
        (["saved", "export", "/proc/nowhere"], "/proc/nowhere: No such file or directory"),
    ],
)
def test_an_invalid_argument_is_explained(
    folder: Path, job_maker: JobMaker, words: list[str], reported: str
) -> None:
    from api import create_app

    job_maker.storage.saved.save(
        SavedCommand(saved="there", command="true", params=[Param(name="A")])
    )
    job_id = job_maker.ended(b"log\n")
    app = create_app({"STORAGE": folder, "TOKENS": "/nowhere/tokens"})
    words = [job_id if word == "JOB" else word for word in words]
    found = app.test_cli_runner().invoke(args=words)
    assert found.exit_code in (1, 2) and isinstance(found.exception, SystemExit), found.exception
    assert found.output.startswith("Error: ") and reported in found.output, found.output
    assert len(found.output.splitlines()) == 1


def test_a_binary_script_is_refused_in_one_sentence(processes: Processes) -> None:
    command = [sys.executable, "-m", "flask", "submit", "-"]
    env = processes.env | {"LC_ALL": "C.UTF-8"}
    done = subprocess.run(command, cwd=ROOT, env=env, input=b"echo \xff", capture_output=True)
    assert done.returncode == 1
    assert done.stderr == b"Error: the script must be UTF-8 text, but byte 5 is not\n"


def test_an_ambiguous_id_lists_the_matching_ids(typed: Typed, storage: FolderStore) -> None:
    ids = [storage.submit(Job(command="true")).id for _ in range(7)]
    start = ids[0][:2]
    reported = f"Error: 7 jobs have an ID that starts or ends with {start!r}: "
    said = typed("cancel", start).stderr
    listed, rest = said[len(reported) :].split(" and ")
    assert said.startswith(reported) and rest == "2 more\n"
    assert len(listed.split(", ")) == 5 and set(listed.split(", ")) <= set(ids)
    for job_id in ids[2:]:
        storage.cancel(job_id, "")
        storage.delete(job_id)
    assert typed("cancel", start).stderr.endswith(f": {ids[1]}, {ids[0]}\n")


def test_a_list_without_workers_says_so_and_is_not_an_error(typed: Typed) -> None:
    done = typed("workers")
    reported = "no worker is running: `tailboard up` or `tailboard worker` starts one\n"
    assert (done.exit_code, done.stdout, done.stderr) == (0, "", reported)


def test_whoami_names_the_folder_without_a_server(typed: Typed, folder: Path) -> None:
    done = typed("whoami")
    assert done.exit_code == 0, done.stderr
    assert done.stdout.startswith(f"storage  {folder}\nversion  {__version__}\n")


def test_access_lists_what_each_route_requires(typed: Typed) -> None:
    listed = typed("access")
    lines = listed.output.splitlines()
    assert listed.exit_code == 0 and len(lines) == len(OPERATIONS)
    assert [line for line in lines if not line.endswith("  token")] == [
        "GET     /jobs/{job_id}/logs              read  ticket or token",
        "GET     /jobs/{job_id}/explain           read  ticket for all logs, or token",
        "GET     /jobs/{job_id}/diff              read  ticket for all logs, or token",
        "GET     /jobs/{job_id}/usage             read  ticket or token",
        "GET     /jobs/{job_id}/files             read  ticket or token",
        "GET     /jobs/{job_id}/files/{path}      read  ticket or token",
        "GET     /jobs/{job_id}/files.zip         read  ticket or token",
        "POST    /sessions                        read  token, not a session key",
        "GET     /healthz                         -     nobody is asked",
    ]
    rows = [re.fullmatch(r"([A-Z]+) +(/\S*) +(\S+) +(\S.*)", line) for line in lines]
    assert {row.start(4) for row in rows if row} == {lines[0].index("token")}
    shown = [(row[1].lower(), row[2], row[3].replace("-", "read"), row[4]) for row in rows if row]
    assert shown == [
        (*route, operation.role, operation.access) for route, operation in OPERATIONS.items()
    ]


HOSTILE = "\x1b]52;c;ZXZpbA==\x07\x9b2J\u202e\r\x08x"


@pytest.fixture
def hostile(storage: FolderStore) -> Iterator[Job]:
    """A failed job; clients and workers have put control characters wherever they can."""
    line = f"true {HOSTILE}"
    said = {"command": line, "name": HOSTILE, "submitted_by": HOSTILE, "submit_reason": HOSTILE}
    job = storage.submit(Job(**said, queue="other"))
    claim = storage.claim(HOSTILE, HOSTILE)
    assert claim is not None
    with claim:
        claim.finish(Outcome(Status.FAILED, 1, reason=HOSTILE, hint=HOSTILE))
    storage.submit(Job(**said, queue="gpu"))
    storage.pauses.pause("gpu", HOSTILE, HOSTILE)
    saved = {"command": line, "name": HOSTILE, "params": [Param(name="A", default=HOSTILE)]}
    storage.saved.save(SavedCommand(saved="x", **saved))
    worker = storage.root + "/workers/forged.json"
    info = WorkerInfo(HOSTILE, HOSTILE, os.getpid(), 1, [HOSTILE], 0, HOSTILE, HOSTILE)
    Path(worker).write_text(json.dumps(asdict(info)))
    with open(worker) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield job


@pytest.mark.parametrize(
    "words",
    [
        "jobs", "workers", "saved", "saved show x", "logs eve", "grep no-line", "start x B=1",
        "submit --queue A true",
        "jobs --json", "saved pause x", "pause gpu --why y", "logs 2", "cancel 2",
        "cancel --q x --yes", "rerun --status failed --yes", "delete --status failed --yes",
        "delete --status queued --yes", "mark-lost x",
    ],
)  # fmt: skip
def test_no_command_prints_control_characters_that_a_client_chose(
    typed: Typed, hostile: Job, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tailboard.cli.terminal.terminal_columns", lambda: 200)
    done = typed(*words.split())
    printed = (done.stdout + done.stderr).replace("\n", "")
    assert not CONTROL_RE.findall(printed), printed
    if words in ("jobs", "workers", "saved"):
        assert "\ufffd" in printed


def test_grep_cleans_titles_but_prints_lines_unchanged(typed: Typed, storage: FolderStore) -> None:
    job = storage.submit(Job(command="true", name=HOSTILE))
    claim = storage.claim("w", "h")
    assert claim is not None
    with claim:
        with claim.open_log_for_append() as log:
            log.write(b"\x1b]0;t\x07red\n")
        claim.finish(Outcome(Status.SUCCEEDED, 0))
    title, _, line = typed("grep", "red").stdout.removesuffix("\n").partition(": ")
    assert title.startswith(job.id) and not CONTROL_RE.search(title)
    assert line == "\x1b]0;t\x07red"
    assert typed("logs", job.id).stdout == "\x1b]0;t\x07red\n"


def test_only_logs_are_printed_unchanged() -> None:
    """Everything else is printed by `echo_line`."""
    files = [ROOT / "api.py", *(ROOT / "tailboard" / "cli").glob("*.py")]
    lines = [line.strip() for file in files for line in file.read_text().splitlines()]
    assert {line for line in lines if "click.echo(" in line} == {
        "click.echo(line if colour is None else click.style(line, fg=colour), err=err)",
        "click.echo(data, nl=False)",
        "click.echo(f\"{hit['job']['id']} {printable(hit['job']['title'])}: {line}\")",
    }
