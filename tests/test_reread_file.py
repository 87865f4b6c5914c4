"""A file that a person edits while the API runs: its newest content counts, whatever happens at the
same moment."""

from __future__ import annotations

import os
import resource
import threading
import time
from pathlib import Path

import pytest

from tailboard.web.reread_file import RereadFile


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "tokens"
    write(path, "old", 3_600)
    return path


def write(path: Path, content: str, age: float) -> None:
    """`age`: the seconds since this change, so that two changes have different times."""
    path.write_text(content)
    changed_at = time.time() - age
    os.utime(path, (changed_at, changed_at))


def test_a_slow_request_does_not_bring_an_older_file_back(path: Path) -> None:
    has_read, may_end = threading.Event(), threading.Event()

    def parse(content: bytes) -> str:
        if content == b"old":
            has_read.set()
            assert may_end.wait(30)
        return content.decode()

    file = RereadFile("TAILBOARD_TOKENS", str(path), parse, "")
    slow, quick = threading.Thread(target=file.refresh), threading.Thread(target=file.refresh)
    slow.start()
    assert has_read.wait(30)
    write(path, "new", 1_800)
    quick.start()
    quick.join(0.2)  # it waits for the slow one; if it did not, it would end by now
    may_end.set()
    slow.join()
    quick.join()
    assert file.known == "new"


def test_a_file_that_could_not_be_read_is_read_at_the_next_request(path: Path) -> None:
    file = RereadFile("TAILBOARD_TOKENS", str(path), bytes.decode, "")
    file.refresh()
    write(path, "new", 1_800)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.open(path, os.O_RDONLY)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, limits[1]))
    try:
        file.refresh()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert file.known == "old"
    file.refresh()
    assert file.known == "new"
