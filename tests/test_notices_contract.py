"""What every storage promises about notices: requests, records, the sender and named URLs.

The last sections look behind the port: into the files of a folder, and into Redis."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, in_processes, open_store, wait_until
from machines import RedisMachine
from redis import Redis

from storage import WorkerStore
from tailboard import notices as notices_module
from tailboard.errors import StoreError
from tailboard.folder.claim import Claim
from tailboard.folder.folder_store import FolderStore
from tailboard.job import Job
from tailboard.journal import Outcome
from tailboard.machines import redis_machines
from tailboard.machines.redis_store import RedisStore
from tailboard.notices import Delivery, Kind, Notice, NoticeRecord, Request
from tailboard.notify_rules import MAX_NAMED, MAX_TARGET
from tailboard.saved_command import SavedCommand
from tailboard.scheduler import fire_due
from tailboard.status import Status
from tailboard.values import new_id, parse_time, utc

RULES = [{"on": ["failed"], "to": "ops"}]
FAR = 4e9  # seconds since 1970
HOOK = "https://example.org/secret"
Bring = Callable[..., Job]


def requests_for(store: WorkerStore, job: Job) -> dict[Kind, Request]:
    found = [each for each in store.notices.requests(FAR) if each.job_id == job.id]
    assert len({each.kind for each in found}) == len(found)
    return {each.kind: each for each in found}


def record_of(job: Job, at: float, to: str = "ops") -> NoticeRecord:
    notice = Notice(event="failed", at=utc(at), deliveries=[Delivery(to=to)])
    return NoticeRecord(job=job.id, title="backup", saved="backup", notices=[notice])


# --- Requests -------------------------------------------------------------------------------------


def test_requests_are_kept_until_they_are_done(store: WorkerStore, store_url: str) -> None:
    notices, job_id = store.notices, new_id()
    assert notices.requests(FAR) == [] and notices.next_due() == float("inf")
    late = Request(job_id, Kind.WAIT, 2_000.5)
    early = Request(job_id, Kind.MISSED, 1_000.0, "replaces 3 runs, “quoted”")
    at_once = Request(job_id, Kind.END)
    for request in (late, early, at_once):
        notices.request(request)
    assert notices.requests(1_500) == [at_once, early]
    assert notices.next_due() == 2_000.5
    assert notices.requests(FAR) == [at_once, early, late]
    assert notices.next_due() == float("inf")

    later = Request(job_id, Kind.WAIT, 3_000.0)
    for request in (later, at_once):
        notices.request(request)
    notices.done(early)
    assert open_store(store_url).notices.requests(FAR) == [at_once, later]
    assert notices.requests(2_500) == [at_once] and notices.next_due() == 3_000.0
    for request in (at_once, at_once, later):
        notices.done(request)
    assert notices.requests(FAR) == []


def cancel_in_queue(store: WorkerStore, claim: Callable[[], Claim], job: Job) -> None:
    store.cancel(job.id, "enough")


def cancel_while_it_runs(store: WorkerStore, claim: Callable[[], Claim], job: Job) -> None:
    with claim() as held:
        store.cancel(job.id, "enough")
        assert held.finish(Outcome(Status.SUCCEEDED, 0)).status is Status.CANCELLED


def finish(store: WorkerStore, claim: Callable[[], Claim], job: Job) -> None:
    with claim() as held:
        held.finish(Outcome(Status.SUCCEEDED, 0))


def lose_its_journal(store: WorkerStore, claim: Callable[[], Claim], job: Job) -> None:
    with claim() as held:
        held.finish_damaged(Status.LOST)


def retry_and_fail(store: WorkerStore, claim: Callable[[], Claim], job: Job) -> None:
    with claim() as held:
        held.requeue(Outcome(Status.FAILED, 1))
    assert store.status(job.id) is Status.QUEUED and Kind.END not in requests_for(store, job)
    with wait_until(claim) as held:
        held.finish(Outcome(Status.FAILED, 1))


ENDS = [cancel_in_queue, cancel_while_it_runs, finish, lose_its_journal, retry_and_fail]


@pytest.mark.parametrize("end", ENDS, ids=lambda end: end.__name__)
def test_each_end_makes_a_request_if_anyone_is_to_be_notified(
    store: WorkerStore,
    claim: Callable[[], Claim],
    end: Callable[[WorkerStore, Callable[[], Claim], Job], None],
) -> None:
    def ends(**fields: Any) -> bool:
        job = store.submit(Job(command="true", retries=1, **fields))
        end(store, claim, job)
        assert store.get(job.id).finished_at or end is lose_its_journal
        return requests_for(store, job).get(Kind.END) == Request(job.id, Kind.END)

    assert [ends(), ends(notify=[]), ends(notify=RULES)] == [False, False, True]
    assert ends(notify=[], pings=True) and ends(pings=True)
    store.notices.set_default(True)
    assert [ends(), ends(notify=[]), ends(notify=RULES)] == [True, False, True]
    store.notices.set_default(False)
    assert store.notices.lead() and not ends()


def test_a_job_that_can_never_start_makes_a_request(
    store: WorkerStore, claim: Callable[[], Claim], bring: Bring
) -> None:
    failed = bring(Status.FAILED)
    store.status(failed.id)
    job = store.submit(Job(command="true", after=[failed.id], notify=RULES))
    assert claim() is None
    wait_until(lambda: store.status(job.id) is Status.CANCELLED)
    assert list(requests_for(store, job)) == [Kind.END]


def test_a_replaced_job_makes_a_request(store: WorkerStore) -> None:
    replaced = store.submit(Job(command="true", key="k", notify=RULES))
    job = store.submit(Job(command="true", key="k", if_busy="latest", notify=RULES))
    assert store.get(replaced.id).reason == f"replaced by {job.id}"
    assert list(requests_for(store, replaced)) == [Kind.END] and not requests_for(store, job)


def test_only_the_first_start_of_a_job_with_a_ping_url_makes_a_request(
    store: WorkerStore, claim: Callable[[], Claim]
) -> None:
    quiet = store.submit(Job(command="true", notify=RULES))
    with claim():
        store.status(quiet.id)
        assert requests_for(store, quiet) == {}
    job = store.submit(Job(command="true", retries=1, pings=True))
    with claim() as held:
        store.status(job.id)
        assert list(requests_for(store, job)) == [Kind.START]
        store.notices.done(Request(job.id, Kind.START))
        held.requeue(Outcome(Status.FAILED, 1))
    store.status(job.id)
    with wait_until(claim):
        store.status(job.id)
        assert requests_for(store, job) == {}


def test_a_job_that_waits_too_long_is_looked_at_then(store: WorkerStore) -> None:
    later = utc(time.time() + 5_000)
    jobs = [
        store.submit(Job(command="true", warn_waiting=60, notify=RULES)),
        store.submit(Job(command="true", warn_waiting=60, notify=RULES, not_before=later)),
        store.submit(Job(command="true", warn_waiting=60)),
        store.submit(Job(command="true", notify=RULES)),
    ]
    at = [parse_time(job.not_before or job.submitted_at or "") + 60 for job in jobs]
    found = [requests_for(store, job) for job in jobs]
    assert [sorted(each) for each in found] == [[Kind.WAIT], [Kind.WAIT], [], []]
    for each, when in zip(found[:2], at, strict=False):
        assert each[Kind.WAIT].at == pytest.approx(when, abs=0.01)
    assert store.notices.requests(time.time() + 30) == []
    assert store.notices.next_due() == pytest.approx(at[0], abs=0.01)


# --- Missed runs ----------------------------------------------------------------------------------


def hour_from_now(hours: int) -> float:
    """The middle of an hour, so that the time that is due was half an hour before."""
    return (time.time() // 3_600 + hours) * 3_600 + 1_800


def save_hourly(store: WorkerStore, **fields: Any) -> SavedCommand:
    store.saved.save(SavedCommand(saved="hourly", command="true", cron="@hourly", **fields))
    return store.saved.load("hourly")


def test_a_run_that_replaces_missed_ones_makes_a_request(store: WorkerStore) -> None:
    command = save_hourly(store, notify=RULES)
    job = fire_due(store, command, hour_from_now(3))
    assert job and job.submit_reason and "when no worker was running" in job.submit_reason
    wanted = Request(job.id, Kind.MISSED, 0.0, job.submit_reason)
    assert requests_for(store, job) == {Kind.MISSED: wanted}
    store.cancel(job.id, "enough")
    on_time = fire_due(store, command, hour_from_now(4) - 1_795)
    assert on_time and on_time.submit_reason is None and requests_for(store, on_time) == {}


@pytest.mark.parametrize("if_busy", [None, "skip"])
def test_three_skipped_runs_in_a_row_make_one_request(
    store: WorkerStore, if_busy: str | None
) -> None:
    command = save_hourly(store, notify=RULES, if_busy=if_busy)

    def skip(hours: int) -> dict[Kind, Request]:
        store.notices.done(Request(active.id, Kind.MISSED))
        assert fire_due(store, command, hour_from_now(hours)) is None
        return requests_for(store, active)

    active = store.submit(command.job({}))
    assert skip(1) == skip(2) == {}
    text = "3 scheduled runs in a row were skipped because this job has not ended"
    assert skip(3) == {Kind.MISSED: Request(active.id, Kind.MISSED, 0.0, text)}
    assert skip(4) == skip(8) == {}
    store.cancel(active.id, "enough")
    job = fire_due(store, command, hour_from_now(9) - 1_795)
    assert job and store.saved.load_schedule("hourly").skipped_in_row == 0
    active = job
    assert skip(10) == {}
    assert "4 scheduled runs" in skip(13)[Kind.MISSED].text


# --- Records --------------------------------------------------------------------------------------


def test_a_record_is_stored_until_its_job_is_deleted(
    store: WorkerStore, store_url: str, bring: Bring
) -> None:
    notices, now = store.notices, time.time()
    first, second = bring(Status.FAILED), bring(Status.FAILED)
    assert notices.load(first.id) == NoticeRecord(job=first.id)
    record = record_of(first, now - 100, HOOK)
    notices.save(record)
    assert notices.load(first.id) == open_store(store_url).notices.load(first.id) == record
    record.notices[0].deliveries[0].sent_at = utc()
    notices.save(record)
    assert notices.load(first.id) == record
    notices.save(record_of(second, now - 50))
    assert [each.job for each in notices.recent(now - 200, 10)] == [second.id, first.id]
    assert [each.job for each in notices.recent(now - 200, 1)] == [second.id]
    assert [each.job for each in notices.recent(now - 60, 10)] == [second.id]
    record.notices.append(Notice(event="recovered", at=utc(now - 10)))
    notices.save(record)
    assert [each.job for each in notices.recent(now - 60, 1)] == [first.id]

    store.delete(first.id)
    assert notices.load(first.id) == NoticeRecord(job=first.id)
    notices.forget(second.id)
    notices.forget(second.id)
    assert notices.recent(0.0, 10) == []
    for odd in ("../../x", "", "no-id"):
        assert notices.load(odd) == NoticeRecord(job=odd)
        notices.forget(odd)


# --- The sender -----------------------------------------------------------------------------------


def test_only_one_process_is_the_sender(store: WorkerStore, store_url: str) -> None:
    other = open_store(store_url)
    assert store.notices.lead() and store.notices.lead() and not other.notices.lead()
    other.notices.resign()
    assert not other.notices.lead()
    store.notices.resign()
    assert other.notices.lead() and not store.notices.lead()


def test_the_default_of_the_sender_counts(store: WorkerStore, store_url: str) -> None:
    """A worker for which TAILBOARD_NOTIFY is not set does not end the messages of all others."""

    def has_default() -> bool:
        job = store.submit(Job(command="true"))
        store.cancel(job.id, "enough")
        return Kind.END in requests_for(store, job)

    other = open_store(store_url)
    store.notices.set_default(True)
    assert store.notices.lead()
    other.notices.set_default(False)
    assert not other.notices.lead() and has_default()
    store.notices.resign()
    assert other.notices.lead() and not has_default()
    other.notices.resign()
    assert store.notices.lead() and has_default()


def test_one_of_many_becomes_the_sender(store: WorkerStore, store_url: str) -> None:
    others = [open_store(store_url).notices for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        led = list(pool.map(lambda other: other.lead(), others))
    assert sorted(led) == [False] * 7 + [True]
    others[led.index(True)].resign()
    assert store.notices.lead()


LEADER = """if True:
    import sys
    sys.path.insert(0, "tests")
    from machines import open_backend
    from tailboard import notices
    notices.LEAD_TIME = 0.5
    store = open_backend(sys.argv[1])
    print(store.notices.lead(), flush=True)
    sys.stdin.read()
"""


def test_a_killed_sender_is_succeeded(
    store: WorkerStore, store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At once in a folder, and on Redis when its lease has expired."""
    monkeypatch.setattr(notices_module, "LEAD_TIME", 0.5)
    command = [sys.executable, "-c", LEADER, store_url]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, text=True) as leader:
        try:
            assert leader.stdout and leader.stdout.readline() == "True\n"
            assert isinstance(store, RedisMachine) or not store.notices.lead()
        finally:
            leader.kill()
    wait_until(store.notices.lead)


# --- Named URLs -----------------------------------------------------------------------------------


def test_urls_have_names(store: WorkerStore, store_url: str) -> None:
    notices = store.notices
    assert notices.targets() == {}
    notices.set_target("ops", HOOK)
    notices.set_target("mail", "mailto://example.org")
    notices.set_target("ops", f"{HOOK}?ü=1")
    assert open_store(store_url).notices.targets() == {
        "mail": "mailto://example.org",
        "ops": f"{HOOK}?ü=1",
    }
    notices.set_target("mail", None)
    notices.set_target("unknown", None)
    assert notices.targets() == {"ops": f"{HOOK}?ü=1"}
    for name in ("", "Ops", "a b", HOOK, "x" * 65):
        for url in (HOOK, None):
            with pytest.raises(ValueError, match="the name of a URL must be 1 to 64"):
                notices.set_target(name, url)
    for url in ("secret", "https://", f"https://{'secret' * MAX_TARGET}", "https://a secret"):
        with pytest.raises(
            ValueError, match=r"^ops is not a URL of up to 2,000 characters"
        ) as found:
            notices.set_target("ops", url)
        assert "secret" not in str(found.value)
    assert notices.targets() == {"ops": f"{HOOK}?ü=1"}


def test_processes_that_name_urls_at_the_same_time_lose_none(
    store: WorkerStore, store_url: str
) -> None:
    code = """if True:
        store = open_store(sys.argv[1])
        for number in range(5):
            store.notices.set_target(f"x{os.getpid()}-{number}", "json://example.org")
    """
    in_processes(4, f"import os\n{code}", store_url)
    assert len(store.notices.targets()) == 20


def test_the_number_of_names_is_limited(store: WorkerStore, store_url: str) -> None:
    names = {f"x{number}": "json://example.org" for number in range(MAX_NAMED)}
    if isinstance(store, FolderStore):
        file = Path(store.root) / "notify.json"
        file.touch(0o600)
        file.write_text(json.dumps(names))
    else:
        Redis.from_url(store_url).hset("tailboard:notify-urls", mapping=names)
    with pytest.raises(ValueError, match="at most 200 named URLs"):
        store.notices.set_target("another", "json://example.org")
    store.notices.set_target("x0", None)
    store.notices.set_target("another", "json://example.org")


# --- In a folder ----------------------------------------------------------------------------------


def test_the_files_of_notices_are_private(storage: FolderStore, folder: Path) -> None:
    storage.notices.set_target("ops", HOOK)
    job = storage.submit(Job(command="true", notify=RULES))
    storage.cancel(job.id, "enough")
    storage.notices.save(record_of(job, time.time()))
    storage.notices.set_default(True)
    assert storage.notices.lead()
    places = [folder / "notify.json", folder / "notices", *(folder / "notices").rglob("*")]
    assert {path.name for path in places} == {
        *("notify.json", "notices", "requests", "records", "default", "sender", "targets"),
        *(job.id, f"{job.id}.end"),
    }
    assert all(stat.S_IMODE(path.stat().st_mode) & 0o077 == 0 for path in places)


def test_named_urls_that_others_can_read_are_refused(storage: FolderStore, folder: Path) -> None:
    file = folder / "notify.json"
    storage.notices.set_target("ops", HOOK)
    for mode in (0o644, 0o660, 0o602):
        file.chmod(mode)
        for ask in (storage.notices.targets, lambda: storage.notices.set_target("b", HOOK)):
            with pytest.raises(ValueError, match="other users can read or change it: chmod 600 /"):
                ask()
    file.chmod(0o600)
    assert storage.notices.targets() == {"ops": HOOK}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ('{"ops": "https://secret', "Unterminated string starting at: line 1 column 9"),
        ('["https://secret"]', "it is not a JSON object"),
        ('{"ops": "secret"}', "ops is not a URL"),
        ('{"https://secret": "ops"}', "the name of a URL must be"),
        ('{"ops": 1}', "ops is not a URL"),
        ("[" * 100_000, "recursion"),
        (b"\xffsecret", "it is not UTF-8"),
        ("secret " * 200_000, "it is larger than 1,048,576 bytes"),
    ],
)
def test_a_damaged_file_of_named_urls_is_reported_without_a_url(
    storage: FolderStore, folder: Path, content: str | bytes, reason: str
) -> None:
    file = folder / "notify.json"
    file.touch(0o600)
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    for ask in (storage.notices.targets, lambda: storage.notices.set_target("b", HOOK)):
        with pytest.raises(ValueError, match=f"^notify.json .*{reason}") as found:
            ask()
        assert "secret" not in str(found.value)


def test_a_folder_in_place_of_the_named_urls_is_reported(
    storage: FolderStore, folder: Path
) -> None:
    (folder / "notify.json").mkdir()
    with pytest.raises(ValueError, match=r"notify\.json cannot be read: "):
        storage.notices.targets()


def test_damaged_requests_are_removed(storage: FolderStore, folder: Path) -> None:
    storage.notices.make_folders()
    job_id, home = new_id(), folder / "notices" / "requests"
    bad = {
        "x.end": "",
        f"{job_id}.other": "",
        f"{job_id}.wait": "{",
        f"{job_id}.send": '{"at": "x", "text": ""}',
        f"{job_id}.missed": '{"at": Infinity, "text": ""}',
    }
    for name, content in bad.items():
        (home / name).write_text(content)
    (home / f"{job_id}.start").symlink_to("/etc/passwd")
    storage.notices.request(Request(job_id, Kind.END))
    assert storage.notices.requests(FAR) == [Request(job_id, Kind.END)]
    assert os.listdir(home) == [f"{job_id}.end"]


def test_a_damaged_record_counts_as_none(storage: FolderStore, folder: Path) -> None:
    storage.notices.make_folders()
    job = Job(id=new_id(), command="true")
    path = folder / "notices" / "records" / job.id
    notice = {"event": "failed", "at": "yesterday"}
    for content in ("", "[]", "{", json.dumps({"job": job.id, "notices": [notice]})):
        path.write_text(content)
        assert storage.notices.load(job.id) == NoticeRecord(job=job.id)
        assert storage.notices.recent(0.0, 10) == []
    path.unlink()
    path.mkdir()
    assert storage.notices.load(job.id) == NoticeRecord(job=job.id)


def test_a_job_ends_even_if_its_request_cannot_be_made(
    storage: FolderStore, folder: Path, bring: Bring
) -> None:
    (folder / "notices").write_text("a file")
    job = storage.submit(Job(command="true", notify=RULES))
    storage.cancel(job.id, "enough")
    assert storage.status(job.id) is Status.CANCELLED


def test_a_sender_whose_file_was_removed_notices_that(storage: FolderStore, folder: Path) -> None:
    other = FolderStore(folder)
    assert storage.notices.lead()
    (folder / "notices" / "sender").unlink()
    assert other.notices.lead()
    assert not storage.notices.lead()
    other.notices.resign()
    assert storage.notices.lead()
    storage.notices.resign()


def test_jobs_that_nobody_watches_write_nothing(storage: FolderStore, folder: Path) -> None:
    job = storage.submit(Job(command="true", warn_waiting=60))
    storage.cancel(job.id, "enough")
    assert not (folder / "notices").exists()


# --- In Redis -------------------------------------------------------------------------------------


def test_a_sender_that_was_succeeded_can_store_nothing(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was suspended, for example: it must not send what its successor sends."""
    one, two = RedisStore(redis_url), RedisStore(redis_url)
    job = one.submit(Job(command="true"))
    monkeypatch.setattr(notices_module, "LEAD_TIME", 0.05)
    assert one.notices.lead()
    monkeypatch.setattr(notices_module, "LEAD_TIME", 60)
    wait_until(two.notices.lead)
    record = record_of(job, time.time())
    with pytest.raises(StoreError, match="another process sends"):
        one.notices.save(record)
    two.notices.save(record)
    assert one.notices.load(job.id) == record
    one.close()
    two.close()


def test_damage_in_redis_affects_only_itself(redis_url: str) -> None:
    store, client = RedisStore(redis_url), Redis.from_url(redis_url)
    job = store.submit(Job(command="true"))
    bad = {"x": 0.0, f"{job.id} other": 0.0, "../x end": 1.0}
    client.zadd("tailboard:requests", bad | {f"{job.id} end": 2.0})
    assert store.notices.requests(FAR) == [Request(job.id, Kind.END, 2.0)]
    assert client.zcard("tailboard:requests") == 1
    client.set(f"tailboard:notices:{job.id}", "{")
    client.zadd("tailboard:noticed", {job.id: 1.0, "../x": 1.0})
    assert store.notices.recent(0.0, 10) == []
    client.hset("tailboard:notify-urls", "ops", "secret")
    with pytest.raises(ValueError, match="in Redis cannot be used: ops is not a URL") as found:
        store.notices.targets()
    assert "secret" not in str(found.value)
    store.close()


def test_a_record_of_a_deleted_job_is_not_stored(redis_url: str) -> None:
    store, client = RedisStore(redis_url), Redis.from_url(redis_url)
    job = store.submit(Job(command="true"))
    store.cancel(job.id, "enough")
    record = record_of(job, time.time())
    store.delete(job.id)
    store.notices.save(record)
    assert store.notices.load(job.id) == NoticeRecord(job=job.id)
    assert client.keys("tailboard:notice*") == []
    store.close()


@pytest.fixture
def machine(redis_url: str) -> Iterator[RedisMachine]:
    machine = RedisMachine(redis_url, os.environ["TAILBOARD_SPOOL"])
    yield machine
    machine.close()


def start(machine: RedisMachine, **fields: Any) -> Claim:
    machine.submit(Job(command="true", **fields))
    claim = machine.claim("worker", "host")
    assert claim
    return claim


def test_a_job_of_a_lost_machine_makes_a_request(machine: RedisMachine) -> None:
    with start(machine, notify=RULES) as held:
        machine.redis.mark_lost(machine.spool.name, "gone")
        assert machine.redis.status(held.job.id) is Status.LOST
        assert list(requests_for(machine, held.job)) == [Kind.END]


def test_jobs_with_damaged_records_make_requests(machine: RedisMachine, redis_url: str) -> None:
    machine.notices.set_default(True)
    job = machine.submit(Job(command="true"))
    Redis.from_url(redis_url).set(f"tailboard:job:{job.id}", "{")
    assert machine.claim("worker", "host") is None
    assert machine.status(job.id) is Status.LOST
    assert list(requests_for(machine, job)) == [Kind.END]


def test_a_job_that_was_restored_makes_requests_when_it_starts_and_ends(
    machine: RedisMachine, redis_url: str
) -> None:
    with start(machine, notify=RULES, pings=True) as held:
        Redis.from_url(redis_url).flushall()
        assert machine.status(held.job.id) is Status.RUNNING
        assert requests_for(machine, held.job) == {}, "it had started before"
        held.finish(Outcome(Status.FAILED, 1))
        assert machine.status(held.job.id) is Status.FAILED
        assert list(requests_for(machine, held.job)) == [Kind.END]


def test_the_sender_restores_what_an_emptied_redis_has_lost(
    machine: RedisMachine, redis_url: str
) -> None:
    machine.notices.set_default(True)
    assert machine.notices.lead()
    Redis.from_url(redis_url).flushall()
    assert machine.notices.lead()
    assert Redis.from_url(redis_url).exists("tailboard:notify-default")


@pytest.mark.parametrize(("age", "kinds"), [(3_600.0, [Kind.END]), (-1.0, [])])
def test_an_end_that_redis_has_lost_makes_a_request_again_unless_it_is_long_ago(
    machine: RedisMachine,
    redis_url: str,
    monkeypatch: pytest.MonkeyPatch,
    age: float,
    kinds: list[Kind],
) -> None:
    """An old one was handled before Redis was emptied."""
    monkeypatch.setattr(redis_machines, "RESTORED_NOTICE_AGE", age)
    with start(machine, notify=RULES) as held:
        held.finish(Outcome(Status.FAILED, 1))
    Redis.from_url(redis_url).flushall()
    assert machine.status(held.job.id) is Status.FAILED
    assert list(requests_for(machine, held.job)) == kinds


def test_a_job_of_an_earlier_version_has_the_default_rules(
    machine: RedisMachine, redis_url: str
) -> None:
    machine.notices.set_default(True)
    job = machine.submit(Job(command="true"))
    state = Redis.from_url(redis_url).hgetall(f"tailboard:state:{job.id}")
    assert not {b"notify", b"pings"} & state.keys(), "most jobs need no field for that"
    machine.cancel(job.id, "enough")
    assert list(requests_for(machine, job)) == [Kind.END]
