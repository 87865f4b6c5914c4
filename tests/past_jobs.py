"""Folders with jobs that ended long ago, for the tests of retention."""

from __future__ import annotations

import json
import os
import time
from itertools import count
from pathlib import Path
from typing import Any

from tailboard.folder.folder_store import FolderStore
from tailboard.folder.retention import CLOCK_TRIAL, Retention
from tailboard.job import Job, encode_record
from tailboard.journal import Outcome
from tailboard.status import Status
from tailboard.values import first_id, utc

DAY = 86_400.0  # seconds


def trust_clock(storage: FolderStore, trusted: bool = True) -> None:
    """Sets the state after an hour in which no clock jumped."""
    now = time.monotonic()
    ledger = Retention(storage.boot, time.time() - now, now - CLOCK_TRIAL * trusted, now)
    with open(f"{storage.root}/retention", "wb") as file:
        ledger.write(file.fileno())


def put_ended(
    storage: FolderStore,
    ended_at: float,
    status: Status = Status.SUCCEEDED,
    job_id: str | None = None,
    log_bytes: int = 0,
    files_bytes: int = 0,
    **fields: Any,
) -> str:
    """Stores a job that ended at this time, in seconds since 1970. Returns its ID."""
    job = Job(**{"command": "true", "id": job_id or new_id_at(ended_at)} | fields)
    folder = Path(storage.root, status, job.id[:8], job.id)
    folder.mkdir(parents=True)
    (folder / "job.json").write_bytes(encode_record(job))
    if log_bytes:
        (folder / "output.log").write_bytes(b"x" * log_bytes)
    if files_bytes:
        (folder / "files").mkdir()
        (folder / "files" / "report").write_bytes(b"x" * files_bytes)
    ended = Outcome(status, finished_at=utc(ended_at)).ended_line()
    (folder / "journal").write_text(f"\n{json.dumps({'ended': ended})}\n")
    os.utime(folder / "journal", (ended_at, ended_at))
    return job.id


numbers = count()


def new_id_at(moment: float) -> str:
    """An ID of a job that was submitted then; they differ."""
    return first_id(moment)[:-4] + f"{next(numbers):04d}"


def prune(storage: FolderStore, days: int = 0, max_bytes: int = 0) -> None:
    for _ in storage.prune(days, max_bytes):
        pass


def left_in(storage: FolderStore) -> set[str]:
    return set(storage.iter_finished_ids())
