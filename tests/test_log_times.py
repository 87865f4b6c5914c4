"""Where the time of a job went, how far it is compared with its last success, and its silence."""

from __future__ import annotations

import os
import time
import weakref
from collections.abc import Callable
from math import inf, nan
from pathlib import Path
from string import ascii_lowercase
from typing import Any

import pytest
from conftest import ROOT, JobMaker, wait_until
from flask.testing import FlaskClient
from past_runs import DEPLOY, Piece, end_with_output, rewrite_claim, write_output

from storage import Store, WorkerStore
from tailboard.explain import explainer, live_forecasts, pauses, profiles
from tailboard.explain.anchors import longest_increasing
from tailboard.explain.estimator import AnchorMatch, Estimate, is_in_order
from tailboard.explain.explainer import Explainer
from tailboard.explain.growth import Gap, Growth
from tailboard.explain.live_forecasts import Forecast, LiveForecasts, rounded
from tailboard.explain.part_name import PartName
from tailboard.explain.places import LineNumbers
from tailboard.explain.profiles import Profiles
from tailboard.folder.claim import Claim
from tailboard.folder.folder_store import FolderStore
from tailboard.job import Job
from tailboard.journal import Outcome
from tailboard.logs import SAMPLE, EmptyLog, FileLog
from tailboard.notify import usual
from tailboard.notify.history import History
from tailboard.notify.usual import UsualTimes
from tailboard.status import Status
from tailboard.values import utc

LOGS = ROOT / "tests" / "logs"  # recorded, see its README
NAMES = [PartName.PAUSES, PartName.FORECAST, PartName.SILENCE]


@pytest.fixture(autouse=True)
def all_records_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usual, "REFRESH_TIME", 60.0)


class Explained:
    """Jobs named "deploy", and what their logs explain."""

    def __init__(self, storage: Store) -> None:
        times = UsualTimes(storage, History(storage))
        self.storage, self.explainer = storage, Explainer(storage, times.history, times)

    def parts(self, job: Job | Claim) -> dict[str, Any]:
        """The parts about times, once they are complete."""
        job_id = job.job.id if isinstance(job, Claim) else job.id
        current = self.storage.get(job_id)
        while True:
            with self.storage.open_log(job_id) if current.log_size else EmptyLog() as log:
                found = self.explainer.explain(current, log, NAMES)
            if not found["partial"]:
                return found

    def pauses(self, job: Job | Claim) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.parts(job)["pauses"]["pauses"]
        return found


@pytest.fixture
def explained(job_maker: JobMaker) -> Explained:
    return Explained(job_maker.storage)


Past = Callable[..., Job]
Running = Callable[..., Claim]


@pytest.fixture
def past(job_maker: JobMaker) -> Past:
    """Makes an earlier success that took so many seconds."""

    def past(seconds: float, *pieces: Piece, name: str = "deploy") -> Job:
        return end_with_output(job_maker.running(name=name), seconds, *pieces)

    return past


@pytest.fixture
def running(job_maker: JobMaker) -> Running:
    """Makes a job that has been running for so many seconds."""

    def running(seconds: float, *pieces: Piece, name: str = "deploy") -> Claim:
        held = job_maker.running(name=name)
        write_since(held, seconds, *pieces)
        rewrite_claim(held.folder, started_at=utc(time.time() - seconds))
        return held

    return running


def write_since(held: Claim, seconds: float, *pieces: Piece) -> None:
    """Writes the log of a job that began so many seconds ago, in tests."""
    write_output(held, *((at - seconds, piece) for at, piece in pieces))


def slower(pieces: tuple[Piece, ...], factor: float) -> list[Piece]:
    return [(at * factor, piece) for at, piece in pieces]


def texts(pause: dict[str, Any]) -> tuple[str | None, str | None]:
    before, after = pause["before"], pause["after"]
    return before and before["text"], after and after["text"]


def log_path(held: Claim) -> Path:
    return Path(held.folder, "output.log")


# --- Where the time went --------------------------------------------------------------------------


def test_the_longest_pauses_with_their_lines_and_what_is_usual(
    explained: Explained, past: Past
) -> None:
    for factor in (0.9, 1.0, 1.2):
        past(125 * factor, *slower(DEPLOY, factor))
    late = [(at + 40 * (at > 35), piece) for at, piece in DEPLOY]
    pauses = explained.pauses(past(170, *late))
    found = [(round(each["seconds"]), round(each["usually"]), *texts(each)) for each in pauses]
    assert found == [
        (105, 65, "migrating orders", "migrated"),
        (30, 30, "fetching 12 files", "fetched"),
        (12, 7, "indexed", None),
        (10, 10, "migrated", "indexing"),
        (8, 8, "indexing", "indexed"),
        (3, 3, None, "starting"),
        (2, 2, "starting", "fetching 12 files"),
    ]
    before, after = pauses[0]["before"], pauses[0]["after"]
    assert (before["line"], after["line"]) == (5, 6)
    assert after["offset"] == before["offset"] + len("migrating orders\n")


def test_only_the_ten_longest_pauses_and_of_a_running_job_those_that_have_ended(
    explained: Explained, running: Running
) -> None:
    pieces = [(at * (at + 1) / 2.0, f"line {at}\n") for at in range(1, 14)]
    held = running(200, *pieces)
    assert [round(each["seconds"]) for each in explained.pauses(held)] == [*range(13, 3, -1)]
    write_since(held, 200, *pieces, (191, "unfin"))
    first, *others = explained.pauses(held)
    assert round(first["seconds"]) == 100 and texts(first) == ("line 13", "unfin")
    assert first["usually"] is None and len(others) == 9
    write_since(held, 200, *pieces, (191, "unfin"), (192, "ished\n"))
    first, *_ = explained.pauses(held)
    assert texts(first) == ("line 13", "unfinished") and first["after"]["line"] == 14


def test_what_is_usual_if_each_run_continues_in_another_way(
    explained: Explained, past: Past, running: Running
) -> None:
    now = (1, "waiting for a colour\n"), (51, "it is black\n")
    past(60, (1, "no colour today\n"))
    for seconds, colour in ((20, "green"), (40, "blue")):
        past(60, (1, "waiting for a colour\n"), (1 + seconds, f"it is {colour}\n"))
    assert [each["usually"] for each in explained.pauses(running(60, *now))] == [None]
    past(60, (1, "waiting for a colour\n"), (31, "it is red\n"))
    assert [each["usually"] for each in explained.pauses(running(60, *now))] == [30.0]
    # If the line before it occurs several times, nobody knows which of these pauses is meant.
    for _ in range(10):
        past(
            60, (1, "waiting for a colour\n"), (21, "it is red\nwaiting for a colour\n"), (9, "\n")
        )
    assert [each["usually"] for each in explained.pauses(running(60, *now))] == [None]


def test_a_pause_inside_of_a_line_is_compared_with_pauses_inside_of_it(
    explained: Explained, past: Past
) -> None:

    def compile(seconds: float) -> Job:
        begin, end = (0, "started\ncompiling... "), (50, "linked\n")
        return past(60, begin, (seconds, "do"), (seconds + 3, "ne\nlinking\n"), end)

    for seconds in (20, 30, 40):
        compile(seconds)
    first, second, *_ = explained.pauses(compile(35))
    assert texts(first) == ("compiling... done", "compiling... done")
    assert first["before"] == first["after"] and first["before"]["line"] == 2
    assert first["usually"] == 30.0
    assert texts(second) == ("linking", "linked") and second["usually"] == 17.0


def test_the_time_after_the_last_line_is_compared_only_after_the_same_line(
    explained: Explained, past: Past
) -> None:
    """The time before the first line is not, after retries: nobody knows when a run began."""
    for end in ("saved", "saved", "saved", "not saved"):
        done = past(60, (-90, "a\n"), (0, "--- attempt 2 ---\n"), (5, f"a\n{end}\n"))
        found = {texts(each): each["usually"] for each in explained.pauses(done)}
    assert found["not saved", None] is None
    done = past(60, (3, "a\nsaved\n"))
    found = {texts(each): each["usually"] for each in explained.pauses(done)}
    assert found == {("saved", None): 55.0, (None, "a"): None}


def test_the_first_pause_of_a_job_that_ran_twice_begins_with_its_first_attempt(
    explained: Explained, job_maker: JobMaker
) -> None:
    with job_maker.running(name="deploy", retries=1) as held:
        rewrite_claim(held.folder, started_at=utc(time.time() - 100))
        job = held.requeue(Outcome(Status.FAILED, 1))
    held = job_maker.start(job)
    write_output(held, (-96, "first\n"), (0, "--- attempt 2 ---\n"), (5, "second\n"))
    found = [(round(each["seconds"]), *texts(each)) for each in explained.pauses(held)]
    assert found == [
        (96, "first", "--- attempt 2 ---"),
        (5, "--- attempt 2 ---", "second"),
        (4, None, "first"),
    ]


def test_lines_that_nobody_timed_make_no_pause(explained: Explained, past: Past) -> None:
    """While no worker runs, a job goes on writing, but nobody samples the size of its log."""
    done = past(300, (0, "a\n"), (10, "b\n"), (200, "written before the worker was back\n"))
    (folder,) = Path(explained.storage.root).glob(f"*/*/{done.id}")
    samples = (folder / "times").read_bytes()
    (folder / "times").write_bytes(samples[: 2 * SAMPLE.size])
    assert [texts(each) for each in explained.pauses(done)] == [("a", "b")]


def test_a_log_without_its_beginning_has_no_line_numbers(
    explained: Explained, running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = running(100, (5, "a\n"), (15, "b\n"), (35, "c\n"), (75, "d\n"))
    monkeypatch.setattr(FileLog, "start", 4)  # as if the lines before `c` had been freed
    (pause,) = explained.pauses(held)
    assert texts(pause) == ("c", "d") and pause["before"]["line"] is None


def test_a_log_that_its_job_has_truncated(explained: Explained, running: Running) -> None:
    held = running(100, (5, "a\n"), (15, "b\n"), (35, "c\n"))
    assert len(explained.pauses(held)) == 3
    log_path(held).write_text("a\n")
    assert [texts(each) for each in explained.pauses(held)] == [(None, "a")]
    write_since(held, 100, (5, "a\n"), (15, "x\n"))
    assert [texts(each) for each in explained.pauses(held)] == [("a", "x"), (None, "a")]


@pytest.mark.parametrize(
    "samples",
    [
        b"\xff" * 160,
        b"half",
        *(
            b"".join(SAMPLE.pack(*each) for each in samples)
            for samples in (
                [(nan, 1), (-inf, 2), (inf, 3), (-5.0, 4)],
                [(1e9, 1 << 60), (2e9, 1 << 61), (3e9, (1 << 64) - 1)],
                [(1.9e9, 9), (1.8e9, 20), (1.7e9, 4), (1.95e9, 0)],
                [(1e9 + 10 * n, 1) for n in range(50)],
            )
        ),
    ],
)
def test_impossible_samples_fail_nothing(
    explained: Explained, past: Past, running: Running, samples: bytes
) -> None:
    """A job can write anything into its folder."""
    for _ in range(3):
        done = past(125, *DEPLOY)
        (folder,) = Path(explained.storage.root).glob(f"*/*/{done.id}")
        (folder / "times").write_bytes(samples)
    held = running(500, *DEPLOY)
    (Path(held.folder) / "times").write_bytes(samples)
    for job in (held, done):
        found = explained.parts(job)
        assert all(each["seconds"] >= 2 for each in found["pauses"]["pauses"])


def test_the_growth_of_a_log_is_read_in_steps(tmp_path: Path) -> None:
    log, times = tmp_path / "output.log", tmp_path / "times"
    log.write_bytes(bytes(100))

    def sample(*samples: tuple[float, int]) -> None:
        times.write_bytes(times.read_bytes() + b"".join(SAMPLE.pack(*each) for each in samples))

    times.write_bytes(b"")
    growth = Growth(most=3)
    with FileLog(str(log)) as opened:
        assert not growth.read(opened)
        sample((10.0, 5), (11.0, 7))
        assert growth.read(opened) and not growth.read(opened)
        sample((11.0, 6), (14.0, 9), (13.0, 10))
        assert growth.read(opened) and growth.is_whole
        assert growth.longest_gaps(1, 0, 99) == [Gap(3.0, 11.0, 7)]
        assert growth.longest_gaps(9, 5, 9) == [Gap(3.0, 11.0, 7)]
        assert growth.longest_gaps(9, 7, 9) == growth.longest_gaps(9, 0, 4) == []
        assert [growth.time_of(at, 99.0) for at in (0, 4, 5, 8, 9)] == [10, 10, 11, 14, 99]
        sample(*((20.0 + each, 20 + each) for each in range(9)))
        assert growth.read(opened) and not growth.is_whole
        assert [*growth.times][-3:] == [26.0, 27.0, 28.0]
        times.write_bytes(SAMPLE.pack(8.0, 3))  # the clock was set back
        assert growth.read(opened) and [*growth.times] == [8.0] and growth.is_whole
        times.unlink()
        assert not growth.read(opened)


def test_line_numbers_are_counted_in_steps(tmp_path: Path) -> None:
    log = tmp_path / "output.log"
    log.write_bytes(b"line\n" * 1_000_000)
    numbers = LineNumbers()
    with FileLog(str(log)) as opened:
        assert numbers.work(opened, [5], inf)
        assert not numbers.work(opened, [4_999_995, 5, 50], 0.0) and numbers.known == {5: 2}
        assert numbers.work(opened, [4_999_995, 5, 50], inf)
        assert numbers.known == {5: 2, 50: 11, 4_999_995: 1_000_000}


def test_the_pause_of_a_real_job(
    explained: Explained,
    storage: FolderStore,
    worker: Callable[..., Any],
    ended: Callable[..., Job],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pauses, "LEAST_PAUSE", 1.0)
    worker()
    job = storage.submit(Job(command="echo first; echo second; sleep 1.6; echo third"))
    assert ended(job.id).status is Status.SUCCEEDED
    (pause,) = explained.pauses(job)
    assert texts(pause) == ("second", "third") and 1.0 <= pause["seconds"] < 60


def test_explaining_times_with_any_storage(store: WorkerStore, claim: Callable[[], Claim]) -> None:
    job = Job(command="true", name="deploy")
    store.submit(job)
    run = end_with_output(claim(), 125, *DEPLOY)
    store.submit(job)
    explained = Explained(store)
    with claim() as held:
        write_output(held, *((at - 130, piece) for at, piece in DEPLOY[:4]))
        rewrite_claim(held.folder, started_at=utc(time.time() - 130))
        wait_until(lambda: store.get(held.job.id).log_size)
        found = explained.parts(held)
    assert found["forecast"]["run"] == run.id and found["forecast"]["matched"] == 5
    assert texts(found["pauses"]["pauses"][0]) == ("migrating orders", "migrated")


# --- Compared with the last success ---------------------------------------------------------------


def forecast(explained: Explained, held: Claim) -> dict[str, Any] | None:
    found: dict[str, Any] | None = explained.parts(held)["forecast"]
    return found


def test_how_far_a_job_is_and_since_when_it_is_behind(
    explained: Explained, past: Past, running: Running
) -> None:
    run = past(125, *DEPLOY)
    found = forecast(explained, running(130, *DEPLOY[:3], (125, "migrated\n")))
    assert found is not None and found["run"] == run.id and found["matched"] == 5
    assert found["percent"] == pytest.approx(84, abs=1.5)  # 105 s of 125 s
    assert found["seconds_left"] == pytest.approx(20, abs=2)
    assert found["seconds_behind"] == pytest.approx(25, abs=1)
    assert found["since"] == {"offset": 36, "line": 5, "text": "migrating orders"}


@pytest.mark.parametrize(
    ("seconds", "pieces", "percent", "behind"),
    [
        (41, (*DEPLOY[:3], (40, "migrated\n")), 101 / 1.25, -60),
        (45, (*DEPLOY[:3], (40, "migrated\n")), 105 / 1.25, -60),
        (55, (*DEPLOY[:3], (40, "migrated\n")), 110 / 1.25, -55),  # the next line is overdue
        (200, DEPLOY[:3], 80, 100),
        (120, DEPLOY, 96, 0),
        (225, DEPLOY, 99, 100),  # its end is overdue
        (236, slower(DEPLOY, 2), 94.4, 118),  # late from the beginning
        (60, (*DEPLOY[:3], *((40 + n, "migrating orders\n") for n in range(9))), 48, 0),
        # Of a line that is written again, the first one counts.
        (60, (*DEPLOY[:3], (45, "fetching 3 files\n")), 60 / 1.25, 0),
    ],
)
def test_the_progress_between_two_lines_but_not_beyond_the_next(
    explained: Explained,
    past: Past,
    running: Running,
    seconds: float,
    pieces: tuple[Piece, ...],
    percent: float,
    behind: float,
) -> None:
    past(125, (1, "connecting\n"), *DEPLOY)
    found = forecast(explained, running(seconds, (1, "connecting\n"), *pieces))
    assert found is not None
    assert found["percent"] == pytest.approx(percent, abs=1.5)
    left = 0 if seconds == 200 else 125 * (1 - percent / 100)  # 0 if the job seems to hang
    assert found["seconds_left"] == pytest.approx(left, abs=2)
    assert found["seconds_behind"] == pytest.approx(behind, abs=2)
    since = found["since"] and found["since"]["text"]
    last = "fetching 12 files" if behind == 118 else pieces[-1][1].split("\n")[-2]
    assert since == (None if behind < 5 else last)


OTHER = "".join(f"{word} that no other run has written\n" for word in "abcdefghijklmnopqrstuvwxy")


@pytest.mark.parametrize(
    "pieces",
    [
        DEPLOY[:2],  # too few lines
        (*((at, piece * 2) for at, piece in DEPLOY[:2]), (6, "fetching 13 files\n")),
        tuple((at, DEPLOY[-place][1]) for place, (at, _) in enumerate(DEPLOY, 1)),
        (*DEPLOY[:4], *((at + 105, piece) for at, piece in DEPLOY[:3])),  # it begins again
        (*DEPLOY[:4], (100, OTHER)),  # it does something else
        (*DEPLOY, (121, "--- attempt 1 ---\n"), (122, "starting\n")),
    ],
)
def test_nothing_rather_than_a_guess(
    explained: Explained, past: Past, running: Running, pieces: tuple[Piece, ...]
) -> None:
    past(125, *DEPLOY)
    assert forecast(explained, running(190, *pieces)) is None


def test_no_estimate_for_a_job_that_skips_much(
    explained: Explained, past: Past, running: Running
) -> None:
    stages = [(4.0 * n, f"stage {letter * 3}\n") for n, letter in enumerate(ascii_lowercase, 1)]
    past(110, *stages)
    assert forecast(explained, running(100, *stages[::4])) is None
    assert forecast(explained, running(100, *stages[::2], stages[-1])) is not None


def test_a_line_that_differs_each_time_is_not_waited_for(
    explained: Explained, past: Past, running: Running
) -> None:
    past(125, *DEPLOY[:3], (40, "migrated\n"), (41, "connected as anna\n"), (110, "indexing\n"))
    held = running(80, *DEPLOY[:3], (40, "migrated\n"), (41, "connected as bert\n"))
    found = forecast(explained, held)
    assert found is not None and found["percent"] == pytest.approx(64, abs=2)
    assert found["seconds_behind"] == pytest.approx(0, abs=2)


@pytest.mark.parametrize(
    ("chosen", "count", "answer"),
    [
        ([*range(10)], 10, True),
        ([*range(4)], 4, False),
        ([*range(8)], 10, True),
        ([*range(10)], 13, False),  # the last three go back
        ([*range(0, 40, 2)], 40, False),  # half of them are not in order
        ([*range(0, 20, 2), *range(20, 40)], 40, True),  # long ago
    ],
)
def test_the_newest_lines_must_be_in_order(chosen: list[int], count: int, answer: bool) -> None:
    assert is_in_order(chosen, count) == answer


def test_what_no_job_is_compared_with(
    explained: Explained, past: Past, running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A short run; one whose log is not whole or was deleted; a job that has ended."""
    past(9, *slower(DEPLOY, 0.07))
    assert forecast(explained, running(50, *DEPLOY[:4])) is None
    done = past(125, *DEPLOY)
    assert forecast(explained, running(50, *DEPLOY[:4])) is not None
    assert explained.parts(done)["forecast"] is None
    done = past(125, *DEPLOY)
    (folder,) = Path(explained.storage.root).glob(f"*/*/{done.id}")
    (folder / "output.log").unlink()
    assert forecast(explained, running(50, *DEPLOY[:4])) is None
    past(125, *DEPLOY)
    held = running(50, *DEPLOY[:4])
    monkeypatch.setattr(FileLog, "start", 1)
    assert forecast(explained, held) is None


def test_only_the_last_attempts_are_compared(
    explained: Explained, past: Past, running: Running
) -> None:
    """Both wrote the first lines already in their first attempts."""
    again = [(-100, "".join(piece for _, piece in DEPLOY[:4])), (0, "--- attempt 2 ---\n")]
    past(125, *again, *DEPLOY)
    held = running(50, *again, *DEPLOY[:3])
    rewrite_claim(held.folder, attempt=2)
    found = forecast(explained, held)
    assert found is not None and found["matched"] == 5
    assert found["percent"] == pytest.approx(50 / 1.25, abs=1.5)


def test_the_log_of_a_running_job_is_read_on(
    explained: Explained, past: Past, running: Running
) -> None:
    past(125, *DEPLOY)
    held = running(120, *DEPLOY[:4])
    before = forecast(explained, held)
    write_since(held, 120, *DEPLOY)
    found = forecast(explained, held)
    assert before is not None and found is not None
    assert (before["matched"], found["matched"]) == (5, 7)
    log_path(held).write_text("")  # the job begins its log again
    assert forecast(explained, held) is None
    write_since(held, 120, *slower(DEPLOY, 0.5))
    again = forecast(explained, held)
    assert again is not None and again["matched"] == 7
    assert again["percent"] == 99  # the last line was written a minute ago


def test_no_estimate_if_a_command_does_its_work_in_another_order_each_time(
    explained: Explained, past: Past, running: Running
) -> None:
    names = ["starting", "fetching", "migrating", "indexing", "testing", "linting", "uploading"]
    past(70, *((10 * n + 5, f"{name}\n") for n, name in enumerate(reversed(names))))
    pieces = [(10 * n + 5, f"{name}\n") for n, name in enumerate(names)]
    past(70, *pieces)
    assert forecast(explained, running(60, *pieces[:6])) is None
    past(70, *pieces)
    assert forecast(explained, running(60, *pieces[:6])) is not None


RECORDED = sorted(path for path in LOGS.iterdir() if (path / "3.log").exists())


def at_a_steady_pace(log: Path) -> list[Piece]:
    """The lines of a log, as if it had been written in 100 s."""
    lines = log.read_bytes().decode(errors="replace").split("\n")[:-1]
    return [(100 * (n + 1) // (len(lines) + 1), f"{line}\n") for n, line in enumerate(lines)]


def test_estimates_of_recorded_runs_are_right(
    explained: Explained, past: Past, running: Running
) -> None:
    """The estimate of each run, from the two before it, at four moments."""
    errors = {}
    for folder in RECORDED:
        before, last, pieces = (at_a_steady_pace(folder / f"{number}.log") for number in (1, 2, 3))
        past(100, *before, name=folder.name)
        past(100, *last, name=folder.name)
        for second in (30, 50, 70, 90):
            written = [(at, piece) for at, piece in pieces if at <= second]
            found = forecast(explained, running(second, *written, name=folder.name))
            if found is not None:
                errors[folder.name, second] = abs(found["percent"] - second)
    assert len(errors) > len(RECORDED), "too few estimates to judge them"
    assert max(errors.values()) < 10, errors
    assert "pytest-random-order" not in {name for name, _ in errors}


def test_a_list_of_jobs_has_estimates_of_those_without_progress_of_their_own(
    client: FlaskClient, past: Past, running: Running
) -> None:
    past(125, *DEPLOY)
    held = running(50, *DEPLOY[:3], (40, "migrated\n"))
    own = running(50, *DEPLOY[:3], (40, "::progress 5\nmigrated\n"))
    other = running(50, (3, "something else\n"))

    def listed() -> dict[str, Any] | None:
        found = {job["id"]: job["progress"] for job in client.get("/jobs").json["jobs"]}
        return found if found[held.job.id] and found[own.job.id] else None

    found = wait_until(listed)  # the time of one request can be too short
    assert found.pop(held.job.id) == {
        "percent": 88,
        "text": None,
        "source": "earlier_runs",
        "seconds_left": 15,
    }
    assert found.pop(own.job.id)["source"] == "marker"
    assert found.pop(other.job.id) is None
    assert [*found.values()] == [None]  # of the success
    alone = client.get(f"/jobs/{held.job.id}").json
    assert alone["progress"]["percent"] == 88


def test_estimates_for_a_list_are_made_rarely_and_only_until_the_deadline(
    storage: FolderStore, past: Past, running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_forecasts, "INTERVAL", 3_600.0)
    past(125, *DEPLOY)
    held = running(80, *DEPLOY[:3], (65, "migrated\n"))
    history = History(storage)
    history.refresh()
    forecasts = LiveForecasts(storage, history, Profiles())
    job = storage.get(held.job.id)
    assert forecasts.of(job, deadline=0.0) is None
    assert forecasts.of(job, deadline=inf) == Forecast(88, 15)
    write_since(held, 80, *DEPLOY[:3], (65, "migrated\n"), (67, "indexing\n"), (70, "indexed\n"))
    job = storage.get(held.job.id)
    assert forecasts.of(job, deadline=inf) == Forecast(88, 15)
    monkeypatch.setattr(live_forecasts, "INTERVAL", 0.0)
    assert forecasts.of(job, deadline=0.0) == Forecast(88, 15)
    assert forecasts.of(job, deadline=inf) == Forecast(99, 0)
    with held:
        done = held.finish(Outcome(Status.SUCCEEDED))
    assert forecasts.of(done, deadline=inf) is None


def test_an_estimate_that_is_no_longer_requested_needs_no_memory(
    storage: FolderStore, past: Past, running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(profiles, "MOST_PROFILES", 1)
    jobs = []
    for name in ("deploy", "other"):
        past(125, *DEPLOY, name=name)
        held = running(80, *DEPLOY[:3], (65, "migrated\n"), name=name)
        jobs.append(storage.get(held.job.id))
    history, shared = History(storage), Profiles()
    history.refresh()
    forecasts = LiveForecasts(storage, history, shared)
    assert forecasts.of(jobs[0], deadline=inf) == Forecast(88, 15)
    profile = weakref.ref(shared.of(history.groups["deploy"][0]))
    assert forecasts.of(jobs[1], deadline=inf) == Forecast(88, 15)
    assert profile() is not None  # only the first estimate refers to it
    monkeypatch.setattr(live_forecasts, "FORGET_AFTER", 0.0)
    forecasts.of(jobs[1], deadline=inf)
    assert profile() is None


@pytest.mark.parametrize(
    ("left", "shown"), [(7.4, 5), (58, 60), (61, 60), (590, 600), (95, 90), (4_000, 4_020)]
)
def test_the_time_left_in_a_list_is_rounded(left: float, shown: int) -> None:
    estimate = Estimate(5, 12.9, left, 0.0, AnchorMatch(0, 0, 1))
    assert rounded(estimate) == Forecast(12, shown)


def test_longest_increasing() -> None:
    assert longest_increasing([]) == []
    assert longest_increasing([3, 1, 2, 9, 2, 3, 4, 0]) == [1, 2, 5, 6]


def test_an_answer_without_enough_time_is_partial(
    explained: Explained, past: Past, running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(3):
        past(125, *DEPLOY)
    held = running(400, *DEPLOY[:4], (101, "unfinished"))
    monkeypatch.setattr(explainer, "PART_TIME", 0.0)
    job = explained.storage.get(held.job.id)
    explained.explainer.history.refresh()
    with explained.storage.open_log(job.id) as log:
        for name in (PartName.FORECAST, PartName.SILENCE):
            found = explained.explainer.explain(job, log, [name])
            assert found["partial"] and found[name] is None
    monkeypatch.undo()
    found = explained.parts(held)
    assert found["forecast"]["matched"] == 5 and found["silence"]["after"]["line"] == 5


# --- Silent for longer than ever ------------------------------------------------------------------


def test_a_job_that_is_silent_for_longer_than_ever(
    explained: Explained, past: Past, running: Running
) -> None:
    longest = past(125, *DEPLOY)
    for _ in range(2):
        past(100, *slower(DEPLOY, 0.8))
    assert explained.parts(running(293, (100, "x\n")))["silence"] is None  # less than 3 * 65 s
    held = running(400, (3, "starting\n"), (100, "fetching 9 files\n"))
    found = explained.parts(held)["silence"]
    assert (found["run"], found["partial"]) == (longest.id, False)
    assert found["longest_pause"] == pytest.approx(65, abs=0.1)
    assert found["seconds"] == pytest.approx(300, abs=5)
    assert found["after"] == {"offset": 36, "line": 5, "text": "migrating orders"}
    assert explained.parts(longest)["silence"] is None
    # Whatever it writes ends its silence.
    os.utime(log_path(held))
    assert explained.parts(held)["silence"] is None


def test_the_longest_pause_of_a_run_can_be_before_its_first_line(
    explained: Explained, past: Past, running: Running
) -> None:
    for seconds in (100, 110, 90):
        past(seconds, (seconds - 5, "done\n"))
    found = explained.parts(running(600, (0, "started\n")))["silence"]
    assert found["after"] is None and found["longest_pause"] == pytest.approx(105, abs=0.1)


def test_the_longest_pause_is_one_of_the_last_attempt(
    explained: Explained, past: Past, running: Running
) -> None:
    for _ in range(3):
        past(100, (-500, "a\n"), (0, "--- attempt 2 ---\n"), (40, "b\n"), (95, "c\n"))
    found = explained.parts(running(600, (0, "started\n")))["silence"]
    assert found["after"]["text"] == "b" and found["longest_pause"] == pytest.approx(55, abs=0.1)
