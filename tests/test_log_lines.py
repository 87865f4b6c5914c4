"""Reading a log line by line, in steps, for explanations."""

from __future__ import annotations

import time
from collections.abc import Callable
from math import inf
from pathlib import Path

import pytest

from tailboard.explain import log_lines
from tailboard.explain.log_lines import BLOCK, KEPT_BYTES, Line, LineReader, shorten_line
from tailboard.logs import FileLog

Write = Callable[[bytes], FileLog]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Appends to a log and opens it."""
    path = tmp_path / "output.log"
    path.touch()

    def write(data: bytes) -> FileLog:
        with path.open("ab") as file:
            file.write(data)
        return FileLog(str(path))

    return write


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_lines, "BLOCK", 32)
    monkeypatch.setattr(log_lines, "KEPT_BYTES", 16)


def read(log: FileLog, reader: LineReader, has_ended: bool = True) -> list[Line]:
    with log:
        return list(reader.read(log, has_ended, inf))


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\n",
        b"a",
        b"a\n\nb",
        b"1" * 32,
        b"1" * 31 + b"\n2",
        b"1" * 32 + b"\n2",
        b"a\n" + b"1" * 100 + b"\nb\n",
        b"1" * 96,
        b"a\n" + b"1" * 62,
        b"1" * 50 + b"\n" + b"2" * 50 + b"\n",
        b"\n" * 40,
    ],
)
def test_the_lines_have_their_offsets_and_numbers(write: Write, data: bytes) -> None:
    parts = data.split(b"\n") if data else [b""]
    expected, at = [], 0
    for number, part in enumerate(parts, 1):
        expected.append(Line(at, number, part))
        at += len(part) + 1
    if not parts[-1]:
        expected.pop()
    reader = LineReader()
    assert [(line.offset, line.number) for line in read(write(data), reader)] == [
        (line.offset, line.number) for line in expected
    ]
    assert reader.at == len(data)


@pytest.mark.usefixtures("small_blocks")
def test_the_content_of_lines_that_cross_blocks_is_whole(write: Write) -> None:
    data = b"a short line\nx\nanother line\nand one more\nthe last one"
    lines = read(write(data), LineReader())
    assert [line.raw for line in lines] == data.split(b"\n")


@pytest.mark.usefixtures("small_blocks")
def test_an_unfinished_line_is_read_once_it_has_ended(write: Write) -> None:
    reader = LineReader()
    assert read(write(b"one\ntw"), reader, has_ended=False) == [Line(0, 1, b"one")]
    assert read(write(b""), reader, has_ended=False) == []
    assert read(write(b"o and more"), reader, has_ended=False) == []
    assert read(write(b"\nx"), reader, has_ended=False) == [Line(4, 2, b"two and more")]
    assert read(write(b""), reader) == [Line(17, 3, b"x")]


def test_a_read_that_was_interrupted_continues(write: Write) -> None:
    log = write(b"".join(b"%d\n" % number for number in range(5_000)))
    reader, numbers = LineReader(), []
    with log:
        while not reader.is_at_end(log):
            for line in reader.read(log, True, time.monotonic() + 0.001):
                numbers.append(int(line.raw))
    assert numbers == list(range(5_000))


def test_an_unfinished_long_line_counts_once_the_job_has_ended(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader, clock = LineReader(), iter((0, 0, 1, 0))  # seconds: the first deadline comes too early
    monkeypatch.setattr(log_lines.time, "monotonic", lambda: next(clock))
    with write(b"x" * 2 * BLOCK) as log:
        assert list(reader.read(log, True, 0.5)) == []
        assert not reader.is_at_end(log)
        assert len(list(reader.read(log, True, 0.5))) == 1
        assert reader.is_at_end(log)


def test_of_a_long_line_the_part_that_matters_is_kept(write: Write) -> None:
    bar = b"".join(b"\r%d %%" % number for number in range(100_000))
    long = b"begin " + b"x" * 300_000
    lines = read(write(bar + b"\n" + long + b"\nend\n"), LineReader())
    assert [line.raw[:20] for line in lines] == [b"99999 %", long[:20], b"end"]
    assert len(lines[1].raw) == KEPT_BYTES
    assert lines[2].offset == len(bar) + len(long) + 2


def test_a_short_line_is_kept_as_it_is() -> None:
    assert shorten_line(b"1 %\r2 %") == b"1 %\r2 %"
