"""Notifications from end to end: real workers, and servers that receive HTTP and mail."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from bench_jobs import cpu_seconds
from conftest import Gate, JobMaker, Processes, clean_environment, end_jobs, wait_until
from past_runs import end_after, rewrite_claim
from receivers import Mailbox, Receiver, http_receiver, mail_receiver

from storage import open_store
from tailboard.folder.folder_store import FolderStore
from tailboard.job import Job
from tailboard.machines.redis_store import RedisStore
from tailboard.notices import Kind, Notice, NoticeRecord, Request
from tailboard.notify.decide import NO_MESSAGE
from tailboard.notify.outbox import TRIES
from tailboard.notify.watch import Moment
from tailboard.notify_rules import Rule
from tailboard.saved_command import SavedCommand
from tailboard.status import FINISHED, Status
from tailboard.values import utc

SECRETS = ("s3cretword", "someuser", "hiddenpath")
TIMES = (
    "tailboard.intervals.NOTIFY_INTERVAL=0.1",
    "tailboard.intervals.SEND_PAUSE=0.002",
    "tailboard.intervals.HEARTBEAT_INTERVAL=0.5",
    "tailboard.intervals.KILL_DELAY=0.5",
)
SLOW_TRY = "tailboard.intervals.SEND_TIME=3"


class Place:
    """A jobs folder with a worker, and servers that receive its messages."""

    def __init__(self, base: Path, receiver: Receiver, mailbox: Mailbox) -> None:
        self.receiver, self.mailbox = receiver, mailbox
        self.folder = base / "jobs"
        self.store = FolderStore(self.folder)
        self.processes = Processes(base / "output.txt", clean_environment(self.folder))
        self.count = 0

    def worker(self, *options: str, times: tuple[str, ...] = TIMES, **env: str) -> Any:
        command = [sys.executable, "-m", "tests.programs.tuned_worker", *times, "--", *options]
        return self.processes.start(*command, TAILBOARD_PAGE="http://page.example.org", **env)

    def path(self) -> str:
        """A path of the receiver that no other test uses."""
        self.count += 1
        return f"/hiddenpath{self.count}"

    def submit(self, command: str, rules: list[Rule] | None = None, **fields: Any) -> Job:
        return self.store.submit(Job(command=command, notify=rules, **fields))

    def wait(self, *jobs: Job) -> None:
        """Wait until the jobs have ended, and nothing about them is left to do."""

        def are_done() -> bool:
            if any(self.store.get(job.id).status not in FINISHED for job in jobs):
                return False
            ids = {job.id for job in jobs}
            return not any(request.job_id in ids for request in self.store.notices.requests(1e12))

        wait_until(are_done, describe=self.processes.text)

    def record(self, job: Job) -> NoticeRecord:
        return self.store.notices.load(job.id)

    def notice(self, job: Job, event: str) -> Notice:
        notice = self.record(job).find(event)
        assert notice is not None, self.processes.text()
        return notice

    def end(self) -> None:
        for process in self.processes.started:
            process.kill()  # a worker that stops tries to send what is due
        self.processes.end()
        self.store.close()
        end_jobs(self.store)


def make_place(base: Path) -> Iterator[Place]:
    with http_receiver() as receiver, mail_receiver() as mailbox:
        place = Place(base, receiver, mailbox)
        yield place
        place.end()
        output = place.processes.text()
        assert not [secret for secret in SECRETS if secret in output]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """One with a worker, for all tests that do not stop it."""
    for place in make_place(tmp_path_factory.mktemp("notify")):
        place.worker("--slots=4", TAILBOARD_NOTIFY="recovered=nobody")
        yield place


@pytest.fixture
def own_place(tmp_path: Path) -> Iterator[Place]:
    """One of the test's own, without a worker."""
    yield from make_place(tmp_path)


def rules(*events: str, to: str) -> list[Rule]:
    return [{"on": list(events), "to": to}]


# --- What is sent ---------------------------------------------------------------------------------


def test_each_kind_of_end_is_reported_once(place: Place, gate: Gate) -> None:
    path = place.path()
    all_ends = rules(*FINISHED, "recovered", to=place.receiver.json_url(path))

    def submit(name: str, command: str, **fields: Any) -> Job:
        return place.submit(command, all_ends, name=name, submitted_by="anna", **fields)

    good, bad = submit("good", "true"), submit("bad", "exit 3")
    slow = submit("slow", gate.wait, timeout=0.2)
    gone = submit("gone", f"echo started; {gate.wait}")
    cancelled = submit("cancelled", "true", queue="other", not_before="2100-01-01T00:00:00Z")
    place.store.cancel(cancelled.id, "cancelled by bert")
    own = submit("own", "true", not_before="2100-01-01T00:00:00Z")
    place.store.cancel(own.id, "cancelled by anna")
    replaced = submit("replaced", "true", key="k", not_before="2100-01-01T00:00:00Z")
    newer = submit("newer", "true", key="k", if_busy="latest")
    pid = wait_until(lambda: place.store.get(gone.id).pid)
    wait_until(lambda: place.store.get(gone.id).log_size)
    os.killpg(pid, signal.SIGKILL)
    place.wait(good, bad, slow, gone, cancelled, own, replaced, newer)
    titles = sorted(place.receiver.titles(path))
    assert [title.partition(" after")[0] for title in titles] == [
        "⊘ cancelled was cancelled",
        "✓ good succeeded",
        "✓ newer succeeded",
        "✕ bad failed (exit 3)",
        "✕ gone was lost",
        "✕ slow timed out",
    ]
    assert place.record(own).notices == place.record(replaced).notices == []


def test_a_message_has_what_one_needs_to_know(place: Place) -> None:
    place.store.notices.set_target("mail", place.mailbox.url("anna@example.org"))
    lines = [r"echo line $i", r"printf '\033[31mfatal:\033[0m 満杯 \377\n'", "echo bye <b>"]
    command = f"i=0; while [ $i -lt 30 ]; do i=$((i+1)); {lines[0]}; done; {lines[1]}; exit 2"
    job = place.submit(
        command,
        rules("failed", to="mail"),
        name="backup db1",
        env={"TOKEN": "t0ken-in-env"},
        retries=1,
        submitted_by="anna",
    )
    place.wait(job)
    (mail,) = place.mailbox.mails
    assert mail["To"] == "anna@example.org" and mail.get_content_type() == "text/plain"
    assert mail["Subject"].startswith("✕ backup db1 failed (exit 2) after ")
    text = mail.get_content().replace("\r\n", "\n")
    assert text.startswith("fatal: 満杯 \ufffd\n")
    assert "Submitted by anna\nAttempt 2 of 2\n" in text
    assert "line 30\nfatal: 満杯 \ufffd\n" in text
    assert "The end of its log:\nline 12\n" in text  # 20 lines
    (link,) = [line for line in text.splitlines() if line.startswith("http")]
    place_of_link, _, offset = link.rpartition("&at=")
    assert place_of_link == f"http://page.example.org/?job={job.id}"
    with place.store.open_log(job.id) as log:
        assert log.read(int(offset), 100)[1].startswith(b"\x1b[31mfatal:")
    assert "t0ken-in-env" not in str(mail)


def age(store: FolderStore, job: Job, at: str) -> None:
    """Let the notices of a job have happened at this time."""
    record = store.notices.load(job.id)
    for notice in record.notices:
        notice.at = at
    store.notices.save(record)


def test_a_command_that_keeps_failing_sends_a_message_a_day_and_one_when_it_recovers(
    place: Place,
) -> None:
    path = place.path()
    to = place.receiver.json_url(path)
    both = [*rules("failed", "timed_out", to=to), *rules("recovered", "succeeded", to=to)]

    def run(command: str) -> Job:
        job = place.submit(command, both, name="nightly")
        place.wait(job)
        return job

    first, second = run("exit 1"), run("exit 1")
    assert place.receiver.titles(path) == [place.receiver.titles(path)[0]]
    notice = place.notice(second, "failed")
    assert (notice.text, notice.deliveries) == (NO_MESSAGE, [])
    age(place.store, first, "2026-01-01T00:00:00Z")
    run("exit 1")
    assert "Still failing, 3 times since 20" in place.receiver.messages(path)[1]["message"]
    run("true")
    run("true")
    recovered, succeeded = place.receiver.titles(path)[2:]
    assert recovered == "✓ nightly succeeded again after 3 failures"
    assert succeeded.startswith("✓ nightly succeeded after ")


def test_a_job_that_waits_and_a_schedule_that_was_missed_are_reported_once(place: Place) -> None:
    path = place.path()
    mine = rules("waiting", "missed", to=place.receiver.json_url(path))
    place.store.pauses.pause("held", None, None)
    job = place.submit("true", mine, name="held", queue="held", warn_waiting=0.2)
    wait_until(lambda: place.receiver.titles(path), describe=place.processes.text)
    for _ in range(2):
        place.store.notices.request(Request(job.id, Kind.MISSED, text="replaces 3 runs"))
    wait_until(lambda: len(place.receiver.titles(path)) > 1, describe=place.processes.text)
    place.store.pauses.resume("held")
    place.wait(job)
    waits, missed = place.receiver.titles(path)
    assert waits.startswith("⧖ held has been queued for ")
    assert missed == "⚠ held missed its schedule"
    assert "Replaces 3 runs" in place.receiver.messages(path)[1]["message"]


def test_a_retry_that_waits_too_long_is_reported(place: Place, gate: Gate) -> None:
    """Its first attempt did not wait."""
    path = place.path()
    to = rules("waiting", to=place.receiver.json_url(path))
    fields = {"name": "again", "queue": "again", "retries": 1, "warn_waiting": 0.2}
    job = place.submit(f"{gate.wait}; exit 1", to, **fields)
    wait_until(lambda: place.store.get(job.id).status is Status.RUNNING)
    place.store.pauses.pause("again", None, None)
    gate.open()
    wait_until(lambda: place.receiver.titles(path), describe=place.processes.text)
    assert place.store.get(job.id).attempt == 2
    place.store.pauses.resume("again")
    place.wait(job)
    assert len(place.receiver.titles(path)) == 1


def test_a_running_job_that_is_late_is_reported_once(place: Place, gate: Gate) -> None:
    path = place.path()
    to = place.receiver.json_url(path)
    job = place.submit(gate.wait, rules("late", to=to), name="long", warn_after=0.3)
    wait_until(lambda: place.receiver.titles(path), describe=place.processes.text)
    gate.open()
    place.wait(job)
    (title,) = place.receiver.titles(path)
    assert title.startswith("⧖ long is late: ")


def test_a_job_is_late_and_silent_by_its_history_once_whatever_the_clock_and_the_worker(
    own_place: Place, gate: Gate
) -> None:
    """The worker is replaced while the jobs run, and the clock was set while two of them did."""
    place, path = own_place, own_place.path()
    jobs: dict[float, Job] = {}
    maker = JobMaker(place.folder)
    for _ in range(3):
        end_after(maker.running(name="backup"), 36, 20)
    to = rules("late", "silent", "succeeded", to=place.receiver.json_url(path))
    first = place.worker("--slots=5")
    for jump in (0, 3_600, -3_600):
        jobs[jump] = place.submit(f"echo; {gate.wait}", to, name="backup")
    wait_until(lambda: all(place.store.get(job.id).log_size for job in jobs.values()))
    first.kill()
    first.wait()
    ago = Moment(time.monotonic() - 130, time.time() - 130)
    for jump, job in jobs.items():
        folder = maker.log(job.id).parent
        age = {"started_monotonic": ago.monotonic} if jump == 0 else {}
        rewrite_claim(folder, started_at=utc(ago.wall + jump), **age)
        os.utime(folder / "output.log", (ago.wall + jump,) * 2)
    second = place.worker("--slots=5")

    def are_sent() -> bool:
        notices = place.record(jobs[0]).notices
        return len(notices) == 2 and all(notice.deliveries[0].sent_at for notice in notices)

    wait_until(are_sent, describe=place.processes.text)
    second.kill()
    place.worker("--slots=5")
    gate.open()
    place.wait(*jobs.values())
    signs = [title[0] for title in sorted(place.receiver.titles(path))]
    assert signs == ["✓", "✓", "✓", "⧖", "⧖"], place.receiver.titles(path)
    late, silent = (place.notice(jobs[0], event).text for event in ("late", "silent"))
    assert late == "usually 36 s, now 2 min"
    assert silent == "silent for 2 min, never longer than 20 s before"


def test_a_ping_url_is_called_at_the_start_and_with_the_exit_code_and_the_log(
    place: Place, gate: Gate
) -> None:
    path = place.path()
    saved = SavedCommand(
        saved="pinged",
        command=f"{gate.wait}; head -c 20000 /dev/zero | tr '\\0' x; printf end; exit 7",
        notify=[],
        ping=f"{place.receiver.url}{path}?a=b",
    )
    place.store.saved.save(saved)
    job = place.store.submit(saved.job({}))
    wait_until(lambda: place.receiver.paths(path), describe=place.processes.text)
    place.store.saved.save(replace(saved, ping=f"{place.receiver.url}{path}/changed"))
    gate.open()
    place.wait(job)
    assert place.receiver.paths(path) == [f"{path}/start?a=b", f"{path}/changed/7"]
    (body,) = [post.body for post in place.receiver.posts if post.path == f"{path}/changed/7"]
    assert len(body) == 10_000 and body.endswith(b"xxend")
    assert [notice.event for notice in place.record(job).notices] == ["ping start", "ping end"]
    shown = str(place.record(job).notices[1].as_dict())
    assert place.receiver.host in shown and path not in shown


# --- What goes wrong ------------------------------------------------------------------------------


def test_no_redirect_is_followed_and_a_dead_receiver_gets_five_tries(place: Place) -> None:
    receiver = place.receiver
    targets = [
        receiver.json_url("/moved-302/hiddenpath?redirect=yes"),
        receiver.json_url("/moved-307/hiddenpath"),
        receiver.json_url("/refuse/hiddenpath"),
        "json://someuser:s3cretword@127.0.0.1:9/hiddenpath",
        "nobody",
    ]
    saved = SavedCommand(saved="moved", command="true", notify=[], ping=f"{receiver.url}/moved-302")
    place.store.saved.save(saved)
    job = place.submit("exit 1", [rule for to in targets for rule in rules("failed", to=to)])
    pinged = place.store.submit(saved.job({}))
    place.wait(job, pinged)
    deliveries = place.notice(job, "failed").deliveries
    assert [delivery.tries for delivery in deliveries] == [TRIES] * 5
    errors = [str(delivery.error) for delivery in deliveries]
    not_followed = ", and redirects are not followed"
    assert errors[0].endswith(f"302{not_followed}") and errors[1].endswith(f"307{not_followed}")
    assert "500" in errors[2]
    assert "refused" in errors[3]
    assert errors[4].startswith("there is no URL named 'nobody'; known names: ")
    assert receiver.paths("/elsewhere") == []
    assert len(receiver.paths("/refuse")) == TRIES
    assert place.notice(pinged, "ping end").deliveries[0].error == f"HTTP 302{not_followed}"
    shown = str([notice.as_dict() for notice in place.record(job).notices])
    assert not [secret for secret in SECRETS if secret in shown + "".join(errors)]


def test_a_receiver_that_never_answers_delays_no_job_no_other_message_and_no_stop(
    own_place: Place,
) -> None:
    place = own_place
    path = place.path()
    worker = place.worker(times=(*TIMES, SLOW_TRY))
    to = place.receiver.json_url("/hang/x")
    stuck = [place.submit("exit 1", rules("failed", to=to), name=f"stuck {n}") for n in range(5)]
    wait_until(lambda: place.receiver.paths("/hang"), describe=place.processes.text)
    other = place.submit("exit 1", rules("failed", to=place.receiver.json_url(path)))
    place.wait(other)
    assert place.receiver.titles(path)
    (delivery,) = wait_until(
        lambda: [d for d in place.notice(stuck[0], "failed").deliveries if d.tries],
        describe=place.processes.text,
    )
    assert delivery.error == "no answer within 3 s"
    worker.terminate()
    assert worker.wait(30) == 0
    requests = place.store.notices.requests(1e12)  # for the next worker
    assert {request.job_id for request in requests} == {job.id for job in stuck}


# --- Workers that die, and several workers --------------------------------------------------------


def test_a_worker_that_is_not_the_sender_uses_no_processor_time(own_place: Place) -> None:
    workers = [own_place.worker(), own_place.worker()]
    wait_until(lambda: len(own_place.store.workers()) == 2, describe=own_place.processes.text)
    begun, before = time.monotonic(), [cpu_seconds(worker.pid) for worker in workers]
    wait_until(lambda: time.monotonic() > begun + 2)
    shares = [
        (cpu_seconds(worker.pid) - used) / (time.monotonic() - begun)
        for worker, used in zip(workers, before, strict=True)
    ]
    assert max(shares) < 0.5, shares


@pytest.mark.parametrize(("where", "messages"), [("requested", 1), ("decided", 1), ("sent", 2)])
def test_a_message_survives_a_worker_that_is_killed(
    own_place: Place, where: str, messages: int
) -> None:
    place = own_place
    path = place.path()
    job = place.submit("exit 1", rules("failed", to=place.receiver.json_url(path)))
    dying = [sys.executable, "-m", "tests.programs.dying_sender", where]
    assert place.processes.start(*dying).wait(60) == -signal.SIGKILL
    assert place.worker("--drain").wait(60) == 0
    place.wait(job)
    assert len(place.receiver.titles(path)) == messages
    (delivery,) = place.notice(job, "failed").deliveries
    assert delivery.sent_at is not None


def test_of_several_workers_one_sends_and_another_succeeds_it(own_place: Place) -> None:
    place = own_place
    path = place.path()
    to = place.receiver.json_url(path)
    workers = [place.worker("--slots=2") for _ in range(2)]
    jobs = [place.submit("exit 1", rules("failed", to=to), name=f"job {n}") for n in range(8)]
    place.wait(*jobs)
    assert len(place.receiver.titles(path)) == len(jobs)
    for worker in workers:
        worker.kill()
        worker.wait()
        place.worker("--slots=2")
        job = place.submit("exit 1", rules("failed", to=to), name="another")
        place.wait(job)
    assert sorted(set(place.receiver.titles(path))) == sorted(place.receiver.titles(path))


def test_one_of_several_machines_sends_and_another_succeeds_it(
    own_place: Place, redis_url: str, tmp_path: Path
) -> None:
    place = own_place
    place.store.close()
    store = open_store(redis_url)
    assert isinstance(store, RedisStore)
    path = place.path()
    store.notices.set_target("ops", place.receiver.json_url(path))
    times = (*TIMES, "tailboard.notices.LEAD_TIME=2")
    machines = [
        place.worker(
            times=times,
            TAILBOARD_STORAGE=redis_url,
            TAILBOARD_SPOOL=str(tmp_path / name),
            TAILBOARD_NOTIFY="failed=ops",
        )
        for name in ("a", "b")
    ]

    def run(count: int) -> None:
        jobs = [store.submit(Job(command="exit 1", name=f"job {n}")) for n in range(count)]

        def are_sent() -> bool:
            records = [store.notices.load(job.id) for job in jobs]
            deliveries = [d for r in records for n in r.notices for d in n.deliveries]
            return len(deliveries) == count and all(d.sent_at for d in deliveries)

        wait_until(are_sent, describe=place.processes.text)

    run(6)
    assert len(place.receiver.titles(path)) == 6
    machines[0].kill()
    machines[0].wait()
    store.notices.set_target("ops", place.receiver.json_url(f"{path}/later"))
    job = store.submit(Job(command="exit 1", name="another"))
    wait_until(lambda: place.receiver.titles(f"{path}/later"), describe=place.processes.text)
    assert store.get(job.id).status is Status.FAILED
    assert len(place.receiver.titles(path)) == 6


def test_a_worker_does_not_load_apprise() -> None:
    code = "import sys, worker; print({'apprise', 'requests', 'redis'} & sys.modules.keys())"
    command = [sys.executable, "-c", code]
    assert subprocess.run(command, capture_output=True, text=True).stdout == "set()\n"
