"""What the benches share: how a figure is declared, taken, printed, and read back from what another
process printed. It does not import Tailboard, so that it can read the figures of any commit."""

from __future__ import annotations

import re
import shutil
import statistics
import time
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import pytest

FAILED = "FAILED"  # how the line of a figure that could not be measured begins
REASON_LENGTH = 400  # characters
NUMBER = r"[-+]?\d[-+.\de]*"
PRINTED = re.compile(
    rf"(?P<what>\S+(?: \S+)*)  +(?P<value>{NUMBER})(?:  +(?P<bare>{NUMBER}))?  +(?P<unit>\S+)"
    r"(?:  .*)?"
)


# --- Taking figures -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Figure:
    """One or more lines of the bench that are measured together. `measure` prints them; it gets an
    empty folder, and raises an error if it cannot measure."""

    name: str  # for --only
    measure: Callable[[Path], None]


def take_figures(figures: Iterable[Figure], root: Path) -> list[str]:
    """Measures each figure, in a new folder in `root`. If one fails, a line with the reason is
    printed and the others still run. Returns the names of those that failed."""
    failed = []
    for figure in figures:
        folder = root / figure.name
        folder.mkdir()
        try:
            figure.measure(folder)
        except (Exception, pytest.skip.Exception, pytest.fail.Exception) as error:
            print(f"{FAILED} {figure.name}: {describe_error(error)}", flush=True)
            failed.append(figure.name)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    return failed


def describe_error(error: BaseException) -> str:
    """The error on one line, and the last line of the bench before it."""
    text = str(error).split("Call log:")[0]  # Playwright lists its attempts, over many lines
    reason = "; ".join(line.strip() for line in text.splitlines() if line.strip())
    frames = traceback.extract_tb(error.__traceback__)
    at = [f for f in frames if Path(f.filename).name.startswith("bench")]
    place = f" ({Path(at[-1].filename).name}:{at[-1].lineno})" if at else ""
    return f"{type(error).__name__}: {reason[:REASON_LENGTH]}{place}"


def each(turns: int, call: Callable[[], object]) -> list[float]:
    """The duration of each of these calls, in seconds."""
    times = []
    for _ in range(turns):
        begun = time.perf_counter()
        call()
        times.append(time.perf_counter() - begun)
    return times


def quantiles(times: list[float]) -> tuple[float, float]:
    """Median and 95th percentile, in ms."""
    times = sorted(times)
    return statistics.median(times) * 1e3, times[int(len(times) * 0.95)] * 1e3


# --- Printing figures -----------------------------------------------------------------------------
# A unit is one word.


def is_rate(unit: str) -> bool:
    """Is a higher value better? For all other units, a lower one is."""
    return unit.endswith("/s")


def say(what: str, ours: float, bare: float, unit: str, target: str = "") -> None:
    """Prints a figure and the same figure of a bare equivalent."""
    print_columns(what, ours, f"{bare:.4g}", unit, f"ratio {ours / bare:7.3f}", target)


def say_alone(what: str, value: float, unit: str, target: str = "") -> None:
    """Prints a figure that has no equivalent."""
    print_columns(what, value, "", unit, "", target)


def print_columns(what: str, value: float, bare: str, unit: str, ratio: str, target: str) -> None:
    line = f"{what:56}  {value:10.4g}  {bare:>10}  {unit:12}  {ratio:13}  {target}"
    print(line.rstrip(), flush=True)


# --- Reading printed figures ----------------------------------------------------------------------


@dataclass(frozen=True)
class Value:
    """A printed figure. If it has a bare equivalent, the value is their ratio, which is much
    steadier on a busy machine."""

    what: str
    value: float
    unit: str  # "ratio" for a ratio
    more_is_better: bool


def parse_figures(printed: str) -> list[Value]:
    """The figures in the output of a bench, in the same order."""
    found = []
    for line in printed.splitlines():
        parts = PRINTED.fullmatch(line)
        if parts is None or line.startswith(FAILED):
            continue
        value, unit = float(parts["value"]), parts["unit"]
        if parts["bare"]:
            ratio = value / float(parts["bare"])
            found.append(Value(parts["what"], ratio, "ratio", is_rate(unit)))
        else:
            found.append(Value(parts["what"], value, unit, is_rate(unit)))
    return found


def parse_failures(printed: str) -> list[str]:
    return [line for line in printed.splitlines() if line.startswith(FAILED)]
