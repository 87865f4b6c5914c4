"""What the benches share: how a figure is taken and printed. It does not import Tailboard."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable


def say(what: str, ours: float, bare: float, unit: str, reach: str = "") -> None:
    print(f"{what:52} {ours:10.4g} {bare:10.4g} {unit:9} ratio {ours / bare:7.3f}  {reach}")


def quantiles(times: list[float]) -> tuple[float, float]:
    """Median and 95th percentile, in ms."""
    times = sorted(times)
    return statistics.median(times) * 1e3, times[int(len(times) * 0.95)] * 1e3


def each(turns: int, call: Callable[[], object]) -> list[float]:
    times = []
    for _ in range(turns):
        begun = time.perf_counter()
        call()
        times.append(time.perf_counter() - begun)
    return times
