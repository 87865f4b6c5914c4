"""New in this failure: the lines of a failed log that its earlier successes do not have."""

from __future__ import annotations

import itertools
import random
import string
import time
import tracemalloc
from collections.abc import Sequence
from typing import Any

import pytest
from conftest import JobMaker
from flask.testing import FlaskClient

from tailboard.explain import explainer, known_lines, profile
from tailboard.explain.log_lines import KEPT_BYTES
from tailboard.explain.normal import has_words, line_key, normal_line
from tailboard.journal import Outcome
from tailboard.status import Status

SAME = [
    ("processed 12 orders in 0.42 s", "processed 4,817 orders in 3 min"),
    ("2026-11-03 09:00:01,123 ready", "2026-11-14 23:12:59,004 ready"),
    ("2026-11-03T09:00:01.123Z ready", "2026-11-14T23:12:59+02:00 ready"),
    ("[Mon Nov  2 09:00:01 2026] ready", "[Thursday December 24 9:00:01 2026] ready"),
    ("it is 9:15 a.m. now", "it is 11:30 pm now"),
    ("took 950ms", "took 1m30s"),
    ("took 1 h 12 min 3 s", "took 1.5 hours"),
    ("HEAD is now at 3f2a9c8", "HEAD is now at 0b12fe9a44c1"),
    ("image sha256:d8e7a3737512 pulled", "image sha256:1234567 pulled"),
    ("version v1.2-5-g1a2b3c4", "version v1.2-11-gc0ffee1"),
    (
        "request 3fa85f64-5717-4562-b3fc-2c963f66afa6 done",
        "request 0b12fe9a-0000-4aaa-8bbb-123456789abc done",
    ),
    ("message aB3xY9kQz1 sent", "message Zk81mm0PqT7 sent"),
    ("writing /tmp/tmpab12cd_x/data.csv", "writing /tmp/tmpq_77zzt0/data.csv"),
    ("cd /tmp/tmp.aBcDeFgHiJ", "cd /tmp/tmp.Xy12aBcDeF"),
    ("in /tmp/pytest-of-ci/pytest-12/test_a0", "in /tmp/pytest-of-anna/pytest-3/test_a1"),
    ("in /var/folders/zz/abcdefgh/T/x1/out", "in /private/tmp/build/out"),
    ("<Order object at 0x7f3b2c1d0e90>", "<Order object at 0x10a>"),
    ("key AD:0E:B2:2D:97:D0:84:FA added", "key 48:22:CD:70:2A:DD:73:7C added"),
    ("link aa-bb-cc-dd-ee-ff is up", "link 52:54:00:12:34:56 is up"),
    ("listening on 127.0.0.1:43121", "listening on 10.0.0.12:80"),
    ("\x1b[32mok\x1b[0m  done", "ok done"),
    ("\x1b]0;title\x07ok", "ok"),
    ("copied 12.5 kB (3 MB/s)", "copied 1.2GiB (800 bytes/s)"),
    ("===== 3 passed in 0.12s =====", "======= 3 passed in 1.50s ======="),
    (" 12%|█▏         | 12/100 [00:01<00:09, 9.1it/s]", "100%|██████| 100/100 [00:10<?, 10it/s]"),
    ("[###>      ]  30%", "[=========>] 100 %"),
    ("status: 12% done", "status: 100 % done"),
    ("10%\r50%\rloaded 50%", "loaded 100%\r"),
    ("x  \t y", "x y"),
    ("⠋ installing", "⠙ installing…"),
]
DIFFERENT = [
    ("the disk is full", "the disk is fine"),
    ("exit code 0", "exit code 137"),
    ("process exited with status 1", "process exited with status 2"),
    ('"GET / HTTP/1.1" 200 512', '"GET / HTTP/1.1" 500 512'),
    ("0 failed, 12 passed", "3 failed, 12 passed"),
    ("ok=3 failed=0", "ok=3 failed=1"),
    ("errors: 0", "errors: 12"),
    ("test_login2 passed", "test_logout2 passed"),
    ("+ resource", "- resource"),
    ("a != b", "a == b"),
    ("✓ sums", "✗ sums"),
    ("tests/test_a.py ..F.", "tests/test_a.py ...."),
    ("/tmp/a/main.c: error", "/tmp/b/util.c: error"),
]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_lines_that_say_the_same_have_one_normal_form(one: str, other: str) -> None:
    assert normal_line(one.encode()) == normal_line(other.encode())
    assert line_key(one.encode()) == line_key(other.encode())


@pytest.mark.parametrize(("one", "other"), DIFFERENT)
def test_lines_that_say_something_else_have_different_normal_forms(one: str, other: str) -> None:
    assert normal_line(one.encode()) != normal_line(other.encode())
    assert line_key(one.encode()) != line_key(other.encode())


@pytest.mark.parametrize("line", [line for pair in SAME + DIFFERENT for line in pair])
def test_the_normal_form_of_a_normal_form_is_the_same(line: str) -> None:
    normal = normal_line(line.encode())
    assert normal_line(normal) == normal


def test_the_normal_form_of_any_normal_form_is_the_same() -> None:
    pieces = (
        "1 12 0 137 _ - + % ! : . s ms e x 0x f00d deadbeef abc code: exit: http/1.1: errors: tmp"
    )
    known = [
        *pieces.encode().split(),
        b" ",
        b" failed",
        b"May",
        b"/tmp/",
        b"\x1b[31m",
        b"\r",
        b"\xe2",
    ]
    chance = random.Random(32)
    for _ in range(20_000):
        normal = normal_line(b"".join(chance.choices(known, k=7)))
        assert normal_line(normal) == normal


def test_lines_without_words_are_known() -> None:
    assert not any(
        map(has_words, (b"", b"\r", b"-----", b"12:30 100 %", b"\x1b[1m\x1b[0m", b"3f2a9c8"))
    )
    assert has_words(b"12 ok") and has_words("größe".encode()) and has_words("完了".encode())


REPEATED = (
    *(b"1", b"a", b"f", b"_", b"a1", b"a_1", b"1s", b"1 ", b"1-", b"+1", b"0x", b"abcd-"),
    *(
        b"1234567 ",
        b"tmp ",
        b"/tmp/",
        b"code 1 ",
        b"0 failed ",
        b"a\r",
        b"\x1b[",
        b"\x1b]",
        b"\xe2\x96",
    ),
)


@pytest.mark.parametrize("part", REPEATED)
def test_the_time_for_a_line_is_linear_in_its_length(part: bytes) -> None:
    def seconds(length: int) -> float:
        line = (part * length)[:length]
        best = 1.0
        for _ in range(5):
            begun = time.process_time()
            line_key(line)
            best = min(best, time.process_time() - begun)
        return best

    assert seconds(16 * KEPT_BYTES) < 16 * 8 * seconds(KEPT_BYTES) + 0.001


class Explained:
    """Explains jobs over HTTP. All jobs are of the same command."""

    def __init__(self, job_maker: JobMaker, client: FlaskClient) -> None:
        self.job_maker, self.client = job_maker, client

    def succeeded(self, *lines: str) -> str:
        return self.job_maker.ended(text(lines), name="nightly")

    def failed(self, *lines: str, status: Status = Status.FAILED) -> Any:
        """The new lines of a failed job with this log."""
        return self.new_lines(self.job_maker.ended(text(lines), status, name="nightly"))

    def new_lines(self, job_id: str) -> Any:
        while (answer := self.ask(job_id))["partial"]:
            pass
        return answer["new_lines"]

    def ask(self, job_id: str) -> Any:
        return self.client.get(f"/jobs/{job_id}/explain?parts=new_lines").json


def text(lines: Sequence[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode(errors="surrogateescape")


@pytest.fixture
def explained(job_maker: JobMaker, client: FlaskClient) -> Explained:
    return Explained(job_maker, client)


def lines_of(answer: Any) -> list[tuple[int, int]]:
    """(the number of the first line, how many lines) for each range."""
    return [(each["line"], each["lines"]) for each in answer["ranges"]]


def test_the_new_lines_of_a_failure_are_those_that_no_success_has(explained: Explained) -> None:
    explained.succeeded("start 09:00", "import 12 rows", "done in 3 s")
    explained.succeeded("start 10:00", "warning: 3 rows skipped", "done in 2 s")
    log = ("start 11:00", "import 9 rows", "", "no space", "", "left", "done in 1 s", "bye")
    answer = explained.failed(*log)
    assert answer == {
        "partial": False,
        "unavailable": None,
        "count": 4,
        "first": {"offset": 27, "line": 4, "text": "no space"},
        "ranges": [
            {"offset": 27, "end": 42, "line": 4, "lines": 3},
            {"offset": 54, "end": 58, "line": 8, "lines": 1},
        ],
    }


def test_where_an_answer_would_say_nothing_there_is_none_or_a_reason(explained: Explained) -> None:
    first = explained.failed("no space")
    assert first["unavailable"] == "There is no earlier success to compare with."
    assert (first["count"], first["first"], first["ranges"]) == (0, None, [])
    success = explained.succeeded("done")
    assert explained.new_lines(success) is None
    assert explained.failed("no space", status=Status.CANCELLED) is None
    with explained.job_maker.running(b"no space\n", name="nightly") as running:
        assert explained.new_lines(running.job.id) is None
    for status in (Status.TIMED_OUT, Status.LOST):
        assert explained.failed("done", "no space", status=status)["count"] == 1
    assert explained.failed("done")["count"] == 0


def test_the_first_line_is_the_first_that_explains_an_error(explained: Explained) -> None:
    explained.succeeded("start")
    log = ("start", "skipped", "\x1b[31mt.py::t FAILED\x1b[0m [ 50%]", "E   assert 1 == 2", "E   x")
    assert [explained.failed(*log[:end])["first"]["line"] for end in (2, 3, 4, 5)] == [2, 3, 4, 4]
    log = ("start", "Traceback (most recent call last):", "  File x", "KeyError: 7")
    assert [explained.failed(*log[:end])["first"]["line"] for end in (2, 3, 4)] == [2, 2, 4]


def test_only_the_last_attempt_of_a_run_counts(explained: Explained) -> None:
    retried = explained.job_maker
    for status, lines in (
        (Status.SUCCEEDED, ("no space", "--- attempt 2 ---", "start", "done")),
        (Status.FAILED, ("disk broken", "--- attempt 2 ---", "no space", "start")),
    ):
        held = retried.running(text(lines[:1]), name="nightly", retries=1)
        with held:
            job = held.requeue(Outcome(Status.FAILED, 1))
        held = retried.start(retried.storage.get(job.id))
        retried.write(held, text(lines[1:]))
        retried.finish(held, status)
    assert held.job.attempt == 2
    assert lines_of(explained.new_lines(held.job.id)) == [(3, 1)]


def test_a_notice_that_a_job_writes_itself_does_not_hide_the_lines_before_it(
    explained: Explained,
) -> None:
    explained.succeeded("start", "--- attempt 2 ---", "done")
    answer = explained.failed("start", "no space", "--- attempt 2 ---", "done")
    assert lines_of(answer) == [(2, 1)]


NAMES = (
    "amber",
    "basil",
    "cedar",
    "dune",
    "ember",
    "fern",
    "grove",
    "heath",
    "iris",
    "jade",
    "kelp",
)


@pytest.mark.parametrize("successes", [1, 4])
def test_lines_that_differ_each_time_are_not_new(explained: Explained, successes: int) -> None:
    def lines(run: int) -> list[str]:
        words = ["".join(pair) for pair in itertools.product([NAMES[run]], NAMES, NAMES)]
        return ["start", *(f"mail sent to {word}" for word in words[:30])]

    for run in range(successes):
        explained.succeeded(*lines(run))
    log = [*lines(9), "mail refused", "fatal: mail sent to nobody", "left"]
    assert lines_of(explained.failed(*log)) == [(32, 3)]
    assert explained.failed(*log)["count"] == 3


def test_if_most_lines_differ_each_time_only_errors_are_new(explained: Explained) -> None:
    def lines(run: int) -> list[str]:
        return ["start", *(f"{NAMES[run]}{name} has {name} mails" for name in NAMES)]

    for run in range(3):
        explained.succeeded(*lines(run))
    answer = explained.failed(*lines(9), "refused", "fatal: no such user")
    assert lines_of(answer) == [(14, 1)]
    assert explained.failed(*lines(9), "refused")["unavailable"].startswith("Most lines differ")


def test_a_success_that_had_more_to_do_does_not_hide_what_is_new(explained: Explained) -> None:
    explained.succeeded("start", *(f"{name} created" for name in NAMES), "done")
    explained.succeeded("start", "nothing to do", "done")
    assert lines_of(explained.failed("start", "no space", "done")) == [(2, 1)]


def test_a_name_that_differs_once_does_not_hide_what_is_new(explained: Explained) -> None:
    explained.succeeded("start", "hello anna", "done")
    explained.succeeded("start", "hello bert", "done")
    assert lines_of(explained.failed("start", "hello carl", "no space", "done")) == [(3, 1)]


def test_logs_of_successes_that_are_too_long_say_nothing(
    explained: Explained, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(profile, "MOST_LINES", 3)
    explained.succeeded("one", "two")
    assert explained.failed("three")["count"] == 1
    explained.succeeded("one", "two", "three", "four")
    answer = explained.failed("five")
    assert "too long" in answer["unavailable"] and answer["count"] == 0


def test_successes_with_too_many_different_lines_say_nothing(
    explained: Explained, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(known_lines, "MOST_KEYS", 3)
    explained.succeeded("one", "two")
    explained.succeeded("three", "four")
    answer = explained.failed("five")
    assert "too many" in answer["unavailable"] and answer["count"] == 0


def test_a_line_that_was_cut_off_with_its_program_is_not_new(explained: Explained) -> None:
    explained.succeeded("start", "done")
    for size, count in ((4_096, 0), (4_097, 1)):
        log = (b"start\n" * 600 + b"half a line").ljust(size, b".")
        job = explained.job_maker.ended(log, Status.TIMED_OUT, name="nightly")
        assert explained.new_lines(job)["count"] == count


def test_a_log_whose_beginning_was_deleted_has_no_numbers_of_lines(explained: Explained) -> None:
    explained.succeeded("start", "done")
    with explained.job_maker.running(name="nightly") as held:
        with explained.job_maker.log(held.job.id).open("wb") as log:
            log.seek(1 << 20)
            log.write(b"half a line\nstart\nno space\n")
        held.finish(Outcome(Status.FAILED, 1))
    (only,) = explained.new_lines(held.job.id)["ranges"]
    offset = (1 << 20) + len("half a line\nstart\n")
    assert only == {"offset": offset, "end": offset + 9, "line": None, "lines": 1}


def test_the_work_continues_in_the_next_request(
    explained: Explained, monkeypatch: pytest.MonkeyPatch
) -> None:
    letters = ["".join(pair) for pair in itertools.product(string.ascii_lowercase, repeat=2)]
    known = [f"{one} {other}" for one in letters[:9] for other in letters]
    explained.succeeded(*known)
    explained.succeeded(*known)
    monkeypatch.setattr(explainer, "PART_TIME", 0.002)  # seconds
    job = explained.job_maker.ended(
        text([*known, "no space", *known]), Status.FAILED, name="nightly"
    )
    answers = [explained.ask(job)]
    while answers[-1]["partial"]:
        answers.append(explained.ask(job))
    assert len(answers) > 3
    assert lines_of(answers[-1]["new_lines"]) == [(len(known) + 1, 1)]


@pytest.mark.parametrize("hostile", [b"x", bytes(range(256))])
def test_the_memory_does_not_grow_with_the_log(explained: Explained, hostile: bytes) -> None:
    explained.succeeded("start")
    log = b"start\n" + hostile * ((16 << 20) // len(hostile) // len(set(hostile))) + b"\nno space\n"
    job = explained.job_maker.ended(log, Status.FAILED, name="nightly")
    explained.ask(job)  # loads what all explanations need
    tracemalloc.start()
    answer = explained.new_lines(job)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 << 20
    assert answer["ranges"][-1]["end"] == len(log)
