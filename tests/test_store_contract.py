"""The contract of the storage port: what the API, the commands and a worker may count on, whichever
backend TAILBOARD_STORAGE names. Nothing here looks behind the port; `store_url` says where to."""

from __future__ import annotations

import json
import os
import re
import select
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import (
    Gate,
    in_processes,
    open_store,
    run_under_shim,
    start_shim,
    wait_until,
)

from storage import WorkerStore, load_logs
from tailboard import judge as judge_module
from tailboard import keys, saved_command, values
from tailboard import logs as logs_module
from tailboard import sessions as sessions_module
from tailboard.errors import (
    CommandChanged,
    CommandNotFound,
    JobNotFound,
    KeyReused,
    NotAFile,
    TooManySaved,
    WrongState,
)
from tailboard.explain.live_marks import LiveMarks, Results
from tailboard.explain.markers import Progress
from tailboard.explain.progress_tail import OwnProgress
from tailboard.folder import saved_files
from tailboard.folder.claim import Claim
from tailboard.folder.folder_store import FolderStore
from tailboard.job import Job
from tailboard.job_files import FileKind, FileListing
from tailboard.journal import Outcome
from tailboard.logs import Log
from tailboard.matching import TextMatcher
from tailboard.notifier import Notifier
from tailboard.saved_command import Param, SavedCommand
from tailboard.scheduler import fire_due
from tailboard.schedules import due
from tailboard.sessions import new_session
from tailboard.status import ENDED_WORDS, FINISHED, Status
from tailboard.usage import USAGE_RECORD, UsageSample
from tailboard.values import utc
from tailboard.workers import Pause, WorkerInfo

UNKNOWN = "20200101-000000-00000000"
NO_QUEUES = ("../../x", "", "a/b", "A", "x" * 33)
FAR, PAST = float("inf"), 0.0  # deadlines on the monotonic clock
KEEP_ALL = 1 << 30  # bytes of a log to keep


@contextmanager
def listening(store: WorkerStore, *queues: str) -> Iterator[Notifier | None]:
    """Listens to these queues (none: all); at the end, releases the claims."""
    watch = store.listen(queues)
    try:
        yield watch
    finally:
        if watch is not None:
            watch.close()


def is_woken(watch: Notifier) -> bool:
    """Does `wait` return before its time is up?"""
    began = time.monotonic()
    watch.wait(20)
    return time.monotonic() - began < 20


# --- Submit and look ------------------------------------------------------------------------------


def test_a_submitted_job_can_be_read_with_all_its_fields(store: WorkerStore) -> None:
    said = {
        "command": ["echo", "grüße", "\n"],
        "name": "nightly\U0001f319",
        "queue": "gpu_1",
        "cwd": "/tmp",
        "env": {"A": "1", "B": ""},
        "timeout": 1.5,
        "retries": 3,
        "retry_delay": 1.5,
        "not_before": "2026-11-23T18:00:00.000Z",
        "submitted_by": "ana",
        "rerun_of": UNKNOWN,
        "saved": "deploy",
        "values": {"A": "1"},
    }
    job = store.submit(Job(**said))
    found = store.get(job.id)
    assert {name: getattr(found, name) for name in said} == said
    assert found == job
    assert (found.status, found.attempt, found.log_size) == (Status.QUEUED, 1, 0)
    assert found.submitted_at and found.submitted_at.endswith("Z")
    nothing = ("started_at", "finished_at", "exit_code", "reason", "worker", "host", "pid")
    assert [getattr(found, name) for name in nothing] == [None] * len(nothing)


def test_an_id_contains_the_time_and_sorts_by_it(store: WorkerStore) -> None:
    jobs = [store.submit(Job(command="true")) for _ in range(20)]
    ids = [job.id for job in jobs]
    assert ids == sorted(ids) and len(set(ids)) == 20
    for job in jobs:
        assert job.submitted_at
        assert values.ID_RE.fullmatch(job.id)
        assert job.id[:8] == job.submitted_at[:10].replace("-", "")


def test_a_job_is_sent_with_the_documented_fields(store: WorkerStore) -> None:
    wire = store.submit(Job(command="true")).as_dict()
    assert (
        list(wire)
        == (
            "id command name queue cwd env timeout retries retry_delay key if_busy urgent "
            "notify warn_after warn_waiting secrets "
            "keep_files keep_runs keep_days log_max_bytes max_memory nice "
            "not_before after after_status attempt status "
            "submitted_at started_at finished_at exit_code reason hint worker host pid "
            "submitted_by rerun_of saved values secret_params then cpu_seconds max_rss_bytes "
            "files_count files_bytes log_size log_start"
        ).split()
    )
    json.dumps(wire)


@pytest.mark.parametrize(
    ("given", "shown"), [(60.0, "60"), (60, "60"), (0.0, "0"), (1.5, "1.5"), (1e3, "1000")]
)
def test_a_whole_number_of_seconds_is_always_written_as_one(
    store: WorkerStore, given: float, shown: str
) -> None:
    job = store.submit(Job(command="true", timeout=given, retry_delay=given))
    store.saved.save(SavedCommand(saved="a", command="true", timeout=given, retry_delay=given))
    for reported in (job, store.get(job.id), store.saved.load("a")):
        wire = reported.as_dict()
        assert [json.dumps(wire[name]) for name in ("timeout", "retry_delay")] == [shown] * 2


@pytest.mark.parametrize(
    "job_id",
    [UNKNOWN, "", ".", "..", "../x", "x/../../y", f"{UNKNOWN}/", f"../queued/default/{UNKNOWN}",
     f"{UNKNOWN}\n", "\0", "20200101-000000-\uff100000000", "a" * 5000],
)  # fmt: skip
def test_an_invalid_id_is_an_unknown_job_for_every_method(store: WorkerStore, job_id: str) -> None:
    with pytest.raises(JobNotFound):
        store.get(job_id)
    with pytest.raises(JobNotFound):
        store.cancel(job_id, "why")
    with pytest.raises(JobNotFound):
        store.delete(job_id)
    with pytest.raises(JobNotFound):
        store.open_log(job_id)
    with pytest.raises(JobNotFound):
        load_logs(store, job_id)
    with pytest.raises(JobNotFound):
        store.status(job_id)
    with pytest.raises(JobNotFound):
        store.watch(job_id)


def test_jobs_of_many_submitters_are_all_listed_in_order_of_ids(
    store: WorkerStore, store_url: str, full: bool
) -> None:
    each = 250 if full else 60
    code = """
store = open_store(sys.argv[1])
for n in range(int(sys.argv[2])):
    print(store.submit(Job(command="true")).id)
"""
    outputs = [output.split() for output in in_processes(8, code, store_url, each)]
    submitted = sorted(job_id for output in outputs for job_id in output)
    assert len(set(submitted)) == 8 * each
    for output in outputs:
        assert output == sorted(output)
    assert store.counts()[Status.QUEUED] == 8 * each
    claimed = []
    with listening(store):
        while held := store.claim("worker", "host"):
            with held:
                claimed.append(held.job.id)
    assert claimed == submitted


def test_each_job_is_claimed_once_and_in_order_by_many_claimers(
    store: WorkerStore, store_url: str
) -> None:
    submitted = [store.submit(Job(command="true")).id for _ in range(200)]
    code = """
store = open_store(sys.argv[1])
store.listen(())
while held := store.claim("worker", "host"):
    with held:
        print(held.job.id)
"""
    outputs = [output.split() for output in in_processes(4, code, store_url)]
    assert sorted(job_id for output in outputs for job_id in output) == submitted
    for output in outputs:
        assert output == sorted(output)


def test_the_same_key_returns_the_same_job(store: WorkerStore) -> None:
    job = store.submit(Job(command="echo one"), key="k")
    again = store.submit(Job(command="echo two"), key="k")
    assert (again.id, again.command) == (job.id, "echo one")
    assert store.submit(Job(command="echo two"), key="l").id != job.id
    assert store.submit(Job(command="echo two")).id != job.id
    store.submit(Job(command="true"), key="\ud800/../.. \0 " + "long" * 1000)


def test_a_key_with_another_request_is_refused(store: WorkerStore, store_url: str) -> None:
    one, two = "1" * 64, "2" * 64
    job = store.submit(Job(command="echo one"), "k", one)
    for again in (store, open_store(store_url)):
        assert again.submit(Job(command="echo one"), "k", one).id == job.id
        assert again.submit(Job(command="echo one"), "k").id == job.id
        with pytest.raises(KeyReused, match=f"belongs to job {job.id}, which a different request"):
            again.submit(Job(command="echo two"), "k", two)
    assert store.counts()[Status.QUEUED] == 1


def test_a_key_of_a_deleted_job_can_be_reused(
    store: WorkerStore, claim: Callable[[], Claim]
) -> None:
    for request in ("1" * 64, None, "2" * 64):
        job = store.submit(Job(command="true"), "k", request)
        assert store.submit(Job(command="true"), "k", request).id == job.id
        with claim() as held:
            held.finish(Outcome(Status.SUCCEEDED, 0))
        store.delete(job.id)


def test_a_key_without_a_request_hash_returns_its_job(store: WorkerStore) -> None:
    job = store.submit(Job(command="true"), "k")
    assert store.submit(Job(command="true"), "k", "1" * 64).id == job.id


def test_a_key_belongs_to_its_job_until_that_is_deleted(
    store: WorkerStore, claim: Callable[[], Claim]
) -> None:
    job = store.submit(Job(command="true"), key="k")
    with claim() as held:
        assert store.submit(Job(command="true"), key="k").id == job.id
        held.finish(Outcome(Status.SUCCEEDED, 0))
    assert store.submit(Job(command="true"), key="k").status is Status.SUCCEEDED
    store.delete(job.id)
    assert store.submit(Job(command="true"), key="k").id != job.id


def test_one_key_used_by_many_clients_at_once_makes_one_job(
    store: WorkerStore, store_url: str
) -> None:
    code = """
store = open_store(sys.argv[1])
for n in range(20):
    print(store.submit(Job(command="true"), key=f"key {n}").id)
"""
    outputs = in_processes(6, code, store_url)
    assert len(set(outputs)) == 1
    assert store.counts()[Status.QUEUED] == 20


def test_the_status_can_be_read_alone(store: WorkerStore, bring: Callable[..., Job]) -> None:
    made = [(bring(status).id, status) for status in (*FINISHED, Status.RUNNING, Status.QUEUED)]
    assert [(job_id, store.status(job_id)) for job_id, _ in made] == made


def test_an_invalid_queue_name_is_refused(store: WorkerStore) -> None:
    for queue in NO_QUEUES:
        with pytest.raises(ValueError, match="queue"):
            store.submit(Job(command="true", queue=queue))
    assert store.list() == ([], None)


def test_stored_jobs_survive_a_restart(
    store: WorkerStore, store_url: str, bring: Callable[..., Job]
) -> None:
    made = [bring(status).id for status in (*FINISHED, Status.RUNNING)]
    made.append(store.submit(Job(command="true", queue="gpu", env={"A": "1"}), key="k").id)
    again = open_store(store_url)
    assert again.list() == store.list()
    assert [job.id for job in again.list()[0]] == made[::-1]
    assert again.counts() == store.counts()
    assert again.submit(Job(command="true"), key="k").id == made[-1]


def test_a_check_of_a_writable_store_succeeds_and_changes_nothing(store: WorkerStore) -> None:
    store.check_writable()
    assert store.list() == ([], None)


def test_a_job_is_found_by_the_start_or_the_end_of_its_id(
    store: WorkerStore, bring: Callable[..., Job]
) -> None:
    made = [bring(status).id for status in (*FINISHED, Status.RUNNING, Status.QUEUED)]
    for job_id in made:
        assert list(store.find(job_id)) == list(store.find(job_id[-8:])) == [job_id]
    assert sorted(store.find("20")) == made


@pytest.mark.parametrize("part", ["", "no such ID", UNKNOWN, "*", "../"])
def test_a_text_that_no_id_starts_or_ends_with_finds_no_job(store: WorkerStore, part: str) -> None:
    store.submit(Job(command="true"))
    assert list(store.find(part)) == []


def test_the_middle_of_an_id_does_not_find_it(store: WorkerStore) -> None:
    job = store.submit(Job(command="true"))
    assert list(store.find(job.id[1:-1])) == []


# --- List and count -------------------------------------------------------------------------------


def test_the_list_is_newest_first_and_pages_by_the_last_id(store: WorkerStore) -> None:
    ids = [store.submit(Job(command="true")).id for _ in range(7)][::-1]
    pages, before = [], None
    while True:
        jobs, before = store.list(limit=3, before=before)
        pages.append([job.id for job in jobs])
        if before is None:
            break
        assert before == jobs[-1].id
    assert pages == [ids[:3], ids[3:6], ids[6:]]
    assert store.list(limit=7) == (store.list()[0], None)
    assert [job.id for job in store.list(before=ids[5])[0]] == ids[6:]
    assert store.list(before=ids[-1]) == ([], None)


def test_the_list_mixes_all_states_and_queues_by_age(
    store: WorkerStore, bring: Callable[..., Job]
) -> None:
    states = [*FINISHED, Status.RUNNING, Status.SUCCEEDED, Status.QUEUED, Status.QUEUED]
    made = [bring(s, queue=f"q{n}").id for n, s in enumerate(states)]
    jobs, more = store.list()
    assert ([job.id for job in jobs], more) == (made[::-1], None)
    assert [job.status for job in jobs] == states[::-1]
    assert [job.queue for job in jobs] == [f"q{n}" for n in range(len(states))][::-1]
    paged: list[str] = []
    before = None
    while len(paged) < len(made):
        page, before = store.list(limit=2, before=before)
        paged += [job.id for job in page]
    assert paged == made[::-1]
    assert store.counts() == {s: states.count(s) for s in Status}
    assert [store.count_since(made[n]) for n in (0, 1, -1)] == [len(made), len(made) - 1, 1]
    assert store.count_since(made[1], Status.SUCCEEDED) == states[1:].count(Status.SUCCEEDED)
    assert store.count_since("9" * 24) == 0


def test_the_list_is_filtered_by_status_queue_person_and_text(
    store: WorkerStore, bring: Callable[..., Job]
) -> None:
    one = bring(Status.SUCCEEDED, command="python Train.py", queue="gpu", submitted_by="anna")
    two = bring(Status.FAILED, command=["ls", "-l"], name="Straße")
    three = bring(Status.QUEUED, command="make train", queue="gpu")

    def ids(**query: Any) -> list[str]:
        return [job.id for job in store.list(**query)[0]]

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
    assert ids(by="anna") == [one.id]
    assert ids(by="ann") == ids(by="anna", status=Status.QUEUED) == []


def test_long_commands_are_cut_in_a_short_list(store: WorkerStore) -> None:
    plain = store.submit(Job(command="x" * 1_990, env={"A": "b"}))
    line = store.submit(Job(command="begin " + "\U0001f600" * 30_000))
    words = store.submit(Job(command=["begin", *["\x01" * 30_000] * 5]))
    many = store.submit(Job(command=[""] * 1_000))
    jobs = {job.id: job for job in store.list(short=True)[0]}
    assert jobs[plain.id].command == plain.command
    assert not jobs[plain.id].is_command_cut
    for job in (line, words, many):
        cut = jobs[job.id]
        assert cut.is_command_cut
        assert type(cut.command) is type(job.command)
        assert 200 < len(json.dumps(cut.command)) < 2_010
        assert store.get(job.id).command == job.command
    assert str(jobs[line.id].command) == line.command[: len(jobs[line.id].command)]
    assert jobs[words.id].command[0] == "begin"
    assert [job.env for job in jobs.values()] == [{}] * 4
    assert store.list(short=True, text="\U0001f600" * 500)[0] == [jobs[line.id]]


def test_an_empty_store_returns_empty_lists_and_counts(store: WorkerStore) -> None:
    assert store.list() == ([], None)
    assert store.counts() == dict.fromkeys(Status, 0)
    assert store.finished_totals() == dict.fromkeys(FINISHED, 0)
    assert store.queued_by_queue() == {}
    assert store.unfinished_ids() == set()
    assert list(store.iter_finished_ids()) == []
    assert list(store.workers()) == []
    assert list(store.unreadable()) == []
    assert store.claim("worker", "host") is None
    assert list(store.orphans("host", ())) == []
    assert list(store.prune(1, 1)) == []


def test_a_filtered_list_has_every_match_once_over_all_pages(store: WorkerStore) -> None:
    """A page may hold fewer jobs than its limit; only a missing `next` marks the end."""
    made = [store.submit(Job(command=f"{n % 7 or 'rare'}")).id for n in range(50)]
    found: list[str] = []
    before = None
    while True:
        jobs, before = store.list(text="rare", limit=3, before=before)
        found += [job.id for job in jobs]
        if before is None:
            break
    assert found == made[::7][::-1]


def test_queued_jobs_are_listed_by_queue_oldest_first(
    store: WorkerStore, claim: Callable[[], Claim], bring: Callable[..., Job]
) -> None:
    bring(Status.RUNNING, queue="busy")
    bring(Status.CANCELLED, queue="done")
    ids = [store.submit(Job(command="true", queue=q)).id for q in ("b", "a", "b", "a", "b")]
    queued = {queue: list(names) for queue, names in store.queued_by_queue().items()}
    assert queued == {"a": ids[1::2], "b": ids[0::2]}
    with claim():
        assert list(store.queued_by_queue()["b"]) == ids[2::2]
    for job_id in ids[1::2]:
        store.cancel(job_id, "why")
    assert list(store.queued_by_queue()) == ["b"]


def test_the_totals_count_jobs_that_were_deleted_since(
    store: WorkerStore, store_url: str, bring: Callable[..., Job]
) -> None:
    states = [*FINISHED, Status.FAILED]
    ended = [bring(status).id for status in states]
    bring(Status.RUNNING)
    bring(Status.QUEUED)
    totals = {status: states.count(status) for status in FINISHED}
    assert store.finished_totals() == totals
    for job_id in ended[1:]:
        store.delete(job_id)
    assert sum(store.counts()[status] for status in FINISHED) == 1
    assert store.finished_totals() == totals
    assert open_store(store_url).finished_totals() == totals


def test_the_ids_of_ended_jobs_come_highest_first(
    store: WorkerStore, bring: Callable[..., Job]
) -> None:
    ended = [bring(status).id for status in (*FINISHED, Status.SUCCEEDED)]
    waiting = {bring(Status.RUNNING).id, bring(Status.QUEUED).id}
    assert list(store.iter_finished_ids()) == ended[::-1]
    assert store.unfinished_ids() == waiting
    store.delete(ended[1])
    assert list(store.iter_finished_ids()) == [*ended[:1:-1], ended[0]]
    assert list(store.get_many([ended[2], ended[1], "none", ended[0]])) == [
        store.get(ended[2]),
        store.get(ended[0]),
    ]


def test_ids_of_many_ended_jobs_are_read_in_several_batches(
    store: WorkerStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tailboard.machines.redis_jobs.ID_STEP", 3)
    made = [store.submit(Job(command="true")).id for _ in range(8)]
    for job_id in made:
        store.cancel(job_id, "why")
    assert list(store.iter_finished_ids()) == made[::-1]


# --- Transitions ----------------------------------------------------------------------------------


def test_a_claimed_job_is_running_and_names_its_worker(
    store: WorkerStore, claim: Callable[[], Claim]
) -> None:
    job = store.submit(Job(command="true"))
    with claim() as held:
        assert held.job.id == job.id
        found = store.get(job.id)
        assert (found.status, found.worker, found.host) == (Status.RUNNING, "worker", "host")
        assert found.started_at and found.started_at >= (job.submitted_at or "")
        assert claim() is None
        assert list(store.orphans("host", ())) == [], "another process supervises it"
    with next(store.orphans("host", ())) as held:
        assert held.acquire_lock() and held.job == store.get(job.id)


def test_claims_are_first_in_first_out_across_queues(
    store: WorkerStore, claim: Callable[[], Claim]
) -> None:
    ids = [store.submit(Job(command="true", queue=q)).id for q in ("b", "a", "c", "a")]
    for job_id in ids:
        with claim() as held:
            assert held.job.id == job_id


def test_jobs_are_claimed_only_from_the_given_queues(store: WorkerStore) -> None:
    jobs = {q: store.submit(Job(command="true", queue=q)) for q in ("a", "b", "c")}
    with listening(store, "c", "b"):
        for queue in ("b", "c"):
            held = store.claim("worker", "host")
            assert held
            with held:
                assert held.job.id == jobs[queue].id
        assert store.claim("worker", "host") is None


def test_a_listener_is_notified_of_new_jobs_even_in_a_new_queue(
    store: WorkerStore, store_url: str
) -> None:
    with listening(store) as watch:
        if watch is None:
            pytest.skip("nothing tells of a new job here: it is polled for")
        ready = watch.fileno()
        other = open_store(store_url)
        for queue in ("default", "quite-new", "quite-new"):
            other.submit(Job(command="true", queue=queue))
            assert select.select([ready], [], [], 20)[0]

            with wait_until(lambda: store.claim("worker", "host")) as held:
                assert held.job.queue == queue
            wait_until(lambda: store.claim("w", "h") or not select.select([ready], [], [], 0)[0])


def test_listening_to_an_invalid_queue_name_is_refused(store: WorkerStore) -> None:
    for queue in NO_QUEUES:
        with pytest.raises(ValueError, match="queues"):
            store.listen(["default", queue])


@pytest.mark.parametrize("status", FINISHED)
def test_a_finished_job_records_how_it_ended(
    store: WorkerStore, claim: Callable[[], Claim], status: Status
) -> None:
    job = store.submit(Job(command="true"))
    with claim() as held:
        outcome = Outcome(status, 143, "because", cpu_seconds=1.5, max_rss_bytes=2048)
        assert held.finish(outcome) == store.get(job.id)
    found = store.get(job.id)
    assert (found.status, found.exit_code, found.reason) == (status, 143, "because")
    assert (found.cpu_seconds, found.max_rss_bytes) == (1.5, 2048)
    assert found.finished_at and found.finished_at >= (found.started_at or "")
    assert found.pid is None
    assert list(store.orphans("host", ())) == []
    assert store.counts()[status] == 1


def test_an_end_is_never_before_its_start_even_if_the_clock_jumped(
    store: WorkerStore, claim: Callable[[], Claim]
) -> None:
    store.submit(Job(command="true"))
    with claim() as held:
        outcome = Outcome(Status.SUCCEEDED, 0, finished_at="2001-01-01T00:00:00.000Z")
        job = held.finish(outcome)
    assert job.finished_at == job.started_at


@pytest.mark.parametrize("status", FINISHED)
def test_an_ended_job_can_only_be_deleted(
    store: WorkerStore, claim: Callable[[], Claim], status: Status
) -> None:
    job = store.submit(Job(command="true"))
    with claim() as held:
        held.finish(Outcome(status))
        with pytest.raises(WrongState):
            held.finish(Outcome(Status.FAILED))
        with pytest.raises(WrongState):
            held.requeue(Outcome(Status.FAILED, 1))
    with pytest.raises(WrongState, match=f"{ENDED_WORDS[status]} and can no longer be cancelled"):
        store.cancel(job.id, "why")
    assert store.get(job.id).status is status
    store.delete(job.id)
    with pytest.raises(JobNotFound):
        store.get(job.id)
    with pytest.raises(JobNotFound):
        store.delete(job.id)
    assert store.list() == ([], None)
    assert not any(store.counts().values())


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (Status.SUCCEEDED, "has already succeeded"),
        (Status.FAILED, "has already failed"),
        (Status.CANCELLED, "has already been cancelled"),
        (Status.TIMED_OUT, "has already timed out"),
        (Status.LOST, "is already lost"),
    ],
)
def test_the_error_says_why_a_job_cannot_be_cancelled(
    store: WorkerStore, bring: Callable[..., Job], status: Status, words: str
) -> None:
    job = bring(status)
    with pytest.raises(WrongState, match=f"^job {job.id} {words} and can no longer be cancelled$"):
        store.cancel(job.id, "why")


@pytest.mark.parametrize("status", [Status.QUEUED, Status.RUNNING])
def test_the_error_says_why_a_job_cannot_be_deleted(
    store: WorkerStore, bring: Callable[..., Job], status: Status
) -> None:
    job = bring(status)
    reported = f"^job {job.id} is still {status}: only jobs that have ended can be deleted$"
    with pytest.raises(WrongState, match=reported):
        store.delete(job.id)


@pytest.mark.parametrize("status", [Status.QUEUED, Status.RUNNING])
def test_a_job_that_has_not_ended_cannot_be_deleted_from_a_store(
    store: WorkerStore, bring: Callable[..., Job], status: Status
) -> None:
    job = bring(status)
    with pytest.raises(WrongState, match=status):
        store.delete(job.id)
    assert store.get(job.id).status is status


def test_cancelling_a_queued_job_ends_it_at_once(
    store: WorkerStore, claim: Callable[[], Claim]
) -> None:
    job = store.submit(Job(command="true"))
    assert store.cancel(job.id, "nobody needs it").status is Status.CANCELLED
    found = store.get(job.id)
    assert (found.status, found.reason) == (Status.CANCELLED, "nobody needs it")
    assert found.finished_at and found.started_at is None and found.exit_code is None
    assert claim() is None


def test_cancelling_a_running_job_leaves_a_request_for_its_worker(
    store: WorkerStore, bring: Callable[..., Job]
) -> None:
    job = bring(Status.RUNNING)
    (held,) = store.orphans("host", ())
    with held:
        assert not held.cancel_requested() and not store.is_cancel_requested(job.id)
        assert store.cancel(job.id, "first").status is Status.RUNNING
        assert held.cancel_requested()
        assert store.is_cancel_requested(job.id)
    store.cancel(job.id, "second")
    assert store.get(job.id).status is Status.RUNNING


def test_a_requeued_job_is_queued_and_then_on_its_second_attempt(
    store: WorkerStore, claim: Callable[[], Claim]
) -> None:
    job = store.submit(Job(command="true", queue="gpu", retries=1))
    with claim() as held:
        with held.open_log_for_append() as log:
            log.write(b"kept\n")
        held.requeue(Outcome(Status.QUEUED))
    found = store.get(job.id)
    assert (found.status, found.attempt, found.queue) == (Status.QUEUED, 1, "gpu")
    assert (found.started_at, found.worker, found.host) == (None, None, None)
    with claim() as held:
        held.write_stopping(Status.TIMED_OUT, "too long")
        verdict = held.read_verdict()
        assert (verdict.status, verdict.outcome.reason) == (Status.QUEUED, "too long")
        held.requeue(verdict.outcome)
    assert store.get(job.id).attempt == 2
    with claim() as held:
        assert held.attempt.stopping is None, "that was the attempt before"
        assert load_logs(store, job.id) == "kept\n"
    attempts = store.get(job.id).attempts_as_dicts()
    assert [(a["number"], a["status"]) for a in attempts] == [(1, "timed_out"), (2, "running")]


def test_each_failed_attempt_keeps_its_reason_and_hint(
    store: WorkerStore, claim: Callable[[], Claim]
) -> None:
    job = store.submit(Job(command="false", retries=1))
    with claim() as held:
        assert held.read_log_end(100) == b""
        held.write_notice("ValueError: 日本")
        assert held.read_log_end(100) == "ValueError: 日本\n".encode()
        assert held.read_log_end(4) == "本\n".encode()
        held.requeue(Outcome(Status.FAILED, 1, hint="ValueError: 日本"))
    waiting = store.get(job.id)
    assert (waiting.status, waiting.hint) == (Status.QUEUED, None)
    with claim() as held:
        held.finish(Outcome(Status.FAILED, 2, hint="worse"))
    found = store.get(job.id)
    assert [each["hint"] for each in found.attempts_as_dicts()] == ["ValueError: 日本", "worse"]
    assert found.hint == found.as_dict()["hint"] == store.list()[0][0].hint == "worse"


def test_a_cancel_during_a_requeue_is_not_forgotten(
    store: WorkerStore, claim: Callable[[], Claim | None]
) -> None:
    """The worker has checked for one and then records the next attempt; a disk may be slow."""
    job = store.submit(Job(command="true", retries=1))
    with claim() as held:
        store.cancel(job.id, "enough")
        held.requeue(Outcome(Status.FAILED, 1))
    assert claim() is None
    found = store.get(job.id)
    assert (found.status, found.reason) == (Status.CANCELLED, "enough")


def test_concurrent_cancel_and_claim_agree(store: WorkerStore, store_url: str) -> None:
    """Each job is either cancelled in the queue, or claimed with the cancel request."""
    jobs = [store.submit(Job(command="true")).id for _ in range(150)]
    other = open_store(store_url)
    answers: dict[str, Job] = {}

    def cancel() -> None:
        for job_id in reversed(jobs):
            answers[job_id] = other.cancel(job_id, "why")

    canceller = threading.Thread(target=cancel)
    claimed = set()
    with listening(store):
        canceller.start()
        while held := store.claim("worker", "host"):
            with held:
                claimed.add(held.job.id)
        canceller.join()
    running = {held.job.id: held for held in store.orphans("host", ())}
    for job_id in jobs:
        job = store.get(job_id)
        assert job.status is (Status.RUNNING if job_id in claimed else Status.CANCELLED)
        assert job_id not in claimed or running[job_id].cancel_requested()


def test_a_job_can_be_looked_up_while_it_moves(
    store: WorkerStore, store_url: str, full: bool
) -> None:
    """Even backwards: neither a look-up nor the list ever misses it."""
    job = store.submit(Job(command="true", retries=99))
    mover = open_store(store_url)
    stop = threading.Event()

    def move() -> None:
        with listening(mover):
            while not stop.is_set():
                held = mover.claim("worker", "host")
                assert held
                with held:
                    held.requeue(Outcome(Status.QUEUED))

    thread = threading.Thread(target=move)
    thread.start()
    try:
        for _ in range(300 if full else 100):
            assert store.get(job.id).status in (Status.QUEUED, Status.RUNNING)
            assert [found.id for found in store.list()[0]] in ([job.id], [])
    finally:
        stop.set()
        thread.join()


def test_a_job_cancelled_between_attempts_keeps_the_first_end(
    store: WorkerStore, claim: Callable[[], Claim]
) -> None:
    job = store.submit(Job(command="true", retries=1))
    with claim() as held:
        held.requeue(Outcome(Status.FAILED, 3))
    cancelled = store.cancel(job.id, "enough")
    assert (cancelled.status, cancelled.attempt) == (Status.CANCELLED, 2)
    assert (cancelled.exit_code, cancelled.started_at) == (None, None)
    (attempt,) = cancelled.attempts_as_dicts()
    assert (attempt["number"], attempt["status"], attempt["exit_code"]) == (1, "failed", 3)


def test_a_queue_that_is_no_longer_listened_to_is_left_alone(store: WorkerStore) -> None:
    with listening(store, "a"):
        pass
    job = store.submit(Job(command="true", queue="b"))
    store.submit(Job(command="true", queue="a"))
    with listening(store, "b"):
        held = store.claim("worker", "host")
        assert held
        with held:
            assert held.job.id == job.id
        assert store.claim("worker", "host") is None


def test_a_job_that_was_cancelled_cannot_be_cancelled_again(store: WorkerStore) -> None:
    job = store.submit(Job(command="true"))
    store.cancel(job.id, "first")
    with pytest.raises(WrongState, match="cancelled"):
        store.cancel(job.id, "second")
    assert store.get(job.id).reason == "first"


def test_a_cancel_before_the_end_makes_the_job_cancelled(
    store: WorkerStore, claim: Callable[[], Claim]
) -> None:
    """Its worker has checked for one and then records a different outcome."""
    job = store.submit(Job(command="true"))
    with claim() as held:
        store.cancel(job.id, "enough")
        assert held.finish(Outcome(Status.LOST)).status is Status.CANCELLED
    found = store.get(job.id)
    assert (found.status, found.reason) == (Status.CANCELLED, "enough")


def test_a_watch_reports_the_claim_output_and_the_end(
    store: WorkerStore, claim: Callable[[], Claim]
) -> None:
    job = store.submit(Job(command="true"))
    watch = store.watch(job.id)
    try:
        with claim() as held:
            assert is_woken(watch)
            with held.open_log_for_append() as log:
                log.write(b"one\n")
                assert is_woken(watch)
                log.write(b"two\n")
                assert is_woken(watch)
            held.finish(Outcome(Status.SUCCEEDED, 0))
            assert is_woken(watch)
    finally:
        watch.close()


def test_a_watch_also_waits_for_its_callers_descriptors(store: WorkerStore) -> None:
    watch = store.watch(store.submit(Job(command="true")).id)
    reader, writer = os.pipe()
    try:
        assert list(watch.wait(0, reader)) == []
        os.write(writer, b"x")
        assert list(watch.wait(20, reader)) == [reader]
    finally:
        watch.close()
        os.close(reader)
        os.close(writer)


# --- A claimed job --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "status", "code", "reason"),
    [
        ("exit 0", Status.SUCCEEDED, 0, None),
        ("exit 7", Status.FAILED, 7, None),
        ("kill -SEGV $$", Status.FAILED, 139, "ended by SIGSEGV"),
    ],
)
def test_how_a_command_ended_is_known_to_the_next_worker(
    store: WorkerStore,
    store_url: str,
    claim: Callable[[], Claim],
    line: str,
    status: Status,
    code: int,
    reason: str | None,
) -> None:
    job = store.submit(Job(command=line))
    with claim() as held:
        run_under_shim(held, line)
    again = open_store(store_url)
    (held,) = again.orphans("host", ())
    with held:
        assert held.acquire_lock()
        verdict = held.read_verdict()
        assert (verdict.status, verdict.recorded) == (status, False)
        held.finish(verdict.outcome)
    found = store.get(job.id)
    assert (found.status, found.exit_code, found.reason) == (status, code, reason)


def test_a_job_has_no_outcome_while_its_shim_is_alive(
    store: WorkerStore, claim: Callable[[], Claim], gate: Gate
) -> None:
    store.submit(Job(command=gate.wait))
    with claim() as held:
        shim = start_shim(held.shim_input(), None, "/bin/sh", "-c", gate.wait)
        try:
            held.release_journal()
            assert not held.acquire_lock()
        finally:
            gate.open()
            shim.wait()
        assert held.acquire_lock()
        assert held.read_verdict().status is Status.SUCCEEDED


def test_a_shim_runs_nothing_until_it_is_released(
    store: WorkerStore, claim: Callable[[], Claim], tmp_path: Path
) -> None:
    job = store.submit(Job(command="true"))
    with claim() as held:
        words = "touch", str(tmp_path / "ran")
        # As when the worker dies before its claim is on the disk.
        start_shim(held.shim_input(), None, *words, is_open=False).wait()
        assert held.read_verdict().status is Status.QUEUED
        assert store.get(job.id).pid is None
    assert not (tmp_path / "ran").exists()


def test_a_job_that_never_started_returns_to_its_queue(
    store: WorkerStore, store_url: str, bring: Callable[..., Job]
) -> None:
    job = bring(Status.RUNNING, queue="gpu")
    (held,) = open_store(store_url).orphans("host", ())
    with held:
        assert held.acquire_lock()
        verdict = held.read_verdict()
        assert (verdict.status, verdict.next_attempt) == (Status.QUEUED, 1)
        assert held.requeue(verdict.outcome).status is Status.QUEUED
    assert (store.get(job.id).queue, store.get(job.id).attempt) == ("gpu", 1)
    assert store.get(job.id).attempts_as_dicts() == []


def test_a_supervisors_reason_for_a_stop_survives_it(
    store: WorkerStore, store_url: str, claim: Callable[[], Claim]
) -> None:
    store.submit(Job(command="true"))
    with claim() as held:
        assert held.attempt.stopping is None
        held.write_stopping(Status.TIMED_OUT, "too long")
    (held,) = open_store(store_url).orphans("host", ())
    with held:
        assert held.acquire_lock()
        verdict = held.read_verdict()
    assert (verdict.status, verdict.outcome.reason) == (Status.TIMED_OUT, "too long")


def test_a_claim_reports_the_status_of_its_job_until_its_deletion(
    store: WorkerStore, claim: Callable[[], Claim]
) -> None:
    job = store.submit(Job(command="true"))
    with claim() as held:
        assert held.is_there() and held.status is Status.RUNNING
        assert held.read().job == store.get(job.id)
        held.finish(Outcome(Status.FAILED, 1))
        assert held.is_there() and held.status is Status.FAILED
        held.release_journal()
        store.delete(job.id)
        assert not held.is_there()
        with pytest.raises(JobNotFound):
            held.read()


def test_a_job_being_recorded_can_be_deleted_now_or_later(
    store: WorkerStore, claim: Callable[[], Claim]
) -> None:
    job = store.submit(Job(command="true"))
    with claim() as held:
        held.finish(Outcome(Status.SUCCEEDED, 0))
        try:
            store.delete(job.id)
        except WrongState as error:
            is_deleted = "again" not in str(error)
        else:
            is_deleted = True
    if not is_deleted:
        store.delete(job.id)
    assert store.list() == ([], None)
    assert list(store.find(job.id)) == []


def test_a_job_with_unknown_outcome_ends_without_details(
    store: WorkerStore, claim: Callable[[], Claim]
) -> None:
    job = store.submit(Job(command="true"))
    with claim() as held:
        assert held.finish_damaged(Status.LOST).status is Status.LOST
    found = store.get(job.id)
    assert (found.status, found.exit_code, found.finished_at) == (Status.LOST, None, None)
    assert claim() is None


@pytest.mark.parametrize(
    ("before", "after"),
    [(b"", b"notice\n"), (b"a line\n", b"a line\nnotice\n"), (b"half", b"half\nnotice\n")],
)
def test_a_notice_is_a_line_of_its_own(
    store: WorkerStore, claim: Callable[[], Claim], before: bytes, after: bytes
) -> None:
    store.submit(Job(command="true"))
    with claim() as held:
        with held.open_log_for_append() as log:
            log.write(before)
        held.write_notice("notice")
        assert load_logs(store, held.job.id) == after.decode()


def test_a_missing_log_needs_no_supervision(store: WorkerStore, claim: Callable[[], Claim]) -> None:
    job = store.submit(Job(command="true"))
    with claim() as held:
        assert held.sample_and_trim(0)
    with pytest.raises(FileNotFoundError):
        store.open_log(job.id)


# --- Logs -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", Status)
def test_a_job_that_has_written_nothing_has_no_log(
    store: WorkerStore, bring: Callable[..., Job], status: Status
) -> None:
    job = bring(status)
    with pytest.raises(FileNotFoundError):
        load_logs(store, job.id)
    with pytest.raises(FileNotFoundError):
        store.open_log(job.id)


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
    store: WorkerStore, logged: Callable[..., str], content: bytes, tail: int, text: str
) -> None:
    job_id = logged(content)
    assert load_logs(store, job_id, tail) == text
    assert store.get(job_id).log_size == len(content)


@pytest.mark.parametrize("length", [1, 31, 32, 33, 200])
@pytest.mark.parametrize("end", ["", "\n"])
def test_the_last_lines_are_right_at_every_block_boundary(
    store: WorkerStore,
    logged: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
    length: int,
    end: str,
) -> None:
    monkeypatch.setattr(values, "BLOCK", 32)
    lines = [str(n).rjust(length, ".") for n in range(20)]
    job_id = logged(("\n".join(lines) + end).encode())
    for tail in range(1, 25):
        assert load_logs(store, job_id, tail) == "\n".join(lines[-tail:]) + end


def test_a_thousand_lines_are_returned_by_default(
    store: WorkerStore, logged: Callable[..., str]
) -> None:
    job_id = logged(b"".join(b"%d\n" % n for n in range(5000)))
    assert load_logs(store, job_id).split() == [str(n) for n in range(4000, 5000)]


def test_an_endless_line_is_cut(store: WorkerStore, logged: Callable[..., str]) -> None:
    job_id = logged(b"head\n" + b"\r50%" * (1 << 19) + b"\rlast")
    text = load_logs(store, job_id)
    assert len(text) == 1 << 20 and text.endswith("\rlast")
    assert load_logs(store, job_id, 1) == text


def test_the_log_of_an_ended_job_is_kept(store: WorkerStore, claim: Callable[[], Claim]) -> None:
    job = store.submit(Job(command="true"))
    with claim() as held:
        with held.open_log_for_append() as log:
            log.write(b"done\n")
        held.finish(Outcome(Status.SUCCEEDED, 0))
    assert load_logs(store, job.id) == "done\n"


@pytest.fixture
def log_of(store: WorkerStore, logged: Callable[..., str]) -> Iterator[Callable[[bytes], Log]]:
    """The log of a running job, open for reading."""
    opened: list[Log] = []

    def log_of(content: bytes) -> Log:
        opened.append(store.open_log(logged(content)))
        return opened[-1]

    yield log_of
    for log in opened:
        log.close()


def test_a_log_can_be_read_from_any_offset(log_of: Callable[[bytes], Log]) -> None:
    log = log_of(b"0123456789")
    assert (log.start, log.size) == (0, 10)
    assert log.read(0, 4) == (0, b"0123")
    assert log.read(4, 100) == (4, b"456789")
    assert log.pread(3, 2) == b"234"
    assert log.read(10, 4) == (10, b"")
    assert log.read(99, 4) == (99, b"")


def test_what_a_running_job_writes_about_itself_is_recognised(
    store: WorkerStore, logged: Callable[..., str]
) -> None:
    job = store.get(logged(b"--- Export\n::progress 40\n::result rows=12\n"))
    marks = LiveMarks(store)
    assert marks.results(job, FAR) == Results({"rows": "12"}, False)
    assert marks.progress(job, FAR) == OwnProgress(Progress(40, None), "marker")
    assert [section.name for section in marks.of(job).marks.found.sections] == ["Export"]


def test_an_empty_log_is_read_to_its_end_at_once(log_of: Callable[[bytes], Log]) -> None:
    log = log_of(b"")
    assert (log.start, log.size) == (0, 0)
    assert log.read(0, 100) == (0, b"")
    assert log.read_tail(10, 0) == (0, b"")
    assert (log.tail(10, 0), log.line_at(0), log.offset_at_time(0.0)) == (0, 0, 0)
    assert log.search(TextMatcher("x"), 0, 10, FAR) == ([], None)
    assert log.count_lines(0, 0, FAR) == (0, 0)
    assert log.add_timestamps(0, b"") == b""


def test_the_last_lines_before_any_size_begin_at_an_offset(log_of: Callable[[bytes], Log]) -> None:
    log = log_of(b"one\ntwo\nthree\n")
    assert [log.tail(lines, 14) for lines in range(5)] == [14, 8, 4, 0, 0]
    assert [log.tail(lines, 10) for lines in range(4)] == [10, 8, 4, 0], "half a line is one"
    assert log.tail(3, 14, limit=5) == 9, "no further back than that"
    assert log.read_tail(2, 14) == (4, b"two\nthree\n")
    assert log.read_tail(2, 10) == (4, b"two\nth")


def test_the_line_of_each_byte_is_known(log_of: Callable[[bytes], Log]) -> None:
    log = log_of(b"one\n\nthree")
    assert [log.line_at(offset) for offset in range(10)] == [0, 0, 0, 0, 4, 5, 5, 5, 5, 5]


def test_a_search_returns_the_newest_lines_and_where_to_continue(
    log_of: Callable[[bytes], Log],
) -> None:
    log = log_of(b"Error one\nfine\nan ERROR, an error\nlast")
    first, last = (0, b"Error one"), (15, b"an ERROR, an error")
    assert log.search(TextMatcher("eRRor"), log.size, 10, FAR) == ([last, first], None)
    assert log.search(TextMatcher("error"), log.size, 1, FAR) == ([last], 15)
    assert log.search(TextMatcher("error"), 15, 1, FAR)[0] == [first]
    assert log.search(TextMatcher("none"), log.size, 10, FAR) == ([], None)


def test_a_search_that_runs_out_of_time_returns_where_to_continue(
    log_of: Callable[[bytes], Log],
) -> None:
    log = log_of(b"error\n")
    assert log.search(TextMatcher("error"), 6, 10, PAST) == ([], 6)


def test_a_match_in_a_long_line_is_shown_with_its_surroundings(
    log_of: Callable[[bytes], Log],
) -> None:
    log = log_of(b"head\n" + b"x" * 5_000 + b"needle" + b"y" * 5_000)
    ((offset, excerpt),), _ = log.search(TextMatcher("needle"), log.size, 10, FAR)
    assert offset == 5
    assert len(excerpt) <= logs_module.EXCERPT and b"xneedley" in excerpt


def test_lines_are_counted_by_their_newlines(log_of: Callable[[bytes], Log]) -> None:
    log = log_of(b"one\n\nthree")
    assert log.count_lines(0, log.size, FAR) == (10, 2)
    assert log.count_lines(4, log.size, FAR) == (10, 1)
    assert log.count_lines(5, log.size, FAR) == (10, 0)


def test_a_count_that_runs_out_of_time_reports_how_far_it_got(
    log_of: Callable[[bytes], Log],
) -> None:
    log = log_of(b"one\n")
    assert log.count_lines(0, log.size, PAST) == (0, 0)


def test_an_open_log_still_grows_after_its_job_has_moved(
    store: WorkerStore, claim: Callable[[], Claim]
) -> None:
    store.submit(Job(command="true"))
    with claim() as held, held.open_log_for_append() as out:
        out.write(b"one\n")
        with store.open_log(held.job.id) as log:
            out.write(b"two\n")
            wait_until(lambda: log.size == 8)
            held.finish(Outcome(Status.SUCCEEDED, 0))
            assert log.read(0, 100) == (0, b"one\ntwo\n")
        assert store.get(held.job.id).log_size == 8


def test_lines_are_found_by_their_time_and_show_it(
    store: WorkerStore, claim: Callable[[], Claim]
) -> None:
    store.submit(Job(command="true"))
    with claim() as held, held.open_log_for_append() as out:
        began = time.time()

        def times() -> list[tuple[float, int]]:
            held.sample_and_trim(KEEP_ALL)
            with store.open_log(held.job.id) as log, log.samples() as samples:
                return [samples[n] for n in range(len(samples))]

        out.write(b"one\n")
        ((seen_at, size),) = wait_until(times)
        assert size == 4 and began <= seen_at <= time.time()
        wait_until(lambda: time.time() > seen_at + 0.1)  # well past the tick of any clock
        out.write(b"two\nthree")
        wait_until(lambda: len(times()) == 2)  # samples are a second apart
        assert [size for _, size in times()] == [4, 13]
        with store.open_log(held.job.id) as log:
            assert seen_at < log.changed_at <= time.time()
            assert log.offset_at_time(0.0) == 0
            assert log.offset_at_time(seen_at + 0.05) == 4
            assert log.offset_at_time(time.time() + 60) == 13
            stamped = log.add_timestamps(0, log.read(0, 100)[1]).decode().split("\n")
            (one, two, three) = (line.partition(" ") for line in stamped)
            assert [one[2], two[2], three[2]] == ["one", "two", "three"]
            assert utc(began - 0.1) <= one[0] <= utc(seen_at) < two[0] == three[0] <= utc()
            assert log.add_timestamps(5, b"wo\nthree").startswith(b"wo\n2"), "its stamp came before"


def test_every_line_has_a_timestamp_even_without_size_samples(
    log_of: Callable[[bytes], Log],
) -> None:
    log = log_of(b"one\n\nlast")
    stamped = log.add_timestamps(0, b"one\n\nlast").decode()
    assert re.sub(r"(?m)^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z ", ">", stamped) == ">one\n>\n>last"


def test_a_runaway_log_keeps_its_newest_part_and_its_offsets(
    store: WorkerStore, claim: Callable[[], Claim]
) -> None:
    store.submit(Job(command="true"))
    content = b"".join(b"%07d\n" % n for n in range(400_000))
    keep = 1 << 20
    with claim() as held:
        with held.open_log_for_append() as out:
            out.write(content)
        if not held.sample_and_trim(keep):
            pytest.skip("nothing can be given back here")
        with store.open_log(held.job.id) as log:
            assert log.size == len(content)
            assert 0 < log.start <= len(content) - keep
            assert log.read(0, 16) == (log.start, content[log.start :][:16])
            assert log.read(log.size - 8, 16) == (log.size - 8, content[-8:])
            assert log.tail(1_000_000, log.size, len(content)) == log.start
            assert log.offset_at_time(0.0) == log.start
            assert log.search(TextMatcher("0000001"), log.size, 10, FAR) == ([], None)
            kept_from = log.start
        assert store.get(held.job.id).log_start == kept_from
        held.finish(Outcome(Status.SUCCEEDED, 0))
    found = store.get(held.job.id)
    assert (found.log_start, found.log_size) == (kept_from, len(content))
    assert load_logs(store, held.job.id, 2) == "0399998\n0399999\n"


# --- Files ----------------------------------------------------------------------------------------


FILES = {b"a b.txt": b"hello\n", b"empty": b"", b"sub/\xff\n": bytes(range(256)) * 1_000}


@pytest.fixture
def with_files(store: WorkerStore, claim: Callable[[], Claim]) -> str:
    """The ID of a job that has ended and has FILES, a link, a FIFO and an empty folder."""
    store.submit(Job(command="true"))
    with claim() as held:
        top = os.fsencode(held.folder) + b"/files/"
        for path, content in FILES.items():
            os.makedirs(os.path.dirname(top + path), exist_ok=True)
            with open(top + path, "wb") as file:
                file.write(content)
        os.symlink("/etc/passwd", top + b"link")
        os.mkfifo(top + b"fifo")
        os.mkdir(top + b"folder")
        write_samples(held.folder, 3)
        return held.finish(Outcome(Status.SUCCEEDED, 0)).id


def write_samples(folder: str, count: int) -> list[UsageSample]:
    samples = [UsageSample(1e9 + 5 * n, 0.5 * n, 1_000 + n) for n in range(count)]
    Path(f"{folder}/usage").write_bytes(b"".join(USAGE_RECORD.pack(*each) for each in samples))
    return samples


def test_the_files_of_an_ended_job_are_listed_by_path(store: WorkerStore, with_files: str) -> None:
    listing, job = store.list_files(with_files), store.get(with_files)
    assert listing.is_complete and listing.elsewhere is None
    assert job.files_count == 3 and (job.files_bytes or 0) >= 256_006
    assert [(e.path, e.kind, e.size) for e in listing.entries] == [
        (b"a b.txt", FileKind.FILE, 6),
        (b"empty", FileKind.FILE, 0),
        (b"fifo", FileKind.FIFO, 0),
        (b"folder", FileKind.FOLDER, 0),
        (b"link", FileKind.LINK, 0),
        (b"sub", FileKind.FOLDER, 0),
        (b"sub/\xff\n", FileKind.FILE, 256_000),
    ]
    assert all(abs(time.time() - entry.modified) < 3_600 for entry in listing.entries)


def test_a_file_can_be_read_from_any_offset(store: WorkerStore, with_files: str) -> None:
    entries = {entry.path: entry for entry in store.list_files(with_files).entries}
    for path, content in FILES.items():
        with store.open_file(with_files, path) as file:
            assert (file.size, file.modified) == (len(content), entries[path].modified)
            for offset in (0, 1, 64_999, 65_000, 200_000, len(content), len(content) + 9):
                read = file.read(offset, 70_000)
                assert read == content[offset:][: len(read)]
                assert len(read) == min(70_000, max(0, len(content) - offset))
    versions = set()
    for path in FILES:
        with store.open_file(with_files, path) as file, store.open_file(with_files, path) as again:
            assert file.version == again.version
            versions.add(file.version)
    assert len(versions) == len(FILES)


@pytest.mark.parametrize("path", [b"sub", b"link", b"fifo", b"folder"])
def test_only_regular_files_can_be_opened(store: WorkerStore, with_files: str, path: bytes) -> None:
    with pytest.raises(NotAFile):
        store.open_file(with_files, path)


@pytest.mark.parametrize(
    "path", [b"", b"x", b"a b.txt/", b"/a b.txt", b"./a b.txt", b"sub/../a b.txt", b"../job.json"]
)
def test_a_path_that_is_not_listed_names_no_file(
    store: WorkerStore, with_files: str, path: bytes
) -> None:
    with pytest.raises(FileNotFoundError):
        store.open_file(with_files, path)


@pytest.mark.parametrize("status", [Status.QUEUED, Status.SUCCEEDED])
def test_a_job_without_files_has_an_empty_list(
    store: WorkerStore, bring: Callable[..., Job], status: Status
) -> None:
    job = bring(status)
    assert store.list_files(job.id) == FileListing([], True)
    assert store.usage(job.id) == [] and store.latest_usage([job.id]) == {}
    with pytest.raises(FileNotFoundError):
        store.open_file(job.id, b"a")


@pytest.mark.parametrize("job_id", [UNKNOWN, "../x", ""])
def test_a_job_that_does_not_exist_has_no_files(store: WorkerStore, job_id: str) -> None:
    for call in (store.list_files, store.usage, lambda i: store.open_file(i, b"a")):
        with pytest.raises(JobNotFound):
            call(job_id)
    assert store.latest_usage([job_id]) == {}


@pytest.mark.parametrize("what", ["link", "fifo", "file"])
def test_a_job_that_replaces_its_folder_of_files_has_none(
    store: WorkerStore, claim: Callable[[], Claim], what: str
) -> None:
    job = store.submit(Job(command="true"))
    with claim() as held:
        path = f"{held.folder}/files"
        if os.path.isdir(path):
            os.rmdir(path)
        if what == "link":
            os.symlink("/etc", path)
        elif what == "fifo":
            os.mkfifo(path)
        else:
            Path(path).write_bytes(b"x")
        held.finish(Outcome(Status.SUCCEEDED, 0))
    assert store.list_files(job.id) == FileListing([], True)
    with pytest.raises(FileNotFoundError):
        store.open_file(job.id, b"passwd")


def test_a_deleted_job_has_no_files(store: WorkerStore, with_files: str) -> None:
    store.delete(with_files)
    for call in (store.list_files, store.usage, lambda i: store.open_file(i, b"empty")):
        with pytest.raises(JobNotFound):
            call(with_files)


def test_what_a_job_used_is_kept_with_it(
    store: WorkerStore, with_files: str, claim: Callable[[], Claim]
) -> None:
    assert len(store.usage(with_files)) == 3
    job = store.submit(Job(command="true"))
    with claim() as held:
        samples = write_samples(held.folder, 5)
        found = store.latest_usage([job.id, with_files, UNKNOWN])
        assert found == {job.id: samples[-2:], with_files: store.usage(with_files)[-2:]}
        assert store.usage(job.id) == samples


# --- Workers --------------------------------------------------------------------------------------


def worker_info(name: str, running: int = 0) -> WorkerInfo:
    return WorkerInfo(name, "host", 1, 2, ["a", "b"], running, "then")


def test_workers_are_shown_while_they_run(store: WorkerStore, store_url: str) -> None:
    assert list(store.workers()) == []
    store.heartbeat(worker_info("w"), 0)
    store.heartbeat(worker_info("w"), 12)
    (shown,) = store.workers()
    assert replace(shown, seen_at="") == worker_info("w", 12)
    code = """
store = open_store(sys.argv[1])
store.heartbeat(WorkerInfo("dead", "host", 1, 2, []), 0)
assert len(store.workers()) == 2
"""
    in_processes(1, code, store_url)
    assert list(store.workers()) == [shown]


def test_a_second_worker_with_the_same_name_gets_a_number(
    store: WorkerStore, store_url: str
) -> None:
    store.heartbeat(worker_info("w"), 1)
    other, second = open_store(store_url), worker_info("w")
    for running in (2, 3):
        other.heartbeat(second, running)
        assert second.name == "w-2"
    assert [(info.name, info.running) for info in store.workers()] == [("w", 1), ("w-2", 3)]


def test_workers_are_shown_by_name_to_everybody(store: WorkerStore, store_url: str) -> None:
    others = [open_store(store_url) for _ in range(2)]
    for each, name in zip((store, *others), "bca", strict=True):
        each.heartbeat(worker_info(name), 0)
    for each in (store, *others):
        assert [info.name for info in each.workers()] == ["a", "b", "c"]


def test_the_jobs_of_a_dead_worker_are_orphans(store: WorkerStore, store_url: str) -> None:
    job = store.submit(Job(command="true"))
    code = """
store = open_store(sys.argv[1])
store.heartbeat(WorkerInfo("dead", "host", 1, 2, []), 0)
print(store.claim("dead", "host").job.id)
"""
    assert in_processes(1, code, store_url) == [f"{job.id}\n"]
    (held,) = store.orphans("host", ())
    with held:
        assert (held.job.id, held.job.worker) == (job.id, "dead")
        assert list(open_store(store_url).orphans("host", ())) == [], "it has a supervisor again"


def test_jobs_of_running_workers_or_other_hosts_are_not_orphans(
    store: WorkerStore, store_url: str
) -> None:
    job = store.submit(Job(command="true"))
    store.heartbeat(worker_info("w"), 0)
    held = store.claim("w", "host")
    assert held
    held.release()
    other = open_store(store_url)
    assert list(other.orphans("host", ())) == [], "its worker lives"
    if isinstance(store, FolderStore):  # a spool belongs to one machine, which may be renamed
        assert list(store.orphans("elsewhere", ())) == []
    assert list(store.orphans("host", {job.id})) == []
    (held,) = store.orphans("host", {UNKNOWN})
    with held:
        assert held.job.id == job.id


def test_a_jobs_processes_are_found_by_their_tracking_variables(
    store: WorkerStore, store_url: str
) -> None:
    one, two = (store.submit(Job(command="true")).id for _ in range(2))
    env = store.tracking_env(one)
    assert env["JOB_ID"] == one and all(isinstance(value, str) for value in env.values())
    assert env == open_store(store_url).tracking_env(one) != store.tracking_env(two)


# --- Retention ------------------------------------------------------------------------------------


@pytest.fixture
def ended(store: WorkerStore, claim: Callable[[], Claim]) -> Callable[..., str]:
    """A job that has ended and has a log of this size; returns its ID."""

    def ended(size: int = 100_000, status: Status = Status.SUCCEEDED, **fields: Any) -> str:
        store.submit(Job(command="true", **fields))
        with claim() as held:
            with held.open_log_for_append() as log:
                log.write(b"x" * (size - 1) + b"\n")
            return held.finish(Outcome(status, 0)).id

    return ended


@pytest.fixture
def long_ago(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets jobs be deleted as if they had ended more than an hour ago."""
    monkeypatch.setattr("tailboard.keep_rules.MIN_KEPT", 0.0)
    monkeypatch.setattr("tailboard.keep_rules.RUN_GRACE", 0.0)


def prune(store: WorkerStore, days: int, max_bytes: int) -> None:
    """Runs all of its checks at once."""
    for _ in store.prune(days, max_bytes):
        pass


def test_the_oldest_jobs_are_deleted_when_logs_take_too_much_space(
    store: WorkerStore, ended: Callable[..., str], long_ago: None, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    ids = [ended() for _ in range(5)]
    prune(store, 0, 250_000)
    assert [job.id for job in store.list()[0]] == ids[:2:-1]
    assert store.finished_totals()[Status.SUCCEEDED] == 5
    with pytest.raises(JobNotFound):
        load_logs(store, ids[0])
    prune(store, 0, 250_000)  # which logs nothing
    (line,) = [r.getMessage() for r in caplog.records if r.getMessage().startswith("retention ")]
    said = dict(word.split("=") for word in line.split()[1:])
    assert (said["deleted_by_bytes"], said["deleted_by_age"]) == ("3", "0")
    assert int(said["deleted_bytes"]) >= 300_000 and said["max_bytes"] == "250000"


def test_the_log_of_a_deleted_job_no_longer_counts_against_older_ones(
    store: WorkerStore, ended: Callable[..., str], long_ago: None
) -> None:
    oldest, large, newest = ended(30_000), ended(100_000), ended(30_000)
    prune(store, 0, 120_000)
    assert [job.id for job in store.list()[0]] == [newest, oldest]
    with pytest.raises(JobNotFound):
        store.status(large)


def test_no_job_is_deleted_to_save_bytes_within_an_hour_after_its_end(
    store: WorkerStore, ended: Callable[..., str]
) -> None:
    ids = [ended() for _ in range(2)]
    prune(store, 0, 1)
    assert [job.id for job in store.list()[0]] == ids[::-1]


def test_jobs_that_have_not_ended_are_never_pruned(
    store: WorkerStore, logged: Callable[..., str], bring: Callable[..., Job], long_ago: None
) -> None:
    running = logged(b"x" * 100_000)
    queued = bring(Status.QUEUED).id
    prune(store, 0, 1)
    assert [job.id for job in store.list()[0]] == [queued, running]


def save_backup(store: WorkerStore, **rules: int) -> None:
    store.saved.save(SavedCommand(saved="backup", command="true", **rules))


def test_runs_beyond_keep_runs_are_pruned(
    store: WorkerStore, ended: Callable[..., str], long_ago: None, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    save_backup(store, keep_runs=2)
    other = ended(10)
    ids = [ended(10, saved="backup", keep_runs=1) for _ in range(4)]
    found = [(each.job.id, each.reason) for each in [*store.prunable(0, 0)][-1]]
    assert found == [(each, "2 newer runs of backup are kept") for each in ids[:2]]
    prune(store, 0, 0)
    assert set(store.iter_finished_ids()) == {other, *ids[2:]}
    save_backup(store, keep_runs=1)  # which applies to the runs before it, too
    prune(store, 0, 0)
    assert set(store.iter_finished_ids()) == {other, ids[3]}
    (_, line) = [r.getMessage() for r in caplog.records if r.getMessage().startswith("retention ")]
    assert line.startswith("retention deleted_by_age=0 deleted_by_runs=1 deleted_by_bytes=0 ")


def test_the_limits_of_the_last_pruning_are_known(store: WorkerStore) -> None:
    assert store.keep_limits() is None
    prune(store, 400, 0)
    assert store.keep_limits() == (400, 0)
    prune(store, 0, 1 << 40)
    assert store.keep_limits() == (0, 1 << 40)


def test_the_last_success_and_failure_of_a_command_are_never_pruned(
    store: WorkerStore, ended: Callable[..., str], long_ago: None
) -> None:
    save_backup(store, keep_runs=1)
    ids = [
        ended(saved="backup", status=status)
        for status in (Status.FAILED, Status.SUCCEEDED, Status.SUCCEEDED, Status.CANCELLED)
    ]
    prune(store, 0, 1)
    assert set(store.iter_finished_ids()) == {ids[0], ids[2]}
    store.delete(ids[2])
    store.saved.delete("backup")
    prune(store, 0, 1)
    assert not list(store.iter_finished_ids())


@pytest.mark.parametrize("change", ["the rules", "the last success"])
def test_what_changes_during_a_pass_counts_at_once(
    store: WorkerStore, ended: Callable[..., str], long_ago: None, change: str
) -> None:
    save_backup(store, keep_runs=1)
    ids = [ended(10, saved="backup") for _ in range(4)]
    steps = store.prune(0, 0)
    while len(list(store.iter_finished_ids())) == 4:
        next(steps)
    if change == "the rules":
        save_backup(store, keep_runs=10)
    else:
        store.delete(ids.pop())
    for _ in steps:
        pass
    assert set(store.iter_finished_ids()) == set(ids[1:])


def test_a_job_that_another_waits_for_is_pruned_afterwards(
    store: WorkerStore, ended: Callable[..., str], long_ago: None
) -> None:
    parents = [ended(), ended()]
    children = [store.submit(Job(command="true", after=[parents[0]])).id]
    steps = store.prune(0, 1)
    next(steps)
    children.append(store.submit(Job(command="true", after=[parents[1]])).id)
    for _ in steps:
        pass
    assert set(store.iter_finished_ids()) == set(parents)
    assert [store.waiting_for(each) for each in (*parents, UNKNOWN)] == [*children, None]
    for child in children:
        store.cancel(child, "why")
    assert store.waiting_for(parents[0]) is None
    prune(store, 0, 1)
    assert set(store.iter_finished_ids()) == set(children), "they have no log"


def test_a_log_that_is_being_read_is_pruned_afterwards(
    store: WorkerStore, ended: Callable[..., str], long_ago: None
) -> None:
    job_id = ended()
    with store.open_log(job_id):
        prune(store, 0, 1)
        assert store.status(job_id) is Status.SUCCEEDED
    prune(store, 0, 1)
    with pytest.raises(JobNotFound):
        store.status(job_id)


def test_young_and_small_jobs_are_not_pruned(store: WorkerStore, ended: Callable[..., str]) -> None:
    ids = [ended() for _ in range(2)]
    for days, max_bytes in ((0, 0), (1, 0), (0, 1 << 30), (1, 1 << 30)):
        prune(store, days, max_bytes)
    assert [job.id for job in store.list()[0]] == ids[::-1]


def test_a_list_ends_at_the_oldest_requested_job(store: WorkerStore) -> None:
    jobs = [store.submit(Job(command=f"echo {number}")).id for number in range(5)]
    for query in ({}, {"status": Status.QUEUED}, {"queue": "default"}, {"text": "echo"}):
        for limit in (2, 3, 50):
            listed, following = store.list(limit=limit, since=jobs[2], **query)  # type: ignore[arg-type]
            assert [job.id for job in listed] == jobs[:1:-1][:limit], (query, limit)
            if following is not None:
                listed, following = store.list(before=following, since=jobs[2], **query)  # type: ignore[arg-type]
                assert [job.id for job in listed] == jobs[:1:-1][limit:] and following is None


# --- Data besides the jobs ------------------------------------------------------------------------


def test_all_users_of_a_store_share_one_secret(store: WorkerStore, store_url: str) -> None:
    made = in_processes(2, "print(open_store(sys.argv[1]).secret().hex())", store_url)
    assert len(store.secret()) == 32
    assert {text.strip() for text in made} == {store.secret().hex()}


def test_a_session_is_kept_until_it_is_ended(store: WorkerStore, store_url: str) -> None:
    made = [new_session("hash of a token", name)[1] for name in ("anna", None)]
    for each in made:
        store.sessions.add(each)
    again = open_store(store_url)
    assert [again.sessions.find(each.key_sha256) for each in made] == made
    again.sessions.end(made[0].key_sha256)
    again.sessions.end(made[0].key_sha256)
    assert [store.sessions.find(each.key_sha256) for each in made] == [None, made[1]]
    assert store.sessions.find("../secret") is None


def test_a_session_that_has_expired_is_not_found(store: WorkerStore) -> None:
    made = new_session("hash of a token", None)[1]
    store.sessions.add(replace(made, expires_at="2026-01-01T00:00:00.000Z"))
    assert store.sessions.find(made.key_sha256) is None
    store.sessions.add(made)
    assert store.sessions.find(made.key_sha256) == made


def test_a_new_session_ends_the_oldest_if_there_are_too_many(
    store: WorkerStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions_module, "MAX_SESSIONS", 3)
    made = []
    for day in range(1, 6):
        session = new_session("hash of a token", None)[1]
        made.append(replace(session, expires_at=f"2099-01-0{day}T00:00:00.000Z"))
        store.sessions.add(made[-1])
    kept = [store.sessions.find(each.key_sha256) is not None for each in made]
    assert kept == [False, False, True, True, True]


def test_a_named_token_ends_only_its_own_sessions_if_it_has_too_many(
    store: WorkerStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So a token with the role `read` cannot sign everybody out."""
    monkeypatch.setattr(sessions_module, "MAX_OF_NAME", 2)
    names = ["ben", "anna", None, "anna", None, "anna", None, "anna"]
    made = []
    for day, name in enumerate(names, 1):
        session = new_session("hash of a token", name)[1]
        made.append(replace(session, expires_at=f"2099-01-0{day}T00:00:00.000Z"))
        store.sessions.add(made[-1])
    kept = [each for each in made if store.sessions.find(each.key_sha256)]
    assert [each.name for each in kept] == ["ben", None, None, "anna", None, "anna"]
    assert kept[3:] == made[5:]


# --- Saved commands -------------------------------------------------------------------------------

BACKUP: dict[str, Any] = {
    "saved": "backup-1.daily_",
    "command": ["sh", "-c", "echo grüße $TARGET"],
    "name": "nightly\U0001f319",
    "queue": "gpu_1",
    "cwd": "/tmp",
    "env": {"A": "1"},
    "timeout": 1.5,
    "retries": 3,
    "retry_delay": 2.5,
    "params": [Param(name="TARGET", label="What", default="/home", choices=["/home", "/srv"])],
    "cron": "30 2 * * *",
    "zone": "Europe/Berlin",
    "paused": True,
}


def hourly(**fields: Any) -> SavedCommand:
    return SavedCommand(**{"saved": "hourly", "command": "true", "cron": "@hourly"} | fields)


def hours_from_now(hours: float) -> float:
    """The middle of an hour, so that a test knows which scheduled times are before and after it."""
    return (time.time() // 3600 + hours) * 3600 + 1800


def test_a_saved_command_can_be_read_with_all_its_fields(
    store: WorkerStore, store_url: str
) -> None:
    assert store.saved.save(SavedCommand(**BACKUP))
    found = open_store(store_url).saved.load("backup-1.daily_")
    assert {name: getattr(found, name) for name in BACKUP} == BACKUP
    assert found.saved_at and found.saved_at.endswith("Z")
    assert store.saved.list() == [found]


def test_a_saved_command_is_replaced_whole_and_listed_by_name(store: WorkerStore) -> None:
    store.saved.save(SavedCommand(**BACKUP))
    assert store.saved.save(SavedCommand(saved="a", command="true"))
    assert not store.saved.save(SavedCommand(saved=BACKUP["saved"], command="false"))
    assert [each.saved for each in store.saved.list()] == ["a", BACKUP["saved"]]
    found = store.saved.load(BACKUP["saved"])
    assert (found.command, found.params, found.cron) == ("false", [], None)


def test_a_saved_command_is_replaced_only_if_it_is_the_one_that_was_seen(
    store: WorkerStore,
) -> None:
    first, second = SavedCommand(**BACKUP), SavedCommand(saved=BACKUP["saved"], command="false")
    assert store.saved.save(first, seen="")
    with pytest.raises(CommandChanged, match="there is already a saved command"):
        store.saved.save(second, seen="")
    store.saved.save(second, seen=first.digest())
    with pytest.raises(CommandChanged, match="was changed after you read it"):
        store.saved.save(first, seen=first.digest())
    assert store.saved.load(BACKUP["saved"]).command == "false"
    store.saved.delete(BACKUP["saved"])
    with pytest.raises(CommandChanged, match="was deleted after you read it"):
        store.saved.save(first, seen=second.digest())
    assert store.saved.list() == []


def large(name: str, size: int, **fields: Any) -> SavedCommand:
    """A saved command of about this size."""
    command = SavedCommand(**{"saved": name, "command": "true"} | fields)
    return replace(
        command, env={"A": "x" * (size - len(saved_command.encode_command(command)) - 100)}
    )


def test_a_saved_command_that_is_too_large_is_refused(store: WorkerStore) -> None:
    full = {"command": "x" * 30_000, "env": {"A": "x" * (64 << 10)}}
    assert store.saved.save(SavedCommand(**BACKUP | full))
    with pytest.raises(ValueError, match="must have at most 131,072 bytes as JSON, not "):
        store.saved.save(large("a", saved_command.MAX_DEFINITION + 1000))
    assert len(store.saved.list()) == 1


def test_saved_commands_are_limited_in_number_and_total_size(
    store: WorkerStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(saved_command, "MAX_SAVED", 3)
    monkeypatch.setattr(saved_command, "MAX_SAVED_BYTES", 10_000)
    for name in "ab":
        store.saved.save(large(name, 4_000))
    with pytest.raises(TooManySaved, match="all saved commands together must have at most 10,000"):
        store.saved.save(large("c", 4_000))
    with pytest.raises(TooManySaved, match="all saved commands together"):
        store.saved.save(large("a", 7_000))
    store.saved.save(SavedCommand(saved="c", command="true"))
    with pytest.raises(TooManySaved, match="there are already 3 saved commands: delete one first"):
        store.saved.save(SavedCommand(saved="d", command="true"))
    assert [each.saved for each in store.saved.list()] == ["a", "b", "c"]
    store.saved.delete("b")
    store.saved.save(large("a", 7_000))


def test_a_saved_command_from_before_the_limits_can_be_paused(
    store: WorkerStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = large("a", 4_000, cron="@daily")
    store.saved.save(command)
    for name in ("MAX_SAVED", "MAX_SAVED_BYTES", "MAX_DEFINITION"):
        monkeypatch.setattr(saved_command, name, 0)
    store.saved.save(replace(command, paused=True))
    assert store.saved.load("a").paused


def test_saved_commands_are_listed_with_their_schedules_and_runs(store: WorkerStore) -> None:
    store.saved.save(hourly())
    store.saved.save(SavedCommand(saved="a", command="true"))
    ids = [store.submit(Job(command="true", saved="hourly")).id for _ in range(2)]
    first, second = store.saved.list_states()
    assert (first.command.saved, first.schedule.cron, list(first.runs)) == ("a", None, [])
    assert (second.command, list(second.runs)) == (store.saved.load("hourly"), ids[::-1])
    assert second.schedule == store.saved.load_schedule("hourly")
    assert second.schedule.cron == "@hourly"


def test_deleting_a_saved_command_keeps_its_jobs(store: WorkerStore) -> None:
    store.saved.save(SavedCommand(saved="a", command="true"))
    job = store.submit(Job(command="true", saved="a"))
    store.saved.delete("a")
    assert (store.saved.list(), store.saved.runs("a")) == ([], [])
    assert store.get(job.id).saved == "a"
    with pytest.raises(CommandNotFound):
        store.saved.load("a")
    with pytest.raises(CommandNotFound):
        store.saved.delete("a")


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "a/b", "A", "x" * 65, "a\n", "a\0", ".a"])
def test_an_invalid_name_is_an_unknown_saved_command(store: WorkerStore, name: str) -> None:
    with pytest.raises(ValueError, match="1 to 64 of the characters"):
        store.saved.save(SavedCommand(saved=name, command="true"))
    with pytest.raises(CommandNotFound):
        store.saved.load(name)
    with pytest.raises(CommandNotFound):
        store.saved.delete(name)
    assert store.saved.runs(name) == []


def test_the_last_jobs_of_a_saved_command_are_newest_first(store: WorkerStore) -> None:
    store.saved.save(SavedCommand(saved="a", command="true"))
    jobs = [store.submit(Job(command="true", saved="a")) for _ in range(saved_files.RUNS_KEPT + 2)]
    store.submit(Job(command="true", saved="b"))
    store.submit(Job(command="true"))
    assert store.saved.runs("a") == [job.id for job in jobs[:1:-1]]


def test_a_due_command_is_fired_once_by_any_scheduler(store: WorkerStore, store_url: str) -> None:
    store.saved.save(hourly())
    command, soon = store.saved.load("hourly"), hours_from_now(1)
    assert fire_due(store, command, time.time()) is None
    seen = store.saved.load_schedule("hourly")
    job = fire_due(store, command, soon)
    assert job and store.get(job.id) == job
    reported = (job.command, job.name, job.saved, job.submitted_by, job.status)
    assert reported == ("true", "hourly", "hourly", "schedule", Status.QUEUED)
    assert fire_due(open_store(store_url), command, soon) is None
    decision = due(command, seen, soon)
    assert decision and decision.submits
    assert store.fire(command, seen, decision, command.job({})) is None  # it checked before that
    assert store.saved.runs("hourly") == [job.id]


def test_a_scheduled_time_with_a_job_gets_no_second_one(store: WorkerStore) -> None:
    store.saved.save(hourly())
    command, soon = store.saved.load("hourly"), hours_from_now(1)
    seen = store.saved.load_schedule("hourly")
    decision = due(command, seen, soon)
    assert decision
    job = store.submit(command.job({}), decision.key)
    fired = store.fire(command, seen, decision, command.job({}))
    assert fired and fired.id == job.id
    assert store.counts()[Status.QUEUED] == 1


def test_a_clients_key_cannot_prevent_a_scheduled_run(store: WorkerStore) -> None:
    store.saved.save(hourly())
    command, soon = store.saved.load("hourly"), hours_from_now(1)
    key = f"hourly@{utc(soon - 1800)[:16]}Z"
    clients = store.submit(Job(command="true", submitted_by="anna"), key)
    job = fire_due(store, command, soon)
    assert job and job.id != clients.id


def test_a_key_generated_by_an_earlier_version_still_returns_its_job(store: WorkerStore) -> None:
    first = store.submit(Job(command="true", rerun_of=UNKNOWN), f"rerun {UNKNOWN}")
    key = keys.own_key(f"rerun {UNKNOWN}")
    assert store.submit(Job(command="true", rerun_of=UNKNOWN), key).id == first.id
    other = store.submit(Job(command="true"), "rerun other")
    key = keys.own_key("rerun other")
    assert store.submit(Job(command="true", rerun_of="other"), key).id != other.id
    clients = store.submit(Job(command="true", rerun_of="third"), "rerun third", "1" * 64)
    key = keys.own_key("rerun third")
    assert store.submit(Job(command="true", rerun_of="third"), key).id != clients.id


def test_a_time_is_not_fired_again_when_its_job_is_deleted(
    store: WorkerStore, claim: Callable[[], Claim]
) -> None:
    store.saved.save(hourly())
    command, soon = store.saved.load("hourly"), hours_from_now(1)
    job = fire_due(store, command, soon)
    assert job
    with claim() as held:
        held.finish(Outcome(Status.SUCCEEDED, 0))
    store.delete(job.id)
    assert fire_due(store, command, soon) is None
    assert store.list()[0] == []


def test_times_are_skipped_and_counted_while_a_run_is_queued(
    store: WorkerStore, claim: Callable[[], Claim]
) -> None:
    store.saved.save(hourly())
    command = store.saved.load("hourly")
    by_hand = store.submit(command.job({}))
    assert fire_due(store, command, hours_from_now(1)) is None
    assert fire_due(store, command, hours_from_now(3)) is None
    schedule = store.saved.load_schedule("hourly")
    assert (schedule.skipped, schedule.skipped_for) == (3, by_hand.id)
    assert schedule.skipped_at == utc(hours_from_now(3) - 1800)
    with claim() as held:
        held.finish(Outcome(Status.SUCCEEDED, 0))
    job = fire_due(store, command, hours_from_now(4))
    assert job and job.submit_reason is not None and "the scheduled run of" in job.submit_reason


def test_a_command_changed_or_deleted_meanwhile_is_not_fired(store: WorkerStore) -> None:
    store.saved.save(hourly())
    old, soon = store.saved.load("hourly"), hours_from_now(1)
    store.saved.save(hourly(command="false"))
    assert fire_due(store, old, soon) is None
    store.saved.delete("hourly")
    assert fire_due(store, old, soon) is None
    assert store.list()[0] == []


def test_a_changed_or_resumed_schedule_counts_from_then_on(store: WorkerStore) -> None:
    store.saved.save(hourly())
    began = store.saved.load_schedule("hourly").since
    store.saved.save(hourly(command="false"))
    assert store.saved.load_schedule("hourly").since == began
    for change in ({"cron": "@daily"}, {"cron": "@daily", "zone": "Asia/Tokyo"}, {"paused": True}):
        wait_until(lambda began=began: utc() > str(began))  # it is shown to the millisecond
        store.saved.save(hourly(**change))
        schedule = store.saved.load_schedule("hourly")
        assert schedule.since and began and schedule.since > began
        began = schedule.since
    assert fire_due(store, store.saved.load("hourly"), hours_from_now(5)) is None
    wait_until(lambda: utc() > str(began))
    store.saved.save(hourly())
    assert began < str(store.saved.load_schedule("hourly").since)


def test_a_schedule_that_was_saved_while_the_clock_was_ahead_fires(store: WorkerStore) -> None:
    store.saved.save(hourly())
    command, then = store.saved.load("hourly"), hours_from_now(-40 * 24)
    assert fire_due(store, command, then) is None
    corrected = store.saved.load_schedule("hourly")
    assert fire_due(store, command, then + 60) is None
    assert store.saved.load_schedule("hourly") == corrected
    job = fire_due(store, command, then + 3600)
    assert (
        job and job.submit_reason and job.submit_reason.startswith("replaces the scheduled run of")
    )


def test_a_catch_up_run_says_so_from_the_start_to_its_end(
    store: WorkerStore, claim: Callable[[], Claim]
) -> None:
    store.saved.save(hourly())
    job = fire_due(store, store.saved.load("hourly"), hours_from_now(3))
    assert job
    said = store.get(job.id).as_dict()["reason"]
    assert said.startswith("replaces 3 scheduled runs between ")
    assert said.endswith("when no worker was running")
    with claim() as held:
        assert held.job.as_dict()["reason"] == said
        assert held.finish(Outcome(Status.FAILED, 143, "ended by SIGTERM")).status is Status.FAILED
    assert store.get(job.id).as_dict()["reason"] == f"{said}; ended by SIGTERM"


def test_many_schedulers_that_find_a_command_due_start_one_job(
    store: WorkerStore, store_url: str
) -> None:
    store.saved.save(hourly())
    code = """
from contextlib import suppress
from tailboard.scheduler import fire_due
store = open_store(sys.argv[1])
command, now = store.saved.load("hourly"), float(sys.argv[2])
for n in range(20):
    with suppress(BlockingIOError):
        fire_due(store, command, now + 3600 * (n // 10))
if hasattr(store, "close"):
    store.close()
"""
    in_processes(4, code, store_url, hours_from_now(1))
    assert store.counts()[Status.QUEUED] == 1
    assert store.saved.load_schedule("hourly").skipped == 1


# --- Pauses ---------------------------------------------------------------------------------------


def test_nothing_is_claimed_from_a_paused_queue(store: WorkerStore, store_url: str) -> None:
    paused, other = (store.submit(Job(command="true", queue=name)) for name in ("deploy", "other"))
    store.pauses.pause("deploy", "freeze 凍結", "anna")
    with listening(store):
        held = store.claim("worker", "host")
        assert held and held.job.id == other.id
        held.release()
        assert store.claim("worker", "host") is None
        late = store.submit(Job(command="true", queue="deploy"))
        assert store.claim("worker", "host") is None
        open_store(store_url).pauses.resume("deploy")
        for job in (paused, late):
            held = store.claim("worker", "host")
            assert held and held.job.id == job.id
            held.release()


def test_a_pause_records_who_paused_why_and_since_when(store: WorkerStore, store_url: str) -> None:
    assert list(store.pauses.list()) == []
    first = store.pauses.pause("not-there-yet", "freeze", "anna")
    assert first.since and first.since.endswith("Z")
    again = store.pauses.pause("not-there-yet", "凍結", None)
    assert again == Pause("not-there-yet", "凍結", None, first.since)
    store.pauses.pause("a", None, None)
    found = open_store(store_url).pauses.list()
    assert [pause.queue for pause in found] == ["a", "not-there-yet"]
    assert found[1] == again
    assert [pause.reason for pause in (first, *found)] == [
        "its queue is paused by anna: freeze",
        "its queue is paused",
        "its queue is paused: 凍結",
    ]
    for _ in range(2):
        store.pauses.resume("a")
        store.pauses.resume("not-there-yet")
        assert list(store.pauses.list()) == []


def test_an_invalid_queue_name_cannot_be_paused(store: WorkerStore) -> None:
    for name in NO_QUEUES:
        with pytest.raises(ValueError, match="queue must be 1 to 32 of"):
            store.pauses.pause(name, None, None)
        with pytest.raises(ValueError, match="queue must be 1 to 32 of"):
            store.pauses.resume(name)


def test_a_listener_is_notified_of_a_resumed_queue(store: WorkerStore, store_url: str) -> None:
    store.pauses.pause("deploy", None, None)
    store.submit(Job(command="true", queue="deploy"))
    with listening(store) as watch:
        assert watch is not None
        assert store.claim("worker", "host") is None
        open_store(store_url).pauses.resume("deploy")
        assert is_woken(watch)
        held = store.claim("worker", "host")
        assert held is not None
        held.release()


def test_a_running_job_of_a_paused_queue_ends_but_its_retry_waits(
    store: WorkerStore, claim: Callable[[], Claim]
) -> None:
    job = store.submit(Job(command="false", retries=1))
    with claim() as held:
        store.pauses.pause("default", None, None)
        held.requeue(Outcome(Status.FAILED, 1))
    assert claim() is None
    assert (store.get(job.id).status, store.get(job.id).attempt) == (Status.QUEUED, 2)
    assert store.queued_by_queue() == {"default": [job.id]}
    store.pauses.resume("default")
    with claim() as held:
        assert (held.job.id, held.job.attempt) == (job.id, 2)


def test_a_job_in_a_paused_queue_can_be_cancelled(
    store: WorkerStore, claim: Callable[[], Claim]
) -> None:
    store.pauses.pause("default", None, None)
    job = store.submit(Job(command="true"))
    assert claim() is None
    assert store.cancel(job.id, "enough").status is Status.CANCELLED
    store.delete(job.id)
    store.pauses.resume("default")
    assert claim() is None


# --- Jobs that wait for their time ----------------------------------------------------------------


def test_a_delayed_job_starts_at_its_time(store: WorkerStore, claim: Callable[[], Claim]) -> None:
    at = utc(time.time() + 3)
    later = store.submit(Job(command="true", not_before=at))
    past = store.submit(Job(command="true", not_before="2026-01-01T00:00:00Z"))
    with claim() as held:
        assert held.job.id == past.id, "a time that has passed holds nobody up"
    assert claim() is None
    waiting = store.get(later.id)
    assert (waiting.status, waiting.as_dict()["not_before"]) == (Status.QUEUED, at)
    assert store.counts()[Status.QUEUED] == 1
    assert store.queued_by_queue() == {"default": [later.id]}
    assert 0 < store.next_due() - time.monotonic() < 4
    with wait_until(claim) as held:
        assert held.job.id == later.id
        assert held.job.started_at and held.job.started_at >= at
    assert store.get(later.id).as_dict()["not_before"] == at
    assert store.next_due() == float("inf")


def test_delayed_jobs_that_are_due_are_first_in_first_out(
    store: WorkerStore, claim: Callable[[], Claim]
) -> None:
    now = time.time()
    times = (now + 3.4, now + 3.2, now + 3.3)  # after everything is submitted
    waiting = [store.submit(Job(command="true", not_before=utc(at))) for at in times]
    at_once = store.submit(Job(command="true"))
    with claim() as held:
        assert held.job.id == at_once.id
    wait_until(lambda: time.time() > now + 3.5)
    for job in waiting:
        with claim() as held:
            assert held.job.id == job.id


def test_each_retry_waits_twice_as_long_as_the_previous_one(
    store: WorkerStore, claim: Callable[[], Claim]
) -> None:
    job = store.submit(Job(command="false", retries=2, retry_delay=0.4))
    ends = []
    for pause in (0.4, 0.8):
        with wait_until(claim) as held:
            outcome = Outcome(Status.FAILED, 1)
            held.requeue(outcome)
        assert claim() is None
        ends.append((values.parse_time(outcome.finished_at or ""), pause))
        shown = store.get(job.id).as_dict()
        reported = values.parse_time(shown["not_before"])
        assert ends[-1][0] + pause - 0.002 <= reported <= ends[-1][0] + pause + 0.3
    with wait_until(claim) as held:
        held.finish(Outcome(Status.SUCCEEDED, 0))
    begun = [attempt["started_at"] for attempt in store.get(job.id).attempts_as_dicts()[1:]]
    for (end, pause), start in zip(ends, begun, strict=True):
        assert values.parse_time(start) - end >= pause - 0.002
    assert store.get(job.id).as_dict()["not_before"] is None


def test_a_delayed_job_can_be_cancelled_and_deleted(
    store: WorkerStore, claim: Callable[[], Claim]
) -> None:
    planned = store.submit(Job(command="true", not_before=utc(time.time() + 9_000)))
    retried = store.submit(Job(command="false", retries=1, retry_delay=3_600))
    with claim() as held:
        held.requeue(Outcome(Status.FAILED, 1))
    assert claim() is None
    for job in (planned, retried):
        with pytest.raises(WrongState):
            store.delete(job.id)
        assert store.cancel(job.id, "enough").status is Status.CANCELLED
    assert claim() is None
    assert store.queued_by_queue() == {}
    assert store.next_due() == float("inf")
    for job in (planned, retried):
        store.delete(job.id)
    assert store.find("2") == []


def test_a_claim_that_never_started_does_not_wait_again(
    store: WorkerStore, claim: Callable[[], Claim]
) -> None:
    store.submit(Job(command="false", retries=1, retry_delay=0.3))
    with claim() as held:
        held.requeue(Outcome(Status.FAILED, 1))
    with wait_until(claim) as held:
        assert held.job.attempt == 2
        held.requeue(Outcome(Status.QUEUED))
    with claim() as held:
        assert held.job.attempt == 2


def test_a_claim_whose_shim_failed_waits_longer_each_time_and_fails(
    store: WorkerStore, claim: Callable[[], Claim], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(judge_module, "START_DELAY", 0.6)
    job = store.submit(Job(command="true", retries=1))
    for pause in (0.6, 1.2):
        with wait_until(claim) as held:
            verdict = held.failed_start_verdict()
            assert (verdict.status, verdict.next_attempt) == (Status.QUEUED, 1)
            held.requeue(verdict.outcome)
        assert claim() is None
        began = values.parse_time(verdict.outcome.finished_at or "")
        due = values.parse_time(store.get(job.id).as_dict()["not_before"])
        assert began + pause - 0.002 <= due <= began + pause + 0.3
    with wait_until(claim) as held:
        verdict = held.failed_start_verdict()
        held.finish(verdict.outcome)
    found = store.get(job.id)
    assert (found.status, found.attempt, found.exit_code) == (Status.FAILED, 1, None)
    assert found.reason and "3 times" in found.reason


def test_a_delayed_job_in_a_paused_queue_waits_for_both(
    store: WorkerStore, claim: Callable[[], Claim]
) -> None:
    job = store.submit(Job(command="true", not_before=utc(time.time() + 0.3)))
    store.pauses.pause("default", None, None)
    assert claim() is None
    assert store.next_due() == float("inf")
    wait_until(lambda: time.time() > values.parse_time(job.not_before or ""))
    assert claim() is None
    store.pauses.resume("default")
    with claim() as held:
        assert held.job.id == job.id
