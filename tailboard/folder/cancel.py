"""Cancelling a job: at once if it is queued, else by a request that its worker finds.

The recorder of a job is the process that writes its end into the journal: its worker, or the worker
that adopted it."""

from __future__ import annotations

import errno
import json
import os
import time
from contextlib import suppress

from tailboard.errors import JobNotFound, WrongState, cannot_cancel
from tailboard.files import append_line, fsync_folder, make_empty, mtime, open_private
from tailboard.folder.claim import lock_queued, lock_times, read_cancel_request
from tailboard.folder.job_folders import JobFolders
from tailboard.job import Job
from tailboard.judge import judge
from tailboard.status import FINISHED, Status
from tailboard.values import FULL_ERRNOS, utc

RECORDING_PAUSE = 0.005  # seconds between two checks of a job whose end is being recorded
RECORDING_TIME = 5.0  # seconds after which a cancel stops waiting for such a job


def cancel(folders: JobFolders, job_id: str, reason: str) -> Job:
    """See `Jobs.cancel`, the contract."""
    is_requested, deadline = False, time.monotonic() + RECORDING_TIME
    while True:
        found, folder = folders.locate(job_id)
        if found is Status.CANCELLED and is_requested:  # its recorder has seen the request
            return folders.get(job_id)
        if found in FINISHED:
            if is_requested:  # too late: the recorder had already looked for one
                _withdraw_request(folder)
            raise cannot_cancel(job_id, found)
        with suppress(FileNotFoundError, JobNotFound):  # the job has moved: look again
            if found is Status.QUEUED and (job := cancel_queued(folders, folder, reason)):
                return job
            if _has_just_ended(folders, folder):
                raise WrongState(f"job {job_id} has just ended and can no longer be cancelled")
            request_cancel(folders, folder, reason)
            is_requested = True
            fsync_folder(folder)
            # A worker that held the lock may have released it, because the job is not due: try
            # again.
            if found is Status.QUEUED and (job := cancel_queued(folders, folder, reason)):
                return job
            if _will_be_seen(folders, folder):
                return folders.get(job_id)
            if time.monotonic() > deadline:
                raise OSError(errno.EBUSY, "the end of this job is being recorded")
            time.sleep(RECORDING_PAUSE)


def _has_just_ended(folders: JobFolders, folder: str) -> bool:
    """Has the last attempt ended, with no earlier cancel request and no further attempt to
    come?"""
    attempt = folders.read_attempts(folder, must_read=True)[-1]
    if attempt.exit_code is None and attempt.ended is None:
        return False
    job = folders.load_record(folder, must_read=True)
    if job is None:
        raise FileNotFoundError(errno.ENOENT, "it has moved", folder)
    cancel, changed_at = read_cancel_request(folder), mtime(f"{folder}/journal") or 0.0
    verdict = judge(job.retries, attempt, cancel, folders.boot, changed_at)
    return verdict.status in FINISHED and verdict.status is not Status.CANCELLED


def _will_be_seen(folders: JobFolders, folder: str) -> bool:
    """Is the process that records or claims this job next certain to see the request in its folder?
    Yes if the journal has no `ended` line, because a recorder looks for a request after it has
    written that line. Yes also if no process supervises the job, because the next one judges the
    job again. Otherwise the recorder moves the folder within milliseconds. FileNotFoundError if the
    folder has moved."""
    attempt = folders.read_attempts(folder, must_read=True)[-1]
    if attempt.ended is None and os.path.isdir(folder):
        return True
    try:
        os.close(lock_times(folder))
    except BlockingIOError:
        return False
    return True


def _withdraw_request(folder: str) -> None:
    """Remove a request that came too late, so that it cannot change the recorded end."""
    with suppress(OSError):
        os.unlink(f"{folder}/cancel")
    with suppress(OSError):  # a folder of the reserve
        os.rmdir(f"{folder}/cancel")


def cancel_queued(folders: JobFolders, folder: str, reason: str) -> Job | None:
    """Cancel a queued job and return it. Returns None if the job is locked, because another process
    is about to start or move it, or if the disk is too full for a line. A file `cancel` stays in
    the folder, for the process that reads the job next."""
    with suppress(BlockingIOError), lock_queued(folders, folder) as claim:
        verdict = claim.read_verdict()
        is_to_cancel = verdict.status is Status.CANCELLED and not verdict.recorded
        has_ended = verdict.recorded or claim.attempt.exit_code is not None
        if verdict.status in FINISHED and has_ended and not is_to_cancel:
            raise cannot_cancel(claim.job.id, verdict.status)
        claim.mask_log()
        line = {"status": Status.CANCELLED, "reason": reason, "finished_at": utc()}
        count, size = claim.final_files()
        files = {"files_count": count, "files_bytes": size}
        try:
            append_line(claim.shim_input(), {"ended": line | files})
            os.fsync(claim.shim_input())
        except OSError as error:
            if error.errno not in FULL_ERRNOS:
                raise
            return None
        return claim.move_to_ended(Status.CANCELLED)
    return None


def cancel_running(folders: JobFolders, folder: str, reason: str) -> None:
    """Request that a running job be cancelled, unless it has just ended. Unlike `cancel`, this does
    not wait while the end of the job is being recorded."""
    if os.path.lexists(f"{folder}/cancel") or _has_just_ended(folders, folder):
        return
    request_cancel(folders, folder, reason)
    fsync_folder(folder)


def request_cancel(folders: JobFolders, folder: str, reason: str) -> None:
    """Make the file `cancel`, unless there is a request already. It appears only with its content:
    a reader that found it empty would record the cancel without its reason."""
    path, draft = f"{folder}/cancel", f"{folder}/cancel-{os.urandom(4).hex()}"
    if os.path.lexists(path):
        return
    try:
        with open(draft, "xb", opener=open_private) as file:
            file.write(json.dumps({"reason": reason}).encode() + b"\n")
            file.flush()
            os.rename(draft, path)
            os.fsync(file.fileno())
    except IsADirectoryError:  # another request has taken a reserve folder
        os.unlink(draft)
    except OSError as error:
        if error.errno not in FULL_ERRNOS:
            raise
        with suppress(FileNotFoundError):
            os.unlink(draft)
        _request_on_full_disk(folders, path)


def _request_on_full_disk(folders: JobFolders, path: str) -> None:
    """An empty file is enough: it needs no block. If no inode is left, a reserve folder takes
    its name."""
    try:
        make_empty(path)
    except FileExistsError:
        pass
    except OSError as error:
        if error.errno not in FULL_ERRNOS:
            raise
        folders.use_reserve(path)
