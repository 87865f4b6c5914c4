"""Jobs that fail: the hint that explains why, paused queues, retries and delayed starts."""

from __future__ import annotations

import json
import os
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from conftest import BY_HAND, Gate, JobMaker, Processes, on_a_terminal, wait_until
from flask.testing import FlaskClient
from web import is_problem

from tailboard import error_lines
from tailboard.folder.folder_store import FolderStore
from tailboard.folder.lanes import entry_in
from tailboard.job import Job
from tailboard.journal import HINT_LENGTH, Outcome, parse_journal
from tailboard.judge import Delay, delay_before_start, judge, retry_pause
from tailboard.run.hint import HINT_BYTES, find_hint
from tailboard.status import Status
from tailboard.values import parse_time, utc

Run = Callable[..., Job]


@pytest.fixture
def run(storage: FolderStore, drain: Callable[..., None]) -> Run:
    """Runs one command to its end."""

    def run(command: str | list[str], **fields: object) -> Job:
        job = storage.submit(Job(command=command, **fields))  # type: ignore[arg-type]
        drain()
        return storage.get(job.id)

    return run


# --- Why it failed --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("log", "hint"),
    [
        (
            "Traceback (most recent call last):\nValueError: bad\ntidied up\n",
            "ValueError: bad",
        ),
        ("one\ntwo\n\n  \n", "two"),
        ("\x1b[31mred\x1b[m\nplain\n", "red"),
        ("10 %\r50 %\rfatal: the disk is gone\r\nbye", "fatal: the disk is gone"),
        ("E       AssertionError: 12 == 12.5\n1 failed\n", "E       AssertionError: 12 == 12.5"),
        ("a\tb\x07\x9b\u202ec\n", "a bc"),
        ("\x1b[2K\x1b]0;title\x07Killed\n\x1b[0m\n", "Killed"),
        ("x" * 500, "x" * (HINT_LENGTH - 1) + "…"),
        ("行" * 50, "行" * 50),
        ("", None),
        ("\n\x00\x00\n\t\n", None),
        ("ERROR of the first\n--- attempt 2 ---\nall was well\n", "all was well"),
        ("ERROR of the first\n--- attempt 2 ---\n", None),
        ("at 3\n::result a=1\n12:00:00 ::progress 40\n^^^ +++\n::endgroup::\n", "at 3"),
        ("--- Export\n::progress 40\n", "--- Export"),
        ("::error file=a.py,line=4::no such column%0Ax\nend\n", "error: no such column (a.py:4)"),
        ("at 3\n::warning::it is late\n", "warning: it is late"),
    ],
)
def test_the_hint_is_the_line_that_explains_the_failure(log: str, hint: str | None) -> None:
    assert find_hint(log.encode(), 2) == hint


def test_invalid_bytes_are_replaced_in_a_hint() -> None:
    assert find_hint(b"error: \xff\xfe\n", 1) == "error: \ufffd\ufffd"


def test_a_partial_first_line_is_never_the_hint() -> None:
    assert find_hint(b"rror: of before\n" + b"\n" * HINT_BYTES + b"end\n", 1) == "end"
    assert find_hint(b"x" * HINT_BYTES, 1) == "x" * (HINT_LENGTH - 1) + "…"


@pytest.mark.parametrize(
    "piece", [b"a.", b"\n", b"\0\n", b"\x1b[", b"\x1b[31;", b"\x1b]", b"x\n", b" ", b"error[A"]
)
def test_finding_a_hint_never_takes_long(piece: bytes) -> None:
    """A log may be crafted to be slow. It costs the worker at most its own time limit and the time
    for one line."""
    data = (piece * HINT_BYTES)[:HINT_BYTES]
    began = time.process_time()
    find_hint(data, 1)
    assert time.process_time() - began < 1


@pytest.mark.parametrize("content", [None, "no JSON", '{"a": 1}', '["("]', "[7]", "[" * 9_999])
def test_without_patterns_the_last_line_is_the_hint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str | None
) -> None:
    if content is not None:
        (tmp_path / "patterns").write_text(content)
    monkeypatch.setattr(error_lines, "ERROR_PATTERNS", tmp_path / "patterns")
    error_lines.error_patterns.cache_clear()
    try:
        assert find_hint(b"ValueError: bad\ntidied up\n", 1) == "tidied up"
    finally:
        error_lines.error_patterns.cache_clear()


def test_each_attempt_that_ended_badly_keeps_its_hint(storage: FolderStore, run: Run) -> None:
    line = '[ $JOB_ATTEMPT = 2 ] || echo "ValueError: $JOB_ATTEMPT"; exit 1'
    job = run(line, retries=2)
    assert (job.status, job.hint) == (Status.FAILED, "ValueError: 3")
    hints = [attempt["hint"] for attempt in job.attempts_as_dicts()]
    assert hints == ["ValueError: 1", None, "ValueError: 3"]
    assert storage.list()[0][0].as_dict()["hint"] == "ValueError: 3"


def test_a_job_that_succeeds_or_is_cancelled_has_no_hint(run: Run, job_maker: JobMaker) -> None:
    assert run("echo error: none").hint is None
    held = job_maker.running(b"error: x\n", retries=1)
    job_maker.storage.cancel(held.job.id, "enough")
    with held:
        ended = held.requeue(Outcome(Status.FAILED, 1, hint="error: x"))
    assert (ended.status, ended.hint) == (Status.CANCELLED, None)
    assert job_maker.storage.get(ended.id).hint is None


def test_a_timed_out_job_shows_how_far_it_got(run: Run, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "never")
    job = run(f"echo step 3 of 7; cat {tmp_path}/never", timeout=0.5)
    assert (job.status, job.hint) == (Status.TIMED_OUT, "step 3 of 7")


@pytest.mark.parametrize(
    ("change", "hint"),
    [
        ("rm output.log; mkfifo output.log", None),
        ("truncate -s 4T output.log", None),
        ("truncate -s 4T output.log; echo 'fatal: x' >>output.log", "fatal: x"),
        ("rm output.log; ln -s /etc/passwd output.log", None),
        ("head -c 99999 /dev/urandom >>output.log; echo; echo 'error: y'", "error: y"),
    ],
)
def test_a_damaged_log_does_no_harm(run: Run, folder: Path, change: str, hint: str | None) -> None:
    job = run(f"cd {folder}/running/$JOB_ID; {change}; exit 3")
    assert (job.status, job.exit_code, job.hint) == (Status.FAILED, 3, hint)


@pytest.mark.parametrize("hint", ["x" * 999, "\x1b[31m\u202eerror", 7, ["x"], {}])
def test_a_hint_in_a_journal_is_read_as_one_line(job_maker: JobMaker, hint: object) -> None:
    held = job_maker.running()
    job = job_maker.finish(held, Status.FAILED, 1)
    ended = {"status": "failed", "exit_code": 1, "hint": hint}
    with open(f"{held.folder}/journal", "a") as journal:
        journal.write(f"\n{json.dumps({'ended': ended})}\n")
    found = job_maker.storage.get(job.id).hint
    assert found and len(found) <= HINT_LENGTH and found.isprintable()


def test_the_hint_is_in_the_list_and_the_job(client: FlaskClient, job_maker: JobMaker) -> None:
    held = job_maker.running()
    with held:
        job = held.finish(Outcome(Status.FAILED, 1, hint="error: x"))
    assert client.get("/jobs").get_json()["jobs"][0]["hint"] == "error: x"
    found = client.get(f"/jobs/{job.id}").get_json()
    assert (found["hint"], found["attempts"][0]["hint"]) == ("error: x", "error: x")
    assert client.get(f"/jobs/{job_maker.queued().id}").get_json()["hint"] is None


def test_a_terminal_shows_the_hint_below_its_job(job_maker: JobMaker, processes: Processes) -> None:
    held = job_maker.running(name="deploy 本番")
    with held:
        held.finish(Outcome(Status.FAILED, 1, hint="error: " + "長い" * 60))
    job_maker.storage.pauses.pause(BY_HAND, "freeze", "anna")
    job_maker.queued(name="next")
    lines = on_a_terminal(processes, 80, "jobs").splitlines()
    assert re.search(r"  queued +\d+s +next$", lines[0]), lines[0]
    assert lines[1] == "    its queue is paused by anna: freeze"
    assert re.search(r"  failed       1 +\d+s +\d+s  deploy 本番$", lines[2]), lines[2]
    assert lines[3].startswith("    error: 長い") and lines[3].endswith("…")
    assert len(lines[3].encode("gb18030")) <= 80, "wide characters take two columns"
    piped = processes.start(sys.executable, "-m", "flask", "jobs")
    assert piped.wait(60) == 0
    assert [line.split()[-1] for line in processes.text().splitlines()] == ["next", "本番"]


# --- A paused queue -------------------------------------------------------------------------------


def test_a_queue_is_paused_and_resumed_over_http(client: FlaskClient, job_maker: JobMaker) -> None:
    job = job_maker.queued()
    answer = client.put(f"/queues/{BY_HAND}/pause", json={"why": "freeze 凍結", "by": "anna"})
    said = answer.get_json()
    assert answer.status_code == 200
    assert {**said, "since": None} == {
        "queue": BY_HAND,
        "why": "freeze 凍結",
        "by": "anna",
        "since": None,
    }
    assert client.get("/workers").get_json()["paused"] == [said]
    listed = client.get("/jobs").get_json()
    assert listed["paused"] == [said]
    reason = "its queue is paused by anna: freeze 凍結"
    assert listed["jobs"][0]["reason"] == reason
    shown = client.get(f"/jobs/{job.id}").get_json()
    assert (shown["reason"], shown["queued_before"]) == (reason, 0)
    assert client.get("/queues").get_json()["queues"] == [
        {"queue": BY_HAND, "queued": 1, "running": 0, "limit": None, "paused": said}
    ]
    assert f'tailboard_queue_paused{{queue="{BY_HAND}"}} 1.0' in client.get("/metrics").text
    for _ in range(2):
        assert client.delete(f"/queues/{BY_HAND}/pause").status_code == 204
    assert client.get("/workers").get_json()["paused"] == []
    assert client.get(f"/jobs/{job.id}").get_json()["reason"] is None
    assert "tailboard_queue_paused{" not in client.get("/metrics").text


def test_a_pause_needs_neither_a_body_nor_an_existing_queue(client: FlaskClient) -> None:
    said = client.put("/queues/later/pause").get_json()
    assert (said["queue"], said["why"], said["by"]) == ("later", None, None)
    again = client.put("/queues/later/pause", json={"why": "now known"}).get_json()
    assert (again["why"], again["since"]) == ("now known", said["since"])


@pytest.mark.parametrize(
    ("path", "body", "words"),
    [
        ("/queues/A B/pause", {}, "queue must be 1 to 32 of the characters"),
        (f"/queues/{'x' * 33}/pause", {}, "queue must be 1 to 32 of the characters"),
        ("/queues/a/pause", {"why": ""}, "why must be a string of 1 to 200 characters"),
        ("/queues/a/pause", {"why": 7}, "why must be a string of 1 to 200 characters"),
        ("/queues/a/pause", {"by": "x" * 201}, "by must be a string of 1 to 200 characters"),
        ("/queues/a/pause", {"who": "anna"}, "unknown field 'who'; allowed fields: why, by"),
        ("/queues/a/pause", [], "the body must be a JSON object"),
    ],
)
def test_an_invalid_pause_is_refused_with_what_is_allowed(
    client: FlaskClient, path: str, body: object, words: str
) -> None:
    is_problem(client.put(path, json=body), 400, words)
    assert client.get("/workers").get_json()["paused"] == []


def test_a_pause_must_be_sent_as_json(client: FlaskClient) -> None:
    answer = client.put("/queues/a/pause", data="why=x", content_type="text/plain")
    is_problem(answer, 415, "Content-Type must be application/json")


def test_jobs_of_a_paused_queue_do_not_make_the_api_unhealthy(
    client: FlaskClient, job_maker: JobMaker
) -> None:
    job_maker.queued()
    assert client.get("/healthz").status_code == 503
    client.put(f"/queues/{BY_HAND}/pause")
    assert client.get("/healthz").get_json()["status"] == "ok"


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("", None),
        ("no JSON", "its record cannot be read"),
        ("[]", "its record cannot be read"),
        ('{"why": 7}', "its record cannot be read"),
        ("folder", "its file cannot be read: it is not a regular file"),
        ("fifo", "its file cannot be read: it is not a regular file"),
    ],
)
def test_a_pause_made_by_hand_or_damaged_still_counts(
    job_maker: JobMaker, folder: Path, content: str, why: str | None
) -> None:
    """A queue that somebody has paused must not run because a file is damaged."""
    job = job_maker.queued()
    file = folder / "paused" / f"{BY_HAND}.json"
    if content == "folder":
        file.mkdir()
    elif content == "fifo":
        os.mkfifo(file)
    else:
        file.write_text(content)
    (folder / "paused" / "No queue.json").touch()
    (found,) = job_maker.storage.pauses.list()
    assert (found.queue, found.why) == (BY_HAND, why)
    assert found.since
    assert job_maker.storage.claim("w", "h") is None
    if content == "folder":
        file.rmdir()
    job_maker.storage.pauses.resume(BY_HAND)
    claimed = job_maker.storage.claim("w", "h")
    assert claimed and claimed.job.id == job.id
    claimed.release()


def test_a_worker_acts_on_a_pause_and_its_end_at_once(
    storage: FolderStore,
    worker: Callable[..., object],
    ended: Callable[..., Job],
    started: Callable[..., Job],
    folder: Path,
    gate: Gate,
) -> None:
    """It notices changes in the folder, even if made by hand; otherwise it would only check again
    after an hour."""
    worker("--slots", "2", scan=3_600)
    running = started(storage.submit(Job(command=f"echo started; {gate.wait}")))
    storage.pauses.pause("default", None, None)
    waiting = storage.submit(Job(command="true"))
    ended(storage.submit(Job(command="true", queue="other")))
    assert storage.status(waiting.id) is Status.QUEUED
    gate.open()
    assert ended(running).status is Status.SUCCEEDED
    assert storage.status(waiting.id) is Status.QUEUED
    (folder / "paused" / "default.json").unlink()
    assert ended(waiting).status is Status.SUCCEEDED


def test_a_drain_leaves_paused_jobs(storage: FolderStore, drain: Callable[..., None]) -> None:
    storage.pauses.pause("deploy", None, None)
    paused = storage.submit(Job(command="true", queue="deploy"))
    other = storage.submit(Job(command="true"))
    drain()
    assert storage.status(paused.id) is Status.QUEUED
    assert storage.status(other.id) is Status.SUCCEEDED


def test_the_commands_pause_and_resume(processes: Processes, storage: FolderStore) -> None:
    assert on_a_terminal(processes, 80, "pause", "deploy", "--why", "freeze") == ""
    (said,) = storage.pauses.list()
    assert (said.queue, said.why) == ("deploy", "freeze") and said.by
    shown = f"queue deploy has been paused since {said.since} by {said.by}: freeze"
    assert shown in on_a_terminal(processes, 80, "workers").splitlines()
    assert on_a_terminal(processes, 80, "resume", "deploy") == ""
    assert list(storage.pauses.list()) == []


# --- A job that waits for its time ----------------------------------------------------------------


def test_the_retry_delay_doubles_up_to_an_hour() -> None:
    assert [retry_pause(10, attempt) for attempt in (2, 3, 4, 5)] == [10, 20, 40, 80]
    assert [retry_pause(1_000, attempt) for attempt in (2, 3, 4, 1_000_000)] == [
        1_000,
        2_000,
        3_600,
        3_600,
    ]
    assert retry_pause(0, 9) == 0


BOOT, CHANGED_AT = "this boot", 1_000.0
CLAIM = {"worker": "w", "host": "h", "boot": BOOT, "started_at": utc(1), "started_monotonic": 1.0}
WHOLE: list[dict[str, Any]] = [
    {"claimed": CLAIM | {"attempt": 1}},
    {"ended": {"status": "queued"}},
    {"claimed": CLAIM | {"attempt": 1}},
    {"pid": 42},
    {"exit": 7},
    {"ended": {"status": "failed", "exit_code": 7, "finished_at": utc(900)}},
    {"claimed": CLAIM | {"attempt": 2}},
    {"ended": {"status": "queued"}},
    {"claimed": CLAIM | {"attempt": 2}},
    {"pid": 43},
    {"stopping": {"status": "timed_out", "reason": "too long"}},
    {"exit": 143},
    {"ended": {"status": "timed_out", "exit_code": 143, "finished_at": utc(950)}},
    {"claimed": CLAIM | {"attempt": 3}},
    {"exit": 0},
]
ASKED = 5_000.0
AT_FIRST = Delay(ASKED, float("inf"))
WAITS = [
    *[AT_FIRST] * 4,  # no command has begun
    *[Delay(CHANGED_AT + 10, 10)] * 2,  # it has, and no line says when it ended
    *[Delay(910, 10)],
    *[Delay()] * 3,  # claimed, and put back: it has waited
    *[Delay(CHANGED_AT + 20, 20)] * 3,
    *[Delay(970, 20)],
    *[Delay()] * 2,
]


def test_a_truncated_journal_delays_a_retry_by_its_complete_lines() -> None:
    """A crash leaves a prefix, whose last line may be incomplete."""
    job = Job(command="false", retries=9, retry_delay=10, not_before=utc(ASKED))
    found = []
    for count in range(len(WHOLE) + 1):
        data = b"".join(b"\n" + json.dumps(line).encode() + b"\n" for line in WHOLE[:count])
        for torn in (b"", b'\n{"ended": {"status": "fai'):
            attempt = parse_journal(data + torn)[-1]
            verdict = judge(job.retries, attempt, None, BOOT, CHANGED_AT)
            found.append(delay_before_start(job, verdict, CHANGED_AT))
    assert found[::2] == found[1::2] == WAITS


def ended_at(job_maker: JobMaker, finished_at: str, **fields: object) -> Job:
    """A job that waits for its next attempt; the last attempt ended at this time."""
    held = job_maker.running(retries=1, **fields)
    with held:
        return held.requeue(Outcome(Status.FAILED, 1, finished_at=finished_at))


def test_a_clock_that_was_set_back_does_not_prolong_a_delay(job_maker: JobMaker) -> None:
    job = ended_at(job_maker, "2199-01-01T00:00:00.000Z", retry_delay=0.5)
    began = time.monotonic()
    shown = parse_time(job_maker.storage.get(job.id).as_dict()["not_before"])
    assert shown < time.time() + 1
    assert job_maker.storage.claim("w", "h") is None
    held = wait_until(lambda: job_maker.storage.claim("w", "h"))
    held.release()
    assert time.monotonic() - began >= 0.5, "nor shortens it"


@pytest.mark.parametrize("at", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-12:00", "x"])
def test_no_time_in_a_journal_causes_an_error(
    client: FlaskClient, job_maker: JobMaker, at: str
) -> None:
    job = ended_at(job_maker, utc(), retry_delay=30)
    line = {"ended": {"status": "failed", "exit_code": 1, "finished_at": at}}
    with open(f"{job_maker.folder}/queued/{BY_HAND}/{job.id}/journal", "a") as journal:
        journal.write(f"\n{json.dumps(line)}\n")
    shown = client.get("/jobs").get_json()["jobs"][0]
    assert shown["not_before"] is None or parse_time(shown["not_before"]) <= time.time() + 30


@pytest.fixture
def looking(job_maker: JobMaker) -> Iterator[FolderStore]:
    """A store that checks all queues, like a worker's."""
    job_maker.storage.listen([])
    yield job_maker.storage
    job_maker.storage.close()


def test_delayed_jobs_are_not_read_at_each_check(
    job_maker: JobMaker, looking: FolderStore, folder: Path
) -> None:
    """The contents of their folders do not matter until they are due."""
    jobs = [job_maker.queued(not_before=utc(time.time() + 9_000)) for _ in range(20)]
    assert looking.claim("w", "h") is None
    for job in jobs:
        record = folder / "queued" / BY_HAND / job.id / "job.json"
        record.rename(record.with_name("hidden"))
    looking._backlog.scanned_at = 0.0  # check everything again
    assert looking.claim("w", "h") is None
    assert not looking.errors.current
    other = job_maker.queued()
    held = looking.claim("w", "h")
    assert held and held.job.id == other.id
    held.release()


def test_a_cancel_during_a_check_leaves_no_job_waiting(job_maker: JobMaker, folder: Path) -> None:
    """A client that finds the job locked leaves a cancel request, which a worker must notice before
    the job's time."""
    looker, meet = FolderStore(folder), threading.Barrier(2)
    jobs: list[Job] = []

    def look() -> None:
        for n in range(100):
            meet.wait(60)
            with suppress(BlockingIOError, FileNotFoundError):
                assert looker.claim_job(entry_in(BY_HAND, jobs[n].id), "w", "h") is None

    thread = threading.Thread(target=look)
    thread.start()
    for _ in range(100):
        jobs.append(job_maker.queued(not_before=utc(time.time() + 9_000)))
        meet.wait(60)
        job_maker.storage.cancel(jobs[-1].id, "enough")
    thread.join()
    assert {job_maker.storage.status(job.id) for job in jobs} == {Status.CANCELLED}


def test_a_delayed_job_can_be_moved_by_hand(
    job_maker: JobMaker, looking: FolderStore, folder: Path
) -> None:
    job = job_maker.queued(not_before=utc(time.time() + 9_000))
    assert looking.claim("w", "h") is None
    (folder / "queued" / BY_HAND / job.id).rename(folder / "tmp" / job.id)
    looking._backlog.scanned_at = 0.0  # check everything again
    assert looking.claim("w", "h") is None
    assert looking.next_due() == float("inf")
    record = folder / "tmp" / job.id / "job.json"
    record.write_text(json.dumps(json.loads(record.read_text()) | {"not_before": None}))
    (folder / "tmp" / job.id).rename(folder / "queued" / "default" / job.id)
    held = wait_until(lambda: looking.claim("w", "h"))
    assert held.job.id == job.id
    held.release()


@pytest.mark.parametrize(
    "damage",
    [{"not_before": "x"}, {"not_before": 7}, {"not_before": "2026-11-23T18:00:00"},
     {"not_before": "9999-12-31T23:59:59Z"}, {"retry_delay": -1}, {"retry_delay": "1"},
     {"retry_delay": 10**400}, {"retry_delay": True}],
)  # fmt: skip
def test_a_damaged_start_time_ends_the_job_with_a_reason(
    job_maker: JobMaker, folder: Path, damage: dict[str, object]
) -> None:
    job = job_maker.queued()
    record = folder / "queued" / BY_HAND / job.id / "job.json"
    record.write_text(json.dumps(json.loads(record.read_text()) | damage))
    assert job_maker.storage.claim("w", "h") is None
    found = job_maker.storage.get(job.id)
    (name,) = damage
    assert found.status is Status.FAILED
    assert found.reason and f"its {name} is invalid" in found.reason


def test_a_worker_wakes_when_a_job_is_due(
    storage: FolderStore, processes: Processes, ended: Callable[..., Job]
) -> None:
    """On its own it would check again only after an hour."""
    times = (
        "tailboard.intervals.HEARTBEAT_INTERVAL=3600",
        "tailboard.folder.backlog.SCAN_INTERVAL=3600",
    )
    processes.start(sys.executable, "-m", "tests.programs.tuned_worker", *times, "--")
    at = utc(time.time() + 1.5)
    job = storage.submit(Job(command="exit $((2 - JOB_ATTEMPT))", not_before=at, retries=1))
    slow = Job(command="[ $JOB_ATTEMPT = 2 ]", retries=1, retry_delay=0.7)
    retried = ended(storage.submit(slow))
    assert (retried.status, retried.attempt) == (Status.SUCCEEDED, 2)
    planned = ended(job)
    first = planned.attempts_as_dicts()[0]
    assert planned.status is Status.SUCCEEDED and first["started_at"] >= at


def test_a_drain_waits_for_retries_but_not_for_distant_jobs(
    storage: FolderStore, drain: Callable[..., None]
) -> None:
    far = storage.submit(Job(command="true", not_before=utc(time.time() + 3_700)))
    soon = storage.submit(Job(command="true", not_before=utc(time.time() + 0.5)))
    retried = storage.submit(Job(command="[ $JOB_ATTEMPT = 3 ]", retries=2, retry_delay=0.2))
    drain()
    assert storage.status(far.id) is Status.QUEUED
    assert storage.status(soon.id) is Status.SUCCEEDED
    assert storage.get(retried.id).attempt == 3


def test_a_job_can_be_delayed_over_http(client: FlaskClient) -> None:
    body = {"command": "true", "retries": 2, "retry_delay": 30, "queue": BY_HAND}
    at = {"not_before": utc(time.time() + 3_600)}
    job = client.post("/jobs", json=body | at).get_json()
    assert (job["retry_delay"], job["not_before"]) == (30, at["not_before"])
    assert client.get("/jobs").get_json()["jobs"][0]["not_before"] == at["not_before"]
    again = client.post(f"/jobs/{job['id']}/rerun").get_json()
    assert (again["retry_delay"], again["not_before"]) == (30, None)
    zone = client.post("/jobs", json=body | {"not_before": "2026-01-02T03:04:05.5+02:00"})
    assert zone.get_json()["not_before"] == "2026-01-02T01:04:05.500Z"
    ahead = client.post("/jobs", json=body | {"not_before": "+10m"}).get_json()["not_before"]
    assert 590 < parse_time(ahead) - time.time() <= 600


def test_submit_can_delay_a_job(processes: Processes, storage: FolderStore) -> None:
    options = ("--retries", "3", "--retry-delay", "2.5", "--not-before", "+2h")
    words = ("submit", *options, "true")
    job = storage.get(on_a_terminal(processes, 80, *words).strip())
    assert (job.retry_delay, job.retries) == (2.5, 3)
    assert 7_100 < parse_time(job.not_before or "") - time.time() <= 7_200
    assert on_a_terminal(processes, 80, "jobs").splitlines()[1] == "    starts in 2 h"
