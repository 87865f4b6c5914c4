"""The worker: real processes under a real worker, seen from outside."""

from __future__ import annotations

import errno
import itertools
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests
from conftest import PROGRAMS, ROOT, Gate, Processes, all_end, is_alive, pids_in, wait_until

from storage import load_logs
from tailboard.folder.folder_store import FolderStore
from tailboard.job import Job
from tailboard.run import shim
from tailboard.run.processes import ProcessTable
from tailboard.settings import Settings, foreign_settings
from tailboard.status import Status
from tailboard.values import parse_time
from tailboard.workers import WorkerInfo
from worker import Worker


def python(program: str, *arguments: object) -> list[str]:
    """The command of a job that runs one of tests/programs."""
    return [sys.executable, str(PROGRAMS / f"{program}.py"), *map(str, arguments)]


@pytest.fixture
def run(storage: FolderStore, drain: Callable[..., None]) -> Callable[..., Job]:
    """Runs one job; returns it with its outcome."""

    def run(command: str | list[str], **fields: Any) -> Job:
        job = storage.submit(Job(command=command, **fields))
        drain()
        return storage.get(job.id)

    return run


# --- The environment of a command -----------------------------------------------------------------


def test_a_shell_line_runs_in_a_shell(storage: FolderStore, run: Callable[..., Job]) -> None:
    job = run("for n in 1 2; do echo $n | sed s/^/n=/; done; echo err >&2")
    assert (job.status, job.exit_code, job.reason) == (Status.SUCCEEDED, 0, None)
    assert load_logs(storage, job.id) == "n=1\nn=2\nerr\n"
    assert job.log_size == 12


def test_a_command_list_runs_without_a_shell(storage: FolderStore, run: Callable[..., Job]) -> None:
    job = run(["printf", "%s|", "$HOME", "*", "a b", "", "'"])
    assert job.status is Status.SUCCEEDED
    assert load_logs(storage, job.id) == "$HOME|*|a b||'|"


def test_a_program_can_be_named_relative_to_its_working_folder(
    storage: FolderStore, run: Callable[..., Job], tmp_path: Path
) -> None:
    script = tmp_path / "bin" / "say it"
    script.parent.mkdir()
    script.write_text("#!/bin/sh\necho from $PWD\n")
    script.chmod(0o755)
    job = run(["./bin/say it"], cwd=str(tmp_path))
    assert load_logs(storage, job.id) == f"from {tmp_path}\n"
    job = run(["say it"], env={"PATH": f"{script.parent}:/usr/bin:/bin"}, cwd=str(tmp_path))
    assert load_logs(storage, job.id) == f"from {tmp_path}\n"


def environment(storage: FolderStore, job: Job) -> dict[str, str]:
    found: dict[str, str] = json.loads(load_logs(storage, job.id))
    return found


PRINT_ENV = python("print_environment")


def test_the_environment_of_a_job(storage: FolderStore, drain: Callable[..., None]) -> None:
    job = storage.submit(Job(command=PRINT_ENV, env={"A": "ö\n", "JOB_ID": "mine"}))
    drain(TAILBOARD_TOKEN="correct-horse-battery", FROM_WORKER="1")
    env = environment(storage, job)
    assert (
        env.items()
        >= {
            "A": "ö\n",
            "FROM_WORKER": "1",
            "PYTHONUNBUFFERED": "1",
            "JOB_ID": job.id,
            "JOB_ATTEMPT": "1",
        }.items()
    )
    assert [name for name in env if name.startswith("TAILBOARD")] == []
    assert "secret" not in env.values()


def test_a_job_can_ask_for_buffered_output(storage: FolderStore, run: Callable[..., Job]) -> None:
    assert environment(storage, run(PRINT_ENV, env={"PYTHONUNBUFFERED": ""})).get(
        "PYTHONUNBUFFERED"
    ) in ("", None)


def test_a_job_has_its_own_session_and_no_file_of_ours(
    storage: FolderStore, run: Callable[..., Job]
) -> None:
    job = run(python("print_session"))
    log = Path(storage.root) / "running" / job.id / "output.log"
    assert load_logs(storage, job.id) == f"'' True True\n{['/dev/null', str(log), str(log)]}\n0\n"


def test_a_job_gets_the_workers_umask_and_signals_unchanged(
    storage: FolderStore, run: Callable[..., Job]
) -> None:
    job = run("umask; cat /proc/self/status")
    umask, _, status = load_logs(storage, job.id).partition("\n")
    masks = dict(line.split() for line in status.splitlines() if line.startswith("Sig"))
    assert umask == subprocess.run("umask", shell=True, capture_output=True, text=True).stdout[:-1]
    assert int(masks["SigBlk:"], 16) == int(masks["SigCgt:"], 16) == 0
    ignored = int(masks["SigIgn:"], 16)
    assert not ignored & sum(1 << n - 1 for n in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP))
    assert not ignored & 1 << signal.SIGPIPE - 1


def test_output_is_in_the_log_while_the_job_runs(
    storage: FolderStore,
    worker: Callable[..., Any],
    started: Callable[..., Job],
    ended: Callable[..., Job],
    gate: Gate,
) -> None:
    worker()
    job = storage.submit(Job(command=python("print_and_wait", gate.path)))
    found = started(job, "no newline")
    assert found.status is Status.RUNNING
    assert found.pid and os.getpgid(found.pid) == found.pid
    assert found.started_at and found.worker and found.host
    gate.open()
    assert ended(job).status is Status.SUCCEEDED


# --- How it ends ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "exit_code", "says"),
    [
        ({"command": ["no-such-program", "x"]}, 127, "no-such-program"),
        ({"command": ["./missing"]}, 127, "missing"),
        ({"command": ["no\0program"]}, None, "null"),
        ({"command": ["/"]}, 126, "/"),
        ({"command": ["/etc/passwd"]}, 126, "/etc/passwd"),
        ({"command": ["exit", "3"]}, 127, "exit"),
        ({"command": "true", "cwd": "/no/such"}, None, "folder /no/such does not exist"),
        ({"command": "true", "cwd": "/etc/passwd"}, None, "folder /etc/passwd cannot be used"),
        ({"command": ["echo", "x" * 200_000]}, None, "too long"),
        ({"command": "echo " + "x" * 200_000}, None, "too long"),
        ({"command": "true", "env": {"A": "\0"}}, None, "null"),
        ({"command": "true", "env": {"A=B": "1"}}, None, "environment"),
        ({"command": "true", "env": {"A": 1}}, None, ""),
        ({"command": "true", "env": {"A": None}}, None, ""),
        ({"command": ["echo", "\ud800"]}, None, ""),
    ],
    ids=lambda value: str(value)[:50],
)
def test_a_command_that_cannot_start_says_so_in_its_log(
    storage: FolderStore,
    run: Callable[..., Job],
    fields: dict[str, Any],
    exit_code: int | None,
    says: str,
) -> None:
    good = storage.submit(Job(command="true"))
    job = run(**fields)
    assert (job.status, job.exit_code) == (Status.FAILED, exit_code)
    text = load_logs(storage, job.id)
    assert text.startswith("tailboard: ") and text.count("\n") == 1
    assert says in text
    if exit_code is None:  # the shell has no exit code to report
        assert text == f"tailboard: {job.reason}\n"
    assert job.finished_at
    assert storage.get(good.id).status is Status.SUCCEEDED


@pytest.mark.parametrize(
    ("command", "exit_code", "reason"),
    [
        ("exit 1", 1, None),
        ("exit 255", 255, None),
        ("no-such-command-in-the-shell", 127, None),
        ("kill -KILL $$", 137, "ended by SIGKILL"),
        ("kill -TERM $$", 143, "ended by SIGTERM"),
        (["sh", "-c", "kill -ABRT $$"], 134, "ended by SIGABRT"),
    ],
)
def test_a_failed_job_has_its_exit_code(
    run: Callable[..., Job], command: str | list[str], exit_code: int, reason: str | None
) -> None:
    job = run(command)
    assert (job.status, job.exit_code, job.reason) == (Status.FAILED, exit_code, reason)


def test_cpu_time_and_peak_memory_are_recorded(run: Callable[..., Job]) -> None:
    job = run(python("use_memory", 100, 0.2))
    assert job.cpu_seconds and 0.2 <= job.cpu_seconds < 5
    assert job.max_rss_bytes and 100 << 20 < job.max_rss_bytes < 300 << 20
    small = run("true")
    assert small.cpu_seconds is not None and small.cpu_seconds < 0.2
    assert small.max_rss_bytes is None or small.max_rss_bytes < 100 << 20


def test_a_background_process_may_outlive_its_job(
    storage: FolderStore, run: Callable[..., Job], gate: Gate, tmp_path: Path
) -> None:
    """As in a shell: only a cancel, a timeout or a loss ends processes that the command left
    behind."""
    job = run(f"({gate.wait}; echo late) & echo $! >{tmp_path}/pids; echo done")
    assert job.status is Status.SUCCEEDED
    (pid,) = pids_in(tmp_path / "pids", 1)
    assert is_alive(pid)
    gate.open()
    wait_until(lambda: load_logs(storage, job.id) == "done\nlate\n")


# --- Cancel and time-out --------------------------------------------------------------------------


def test_a_cancelled_job_gets_sigterm_and_keeps_its_exit_code(
    storage: FolderStore,
    worker: Callable[..., Any],
    started: Callable[..., Job],
    ended: Callable[..., Job],
    gate: Gate,
) -> None:
    worker(grace=10)
    line = f"trap 'echo tidying up; exit 7' TERM; echo started; {gate.wait}"
    job = started(storage.submit(Job(command=line, retries=3)))
    storage.cancel(job.id, "cancelled by ana")
    job = ended(job)
    assert (job.status, job.exit_code) == (Status.CANCELLED, 7)
    assert (job.reason, job.attempt) == ("cancelled by ana", 1)
    assert load_logs(storage, job.id).startswith("started\n")
    assert load_logs(storage, job.id).endswith("tidying up\n")


def test_a_log_contains_only_what_the_job_wrote(
    storage: FolderStore, run: Callable[..., Job]
) -> None:
    """Not "Terminated", which a shell prints when a signal ends the program that it waits for."""
    job = run(["sh", "-c", "echo started; exec sleep 600"], timeout=0.3)
    assert (job.status, job.exit_code) == (Status.TIMED_OUT, 143)
    assert load_logs(storage, job.id) == "started\n"


def test_a_job_that_runs_too_long_is_timed_out(
    run: Callable[..., Job], gate: Gate, storage: FolderStore
) -> None:
    job = run(f"echo started; {gate.wait}", timeout=0.3)
    assert (job.status, job.exit_code) == (Status.TIMED_OUT, 143)
    assert job.reason and "0.3 s" in job.reason
    assert load_logs(storage, job.id).startswith("started\n")


def test_a_stopped_process_is_also_ended(run: Callable[..., Job]) -> None:
    job = run("kill -STOP $$", timeout=0.3)
    assert (job.status, job.exit_code) == (Status.TIMED_OUT, 143)


@pytest.mark.parametrize("how", ["cancel", "timeout"])
def test_a_cancel_or_timeout_ends_everything_that_the_job_started(
    storage: FolderStore,
    worker: Callable[..., Any],
    ended: Callable[..., Job],
    tmp_path: Path,
    how: str,
) -> None:
    """Including children that ignore SIGTERM, that changed their group or session, and a daemon
    that forked twice."""
    unrelated = subprocess.Popen(["sleep", "600"], env=os.environ | {"JOB_ID": "20200101-000000-0"})
    worker()
    command = python("flee", tmp_path / "pids")
    job = storage.submit(Job(command=command, timeout=1 if how == "timeout" else None))
    pids = pids_in(tmp_path / "pids", 5)
    if how == "cancel":
        storage.cancel(job.id, "why")
    job = ended(job)
    status = Status.CANCELLED if how == "cancel" else Status.TIMED_OUT
    assert (job.status, job.exit_code) == (status, 137)
    all_end(*pids)
    assert unrelated.poll() is None
    unrelated.kill()
    unrelated.wait()


def test_no_other_process_is_mistaken_for_one_of_a_job() -> None:
    """Not even processes in group 0, which come from outside a container."""
    nothing = {"JOB_ID": "20200101-000000-00000000", "JOB_STORAGE": "1-1"}
    assert ProcessTable().find(nothing) == set()


@pytest.mark.parametrize("is_adopted", [False, True])
def test_a_cancel_ends_processes_without_a_job_id_in_their_environment(
    storage: FolderStore,
    worker: Callable[..., Any],
    ended: Callable[..., Job],
    tmp_path: Path,
    is_adopted: bool,
) -> None:
    """Such a process is found through its parents, and remembered after SIGTERM has ended them."""
    file = tmp_path / "pids"
    own = f"env -i setsid sh -c 'echo $$ >>{file}; sleep 600; true'"
    stubborn = f"env -i setsid sh -c 'trap \"\" TERM; echo $$ >>{file}; sleep 600; sleep 600'"
    overwritten = shlex.join(python("hide", file))
    first = worker()
    job = storage.submit(Job(command=f"{own} & {stubborn} & {overwritten} & wait"))
    pids = pids_in(file, 3)
    if is_adopted:
        first.kill()
        first.wait()
        worker()
    storage.cancel(job.id, "why")
    assert ended(job).status is Status.CANCELLED
    all_end(*pids)


def test_a_worker_started_by_a_job_survives_its_cancel(
    storage: FolderStore,
    worker: Callable[..., Any],
    started: Callable[..., Job],
    ended: Callable[..., Job],
    tmp_path: Path,
    gate: Gate,
) -> None:
    """With the jobs that it runs, if the worker has left the job's session."""
    worker("--queues", "outer")
    program = shlex.join([sys.executable, str(ROOT / "worker.py"), "--queues", "inner"])
    line = f"setsid {program} --slots 3 & wait"
    outer = storage.submit(Job(command=line, queue="outer", cwd=str(tmp_path)))
    inner = started(storage.submit(Job(command=f"echo started; {gate.wait}", queue="inner")))
    (info,) = [info for info in storage.workers() if info.queues == ["inner"]]
    try:
        assert info.slots == 3
        names = psutil.Process(info.pid).environ().keys()
        assert names.isdisjoint({"JOB_ID", "JOB_ATTEMPT", "JOB_STORAGE", "JOB_FILES"})
        storage.cancel(outer.id, "why")
        assert ended(outer).status is Status.CANCELLED
        gate.open()
        assert ended(inner).status is Status.SUCCEEDED
        shown = ended(storage.submit(Job(command=PRINT_ENV, queue="inner")))
        assert not [name for name in environment(storage, shown) if name.startswith("TAILBOARD_")]
    finally:
        os.kill(info.pid, signal.SIGTERM)
        all_end(info.pid)


def test_a_queued_job_does_not_wake_a_worker_without_a_free_slot(
    storage: FolderStore, gate: Gate
) -> None:
    """It needed most of a processor while a job waited for its slot."""
    info = WorkerInfo("w", socket.gethostname(), os.getpid(), 1, [])
    worker = Worker(storage, Settings(), True, "leave", info)
    if worker.queue_fd is None:
        pytest.skip("without inotify, the queues are polled")

    def is_woken() -> bool:
        worker.pause()
        return worker.queue_fd in [key.fd for key, _ in worker.selector.select(0)]

    storage.submit(Job(command=gate.wait))
    assert is_woken()
    worker.claim()
    waiting = storage.submit(Job(command="true"))
    assert not is_woken()
    gate.open()

    def is_over() -> bool:
        worker.pause()
        worker.supervisor.reap()
        worker.supervisor.supervise_all()
        worker.claim()
        worker.supervisor.record_ends()
        return storage.get(waiting.id).status is Status.SUCCEEDED

    wait_until(is_over)
    storage.submit(Job(command="true"))
    assert is_woken()


def test_jobs_that_are_stopped_together_share_a_scan_of_all_processes(
    storage: FolderStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scans: list[None] = []
    pids = psutil.pids

    def count() -> list[int]:
        scans.append(None)
        return pids()

    monkeypatch.setattr(psutil, "pids", count)
    info = WorkerInfo("w", socket.gethostname(), os.getpid(), 5, [])
    worker = Worker(storage, Settings(), True, "leave", info)
    for _ in range(5):
        storage.submit(Job(command=f"echo $$ >>{tmp_path}/pids; sleep 600 & setsid sleep 600"))
    worker.claim()
    for pid in pids_in(tmp_path / "pids", 5):
        assert is_alive(pid)
    for job_id in worker.supervisor.running:
        storage.cancel(job_id, "why")
    passes = 0

    def is_over() -> bool:
        nonlocal passes
        passes += 1
        worker.supervisor.next_poll = 0.0
        worker.supervisor.reap()
        worker.supervisor.supervise_all()
        worker.supervisor.record_ends()
        return not worker.supervisor.running

    wait_until(is_over, 30)
    assert 1 <= len(scans) <= passes
    assert storage.counts()[Status.CANCELLED] == 5


def test_a_process_that_ignores_sigterm_is_killed_after_the_delay(
    storage: FolderStore, worker: Callable[..., Any], ended: Callable[..., Job], tmp_path: Path
) -> None:
    """The command ends at SIGTERM; processes that it left behind may continue until the delay is
    over."""
    worker(grace=1.5)
    left = f"trap '' TERM; sh -c 'echo $$ >>{tmp_path}/pids; while :; do sleep 1; done'"
    line = f"({left}) & wait"
    job = storage.submit(Job(command=line))
    (pid,) = pids_in(tmp_path / "pids", 1)
    storage.cancel(job.id, "why")
    journal = Path(storage.root) / "running" / job.id / "journal"
    wait_until(lambda: '"exit"' in journal.read_text())
    assert is_alive(pid)
    assert ended(job).exit_code == 143
    all_end(pid)


# --- Retries --------------------------------------------------------------------------------------


def test_a_failed_job_is_retried_as_often_as_configured(
    storage: FolderStore, run: Callable[..., Job]
) -> None:
    job = run('echo "try $JOB_ATTEMPT"; exit $JOB_ATTEMPT', retries=2)
    assert (job.status, job.attempt, job.exit_code) == (Status.FAILED, 3, 3)
    assert load_logs(storage, job.id).splitlines() == [
        "try 1",
        "--- attempt 2 ---",
        "try 2",
        "--- attempt 3 ---",
        "try 3",
    ]


def test_no_retry_follows_a_success(run: Callable[..., Job]) -> None:
    job = run("[ $JOB_ATTEMPT = 2 ]", retries=5)
    assert (job.status, job.attempt, job.exit_code) == (Status.SUCCEEDED, 2, 0)


def test_a_job_that_timed_out_is_retried(run: Callable[..., Job], gate: Gate) -> None:
    job = run(f"[ $JOB_ATTEMPT = 2 ] || {gate.wait}", retries=1, timeout=0.5)
    assert (job.status, job.attempt, job.reason) == (Status.SUCCEEDED, 2, None)


def test_a_command_that_cannot_start_is_not_retried(run: Callable[..., Job]) -> None:
    assert run("true", cwd="/no/such/folder", retries=3).attempt == 1


def test_the_notice_between_attempts_is_a_line_of_its_own(
    storage: FolderStore, run: Callable[..., Job]
) -> None:
    job = run("printf 'no newline'; exit 1", retries=1)
    assert "--- attempt 2 ---" in load_logs(storage, job.id).splitlines()


# --- Which jobs a worker takes --------------------------------------------------------------------


def test_a_draining_worker_exits_when_no_job_is_left(
    storage: FolderStore, drain: Callable[..., None], processes: Processes
) -> None:
    drain()
    jobs = [storage.submit(Job(command="true", queue=q)) for q in ("a", "b", "a")]
    drain("--slots", "2")
    assert {storage.get(job.id).status for job in jobs} == {Status.SUCCEEDED}
    for job in jobs:
        assert job.id in processes.text()
    assert "nothing is queued or running" in processes.text()


def test_a_worker_serves_only_its_queues(storage: FolderStore, drain: Callable[..., None]) -> None:
    jobs = {q: storage.submit(Job(command="true", queue=q)) for q in ("a", "b", "default")}
    drain("--queues", "a, default")
    assert {q: storage.get(job.id).status for q, job in jobs.items()} == {
        "a": Status.SUCCEEDED,
        "b": Status.QUEUED,
        "default": Status.SUCCEEDED,
    }


def test_one_slot_runs_the_jobs_in_order_and_never_two_at_once(
    storage: FolderStore, drain: Callable[..., None], tmp_path: Path
) -> None:
    line = f"mkdir {tmp_path}/busy && echo $JOB_ID >>{tmp_path}/order; rmdir {tmp_path}/busy"
    ids = [storage.submit(Job(command=line, queue=f"q{n % 3}")).id for n in range(30)]
    drain("--slots", "1")
    assert (tmp_path / "order").read_text().split() == ids
    assert storage.counts()[Status.SUCCEEDED] == 30


def test_no_more_jobs_run_at_once_than_there_are_slots(
    storage: FolderStore,
    worker: Callable[..., Any],
    started: Callable[..., Job],
    ended: Callable[..., Job],
    gate: Gate,
) -> None:
    worker("--slots", "3")
    jobs = [storage.submit(Job(command=f"echo started; {gate.wait}")) for _ in range(5)]
    for job in jobs[:3]:
        started(job)
    assert [storage.get(job.id).status for job in jobs[3:]] == [Status.QUEUED] * 2
    (info,) = wait_until(lambda: [w for w in storage.workers() if w.running == 3])
    assert (info.slots, info.queues) == (3, [])
    gate.open()
    for job in jobs:
        assert ended(job).status is Status.SUCCEEDED


def test_a_queued_job_starts_at_once_on_an_idle_worker(
    storage: FolderStore, worker: Callable[..., Any], ended: Callable[..., Job]
) -> None:
    """Long before the next full scan, even in a new queue."""
    worker("--queues", "default,new", scan=600)
    wait_until(storage.workers)
    for queue in ("default", "new", "default"):
        assert ended(storage.submit(Job(command="true", queue=queue))).exit_code == 0


def test_a_job_folder_moved_into_the_queue_by_hand_is_run(
    storage: FolderStore,
    worker: Callable[..., Any],
    ended: Callable[..., Job],
    folder: Path,
    tmp_path: Path,
) -> None:
    worker()
    made = tmp_path / "20200101-000000-00000000"
    made.mkdir()
    (made / "job.json").write_text('{"command": "echo by hand", "version": 2}')
    wait_until(storage.workers)
    made.rename(folder / "queued" / "default" / made.name)
    assert ended(made.name).status is Status.SUCCEEDED
    assert load_logs(storage, made.name) == "by hand\n"


def test_several_workers_on_one_folder_run_each_job_once(
    storage: FolderStore, worker: Callable[..., subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    jobs = [storage.submit(Job(command=f"echo $JOB_ID >>{tmp_path}/tally")) for _ in range(120)]
    workers = [worker("--drain", "--slots", "2") for _ in range(3)]
    for process in workers:
        assert process.wait(60) == 0
    assert sorted((tmp_path / "tally").read_text().split()) == [job.id for job in jobs]
    assert storage.counts()[Status.SUCCEEDED] == 120


# --- How it stops ---------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_stopping_worker_leaves_its_jobs_running(
    storage: FolderStore,
    worker: Callable[..., subprocess.Popen[bytes]],
    processes: Processes,
    started: Callable[..., Job],
    ended: Callable[..., Job],
    gate: Gate,
    number: signal.Signals,
) -> None:
    process = worker("--slots", "1")
    job = started(storage.submit(Job(command=f"echo started; {gate.wait}; exit 3")))
    waiting = storage.submit(Job(command="true"))
    process.send_signal(number)
    assert process.wait(5) == 0
    assert number.name in processes.text().splitlines()[-1]
    assert list(storage.workers()) == []
    assert storage.get(job.id).status is Status.RUNNING
    assert job.pid and is_alive(job.pid)
    assert storage.get(waiting.id).status is Status.QUEUED
    gate.open()
    worker("--drain")
    assert (ended(job).status, ended(job).exit_code) == (Status.FAILED, 3)
    assert ended(waiting).status is Status.SUCCEEDED


def test_on_stop_wait_finishes_running_jobs_and_claims_no_more(
    storage: FolderStore,
    worker: Callable[..., subprocess.Popen[bytes]],
    started: Callable[..., Job],
    gate: Gate,
) -> None:
    process = worker("--slots", "2", "--on-stop", "wait")
    job = started(storage.submit(Job(command=f"echo started; {gate.wait}; exit 3")))
    process.terminate()
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.5)
    waiting = storage.submit(Job(command="true"))
    gate.open()
    assert process.wait(20) == 0
    assert storage.get(job.id).exit_code == 3
    assert storage.get(waiting.id).status is Status.QUEUED


def test_on_stop_kill_cancels_running_jobs(
    storage: FolderStore,
    worker: Callable[..., subprocess.Popen[bytes]],
    started: Callable[..., Job],
    gate: Gate,
) -> None:
    process = worker("--on-stop", "kill")
    line = f"trap '' TERM; echo started; {gate.wait}"
    jobs = [
        started(storage.submit(Job(command=c, retries=1)))
        for c in (line, line[len("trap '' TERM; ") :])
    ]
    process.terminate()
    assert process.wait(20) == 0
    ends = [storage.get(job.id) for job in jobs]
    assert [job.status for job in ends] == [Status.CANCELLED] * 2
    assert [job.exit_code for job in ends] == [137, 143]
    assert [job.reason for job in ends] == ["its worker was stopped"] * 2


@pytest.mark.parametrize("on_stop", ["wait", "kill"])
def test_a_second_signal_makes_the_worker_exit_at_once(
    storage: FolderStore,
    worker: Callable[..., subprocess.Popen[bytes]],
    started: Callable[..., Job],
    gate: Gate,
    on_stop: str,
) -> None:
    process = worker("--on-stop", on_stop, grace=60)
    job = started(storage.submit(Job(command=f"trap '' TERM; echo started; {gate.wait}")))
    process.terminate()
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.6)
    process.terminate()
    assert process.wait(5) == 0
    assert job.pid and is_alive(job.pid)
    assert storage.get(job.id).status is Status.RUNNING


# --- Options and settings -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        ["--slots", "0"],
        ["--slots", "-1"],
        ["--slots", "two"],
        ["--slots", "1.5"],
        ["--slots", "\uff12\u00b2"],
        ["--queues", ""],
        ["--queues", "a,,b"],
        ["--queues", "../x"],
        ["--queues", "A"],
        ["--on-stop", "run"],
        ["--unknown"],
        ["argument"],
    ],
)
def test_an_invalid_option_is_refused_in_one_sentence(
    processes: Processes, options: list[str]
) -> None:
    assert processes.worker(*options).wait(20) in (1, 2)
    lines = processes.text().splitlines()
    assert "Traceback" not in processes.text()
    assert lines[-1].startswith("Error: ")


@pytest.mark.parametrize(
    "setting",
    [
        {"TAILBOARD_STORAGE": "/dev/null/jobs"},
        {"TAILBOARD_STORAGE": "/etc/passwd"},
        {"TAILBOARD_LOG_MAX_BYTES": "1 GB"},
        {"TAILBOARD_WEBHOOK": "foo"},
        {"TAILBOARD_API": "foo"},
        {"TAILBOARD_TOKEN": ""},
        {"TAILBOARD_STORAGE": "redis://127.0.0.1:9/0", "TAILBOARD_SPOOL": "/etc/passwd"},
    ],
    ids=str,
)
def test_an_invalid_setting_is_refused_in_one_sentence(
    processes: Processes, setting: dict[str, str]
) -> None:
    assert processes.worker(**setting).wait(20) == 1
    line = processes.text().splitlines()[-1]
    assert "Traceback" not in processes.text()
    assert line.startswith("Error: TAILBOARD_") and "Errno" not in line


NUMBER = "must be a whole number of"


@pytest.mark.parametrize(
    ("name", "value", "reported"),
    [
        ("KEEP_DAYS", "-1", f"{NUMBER} days from 0 to 36,500, not '-1'"),
        ("KEEP_DAYS", "1.5", f"{NUMBER} days from 0 to 36,500, not '1.5'"),
        ("KEEP_DAYS", "36501", f"{NUMBER} days from 0 to 36,500, not '36501'"),
        ("KEEP_BYTES", "10G", f"{NUMBER} bytes, without a unit, of 0 or more, not '10G'"),
        ("KEEP_BYTES", "10", "must be 0 or at least 65,536 bytes, not '10'"),
        ("KEEP_BYTES", "\uff11\uff12", f"{NUMBER} bytes, without a unit, of 0 or more, not"),
        ("LOG_MAX_BYTES", "1", f"{NUMBER} bytes, without a unit, of 65,536 or more, not '1'"),
        ("LOG_MAX_BYTES", "9" * 999, f"{NUMBER} bytes, without a unit, of 65,536 or more, not"),
        ("FOLLOWERS", "0", f"{NUMBER} followers from 1 to 10,000, not '0'"),
        ("FOLLOWERS", "+5", f"{NUMBER} followers from 1 to 10,000, not '[+]5'"),
        ("UNREACHABLE", "0", f"{NUMBER} seconds from 1 to 31,622,400, not '0'"),
        ("LOST_AFTER", "30s", f"{NUMBER} seconds from 1 to 31,622,400, not '30s'"),
        ("LOST_AFTER", "9" * 18, f"{NUMBER} seconds from 1 to 31,622,400, not"),
        ("TOKEN", "", "must not be empty"),
        ("TOKENS", "", "must not be empty"),
        ("TOKEN", " ", "must not begin or end with white space"),
        ("TOKEN", "correct-horse-battery-staple\n", "must not begin or end with white space"),
        ("TOKEN", "correct horse battery staple", "must consist of ASCII letters"),
        ("TOKEN", "p\u00e4ssword-p\u00e4ssword", "must consist of ASCII letters"),
        ("TOKEN", "fifteen-letters", "must have at least 16 characters"),
        ("STORAGE", "jobs ", "must not begin or end with white space"),
        ("SPOOL", "redis://localhost/0", "must be a folder on this machine, not a URL"),
        ("WEBHOOK", "foo", "this one does not begin with http:// or https://"),
        ("WEBHOOK", "ftp://host/path", "this one does not begin with http:// or https://"),
        ("WEBHOOK", "https://", "this one has a wrong host or port"),
        ("WEBHOOK", "https://host:99999/", "this one has a wrong host or port"),
        ("WEBHOOK", "https://[::1/", "this one has a wrong host or port"),
        ("WEBHOOK", "https://a b/", "this one has a space in it"),
        ("WEBHOOK_ON", "failed,ended", "must be one or more of succeeded, .*, lost, not 'ended'"),
        ("WEBHOOK_ON", "failed,", "must be one or more of succeeded, .*, lost, not ''"),
        (
            "DASHBOARD",
            "foo",
            "must be comma-separated origins as browsers send them, .*, not 'foo'",
        ),
        ("DASHBOARD", "https://a.example/page", "not 'https://a.example/page'"),
        ("DASHBOARD", "https://a.example,*", "not '[*]'"),
        ("DASHBOARD", "https://A.example", "not 'https://A.example'"),
        ("DASHBOARD", "https://a.example:443", "not 'https://a.example:443'"),
        ("DASHBOARD", "http://localhost:8501,", "not ''"),
        ("API", "127.0.0.1:5000", "must be a URL like http://127.0.0.1:5000, not"),
        ("JOB_ENV", "DB_HOST,", "must be names of environment variables, separated by commas"),
        ("JOB_ENV", "DB_PASSWORD=hunter2", "must be names of environment variables, separated by"),
        ("PUBLIC_API", "https://a@b", "must be a URL like http://127.0.0.1:5000, not"),
    ],
    ids=lambda value: value[:30],
)
def test_an_error_in_a_setting_names_what_is_allowed(name: str, value: str, reported: str) -> None:
    with pytest.raises(ValueError, match=f"^TAILBOARD_{name} .*{reported}") as error:
        Settings.read({f"TAILBOARD_{name}": value})
    assert len(str(error.value)) < 250
    if name in ("TOKEN", "WEBHOOK", "JOB_ENV") and len(value) > 9:
        assert value not in str(error.value), "it may be a secret"


def test_valid_settings_are_read() -> None:
    env = {
        "TAILBOARD_KEEP_DAYS": "007",
        "TAILBOARD_KEEP_BYTES": "0",
        "TAILBOARD_STORAGE": "",
        "TAILBOARD_WEBHOOK": "HTTPS://user:pw@hooks.example.org:8443/a?b=c",
        "TAILBOARD_WEBHOOK_ON": "failed, lost",
        "TAILBOARD_DASHBOARD": "https://a.example/, http://[::1]:8501",
        "TAILBOARD_JOB_ENV": "DB_HOST, _x",
    }
    found = Settings.read(env)
    assert found == Settings(
        keep_days=7,
        webhook=env["TAILBOARD_WEBHOOK"],
        webhook_on="failed,lost",
        dashboard="https://a.example,http://[::1]:8501",
        job_env="DB_HOST,_x",
    )
    assert (
        Settings.read({f"TAILBOARD_{name.upper()}": "" for name in ("bind", "api")}) == Settings()
    )


def test_a_misspelt_setting_is_an_error() -> None:
    for name, meant in (
        ("STORAG", "STORAGE"),
        ("FOLOWERS", "FOLLOWERS"),
        ("KEEPDAYS", "KEEP_DAYS"),
        ("token", "TOKEN"),
    ):
        with pytest.raises(ValueError, match=f"TAILBOARD_{name}; did you mean TAILBOARD_{meant}"):
            Settings.read({f"TAILBOARD_{name}": ""})
    theirs = {"TAILBOARD_HOME": "/srv", "TAILBOARD_VERSION": "3", "TAILBOARD_": "", "HOME": "/"}
    assert Settings.read(theirs | {"TAILBOARD_STORAGE": "x"}) == Settings(storage="x")
    assert foreign_settings(theirs) == ["TAILBOARD_", "TAILBOARD_HOME", "TAILBOARD_VERSION"]


def test_a_machine_is_not_lost_before_it_is_unreachable() -> None:
    with pytest.raises(
        ValueError, match=r"LOST_AFTER must be at least .*UNREACHABLE \(30\), not 1"
    ):
        Settings.read({"TAILBOARD_LOST_AFTER": "1"})
    same = {"TAILBOARD_LOST_AFTER": "2", "TAILBOARD_UNREACHABLE": "2"}
    assert Settings.read(same).lost_after == 2


def test_another_programs_variable_only_causes_a_warning(
    storage: FolderStore, processes: Processes
) -> None:
    assert processes.worker("--drain", TAILBOARD_HOME="/srv").wait(20) == 0
    url = processes.api(TAILBOARD_HOME="/srv")
    assert requests.get(f"{url}/healthz", timeout=20).status_code == 200
    said = [line for line in processes.text().splitlines() if "TAILBOARD_HOME" in line]
    assert len(said) == 2 and all("WARNING" in line for line in said), processes.text()


# --- What must not stop a worker ------------------------------------------------------------------


@pytest.fixture
def nasty(folder: Path, tmp_path: Path) -> Callable[..., list[str]]:
    """Malformed job folders in the given folder; returns their IDs."""

    def nasty(home: Path) -> list[str]:
        record = {"command": "true", "version": 2}
        records: dict[str, object] = {
            "lists": record | {"worker": [], "host": {}, "name": [1], "reason": {}, "env": {}},
            "zero": record | {"attempt": 0, "retries": -1, "timeout": 0},
            "huge": record | {"timeout": 10**400, "retries": 10**400, "attempt": 10**400},
            "empty": record | {"command": []},
            "words": record | {"command": ["\ud800", ""]},
            "times": record | {"started_at": "zz", "started_monotonic": -1e300, "finished_at": 7},
            "strange": record | {"id": "../../x", "status": 1, "queue": "else", "extra": []},
        }
        ids = []
        for n, content in enumerate(records.values()):
            place = home / f"20200101-000000-{n:08}"
            place.mkdir()
            (place / "job.json").write_text(json.dumps(content))
            ids.append(place.name)
        for n, name in enumerate(("journal", "times", "output.log", "cancel")):
            for kind in ("directory", "symlink"):
                place = home / f"20200102-000000-{n}{kind[:7]}"
                place.mkdir()
                (place / "job.json").write_text(json.dumps(record))
                if kind == "directory":
                    (place / name / "x").mkdir(parents=True)
                else:
                    (place / name).symlink_to(tmp_path / "nowhere")
                ids.append(place.name)
        return ids

    return nasty


@pytest.mark.parametrize("home", ["queued/default", "running"])
def test_invalid_job_folders_do_not_block_others(
    storage: FolderStore,
    worker: Callable[..., subprocess.Popen[bytes]],
    ended: Callable[..., Job],
    folder: Path,
    nasty: Callable[..., list[str]],
    home: str,
) -> None:
    bad = nasty(folder / home)
    jobs = [storage.submit(Job(command="true")) for _ in range(5)]
    process = worker("--slots", "3")
    for job in jobs:
        assert ended(job, 20).status is Status.SUCCEEDED
    assert process.poll() is None
    for job_id in bad:
        json.dumps(storage.get(job_id).as_dict())
    process.terminate()
    assert process.wait(5) == 0


def test_the_folder_of_a_running_job_may_vanish(
    storage: FolderStore,
    worker: Callable[..., subprocess.Popen[bytes]],
    started: Callable[..., Job],
    ended: Callable[..., Job],
    folder: Path,
    tmp_path: Path,
    gate: Gate,
) -> None:
    process = worker("--slots", "1")
    job = started(storage.submit(Job(command=f"echo started; {gate.wait}")))
    (folder / "running" / job.id).rename(tmp_path / "gone")
    gate.open()
    assert ended(storage.submit(Job(command="true"))).exit_code == 0
    assert process.poll() is None


def test_the_whole_jobs_folder_may_vanish_and_return(
    storage: FolderStore,
    worker: Callable[..., subprocess.Popen[bytes]],
    processes: Processes,
    ended: Callable[..., Job],
    folder: Path,
    tmp_path: Path,
) -> None:
    process = worker()
    ended(storage.submit(Job(command="true")))
    folder.rename(tmp_path / "gone")
    wait_until((folder / "queued").is_dir, describe=processes.text)
    again = FolderStore(folder)
    job = again.submit(Job(command="true"))
    wait_until(lambda: again.get(job.id).status is Status.SUCCEEDED, describe=processes.text)
    assert process.poll() is None
    assert len(wait_until(again.workers)) == 1


def test_jobs_claimed_on_another_host_are_left_alone(
    storage: FolderStore,
    worker: Callable[..., subprocess.Popen[bytes]],
    started: Callable[..., Job],
    drain: Callable[..., None],
    processes: Processes,
    folder: Path,
    gate: Gate,
) -> None:
    """They are not ended, adopted or queued again, whether or not their lock is held here."""
    process = worker("--slots", "2")
    jobs = [started(storage.submit(Job(command=f"echo started; {gate.wait}"))) for _ in range(2)]
    process.kill()
    process.wait()
    for job in jobs:
        journal = folder / "running" / job.id / "journal"
        here = json.dumps(job.host)
        journal.write_text(journal.read_text().replace(f'"host": {here}', '"host": "another"'))
        storage.cancel(job.id, "why")
    assert jobs[1].pid
    os.killpg(jobs[1].pid, signal.SIGKILL)
    wait_until(lambda: not is_alive(jobs[1].pid or 0))
    drain()
    assert [storage.get(job.id).status for job in jobs] == [Status.RUNNING] * 2
    assert jobs[0].pid and is_alive(jobs[0].pid)
    lines = [line for line in processes.text().splitlines() if "claimed" not in line]
    assert not [line for line in lines if jobs[0].id in line or jobs[1].id in line]


def test_workers_that_exit_leave_no_files_behind(
    storage: FolderStore, drain: Callable[..., None], folder: Path
) -> None:
    for _ in range(3):
        drain()
    assert len(list((folder / "workers").iterdir())) <= 1
    assert list(storage.workers()) == []


def test_the_peak_memory_of_the_workers_parent_is_not_counted(
    storage: FolderStore, processes: Processes, ended: Callable[..., Job]
) -> None:
    """For getrusage(2), a process begins with the peak of the process that started it."""
    processes.start(*python("swollen_worker"))
    job = ended(storage.submit(Job(command=python("use_memory", 100, 0))), 30)
    assert job.max_rss_bytes and 100 << 20 < job.max_rss_bytes < 190 << 20


def test_a_claim_that_fails_on_the_disk_runs_nothing(
    storage: FolderStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = storage.submit(Job(command=["touch", str(tmp_path / "ran")]))
    info = WorkerInfo("w", socket.gethostname(), os.getpid(), 1, [])
    claim = storage.claim("w", info.host)
    assert claim
    fsync, refused = os.fsync, []

    def refuse_once(fd: int) -> None:
        if refused:
            fsync(fd)
            return
        refused.append(fd)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", refuse_once)
    with pytest.raises(OSError, match="No space"):
        Worker(storage, Settings(), True, "leave", info).start(claim)
    found = storage.get(job.id)
    assert (found.status, found.attempts_as_dicts()) == (Status.QUEUED, [])
    assert not (tmp_path / "ran").exists()


def test_a_shim_killed_before_its_job_started_costs_no_attempt(
    storage: FolderStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = storage.submit(Job(command=["touch", str(tmp_path / "ran")]))
    info = WorkerInfo("w", socket.gethostname(), os.getpid(), 1, [])
    worker = Worker(storage, Settings(), True, "leave", info)
    start_shim, fsync = shim.start_shim, os.fsync
    shims: list[subprocess.Popen[bytes]] = []

    def start(*arguments: Any) -> subprocess.Popen[bytes]:
        shims.append(start_shim(*arguments))
        return shims[-1]

    def kill_first(fd: int) -> None:
        """The shim ends while its claim is being written to the disk."""
        if shims and is_alive(shims[0].pid):
            shims[0].kill()
            all_end(shims[0].pid)
        fsync(fd)

    monkeypatch.setattr(shim, "start_shim", start)
    monkeypatch.setattr(os, "fsync", kill_first)
    claim = storage.claim("w", info.host)
    assert claim
    worker.start(claim)

    def is_over() -> bool:
        worker.supervisor.reap()
        worker.supervisor.supervise_all()
        worker.supervisor.record_ends()
        return not worker.supervisor.running

    wait_until(is_over, 30)
    found = storage.get(job.id)
    assert (found.status, found.attempts_as_dicts()) == (Status.QUEUED, [])
    assert not (tmp_path / "ran").exists()


def broken_shell(tmp_path: Path) -> str:
    """A shell that exits at once if the folder `broken` has a file with the job's ID."""
    script = tmp_path / "sh"
    broken = tmp_path / "broken"
    broken.mkdir()
    script.write_text(
        f"#!/bin/sh\nif [ -e {broken}/$JOB_ID ]; then echo no libc; exit 127; fi >&2\n"
        'exec /bin/sh "$@"\n'
    )
    script.chmod(0o755)
    return str(script)


def test_a_job_whose_shim_ends_before_its_command_fails_after_three_tries(
    storage: FolderStore,
    worker: Callable[..., subprocess.Popen[bytes]],
    ended: Callable[..., Job],
    tmp_path: Path,
    folder: Path,
) -> None:
    """It is not retried. During the growing pauses between tries, the only slot runs other jobs."""
    shell = broken_shell(tmp_path)
    job = storage.submit(Job(command="echo ran", retries=5))
    (tmp_path / "broken" / job.id).touch()
    others = [storage.submit(Job(command="true")) for _ in range(3)]
    worker("--slots", "1", TEST_SHELL=shell)
    for other in others:
        assert ended(other).status is Status.SUCCEEDED
    assert storage.get(job.id).status is Status.QUEUED
    assert storage.get(job.id).retried_at, "when its next try is due"
    found = ended(job)
    assert (found.status, found.exit_code, found.attempt) == (Status.FAILED, None, 1)
    assert found.reason == "cannot start: /bin/sh ended 3 times before it started the command"
    assert found.hint == "no libc"
    notice = f"tailboard: {found.reason}\n"
    assert load_logs(storage, job.id) == "no libc\n" * 3 + notice
    assert len(found.attempts_as_dicts()) == 1, "the other claims were no attempts"
    starts = [parse_time(attempt.started_at or "") for attempt in found.attempts]
    first, second = (later - earlier for earlier, later in itertools.pairwise(starts))
    assert len(starts) == 3 and second > first


def test_attempts_to_start_a_shim_are_counted_across_workers(
    storage: FolderStore,
    worker: Callable[..., subprocess.Popen[bytes]],
    ended: Callable[..., Job],
    tmp_path: Path,
    folder: Path,
) -> None:
    """A claim whose worker died before it started the shim does not count."""
    shell = broken_shell(tmp_path)
    job = storage.submit(Job(command="echo ran"))
    (tmp_path / "broken" / job.id).touch()
    for _ in range(2):
        died = storage.claim("dead", socket.gethostname())
        assert died
        died.release()  # its worker is killed before it opens the gate
        (orphan,) = storage.orphans(socket.gethostname(), ())
        with orphan:
            assert orphan.acquire_lock()
            orphan.requeue(orphan.read_verdict().outcome)
    first = worker(TEST_SHELL=shell)
    journal = folder / "queued" / "default" / job.id / "journal"
    wait_until(lambda: journal.exists() and "failed_starts" in journal.read_text())
    first.kill()
    first.wait()
    worker(TEST_SHELL=shell)
    found = ended(job)
    assert (found.status, found.attempt) == (Status.FAILED, 1)
    counts = [attempt.ended.failed_starts for attempt in found.attempts if attempt.ended]
    assert [count for count in counts if count] == [1, 2]
