"""What a job can write to its log: sections, progress, results and annotations."""

from __future__ import annotations

import json
import time
import weakref
from collections.abc import Callable
from math import inf
from pathlib import Path
from typing import Any

import pytest
from command_site import Tailboard
from conftest import ROOT, Gate, JobMaker, Processes, on_a_terminal, wait_until
from flask.testing import FlaskClient

from tailboard import logs
from tailboard.explain import live_marks, markers
from tailboard.explain.line_scan import LineScan
from tailboard.explain.live_marks import LiveMarks
from tailboard.explain.log_marks import LogMarks
from tailboard.explain.markers import (
    Annotation,
    GroupEnd,
    OpenSection,
    Progress,
    Result,
    SectionStart,
    parse_marker,
)
from tailboard.explain.progress_tail import TAIL_BYTES, OwnProgress, ProgressTail
from tailboard.explain.sections import counts_as_error, error_candidates
from tailboard.folder.folder_store import FolderStore
from tailboard.logs import SAMPLE, FileLog, Log
from tailboard.status import Status
from tailboard.values import utc
from tailboard.web import progress

CASES = json.loads((ROOT / "tests" / "marker_cases.json").read_text())
TYPES = {
    SectionStart: "section",
    OpenSection: "open_section",
    GroupEnd: "group_end",
    Progress: "progress",
    Result: "result",
    Annotation: "annotation",
}


# --- Recognising a line ---------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["line"][:40])
def test_which_lines_are_markers(case: dict[str, Any]) -> None:
    marker = parse_marker(case["line"].encode())
    shown = None if marker is None else {"type": TYPES[type(marker)], **marker._asdict()}
    assert shown == case["marker"]


def test_bytes_that_are_not_text_do_not_prevent_a_marker() -> None:
    assert parse_marker(b"--- Build \xff") == SectionStart("Build �", "section")


# --- Searching a log ------------------------------------------------------------------------------


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "SEARCH_BLOCK", 64)
    monkeypatch.setattr(markers, "LINE_BYTES", 40)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "output.log"


def names_in(marks: LogMarks) -> list[tuple[str, int, int | None]]:
    return [(each.name, each.offset, each.end) for each in marks.found.sections]


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("before", range(0, 140, 3))
def test_markers_are_found_at_the_borders_of_blocks(path: Path, before: int) -> None:
    filler = (b"x" * 9 + b"\n") * (before // 10) + b"y" * (before % 10)
    filler += b"\n" if filler and not filler.endswith(b"\n") else b""
    data = b"--- A\n" + filler + b"12:34:56 --- B\n::group::C\n::endgroup::\nz"
    path.write_bytes(data)
    marks = LogMarks()
    with FileLog(str(path)) as log:
        assert marks.work(log, log.size, True, inf)
    middle = 6 + len(filler)
    assert names_in(marks) == [
        ("A", 0, middle),
        ("B", middle, middle + 15),
        ("C", middle + 15, len(data) - 1),
    ]


@pytest.mark.usefixtures("small_blocks")
def test_a_line_that_is_still_being_written_is_recognised_once_it_has_ended(path: Path) -> None:
    marks = LogMarks()

    def write(data: bytes, has_ended: bool = False) -> dict[str, str]:
        with path.open("ab") as file:
            file.write(data)
        with FileLog(str(path)) as log:
            assert marks.work(log, log.size, has_ended, inf)
        return marks.found.results

    assert write(b"::result a=1") == {}
    assert write(b"2") == {}
    assert write(b"\n::result b=3\n::resu") == {"a": "12", "b": "3"}
    assert write(b"lt c=4") == {"a": "12", "b": "3"}
    assert write(b"", has_ended=True) == {"a": "12", "b": "3", "c": "4"}


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("length", [39, 40, 41, 63, 64, 65, 200])
def test_a_long_line_is_not_a_marker_in_its_middle(path: Path, length: int) -> None:
    path.write_bytes(b"x" * length + b"--- A\n--- B\n")
    marks = LogMarks()
    with FileLog(str(path)) as log:
        assert marks.work(log, log.size, True, inf)
    assert [name for name, _, _ in names_in(marks)] == ["B"]


def test_a_search_that_was_interrupted_finds_each_line_once(path: Path) -> None:
    path.write_bytes(b"".join(b"--- Name %d\n" % number for number in range(20_000)))
    scan, offsets = LineScan(r"\n---"), []
    with FileLog(str(path)) as log:
        while not scan.has_searched(log.size, True):
            found = scan.read(log, log.size, True, time.monotonic() + 0.005)
            offsets += [line.offset for line in found]
    assert len(offsets) == len(set(offsets)) == 20_000


def test_what_follows_a_deleted_beginning_is_found(path: Path) -> None:
    with path.open("wb") as file:
        file.seek(1 << 20)
        file.write(b"--- Inside of a line\n--- B\n")
    marks = LogMarks()
    with FileLog(str(path)) as log:
        assert marks.work(log, log.size, True, inf)
        assert log.start == 1 << 20
    assert [name for name, _, _ in names_in(marks)] == ["B"]


# --- Sections -------------------------------------------------------------------------------------


@pytest.fixture
def explain(client: FlaskClient) -> Callable[..., Any]:
    """One part of a job's explanation, once it is complete."""

    def explain(job_id: str, part: str) -> Any:
        def ask() -> Any:
            answer = client.get(f"/jobs/{job_id}/explain?parts={part}").json
            return answer if not answer["partial"] else None

        return wait_until(ask)[part]

    return explain


def test_sections_with_their_lines_errors_and_times(
    job_maker: JobMaker, explain: Callable[..., Any]
) -> None:
    parts = [
        b"before\nError: of no section\n",
        b"--- Build: see error: of a name\none\nError: broken\n\x1b[31mred\x1b[0m\n",
        b"::group::Tests\n::error file=a.py,line=3::failed\n::warning::slow\n::endgroup::\n",
        b"12:00:00 ::error::of no section\n+++ Summary\nall\n",
        b"--- Upload\n^^^ +++\nError: refused\n",
    ]
    held = job_maker.running()
    with held:
        begun, size = time.time() - 100, 0
        samples = []
        for place, part in enumerate(parts):
            job_maker.write(held, part)
            size += len(part)
            samples.append(SAMPLE.pack(begun + 10 * place, size))
        Path(held.folder, "times").write_bytes(b"".join(samples))
        running = explain(held.job.id, "sections")
        job = held.job
    offsets = [sum(map(len, parts[:place])) for place in range(len(parts) + 1)]
    summary = offsets[3] + parts[3].index(b"+++")
    assert running == {"partial": False, "count": 4, "sections": running["sections"]}
    keys = ("name", "kind", "is_open", "offset", "line", "end", "seconds", "errors")
    assert [[each[key] for key in keys] for each in running["sections"]] == [
        ["Build: see error: of a name", "section", False, offsets[1], 3, offsets[2], 10, 2],
        ["Tests", "group", False, offsets[2], 7, offsets[3], 0, 1],
        ["Summary", "section", True, summary, 12, offsets[4], 10, 0],
        ["Upload", "section", True, offsets[4], 14, None, None, 1],
    ]
    assert running["sections"][0]["started_at"] == utc(begun + 10)
    assert job.id


def test_the_last_section_ends_with_the_job(
    job_maker: JobMaker, explain: Callable[..., Any]
) -> None:
    job_id = job_maker.ended(b"--- Build\nError: one\n--- attempt 2 ---\nno end of line")
    first, last = explain(job_id, "sections")["sections"]
    assert (first["end"], first["errors"]) == (21, 1)
    assert (last["name"], last["end"], last["line"]) == ("attempt 2", 53, 3)
    assert last["seconds"] is not None and last["started_at"] is not None


def test_a_log_without_sections_and_a_job_without_a_log(
    job_maker: JobMaker, explain: Callable[..., Any]
) -> None:
    nothing = {"partial": False, "count": 0, "sections": []}
    assert explain(job_maker.ended(b"+ make\n---\nError: x\n"), "sections") == nothing
    assert explain(job_maker.queued().id, "sections") == nothing


@pytest.mark.parametrize(
    "line",
    [
        b"Traceback (most recent call last)",
        b"E   assert 1",
        b"a.b.ValueError: x",
        b"  ERROR x",
        b"make: *** [all] fatal: x",
        b"\x1b[1m\x1b[91mred\x1b[0m",
        b"\x1b[1mER\x1b[0mROR: cut by a colour",
        b"10%\rERROR",
        b"Killed",
        b"\xff\xfe Error: x",
        b"12:00:00 ::error::x",
    ],
)
def test_lines_that_report_an_error_are_found_at_full_speed(path: Path, line: bytes) -> None:
    path.write_bytes(b"before\n\n" + line + b"\nafter\n")
    with FileLog(str(path)) as log:
        scan = LineScan(error_candidates())
        assert [found.raw for found in scan.read(log, log.size, True, inf)] == [line]
    assert counts_as_error(line)


def test_of_very_many_sections_the_first_are_listed(
    job_maker: JobMaker, explain: Callable[..., Any]
) -> None:
    job_id = job_maker.ended(b"--- a\nError: x\n" * 30_000, Status.FAILED)
    sections = explain(job_id, "sections")
    assert (sections["count"], len(sections["sections"])) == (30_000, 1_000)
    assert sections["sections"][999] | {"started_at": None, "seconds": None} == {
        "name": "a",
        "kind": "section",
        "is_open": False,
        "offset": 999 * 15,
        "line": 1_999,
        "end": 1_000 * 15,
        "started_at": None,
        "seconds": None,
        "errors": 1,
    }


def test_sections_start_afresh_when_the_job_truncates_its_log(
    job_maker: JobMaker, explain: Callable[..., Any]
) -> None:
    with job_maker.running(b"--- A long name of a section\nError: x\n--- B\n") as held:
        assert explain(held.job.id, "sections")["count"] == 2
        job_maker.log(held.job.id).write_bytes(b"--- C\nx\n")
        answer = explain(held.job.id, "sections")
        assert [(each["name"], each["errors"]) for each in answer["sections"]] == [("C", 0)]


# --- Results and annotations ----------------------------------------------------------------------


def test_results_are_in_the_job_and_on_request_in_the_list(
    job_maker: JobMaker, client: FlaskClient, explain: Callable[..., Any]
) -> None:
    job_id = job_maker.ended(b"::result a=1\n::result b=2 <b>\n--- attempt 2 ---\n::result a=3\n")
    expected = {"results": {"a": "3", "b": "2 <b>"}, "results_partial": False}
    whole = client.get(f"/jobs/{job_id}").json
    assert {name: whole[name] for name in expected} == expected
    (listed,) = client.get("/jobs?results=1").json["jobs"]
    assert {name: listed[name] for name in expected} == expected
    (found,) = client.get(f"/jobs?results=1&id={job_id}").json["jobs"]
    assert found["results"] == expected["results"]
    assert "results" not in client.get("/jobs").json["jobs"][0]
    part = {"partial": False, "count": 2, "results": expected["results"]}
    assert explain(job_id, "results") == part
    queued = client.get(f"/jobs/{job_maker.queued().id}").json
    assert (queued["results"], queued["results_partial"], queued["progress"]) == ({}, False, None)


def test_results_beyond_the_fiftieth_key_are_left_out(
    job_maker: JobMaker, client: FlaskClient
) -> None:
    lines = [b"::result k%d=%d\n" % (number, number) for number in range(60)]
    job_id = job_maker.ended(b"".join(lines) + b"::result k7=last")
    results = client.get(f"/jobs/{job_id}").json["results"]
    assert list(results) == [f"k{number}" for number in range(50)]
    assert results["k7"] == "last"


@pytest.fixture
def frequent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_marks, "READ_INTERVAL", 0.05)


@pytest.mark.usefixtures("frequent")
def test_what_a_job_wrote_before_it_truncated_its_log_no_longer_counts(
    job_maker: JobMaker, client: FlaskClient, explain: Callable[..., Any]
) -> None:
    with job_maker.running(b"--- A\n::result a=1\n::progress 10\n") as held:
        path = f"/jobs/{held.job.id}"
        assert client.get(path).json["progress"]["percent"] == 10
        longer = b"::result b=2\n--- B\n" + b"more than before\n" * 10
        job_maker.log(held.job.id).write_bytes(longer)
        wait_until(lambda: client.get(path).json["results"] == {"b": "2"})
        wait_until(lambda: client.get(path).json["progress"] is None)
        sections = explain(held.job.id, "sections")["sections"]
        assert [(each["name"], each["offset"]) for each in sections] == [("B", 13)]


@pytest.mark.usefixtures("frequent")
def test_a_running_job_has_its_results_so_far(job_maker: JobMaker, client: FlaskClient) -> None:
    with job_maker.running(b"::result a=1\n") as held:

        def results() -> Any:
            return client.get(f"/jobs/{held.job.id}").json["results"]

        assert results() == {"a": "1"}
        job_maker.write(held, b"::result a=2\n")
        wait_until(lambda: results() == {"a": "2"})


def test_results_of_a_log_that_takes_too_long_are_partial_at_first(
    job_maker: JobMaker, client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = job_maker.ended(b"x\n" * 1_000_000 + b"::result a=1\n")
    monkeypatch.setattr(progress, "READ_TIME", 0.0)
    first = client.get(f"/jobs/{job_id}").json
    assert (first["results"], first["results_partial"]) == ({}, True)
    monkeypatch.setattr(progress, "READ_TIME", 0.001)
    wait_until(lambda: not client.get(f"/jobs/{job_id}").json["results_partial"])
    assert client.get(f"/jobs/{job_id}").json["results"] == {"a": "1"}


def test_only_so_many_logs_are_remembered(
    job_maker: JobMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    marks, jobs, known = LiveMarks(job_maker.storage), [], []
    for _ in range(4):
        job_id = job_maker.ended(b"::result a=1\n::result b=" + b"b" * 1_000)
        jobs.append(job_maker.storage.get(job_id))
    monkeypatch.setattr(live_marks, "MOST_LOGS", 3)

    def remembered() -> list[bool]:
        return [log() is not None for log in known]

    for job in jobs:
        assert marks.results(job, inf).results["a"] == "1"
        known.append(weakref.ref(marks.of(job)))
    assert remembered() == [False, True, True, True]
    monkeypatch.setattr(live_marks, "MOST_WEIGHT", 2_000)
    assert marks.results(jobs[0], inf).results["a"] == "1"
    assert remembered() == [False, False, False, False]
    assert marks.of(jobs[0]).marks.found.results["a"] == "1"


def test_annotations_are_counted_and_the_first_are_listed(
    job_maker: JobMaker, explain: Callable[..., Any]
) -> None:
    lines = [b"::error file=a.py,line=3::bro%0Aken", b"x", b"12:00:00 ::warning::slow"]
    answer = explain(job_maker.ended(b"\n".join(lines + [b"::notice::n"] * 300)), "annotations")
    assert answer["counts"] == {"error": 1, "warning": 1, "notice": 300}
    assert len(answer["annotations"]) == 200
    assert answer["annotations"][:2] == [
        {
            "level": "error",
            "text": "bro\nken",
            "file": "a.py",
            "file_line": 3,
            "offset": 0,
            "line": 1,
        },
        {
            "level": "warning",
            "text": "slow",
            "file": None,
            "file_line": None,
            "offset": len(lines[0]) + 3,
            "line": 3,
        },
    ]


# --- Progress -------------------------------------------------------------------------------------

TQDM = b"\rorders:  40%|\xe2\x96\x88\xe2\x96\x88  | 40/100 [00:01<00:02, 33.2it/s]"
BARS = [
    (b"\r  0%|     | 0/9" + TQDM, 40, "orders:  40%|██  | 40/100 [00:01<00:02, 33.2it/s]"),
    (TQDM + b"\r", 40, None),
    (b"\r     32,768  12%    1.20MB/s    0:00:10", 12, None),  # rsync
    (b"\r######################           55.3%", 55.3, None),  # curl -#
    (b"\rfile.iso   7%[=>          ] 12.3M  1.2MB/s", 7, None),  # wget
    (b"\r\x1b[K\x1b[33m40% [Working]\x1b[0m", 40, None),  # apt
    (b"Reading 5%\rReading 60 %", 60, "Reading 60 %"),
    (b"disk 90% full\r 3%|#  | 3/99", 3, None),
    (b"\rCPU 30%  3%|#  | 3/99", 3, None),
    (b"\r" + b"x" * 5_000 + b"\r50%", 50, "50%"),
    (b"\r100%", 100, "100%"),
    (TQDM + b"\r" + b" " * 60 + b"\r", None, None),  # the bar was cleared
    (TQDM + b"\n", None, None),  # it has ended
    (TQDM + b"\nmore\n", None, None),
    (b"tests [ 40%]\r", None, None),  # the newline follows
    (b"40% of the disk", None, None),
    (b"\r3 of 9 files", None, None),
    (b"\r30% CPU, 40% memory", None, None),
    (b"\r140%", None, None),
    (b"\r-40%", None, None),
    (b"\r100.5%", None, None),
    (b"\rhttps://example.com/a%20b40%2F", None, None),
]


@pytest.mark.parametrize("log, percent, text", BARS)
def test_a_bar_that_is_drawn_last_is_progress(
    path: Path, log: bytes, percent: float | None, text: str | None
) -> None:
    path.write_bytes(b"before\n" + log)
    tail = ProgressTail()
    with FileLog(str(path)) as file:
        tail.read(file, inf)
    shown = tail.shown
    assert (shown and shown.progress.percent) == percent
    assert shown is None or (shown.source == "bar" and len(shown.progress.text or "") <= 100)
    if shown and text:
        assert shown.progress.text == text


@pytest.mark.usefixtures("frequent")
def test_the_progress_of_a_running_job_is_in_the_list_and_the_job(
    job_maker: JobMaker, client: FlaskClient, explain: Callable[..., Any]
) -> None:
    held = job_maker.running(b"::progress 10\n--- attempt 2 ---\n")
    job_id = held.job.id

    def shown() -> Any:
        (listed,) = client.get("/jobs").json["jobs"]
        return listed["progress"], client.get(f"/jobs/{job_id}").json["progress"]

    def becomes(data: bytes, expected: object) -> None:
        job_maker.write(held, data)
        wait_until(lambda: shown() == (expected, expected), describe=shown)

    assert shown() == (None, None), "it was of the attempt before"
    bar = {"percent": 12, "text": "12%", "source": "bar", "seconds_left": None}
    becomes(b"\r3%\r12%", bar)
    assert explain(job_id, "progress") == {
        "partial": False,
        **{name: bar[name] for name in ("percent", "text", "source")},
        "offset": 36,
    }
    marker = {"percent": 50, "text": "orders", "source": "marker", "seconds_left": None}
    becomes(b"\n::progress 45 of 90 orders\n", marker)
    becomes(b"::progress 55\n" + b"x" * 5_000, marker | {"percent": 55, "text": None})
    assert explain(job_id, "progress")["source"] == "marker"
    becomes(b"\r99%", marker | {"percent": 55, "text": None})
    job_maker.finish(held)
    assert shown() == (None, None)
    assert explain(job_id, "progress")["percent"] == 55


def test_the_log_of_a_running_job_is_not_read_for_each_request(
    job_maker: JobMaker, client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def shown() -> Any:
        job = client.get(f"/jobs/{held.job.id}").json
        return (
            job["progress"] and job["progress"]["percent"],
            job["results"],
            job["results_partial"],
        )

    monkeypatch.setattr(live_marks, "READ_INTERVAL", 3_600.0)
    with job_maker.running(b"::progress 1\n::result a=1\n") as held:
        assert shown() == (1, {"a": "1"}, False)
        job_maker.write(held, b"::progress 2\n::result a=2\n")
        assert shown() == (1, {"a": "1"}, False)
        monkeypatch.setattr(live_marks, "READ_INTERVAL", 0.0)
        assert shown() == (2, {"a": "2"}, False)


def test_only_the_end_of_a_long_log_is_read_for_the_list(path: Path) -> None:
    path.write_bytes(b"::progress 1\n" + b"x\n" * TAIL_BYTES + b"::progress 2\nx\n")
    tail = ProgressTail()
    with FileLog(str(path)) as log:
        tail.read(log, inf)
    assert tail.shown == OwnProgress(Progress(2, None), "marker")
    with path.open("ab") as file:
        file.write(b"x\n" * TAIL_BYTES)
    with FileLog(str(path)) as log:
        tail.read(log, inf)
    assert tail.shown == OwnProgress(Progress(2, None), "marker"), "the newest that is known"
    path.write_bytes(b"\r9%")
    with FileLog(str(path)) as log:
        tail.read(log, inf)
    assert tail.shown == OwnProgress(Progress(9, "9%"), "bar"), "the job has truncated its log"


def test_the_list_waits_for_no_log_once_its_time_is_over(
    job_maker: JobMaker, client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    with job_maker.running(b"::progress 10\n"):
        monkeypatch.setattr(progress, "READ_TIME", 0.0)
        assert client.get("/jobs").json["jobs"][0]["progress"] is None
        monkeypatch.setattr(progress, "READ_TIME", 60.0)
        assert client.get("/jobs").json["jobs"][0]["progress"]["percent"] == 10
        monkeypatch.setattr(progress, "READ_TIME", 0.0)
        assert client.get("/jobs").json["jobs"][0]["progress"]["percent"] == 10


# --- The command ----------------------------------------------------------------------------------


class SlowToOpen(FolderStore):
    """Opens a log only after a certain time on the monotonic clock."""

    opens_at = 0.0

    def open_log(self, job_id: str) -> Log:
        wait_until(lambda: time.monotonic() > self.opens_at)
        return super().open_log(job_id)


def test_a_log_that_was_not_read_in_time_is_read_for_the_next_response(
    job_maker: JobMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_marks, "READ_INTERVAL", 0.0)
    store = SlowToOpen(job_maker.folder)
    marks = LiveMarks(store)
    with job_maker.running(b"::progress 10\n") as held:
        job = job_maker.storage.get(held.job.id)
        store.opens_at = time.monotonic() + 0.05
        assert marks.progress(job, store.opens_at) is None
        assert marks.progress(job, inf) == OwnProgress(Progress(10, None), "marker")


def test_if_there_is_time_for_one_log_each_response_reads_another_one(
    job_maker: JobMaker, client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = ProgressTail.read

    def read_slowly(tail: ProgressTail, log: Log, deadline: float) -> bool:
        is_complete = read(tail, log, deadline)
        wait_until(lambda: time.monotonic() > deadline)
        return is_complete

    monkeypatch.setattr(progress, "READ_TIME", 0.3)  # enough for one, also on a busy machine
    monkeypatch.setattr(live_marks, "READ_INTERVAL", 0.0)
    monkeypatch.setattr(ProgressTail, "read", read_slowly)
    running = [job_maker.running(b"::progress 10\n") for _ in range(3)]
    known = []
    for _ in running:
        for held in running:
            job_maker.write(held, b"more\n")
        known.append(sum(job["progress"] is not None for job in client.get("/jobs").json["jobs"]))
    for held in running:
        job_maker.finish(held)
    assert known == [1, 2, 3]


def test_the_commands_show_results(on_folder: Tailboard, processes: Processes) -> None:
    job_maker = on_folder.job_maker
    job_maker.ended(b"::result rows=1200\n::result path=" + b"x" * 100 + b"\n", name="export")
    job_maker.ended(name="other")
    lines = on_a_terminal(processes, 60, "jobs", "--results").splitlines()
    assert len(lines) == 4
    assert lines[2:] == ["    rows=1200", "    path=" + "x" * 50 + "…"]
    piped = on_folder("jobs", "--results").stdout.splitlines()
    assert [line.split()[-1][:9] for line in piped] == ["other", "path=xxxx"]
    assert "rows=1200" in on_folder("show", lines[1].split()[0]).stdout


def test_a_real_job_shows_the_progress_of_its_attempt_and_keeps_its_results(
    client: FlaskClient, worker: Callable[..., object], gate: Gate
) -> None:
    script = (
        "if [ ! -e done ]; then touch done; echo '::progress 90'; echo '::result a=1'; exit 1; fi\n"
        f"{gate.wait}\necho '::progress 3 of 4 users'; {gate.wait}"
    )
    worker()
    folder = {"cwd": str(gate.path.parent), "retries": 1}
    job_id = client.post("/jobs", json={"command": script, **folder}).json["id"]

    def job(**fields: object) -> Any:
        found = client.get(f"/jobs/{job_id}").json
        return found if all(found[name] == value for name, value in fields.items()) else None

    second = wait_until(lambda: job(attempt=2, status="running"), describe=job)
    assert second["progress"] is None
    assert second["results"] == {"a": "1"}
    gate.open()
    ended = wait_until(lambda: job(status="succeeded"), describe=job)
    assert (ended["progress"], ended["results"]) == (None, {"a": "1"})
    part = client.get(f"/jobs/{job_id}/explain?parts=progress,sections").json
    assert (part["progress"]["percent"], part["progress"]["text"]) == (75, "users")
    assert [each["name"] for each in part["sections"]["sections"]] == ["attempt 2"]
