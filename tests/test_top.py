"""`tailboard top`: its table, and what it does to the terminal."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
import termios
import time
from contextlib import suppress

import pytest
from command_site import Tailboard
from conftest import ROOT, JobMaker, Processes, free_port, wait_until
from test_usage_api import MIB, start_of, steps, write_usage

from tailboard.cli import top
from tailboard.cli.screen import ENTER, LEAVE
from tailboard.cli.terminal import columns_of
from tailboard.cli.top_table import (
    NOTHING,
    OutputRates,
    Sort,
    TopJob,
    as_object,
    screen_lines,
    sort_jobs,
    table_lines,
)
from tailboard.client import Client

NOW = 1_800_000_000.0
BUSY = TopJob(
    id="20270115-080000-aaaaaaaa",
    title="make test",
    cpu=0.97,
    memory_bytes=1_288_490_189,
    output=2_048.0,
    silent_since=NOW - 3,
    started_at=NOW - 125,
    worker="ci-1-77",
    host="ci-1",
)
SILENT = TopJob(
    "20270115-080001-bbbbbbbb", "sleep", 0.0, MIB, 0.0, NOW - 700, NOW - 4_000, "w", "h"
)
NEW = TopJob("20270115-080002-cccccccc", "行行行", None, None, None, None, None, None, None)


def ids(jobs: list[TopJob]) -> list[str]:
    return [job.id[-1] for job in jobs]


@pytest.mark.parametrize(
    ("sort", "order"), [("cpu", "abc"), ("memory", "abc"), ("output", "abc"), ("silent", "bac")]
)
def test_the_highest_value_comes_first_and_unknown_ones_last(sort: str, order: str) -> None:
    assert "".join(ids(sort_jobs([NEW, SILENT, BUSY], Sort(sort), NOW))) == order


def test_a_line_shows_what_a_job_uses() -> None:
    heading, line, unknown = table_lines([BUSY, NEW], NOW, None)
    assert heading.split() == "ID CPU MEMORY OUTPUT SILENT RUNS FOR HOST TITLE".split()
    assert re.split("  +", line) == [
        *("aaaaaaaa", "97%", "1.2 GiB", "2 KiB/s", "3 s", "2 min 5 s", "ci-1", "make test")
    ]
    assert unknown.split() == ["cccccccc", *"-----", "-", "行行行"]


@pytest.mark.parametrize("columns", [20, 60, 80, 100, 140])
def test_no_line_is_wider_than_the_terminal(columns: int) -> None:
    jobs = [BUSY._replace(title="行" * 200, host="行" * 40), SILENT, NEW]
    lines = screen_lines(jobs, Sort.CPU, NOW, "x" * 300, (columns, 24))
    assert max(sum(map(columns_of, line)) for line in lines) <= columns


def test_titles_begin_in_the_same_column_whatever_the_hosts_are() -> None:
    jobs = [BUSY._replace(title="T", host="行" * 40), SILENT._replace(title="T", host="b")]
    lines = [line.removesuffix("T") for line in table_lines(jobs, NOW, 140)[1:]]
    assert len({sum(map(columns_of, line)) for line in lines}) == 1


def test_no_more_lines_than_the_terminal_has() -> None:
    jobs = [BUSY] * 50
    lines = screen_lines(jobs, Sort.CPU, NOW, "", (80, 10))
    assert len(lines) == 10 and lines[-1] == "and 44 more"
    assert len(screen_lines(jobs, Sort.CPU, NOW, "", (80, 1))) == 1
    assert screen_lines([], Sort.CPU, NOW, "", (80, 10))[-1] == NOTHING


def test_what_a_client_has_written_cannot_control_the_terminal() -> None:
    lines = table_lines([BUSY._replace(title="\x1b]52;c;eA==\x07", host="\x1b[2J")], NOW, None)
    assert "\x1b" not in "".join(lines) and "\x07" not in "".join(lines)


def test_the_output_rate_is_that_between_two_polls() -> None:
    rates = OutputRates()
    row = {"id": "a", "name": "n", "command": "c", "log_size": 100, "started_at": None}
    row |= {"worker": None, "host": None}
    assert rates.read([row], 10.0)[0].output is None
    assert rates.read([row | {"log_size": 1_100}], 12.0)[0].output == 500
    assert rates.read([row | {"log_size": 0}], 14.0)[0].output == 0  # of the next attempt


def test_json_has_numbers() -> None:
    assert as_object(BUSY, NOW) == {
        **{"id": BUSY.id, "title": "make test", "cpu": 0.97, "memory_bytes": 1_288_490_189},
        **{"worker": "ci-1-77", "host": "ci-1", "output_bytes_per_second": 2_048},
        **{"silent_seconds": 3.0, "elapsed_seconds": 125.0},
    }


# --- The command ----------------------------------------------------------------------------------


# If the tests run in the background, they ignore Ctrl-C, and this program would, too.
QUICK_TOP = """
import signal
from tailboard.cli import main, top
signal.signal(signal.SIGINT, signal.default_int_handler)
top.POLL_INTERVAL = 0.2
main.tailboard()
"""


class Terminal:
    """A `tailboard top` on a terminal."""

    def __init__(self, processes: Processes, columns: int, *words: str, **env: str) -> None:
        self.ours, self.its = pty.openpty()
        self.resize(24, columns)
        self.before = termios.tcgetattr(self.its)
        command = [sys.executable, "-c", QUICK_TOP, "top", *words]
        drop = ("COLUMNS", "LINES")
        env = {name: text for name, text in processes.env.items() if name not in drop} | env
        own = {"stdin": self.its, "stdout": self.its, "stderr": self.its}
        self.process = subprocess.Popen(command, cwd=ROOT, env=env, start_new_session=True, **own)
        processes.started.append(self.process)
        os.set_blocking(self.ours, False)
        self.written = ""

    def resize(self, lines: int, columns: int) -> None:
        termios.tcsetwinsize(self.its, (lines, columns))

    def read(self) -> str:
        with suppress(BlockingIOError):
            while piece := os.read(self.ours, 1 << 16):
                self.written += piece.decode(errors="replace")
        return self.written

    def wait_for(self, text: str) -> None:
        wait_until(lambda: text in self.read(), 30, lambda: repr(self.written[-2_000:]))

    def press(self, keys: str) -> None:
        self.written = ""
        os.write(self.ours, keys.encode())

    def ends(self, code: int) -> None:
        """It ends so, and the terminal is as before."""
        assert self.process.wait(30) == code, self.read()
        assert self.read().endswith(LEAVE), repr(self.written[-300:])
        assert termios.tcgetattr(self.its) == self.before
        os.close(self.its)
        os.close(self.ours)


def test_top_shows_jobs_follows_keys_and_sizes_and_leaves_the_terminal_as_it_was(
    processes: Processes, job_maker: JobMaker
) -> None:
    first = job_maker.running(b"hello\n", name="first")
    write_usage(first, steps(start_of(first), 3, 0.5, 300 * MIB))
    shown = Terminal(processes, 120)
    shown.wait_for("first")
    assert shown.written.startswith(ENTER) and "50%" in shown.written and "300 MiB" in shown.written
    assert termios.tcgetattr(shown.its) != shown.before
    assert termios.tcgetattr(shown.its)[6][termios.VSUSP] == b"\0"  # Ctrl-Z
    second = job_maker.running(b"", name="second")
    write_usage(second, steps(start_of(second), 3, 0.25, 900 * MIB))
    shown.wait_for("900 MiB")
    assert shown.written.rindex("first") < shown.written.rindex("second")
    shown.press("m")
    shown.wait_for("sorted by memory")
    shown.wait_for("first")
    assert shown.written.index("second") < shown.written.index("first")
    shown.written = ""
    shown.resize(24, 40)
    shown.wait_for("MEMORY")
    assert "HOST" not in shown.read()
    assert "…" in shown.written
    assert not re.search("…\x1b", shown.written)  # xterm would clear the last character
    shown.press("x\x1aq")
    shown.ends(0)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_the_terminal_as_it_was(
    processes: Processes, job_maker: JobMaker, number: signal.Signals
) -> None:
    shown = Terminal(processes, 80)
    shown.wait_for(NOTHING)
    if number is signal.SIGINT:
        shown.process.send_signal(number)
    else:
        shown.process.terminate()
    shown.ends(128 + number)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(top, "RATE_TIME", 0.01)
    monkeypatch.setattr(top, "POLL_INTERVAL", 0.01)


@pytest.mark.usefixtures("quick")
def test_top_prints_once_if_the_output_is_no_terminal(on_folder: Tailboard) -> None:
    assert on_folder("top").output == f"{NOTHING}\n"
    assert on_folder("top", "--json").output == ""
    for name, cores in (("low", 0.25), ("high", 0.5)):
        held = on_folder.job_maker.running(b"hello\n", name=name)
        write_usage(held, steps(start_of(held), 3, cores, 300 * MIB))
    shown = [json.loads(line) for line in on_folder("top", "--json").output.splitlines()]
    assert [(job["title"], job["cpu"]) for job in shown] == [("high", 0.5), ("low", 0.25)]
    assert {job["output_bytes_per_second"] for job in shown} == {0}
    assert all(job["silent_seconds"] >= 0 and job["host"] == "another-host" for job in shown)
    heading, high, _low = on_folder("top", "--once", "--sort", "cpu").output.splitlines()
    assert heading.startswith("ID") and high.endswith("high") and "300 MiB" in high


@pytest.mark.usefixtures("quick")
def test_while_the_server_does_not_respond_the_last_jobs_stay() -> None:
    with Client(f"http://127.0.0.1:{free_port()}", "", patience=0) as api:
        poller = top.Poller(api)
        poller.jobs, poller.read_at = [BUSY], time.monotonic() - 20
        with poller.in_thread():
            wait_until(poller.note)
        assert re.search(r"does not respond|cannot", poller.note()), poller.note()
        assert poller.note().endswith("; the values are 20 s old")
        assert poller.jobs == [BUSY]
