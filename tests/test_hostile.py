"""Whatever is in the folder of one job, or in a store, can harm only that job or that file. In each
case a real job or a real person does it, beside a job that must not be affected."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import psutil
import pytest
import requests
from conftest import (
    Gate,
    JobMaker,
    Processes,
    SmallDisk,
    all_end,
    is_alive,
    need,
    pids_in,
    quick_worker,
    wait_until,
)

from storage import load_logs
from tailboard.errors import WrongState
from tailboard.folder.folder_store import FolderStore
from tailboard.job import Job
from tailboard.log_limit import LogSupervisor
from tailboard.status import FINISHED, Status

Worker = Callable[..., subprocess.Popen[bytes]]
Ended = Callable[..., Job]
Started = Callable[..., Job]

# Replacements for a file in a job's folder, as shell lines on "$f".
REPLACEMENTS = {
    "nothing": ":",
    "folder": 'mkdir "$f" && : >"$f/x"',
    "fifo": 'mkfifo "$f"',
    "link": 'ln -s /dev/zero "$f"',
    "loop": 'ln -s "$f" "$f"',
    "hole": 'truncate -s 4T "$f"',
    "noise": 'head -c 100000 /dev/urandom >"$f"',
    "deep": "yes '[' | head -n 300000 | tr -d '\\n' >\"$f\"",
    "numbers": 'printf \'\\n{"claimed": {"attempt": 1e999}}\\n{"pid": %s}\\n{"exit": -1}\\n'
    '{"ended": {"status": "made-up", "exit_code": 1e400}}\\n\' "$(yes 9 | head -n 9999 | tr -d '
    '"\\n")" >"$f"',
}
FILES = ("times", "output.log", "journal", "cancel", "job.json")


def replace(folder: Path, name: str, how: str) -> str:
    """A shell line with which a running job replaces a file in its own folder."""
    return f'f={folder}/running/$JOB_ID/{name}; rm -f "$f"; {REPLACEMENTS[how]}'


SLOTS = str(len(REPLACEMENTS) * len(FILES) + 1)
Jobs = dict[tuple[str, str], Job]


@dataclass
class Hostile:
    """Jobs that replace the files in their folders, beside jobs that must not be affected."""

    storage: FolderStore
    folder: Path
    ended: Ended

    def submit_all(self, line: str, **fields: Any) -> Jobs:
        """For each file and each replacement, a job that replaces the file and then runs `line`."""
        jobs = {}
        for how in REPLACEMENTS:
            for name in FILES:
                command = f"{replace(self.folder, name, how)}; {line}"
                jobs[name, how] = self.storage.submit(Job(command=command, **fields))
        return jobs

    def start_all(self, ready: Path, **fields: Any) -> tuple[Jobs, list[int]]:
        """Starts such jobs and waits until each has replaced its file; returns the jobs and their
        processes."""
        jobs = self.submit_all(f"echo $$ >>{ready}; exec sleep 600", **fields)
        return jobs, pids_in(ready, len(jobs))

    def cancel_all(self, jobs: Jobs) -> None:
        """Cancels the running jobs; one that left a file `cancel` may have ended. All must end, and
        as cancelled if the request was accepted."""
        accepted = set()
        for case, job in jobs.items():
            with suppress(WrongState):
                self.storage.cancel(job.id, "enough")
                accepted.add(case)
        for case, job in jobs.items():
            allowed = (Status.CANCELLED,) if case in accepted else (Status.CANCELLED, Status.LOST)
            assert self.ended(job).status in allowed, case
            assert len(self.storage.find(job.id)) == 1

    def another_is_run(self) -> None:
        assert self.ended(self.storage.submit(Job(command="true"))).status is Status.SUCCEEDED


@pytest.fixture
def hostile(storage: FolderStore, folder: Path, ended: Ended) -> Hostile:
    return Hostile(storage, folder, ended)


def test_a_job_that_replaces_its_files_can_be_cancelled(
    hostile: Hostile, worker: Worker, processes: Processes, tmp_path: Path
) -> None:
    process = worker("--slots", SLOTS)
    jobs, pids = hostile.start_all(tmp_path / "ready", retries=1)
    hostile.another_is_run()
    hostile.cancel_all(jobs)
    all_end(*pids)
    hostile.another_is_run()
    assert process.poll() is None and "Traceback" not in processes.text()


def test_hostile_files_that_a_job_leaves_do_not_harm_the_next_worker(
    hostile: Hostile, worker: Worker, processes: Processes, tmp_path: Path
) -> None:
    """The worker is killed, and another one finds the folders as the jobs have left them."""
    process = worker("--slots", SLOTS)
    jobs, pids = hostile.start_all(tmp_path / "ready")
    process.kill()
    process.wait()
    process = worker("--slots", SLOTS)
    hostile.another_is_run()
    hostile.cancel_all(jobs)
    all_end(*pids)
    assert process.poll() is None and "Traceback" not in processes.text()


def test_replacing_its_files_does_not_save_a_job_from_its_timeout(
    hostile: Hostile, worker: Worker, ended: Ended
) -> None:
    worker("--slots", SLOTS)
    for case, job in hostile.submit_all("exec sleep 600", timeout=0.5).items():
        status = ended(job).status
        assert status in (Status.TIMED_OUT, Status.LOST, Status.CANCELLED), case


def test_the_api_can_read_what_a_hostile_job_has_left(
    hostile: Hostile, drain: Callable[..., None], processes: Processes
) -> None:
    jobs = hostile.submit_all(":")
    drain("--slots", SLOTS)
    url = processes.api()
    for path in ("jobs", "metrics", "workers"):
        assert requests.get(f"{url}/{path}", timeout=20).status_code == 200
    for case, job in jobs.items():
        for query in ("", "?timestamps=1", "?since=1h", "?q=x", "?offset=0", "?tail=5"):
            answer = requests.get(f"{url}/jobs/{job.id}/logs{query}", timeout=20)
            assert answer.status_code == 200, (case, query, answer.text)
        assert requests.get(f"{url}/jobs/{job.id}", timeout=20).json()["status"] in FINISHED
    assert "Traceback" not in processes.text()


# --- Cancels --------------------------------------------------------------------------------------


def test_a_cancel_during_the_grace_period_of_a_timeout_stops_retries(
    storage: FolderStore, worker: Worker, started: Started, ended: Ended, gate: Gate
) -> None:
    worker(grace=60)
    line = f"trap 'echo asked' TERM; echo started; while :; do {gate.wait} && exit 3; done"
    job = started(storage.submit(Job(command=line, timeout=0.5, retries=5)))
    started(job, "asked\n")
    storage.cancel(job.id, "no more")
    gate.open()
    found = ended(job)
    assert (found.status, found.attempt, found.reason) == (Status.CANCELLED, 1, "no more")


# --- What a job sees and leaves behind ------------------------------------------------------------


def test_our_variables_neither_reach_a_job_nor_shadow_its_own(
    storage: FolderStore, drain: Callable[..., None]
) -> None:
    own = dict.fromkeys(("job", "mask", "code", "f", "claim", "journal", "out"), "mine")
    job = storage.submit(Job(command=["env", "-0"], env=own))
    bare = storage.submit(Job(command=["env", "-0"]))
    drain()
    seen = dict(pair.split("=", 1) for pair in load_logs(storage, job.id).split("\0") if pair)
    assert {name: seen.get(name) for name in own} == own
    names = {pair.split("=")[0] for pair in load_logs(storage, bare.id).split("\0") if pair}
    added = names - {name for name in os.environ if not name.startswith("TAILBOARD_")}
    ours = {"JOB_ID", "JOB_ATTEMPT", "JOB_STORAGE", "JOB_FILES", "PYTHONUNBUFFERED"}
    assert ours <= names and added - ours <= {"PWD", "OLDPWD", "SHLVL", "_"}  # the shell's own


FUNCTION = "() { :; }"  # as bash exports one
ODD_ENVIRONMENTS = [
    *({f"BASH_FUNC_{name}%%": FUNCTION} for name in ("printf", "read", "trap", "eval", "exec")),
    *({f"BASH_FUNC_{name}%%": FUNCTION} for name in ("shift", "export", "unset", "sleep", "exit")),
    *({"SHELLOPTS": option} for option in ("noexec", "errexit", "nounset", "xtrace", "verbose")),
    {"SHELLOPTS": "xtrace", "PS4": "$(touch ps4)"},
    {"BASH_ENV": "./exit", "ENV": "./exit"},
    {"OPTIND": "no number", "LINENO": "x", "RANDOM": "x", "IFS": "a", "PPID": "x", "UID": "x"},
    {"PATH": "/nowhere"},
    {"-i": "x", "a.b": "x", "a b": "x", "ö": "x"},
    {"LC_ALL": "no_SUCH.locale", "POSIXLY_CORRECT": "1", "TMOUT": "1", "HOME": "", "_": "x"},
]
STOPPED_BY_THE_LINKER = [
    {"LD_LIBRARY_PATH": "."},  # contains an invalid libc.so.6
    {"LD_LIBRARY_PATH": ".", "a.b": "x"},
    {"LD_DEBUG": "help"},
    {"LD_TRACE_LOADED_OBJECTS": "1"},
]


@pytest.mark.parametrize("shell", ["dash", "bash"])
def test_a_jobs_variables_do_not_affect_its_shim(
    storage: FolderStore, drain: Callable[..., None], tmp_path: Path, shell: str
) -> None:
    """Whatever the variable is, the command gets it and runs once, or fails itself."""
    (tmp_path / "libc.so.6").write_bytes(b"no library")
    (tmp_path / "exit").write_text("exit 77")
    jobs = [
        storage.submit(Job(command=["/usr/bin/env", "-0"], env=env, cwd=str(tmp_path), retries=1))
        for env in (*ODD_ENVIRONMENTS, *STOPPED_BY_THE_LINKER)
    ]
    drain("--slots", "4", TEST_SHELL=need(shell))
    for job in jobs:
        found = storage.get(job.id)
        log = load_logs(storage, job.id)
        if job.env in STOPPED_BY_THE_LINKER:
            assert found.status in (Status.SUCCEEDED, Status.FAILED), (job.env, found)
            assert len(found.attempts) == found.attempt, job.env
            continue
        assert (found.status, len(found.attempts)) == (Status.SUCCEEDED, 1), (job.env, found, log)
        pairs = set(log.split("\0"))
        assert {f"{name}={value}" for name, value in job.env.items()} <= pairs | {"_=x"}, job.env
    assert not (tmp_path / "ps4").exists()


def test_a_command_gets_its_variables_byte_for_byte(
    storage: FolderStore, drain: Callable[..., None]
) -> None:
    """Each shell gives it the same environment."""
    value = "".join(map(chr, range(1, 256))) + "'\"$(exit)`exit`\\ * ~\n"
    env = {"VALUE": value, "EMPTY": "", "BASH_ENV": value}
    seen = []
    for shell in ("dash", "bash"):
        job = storage.submit(Job(command=["/usr/bin/env", "-0"], env=env))
        drain(TEST_SHELL=need(shell))
        pairs = load_logs(storage, job.id).split("\0")
        assert {f"{name}={value}" for name, value in env.items()} <= set(pairs)
        ours = ("JOB_ID=", "JOB_FILES=", "TEST_SHELL=", "_=")
        seen.append(sorted(pair for pair in pairs if not pair.startswith(ours)))
    assert seen[0] == seen[1]


def test_a_daemon_of_a_job_leaves_no_zombie_under_pid_1(
    storage: FolderStore, processes: Processes, ended: Ended, tmp_path: Path
) -> None:
    """As in a container, where the remaining processes of a job become children of the worker."""
    unshare = need("unshare")
    probe = subprocess.run([unshare, "--pid", "--fork", "true"], capture_output=True)
    if probe.returncode:
        pytest.skip("a process namespace may not be made here")
    options = ("--pid", "--fork", "--mount-proc", "--kill-child=TERM")
    namespace = processes.start(unshare, *options, sys.executable, "worker.py")
    line = f"setsid sh -c 'sleep 0.3; echo gone >{tmp_path}/gone' & sleep 0.1"
    ended(storage.submit(Job(command=line)))
    wait_until((tmp_path / "gone").exists)

    def no_zombie() -> bool:
        job = storage.submit(Job(command="grep -l 'State:.Z' /proc/[0-9]*/status | wc -l"))
        ended(job)
        return load_logs(storage, job.id).strip() == "0"

    wait_until(no_zombie, describe=processes.text)
    namespace.kill()


class Namespace:
    """A PID namespace, as a container has; it starts a worker for each line that it reads."""

    def __init__(self, processes: Processes, place: Path, queue: str) -> None:
        unshare = need("unshare")
        probe = subprocess.run([unshare, "--pid", "--fork", "true"], capture_output=True)
        if probe.returncode:
            pytest.skip("a process namespace may not be made here")
        self.lines = place / f"lines-{queue}"
        os.mkfifo(self.lines)
        worker = shlex.join([*quick_worker(), "--queues", queue])
        init = f"exec 3<>{self.lines}; while read -r _ <&3; do {worker} & done"
        options = ("--pid", "--fork", "--mount-proc", "--kill-child")
        self.process = processes.start(unshare, *options, "/bin/sh", "-c", init)
        self.start_worker()

    def start_worker(self) -> None:
        self.lines.write_text("start\n")

    def kill_worker(self) -> None:
        for process in psutil.Process(self.process.pid).children(recursive=True):
            if "tests.programs.tuned_worker" in process.cmdline():
                process.kill()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


def test_a_job_in_another_pid_namespace_is_left_to_its_own_workers(
    storage: FolderStore,
    processes: Processes,
    started: Started,
    ended: Ended,
    tmp_path: Path,
    gate: Gate,
) -> None:
    """Two containers have the same host name, so the pid of a job in one is another process in the
    other."""
    one, two = (Namespace(processes, tmp_path, queue) for queue in ("one", "two"))
    job = started(storage.submit(Job(command=f"echo started; {gate.wait}; exit 7", queue="one")))
    one.kill_worker()
    wait_until(lambda: f"left alone job={job.id}" in processes.text(), describe=processes.text)
    for _ in range(2):
        assert ended(storage.submit(Job(command="true", queue="two"))).status is Status.SUCCEEDED
    assert storage.get(job.id).status is Status.RUNNING
    assert "adopted" not in processes.text()
    one.start_worker()
    wait_until(lambda: f"adopted job={job.id}" in processes.text(), describe=processes.text)
    gate.open()
    found = ended(job)
    assert (found.status, found.exit_code) == (Status.FAILED, 7)
    assert processes.text().count(f"left alone job={job.id}") == 1
    one.kill()
    two.kill()


def test_the_jobs_of_a_stopped_container_are_recovered_in_another(
    storage: FolderStore, processes: Processes, started: Started, ended: Ended, tmp_path: Path
) -> None:
    """Their processes ended with their PID namespace, which the journal's lock proves."""
    one = Namespace(processes, tmp_path, "one")
    line = "echo started; [ $JOB_ATTEMPT = 2 ] || sleep 600"
    jobs = [storage.submit(Job(command=line, queue="one", retries=n)) for n in range(2)]
    for job in jobs:
        started(job)
    one.kill()
    processes.start(*quick_worker(), "--queues", "one")
    assert ended(jobs[0]).status is Status.LOST
    found = ended(jobs[1])
    assert (found.status, found.attempt) == (Status.SUCCEEDED, 2)


# --- A log that is truncated ----------------------------------------------------------------------


def test_old_size_samples_do_not_date_lines_after_a_truncation(
    storage: FolderStore, worker: Worker, started: Started, ended: Ended, gate: Gate
) -> None:
    worker()
    line = f"yes old | head -n 500; echo started; {gate.wait}; echo new >/dev/stderr; sleep 2.2"
    job = started(storage.submit(Job(command=line)))
    path = Path(storage.root, "running", job.id, "times")
    wait_until(lambda: path.exists() and path.stat().st_size >= 16)
    before = time.time()
    gate.open()
    ended(job)
    with storage.open_log(job.id) as log:
        assert log.size == 4
        stamp = log.add_timestamps(0, log.read(0, 10)[1]).split()[0].decode()
        assert stamp >= time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(before))


def read_events(response: requests.Response) -> Iterator[tuple[str, int, object]]:
    """(event, id, data) of each server-sent event that has them."""
    for block in response.iter_content(None):
        for event in block.decode().split("\n\n"):
            fields = dict(line.split(": ", 1) for line in event.split("\n") if ": " in line)
            if "data" in fields and "id" in fields:
                data = json.loads(fields["data"])
                yield fields.get("event", "message"), int(fields["id"]), data


EVENTS = {"Accept": "text/event-stream"}


@pytest.fixture
def truncating(
    storage: FolderStore, worker: Worker, started: Started, gate: Gate, tmp_path: Path
) -> Job:
    """A job that has written 6,008 bytes, truncates its log once the gate is open, and continues
    once a file `go` exists."""
    worker()
    line = f"yes hello | head -n 1000; echo started; {gate.wait}; echo new >/dev/stderr"
    go_on = f"until [ -e {tmp_path}/go ]; do sleep 0.05; done; echo end"
    return started(storage.submit(Job(command=f"{line}; {go_on}")))


def test_a_follower_is_notified_once_that_the_log_was_truncated(
    truncating: Job, processes: Processes, gate: Gate, tmp_path: Path
) -> None:
    url = f"{processes.api()}/jobs/{truncating.id}/logs?follow=1&offset=6000"
    with (
        requests.get(url, stream=True, timeout=20) as plain,
        requests.get(url, stream=True, timeout=20, headers=EVENTS) as events,
    ):
        found, lines = read_events(events), plain.iter_lines()
        assert (next(found), next(lines)) == (("message", 6008, "started\n"), b"started")
        gate.open()
        kind, at, gap = next(found)
        assert (kind, gap) == ("gap", {"from": 6008, "to": at})
        assert next(lines) == b"[the log was truncated]"
        (tmp_path / "go").touch()
        kinds = [kind for kind, *_ in found]
        assert kinds.count("gap") == 0 and kinds[-1] == "end"
        assert list(lines)[-1] == b"end"


def test_an_offset_past_the_end_of_a_truncated_log_is_refused(
    truncating: Job, processes: Processes, gate: Gate, ended: Ended, tmp_path: Path
) -> None:
    url = f"{processes.api()}/jobs/{truncating.id}/logs"
    gate.open()
    (tmp_path / "go").touch()
    ended(truncating)
    for query in ("offset=6000", "offset=6000&follow=1"):
        answer = requests.get(f"{url}?{query}", timeout=20)
        assert (answer.status_code, answer.headers["X-Log-Size"]) == (416, "8")
    answer = requests.get(f"{url}?offset=8", timeout=20)
    assert (answer.status_code, answer.headers["X-Log-Next"]) == (200, "8")


LARGE = 32 << 20


@pytest.fixture
def large(storage: FolderStore) -> Iterator[tuple[Job, LogSupervisor]]:
    """A running job with a log of 32 MiB, and its supervisor."""
    storage.submit(Job(command="true"))
    claim = storage.claim("w", "h")
    assert claim
    with claim:
        with claim.open_log_for_append() as out:
            out.write(b"0123456789abcde\n" * (LARGE // 16))
        times = os.open(f"{claim.folder}/times", os.O_RDWR)
        supervisor = LogSupervisor(f"{claim.folder}/output.log", times)
        yield claim.job, supervisor
        supervisor.close()
        os.close(times)


@pytest.mark.parametrize("how", ["given back", "truncated"])
def test_a_download_is_aborted_if_its_bytes_are_trimmed(
    large: tuple[Job, LogSupervisor], processes: Processes, storage: FolderStore, how: str
) -> None:
    job, supervisor = large
    url = f"{processes.api()}/jobs/{job.id}/logs"
    received = bytearray()
    with requests.get(f"{url}?download=1", stream=True, timeout=20) as answer:
        assert answer.headers["Content-Length"] == str(LARGE)
        pieces = answer.iter_content(1 << 16)
        received += next(pieces)
        if how == "truncated":
            os.truncate(f"{storage.root}/running/{job.id}/output.log", 10)
        else:
            assert supervisor.sample_and_trim(1 << 20)
        with pytest.raises((requests.ConnectionError, requests.exceptions.ChunkedEncodingError)):
            for piece in pieces:
                received += piece
    assert 0 < len(received) < LARGE and b"\0" not in received
    assert requests.get(f"{url}?tail=1", timeout=20).status_code == 200
    assert "Traceback" not in processes.text()


def test_a_follower_is_notified_of_trimmed_bytes(
    large: tuple[Job, LogSupervisor], processes: Processes
) -> None:
    job, supervisor = large
    url = f"{processes.api()}/jobs/{job.id}/logs?follow=1&offset=0"
    assert supervisor.sample_and_trim(1 << 20)
    with requests.get(url, stream=True, timeout=20) as plain:
        first = next(plain.iter_lines()).decode()
    with requests.get(url, stream=True, timeout=20, headers=EVENTS) as events:
        kind, at, gap = next(read_events(events))
    assert (kind, gap) == ("gap", {"from": 0, "to": at})
    assert first == f"[{at} bytes missing]" and LARGE - at <= 2 << 20


# --- A full disk ----------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["blocks", "inodes"])
def test_on_a_full_disk_jobs_are_ended_and_recorded(
    disk: SmallDisk,
    small: FolderStore,
    worker: Worker,
    processes: Processes,
    gate: Gate,
    tmp_path: Path,
    what: str,
) -> None:
    process = worker("--slots", "3")
    started = f"echo $$ >>{tmp_path}/pids"
    jobs = {
        Status.CANCELLED: small.submit(Job(command=f"{started}; exec sleep 600")),
        Status.TIMED_OUT: small.submit(Job(command=f"{started}; exec sleep 600", timeout=1)),
        Status.FAILED: small.submit(Job(command=f"{started}; {gate.wait}; exit 7")),
    }
    pids = pids_in(tmp_path / "pids", 3)
    waiting = [small.submit(Job(command=f"echo >{tmp_path}/ran")) for _ in range(2)]
    disk.fill() if what == "blocks" else disk.fill_inodes()
    small.cancel(jobs[Status.CANCELLED].id, "enough")
    for job in waiting:
        small.cancel(job.id, "not needed")
    gate.open()
    for status, job in jobs.items():
        wait_until(lambda job=job: small.get(job.id).status in FINISHED, describe=processes.text)
        assert small.get(job.id).status is status
    assert small.get(jobs[Status.FAILED].id).exit_code == 7
    all_end(*pids)
    assert list((disk.place / "tmp").iterdir()) == []
    disk.free()
    for job in waiting:
        wait_until(lambda job=job: small.get(job.id).status is Status.CANCELLED)
    assert not (tmp_path / "ran").exists()
    assert process.poll() is None and "Traceback" not in processes.text()


# --- Descriptors ----------------------------------------------------------------------------------


def test_too_few_descriptors_for_the_slots_prevent_the_start(processes: Processes) -> None:
    line = f"ulimit -n 64; exec {sys.executable} worker.py --slots 40"
    process = processes.start("/bin/sh", "-c", line)
    assert process.wait(20) == 1
    text = processes.text()
    assert "--slots 40 needs" in text and "limit is 64" in text and "Traceback" not in text


def test_with_few_descriptors_dead_jobs_are_still_recorded(
    storage: FolderStore, worker: Worker, processes: Processes, gate: Gate, tmp_path: Path
) -> None:
    """With more orphans than descriptors, they are adopted one after another, and none is
    forgotten."""
    process = worker("--slots", "40")
    line = f"echo $$ >>{tmp_path}/pids; {gate.wait}; exit 5"
    jobs = [storage.submit(Job(command=line)) for _ in range(40)]
    pids_in(tmp_path / "pids", 40)
    process.kill()
    process.wait()
    waiting = storage.submit(Job(command="true"))
    line = f"ulimit -n 64; exec {' '.join(quick_worker())} --slots 2"
    second = processes.start("/bin/sh", "-c", line)
    wait_until(lambda: "adopted" in processes.text())
    assert second.poll() is None
    gate.open()
    wait_until(lambda: not storage.counts()[Status.RUNNING], 60, processes.text)
    assert {storage.get(job.id).exit_code for job in jobs} == {5}
    wait_until(lambda: storage.get(waiting.id).status is Status.SUCCEEDED)
    assert second.poll() is None and "Too many open files" not in processes.text()


# --- The same ID twice ----------------------------------------------------------------------------


@pytest.mark.parametrize("home", ["queued/default", "running"])
def test_a_copy_of_an_ended_job_is_set_aside(
    storage: FolderStore, worker: Worker, ended: Ended, processes: Processes, home: str
) -> None:
    worker()
    job = ended(storage.submit(Job(command="echo once")))
    root = Path(storage.root)
    done = root / "succeeded" / job.id[:8] / job.id
    subprocess.run(["cp", "-r", done, root / "tmp" / job.id], check=True)
    (root / "tmp" / job.id).rename(root / home / job.id)
    aside = root / "set-aside"
    (copy,) = wait_until(lambda: list(aside.iterdir()), describe=processes.text)
    assert copy.name.startswith(job.id) and (copy / "job.json").exists()
    assert not (root / home / job.id).exists()
    assert ended(storage.submit(Job(command="true"))).status is Status.SUCCEEDED
    assert load_logs(storage, job.id) == "once\n"
    assert storage.get(job.id).status is Status.SUCCEEDED
    assert processes.text().count(f"set aside job={job.id}") == 1


def make_remnant(storage: FolderStore, job: Job) -> Path:
    """What `mkdir -p $JOB_FILES` makes once the job's folder has moved."""
    folder = Path(storage.root, "running", job.id)
    (folder / "files").mkdir(parents=True)
    return folder


@pytest.mark.parametrize("has_ended", [True, False])
def test_a_folder_that_is_only_a_remnant_of_a_job_is_set_aside(
    storage: FolderStore, job_maker: JobMaker, has_ended: bool
) -> None:
    job = storage.get(job_maker.ended()) if has_ended else job_maker.queued()
    remnant = make_remnant(storage, job)
    assert list(storage.orphans(os.uname().nodename, ())) == []
    assert not remnant.exists()
    assert [path.name[: len(job.id)] for path in Path(storage.root, "set-aside").iterdir()] == [
        job.id
    ]
    status = storage.get(job.id).status
    assert status is (Status.SUCCEEDED if has_ended else Status.QUEUED)


def test_a_job_starts_although_a_remnant_has_its_place(
    storage: FolderStore, job_maker: JobMaker
) -> None:
    job = job_maker.queued()
    make_remnant(storage, job)
    with job_maker.start(job):
        assert storage.get(job.id).status is Status.RUNNING
        assert storage.get(job.id).command == "true"


# --- Hands in the folder --------------------------------------------------------------------------


@pytest.fixture
def littered(storage: FolderStore) -> list[str]:
    """Unreadable leftovers of people and restored backups; their paths, as they are reported."""
    root = Path(storage.root)
    loops = ["failed/20260101", "queued/loop"]
    for path in loops:
        (root / path).symlink_to(root / path)
    days = ["succeeded/20269999", "cancelled/20260230"]
    for path in days:
        (root / path / "20269999-996161-abcdefgh").mkdir(parents=True)
    (root / "queued/default/20261332-256161-abcdefgh").mkdir()
    os.mkfifo(root / "workers/fifo.json")
    (root / "workers/folder.json").mkdir()
    (root / "workers/foreign.json").write_text('{"name": 1}')
    (root / "workers/deep.json").write_text("[" * 100_000)
    workers = [f"workers/{name}.json" for name in ("deep", "fifo", "folder", "foreign")]
    return sorted([*loops, *days, "queued/default/20261332-256161-abcdefgh", *workers])


def test_unreadable_files_are_skipped_and_named(
    storage: FolderStore,
    worker: Worker,
    ended: Ended,
    processes: Processes,
    littered: list[str],
) -> None:
    process = worker()
    assert ended(storage.submit(Job(command="true"))).status is Status.SUCCEEDED
    url = processes.api()
    named = requests.get(f"{url}/workers", timeout=20).json()
    assert [entry.split(":")[0] for entry in named["unreadable"]] == littered
    assert len(named["workers"]) == 1
    health = requests.get(f"{url}/healthz", timeout=20)
    assert (health.status_code, health.json()["unreadable"]) == (200, len(littered))
    assert not any(path in health.text for path in littered)
    for path in ("jobs", "jobs?status=failed", "metrics"):
        assert requests.get(f"{url}/{path}", timeout=20).status_code == 200
    assert process.poll() is None and "Traceback" not in processes.text()


def test_a_fixed_problem_is_no_longer_reported(storage: FolderStore, littered: list[str]) -> None:
    assert len(storage.unreadable()) == len(littered)
    root = Path(storage.root)
    (root / "failed/20260101").unlink()
    os.unlink(root / "workers/fifo.json")
    assert len(storage.unreadable()) == len(littered) - 2


def test_the_process_of_a_job_whose_folder_was_removed_is_ended(
    storage: FolderStore,
    worker: Worker,
    ended: Ended,
    processes: Processes,
    tmp_path: Path,
) -> None:
    worker("--slots", "2")
    line = f"trap '' TERM; echo $$ >>{tmp_path}/pids; sleep 600 & wait; sleep 600"
    jobs = [storage.submit(Job(command=line)) for _ in range(2)]
    pids = pids_in(tmp_path / "pids", 2)
    running = Path(storage.root, "running")
    subprocess.run(["rm", "-rf", running / jobs[0].id], check=True)
    (running / jobs[1].id).rename(tmp_path / "moved")
    wait_until(lambda: not any(map(is_alive, pids)), describe=processes.text)
    assert ended(storage.submit(Job(command="true"))).status is Status.SUCCEEDED
    for job in jobs:
        assert f"gone job={job.id}" in processes.text()


# --- Two workers with the same name ---------------------------------------------------------------


def test_two_workers_of_one_host_and_pid_have_different_names(
    storage: FolderStore, processes: Processes, ended: Ended
) -> None:
    """Two containers have the same hostname, and each worker is PID 1."""
    command = [sys.executable, "-m", "tests.programs.worker_as_pid_1"]
    first = processes.start(*command)
    wait_until(lambda: len(storage.workers()) == 1, describe=processes.text)
    processes.start(*command)
    wait_until(lambda: len(storage.workers()) == 2, describe=processes.text)
    names = [info.name for info in storage.workers()]
    assert names[1] == f"{names[0]}-2"
    job = ended(storage.submit(Job(command="true")))
    assert job.worker in names
    assert first.poll() is None


# --- The webhook ----------------------------------------------------------------------------------


class Hook(BaseHTTPRequestHandler):
    """Answers with a redirect, or keeps sending a header byte by byte."""

    bodies: list[dict[str, object]]
    paths: list[str]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        type(self).bodies.append(json.loads(body))
        self.redirect()

    def do_GET(self) -> None:
        self.redirect()

    def redirect(self) -> None:
        type(self).paths.append(self.path)
        self.send_response(302)
        self.send_header("Location", "/elsewhere")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hook() -> Iterator[HTTPServer]:
    Hook.bodies, Hook.paths = [], []
    server = HTTPServer(("127.0.0.1", 0), Hook)
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_the_webhook_sends_no_env_and_follows_no_redirect(
    storage: FolderStore, worker: Worker, processes: Processes, hook: HTTPServer
) -> None:
    worker(TAILBOARD_WEBHOOK=f"http://127.0.0.1:{hook.server_port}/here")
    storage.submit(Job(command="exit 1", env={"SECRET": "s3cret"}))
    wait_until(lambda: "webhook failed" in processes.text(), describe=processes.text)
    assert "env" not in json.dumps(Hook.bodies[0]) and "s3cret" not in json.dumps(Hook.bodies)
    assert set(Hook.paths) == {"/here"}
    assert "error=302" in processes.text() and "/here" not in processes.text()
