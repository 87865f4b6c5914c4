"""What is marked in the logs of real programs. tests/logs/README.md describes their recording.

`pytest -s` prints the table of the failed runs: how far the first new line is from the cause."""

from __future__ import annotations

import os
import re
from math import inf
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from conftest import ROOT, JobMaker

from tailboard.error_lines import is_error
from tailboard.explain import explainer
from tailboard.explain.explainer import Explainer
from tailboard.explain.log_marks import LogMarks
from tailboard.explain.progress_tail import bar_at_end
from tailboard.job import Job
from tailboard.logs import FileLog
from tailboard.notify.history import History
from tailboard.notify.usual import UsualTimes
from tailboard.status import Status
from tailboard.visible_text import visible_text

LOGS = ROOT / "tests" / "logs"
NEAR = 5  # lines between the first new line and the cause
LEAST_NEAR = 0.75  # of the failed runs


class Failure(NamedTuple):
    """A failed run with a known cause."""

    folder: str
    cause: int  # the number of the line that a reader would quote as the cause
    quote: str  # what that line contains
    first: int | None  # the number of the first new line; None: no line is new


FAILURES = (
    Failure("address-in-use", 12, "Address already in use", 12),
    Failure("cargo-test", 16, "assertion failed: mean", 6),
    Failure("certificate-expired", 5, "certificate has expired", 4),
    Failure("checksum", 5, "files/part-4.bin: FAILED", 5),
    Failure("cmake", 26, "ring_push: Assertion `", 20),
    Failure("connection-refused", 2, "port 18432 failed: Connection refused", 2),
    Failure("django-wrong-column", 11, "no such column: opened", 11),
    Failure("docker-classic", 18, "ERROR: Could not find a version", 18),
    Failure("docker-missing-file", 66, 'ERROR: "/gunicorn.conf.py" not found', 66),
    Failure("git-push", 3, "! [rejected]", 4),
    Failure("golden-files", 2, "NOT ok  case-7", 2),
    Failure("integrity-error", 10, "NOT NULL constraint failed", 10),
    Failure("java-exception", 4, "NullPointerException: no account", 4),
    Failure("jq-parse", 8, "parse error: Unfinished string", 8),
    Failure("json-lines", 19, '"event": "import failed"', 19),
    Failure("lint", 1, "`sys` imported but unused", 1),
    Failure("make-assert", 14, "ring_push: Assertion `", 14),
    Failure("make-compile-error", 7, "has no member named", 7),
    Failure("make-linker-error", 9, "undefined reference to `sqrt'", 9),
    Failure("make-warnings-first", 22, "ring_push: Assertion `", 22),
    Failure("missing-dependency", 7, "No module named 'matplotlib'", 7),
    Failure("missing-output", 11, "1019 events", None),
    Failure("node-exception", 10, "Cannot read properties of undefined", 10),
    Failure("npm-build", 5, 'Could not resolve "./basket.js"', 5),
    Failure("npm-peer-conflict", 2, "ERESOLVE unable to resolve", 1),
    Failure("npm-pty", 9, "449 !== 699", 6),
    Failure("npm-test", 16, "449 !== 699", 13),
    Failure("out-of-memory", 11, "Killed", 11),
    Failure("perl-prove", 2, "Failed test 'same list'", 2),
    Failure("pip-conflict", 3, "ERROR: Could not find a version", 3),
    Failure("pytest-assertion", 21, "assert 18 == 19", 21),
    Failure("pytest-import-error", 14, "cannot import name 'apply_discount'", 14),
    Failure("pytest-project", 23, "BadSignature: Signature", 23),
    Failure("pytest-pty", 38, "assert 18 == 19", 38),
    Failure("pytest-random-order", 39, "assert 2247 == 3102", 39),
    Failure("python-timeout", 23, "TimeoutError: timed out", 23),
    Failure("quota", 12, "the monthly quota", 12),
    Failure("random-ids", 78, "550 5.7.1 sender address rejected", None),
    Failure("retry-noise", 8, "part 7 is damaged after 5 bytes", 8),
    Failure("rsync-disk-full", 15, "No space left on device", 15),
    Failure("rsync-permission", 3, "Permission denied", 3),
    Failure("segfault", 10, "Segmentation fault", 10),
    Failure("shell-set-e", 9, "cannot stat 'config/production.env'", 9),
    Failure("sqlite-check", 5, "CHECK constraint failed", 5),
    Failure("timeout", 8, "Operation timed out after 3001 milliseconds", 8),
    Failure("unbound-variable", 5, "OPS_MAIL: unbound variable", 1),
    Failure("unittest", 12, "AssertionError: '--' != ''", 12),
)


class Found(NamedTuple):
    """A failed run, and what was found in it."""

    failure: Failure
    first: int | None
    new: int  # lines
    lines: int

    @property
    def is_near(self) -> bool:
        return self.first is not None and abs(self.first - self.failure.cause) <= NEAR

    def __str__(self) -> str:
        name, cause, quote, _ = self.failure
        first = "none" if self.first is None else str(self.first)
        verdict = "near" if self.is_near else "FAR"
        new = f"{self.new}/{self.lines}"
        return f"{name:20}{cause:>6}{first:>6}  {verdict:5}{new:>8}  {quote}"


class Marks(NamedTuple):
    """What the markers in a log say."""

    sections: tuple[str, ...] = ()
    progress: float | None = None  # a percentage: the newest one
    results: tuple[tuple[str, str], ...] = ()
    annotations: tuple[tuple[str, str], ...] = ()  # with their levels


# The logs in which something must be marked. In all others, nothing must be.
MARKS = {
    "markers/buildkite": Marks(
        (":package: Installing", "Testing", "Report"),
        90.0,
        (("passed", "42"), ("failed", "2")),
        (
            ("warning", "rate is not used"),
            ("error", "expected 19\ngot 18"),
            ("notice", "see the report"),
        ),
    ),
    "markers/github": Marks(("Set up", "Run tests", "Clean up"), 40.0),
    # A comment that was removed from a file of SQL. Only its context tells it from a section.
    "markers/sql-comment": Marks(("Totals",)),
}

# The percentages of the progress bars that were drawn, each as its line ended.
BARS = {
    "bars/curl": [100.0],
    "bars/git-clone": [100.0] * 3,
    "bars/tqdm": [100.0] * 3 + [62.0],
    "bars/tqdm-pty": [100.0] * 3 + [62.0],
    "bars/wget-pty": [100.0],
    "rsync-progress/1": [100.0],
    "rsync-progress/2": [100.0] * 20,
}

# The numbers of the lines that report an error. All other logs have none.
ERRORS = {
    "address-in-use/failed": "2 12",
    "cargo-test/failed": "6 23 25",
    "checksum/failed": "5",
    "cmake/failed": "20 26 33",
    "connection-refused/failed": "2",
    "django-wrong-column/failed": "11 15 71",
    "docker-classic/1": "24",
    "docker-classic/failed": "18-19",
    "docker-missing-file/failed": "66 70",
    "git-push/failed": "4",
    "integrity-error/failed": "5 10 14 37",
    "java-exception/failed": "4",
    "jq-parse/failed": "8",
    "json-lines/failed": "19",
    "make-assert/failed": "14",
    "make-compile-error/failed": "7 11",
    "make-linker-error/failed": "9-10",
    "make-warnings-first/failed": "22",
    "markers/buildkite": "7",
    "markers/git-diff": "45 74 79",
    "markers/python-diffs": "14 16 25",
    "missing-dependency/failed": "2 7",
    "node-exception/failed": "10",
    "npm-build/failed": "5",
    "npm-peer-conflict/failed": "1-19",
    "npm-pty/failed": "6 29 44 47",
    "npm-test/failed": "13 47",
    "out-of-memory/failed": "11",
    "pip-conflict/failed": "3-4",
    "pytest-assertion/failed": "21-23 33-35 45-47 57-58 62-65",
    "pytest-import-error/failed": "14 16",
    "pytest-project/failed": "23 25",
    "pytest-pty/failed": "17 19-20 23 31 38-40 42-43 50-52 54-55 62-64 66-67 74-75 77 108-112",
    "pytest-random-order/failed": "27 29 39-41 52-54 60-61",
    "python-timeout/failed": "5 23 27 45-46 50 65",
    "retry-noise/failed": "8",
    "rsync-disk-full/failed": "15-17",
    "rsync-permission/failed": "3-7 16",
    "segfault/failed": "10",
    "shell-set-e/failed": "9",
    "timeout/failed": "8",
    "unittest/failed": "8 12 20",
}

# The lines in which the last success of a command differs from those before it.
CHANGED = {
    "rsync-disk-full": ["2025/autumn/edit_4191.jpg"],
    "shell-set-e": [
        "'site/./urls.py' -> '/srv/app/jobs/releases/20261130083449/./urls.py'",
    ],
}


# --- Jobs with recorded logs ----------------------------------------------------------------------


class Answers(NamedTuple):
    """What is new in two runs of a command."""

    in_success: dict[str, Any]  # the last one, compared with those before it as if it had failed
    in_failure: dict[str, Any]


class Recorded:
    """Jobs whose logs were recorded, and their explanations."""

    def __init__(self, job_maker: JobMaker) -> None:
        self.job_maker, self.store = job_maker, job_maker.storage
        history = History(self.store)
        self.explainer = Explainer(self.store, history, UsualTimes(self.store, history))

    def compare(self, folder: str) -> Answers:
        *earlier, last = successes(folder)
        for path in earlier:
            self._end(path, Status.SUCCEEDED)
        in_success = self._explain(self._end(last, Status.FAILED), len(earlier))
        self._end(last, Status.SUCCEEDED)
        failed = self._end(LOGS / folder / "failed.log", Status.FAILED)
        return Answers(in_success, self._explain(failed, len(earlier) + 1))

    def _end(self, path: Path, status: Status) -> Job:
        """A job that has written this log and has ended. Its name is that of the log's folder."""
        held = self.job_maker.running(path.read_bytes(), name=path.parent.name)
        return self.job_maker.finish(held, status)

    def _explain(self, job: Job, successes: int) -> dict[str, Any]:
        with self.store.open_log(job.id) as log:
            found = self.explainer.explain(job, log, ["new_lines"])
        assert not found["partial"] and len(found["compared_with"]) == successes
        return dict(found["new_lines"])


@pytest.fixture(scope="module")
def new_lines(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Answers]:
    """What is new in the runs of each folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(explainer, "PART_TIME", 60.0)  # a busy machine reads little in 200 ms
        patch.setattr(os, "fsync", lambda fd: None)  # these many jobs need not survive a crash
        recorded = Recorded(JobMaker(tmp_path_factory.mktemp("recorded")))
        return {failure.folder: recorded.compare(failure.folder) for failure in FAILURES}


def successes(folder: str) -> list[Path]:
    return sorted((LOGS / folder).glob("[0-9].log"))


def name_of(path: Path) -> str:
    return f"{path.parent.name}/{path.stem}"


def lines_of(path: Path) -> list[str]:
    return path.read_bytes().decode(errors="replace").removesuffix("\n").split("\n")


# --- New in this failure --------------------------------------------------------------------------


def test_the_table_quotes_the_cause_of_every_failed_run() -> None:
    folders = sorted(path.parent.name for path in LOGS.glob("*/failed.log"))
    assert folders == [failure.folder for failure in FAILURES]
    for failure in FAILURES:
        lines = lines_of(LOGS / failure.folder / "failed.log")
        assert failure.quote in lines[failure.cause - 1], failure


def find_first(failure: Failure, answer: dict[str, Any]) -> Found:
    first = answer["first"] and answer["first"]["line"]
    lines = lines_of(LOGS / failure.folder / "failed.log")
    return Found(failure, first, answer["count"], len(lines))


def test_the_first_new_line_is_near_the_cause(new_lines: dict[str, Answers]) -> None:
    table = [find_first(failure, new_lines[failure.folder].in_failure) for failure in FAILURES]
    near = sum(found.is_near for found in table)
    print(f"\n{'':20}{'cause':>6}{'first':>6}  {'':5}{'new':>8}", *table, sep="\n")
    print(f"{near} of {len(table)} within {NEAR} lines of the cause")
    assert {found.failure.folder: found.first for found in table} == {
        failure.folder: failure.first for failure in FAILURES
    }
    assert near >= LEAST_NEAR * len(table)


def test_a_run_that_reads_as_the_successes_has_no_new_lines(new_lines: dict[str, Answers]) -> None:
    found = {}
    for folder, answers in new_lines.items():
        lines = lines_of(successes(folder)[-1])
        ranges = answers.in_success["ranges"]
        found[folder] = [
            line for each in ranges for line in lines[each["line"] - 1 :][: each["lines"]]
        ]
    assert {folder: lines for folder, lines in found.items() if lines} == CHANGED


# --- Sections, progress, results and annotations --------------------------------------------------


def marks_of(path: Path) -> Marks:
    marks = LogMarks()
    with FileLog(str(path)) as log:
        assert marks.work(log, log.size, True, inf)
    found = marks.found
    assert found.section_count == len(found.sections)
    return Marks(
        tuple(section.name for section in found.sections),
        found.progress and found.progress[1].percent,
        tuple(found.results.items()),
        tuple((annotation.level, annotation.text) for _, annotation in found.annotations),
    )


def test_only_markers_are_marked() -> None:
    found = {name_of(path): marks_of(path) for path in LOGS.glob("*/*.log")}
    assert {name: marks for name, marks in found.items() if marks != Marks()} == MARKS


def bars_in(path: Path) -> list[float]:
    """What the progress would have been just before each newline."""
    ends = [match.start() for match in re.finditer(rb"\r*(\n|$)", path.read_bytes())]
    with FileLog(str(path)) as log:
        bars = [bar_at_end(log, end) for end in ends]
    return [bar[1].percent for bar in bars if bar]


def test_only_progress_bars_count_as_progress_while_they_are_drawn() -> None:
    found = {name_of(path): bars_in(path) for path in LOGS.glob("*/*.log")}
    assert {name: bars for name, bars in found.items() if bars} == BARS


# --- Errors ---------------------------------------------------------------------------------------


def error_lines(path: Path) -> str:
    """The numbers of the lines that report an error: "7 11-13"."""
    spans: list[list[int]] = []
    for number, line in enumerate(lines_of(path), 1):
        if not is_error(line, visible_text(line)):
            continue
        if spans and spans[-1][1] == number - 1:
            spans[-1][1] = number
        else:
            spans.append([number, number])
    return " ".join(str(begin) if begin == end else f"{begin}-{end}" for begin, end in spans)


def test_only_lines_that_report_an_error_are_marked_as_errors() -> None:
    found = {name_of(path): error_lines(path) for path in LOGS.glob("*/*.log")}
    assert {name: lines for name, lines in found.items() if lines} == ERRORS
