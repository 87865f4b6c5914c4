"""The benches, apart from what they measure: one figure that fails stops no other, and what is
printed can be read back and compared."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import bench_notify
import pytest
from conftest import ROOT, need
from figures import Figure, parse_figures, say, say_alone, take_figures


def test_a_failed_measurement_is_reported_and_the_others_continue(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(folder: Path) -> None:
        (folder / "left behind").write_text("")
        raise RuntimeError("the view is paused\n  40,400 new\nCall log:\n - tried this")

    figures = [
        Figure("broken", fail),
        Figure("missing", lambda folder: need("no-such-program")),
        Figure("wrong", lambda folder: pytest.fail("not as expected")),
        Figure("good", lambda folder: say_alone("a figure", 1, "ms")),
    ]
    assert take_figures(figures, tmp_path) == ["broken", "missing", "wrong"]
    first, _, _, last = capsys.readouterr().out.splitlines()
    assert first == "FAILED broken: RuntimeError: the view is paused; 40,400 new"
    assert last.startswith("a figure  ")
    assert not list(tmp_path.iterdir())


def test_printed_figures_can_be_read_back(capsys: pytest.CaptureFixture[str]) -> None:
    say("jobs/s, 2 slots: worker : durable", 123_456, 0.5, "1/s", "target 0.8")
    say_alone("a very long name of a figure, longer than its column is wide", 0, "requests/min")
    say_alone("heap of a long log", 1.5, "MiB", "2000 lines kept")
    print("FAILED broken: Error: 1  2  ms")
    printed = capsys.readouterr().out
    values = [tuple(vars(found).values()) for found in parse_figures(printed)]
    assert values == [
        ("jobs/s, 2 slots: worker : durable", 247_000, "ratio", True),
        ("a very long name of a figure, longer than its column is wide", 0, "requests/min", False),
        ("heap of a long log", 1.5, "MiB", False),
    ]


BENCH = """
import sys
from pathlib import Path
from figures import say, say_alone

assert sys.argv[1:] == ["--only", "a,b"], sys.argv
with Path("runs").open("a") as runs:
    runs.write("x")
    turn = runs.tell()
say("jobs/s", RATE * turn, 100, "1/s")
say_alone("latency", LATENCY, "ms")
if turn == 2 and LATENCY == 20:
    print("FAILED b: RuntimeError: no luck")
    sys.exit(1)
"""


def write_bench(checkout: Path, rate: int, latency: int) -> None:
    """Writes a bench that measures nothing and whose rate grows from run to run."""
    (checkout / "tests").mkdir(parents=True, exist_ok=True)
    script = BENCH.replace("RATE", str(rate)).replace("LATENCY", str(latency))
    (checkout / "tests" / "bench.py").write_text(script)
    for name in ("figures.py", "bench_against.py"):
        shutil.copy(ROOT / "tests" / name, checkout / "tests")


def compare(this: Path, other: str) -> subprocess.CompletedProcess[str]:
    options = ("--rounds", "3", "--only", "a,b")
    command = [sys.executable, "tests/bench_against.py", other, *options]
    return subprocess.run(command, cwd=this, capture_output=True, text=True)


def is_comparison(result: subprocess.CompletedProcess[str]) -> None:
    """Checks the comparison of rates 90, 180, 270 and 100, 200, 300 and of latencies 10 and 20,
    taken in turn."""
    lines = [line.split() for line in result.stdout.splitlines()[1:]]
    assert lines[0] == "jobs/s 1.8 2 ratio 0.900 0.900 0.900 WORSE".split(), result
    assert lines[1] == "latency 10 20 ms 2.000 2.000 2.000".split()
    assert " ".join(lines[2]) == "round 2, other: FAILED b: RuntimeError: no luck"
    assert result.returncode == 1 and len(lines) == 3
    turns = [line.rpartition(" ")[2] for line in result.stderr.splitlines()]
    assert turns == ["this", "other"] * 3


def test_two_checkouts_are_measured_in_turn_and_compared(tmp_path: Path) -> None:
    write_bench(tmp_path / "this", rate=90, latency=10)
    write_bench(tmp_path / "other", rate=100, latency=20)
    is_comparison(compare(tmp_path / "this", "../other"))


def test_a_commit_is_measured_without_uncommitted_changes(tmp_path: Path) -> None:
    write_bench(tmp_path, rate=100, latency=20)
    author = ("-c", "user.name=a", "-c", "user.email=a@localhost")
    for words in (("init", "-q"), ("add", "."), (*author, "commit", "-q", "-m", "before")):
        subprocess.run([need("git"), *words], cwd=tmp_path, check=True)
    write_bench(tmp_path, rate=90, latency=10)
    is_comparison(compare(tmp_path, "HEAD"))
    assert not [path for path in (tmp_path / "tests").iterdir() if path.name.startswith("tmp")]


def test_a_bench_that_cannot_run_is_reported_with_its_output(tmp_path: Path) -> None:
    write_bench(tmp_path / "this", rate=90, latency=10)
    write_bench(tmp_path / "other", rate=100, latency=20)
    (tmp_path / "other" / "tests" / "bench.py").write_text("import no_such_module")
    result = compare(tmp_path / "this", "../other")
    assert result.returncode == 1
    assert "round 1, other: bench.py ended with exit code 1: ModuleNotFound" in result.stdout


def test_the_cost_of_late_and_silent_jobs_is_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bench_notify.watching(tmp_path, jobs=20, seconds=130)
    (found,) = parse_figures(capsys.readouterr().out)
    assert found.what == "late and silent, 20 running jobs" and 0 < found.value < 100


def test_the_cost_of_estimating_the_progress_of_jobs_is_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bench_notify.estimating(tmp_path, jobs=5, rounds=2)
    (found,) = parse_figures(capsys.readouterr().out)
    assert found.what == "GET /jobs, 5 running jobs, estimated : known" and found.value > 0
