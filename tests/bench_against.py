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
    with checkout(asked.other) as other:
        rounds, failures = measure_in_turn({"this": ROOT, "other": other}, asked.rounds, options)
    print_comparison(rounds["this"], rounds["other"])
    for failure in failures:
        print(failure)
    if failures:
        sys.exit(1)


@contextmanager
def checkout(other: str) -> Iterator[Path]:
    """The folder of the other checkout; of a commit, a copy next to what bench.py measures, so that
    both are on one file system."""
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


def measure_in_turn(
    sides: dict[str, Path], count: int, options: list[str]
) -> tuple[dict[str, Rounds], list[str]]:
    """The figures of each side, and what failed."""
    rounds: dict[str, Rounds] = {name: {} for name in sides}
    failures = []
    for number in range(count):
        for name, folder in sides.items():
            print(f"round {number + 1} of {count}: {name}", file=sys.stderr, flush=True)
            printed, failed = run_bench(folder, options)
            failures += [f"round {number + 1}, {name}: {line}" for line in failed]
            for value in parse_figures(printed):
                rounds[name].setdefault(value.what, {})[number] = value
    return rounds, failures


def run_bench(folder: Path, options: list[str]) -> tuple[str, list[str]]:
    """What the bench of a checkout prints, and why it failed, if it did."""
    command = [sys.executable, "tests/bench.py", *options]
    ended = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    failures = parse_failures(ended.stdout)
    if ended.returncode != 0 and not failures:
        last = ended.stderr.strip().rpartition("\n")[2]
        failures = [f"bench.py ended with exit code {ended.returncode}: {last}"]
    return ended.stdout, failures


def print_comparison(this: Rounds, other: Rounds) -> None:
    """A line for each figure that both sides have."""
    print(f"{'':56}  {'this':>10}  {'other':>10}  {'':12}  better   lowest  highest")
    for what, values in this.items():
        both = values.keys() & other.get(what, {}).keys()
        if not both:
            continue
        unit = next(iter(values.values())).unit
        medians = [statistics.median(side[what][n].value for n in both) for side in (this, other)]
        ratios = sorted(times_better(values[number], other[what][number]) for number in both)
        median = statistics.median(ratios)
        print(
            f"{what:56}  {medians[0]:10.4g}  {medians[1]:10.4g}  {unit:12}  {median:6.3f}  "
            f"{ratios[0]:7.3f}  {ratios[-1]:7.3f}{'  WORSE' if median < WORSE else ''}"
        )


def times_better(this: Value, other: Value) -> float:
    """Above 1 if this one is better."""
    better, worse = (this, other) if this.more_is_better else (other, this)
    if better.value == worse.value:
        return 1.0
    return better.value / worse.value if worse.value else math.inf


if __name__ == "__main__":
    main()
