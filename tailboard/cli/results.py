"""What jobs have written to their logs, as text: progress and results."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from tailboard.cli.target import client

READ_TIME = 10.0  # seconds of a command for reading long logs


def progress_text(progress: Mapping[str, Any]) -> str:
    """Progress in a few words, such as "40 %, orders"."""
    words = [f"{progress['percent']:.0f} %", progress["text"]]
    return ", ".join(word for word in words if word)


def result_lines(results: Mapping[str, str]) -> list[str]:
    return [f"{key}={value}" for key, value in results.items()]


def with_whole_results(jobs: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """These jobs with all of their results. The server reads a long log in steps, one per request,
    so this repeats the request until all of it is read, for READ_TIME at most for all jobs."""
    left = READ_TIME
    for job in jobs:
        begun = time.monotonic()
        while job["results_partial"] and time.monotonic() < begun + left:
            whole = client().job(job["id"])
            job |= {name: whole[name] for name in ("results", "results_partial")}
        left -= time.monotonic() - begun
        yield job
