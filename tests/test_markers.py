"""What a job can write to its log: sections, progress, results and annotations."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from math import inf
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, JobMaker, wait_until
from flask.testing import FlaskClient

from tailboard.explain import line_scan
from tailboard.explain.line_scan import LineScan
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
from tailboard.logs import SAMPLE, FileLog
from tailboard.status import Status
from tailboard.values import utc

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
    monkeypatch.setattr(line_scan, "SEARCH_BLOCK", 64)
    monkeypatch.setattr(line_scan, "LINE_BYTES", 40)


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
