"""What is usual for a command, and which running jobs are late or silent."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from conftest import Gate, JobMaker
from flask.testing import FlaskClient
from past_runs import end_after, moment_of_start, rewrite_claim, write

from storage import WorkerStore
from tailboard.durations import format_usual
from tailboard.folder.claim import Claim
from tailboard.folder.folder_store import FolderStore
from tailboard.job import Job
from tailboard.journal import Outcome
from tailboard.logs import SAMPLE
from tailboard.notify import usual, watch
from tailboard.notify.history import History
from tailboard.notify.usual import UNKNOWN, UsualTimes, late_threshold, silent_threshold
from tailboard.notify.watch import Moment, RunningWatch, Sign
from tailboard.notify_rules import Event, Rule
from tailboard.status import Status
from tailboard.values import utc

DAY = 86_400
RULES: list[Rule] = [{"on": ["late", "silent"], "to": "ops"}]


Past = Callable[..., Job]


@pytest.fixture
def past(store: WorkerStore, claim: Callable[[], Claim]) -> Past:
    """Makes an earlier run. Nothing else may be queued."""

    def past(seconds: float, *outputs: float, good: bool = True, **fields: str) -> Job:
        store.submit(Job(**{"command": "true", "name": "backup"} | fields))
        return end_after(claim(), seconds, *outputs, good=good)

    return past


@pytest.fixture(autouse=True)
def all_records_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """At once: on a busy machine, the usual time would not be enough for a single one."""
    monkeypatch.setattr(usual, "REFRESH_TIME", 60.0)
    monkeypatch.setattr(watch, "READ_TIME", 60.0)


@pytest.fixture
def times(store: WorkerStore) -> UsualTimes:
    return UsualTimes(store, History(store))


BACKUP = Job(command="true", name="backup")


# --- What is usual --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "late_after"), [(0.5, 60.5), (36, 96), (120, 180), (200, 300), (3_600, 5_400)]
)
def test_a_job_is_late_after_half_as_much_again_but_at_least_a_minute_more(
    seconds: float, late_after: float
) -> None:
    assert late_threshold(seconds) == late_after


@pytest.mark.parametrize(("pause", "silent_after"), [(0, 60), (20, 60), (40, 120), (600, 1_800)])
def test_a_job_is_silent_after_three_times_its_longest_pause_but_at_least_a_minute(
    pause: float, silent_after: float
) -> None:
    assert silent_threshold(pause) == silent_after


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        *((0.01, "< 0.1 s"), (0.5, "0.5 s"), (9.96, "10.0 s"), (36.9, "36 s")),
        *((119, "1 min"), (3_599, "59 min"), (7_300, "2 h"), (3.5 * DAY, "3 d")),
    ],
)
def test_durations_in_words(seconds: float, text: str) -> None:
    assert format_usual(seconds) == text


def test_the_last_ten_successes_count(past: Past, times: UsualTimes) -> None:
    """Each run writes something after 5 s and 45 s."""
    past(1_000, 999)  # too long ago
    past(50, 5, 45)
    assert times.usual_of(BACKUP)._replace(seconds=None) == UNKNOWN
    for seconds in (50, 50, 50, 50, 60, 60, 70, 80, 100):
        past(seconds, 5, 45)
    past(7, good=False)
    times._next_refresh = 0.0
    found = times.usual_of(BACKUP)
    assert found.seconds == pytest.approx(55, abs=0.1)
    assert found.late_after == pytest.approx(115, abs=0.1)
    assert found.longest_pause == pytest.approx(55, abs=0.1)  # until the end of the longest
    assert found.silent_after == pytest.approx(165, abs=0.3)
    warned = Job(command="true", name="backup", warn_after=9)
    assert times.usual_of(warned) == found._replace(late_after=9)
    assert times.usual_of(Job(command="other", warn_after=9)) == UNKNOWN._replace(late_after=9)


def test_runs_of_a_saved_command_count_whatever_their_title(past: Past, times: UsualTimes) -> None:
    for title in ("backup db1", "backup db2", "backup db3"):
        past(20, saved="nightly", name=title)
    found = times.usual_of(Job(command="true", name="backup db4", saved="nightly"))
    assert found.seconds == pytest.approx(20, abs=0.1)
    assert found.longest_pause == pytest.approx(20, abs=0.1)  # they have written nothing
    assert times.usual_of(Job(command="true", name="backup db1")) == UNKNOWN


def test_logs_are_read_once_and_only_until_the_deadline(
    past: Past, times: UsualTimes, store: WorkerStore
) -> None:
    runs = [past(20, 15) for _ in range(3)]
    found = times.usual_of(BACKUP, deadline=0.0)
    assert found.seconds is not None and found.silent_after is None
    found = times.usual_of(BACKUP)
    assert found.longest_pause == pytest.approx(15, abs=0.1)
    past(30, 1)
    store.delete(runs[2].id)
    times._next_refresh = 0.0
    found = times.usual_of(BACKUP)
    assert found.longest_pause == pytest.approx(29, abs=0.1)
    group = times._groups["backup"]
    assert set(group.pauses) == {run.id for run in group.runs} and runs[0].id in group.pauses


def test_damaged_samples_and_logs_make_no_job_silent_too_soon(
    storage: FolderStore, job_maker: JobMaker
) -> None:
    """A job can write anything into its folder."""
    for content in (b"\xff" * 160, SAMPLE.pack(-5.0, 1) + SAMPLE.pack(float("nan"), 2) + b"half"):
        done = end_after(job_maker.running(name="backup"), 20, 10)
        job_maker.log(done.id).with_name("times").write_bytes(content)
    done = end_after(job_maker.running(name="backup"), 30, 10)
    job_maker.log(done.id).unlink()
    found = UsualTimes(storage, History(storage)).usual_of(BACKUP)
    assert found.longest_pause == pytest.approx(30, abs=0.1)


def test_only_the_newest_of_very_many_samples_are_read(
    monkeypatch: pytest.MonkeyPatch, storage: FolderStore, job_maker: JobMaker
) -> None:
    monkeypatch.setattr(usual, "SAMPLES_READ", 2)
    for _ in range(3):
        end_after(job_maker.running(name="backup"), 200, 110, 140, 190)
    found = UsualTimes(storage, History(storage)).usual_of(BACKUP)
    assert found.longest_pause == pytest.approx(50, abs=0.1)


# --- In the API -----------------------------------------------------------------------------------


def test_running_jobs_show_what_is_usual_and_since_when_they_are_silent(
    client: FlaskClient, job_maker: JobMaker
) -> None:
    for _ in range(3):
        end_after(job_maker.running(name="backup"), 36, 20)
    with job_maker.running(b"hello\n", name="backup") as held, job_maker.running() as other:
        wrote_at = os.stat(job_maker.log(held.job.id)).st_mtime
        (new, known) = client.get("/jobs?status=running").get_json()["jobs"]
        shown = known["usual"]
        assert shown.pop("silent_since")[:19] == utc(wrote_at)[:19]
        assert {name: round(value) for name, value in shown.items()} == {
            "seconds": 36,
            "late_after": 96,
            "longest_pause": 20,
            "silent_after": 60,
        }
        assert (new["id"], new["usual"]) == (other.job.id, None)
        alone = client.get(f"/jobs/{held.job.id}").get_json()
        assert alone["usual"] == known["usual"] | shown | {
            "silent_since": alone["usual"]["silent_since"]
        }
        (found,) = client.get(f"/jobs?id={held.job.id}").get_json()["jobs"]
        assert found["usual"] == alone["usual"]
    (row,) = client.get("/names").get_json()["names"]
    assert row["median"] == shown["seconds"]
    ended = client.get("/jobs?status=succeeded").get_json()["jobs"]
    assert not any("usual" in job for job in ended)
    shown = client.get(f"/jobs/{ended[0]['id']}").get_json()["usual"]
    assert round(shown["seconds"]) == 36 and shown["silent_since"] is None


# --- Late and silent ------------------------------------------------------------------------------


class Observer:
    """A watch that looks at the time that the test names, in seconds after the moment `base`."""

    def __init__(self, store: WorkerStore, base: Moment, rules: Sequence[Rule] = RULES) -> None:
        times = UsualTimes(store, History(store))
        self.watch = RunningWatch(store, times, lambda job: job.notify or rules)
        self.base = base

    def look(self, seconds: float = 0.0, jump: float = 0.0) -> list[tuple[str, str, str]]:
        """What it finds then, if the wall clock has jumped meanwhile."""
        base = self.base
        signs = self.watch.look(Moment(base.monotonic + seconds, base.wall + seconds + jump))
        return [(sign.job.id, sign.event, sign.text) for sign in signs]

    def events(self, seconds: float) -> list[str]:
        return [event for _, event, _ in self.look(seconds)]


def test_a_job_is_late_and_silent_by_its_history_once(
    store: WorkerStore, claim: Callable[[], Claim], past: Past
) -> None:
    for _ in range(3):
        past(36, 20)
    job = store.submit(Job(command="true", name="backup"))
    with claim() as held:
        base = moment_of_start(held.job)
        held.open_log_for_append().close()
        write(Path(held.folder, "output.log"), "started\n", base.wall)
        observer = Observer(store, base)
        assert observer.look() == observer.look(59) == []
        silent = (job.id, "silent", "silent for 1 min, never longer than 20 s before")
        assert observer.look(62) == [silent]
        assert observer.look(94) == []
        assert observer.look(125) == [(job.id, "late", "usually 36 s, now 2 min")]
        assert observer.look(10_000) == []
        assert sorted(Observer(store, base).events(10_000)) == ["late", "silent"]
        held.finish(Outcome(Status.SUCCEEDED, 0))
    assert observer.look(20_000) == [] and not observer.watch.watched


def test_only_jobs_whose_rules_say_so_are_watched(
    storage: FolderStore, job_maker: JobMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "LOOKS_AT_ONCE", 2)
    ends = [{"on": ["failed"], "to": "ops"}]
    watched = [job_maker.running(name="long", warn_after=30) for _ in range(3)]
    job_maker.running(name="other", warn_after=30, notify=ends)
    observer = Observer(storage, Moment.now())
    assert observer.look() == observer.look() == observer.look() == []
    found = {sign for _ in range(4) for sign in observer.look(50)}
    assert {sign[:2] for sign in found} == {(held.job.id, "late") for held in watched}
    assert next(iter(found))[2] == "running for 50 s, expected at most 30 s"
    assert observer.look(10_000) == []
    observer.watch.repeat(Sign(watched[0].job, Event.LATE, ""))
    assert [sign[:2] for sign in observer.look(10_001)] == [(watched[0].job.id, "late")]


def test_a_new_attempt_begins_anew(storage: FolderStore, job_maker: JobMaker) -> None:
    held = job_maker.running(name="long", warn_after=100, retries=1)
    observer = Observer(storage, moment_of_start(held.job))
    assert observer.look(90) == []
    with held:
        job = held.requeue(Outcome(Status.FAILED, 1))
    again = job_maker.start(storage.get(job.id)).job
    assert again.attempts[-1].number == 2
    observer.base = moment_of_start(again)
    assert observer.look(99) == []
    assert observer.look(101)[0][1:] == ("late", "running for 1 min, expected at most 1 min")


JUMPS = (-10 * DAY, -3_600, 3_600, 10 * DAY)  # seconds


@pytest.mark.parametrize("jump", JUMPS)
def test_a_clock_that_jumps_makes_no_job_late_or_silent(
    storage: FolderStore,
    worker: Callable[..., object],
    started: Callable[..., Job],
    job_maker: JobMaker,
    gate: Gate,
    jump: float,
) -> None:
    """Such a job is late after 96 s, and silent if it writes nothing for 60 s."""
    for _ in range(3):
        end_after(job_maker.running(name="backup"), 36, 20)
    worker()
    job = started(storage.submit(Job(command=f"echo started; {gate.wait}", name="backup")))
    base = moment_of_start(job)
    log = job_maker.log(job.id)
    write(log, "", base.wall)
    first, second, third = (Observer(storage, base) for _ in range(3))
    assert first.look() == []
    assert first.look(50, jump) == second.look(50, jump) == []
    assert first.look(57, -jump) == second.look(57, -jump) == []
    write(log, "more\n", base.wall + 58 + jump)
    for observer in (first, second, third):  # the third one succeeds a sender that has died
        assert observer.look(90, jump) == []
    for observer in (first, second, third):
        assert observer.events(97) == ["late"]
        assert observer.events(160) == ["silent"]
    gate.open()


@pytest.mark.parametrize("offset", JUMPS)
def test_a_job_of_a_machine_with_another_clock_is_not_late_too_soon(
    storage: FolderStore, job_maker: JobMaker, offset: float
) -> None:
    for _ in range(3):
        end_after(job_maker.running(name="backup"), 36, 20)
    base = Moment.now()
    observer = Observer(storage, base)
    assert observer.look() == []
    held = job_maker.running(b"started\n", name="backup")
    rewrite_claim(held.folder, boot="another", started_at=utc(base.wall + offset))
    log = job_maker.log(held.job.id)
    write(log, "", base.wall + offset)
    assert observer.look(1) == observer.look(30) == observer.look(55) == []
    write(log, "more\n", base.wall + 56 + offset)
    assert observer.look(61) == observer.look(71) == observer.look(94) == []
    assert observer.events(100) == ["late"]
    assert observer.events(132) == ["silent"]
