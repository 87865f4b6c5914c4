"""Compare this checkout with another, by figures of bench.py that each measures in turn.

    python tests/bench_against.py HEAD~3 --only two-slots,tail-requests
    python tests/bench_against.py ../other-checkout --rounds 5 --page

Each checkout measures itself, with its own bench.py, in a process of its own: this one, the other,
this one, the other. What bench.py takes (--only, --page, --jobs 100) is passed on to both. Prints
the median of each figure in both, and the median, lowest and highest of how many times better this
checkout was in a round: a number below 1 means that the other one was better. A figure beside
something bare is compared by its ratio to that. The exit code is 1 if a figure failed, or if a
bench could not run.
"""

from __future__ import annotations

import argparse
import math
import signal
import statistics
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

from figures import Value, parse_failures, parse_figures

ROOT = Path(__file__).resolve().parent.parent
WORSE = 0.95  # times better: below this, a figure is marked

Rounds = dict[str, dict[int, Value]]  # the values of each figure, by the number of the round


def main() -> None:
    layout = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=layout, allow_abbrev=False
    )
    parser.add_argument("other", help="a commit of this repository, or the folder of a checkout")
    parser.add_argument("--rounds", type=int, default=3)
    asked, options = parser.parse_known_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # remove the copy, as at Ctrl-C
    comparison = Comparison()
    try:
        with checkout(asked.other) as other:
            comparison.measure({"this": ROOT, "other": other}, asked.rounds, options)
    except KeyboardInterrupt:
        comparison.failures.append("interrupted")
    comparison.print()
    if comparison.failures:
        sys.exit(1)


@contextmanager
def checkout(other: str) -> Iterator[Path]:
    """The folder of the other checkout. A commit is copied next to the folder that bench.py
    measures, so that both are on one file system."""
    if Path(other).is_dir():
        yield Path(other).resolve()
        return
    archive = subprocess.run(
        ["git", "archive", "--format=tar", other], cwd=ROOT, stdout=subprocess.PIPE, check=True
    )
    with tempfile.TemporaryDirectory(dir=ROOT / "tests") as folder:
        with tarfile.open(fileobj=BytesIO(archive.stdout)) as tar:
            tar.extractall(folder, filter="data")
        yield Path(folder)


class Comparison:
    """The measurements of both sides so far, and the figures that failed."""

    def __init__(self) -> None:
        self.rounds: dict[str, Rounds] = {"this": {}, "other": {}}
        self.failures: list[str] = []

    def measure(self, folders: dict[str, Path], count: int, options: list[str]) -> None:
        """Runs the bench of each side in turn, for this many rounds."""
        for number in range(1, count + 1):
            for side, folder in folders.items():
                print(f"round {number} of {count}: {side}", file=sys.stderr, flush=True)
                printed, failures = run_bench(folder, options)
                self.failures += [f"round {number}, {side}: {failure}" for failure in failures]
                for value in parse_figures(printed):
                    self.rounds[side].setdefault(value.what, {})[number] = value

    def print(self) -> None:
        """Prints a line for each figure that both sides have, and then the failures."""
        print(f"{'':56}  {'this':>10}  {'other':>10}  {'':12}  better   lowest  highest")
        for what, these in self.rounds["this"].items():
            others = self.rounds["other"].get(what, {})
            pairs = [(these[number], others[number]) for number in these.keys() & others.keys()]
            if pairs:
                print_pairs(pairs)
        for failure in self.failures:
            print(failure)


def run_bench(folder: Path, options: list[str]) -> tuple[str, list[str]]:
    """The output of a checkout's bench, and an error message if it failed."""
    command = [sys.executable, "tests/bench.py", *options]
    pipe = subprocess.PIPE
    bench = subprocess.Popen(command, cwd=folder, stdout=pipe, stderr=pipe, text=True)
    try:
        printed, errors = bench.communicate()
    finally:  # even if this program was interrupted: the bench ends its own programs
        if bench.poll() is None:
            bench.terminate()
        bench.wait()
    failures = parse_failures(printed)
    if bench.returncode != 0 and not failures:
        last = errors.strip().rpartition("\n")[2]
        failures = [f"bench.py ended with exit code {bench.returncode}: {last}"]
    return printed, failures


def print_pairs(pairs: list[tuple[Value, Value]]) -> None:
    """Prints a line for one figure, from the values of both sides in each round."""
    what, unit = pairs[0][0].what, pairs[0][0].unit
    this, other = (
        statistics.median(value.value for value in side) for side in zip(*pairs, strict=True)
    )
    better = sorted(times_better(*pair) for pair in pairs)
    median = statistics.median(better)
    print(
        f"{what:56}  {this:10.4g}  {other:10.4g}  {unit:12}  {median:6.3f}  "
        f"{better[0]:7.3f}  {better[-1]:7.3f}{'  WORSE' if median < WORSE else ''}"
    )


def times_better(this: Value, other: Value) -> float:
    """How many times better this checkout is; above 1 if it is better."""
    better, worse = (this, other) if this.more_is_better else (other, this)
    if better.value == worse.value:
        return 1.0
    return better.value / worse.value if worse.value else math.inf


if __name__ == "__main__":
    main()
