"""The storage: the contract that any backend keeps, then the folder backend's way with files."""

from __future__ import annotations

import ast
import fcntl
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, wait_until

import storage as module
from storage import (
    FINISHED,
    CancelRequest,
    Claim,
    FolderStore,
    Job,
    JobDamaged,
    JobNotFound,
    Outcome,
    Status,
    Store,
    WorkerInfo,
    WrongState,
    judge,
    open_store,
    parse_journal,
    utc,
)
from worker import SHIM

UNKNOWN = "20200101-000000-00000000"


@pytest.fixture
def claim(storage: Store) -> Callable[[], Claim | None]:
    """Claim the oldest job, as a worker that serves all queues."""

    def claim() -> Claim | None:
        return storage.claim("worker", "host")

    return claim


@pytest.fixture
def bring(storage: Store, claim: Callable[[], Claim]) -> Callable[..., Job]:
    """A job in the state wished for; nothing else may be queued."""

    def bring(status: Status, **fields: Any) -> Job:
        job = storage.submit(Job(**{"command": "true"} | fields))
        if status is Status.QUEUED:
            return job
        with claim() as held:
            assert held.job.id == job.id
            return held.job if status is Status.RUNNING else held.finish(Outcome(status))

    return bring


def in_processes(count: int, code: str, *arguments: object) -> list[str]:
    """Run the code in so many processes that start together; their outputs."""
    prelude = "import sys; sys.stdin.read()\nfrom storage import *\n"
    command = [sys.executable, "-c", prelude + code, *map(str, arguments)]
    running = [
        subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(count)
    ]
    for process in running:
        assert process.stdin
        process.stdin.close()
        process.stdin = None
    outputs = [process.communicate(timeout=100)[0] for process in running]
    assert not any(process.returncode for process in running)
    return outputs


# --- Submit and look ------------------------------------------------------------------------------


def test_a_submitted_job_is_found_with_everything_that_was_said_of_it(storage: Store) -> None:
    said = {
        "command": ["echo", "grüße", "\n"],
        "name": "nightly\U0001f319",
        "queue": "gpu_1",
        "cwd": "/tmp",
        "env": {"A": "1", "B": ""},
        "timeout": 1.5,
        "retries": 3,
        "submitted_by": "ana",
        "rerun_of": UNKNOWN,
    }
    job = storage.submit(Job(**said))
    found = storage.get(job.id)
    assert {name: getattr(found, name) for name in said} == said
    assert found == job
    assert (found.status, found.attempt, found.log_size) == (Status.QUEUED, 1, 0)
    assert found.submitted_at and found.submitted_at.endswith("Z")
    nothing = ("started_at", "finished_at", "exit_code", "reason", "worker", "host", "pid")
    assert [getattr(found, name) for name in nothing] == [None] * len(nothing)


def test_an_id_sorts_by_time_and_says_it(storage: Store) -> None:
    jobs = [storage.submit(Job(command="true")) for _ in range(20)]
    ids = [job.id for job in jobs]
    assert ids == sorted(ids) and len(set(ids)) == 20
    for job in jobs:
        assert job.submitted_at
        assert module.ID_RE.fullmatch(job.id)
        assert job.id[:8] == job.submitted_at[:10].replace("-", "")


def test_a_job_has_the_fields_of_the_wire(storage: Store) -> None:
    wire = storage.submit(Job(command="true")).as_dict()
    assert (
        list(wire)
        == (
            "id command name queue cwd env timeout retries attempt status submitted_at started_at "
            "finished_at exit_code reason worker host pid submitted_by rerun_of cpu_seconds "
            "max_rss_bytes log_size log_start"
        ).split()
    )
    json.dumps(wire)


@pytest.mark.parametrize(
    "job_id",
    [UNKNOWN, "", ".", "..", "../x", "x/../../y", f"{UNKNOWN}/", f"../queued/default/{UNKNOWN}",
     f"{UNKNOWN}\n", "\0", "20200101-000000-\uff100000000", "a" * 5000],
)  # fmt: skip
def test_an_id_that_is_none_is_no_job_whatever_is_asked(storage: Store, job_id: str) -> None:
    with pytest.raises(JobNotFound):
        storage.get(job_id)
    with pytest.raises(JobNotFound):
        storage.cancel(job_id, "why")
    with pytest.raises(JobNotFound):
        storage.delete(job_id)
    with pytest.raises(JobNotFound):
        storage.open_log(job_id)
    with pytest.raises(JobNotFound):
        storage.load_logs(job_id)


def test_ids_from_outside_never_reach_a_path(storage: FolderStore, folder: Path) -> None:
    """A job folder elsewhere, to which such an ID would lead, is neither seen nor touched."""
    outside = folder.parent / "x"
    outside.mkdir()
    (outside / "job.json").write_text('{"command": "true", "version": 2}')
    (outside / "output.log").write_text("secret")
    for job_id in ("../../x", "../../../x", str(outside), "../../x\0"):
        for ask in (storage.get, storage.delete, storage.load_logs):
            with pytest.raises(JobNotFound):
                ask(job_id)
        with pytest.raises(JobNotFound):
            storage.cancel(job_id, "why")
    assert sorted(p.name for p in outside.iterdir()) == ["job.json", "output.log"]


def test_jobs_submitted_by_many_processes_are_all_there_in_the_order_of_their_ids(
    storage: Store, folder: Path
) -> None:
    code = """
storage = open_store(sys.argv[1])
for n in range(250):
    print(storage.submit(Job(command="true")).id)
"""
    outputs = [output.split() for output in in_processes(8, code, folder)]
    submitted = sorted(job_id for output in outputs for job_id in output)
    assert len(set(submitted)) == 2000
    for output in outputs:
        assert output == sorted(output)
    assert storage.counts()[Status.QUEUED] == 2000
    storage.listen(())
    claimed = []
    while held := storage.claim("worker", "host"):
        with held:
            claimed.append(held.job.id)
    assert claimed == submitted


def test_each_job_is_claimed_once_by_many_processes_and_by_each_in_order(
    storage: Store, folder: Path
) -> None:
    submitted = [storage.submit(Job(command="true")).id for _ in range(200)]
    code = """
storage = open_store(sys.argv[1])
storage.listen(())
while held := storage.claim("worker", "host"):
    with held:
        print(held.job.id)
"""
    outputs = [output.split() for output in in_processes(4, code, folder)]
    assert sorted(job_id for output in outputs for job_id in output) == submitted
    for output in outputs:
        assert output == sorted(output)


def test_the_same_key_gives_the_same_job(storage: Store) -> None:
    job = storage.submit(Job(command="echo one"), key="k")
    again = storage.submit(Job(command="echo two"), key="k")
    assert (again.id, again.command) == (job.id, "echo one")
    assert storage.submit(Job(command="echo two"), key="l").id != job.id
    assert storage.submit(Job(command="echo two")).id != job.id
    storage.submit(Job(command="true"), key="\ud800/../.. \0 " + "long" * 1000)


def test_a_key_stays_with_its_job_until_that_is_deleted(
    storage: Store, claim: Callable[[], Claim]
) -> None:
    job = storage.submit(Job(command="true"), key="k")
    with claim() as held:
        assert storage.submit(Job(command="true"), key="k").id == job.id
        held.finish(Outcome(Status.SUCCEEDED, 0))
    assert storage.submit(Job(command="true"), key="k").status is Status.SUCCEEDED
    storage.delete(job.id)
    assert storage.submit(Job(command="true"), key="k").id != job.id


def test_one_key_used_by_many_at_once_gives_one_job(storage: Store, folder: Path) -> None:
    code = """
storage = open_store(sys.argv[1])
for n in range(20):
    print(storage.submit(Job(command="true"), key=f"key {n}").id)
"""
    outputs = in_processes(6, code, folder)
    assert len(set(outputs)) == 1
    assert storage.counts()[Status.QUEUED] == 20


# --- List and count -------------------------------------------------------------------------------


def test_the_list_is_newest_first_and_pages_by_the_last_id(storage: Store) -> None:
    ids = [storage.submit(Job(command="true")).id for _ in range(7)][::-1]
    pages, before = [], None
    while True:
        jobs, before = storage.list(limit=3, before=before)
        pages.append([job.id for job in jobs])
        if before is None:
            break
        assert before == jobs[-1].id
    assert pages == [ids[:3], ids[3:6], ids[6:]]
    assert storage.list(limit=7) == (storage.list()[0], None)
    assert [job.id for job in storage.list(before=ids[5])[0]] == ids[6:]
    assert storage.list(before=ids[-1]) == ([], None)


def test_the_list_mixes_all_states_and_queues_by_age(
    storage: Store, bring: Callable[..., Job]
) -> None:
    states = [*FINISHED, Status.RUNNING, Status.SUCCEEDED, Status.QUEUED, Status.QUEUED]
    made = [bring(s, queue=f"q{n}").id for n, s in enumerate(states)]
    jobs, more = storage.list()
    assert ([job.id for job in jobs], more) == (made[::-1], None)
    assert [job.status for job in jobs] == states[::-1]
    assert [job.queue for job in jobs] == [f"q{n}" for n in range(len(states))][::-1]
    paged: list[str] = []
    before = None
    while len(paged) < len(made):
        page, before = storage.list(limit=2, before=before)
        paged += [job.id for job in page]
    assert paged == made[::-1]
    assert storage.counts() == {s: states.count(s) for s in Status}


def test_the_list_is_filtered_by_status_queue_and_text(
    storage: Store, bring: Callable[..., Job]
) -> None:
    one = bring(Status.SUCCEEDED, command="python Train.py", queue="gpu")
    two = bring(Status.FAILED, command=["ls", "-l"], name="Straße")
    three = bring(Status.QUEUED, command="make train", queue="gpu")

    def ids(**query: Any) -> list[str]:
        return [job.id for job in storage.list(**query)[0]]

    assert ids(status=Status.FAILED) == [two.id]
    assert ids(status=Status.LOST) == []
    assert ids(queue="gpu") == [three.id, one.id]
    assert ids(queue="none") == []
    assert ids(text="TRAIN") == [three.id, one.id]
    assert ids(text="strasse") == [two.id]
    assert ids(text="-l") == [two.id]
    assert ids(text=two.id) == [two.id]
    assert ids(text="train", queue="gpu", status=Status.SUCCEEDED) == [one.id]
    assert ids(text="train", limit=1) == [three.id]


def test_a_search_that_finds_little_says_where_to_go_on(
    storage: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SCAN_LIMIT", 10)
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


def test_a_page_and_the_counts_read_no_more_for_it_when_there_are_many_jobs(
    folder: Path, storage: FolderStore, full: bool
) -> None:
    """Counted in files opened and folders listed, of 12 days with few and with many jobs."""
    code = """
opened, listed = [], []
def hook(event, arguments):
    if event == "open" and str(arguments[0]).startswith(sys.argv[1]):
        opened.append(arguments[0])
    if event in ("os.listdir", "os.scandir"):
        listed.append(arguments[0])
storage = open_store(sys.argv[1])
sys.addaudithook(hook)
def cost(ask):
    opened.clear(), listed.clear()
    answer = ask()
    return answer, len(opened), len(listed)
(page, more), records, folders = cost(lambda: storage.list(limit=50))
assert len(page) == 50 and more == page[-1].id, page
assert all(job.command == "true" for job in page)
(second, _), records2, folders2 = cost(lambda: storage.list(limit=50, before=more))
assert second[0].id < more
counts, records3, folders3 = cost(storage.counts)
print(json.dumps([records, folders, records2, folders2, records3, folders3, sum(counts.values())]))
"""

    def cost(jobs_a_day: int) -> list[int]:
        for day in range(1, 13):
            home = folder / "succeeded" / f"202601{day:02}"
            home.mkdir(exist_ok=True)
            for n in range(jobs_a_day):
                (home / f"202601{day:02}-000000-{n:08}").mkdir(exist_ok=True)
        newest = [home / f"202601{day:02}-000000-{n:08}" for n in range(jobs_a_day)][-200:]
        for place in newest:  # the others are never looked into
            (place / "job.json").write_text('{"command": "true", "version": 2}')
        answer: list[int] = json.loads(in_processes(1, code, folder)[0])
        return answer

    many = 8_400 if full else 840
    few_cost, many_cost = cost(210), cost(many)
    assert few_cost[-1] == 12 * 210 and many_cost[-1] == 12 * many
    for records, folders in (few_cost[0:2], few_cost[2:4], many_cost[0:2], many_cost[2:4]):
        assert records == 100 and folders < 20  # of each job its job.json and its journal
    assert few_cost[4] == many_cost[4] == 0
    assert few_cost[5] < 30 and many_cost[5] < 30
    shutil.rmtree(folder)


# --- Transitions ----------------------------------------------------------------------------------


def test_a_claimed_job_is_running_and_says_by_whom(
    storage: Store, claim: Callable[[], Claim]
) -> None:
    job = storage.submit(Job(command="true"))
    with claim() as held:
        assert held.job.id == job.id
        found = storage.get(job.id)
        assert (found.status, found.worker, found.host) == (Status.RUNNING, "worker", "host")
        assert found.started_at and found.started_at >= (job.submitted_at or "")
        assert claim() is None
        assert list(storage.orphans("host", ())) == [], "somebody supervises it"
    with next(storage.orphans("host", ())) as held:
        assert held.acquire_lock() and held.job == storage.get(job.id)


def test_claims_are_first_in_first_out_over_all_queues(
    storage: Store, claim: Callable[[], Claim]
) -> None:
    ids = [storage.submit(Job(command="true", queue=q)).id for q in ("b", "a", "c", "a")]
    for job_id in ids:
        with claim() as held:
            assert held.job.id == job_id


def test_only_the_queues_listened_to_are_claimed(storage: Store) -> None:
    jobs = {q: storage.submit(Job(command="true", queue=q)) for q in ("a", "b", "c")}
    storage.listen(["c", "b"])
    for queue in ("b", "c"):
        held = storage.claim("worker", "host")
        assert held
        with held:
            assert held.job.id == jobs[queue].id
    assert storage.claim("worker", "host") is None


def test_a_listener_is_told_of_a_new_job_and_of_one_in_a_new_queue(
    storage: FolderStore, folder: Path
) -> None:
    select = pytest.importorskip("select")
    watch = storage.listen(())
    if watch is None:
        pytest.skip("nothing tells of a new job here: it is polled for")
    ready = watch.fileno()
    other = FolderStore(folder)
    for queue in ("default", "quite-new", "quite-new"):
        other.submit(Job(command="true", queue=queue))
        assert select.select([ready], [], [], 20)[0]

        with wait_until(lambda: storage.claim("worker", "host")) as held:
            assert held.job.queue == queue
        wait_until(lambda: storage.claim("w", "h") or not select.select([ready], [], [], 0)[0])


@pytest.mark.parametrize("status", FINISHED)
def test_a_finished_job_records_how_it_ended(
    storage: Store, claim: Callable[[], Claim], status: Status
) -> None:
    job = storage.submit(Job(command="true"))
    with claim() as held:
        outcome = Outcome(status, 143, "because", cpu_seconds=1.5, max_rss_bytes=2048)
        assert held.finish(outcome) == storage.get(job.id)
    found = storage.get(job.id)
    assert (found.status, found.exit_code, found.reason) == (status, 143, "because")
    assert (found.cpu_seconds, found.max_rss_bytes) == (1.5, 2048)
    assert found.finished_at and found.finished_at >= (found.started_at or "")
    assert found.pid is None
    assert list(storage.orphans("host", ())) == []
    assert storage.counts()[status] == 1


def test_an_end_is_not_before_its_start_wherever_the_clock_has_jumped(
    storage: Store, claim: Callable[[], Claim]
) -> None:
    storage.submit(Job(command="true"))
    with claim() as held:
        outcome = Outcome(Status.SUCCEEDED, 0, finished_at="2001-01-01T00:00:00.000Z")
        job = held.finish(outcome)
    assert job.finished_at == job.started_at


@pytest.mark.parametrize("status", FINISHED)
def test_what_has_ended_can_only_be_deleted(
    storage: Store, claim: Callable[[], Claim], status: Status
) -> None:
    job = storage.submit(Job(command="true"))
    with claim() as held:
        held.finish(Outcome(status))
        with pytest.raises(WrongState):
            held.finish(Outcome(Status.FAILED))
        with pytest.raises(WrongState):
            held.requeue(Outcome(Status.FAILED, 1))
    with pytest.raises(WrongState, match=status):
        storage.cancel(job.id, "why")
    assert storage.get(job.id).status is status
    storage.delete(job.id)
    with pytest.raises(JobNotFound):
        storage.get(job.id)
    with pytest.raises(JobNotFound):
        storage.delete(job.id)
    assert storage.list() == ([], None)
    assert not any(storage.counts().values())


@pytest.mark.parametrize("status", [Status.QUEUED, Status.RUNNING])
def test_what_has_not_ended_cannot_be_deleted(
    storage: Store, bring: Callable[..., Job], status: Status
) -> None:
    job = bring(status)
    with pytest.raises(WrongState, match=status):
        storage.delete(job.id)
    assert storage.get(job.id).status is status


def test_cancelling_a_queued_job_ends_it_at_once(
    storage: Store, claim: Callable[[], Claim]
) -> None:
    job = storage.submit(Job(command="true"))
    assert storage.cancel(job.id, "nobody needs it").status is Status.CANCELLED
    found = storage.get(job.id)
    assert (found.status, found.reason) == (Status.CANCELLED, "nobody needs it")
    assert found.finished_at and found.started_at is None and found.exit_code is None
    assert claim() is None


def test_cancelling_a_running_job_leaves_its_worker_a_note(
    storage: Store, bring: Callable[..., Job]
) -> None:
    job = bring(Status.RUNNING)
    (held,) = storage.orphans("host", ())
    with held:
        assert not held.cancel_requested()
        assert storage.cancel(job.id, "first").status is Status.RUNNING
        assert held.cancel_requested()
    storage.cancel(job.id, "second")
    assert storage.get(job.id).status is Status.RUNNING


def test_a_requeued_job_waits_again_and_its_retry_is_the_next_attempt(
    storage: Store, claim: Callable[[], Claim]
) -> None:
    job = storage.submit(Job(command="true", queue="gpu", retries=1))
    with claim() as held:
        with held.open_log_for_append() as log:
            log.write(b"kept\n")
        held.requeue(Outcome(Status.QUEUED))
    found = storage.get(job.id)
    assert (found.status, found.attempt, found.queue) == (Status.QUEUED, 1, "gpu")
    assert (found.started_at, found.worker, found.host) == (None, None, None)
    with claim() as held:
        held.write_stopping(Status.TIMED_OUT, "too long")
        verdict = held.judge()
        assert (verdict.status, verdict.outcome.reason) == (Status.QUEUED, "too long")
        held.requeue(verdict.outcome)
    assert storage.get(job.id).attempt == 2
    with claim() as held:
        assert held.attempt.stopping is None, "that was the attempt before"
        assert storage.load_logs(job.id) == "kept\n"
    attempts = storage.get(job.id).attempts_as_dicts()
    assert [(a["number"], a["status"]) for a in attempts] == [(1, "timed_out"), (2, "running")]


def test_a_cancel_that_comes_while_a_job_is_requeued_is_not_forgotten(
    storage: Store, claim: Callable[[], Claim | None]
) -> None:
    """The worker has looked for one, and then records the next attempt: a disk may be slow."""
    job = storage.submit(Job(command="true", retries=1))
    with claim() as held:
        storage.cancel(job.id, "enough")
        held.requeue(Outcome(Status.FAILED, 1))
    assert claim() is None
    found = storage.get(job.id)
    assert (found.status, found.reason) == (Status.CANCELLED, "enough")


def test_two_that_cancel_and_claim_at_once_agree(folder: Path, storage: Store) -> None:
    """Each job is either cancelled in the queue or claimed, with the note where it was asked."""
    jobs = [storage.submit(Job(command="true")).id for _ in range(150)]
    other = FolderStore(folder)
    answers: dict[str, Job] = {}

    def cancel() -> None:
        for job_id in reversed(jobs):
            answers[job_id] = other.cancel(job_id, "why")

    canceller = threading.Thread(target=cancel)
    storage.listen(())
    canceller.start()
    claimed = set()
    while held := storage.claim("worker", "host"):
        with held:
            claimed.add(held.job.id)
    canceller.join()
    running = {held.job.id: held for held in storage.orphans("host", ())}
    for job_id in jobs:
        job = storage.get(job_id)
        assert job.status is (Status.RUNNING if job_id in claimed else Status.CANCELLED)
        assert job_id not in claimed or running[job_id].cancel_requested()


def test_a_job_can_be_looked_up_while_it_moves(folder: Path, storage: Store) -> None:
    """Backwards, too: neither a look-up nor the list ever misses it."""
    job = storage.submit(Job(command="true", retries=99))
    mover = FolderStore(folder)
    mover.listen(())
    stop = threading.Event()

    def move() -> None:
        while not stop.is_set():
            held = mover.claim("worker", "host")
            assert held
            with held:
                held.requeue(Outcome(Status.QUEUED))

    thread = threading.Thread(target=move)
    thread.start()
    try:
        for _ in range(300):
            assert storage.get(job.id).status in (Status.QUEUED, Status.RUNNING)
            assert [found.id for found in storage.list()[0]] in ([job.id], [])
    finally:
        stop.set()
        thread.join()
        mover.close()


# --- Logs -----------------------------------------------------------------------------------------


@pytest.fixture
def logged(storage: Store, claim: Callable[[], Claim]) -> Iterator[Callable[..., str]]:
    """Make the log of a running job; its ID."""
    held: list[Claim] = []

    def logged(content: bytes) -> str:
        storage.submit(Job(command="true"))
        held.append(claim())
        with held[-1].open_log_for_append() as file:
            file.write(content)
        return held[-1].job.id

    yield logged
    for each in held:
        each.release()


@pytest.mark.parametrize("status", Status)
def test_a_job_without_a_log_file_has_no_log(
    storage: Store, bring: Callable[..., Job], status: Status
) -> None:
    job = bring(status)
    with pytest.raises(FileNotFoundError):
        storage.load_logs(job.id)


@pytest.mark.parametrize(
    ("content", "tail", "text"),
    [
        (b"", 10, ""),
        (b"a\nb\nc\n", 2, "b\nc\n"),
        (b"a\nb\nc", 2, "b\nc"),
        (b"a\nb\nc", 1, "c"),
        (b"a\nb\nc\n", 3, "a\nb\nc\n"),
        (b"a\nb\nc\n", 1000, "a\nb\nc\n"),
        (b"a\nb\nc\n", 0, ""),
        (b"\n\n\n", 2, "\n\n"),
        (b"\n", 1, "\n"),
        (b"10%\r20%\r30%", 1, "10%\r20%\r30%"),
        (b"a\r\nb\r\n", 1, "b\r\n"),
        (b"caf\xc3\xa9\n\xff\xfe\n", 2, "café\n\ufffd\ufffd\n"),
        (b"half a character: \xc3", 1, "half a character: \ufffd"),
        (b"nul\0\n", 1, "nul\0\n"),
    ],
)
def test_the_last_lines_of_a_log(
    storage: Store, logged: Callable[..., str], content: bytes, tail: int, text: str
) -> None:
    job_id = logged(content)
    assert storage.load_logs(job_id, tail) == text
    assert storage.get(job_id).log_size == len(content)


@pytest.mark.parametrize("length", [1, 31, 32, 33, 1000])
@pytest.mark.parametrize("end", ["", "\n"])
def test_the_last_lines_are_right_at_every_seam_of_the_blocks(
    storage: Store,
    logged: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
    length: int,
    end: str,
) -> None:
    monkeypatch.setattr(module, "BLOCK", 32)
    lines = [str(n).rjust(length, ".") for n in range(40)]
    job_id = logged(("\n".join(lines) + end).encode())
    for tail in range(1, 45):
        assert storage.load_logs(job_id, tail) == "\n".join(lines[-tail:]) + end


def test_a_thousand_lines_is_what_one_gets_unasked(
    storage: Store, logged: Callable[..., str]
) -> None:
    job_id = logged(b"".join(b"%d\n" % n for n in range(5000)))
    assert storage.load_logs(job_id).split() == [str(n) for n in range(4000, 5000)]


def test_one_endless_line_is_bounded(storage: Store, logged: Callable[..., str]) -> None:
    job_id = logged(b"head\n" + b"\r50%" * (1 << 19) + b"\rlast")
    text = storage.load_logs(job_id)
    assert len(text) == 1 << 20 and text.endswith("\rlast")
    assert storage.load_logs(job_id, 1) == text


def test_only_the_end_of_a_large_log_is_read(
    storage: FolderStore, logged: Callable[..., str], folder: Path, tmp_path: Path
) -> None:
    """Counted in bytes that the process reads: 8 GB and 1 MB cost the same."""
    line = b"0123456789 abcdefghijklmnopqrstuvwxyz\n"
    small, large = logged(line * 30_000), logged(b"head of the log\n")
    with open(folder / "running" / large / "output.log", "r+b") as file:
        os.pwrite(file.fileno(), line * 30_000, 8 << 30)
    code = """
def read():
    with open("/proc/self/io") as file:
        return int(file.readline().split()[1])
storage = open_store(sys.argv[1])
storage.load_logs(sys.argv[2])
before = read()
text = storage.load_logs(sys.argv[2])
print(read() - before, len(text.splitlines()))
"""
    if not os.path.exists("/proc/self/io"):
        pytest.skip("this system does not count the bytes that a process reads")
    costs = [in_processes(1, code, folder, job)[0].split() for job in (small, large)]
    (small_cost, small_lines), (large_cost, large_lines) = costs
    assert small_lines == large_lines == "1000"
    assert abs(int(large_cost) - int(small_cost)) < 10_000
    assert int(large_cost) < 400_000
    assert storage.load_logs(large, 2) == line.decode() * 2
    assert storage.get(large).log_size == (8 << 30) + 30_000 * len(line)


def test_the_log_of_an_ended_job_stays(storage: Store, claim: Callable[[], Claim]) -> None:
    job = storage.submit(Job(command="true"))
    with claim() as held:
        with held.open_log_for_append() as log:
            log.write(b"done\n")
        held.finish(Outcome(Status.SUCCEEDED, 0))
    assert storage.load_logs(job.id) == "done\n"


# --- Workers --------------------------------------------------------------------------------------


def worker_info(name: str, running: int = 0) -> WorkerInfo:
    return WorkerInfo(name, "host", 1, 2, ["a", "b"], running, "then")


def test_workers_are_shown_while_they_live(storage: Store, folder: Path) -> None:
    assert list(storage.workers()) == []
    storage.heartbeat(worker_info("w"), 0)
    storage.heartbeat(worker_info("w"), 12)
    (shown,) = storage.workers()
    assert replace(shown, seen_at="") == worker_info("w", 12)
    code = """
storage = open_store(sys.argv[1])
storage.heartbeat(WorkerInfo("dead", "host", 1, 2, []), 0)
assert len(storage.workers()) == 2
"""
    in_processes(1, code, folder)
    assert list(storage.workers()) == [shown]


# --- The folder backend: files as they may be found -----------------------------------------------

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
def test_a_damaged_record_is_shown_with_a_reason_and_left_as_it_is(
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
def test_a_record_that_is_no_file_is_shown_with_a_reason_and_never_followed(
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


def test_a_record_of_a_newer_version_waits_unchanged_for_a_newer_worker(
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


def test_a_record_of_a_newer_version_can_be_cancelled_and_stays_as_it_is(
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


def test_a_record_of_this_version_is_understood_for_ever(
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
    assert job.reason and "made by another version" in job.reason
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


def test_the_queue_is_the_folder_that_the_job_stands_in(
    storage: FolderStore, folder: Path, claim: Callable[[], Claim]
) -> None:
    job = storage.submit(Job(command="true", queue="slow"))
    (folder / "queued" / "slow" / job.id).rename(folder / "queued" / "default" / job.id)
    assert storage.get(job.id).queue == "default"
    with claim() as held:
        assert held.requeue(Outcome(Status.QUEUED)).queue == "default"
    assert (folder / "queued" / "default" / job.id).is_dir()


def test_stray_files_and_folders_are_ignored_in_every_state_folder(
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


def test_a_symbolic_link_is_no_job(storage: FolderStore, folder: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "job.json").write_text('{"command": "true", "version": 2}')
    (folder / "queued" / "default" / UNKNOWN).symlink_to(elsewhere)
    assert storage.list() == ([], None)
    with pytest.raises(JobNotFound):
        storage.get(UNKNOWN)
    assert storage.claim("worker", "host") is None
    assert [p.name for p in elsewhere.iterdir()] == ["job.json"]


def test_a_log_that_is_a_symbolic_link_is_not_followed(
    storage: FolderStore, folder: Path, tmp_path: Path
) -> None:
    job = storage.submit(Job(command="true"))
    (tmp_path / "secret").write_text("secret")
    (folder / "queued" / "default" / job.id / "output.log").symlink_to(tmp_path / "secret")
    with pytest.raises(OSError):
        storage.load_logs(job.id)


def test_folders_are_their_owners_only(storage: FolderStore, folder: Path) -> None:
    job = storage.submit(Job(command="true"), key="k")
    made = [p for p in folder.rglob("*") if not p.is_symlink()]
    assert folder / "queued" / "default" / job.id / "job.json" in made
    assert [p for p in [folder, *made] if p.stat().st_mode & 0o077] == []


def test_a_submit_that_fails_leaves_nothing(storage: FolderStore, folder: Path) -> None:
    shutil.rmtree(folder / "queued")
    (folder / "queued").write_text("in the way")
    with pytest.raises(OSError):
        storage.submit(Job(command="true"))
    assert list((folder / "tmp").iterdir()) == []


def test_a_queue_that_leads_elsewhere_is_refused(storage: Store, tmp_path: Path) -> None:
    for queue in ("../../x", "", "a/b", "A", "x" * 33):
        with pytest.raises(ValueError):
            storage.submit(Job(command="true", queue=queue))
    assert storage.list() == ([], None)
    assert not (tmp_path / "x").exists()


# --- How a dead shim's job ended ------------------------------------------------------------------


def run_under_shim(held: Claim, line: str) -> None:
    shim = ["/bin/sh", "-c", SHIM, "tailboard", "/bin/sh", "-c", line]
    subprocess.run(shim, stdin=held.shim_input(), start_new_session=True)


@pytest.fixture
def ran(storage: Store, claim: Callable[[], Claim]) -> Iterator[Callable[..., Claim]]:
    """Run a shell line under the shim, to its end; the job, claimed and locked."""
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


@pytest.mark.parametrize(
    ("line", "status", "code", "reason"),
    [
        ("exit 0", Status.SUCCEEDED, 0, None),
        ("exit 7", Status.FAILED, 7, None),
        ("kill -SEGV $$", Status.FAILED, 139, "ended by SIGSEGV"),
    ],
)
def test_the_exit_line_says_how_a_job_ended(
    ran: Callable[..., Claim], line: str, status: Status, code: int, reason: str | None
) -> None:
    held = ran(line)
    outcome = held.judge().outcome
    assert (outcome.status, outcome.exit_code, outcome.reason) == (status, code, reason)
    assert outcome.finished_at == utc(journal_of(held).stat().st_mtime)


def test_a_job_moved_into_running_by_hand_never_started(storage: FolderStore, folder: Path) -> None:
    job = storage.submit(Job(command="true"))
    (folder / "queued" / "default" / job.id).rename(folder / "running" / job.id)
    (held,) = storage.orphans("host", ())
    with held:
        assert held.acquire_lock()
        assert held.judge().status is Status.QUEUED
        held.requeue(held.judge().outcome)
    assert storage.get(job.id).status is Status.QUEUED


def test_a_finished_job_moved_back_to_the_queue_goes_where_its_journal_says(
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


def test_a_second_folder_of_an_id_is_set_aside(
    storage: FolderStore, folder: Path, claim: Callable[[], Claim | None]
) -> None:
    job = storage.submit(Job(command="true"))
    shutil.copytree(folder / "queued" / "default" / job.id, folder / "copy")
    with claim() as held:
        held.finish(Outcome(Status.SUCCEEDED, 0))
    (folder / "copy").rename(folder / "queued" / "default" / job.id)
    assert claim() is None
    assert storage.get(job.id).status is Status.SUCCEEDED
    (aside,) = (folder / "set-aside").iterdir()
    assert aside.name.startswith(job.id) and (aside / "job.json").exists()


def test_a_job_whose_lock_is_held_for_a_moment_is_claimed_afterwards(
    storage: FolderStore, claim: Callable[[], Claim | None], folder: Path
) -> None:
    """A recorder moves a job into the queue first and lets its locks go after that."""
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
    os.utime(f"{held.folder}/cancel", (1, 1))
    outcome = held.judge().outcome
    assert (outcome.status, outcome.exit_code) == (Status.CANCELLED, 143)
    assert outcome.reason


def test_a_job_cancelled_between_attempts_keeps_how_the_first_ended(
    storage: Store, claim: Callable[[], Claim]
) -> None:
    job = storage.submit(Job(command="true", retries=1))
    with claim() as held:
        held.requeue(Outcome(Status.FAILED, 3))
    cancelled = storage.cancel(job.id, "enough")
    assert (cancelled.status, cancelled.attempt) == (Status.CANCELLED, 2)
    assert (cancelled.exit_code, cancelled.started_at) == (None, None)
    (attempt,) = cancelled.attempts_as_dicts()
    assert (attempt["number"], attempt["status"], attempt["exit_code"]) == (1, "failed", 3)


# --- Where a job belongs: one pure function -------------------------------------------------------

BOOT, EXIT_AT = "this boot", 1_000.0
IN_TIME, LATE = CancelRequest(EXIT_AT, "why"), CancelRequest(EXIT_AT + 1, "why")


def lines(*words: str, boot: str = BOOT) -> bytes:
    """A journal in short: c2 claims attempt 2, p, x7 exits with 7, s stops, e:STATUS ends."""
    told = {
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
    made = (json.dumps(told[word[0]](word[1:])) for word in words)
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
        ("", 0, LATE, C, 1),
        ("c1", 0, None, Q, 1),
        ("c1 q", 0, None, Q, 1),
        ("c1 q c1", 0, None, Q, 1),
        ("c1 p", 0, None, L, 1),
        ("c1 p", 1, None, Q, 2),
        ("c1 p", 1, LATE, C, 1),
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
        ("c1 p s x143", 1, LATE, C, 1),
        ("c1 p s x143", 0, IN_TIME, C, 1),
        ("c1 p x0", 0, IN_TIME, C, 1),
        ("c1 p x0", 0, LATE, S, 1),
        ("c1 p x0 e:succeeded", 0, LATE, S, 1),
        ("c1 p x7", 0, LATE, F, 1),
        ("c1 p x7", 1, LATE, C, 1),
        ("c1 p x7 e:failed", 1, LATE, C, 1),
        ("c1 p e:lost", 0, LATE, C, 1),
        ("c1 p e:failed e:cancelled", 1, None, C, 1),
        ("e:cancelled", 0, None, C, 1),
    ],
)
def test_where_a_job_belongs(
    words: str, retries: int, cancel: CancelRequest | None, status: Status, attempt: int
) -> None:
    assert belongs(lines(*words.split()), retries, cancel)[:2] == (status, attempt)


def test_a_claim_of_another_or_an_unknown_boot_may_have_started() -> None:
    for boot in ("the one before", ""):
        assert belongs(lines("c1", boot=boot))[0] is Status.LOST
        assert belongs(lines("c1", boot=boot), retries=1)[:2] == (Status.QUEUED, 2)
    verdict = judge(0, parse_journal(lines("c1", boot=""))[-1], None, "", EXIT_AT)
    assert verdict.status is Status.LOST


WHOLE = ("c1 p x0 e:succeeded", "c1 q c1 p s x143 e:timed_out", "c1 p x7 e:failed c2 p x7 e:failed")


@pytest.mark.parametrize("words", WHOLE)
@pytest.mark.parametrize("retries", [0, 1])
@pytest.mark.parametrize("cancel", [None, IN_TIME, LATE])
def test_a_journal_cut_at_any_byte_means_what_its_whole_lines_mean(
    words: str, retries: int, cancel: CancelRequest | None
) -> None:
    """A crash leaves a prefix; a line that is torn spoils only itself, whatever follows it."""
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
     b'{"stopping": {"status": "timed_out", "exit_code": 1e999}}', b'{"exit": ' + b"9" * 9_999],
)  # fmt: skip
def test_a_line_that_is_none_of_ours_is_passed_over(foreign: bytes) -> None:
    whole = lines("c1", "p", "x7")
    assert parse_journal(whole + foreign + b"\n") == parse_journal(whole)
    assert parse_journal(foreign + whole) == parse_journal(whole)


@pytest.mark.parametrize("kind", ["too large", "hole of 4 TB", "FIFO", "folder", "link", "missing"])
def test_a_running_job_whose_journal_is_destroyed_can_still_be_looked_at(
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
                held.judge()
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


def test_a_storage_is_a_folder_and_another_url_is_refused(tmp_path: Path) -> None:
    open_store(str(tmp_path / "a"))
    assert (tmp_path / "a" / "queued").is_dir()
    with pytest.raises(ValueError, match="TAILBOARD_STORAGE"):
        open_store("ftp://host/jobs")


@pytest.mark.parametrize(
    ("file", "ours", "theirs"),
    [
        ("storage.py", set(), {"flask", "streamlit", "requests"}),
        ("worker.py", {"storage"}, {"flask", "streamlit"}),
        ("api.py", {"storage"}, {"streamlit", "requests"}),
        ("dashboard.py", set(), {"flask"}),
    ],
)
def test_each_module_depends_only_on_what_it_may(
    file: str, ours: set[str], theirs: set[str]
) -> None:
    imported = set()
    for node in ast.walk(ast.parse((ROOT / file).read_text())):
        if isinstance(node, ast.Import):
            imported |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add((node.module or "").partition(".")[0])
    assert imported & {"storage", "worker", "api", "dashboard"} == ours
    assert not imported & theirs
