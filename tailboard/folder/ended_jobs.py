"""The ended jobs of a folder, as the rules of keep_rules.py need them."""

from __future__ import annotations

import heapq
import os
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from itertools import groupby

from tailboard.files import mtime
from tailboard.folder.ended_table import EndedTable, Origins
from tailboard.folder.files_folder import measure_files_in_steps
from tailboard.folder.job_folders import JobFolders
from tailboard.job_files import MAX_LISTED
from tailboard.keep_rules import Origin
from tailboard.logs import disk_usage
from tailboard.prune_pass import Scan
from tailboard.status import FINISHED, Status

Home = tuple[str, Status, str]  # a day, a status, the folder with the jobs that ended so


class EndedJobs:
    """Finds the ended jobs, newest first. Each job's record is read once per process."""

    def __init__(self, folders: JobFolders) -> None:
        self._folders = folders
        self._tables: dict[str, EndedTable] = {}  # by folder
        self._origins = Origins()

    def scan(self, measures_logs: bool) -> Scan:
        """The jobs. `measures_logs`: otherwise their logs count as empty, which saves a call of the
        system for each job."""
        homes = self._homes()
        for gone in self._tables.keys() - {folder for _, _, folder in homes}:
            del self._tables[gone]
        for _, day in groupby(homes, key=lambda home: home[0]):
            parts = []
            for _, status, folder in day:
                table = self._tables.setdefault(folder, EndedTable())
                yield from table.align(self._folders.names_in(folder))
                yield from self._read_unknown(table, status, folder)
                measure = self._log_measure(folder) if measures_logs else None
                parts.append(table.iter_jobs(status, measure))
            yield from heapq.merge(*parts, reverse=True)

    def _homes(self) -> list[Home]:
        """The folders of days, newest day first."""
        found = [
            (os.path.basename(folder), status, folder)
            for status in FINISHED
            for folder in self._folders.folders_of(status)
        ]
        return sorted(found, reverse=True)

    @staticmethod
    def _log_measure(folder: str) -> Callable[[str], int]:
        return lambda job_id: disk_usage(f"{folder}/{job_id}/output.log")

    def _read_unknown(self, table: EndedTable, status: Status, folder: str) -> Iterator[None]:
        for place in table.unknown():
            path = f"{folder}/{table.names[place]}"
            with suppress(OSError):  # it is tried again in the next pass
                origin = self._origin(path)
                if origin is not None:
                    files_bytes = yield from self._measure_files(path)
                    table.put(place, origin, ended_at(path), 0, files_bytes)
            yield

    def _origin(self, path: str) -> Origin | None:
        """What the rules need of the job's record; None if it was deleted."""
        if os.path.islink(path):
            return None
        job = self._folders.load_record(path, must_read=True)
        return None if job is None else self._origins.of(job)

    def _measure_files(self, path: str) -> Generator[None, None, int]:
        """Bytes of the job's files, as its worker has recorded them, or as they are."""
        if not os.path.lexists(f"{path}/files"):
            return 0
        ended = self._folders.read_attempts(path)[-1].ended
        if ended is not None and ended.files_count is not None and ended.files_count < MAX_LISTED:
            return ended.files_bytes or 0
        return (yield from measure_files_in_steps(path))


def ended_at(folder: str) -> float:
    """When a finished job ended: the record was the last write to its journal. If the job has
    removed that, and its record, the last change of its folder."""
    for name in ("journal", "job.json", "."):
        if (changed := mtime(f"{folder}/{name}")) is not None:
            return changed
    return 0.0
