"""Makes runs whose times the test chooses, for what is usual and what is not."""

from __future__ import annotations

import json
import os
from pathlib import Path

from tailboard.folder.claim import Claim
from tailboard.job import Job
from tailboard.journal import Outcome
from tailboard.logs import SAMPLE
from tailboard.notify.watch import Moment
from tailboard.status import Status
from tailboard.values import parse_time, utc

Piece = tuple[float, str]  # when a job writes what, in seconds since its start
DEPLOY: tuple[Piece, ...] = (
    (3.0, "starting\n"),
    (5.0, "fetching 12 files\n\n"),
    (35.0, "fetched\nmigrating orders\n"),
    (100.0, "migrated\n"),
    (110.0, "indexing\n"),
    (118.0, "indexed\n"),
)


def moment_of_start(job: Job) -> Moment:
    attempt = job.attempts[-1]
    assert attempt.started_monotonic is not None and attempt.started_at is not None
    return Moment(attempt.started_monotonic, parse_time(attempt.started_at))


def end_after(held: Claim, seconds: float, *outputs: float, good: bool = True) -> Job:
    """Ends a job as if it had run for so many seconds and written something at these seconds."""
    begun = moment_of_start(held.job).wall
    status, code = (Status.SUCCEEDED, 0) if good else (Status.FAILED, 1)
    with held:
        samples = [SAMPLE.pack(begun + at, place + 1) for place, at in enumerate(outputs)]
        Path(held.folder, "times").write_bytes(b"".join(samples))
        with held.open_log_for_append() as log:
            log.write(b"x" * len(outputs))
        last = begun + max(outputs, default=0)
        os.utime(Path(held.folder, "output.log"), (last, last))
        return held.finish(Outcome(status, code, finished_at=utc(begun + seconds), final=True))


def write(path: Path, text: str, moment: float) -> None:
    """Writes to a log at this time, in seconds since 1970."""
    with path.open("a") as log:
        log.write(text)
    os.utime(path, (moment, moment))


def rewrite_claim(folder: Path | str, **fields: object) -> None:
    """Changes the claim in the journal of a running job, in place, which keeps its lock."""
    journal = Path(folder, "journal")
    lines = [json.loads(line) for line in journal.read_text().split("\n") if line]
    for line in lines:
        line.get("claimed", {}).update(fields)
    journal.write_text("".join(f"\n{json.dumps(line)}\n" for line in lines))


def write_output(held: Claim, *pieces: Piece) -> None:
    """Writes a log, each piece so many seconds after the start of the job."""
    begun = moment_of_start(held.job).wall
    text, samples = "", b""
    for at, piece in pieces:
        text += piece
        samples += SAMPLE.pack(begun + at, len(text))
    Path(held.folder, "times").write_bytes(samples)
    Path(held.folder, "output.log").write_text(text)
    os.utime(Path(held.folder, "output.log"), (begun + pieces[-1][0],) * 2)


def end_with_output(held: Claim, seconds: float, *pieces: Piece, hint: str | None = None) -> Job:
    """Ends a job as if it had run for so many seconds, and had written each piece at its time. It
    fails if there is a hint, the line that explains why."""
    status, code = (Status.SUCCEEDED, 0) if hint is None else (Status.FAILED, 1)
    finished_at = utc(moment_of_start(held.job).wall + seconds)
    with held:
        write_output(held, *pieces)
        end = Outcome(status, code, finished_at=finished_at, hint=hint, final=True)
        return held.finish(end)
