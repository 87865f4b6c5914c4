"""The storage in a folder: its layout, its journal, and files as they may be found there."""

from __future__ import annotations

import ast
import errno
import fcntl
import json
import os
import pwd
import select
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, Processes, free_port, run_program, run_under_shim, wait_until

from storage import Store, load_logs, open_store
from tailboard.errors import JobDamaged, JobNotFound, WrongState
from tailboard.files import append_line
from tailboard.folder import job_folders
from tailboard.folder.access import check_private
from tailboard.folder.claim import Claim, read_cancel_request
from tailboard.folder.folder_store import FolderStore
from tailboard.folder.lanes import entry_in
from tailboard.folder.retention import Retention
from tailboard.job import Job
from tailboard.journal import CancelRequest, Outcome, parse_journal
from tailboard.judge import judge
from tailboard.saved_command import SavedCommand
from tailboard.scheduler import fire_due
from tailboard.status import FINISHED, Status
from tailboard.values import ID_RE, first_id, utc
from tailboard.workers import WorkerInfo

UNKNOWN = "20200101-000000-00000000"


@pytest.fixture
def store(storage: FolderStore) -> FolderStore:
    """The store for `claim` and `bring` in this file, whose tests look into the folder itself."""
    return storage


# --- What is read, and at what cost ---------------------------------------------------------------


def test_untrusted_ids_never_become_paths(storage: FolderStore, folder: Path) -> None:
    """A job folder elsewhere, to which such an ID would point, is neither read nor changed."""
    outside = folder.parent / "x"
    outside.mkdir()
    (outside / "job.json").write_text('{"command": "true", "version": 2}')
    (outside / "output.log").write_text("secret")
    for job_id in ("../../x", "../../../x", str(outside), "../../x\0"):
        for ask in (storage.get, storage.delete, partial(load_logs, storage)):
            with pytest.raises(JobNotFound):
                ask(job_id)
        with pytest.raises(JobNotFound):
            storage.cancel(job_id, "why")
    assert sorted(p.name for p in outside.iterdir()) == ["job.json", "output.log"]


def test_a_stray_file_among_paused_queues_does_not_prevent_claims(
    store: FolderStore, folder: Path
) -> None:
    """It is named like a job, so reading a request in it fails."""
    job = store.submit(Job(command="true"))
    store.pauses.pause("frozen", None, None)
    (folder / "queued/frozen").mkdir()
    (folder / f"queued/frozen/{UNKNOWN}").touch()
    claim = store.claim("worker", "host")
    assert claim and claim.job.id == job.id
    claim.release()


def test_a_search_with_few_results_returns_where_to_continue(
    storage: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_folders, "SCAN_LIMIT", 10)
    rare = storage.submit(Job(command="rare"))
    for _ in range(25):
        storage.submit(Job(command="true"))
    found, before, pages = [], None, 0
    while True:
        jobs, before = storage.list(text="rare", before=before)
        found += [job.id for job in jobs]
        pages += 1
        if before is None:
            break
    assert (found, pages) == ([rare.id], 3)


def test_pages_and_counts_cost_the_same_with_many_jobs(
    folder: Path, storage: FolderStore, full: bool
) -> None:
    """The cost is counted in opened files and listed folders, for 12 days with few and with many
    jobs."""

    def cost(jobs_a_day: int) -> list[int]:
        for day in range(1, 13):
            home = folder / "succeeded" / f"202601{day:02}"
            home.mkdir(exist_ok=True)
            for n in range(jobs_a_day):
                (home / f"202601{day:02}-000000-{n:08}").mkdir(exist_ok=True)
        newest = [home / f"202601{day:02}-000000-{n:08}" for n in range(jobs_a_day)][-200:]
        for place in newest:  # the others are never read
            (place / "job.json").write_text('{"command": "true", "version": 2}')
        answer: list[int] = json.loads(run_program("cost_of_list", folder))
        return answer

    many = 8_400 if full else 840
    few_cost, many_cost = cost(210), cost(many)
    assert few_cost[-1] == 12 * 210 and many_cost[-1] == 12 * many
    for records, folders in (few_cost[0:2], few_cost[2:4], many_cost[0:2], many_cost[2:4]):
        assert records == 100 and folders < 20  # job.json and the journal of each job
    assert few_cost[4] == many_cost[4] == 0
    assert few_cost[5] < 30 and many_cost[5] < 30
    shutil.rmtree(folder)


def test_only_the_end_of_a_large_log_is_read(
    storage: FolderStore, logged: Callable[..., str], folder: Path, tmp_path: Path
) -> None:
    """The cost is counted in bytes that the process reads: 8 GB and 1 MB cost the same."""
    line = b"0123456789 abcdefghijklmnopqrstuvwxyz\n"
    small, large = logged(line * 30_000), logged(b"head of the log\n")
    with open(folder / "running" / large / "output.log", "r+b") as file:
        os.pwrite(file.fileno(), line * 30_000, 8 << 30)
    if not os.path.exists("/proc/self/io"):
        pytest.skip("this system does not count the bytes that a process reads")
    costs = [run_program("cost_of_log", folder, job).split() for job in (small, large)]
    (small_cost, small_lines), (large_cost, large_lines) = costs
    assert small_lines == large_lines == "1000"
    assert abs(int(large_cost) - int(small_cost)) < 10_000
    assert int(large_cost) < 400_000
    assert load_logs(storage, large, 2) == line.decode() * 2
    assert storage.get(large).log_size == (8 << 30) + 30_000 * len(line)


# --- Unusual files --------------------------------------------------------------------------------

DAMAGED = {
    "empty": b"",
    "truncated": b'{"command": "true", "version": 2, "que',
    "not JSON": b"\xff\xfe\x00",
    "not an object": b'["command"]',
    "a number": b"12",
    "null": b"null",
    "no command": b'{"version": 2}',
    "no version": b'{"command": "true"}',
    "too deep": b"[" * 100_000,
    "too long a number": b'{"command": "true", "version": 2, "retries": ' + b"9" * 5000 + b"}",
    "command of another type": b'{"version": 2, "command": 7}',
    "queue of another type": b'{"version": 2, "command": "true", "queue": null}',
    "queue that leads elsewhere": b'{"version": 2, "command": "true", "queue": "../../x"}',
    "env of another type": b'{"version": 2, "command": "true", "env": ["A=1"]}',
    "timeout of another type": b'{"version": 2, "command": "true", "timeout": "1h"}',
    "retries of another type": b'{"version": 2, "command": "true", "retries": "3"}',
    "retries below none": b'{"version": 2, "command": "true", "retries": -1}',
    "timeout without end": b'{"version": 2, "command": "true", "timeout": 1e999}',
    "cwd of another type": b'{"version": 2, "command": "true", "cwd": {}}',
    "version of another type": b'{"version": "2", "command": "true"}',
    "empty command": b'{"version": 2, "command": []}',
    "command of numbers": b'{"version": 2, "command": ["sleep", 1]}',
}


@pytest.mark.parametrize("what", DAMAGED)
def test_a_damaged_record_is_shown_with_a_reason_and_kept(
    storage: FolderStore, folder: Path, claim: Callable[[], Claim | None], what: str
) -> None:
    bad, good = storage.submit(Job(command="true")), storage.submit(Job(command="true"))
    record = folder / "queued" / "default" / bad.id / "job.json"
    record.write_bytes(DAMAGED[what])
    shown = storage.get(bad.id)
    assert (shown.id, shown.status, shown.queue) == (bad.id, Status.QUEUED, "default")
    assert shown.reason and "job.json" in shown.reason
    json.dumps(shown.as_dict())
    assert [job.id for job in storage.list()[0]] == [good.id, bad.id]
    with claim() as held:
        assert held.job.id == good.id
    assert claim() is None
    ended = storage.get(bad.id)
    assert (ended.status, ended.reason) == (Status.FAILED, shown.reason)
    left = folder / "failed" / bad.id[:8] / bad.id / "job.json"
    assert left.read_bytes() == DAMAGED[what]
    storage.delete(bad.id)


@pytest.mark.parametrize("kind", ["symlink", "dangling symlink", "FIFO", "directory", "nothing"])
def test_a_record_that_is_not_a_regular_file_is_shown_and_never_followed(
    storage: FolderStore,
    folder: Path,
    tmp_path: Path,
    claim: Callable[[], Claim | None],
    kind: str,
) -> None:
    bad, good = storage.submit(Job(command="true")), storage.submit(Job(command="true"))
    record = folder / "queued" / "default" / bad.id / "job.json"
    other = tmp_path / "other.json"
    record.rename(other)
    if kind == "symlink":
        record.symlink_to(other)
    elif kind == "dangling symlink":
        record.symlink_to(tmp_path / "nothing")
    elif kind == "FIFO":
        os.mkfifo(record)
    elif kind == "directory":
        record.mkdir()
    shown = storage.get(bad.id)
    assert shown.reason and "job.json" in shown.reason
    assert len(storage.list()[0]) == 2
    with claim() as held:
        assert held.job.id == good.id
    assert claim() is None
    assert storage.get(bad.id).status in (Status.QUEUED, Status.FAILED)


def test_a_newer_record_waits_unchanged_for_a_newer_worker(
    storage: FolderStore, folder: Path, claim: Callable[[], Claim | None]
) -> None:
    newer = storage.submit(Job(command="true"))
    record = folder / "queued" / "default" / newer.id / "job.json"
    content = json.dumps(json.loads(record.read_text()) | {"version": 3, "volumes": [1]}).encode()
    record.write_bytes(content)
    shown = storage.get(newer.id)
    assert (shown.command, shown.status) == ("true", Status.QUEUED)
    assert shown.reason and "version 3" in shown.reason
    good = storage.submit(Job(command="true"))
    with claim() as held:
        assert held.job.id == good.id
    assert claim() is None
    assert storage.get(newer.id).status is Status.QUEUED
    assert record.read_bytes() == content


def test_a_newer_record_can_be_cancelled_and_is_unchanged(
    storage: FolderStore, folder: Path
) -> None:
    newer = storage.submit(Job(command="true"))
    record = folder / "queued" / "default" / newer.id / "job.json"
    content = json.dumps(json.loads(record.read_text()) | {"version": 3}).encode()
    record.write_bytes(content)
    assert storage.cancel(newer.id, "why").status is Status.CANCELLED
    left = folder / "cancelled" / newer.id[:8] / newer.id / "job.json"
    assert left.read_bytes() == content


def test_unknown_fields_of_a_record_are_left_alone(
    storage: FolderStore, folder: Path, claim: Callable[[], Claim]
) -> None:
    job = storage.submit(Job(command="true"))
    record = folder / "queued" / "default" / job.id / "job.json"
    theirs = {
        "tags": ["a", {"b": None}],
        "status": "theirs",
        "pid": -1,
        "extra": 1,
        "log_size": "x",
    }
    record.write_text(json.dumps(json.loads(record.read_text()) | theirs))
    found = storage.get(job.id)
    assert (found.status, found.pid, found.log_size) == (Status.QUEUED, None, 0)
    with claim() as held:
        held.finish(Outcome(Status.SUCCEEDED, 0))
    left = folder / "succeeded" / job.id[:8] / job.id / "job.json"
    assert json.loads(left.read_text()).items() >= theirs.items()
    assert "tags" not in storage.get(job.id).as_dict()


OLD_RECORD = """{"id": "20261123-181502-k3f9x7q2", "command": "python train.py", "name": "nightly",
"queue": "gpu", "cwd": "/srv", "env": {"A": "1"}, "timeout": 3600, "retries": 2,
"submitted_at": "2026-11-23T18:15:02.123Z", "submitted_by": "ana", "rerun_of": null,
"version": 2}"""


def old_job(folder: Path, record: str) -> Path:
    place = folder / "queued" / "gpu" / "20261123-181502-k3f9x7q2"
    place.mkdir(parents=True)
    (place / "job.json").write_text(record)
    return place


def test_a_record_of_this_version_can_always_be_read(
    storage: FolderStore, folder: Path, claim: Callable[[], Claim]
) -> None:
    job = storage.get(old_job(folder, OLD_RECORD).name)
    said = {name: value for name, value in json.loads(OLD_RECORD).items() if name != "version"}
    assert job.as_dict().items() >= said.items()
    assert (job.reason, job.attempt) == (None, 1)
    with claim() as held:
        assert held.job.id == job.id
        assert held.finish(Outcome(Status.SUCCEEDED, 0)).exit_code == 0


def test_a_record_of_an_older_version_is_shown_and_never_run(
    storage: FolderStore, folder: Path, claim: Callable[[], Claim | None]
) -> None:
    place = old_job(folder, OLD_RECORD.replace('"version": 2', '"version": 1'))
    job = storage.get(place.name)
    assert (job.command, job.status) == ("python train.py", Status.QUEUED)
    assert job.reason and "another version of Tailboard wrote" in job.reason
    assert claim() is None
    assert storage.get(place.name).status is Status.QUEUED


def test_a_short_record_made_by_hand_is_enough(
    storage: FolderStore, folder: Path, claim: Callable[[], Claim]
) -> None:
    place = folder / "queued" / "default" / UNKNOWN
    place.mkdir()
    (place / "job.json").write_text('{"command": "true", "version": 2}')
    with claim() as held:
        assert (held.job.id, held.job.retries, held.job.env) == (UNKNOWN, 0, {})


def test_the_queue_is_the_folder_that_contains_the_job(
    storage: FolderStore, folder: Path, claim: Callable[[], Claim]
) -> None:
    job = storage.submit(Job(command="true", queue="slow"))
    (folder / "queued" / "slow" / job.id).rename(folder / "queued" / "default" / job.id)
    assert storage.get(job.id).queue == "default"
    with claim() as held:
        assert held.requeue(Outcome(Status.QUEUED)).queue == "default"
    assert (folder / "queued" / "default" / job.id).is_dir()


def test_strays_are_ignored_in_every_state_folder(
    storage: FolderStore,
    folder: Path,
    bring: Callable[..., Job],
    claim: Callable[[], Claim | None],
) -> None:
    made = [bring(status).id for status in (*FINISHED, Status.RUNNING, Status.QUEUED)]
    day = made[0][:8]
    days = [folder / s / day for s in FINISHED]
    others = [folder / name for name in ("queued", *FINISHED, "workers", "tmp", ".")]
    homes = [*days, folder / "running", folder / "queued" / "default"]
    for home in [*homes, *others]:
        (home / "README.txt").write_text("stray")
        (home / ".hidden").write_text("stray")
        (home / "Some Folder").mkdir()
        (home / "Some Folder" / "job.json").write_text("stray")
        (home / "dangling").symlink_to("nowhere")
        (home / f"{made[0]}.bak").mkdir()
    for n, home in enumerate(homes):
        (home / f"2020010{n}-000000-0000000f").write_text("a file with the name of a job")
        (home / f"2020010{n}-000000-0000000d").symlink_to("nowhere")
    for status in FINISHED:
        (folder / status / "20200101").write_text("a file with the name of a day")
    (folder / "queued" / "queue-file").write_text("a file with the name of a queue")
    (folder / "workers" / "stray.json").write_text("[]")
    jobs, more = storage.list()
    assert ([job.id for job in jobs], more) == (made[::-1], None)
    assert list(storage.workers()) == []
    with claim() as held:
        assert held.job.id == made[-1]
    assert claim() is None
    for job_id in made:
        assert storage.get(job_id).id == job_id
    with pytest.raises(JobNotFound):
        storage.get("20200100-000000-0000000f")


def test_a_symbolic_link_is_not_a_job(storage: FolderStore, folder: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "job.json").write_text('{"command": "true", "version": 2}')
    (folder / "queued" / "default" / UNKNOWN).symlink_to(elsewhere)
    assert storage.list() == ([], None)
    with pytest.raises(JobNotFound):
        storage.get(UNKNOWN)
    assert storage.claim("worker", "host") is None
    assert [p.name for p in elsewhere.iterdir()] == ["job.json"]


def test_folders_are_accessible_only_to_their_owner(storage: FolderStore, folder: Path) -> None:
    job = storage.submit(Job(command="true"), key="k")
    storage.heartbeat(WorkerInfo("w", "h", 1, 1, []), 0)
    for _ in storage.prune(1, 1):  # it makes files, too
        pass
    made = [p for p in folder.rglob("*") if not p.is_symlink()]
    assert folder / "queued" / "default" / job.id / "job.json" in made
    assert [p for p in [folder, *made] if p.stat().st_mode & 0o077] == []


def test_a_submit_that_fails_leaves_nothing(storage: FolderStore, folder: Path) -> None:
    shutil.rmtree(folder / "queued")
    (folder / "queued").write_text("in the way")
    with pytest.raises(OSError):
        storage.submit(Job(command="true"))
    assert list((folder / "tmp").iterdir()) == []


def test_an_unwritable_folder_is_reported(storage: FolderStore, folder: Path) -> None:
    (folder / "tmp").rmdir()
    (folder / "tmp").write_text("in the way")
    with pytest.raises(OSError):
        storage.check_writable()


def test_a_worker_that_cannot_register_is_reported(storage: FolderStore, folder: Path) -> None:
    (folder / "workers").rmdir()
    (folder / "workers").write_text("in the way")
    with pytest.raises(OSError):
        storage.heartbeat(WorkerInfo("w", "host", 1, 2, []), 0)
    assert list(storage.workers()) == []


def test_a_worker_of_another_version_is_shown(storage: FolderStore, folder: Path) -> None:
    """An unknown field is ignored; a missing one has its default."""
    storage.heartbeat(WorkerInfo("w", "host", 1, 2, ["a"]), 0)
    path = folder / "workers" / "w.json"
    known = json.loads(path.read_text())
    path.write_text(json.dumps(known | {"labels": ["gpu"]}))
    assert [(w.name, w.slots, w.queues) for w in storage.workers()] == [("w", 2, ["a"])]
    del known["queues"], known["seen_at"]
    path.write_text(json.dumps(known))
    assert [(w.name, w.slots, w.queues) for w in storage.workers()] == [("w", 2, [])]
    assert list(storage.unreadable()) == []


def test_a_retention_file_of_another_version_is_read(tmp_path: Path) -> None:
    fd = os.open(tmp_path / "retention", os.O_RDWR | os.O_CREAT)
    retention = Retention.read(fd, "boot", time.time())
    retention.deleted = 7
    record = {**asdict(retention), "paused": False}
    os.pwrite(fd, json.dumps(record).encode(), 0)
    assert Retention.read(fd, "boot", time.time()).deleted == 7
    os.close(fd)


@pytest.mark.parametrize("kind", ["FIFO", "folder", "link"])
def test_a_log_that_is_not_a_regular_file_gets_no_output(
    storage: FolderStore, claim: Callable[[], Claim], tmp_path: Path, kind: str
) -> None:
    storage.submit(Job(command="true"))
    with claim() as held:
        log = Path(held.folder) / "output.log"
        if kind == "FIFO":
            os.mkfifo(log)
        elif kind == "folder":
            log.mkdir()
        else:
            log.symlink_to(tmp_path / "elsewhere")
        with pytest.raises(OSError):
            held.open_log_for_append()
        with pytest.raises(OSError):
            held.write_notice("notice")
    assert not (tmp_path / "elsewhere").exists()


def test_a_job_that_was_moved_away_by_hand_is_not_found(
    storage: FolderStore, claim: Callable[[], Claim], tmp_path: Path
) -> None:
    storage.submit(Job(command="true"))
    with claim() as held:
        assert held.is_there()
        Path(held.folder).rename(tmp_path / "elsewhere")
        assert not held.is_there()


# --- How a dead shim's job ended ------------------------------------------------------------------


@pytest.fixture
def ran(storage: Store, claim: Callable[[], Claim]) -> Iterator[Callable[..., Claim]]:
    """Runs a shell line under the shim to its end; returns the job, claimed and locked."""
    held: list[Claim] = []

    def ran(line: str = "exit 0", **fields: Any) -> Claim:
        storage.submit(Job(**{"command": line} | fields))
        held.append(claim())
        run_under_shim(held[-1], line)
        return held[-1]

    yield ran
    for each in held:
        each.release()


def journal_of(held: Claim) -> Path:
    return Path(held.folder) / "journal"


def test_a_finished_job_in_the_queue_goes_where_it_belongs(
    storage: FolderStore, folder: Path, claim: Callable[[], Claim | None]
) -> None:
    job = storage.submit(Job(command="true"))
    with claim() as held:
        held.finish(Outcome(Status.SUCCEEDED, 0))
    (folder / "succeeded" / job.id[:8] / job.id).rename(folder / "queued" / "default" / job.id)
    with pytest.raises(WrongState):
        storage.cancel(job.id, "too late")
    assert claim() is None
    assert (storage.get(job.id).status, storage.get(job.id).attempt) == (Status.SUCCEEDED, 1)


def test_a_briefly_locked_job_is_claimed_afterwards(
    storage: FolderStore, claim: Callable[[], Claim | None], folder: Path
) -> None:
    """A recorder first moves a job into the queue and then releases its locks."""
    job = storage.submit(Job(command="true"))
    storage.listen(())
    with open(folder / "queued" / "default" / job.id / "times", "r+b") as times:
        fcntl.flock(times, fcntl.LOCK_EX)
        assert claim() is None
    with claim() as held:
        assert held.job.id == job.id


@pytest.mark.parametrize("note", ["", "please", "[]", '{"reason": null}', "{}", "[" * 100_000])
def test_a_cancel_file_made_by_hand_is_enough(ran: Callable[..., Claim], note: str) -> None:
    held = ran("exit 143")
    (Path(held.folder) / "cancel").write_text(note)
    outcome = held.read_verdict().outcome
    assert (outcome.status, outcome.exit_code) == (Status.CANCELLED, 143)
    assert outcome.reason


def test_a_request_to_cancel_is_never_seen_without_its_reason(
    storage: FolderStore, claim: Callable[[], Claim]
) -> None:
    """Its recorder may look for one at any moment."""
    folders: list[str] = []
    for _ in range(200):
        storage.submit(Job(command="true"))
        with claim() as held:
            folders.append(held.folder)
    seen: list[CancelRequest] = []

    def watch() -> None:
        for folder in folders:
            while (request := read_cancel_request(folder)) is None:
                pass
            seen.append(request)

    watcher = threading.Thread(target=watch)
    watcher.start()
    for folder in folders:
        storage.cancel(os.path.basename(folder), "enough")
    watcher.join()
    assert {request.reason for request in seen} == {"enough"}


# --- Where a job belongs: one pure function -------------------------------------------------------

BOOT, EXIT_AT = "this boot", 1_000.0
CANCEL = CancelRequest("why")


def lines(*words: str, boot: str = BOOT) -> bytes:
    """A journal in short form: c2 claims attempt 2, p, x7 exits with 7, s stops, e:STATUS ends."""
    reported = {
        "c": lambda rest: {
            "claimed": {
                "attempt": int(rest),
                "worker": "w",
                "host": "h",
                "boot": boot,
                "started_at": utc(1),
                "started_monotonic": 1.0,
            }
        },
        "p": lambda rest: {"pid": 42},
        "x": lambda rest: {"exit": int(rest)},
        "s": lambda rest: {"stopping": {"status": "timed_out", "reason": "too long"}},
        "e": lambda rest: {
            "ended": {"status": rest[1:], "exit_code": None, "finished_at": utc(EXIT_AT)}
        },
        "q": lambda rest: {"ended": {"status": "queued"}},
    }
    made = (json.dumps(reported[word[0]](word[1:])) for word in words)
    return b"".join(b"\n" + line.encode() + b"\n" for line in made)


def belongs(
    data: bytes, retries: int = 0, cancel: CancelRequest | None = None
) -> tuple[Status, int, bool]:
    verdict = judge(retries, parse_journal(data)[-1], cancel, BOOT, EXIT_AT)
    return verdict.status, verdict.next_attempt, verdict.recorded


Q, S, F = Status.QUEUED, Status.SUCCEEDED, Status.FAILED
C, T, L = Status.CANCELLED, Status.TIMED_OUT, Status.LOST


@pytest.mark.parametrize(
    ("words", "retries", "cancel", "status", "attempt"),
    [
        ("", 0, None, Q, 1),
        ("", 0, CANCEL, C, 1),
        ("c1", 0, None, Q, 1),
        ("c1 q", 0, None, Q, 1),
        ("c1 q c1", 0, None, Q, 1),
        ("c1 p", 0, None, L, 1),
        ("c1 p", 1, None, Q, 2),
        ("c1 p", 1, CANCEL, C, 1),
        ("c1 p x0", 0, None, S, 1),
        ("c1 x0", 0, None, S, 1),
        ("c1 p x7", 0, None, F, 1),
        ("c1 p x7", 1, None, Q, 2),
        ("c1 p x7 e:failed", 1, None, Q, 2),
        ("c1 p x7 e:failed", 0, None, F, 1),
        ("c1 p x7 e:failed c2", 1, None, Q, 2),
        ("c1 p x7 e:failed c2 p", 1, None, L, 1),
        ("c1 p x7 e:failed c2 p x0", 1, None, S, 1),
        ("c1 p s", 0, None, T, 1),
        ("c1 p s x143", 0, None, T, 1),
        ("c1 p x143 s", 0, None, F, 1),
        ("c1 p s x143", 1, None, Q, 2),
        ("c1 p s x143", 1, CANCEL, C, 1),
        ("c1 p s x143", 0, CANCEL, C, 1),
        ("c1 p x0", 0, CANCEL, C, 1),
        ("c1 p x0 e:succeeded", 0, CANCEL, C, 1),
        ("c1 p x7", 0, CANCEL, C, 1),
        ("c1 p x7", 1, CANCEL, C, 1),
        ("c1 p x7 e:failed", 1, CANCEL, C, 1),
        ("c1 p e:lost", 0, CANCEL, C, 1),
        ("c1 p e:failed e:cancelled", 1, None, C, 1),
        ("e:cancelled", 0, None, C, 1),
    ],
)
def test_where_a_job_belongs(
    words: str, retries: int, cancel: CancelRequest | None, status: Status, attempt: int
) -> None:
    assert belongs(lines(*words.split()), retries, cancel)[:2] == (status, attempt)


def test_a_claim_from_another_or_unknown_boot_may_have_started() -> None:
    for boot in ("the one before", ""):
        assert belongs(lines("c1", boot=boot))[0] is Status.LOST
        assert belongs(lines("c1", boot=boot), retries=1)[:2] == (Status.QUEUED, 2)
    verdict = judge(0, parse_journal(lines("c1", boot=""))[-1], None, "", EXIT_AT)
    assert verdict.status is Status.LOST


WHOLE = ("c1 p x0 e:succeeded", "c1 q c1 p s x143 e:timed_out", "c1 p x7 e:failed c2 p x7 e:failed")


@pytest.mark.parametrize("words", WHOLE)
@pytest.mark.parametrize("retries", [0, 1])
@pytest.mark.parametrize("cancel", [None, CANCEL])
def test_a_truncated_journal_is_read_by_its_complete_lines(
    words: str, retries: int, cancel: CancelRequest | None
) -> None:
    """A crash leaves a prefix; an incomplete line spoils only itself, whatever follows it."""
    each = [lines(word) for word in words.split()]
    for count in range(len(each)):
        before, next_line = b"".join(each[:count]), each[count]
        wanted = belongs(before, retries, cancel)
        for cut in range(len(next_line) - 1):
            torn = before + next_line[:cut]
            assert belongs(torn, retries, cancel) == wanted
            again = belongs(torn + next_line, retries, cancel)
            assert again == belongs(before + next_line, retries, cancel)


@pytest.mark.parametrize(
    "foreign",
    [b"x", b"{}", b"[]", b"null", b'"exit"', b'{"exit": true}', b'{"exit": 256}', b'{"exit": -1}',
     b'{"exit": 0, "pid": 1}', b'{"pid": "1"}', b'{"pid": 0}', b'{"made": "up"}', b"\xff\xfe",
     b'{"ended": {"status": "great"}}', b'{"ended": []}', b'{"ended": {"status": 7}}', b"[" * 9_999,
     b'{"ended": {"status": "failed", "exit_code": "no"}}', b'{"claimed": {}}', b'{"claimed": 1}',
     b'{"stopping": {"status": "timed_out", "exit_code": 1e999}}', b'{"exit": ' + b"9" * 9_999,
     b'{"exit": "0"}'],
)  # fmt: skip
def test_an_unknown_line_in_a_journal_is_ignored(foreign: bytes) -> None:
    whole = lines("c1", "p", "x7")
    assert parse_journal(whole + foreign + b"\n") == parse_journal(whole)
    assert parse_journal(foreign + whole) == parse_journal(whole)


def test_a_claim_of_another_version_counts() -> None:
    """If it was skipped, the job would start twice."""
    claim = b'{"claimed": {"attempt": 1, "worker": "w", "labels": []}}\n{"pid": 5}\n'
    attempt = parse_journal(claim)[-1]
    assert (attempt.number, attempt.worker, attempt.host, attempt.pid) == (1, "w", None, 5)
    assert judge(0, attempt, None, "boot", 0.0).status is Status.LOST


@pytest.mark.parametrize("kind", ["too large", "hole of 4 TB", "FIFO", "folder", "link", "missing"])
def test_a_running_job_with_a_destroyed_journal_can_be_read(
    storage: FolderStore, claim: Callable[[], Claim], kind: str, tmp_path: Path
) -> None:
    storage.submit(Job(command="true"))
    with claim() as held:
        held.release_journal()
        journal = journal_of(held)
        if kind in ("too large", "hole of 4 TB"):
            os.truncate(journal, (1 << 20) + 1 if kind == "too large" else 4 << 40)
            assert held.acquire_lock()
            with pytest.raises(JobDamaged):
                held.read_verdict()
        else:
            journal.unlink()
            if kind == "FIFO":
                os.mkfifo(journal)
            elif kind == "folder":
                journal.mkdir()
            elif kind == "link":
                journal.symlink_to(tmp_path / "elsewhere")
            with pytest.raises(JobDamaged):
                held.acquire_lock()
        found = storage.get(held.job.id)
        assert (found.status, found.started_at) == (Status.RUNNING, None)
        assert held.finish_damaged(Status.LOST).status is Status.LOST


# --- Around it ------------------------------------------------------------------------------------


def test_a_storage_is_a_folder_and_other_urls_are_refused(tmp_path: Path) -> None:
    open_store(str(tmp_path / "a"))
    assert (tmp_path / "a" / "queued").is_dir()
    with pytest.raises(ValueError, match="TAILBOARD_STORAGE"):
        open_store("ftp://host/jobs")


@pytest.mark.parametrize(
    ("file", "ours", "theirs"),
    [
        ("storage.py", {"tailboard"}, {"flask", "streamlit", "requests"}),
        ("worker.py", {"storage", "tailboard"}, {"flask", "streamlit"}),
        ("api.py", {"storage", "tailboard"}, {"streamlit", "requests"}),
        ("dashboard.py", {"tailboard"}, {"flask"}),
    ],
)
def test_each_module_imports_only_what_it_may(file: str, ours: set[str], theirs: set[str]) -> None:
    imported = set()
    for node in ast.walk(ast.parse((ROOT / file).read_text())):
        if isinstance(node, ast.Import):
            imported |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add((node.module or "").partition(".")[0])
    assert imported & {"storage", "worker", "api", "dashboard", "tailboard"} == ours
    assert not imported & theirs


@pytest.fixture
def private(tmp_path: Path) -> Path:
    """A jobs folder as we create it."""
    FolderStore(tmp_path / "jobs")
    return tmp_path / "jobs"


def refusal(root: Path) -> str:
    with pytest.raises(ValueError) as refused:
        check_private("TAILBOARD_STORAGE", str(root))
    return str(refused.value)


def test_a_folder_that_we_create_is_private(private: Path, tmp_path: Path) -> None:
    made = [private, *(path for path in private.rglob("*") if path.is_dir())]
    assert {path.stat().st_mode & 0o077 for path in made} == {0}
    check_private("TAILBOARD_STORAGE", str(private))
    check_private("TAILBOARD_STORAGE", str(tmp_path / "missing"))
    private.chmod(0o755)
    check_private("TAILBOARD_STORAGE", str(private))


@pytest.mark.parametrize("name", ["", "queued", "saved", "secret"])
def test_a_folder_that_others_can_write_to_is_refused(private: Path, name: str) -> None:
    place = private / name
    place.mkdir(exist_ok=True)
    place.chmod(0o702)
    us = pwd.getpwuid(os.geteuid()).pw_name
    assert refusal(private) == (
        f"TAILBOARD_STORAGE: other users can write in {place}, and therefore run commands as {us}: "
        f"chmod go-w {place}"
    )


def test_a_group_may_write_only_if_it_is_the_owners_own(private: Path) -> None:
    if os.geteuid():
        pytest.skip("needs to give files to others")
    private.chmod(0o770)
    check_private("TAILBOARD_STORAGE", str(private))  # as root:root
    os.chown(private, 0, 65_534)
    assert "chmod go-w" in refusal(private)


def test_a_folder_of_another_user_is_refused(private: Path) -> None:
    if os.geteuid():
        pytest.skip("needs to give files to others")
    for place in (private, private / "queued"):
        os.chown(place, 12_345, 12_345)
        reported = f"{place} belongs to 12345, who can run commands as root: start this as 12345"
        assert reported in refusal(private)
        os.chown(place, 0, 0)


def test_in_a_sticky_folder_only_our_own_names_are_accepted(private: Path) -> None:
    """A tmpfs is mounted like this: everybody can create files, but remove only their own."""
    private.chmod(0o1777)
    check_private("TAILBOARD_STORAGE", str(private))
    for name in ("saved", "schedules", "sessions", "secret", "deleted", "retention"):
        assert (private / name).exists()
    if os.geteuid():
        pytest.skip("needs to give files to others")
    os.chown(private / "secret", 12_345, 12_345)
    assert f"{private / 'secret'} belongs to 12345" in refusal(private)


def test_a_folder_that_others_can_replace_is_refused(private: Path, tmp_path: Path) -> None:
    tmp_path.chmod(0o1777)  # as /tmp
    check_private("TAILBOARD_STORAGE", str(private))
    tmp_path.chmod(0o777)
    assert f"every user can replace {private}" in refusal(private)
    tmp_path.chmod(0o700)


def test_worker_and_api_do_not_start_on_a_folder_that_others_can_write_to(
    processes: Processes, folder: Path
) -> None:
    folder.chmod(0o777)
    spool = folder.parent / "spool"
    spool.mkdir()
    spool.chmod(0o777)
    redis = {"TAILBOARD_STORAGE": "redis://127.0.0.1:1/0", "TAILBOARD_SPOOL": str(spool)}
    started = [
        processes.worker(),
        processes.start(sys.executable, "api.py", TAILBOARD_BIND=f"127.0.0.1:{free_port()}"),
        processes.worker(**redis),
    ]
    assert [process.wait(30) for process in started] == [1, 1, 1]
    reported = processes.text()
    assert reported.count(f"other users can write in {folder}, and therefore run commands as") == 2
    assert reported.count(f"TAILBOARD_SPOOL: other users can write in {spool},") == 1
    assert "Traceback" not in reported


def test_a_damaged_secret_is_not_used(storage: FolderStore, folder: Path) -> None:
    (folder / "secret").write_bytes(b"")
    with pytest.raises(OSError, match="secret is damaged: remove it"):
        storage.secret()


def test_the_first_id_of_a_moment_separates_older_from_newer_jobs(storage: FolderStore) -> None:
    job = storage.submit(Job(command="true"))
    now = time.time()
    assert first_id(now - 5) < job.id < first_id(now + 5)
    moment = datetime(2026, 11, 23, 18, 15, 2, 500_000, UTC).timestamp()
    assert first_id(moment - 0.001) < first_id(moment) == "20261123-181502-f8900000"
    for far in (-1e18, 0.0, 1e18):
        assert ID_RE.fullmatch(first_id(far))


def test_a_second_folder_is_set_aside_only_under_its_lock(storage: FolderStore) -> None:
    """A requeue that is moving a job to its queue holds the lock: by now it may be the first
    folder."""
    job = storage.submit(Job(command="true"))
    other = FolderStore(storage.root)
    held = storage.claim("w", "h")
    assert held
    second = Path(storage.root) / "queued" / "default" / job.id
    with held:
        shutil.copytree(held.folder, second)
        with open(second / "journal", "r+b") as journal:
            fcntl.flock(journal, fcntl.LOCK_EX)
            with pytest.raises(BlockingIOError):
                other.claim_job(entry_in("default", job.id), "w2", "h")
            assert second.is_dir()
        assert other.claim_job(entry_in("default", job.id), "w2", "h") is None
        assert not second.exists()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "1970-01-01T00:00:00.000Z"),
        (-62_135_596_800, "0001-01-01T00:00:00.000Z"),
        (-1e12, "0001-01-01T00:00:00.000Z"),
        (253_402_300_800, "9999-12-31T23:59:59.000Z"),
        (9.3e18, "9999-12-31T23:59:59.000Z"),
        (float("inf"), "9999-12-31T23:59:59.000Z"),
    ],
)
def test_any_number_of_seconds_can_be_formatted_as_a_time(seconds: float, text: str) -> None:
    assert utc(seconds) == text


@pytest.mark.parametrize("mtime", [1 << 40, -(1 << 40)])
def test_a_file_of_an_impossible_year_harms_nothing(
    small: FolderStore, folder: Path, mtime: int
) -> None:
    """tmpfs stores such times. A job can give them to its own files, and a person to any other."""
    small.submit(Job(command="true"))
    claim = small.claim("w", "h")
    assert claim is not None
    append_line(claim.shim_input(), {"exit": 3})
    os.utime(f"{claim.folder}/journal", (mtime, mtime))
    with claim:
        assert claim.finish(claim.read_verdict().outcome).status is Status.FAILED
    zone = "America/New_York"
    small.saved.save(SavedCommand(saved="a", command="true", cron="@daily", zone=zone))
    (folder / "schedules" / "a.state").write_text("{")
    (folder / "paused" / "q.json").touch()
    for path in ("saved/a.json", "schedules/a.state", "paused/q.json"):
        os.utime(folder / path, (mtime, mtime))
    assert [command.saved for command in small.saved.list()] == ["a"]
    assert small.saved.load_schedule("a").settled and small.pauses.list()[0].since
    fire_due(small, small.saved.load("a"), time.time())


# --- Limits ---------------------------------------------------------------------------------------


def test_a_claimer_whose_queue_is_full_waits_for_an_end(storage: FolderStore) -> None:
    """Each claim changes what the claimer watches. That must not wake it again and again."""
    storage.limits.set("deploy", 1)
    for _ in range(2):
        storage.submit(Job(command="true", queue="deploy"))
    watch = storage.listen(())
    if watch is None:
        pytest.skip("the system reports no changes")
    held = storage.claim("w", "h")
    assert held is not None
    for _ in range(5):
        assert storage.claim("w", "h") is None
    assert not select.select([watch], [], [], 0)[0]
    with held:
        held.finish(Outcome(Status.SUCCEEDED))
    assert select.select([watch], [], [], 20)[0]
    with wait_until(lambda: storage.claim("w", "h")):
        pass


def test_more_is_expected_while_a_job_waits_for_one_that_runs(storage: FolderStore) -> None:
    parent = storage.submit(Job(command="true"))
    child = storage.submit(Job(command="true", after=[parent.id]))
    storage.listen(())
    held = storage.claim("w", "h")
    assert held is not None and held.job.id == parent.id
    assert storage.claim("w", "h") is None and storage.expects_more()
    with held:
        held.finish(Outcome(Status.SUCCEEDED))
    assert storage.expects_more()
    with wait_until(lambda: storage.claim("w", "h")) as held:
        assert held.job.id == child.id
    assert storage.claim("w", "h") is None and not storage.expects_more()


@pytest.mark.parametrize("content", ["", "{", "[]", '{"limit": 0}', '{"limit": "2"}', "\0"])
def test_a_damaged_limit_counts_as_one(storage: FolderStore, folder: Path, content: str) -> None:
    (folder / "queues" / "deploy.json").write_text(content)
    assert storage.limits.list() == {"deploy": 1}
    storage.limits.set("deploy", None)
    (folder / "queues" / "deploy.json").mkdir()
    (folder / "queues" / "No Queue.json").touch()
    assert storage.limits.list() == {"deploy": 1}


def test_a_stopped_process_with_the_lock_delays_only_jobs_with_limits_and_keys(
    storage: FolderStore, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tailboard.folder.turns.SUBMIT_PATIENCE", 0.1)
    limited = storage.submit(Job(command="true", key="k"))
    free = storage.submit(Job(command="true"))
    with open(folder / "queues" / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        held = storage.claim("w", "h")
        assert held is not None and held.job.id == free.id
        held.release()
        assert storage.claim("w", "h") is None
        with pytest.raises(OSError, match="try again") as busy:
            storage.submit(Job(command="true", key="k", if_busy="skip"))
        assert busy.value.errno == errno.EBUSY
    with wait_until(lambda: storage.claim("w", "h")) as held:
        assert held.job.id == limited.id
