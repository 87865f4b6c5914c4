"""What keeps Tailboard running unattended: retention, health, metrics and the webhook."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import requests
from conftest import Processes, SmallDisk, need, wait_until

from api import create_app
from storage import load_logs
from tailboard.audit import Action, Actor, new_entry
from tailboard.folder.folder_store import FolderStore
from tailboard.folder.retention import CLOCK_TOLERANCE, CLOCK_TRIAL, Retention
from tailboard.job import Job
from tailboard.journal import Outcome
from tailboard.notices import NoticeRecord
from tailboard.run.webhook import post
from tailboard.status import Status
from tailboard.values import utc
from tailboard.workers import WorkerInfo

DAY = 86_400


def finished(storage: FolderStore, days_ago: float, size: int = 0) -> Job:
    """A job that succeeded some days ago, submitted a day before, with a log of `size` bytes."""
    storage.submit(Job(command="true"))
    held = storage.claim("w", "h")
    assert held
    with held:
        with held.open_log_for_append() as log:
            log.write(b"x" * size)
        held.finish(Outcome(Status.SUCCEEDED, 0))
    then = time.time() - days_ago * DAY
    os.utime(f"{held.folder}/journal", (then, then))
    day = time.strftime("%Y%m%d", time.gmtime(then - DAY))
    home = Path(storage.root) / "succeeded" / day
    home.mkdir(exist_ok=True)
    old = day + held.job.id[8:]
    Path(held.folder).rename(home / old)
    return storage.get(old)


def prune(storage: FolderStore, days: int, size: int = 0) -> None:
    for _ in storage.prune(days, size):
        pass


@pytest.fixture
def storage(storage: FolderStore) -> FolderStore:
    """A folder whose retention trusts the clock."""
    trust_clock(storage)
    return storage


def trust_clock(storage: FolderStore) -> None:
    """Sets the state after an hour in which no clock jumped."""
    now = time.monotonic()
    ledger = Retention(storage.boot, time.time() - now, now - CLOCK_TRIAL, now)
    with open(f"{storage.root}/retention", "wb") as file:
        ledger.write(file.fileno())


def read_ledger(storage: FolderStore) -> dict[str, Any]:
    return dict(json.loads(Path(storage.root, "retention").read_text()))


def move_clock(storage: FolderStore, seconds: float) -> None:
    """Changes the notes of retention as if the clock had shown another time before."""
    path = Path(storage.root, "retention")
    ledger = read_ledger(storage)
    path.write_text(json.dumps(ledger | {"offset": ledger["offset"] - seconds}))


@pytest.mark.parametrize("jump", [40 * DAY, -40 * DAY])
def test_after_the_clock_jumped_age_deletes_nothing_for_an_hour(
    storage: FolderStore, jump: float, caplog: pytest.LogCaptureFixture
) -> None:
    old = finished(storage, 3.5)
    move_clock(storage, jump)
    for _ in range(2):
        prune(storage, 3)
    assert all_ids(storage) == {old.id}
    assert [r.message for r in caplog.records if "clock" in r.message] == [
        f"clock moved_by={jump:.0f}s: nothing is deleted by age for an hour"
    ]
    since = read_ledger(storage)
    trust_clock(storage)
    assert since["agreed_since"] > read_ledger(storage)["agreed_since"]
    prune(storage, 3)
    assert not all_ids(storage)


def test_a_small_correction_of_the_clock_is_accepted(storage: FolderStore) -> None:
    finished(storage, 3.5)
    move_clock(storage, CLOCK_TOLERANCE / 2)
    prune(storage, 3)
    assert not all_ids(storage)


def test_a_new_folder_deletes_nothing_by_age_for_an_hour(storage: FolderStore) -> None:
    old = finished(storage, 3.5)
    Path(storage.root, "retention").unlink()
    prune(storage, 3)
    assert all_ids(storage) == {old.id}


@pytest.mark.parametrize("content", [b"", b"{}", b"[" * 9_999, b'{"boot": 1e999}', b"\xff\0"])
def test_a_damaged_retention_file_deletes_nothing(storage: FolderStore, content: bytes) -> None:
    old = finished(storage, 3.5)
    Path(storage.root, "retention").write_bytes(content)
    prune(storage, 3)
    assert all_ids(storage) == {old.id}
    assert read_ledger(storage)["boot"] == storage.boot


def test_a_retention_file_of_a_later_version_is_accepted(storage: FolderStore) -> None:
    finished(storage, 3.5)
    path = Path(storage.root, "retention")
    path.write_text(json.dumps(read_ledger(storage) | {"field_of_the_future": 1}))
    prune(storage, 3)
    assert not all_ids(storage)


def test_deletion_by_age_stays_within_its_hourly_limit(
    storage: FolderStore, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tailboard.folder.retention.DELETED_AN_HOUR", 3)
    caplog.set_level("INFO")
    for _ in range(5):
        finished(storage, 9, 100_000)
    for _ in range(2):
        prune(storage, 3)
    assert len(all_ids(storage)) == 2
    deleted = [r.message for r in caplog.records if r.message.startswith("deleted job=")]
    assert len(deleted) == 3 and all("it ended before" in line for line in deleted)
    prune(storage, 3, 150_000)  # deletion by bytes is not limited
    assert len(all_ids(storage)) == 1
    ledger = read_ledger(storage) | {"hour_began": time.monotonic() - CLOCK_TRIAL}
    Path(storage.root, "retention").write_text(json.dumps(ledger))
    prune(storage, 3)
    assert not all_ids(storage)


def all_ids(storage: FolderStore) -> set[str]:
    return set(storage.find("2"))


def test_jobs_are_deleted_the_configured_days_after_their_end(storage: FolderStore) -> None:
    old, young = finished(storage, 3.5), finished(storage, 2.5)
    waiting = storage.submit(Job(command="true"))
    prune(storage, 3)
    assert all_ids(storage) == {young.id, waiting.id}
    assert not os.path.exists(f"{storage.root}/succeeded/{old.id[:8]}")
    prune(storage, 0)
    assert all_ids(storage) == {young.id, waiting.id}


def test_a_job_whose_log_is_being_read_is_kept(storage: FolderStore) -> None:
    job = finished(storage, 9, 10)
    with storage.open_log(job.id):
        prune(storage, 1)
        assert all_ids(storage) == {job.id}
    prune(storage, 1)
    assert not all_ids(storage)


def test_the_age_of_a_long_job_counts_from_its_end(storage: FolderStore) -> None:
    job = finished(storage, 40)
    os.utime(f"{storage.root}/succeeded/{job.id[:8]}/{job.id}/journal")
    prune(storage, 30)
    assert all_ids(storage) == {job.id}


def test_incomplete_jobs_and_old_keys_are_removed(storage: FolderStore) -> None:
    root = Path(storage.root)
    storage.submit(Job(command="true"), key="k")
    (root / "tmp" / "half").mkdir()
    (root / "tmp" / "new").mkdir()
    os.utime(root / "tmp" / "half", (0, 0))
    prune(storage, 1)
    assert [path.name for path in (root / "tmp").iterdir()] == ["new"]
    assert len(list((root / "keys").iterdir())) == 1
    os.utime(next((root / "keys").iterdir()), (0, 0))
    prune(storage, 1)
    assert not list((root / "keys").iterdir())


def test_the_records_of_notices_are_removed_with_their_jobs(storage: FolderStore) -> None:
    """One of a job that was deleted while it was written, too."""
    old, young = finished(storage, 40), finished(storage, 1)
    orphan = Job(id=old.id[:-1] + "x", command="true")
    for job in (old, young, orphan):
        storage.notices.save(NoticeRecord(job=job.id))
    records = Path(storage.root) / "notices" / "records"
    os.utime(records / orphan.id, (0, 0))
    prune(storage, 30)
    assert os.listdir(records) == [young.id]


def test_one_large_log_is_trimmed_before_other_jobs_are_deleted(
    storage: FolderStore, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    small = [finished(storage, 2, 5_000) for _ in range(10)]
    large = finished(storage, 0, 1_500_000)
    path = Path(storage.root, "succeeded", large.id[:8], large.id, "output.log")
    before = path.stat().st_mtime_ns
    with storage.open_log(large.id):
        prune(storage, 0, 1_600_000)  # that is enough for all
    assert storage.get(large.id).log_start == 0
    prune(storage, 0, 1_000_000)
    assert all_ids(storage) == {job.id for job in (*small, large)}
    found = storage.get(large.id)
    assert found.log_size == 1_500_000 and found.log_start > 1_300_000
    assert path.stat().st_mtime_ns == before, "its last lines would have another time"
    assert load_logs(storage, large.id) == "x" * (found.log_size - found.log_start)
    (line,) = [r.getMessage() for r in caplog.records if r.getMessage().startswith("retention ")]
    assert line.startswith(
        "retention deleted_by_age=0 deleted_by_runs=0 deleted_by_bytes=0 deleted_bytes=0 "
        "trimmed_logs=1 "
    )


def test_blocks_past_the_end_of_a_log_count_and_are_freed(storage: FolderStore) -> None:
    others = [finished(storage, 2, 5_000) for _ in range(3)]
    empty = finished(storage, 0, 10)
    path = Path(storage.root, "succeeded", empty.id[:8], empty.id, "output.log")
    subprocess.run([need("fallocate"), "-n", "-l", "20M", path], check=True)
    assert path.stat().st_blocks * 512 >= 20 << 20
    prune(storage, 0, 1_000_000)
    assert all_ids(storage) == {job.id for job in (*others, empty)}
    assert path.stat().st_blocks * 512 < 100_000 and path.read_bytes() == b"x" * 10


def test_a_log_that_is_being_read_is_not_trimmed(storage: FolderStore) -> None:
    large = finished(storage, 0, 1_500_000)
    with storage.open_log(large.id):
        prune(storage, 0, 1_000_000)
        assert storage.get(large.id).log_start == 0
    prune(storage, 0, 1_000_000)
    assert storage.get(large.id).log_start > 0


def test_a_jobs_folder_may_have_any_name(tmp_path: Path, processes: Processes) -> None:
    """Even one that glob() would use as a pattern."""
    storage = FolderStore(tmp_path / "jobs[a]*?")
    env = {"TAILBOARD_STORAGE": storage.root}
    url = processes.api(**env)
    first = processes.worker(**env)
    wait_until(lambda: requests.get(f"{url}/healthz").json()["workers"] == 1)
    first.kill()
    first.wait()
    assert requests.get(f"{url}/healthz").json()["workers"] == 0
    processes.worker("--drain", **env).wait(60)
    assert len(list((Path(storage.root) / "workers").iterdir())) == 1  # the first one's was deleted
    half = Path(storage.root, "tmp", "half")
    half.mkdir()
    os.utime(half, (0, 0))
    trust_clock(storage)
    prune(storage, 1)
    assert not half.exists()


@pytest.fixture
def make_deep(tmp_path: Path) -> Iterator[Callable[[Path], None]]:
    """Creates nested folders whose path is too long for any system call."""
    yield make_deep_folders
    # pytest removes old folders by recursion, and would end with an error for these.
    subprocess.run(["rm", "-rf", tmp_path / "jobs"], check=True)


def make_deep_folders(folder: Path, depth: int = 1_200) -> None:
    fd = os.open(folder, os.O_RDONLY)
    for number in range(depth):
        os.close(os.open(f"file{number}", os.O_WRONLY | os.O_CREAT, dir_fd=fd))
        os.mkdir("nested", 0o700 if number % 2 else 0o500, dir_fd=fd)
        below = os.open("nested", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(fd)


def test_a_job_with_deeply_nested_folders_is_deleted_whole(
    storage: FolderStore,
    processes: Processes,
    make_deep: Callable[[Path], None],
    tmp_path: Path,
) -> None:
    url = processes.api()
    job = finished(storage, 0, 10)
    folder = Path(storage.root, "succeeded", job.id[:8], job.id)
    make_deep(folder)
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "file").touch()
    (folder / "link").symlink_to(tmp_path / "outside")
    (folder / "nested" / "link").symlink_to(tmp_path / "outside" / "file")
    os.mkfifo(folder / "nested" / "fifo")
    answer = requests.delete(f"{url}/jobs/{job.id}", timeout=60)
    assert (answer.status_code, answer.text) == (204, "")
    assert requests.get(f"{url}/jobs/{job.id}").status_code == 404
    assert list(Path(storage.root, "tmp").iterdir()) == []
    assert (tmp_path / "outside" / "file").exists()
    assert metric(url, 'tailboard_jobs_ended_total{status="succeeded"}') == 1


def test_leftovers_of_a_delete_are_removed_later(
    storage: FolderStore, make_deep: Callable[[Path], None]
) -> None:
    grave = Path(storage.root, "tmp", "x.deleted")
    grave.mkdir()
    make_deep(grave)
    os.utime(grave, (0, 0))
    prune(storage, 1)
    assert not grave.exists()


def test_the_worker_prunes_while_it_runs(
    storage: FolderStore, processes: Processes, worker: Callable[..., object]
) -> None:
    finished(storage, 3)
    for at in (utc(time.time() - 3 * DAY), utc()):
        entry = new_entry(Action.CANCEL, Actor("anna", "named", None), {})
        storage.audit.append(entry | {"at": at})
    worker(TAILBOARD_KEEP_DAYS="1", TAILBOARD_AUDIT_DAYS="1")
    wait_until(lambda: not all_ids(storage), describe=processes.text)
    audit = Path(storage.root, "audit")
    wait_until(lambda: len(list(audit.iterdir())) == 1, describe=processes.text)


def test_an_old_job_whose_log_is_not_a_file_does_not_hang_a_worker(
    storage: FolderStore,
    processes: Processes,
    worker: Callable[..., object],
    ended: Callable[..., Job],
    tmp_path: Path,
) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    kinds: list[Callable[[Path], object]] = [
        os.mkfifo,
        Path.mkdir,
        lambda log: log.symlink_to(fifo),
        lambda log: None,
    ]
    for put_in_place in kinds:
        job = finished(storage, 3, 1)
        log = Path(storage.root, "succeeded", job.id[:8], job.id, "output.log")
        log.unlink()
        put_in_place(log)
    worker(TAILBOARD_KEEP_DAYS="1")
    wait_until(lambda: not all_ids(storage), describe=processes.text)
    assert fifo.exists()
    assert ended(storage.submit(Job(command="true"))).status is Status.SUCCEEDED


def test_health_reports_jobs_that_no_worker_serves(
    storage: FolderStore, processes: Processes, ended: Callable[..., Job]
) -> None:
    url = processes.api()
    well = requests.get(f"{url}/healthz")
    assert well.status_code == 200 and well.json()["status"] == "ok"
    job = storage.submit(Job(command="true", queue="gpu"))
    processes.worker("--queues", "default")
    wait_until(lambda: requests.get(f"{url}/healthz").json()["workers"] == 1)
    unwell = requests.get(f"{url}/healthz")
    assert unwell.status_code == 503 and "gpu" in unwell.json()["reason"]
    assert unwell.json()["oldest_queued_seconds"] >= 0
    processes.worker("--queues", "gpu", "--drain")
    ended(job)
    assert requests.get(f"{url}/healthz").status_code == 200


def test_health_reports_a_worker_that_is_alive_but_does_not_respond(
    processes: Processes, worker: Callable[..., subprocess.Popen[bytes]]
) -> None:
    url = processes.api("tailboard.workers.UNRESPONSIVE_AFTER=5")
    process = worker()  # with a heartbeat every 0.5 s
    wait_until(lambda: requests.get(f"{url}/healthz").json()["workers"] == 1)
    assert requests.get(f"{url}/healthz").status_code == 200
    process.send_signal(signal.SIGSTOP)
    try:
        wait_until(lambda: requests.get(f"{url}/healthz").status_code == 503)
        reported = requests.get(f"{url}/healthz").json()
        assert reported["reason"] == "workers that have not responded for 5 s: 1 of 1"
        assert [w["responds"] for w in requests.get(f"{url}/workers").json()["workers"]] == [False]
    finally:
        process.send_signal(signal.SIGCONT)
    wait_until(lambda: requests.get(f"{url}/healthz").status_code == 200)


@pytest.mark.parametrize(
    ("change", "responds"),
    [
        ({}, True),
        ({"seen_at": "2020-01-01T00:00:00.000Z"}, True),  # the wall clock was set
        ({"heartbeat": {"boot": "another", "monotonic": -1e9}}, True),
        ({"heartbeat": {"monotonic": -1e9}}, False),
        ({"heartbeat": None}, True),  # of an earlier version
    ],
)
def test_whether_a_worker_responds_depends_only_on_the_monotonic_clock(
    storage: FolderStore, change: dict[str, Any], responds: bool
) -> None:
    storage.heartbeat(WorkerInfo("w", "host", 1, 2, []), 0)
    path = Path(storage.root, "workers", "w.json")
    record = json.loads(path.read_text())
    if change.get("heartbeat"):
        change = {"heartbeat": {"boot": storage.boot} | change["heartbeat"]}
    path.write_text(json.dumps(record | change))
    assert [info.responds for info in storage.workers()] == [responds]
    reported = (
        create_app({"STORAGE": storage.root}).test_cli_runner().invoke(args=["workers"]).output
    )
    assert ("does not respond, last seen at" in reported) is not responds


def metric(url: str, line: str) -> float | None:
    for found in requests.get(f"{url}/metrics").text.splitlines():
        if found.startswith(line + " "):
            return float(found.split()[-1])
    return None


def test_metrics_count_jobs_and_survive_a_restart_and_deletion(
    storage: FolderStore, processes: Processes, ended: Callable[..., Job]
) -> None:
    url = processes.api()
    processes.worker("--slots", "3")
    jobs = [storage.submit(Job(command=command)) for command in ("true", "echo hi; exit 3")]
    for job in jobs:
        ended(job)
    storage.submit(Job(command="true", queue="later"))
    storage.delete(jobs[0].id)
    for place in (url, processes.api()):
        assert metric(place, 'tailboard_jobs_ended_total{status="succeeded"}') >= 1
        assert metric(place, 'tailboard_jobs_ended_total{status="failed"}') == 1
        assert metric(place, "tailboard_workers") == 1
        assert metric(place, "tailboard_slots") == 3
    assert metric(url, 'tailboard_jobs{status="failed"}') == 1
    assert metric(url, 'tailboard_job_seconds_count{status="failed"}') == 1
    assert metric(url, "tailboard_log_bytes_total") == 3
    asked = 'tailboard_request_seconds_count{method="GET",route="/metrics",status="200"}'
    assert (metric(url, asked) or 0) > 0


def test_counts_of_ended_jobs_do_not_fall_while_a_job_is_deleted(
    storage: FolderStore, processes: Processes
) -> None:
    """After a lower count, Prometheus would report all jobs as new."""
    url = processes.api()
    job = finished(storage, 0)
    series = 'tailboard_jobs_ended_total{status="succeeded"}'
    assert metric(url, series) == 1
    folder = Path(storage.root, "succeeded", job.id[:8], job.id)
    folder.rename(Path(storage.root, "tmp", f"{job.id}.deleted"))  # as a deletion begins
    assert storage.finished_totals()[Status.SUCCEEDED] == 0
    assert metric(url, series) == 1


@pytest.fixture
def listener() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """A webhook URL that fails once and then accepts requests."""
    reported: list[dict[str, Any]] = []
    failures = iter([500])

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            status = next(failures, 200)
            if status == 200:
                reported.append(body)
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/hook", reported
    server.shutdown()
    thread.join()
    server.server_close()


def test_the_webhook_reports_failures_and_is_retried(
    storage: FolderStore, processes: Processes, listener: tuple[str, list[dict[str, Any]]]
) -> None:
    url, reported = listener
    processes.worker(TAILBOARD_WEBHOOK=url)
    storage.submit(Job(command="true"))
    job = storage.submit(Job(command="echo fatal: 満杯; exit 3", name="deploy 本番"))
    wait_until(lambda: reported, describe=processes.text)
    assert [message["job"]["id"] for message in reported] == [job.id]
    assert "deploy 本番 failed with exit code 3" in reported[0]["text"]
    assert reported[0]["text"].endswith("\nfatal: 満杯")
    assert reported[0]["job"]["hint"] == "fatal: 満杯"


class Endless:
    """A receiver that sends the beginning of a response and then the same bytes endlessly, until
    the client closes the connection."""

    def __init__(self, begin: bytes, then: bytes, pause: float) -> None:
        self.begin, self.then, self.pause = begin, then, pause
        self.sent = 0  # bytes
        self.is_closed = threading.Event()  # by the other side
        self.stopped = threading.Event()
        self.server = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.server.getsockname()[1]}/hook"
        self.thread = threading.Thread(target=self.answer)
        self.thread.start()

    def answer(self) -> None:
        client, _ = self.server.accept()
        with client:
            try:
                client.sendall(self.begin)
                while not self.stopped.wait(self.pause):
                    client.sendall(self.then)
                    self.sent += len(self.then)
            except OSError:
                self.is_closed.set()

    def stop(self) -> None:
        self.stopped.set()
        self.thread.join()
        self.server.close()


@pytest.fixture
def endless() -> Iterator[Callable[..., Endless]]:
    started: list[Endless] = []

    def start(begin: bytes, then: bytes, pause: float = 0.0) -> Endless:
        started.append(Endless(begin, then, pause))
        return started[-1]

    yield start
    for each in started:
        each.stop()


def test_a_webhook_that_drips_headers_is_abandoned_and_disconnected(
    endless: Callable[..., Endless],
) -> None:
    receiver = endless(b"HTTP/1.1 200 OK\r\nX-Drip: ", b"x", 0.05)
    assert post(receiver.url, {"text": "it failed"}, seconds=1) == "Timeout"
    assert receiver.is_closed.wait(30)


def test_an_endless_response_of_the_webhook_is_not_read(
    endless: Callable[..., Endless],
) -> None:
    receiver = endless(b"HTTP/1.1 200 OK\r\n\r\n", b"x" * (1 << 16))
    assert post(receiver.url, {"text": "it failed"}, seconds=30) is None
    assert receiver.is_closed.wait(30)
    assert receiver.sent < 32 << 20  # the size of the kernel's buffers


def test_a_dead_webhook_never_delays_jobs(
    storage: FolderStore, processes: Processes, ended: Callable[..., Job]
) -> None:
    processes.worker(TAILBOARD_WEBHOOK="http://127.0.0.1:9/", TAILBOARD_WEBHOOK_ON="succeeded")
    jobs = [storage.submit(Job(command="true")) for _ in range(5)]
    assert {ended(job).status for job in jobs} == {Status.SUCCEEDED}


def test_the_free_space_of_the_jobs_folder_is_reported(
    disk: SmallDisk, processes: Processes
) -> None:
    url = processes.api()

    def reported() -> tuple[int, int]:
        """As /healthz reports it; /metrics reports the same."""
        lines = requests.get(f"{url}/metrics").text.splitlines()
        found = dict(line.split(" ") for line in lines if line.startswith("tailboard_storage_"))
        health = requests.get(f"{url}/healthz").json()
        free, total = health["free_bytes"], health["total_bytes"]
        assert float(found["tailboard_storage_free_bytes"]) == free
        assert float(found["tailboard_storage_total_bytes"]) == total
        return free, total

    space = os.statvfs(disk.place)
    assert reported() == (space.f_bavail * space.f_frsize, space.f_blocks * space.f_frsize)
    disk.fill()
    assert reported() == (0, space.f_blocks * space.f_frsize)
