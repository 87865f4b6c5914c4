"""A machine's spool: the jobs folder of the jobs that it took from Redis."""

from __future__ import annotations

import errno
import json
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace

from tailboard.errors import JobDamaged, JobError, cannot_delete
from tailboard.files import (
    SMALL_FILE,
    append_line,
    fsync_file,
    fsync_folder,
    is_damage,
    lock_file,
    make_empty,
    make_once,
    open_private,
    open_regular,
    paths_in,
    read_small,
    remove_tree,
    remove_tree_in_steps,
    replace_file,
)
from tailboard.folder.access import naming_setting
from tailboard.folder.cancel import cancel_queued, request_cancel
from tailboard.folder.claim import Claim, lock_queued, lock_times
from tailboard.folder.folder_store import FolderStore
from tailboard.folder.job_folders import LOOKUPS
from tailboard.folder.job_secrets import JobSecrets
from tailboard.folder.lanes import Entry
from tailboard.folder.retention import Retention
from tailboard.folder.secret_params import FILE as SECRET_PARAMS
from tailboard.folder.secret_params import drop_params, seal_params, unseal_params
from tailboard.job import Job, parse_record
from tailboard.journal import cancelled_line, parse_journal, token_in
from tailboard.judge import Verdict
from tailboard.keep_rules import Rules
from tailboard.logs import Log
from tailboard.machines.messages import (
    SPOOL_RE,
    Assignment,
    LogTail,
    SampleFile,
    SpoolEntry,
    is_over,
)
from tailboard.machines.spool_instances import SpoolInstances
from tailboard.masking import MaskedLog, SecretsDamaged
from tailboard.notices import Kind
from tailboard.notifier import Notifier
from tailboard.saved_rules import SavedRules
from tailboard.status import FINISHED, Status
from tailboard.values import ID_RE, RESOURCE_ERRNOS, is_queue_name
from tailboard.workers import parse_pause

NEXT_STARTED = "next-started"  # in a job's folder: the run that follows it was submitted
FILES = "files"  # in a job's folder: its files
TIMES_KEPT = 4 << 20  # bytes of a log's samples: enough for three days with output every second
USAGE_KEPT = 210_000  # bytes of a job's `usage`, which has MOST_RECORDS at most


class AllNames(Mapping[str, Rules | None]):
    """The same rules for each name."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules

    def __getitem__(self, name: str) -> Rules:
        return self._rules

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


class RulesOfRedis(SavedRules):
    """Redis knows the saved commands, and orders the spool to delete their jobs. Until then the
    spool keeps them, whatever their age and number."""

    RULES = Rules(keep_runs=sys.maxsize)

    def all(self) -> Mapping[str, Rules | None]:
        return AllNames(self.RULES)

    def of(self, name: str) -> Rules | None:
        return self.RULES


class Spool(FolderStore):
    """The jobs from Redis that this machine runs or has run. It is a jobs folder like any other,
    into which the relay puts jobs for the workers. It also contains:

        name            this folder's name in Redis, made once
        epoch           the epoch of Redis with which the spool's jobs and pauses were compared last
        limits          the limits of queues in Redis: JSON, by queue
        relay           the relay holds its flock
        instances       the last runs of the relay in this very folder, see SpoolInstances
        taken/ID/       a job that was taken from Redis and is not confirmed: no worker sees it yet
        returned/QUEUE/ID/    a job to be queued in Redis again, for any machine
        kept-files/ID/  the files of a job that was returned, for its next attempt on this machine

    If a journal contains {"taken": "SPOOL:N"}, Redis knows the job by that token. If a job's folder
    contains the empty file NEXT_STARTED, Redis has submitted the run that follows the job."""

    EXTRA = ("taken", "returned")
    OWN_FOLDERS = (*EXTRA, "kept-files")
    decides_turns = False  # Redis does, when it hands out jobs

    def __init__(self, root: str | os.PathLike[str]) -> None:
        super().__init__(root)
        self.name = self._read_name()
        self.instances = SpoolInstances(self.root, self.name, self.boot)

    def _make_folders(self) -> None:
        super()._make_folders()
        for name in self.OWN_FOLDERS:
            os.makedirs(f"{self.root}/{name}", mode=0o700, exist_ok=True)

    def requeue_home(self, job: Job) -> str:
        return f"{self.root}/returned/{job.queue}"  # Redis queues it again, for any machine

    def _read_name(self) -> str:
        """The spool's name. It is made once, from the host name and a random part, because several
        hosts can have the same name, and one host can have several spools."""
        path = f"{self.root}/name"
        host = re.sub("[^a-zA-Z0-9-]", "-", os.uname().nodename)[:24]
        if not os.path.lexists(path):
            own_name = f"{host}-{os.urandom(4).hex()}".encode()
            if make_once(path, own_name, f"{self.root}/tmp"):
                self._set_aside_foreign()
        # Even if another worker made it: a power cut must not undo a name that Redis knows.
        fsync_folder(self.root)
        fsync_folder(os.path.dirname(self.root))
        name = read_small(path).decode(errors="replace")
        if not SPOOL_RE.fullmatch(name):
            raise ValueError(f"{path} does not contain the name of a spool")
        return name

    def _set_aside_foreign(self) -> None:
        """Set aside the unfinished jobs of a folder that gets a new name, as a copy does: they
        belong to another machine and must not run here as well."""
        for home in (f"{self.root}/taken", f"{self.root}/running", *self._queue_folders()):
            for job_id in self.names_in(home):
                with suppress(BlockingIOError, FileNotFoundError):  # supervised here, or moving
                    self._set_aside_unless_alive(f"{home}/{job_id}")

    def _set_aside_unless_alive(self, folder: str) -> None:
        """Set aside a job unless its shim is alive; BlockingIOError if a worker supervises it."""
        with Claim(self, folder, lock_times(folder), None) as claim:
            with suppress(JobDamaged):  # without a journal it cannot be alive
                if not claim.acquire_lock():
                    return
            self.move_aside(folder, "its spool was renamed")

    def check_name(self) -> None:
        """OSError if the folder is missing, or another spool has replaced it. Its jobs are not lost
        then."""
        if read_small(f"{self.root}/name").decode(errors="replace") != self.name:
            raise OSError(errno.ENOENT, "another spool has replaced it", self.root)

    def lock_relay(self) -> int | None:
        """Lock the right to report to Redis for this spool, until the returned descriptor is
        closed. None if another worker has the lock."""
        return lock_file(f"{self.root}/relay", os.O_RDWR | os.O_CREAT)

    @contextmanager
    def retention(self, redis_clock: float) -> Iterator[Retention]:
        """What this machine knows about the clock of Redis, for deleting jobs from Redis by age."""
        fd = open_regular(f"{self.root}/retention-redis", os.O_RDWR | os.O_CREAT)
        try:
            retention = Retention.read(fd, self.boot, redis_clock)
            yield retention
            retention.write(fd)
        finally:
            os.close(fd)

    def _hold_until_due(self, claim: Claim, entry: Entry, verdict: Verdict) -> bool:
        """Always true: Redis, whose clock counts for all machines, assigned the job when it was
        due."""
        return True

    def is_own_host(self, claimed: str | None, host: str) -> bool:
        """A spool belongs to one machine, which may be renamed: a container gets a new host name
        with each start."""
        return True

    def saved_rules(self) -> SavedRules:
        return RulesOfRedis(self.saved)

    def start_next(self, job: Job) -> str | None:
        """Nothing to do: the report of the job's end, with which Redis records it, does it."""
        return None

    def request_notice(self, job: Job, kind: Kind, text: str = "") -> None:
        """Nothing to do: Redis makes the request when it gets the report."""

    # What the relay reads

    def ids(self) -> list[str]:
        """The IDs of all jobs here, first those that have not ended."""
        found = [*self.names_in(f"{self.root}/taken"), *self.names_in(f"{self.root}/running")]
        for folder in self._queue_folders():
            found += self.names_in(folder)
        for status in FINISHED:
            for folder in self.folders_of(status):
                found += self.names_in(folder)
        return found

    def taken(self) -> Sequence[str]:
        """The IDs of the jobs that are taken and not confirmed."""
        return self.names_in(f"{self.root}/taken")

    def active(self) -> set[str]:
        """The IDs of the jobs that wait here for a worker, run, or are to be returned."""
        found = set(self.names_in(f"{self.root}/running"))
        for folder in self._queue_folders():
            found.update(self.names_in(folder))
        return found

    def _queue_folders(self) -> list[str]:
        """The folders of the queues in queued/ and returned/."""
        return [*paths_in(f"{self.root}/queued"), *paths_in(f"{self.root}/returned")]

    def watch_active(self) -> Notifier:
        """A notifier for the folders of active jobs. The caller adds the folder of each job."""
        names = ("running", "queued", "returned", "workers", "returned/default", "queued/default")
        os.makedirs(f"{self.root}/returned/default", mode=0o700, exist_ok=True)
        return Notifier(*(f"{self.root}/{name}" for name in names))

    def read_entry(
        self, job_id: str, known: SpoolEntry | None = None, must_read: bool = False
    ) -> SpoolEntry | None:
        """The job as it is now; None if it is not here, is not from Redis, or cannot be read.
        `known`: an earlier result, whose record need not be read again. `must_read`: raise an
        OSError if the disk prevents reading."""
        for _ in range(LOOKUPS):  # a job can move past the search
            for place, folder in self._places(job_id):
                try:
                    return self._read_entry_at(job_id, place, folder, known)
                except FileNotFoundError:
                    continue
                except OSError as error:
                    if error.errno in RESOURCE_ERRNOS or (must_read and not is_damage(error)):
                        raise
                    self.errors.report(f"{place}/{job_id}", error)
                    return None
        return None

    def read_entries(self, ids: Iterable[str]) -> Sequence[SpoolEntry]:
        """The current state of those jobs that are here and came from Redis."""
        entries = map(self.read_entry, ids)
        return [entry for entry in entries if entry is not None]

    def holds(self, job_id: str) -> bool:
        """Is this job here, in any state? Only the relay adds one."""
        return any(os.path.isdir(folder) for _, folder in self._places(job_id))

    def _places(self, job_id: str) -> Iterator[tuple[str, str]]:
        """("taken", "returned" or a status; the folder) of each possible place, in the order in
        which a job moves. None for a text that is not an ID: it might lead out of the spool."""
        if not ID_RE.fullmatch(job_id):
            return
        yield "taken", f"{self.root}/taken/{job_id}"
        for status in Status:
            for home in self.folders_of(status, job_id[:8]):
                yield status, f"{home}/{job_id}"
        for queue in self.names_in(f"{self.root}/returned", is_queue_name):
            yield "returned", f"{self.root}/returned/{queue}/{job_id}"

    def _read_entry_at(
        self, job_id: str, place: str, folder: str, known: SpoolEntry | None
    ) -> SpoolEntry | None:
        """Read the job in this folder. The journal is read before the log's size, so that the size
        is final if the journal says that the job has ended."""
        # Before the journal, which cannot be read if the folder has moved: then its values would
        # only seem to be gone.
        has_values = os.path.lexists(f"{folder}/{SECRET_PARAMS}")
        journal = self._read_journal(folder)
        size, held, start, at = self._read_log_state(job_id, place, folder)
        status = Status.QUEUED if place in self.EXTRA else Status(place)
        has_files = place in FINISHED and os.path.lexists(f"{folder}/{FILES}")
        token = token_in(journal)
        if known is not None and token in (known.token, ""):  # "": the journal was destroyed
            new = replace(known, status=status, place=place, folder=folder, journal=journal)
            new.log_size, new.log_held, new.log_start, new.log_at = size, held, start, at
            new.has_secret_values, new.has_files = has_values, has_files
            return new
        record = read_small(f"{folder}/job.json")
        if not token.startswith(f"{self.name}:"):
            return None
        queue = "default"
        with suppress(ValueError, RecursionError):  # the job has changed its own record
            queue = parse_record(record, job_id).queue
        return SpoolEntry(
            id=job_id,
            status=status,
            place=place,
            folder=folder,
            token=token,
            queue=queue,
            record=record,
            journal=journal,
            log_size=size,
            log_held=held,
            log_start=start,
            log_at=at,
            has_secret_values=has_values,
            has_files=has_files,
        )

    def _read_log_state(
        self, job_id: str, place: str, folder: str
    ) -> tuple[int | None, int, int, float]:
        """(bytes of the job's log that readers can see, bytes after them that are held back, where
        it begins, when it was last written to). The first is None if there is no log, or if it
        cannot be masked: Redis then gets nothing more of it, but still the end of the job."""
        try:
            with self._open_masked(place, folder) as log:
                whole = log.log.size if isinstance(log, MaskedLog) else 0  # before it grows
                size = log.size
                return size, max(0, whole - size), log.start, log.changed_at
        except (FileNotFoundError, PermissionError):
            return None, 0, 0, 0.0
        except SecretsDamaged as error:  # the job can do that to itself
            self.errors.report(f"{place}/{job_id}", error)
            return None, 0, 0, 0.0

    def _open_masked(self, place: str, folder: str) -> Log:
        """A job's log without the values of secrets, as Redis may have it."""
        log = self.open_log_in(folder)
        if isinstance(log, MaskedLog) and is_over(place):
            log.holds_back = False  # a job in returned/ keeps its secrets, but Redis needs all
        return log

    @staticmethod
    def _read_journal(folder: str) -> bytes:
        try:
            return read_small(f"{folder}/journal")
        except FileNotFoundError:
            raise
        except OSError as error:
            if not is_damage(error):
                raise
            return b""  # it was destroyed

    def read_log(self, entry: SpoolEntry, offset: int, limit: int) -> bytes:
        """Up to `limit` bytes of the job's log, from `offset`, without the values of secrets."""
        with self._open_masked(entry.place, entry.folder) as log:
            return log.pread(limit, offset)

    def secret_values(self, entry: SpoolEntry) -> Mapping[str, str]:
        """The values of the job's secret params, by name, if it still has them and they can be
        read."""
        if entry.has_secret_values:
            with suppress(OSError, ValueError):
                found = unseal_params(self.root, entry.folder, entry.read_job())
                return {os.fsdecode(name): value.decode() for name, value in found.items()}
        return {}

    @staticmethod
    def read_samples(entry: SpoolEntry, name: SampleFile, known: int) -> tuple[int, bytes]:
        """(offset, the samples of the job from there on, of the size of its log or of what it
        used). The offset is `known`, or 0 if samples have been removed. Only the first part of the
        file counts, because a job can put a file of any size there."""
        kept = TIMES_KEPT if name == "times" else USAGE_KEPT
        with suppress(OSError):
            fd = open_regular(f"{entry.folder}/{name}", os.O_RDONLY)
            try:
                size = min(os.fstat(fd).st_size, kept)
                begin = known if known <= size else 0
                return begin, os.pread(fd, size - begin, begin)
            finally:
                os.close(fd)
        return known, b""

    @staticmethod
    def has_started_next(entry: SpoolEntry) -> bool:
        """Was the run that follows this job submitted?"""
        return os.path.lexists(f"{entry.folder}/{NEXT_STARTED}")

    # What the relay changes

    def receive(self, found: Sequence[tuple[Assignment, LogTail, Mapping[str, str]]]) -> None:
        """Write taken jobs durably into taken/, where no worker sees them. All are written before
        the first fsync, so that the file system can flush them together."""
        if not found:
            return
        drafts = [self._draft(*each) for each in found]
        for draft in drafts:
            for name in ("job.json", "journal", "output.log"):
                with suppress(FileNotFoundError):
                    fsync_file(f"{draft}/{name}")
            fsync_folder(draft)
        for draft in drafts:
            os.rename(draft, f"{self.root}/taken/{os.path.basename(draft)}")
        fsync_folder(f"{self.root}/taken")

    def _draft(
        self, assignment: Assignment, past: LogTail, secret_values: Mapping[str, str]
    ) -> str:
        """Write a job into tmp/; returns its folder. `past`: the end of its earlier log;
        `secret_values`: of its secret params."""
        if not ID_RE.fullmatch(assignment.id):
            raise ValueError(f"{assignment.id[:80]!r} is not the ID of a job")
        draft = f"{self.root}/tmp/{assignment.id}"
        if os.path.isdir(draft):  # left by a crash
            remove_tree(draft)
        os.mkdir(draft, mode=0o700)
        line = json.dumps({"taken": assignment.token}).encode()
        contents = {
            "job.json": assignment.record + b"\n",
            "journal": assignment.journal + b"\n" + line + b"\n",
        }
        seal_params(self.root, draft, secret_values)
        if past.times:
            contents["times"] = past.times
        if past.usage:
            contents["usage"] = past.usage
        for name, content in contents.items():
            with open(f"{draft}/{name}", "xb", opener=open_private) as file:
                file.write(content)
        if assignment.log_size is not None:
            with open(f"{draft}/output.log", "xb", opener=open_private) as file:
                file.truncate(assignment.log_size)  # the bytes before `past` are a hole
                file.seek(past.offset)
                file.write(past.end)
        return draft

    def admit(self, entry: SpoolEntry) -> SpoolEntry:
        """Let the workers see a confirmed job, with the files of an attempt that it made here
        before. Returns the job at its new place."""
        with suppress(FileNotFoundError):
            os.rename(f"{self.root}/kept-files/{entry.id}", f"{entry.folder}/{FILES}")
        home = f"{self.root}/queued/{entry.queue}"
        if not os.path.isdir(home):
            os.makedirs(home, mode=0o700, exist_ok=True)
        os.rename(entry.folder, f"{home}/{entry.id}")
        return replace(entry, place="queued", folder=f"{home}/{entry.id}")

    def discard(self, entry: SpoolEntry) -> None:
        """Delete a job that no longer belongs to this machine."""
        for _ in self._bury_tree(entry.folder):
            pass

    def _bury_tree(self, path: str) -> Iterator[None]:
        """Move a folder, if it exists, to `tmp`. Returns the steps that remove it."""
        grave = f"{self.root}/tmp/{os.path.basename(path)}.discarded-{os.urandom(4).hex()}"
        try:
            os.rename(path, grave)
        except FileNotFoundError:
            return iter(())
        return self._remove_quietly(grave)

    @staticmethod
    def _remove_quietly(grave: str) -> Iterator[None]:
        with suppress(OSError):  # pruning tries it again
            yield from remove_tree_in_steps(grave)

    def discard_returned(self, entry: SpoolEntry) -> None:
        """Delete a job that is queued in Redis again. Its next attempt, if it is made here, gets
        the job's files."""
        for _ in self.drop_kept_files(entry.id):
            pass
        with suppress(OSError):  # it has none
            os.rename(f"{entry.folder}/{FILES}", f"{self.root}/kept-files/{entry.id}")
        self.discard(entry)

    def kept_files(self) -> Sequence[str]:
        """The IDs of the jobs whose files are kept for their next attempt."""
        return self.names_in(f"{self.root}/kept-files")

    def drop_kept_files(self, job_id: str) -> Iterator[None]:
        """Delete the files that are kept for the next attempt of a job, if there are any. Returns
        the steps that remove them, of which there can be millions."""
        return self._bury_tree(f"{self.root}/kept-files/{job_id}")

    def delete_in_steps(self, job_id: str) -> Iterator[None]:
        """Delete a job that has ended. Returns the steps that remove its files. JobNotFound,
        FileNotFoundError; WrongState or BlockingIOError if its end is being recorded."""
        status, folder = self.locate(job_id)
        if status not in FINISHED:
            raise cannot_delete(job_id, status)
        steps = self._remover.delete(status, folder)
        next(steps, None)
        return steps

    def leave_request(self, job_id: str, reason: str) -> None:
        """Leave a request to cancel a job that has not ended here. Redis has accepted the request,
        so it applies even if the job's exit is in the journal. Unlike `cancel`, this does not wait
        for a worker that is recording the job's end and may have missed the request: Redis refuses
        that end. JobNotFound also for a job in taken/ or returned/; FileNotFoundError if the job
        moves."""
        status, folder = self.locate(job_id)
        if status in FINISHED:
            return
        if status is Status.QUEUED and cancel_queued(self, folder, reason):
            return
        request_cancel(self, folder, reason)
        fsync_folder(folder)

    @staticmethod
    def note_next_started(entry: SpoolEntry) -> None:
        """Remember that Redis has submitted the run that follows this job. If Redis loses that run,
        the job does not start another one: it may have run."""
        with suppress(OSError):  # it was deleted, or the disk is full
            make_empty(f"{entry.folder}/{NEXT_STARTED}")

    def set_aside(self, entry: SpoolEntry) -> None:
        """Move a job that no longer belongs to this machine to set-aside/. It ran here, and its log
        may be the only complete one."""
        self.move_aside(entry.folder)

    def end_cancelled(self, entry: SpoolEntry, reason: str) -> None:
        """Record as cancelled a job that has ended otherwise, or waits in taken/ or returned/:
        Redis accepted a cancel request first. The exit code stays. Durable on return.
        BlockingIOError while a worker records the job; OSError if the disk fails."""
        with Claim(self, entry.folder, lock_times(entry.folder), None) as claim:
            with suppress(JobDamaged):  # its journal cannot be written: only the folder moves
                if not claim.acquire_lock():
                    raise BlockingIOError(errno.EAGAIN, "its journal is locked", entry.folder)
                journal = claim.shim_input()
                last = parse_journal(os.pread(journal, SMALL_FILE, 0))[-1]
                append_line(journal, {"ended": cancelled_line(entry.place, last, reason)})
                os.fsync(journal)
            # A job in returned/ keeps what its next attempt needs.
            JobSecrets(self.root, entry.folder).close()
            drop_params(entry.folder)
            self.move_folder(entry.folder, f"{self.root}/{Status.CANCELLED}/{entry.id[:8]}")

    def return_waiting(self, count: int) -> None:
        """Return up to `count` jobs that no worker here has claimed, the newest first."""
        homes = paths_in(f"{self.root}/queued")
        waiting = sorted((job_id, home) for home in homes for job_id in self.names_in(home))
        for job_id, home in waiting[::-1][:count]:
            self._return(job_id, os.path.basename(home))

    def _return(self, job_id: str, queue: str) -> None:
        """Return a queued job, unless a worker claims it at this moment."""
        with (
            suppress(OSError, JobError),
            lock_queued(self, f"{self.root}/queued/{queue}/{job_id}") as claim,
        ):
            claim.move_to(Status.QUEUED, f"{self.root}/returned/{queue}")

    def known_epoch(self) -> str:
        """The last epoch of Redis that `note_epoch` stored; "" if there is none."""
        with suppress(OSError):
            return read_small(f"{self.root}/epoch").decode(errors="replace")
        return ""

    def note_epoch(self, epoch: str) -> None:
        replace_file(f"{self.root}/epoch", epoch.encode())

    def known_limits(self) -> Mapping[str, bytes]:
        """The last limits that `mirror_limits` stored, as in the files queues/QUEUE.json."""
        with suppress(OSError, ValueError, RecursionError):
            found = json.loads(read_small(f"{self.root}/limits"))
            if isinstance(found, dict):
                return {q: str(record).encode() for q, record in found.items() if is_queue_name(q)}
        return {}

    def mirror_limits(self, limits: Mapping[str, bytes]) -> None:
        """Remember the limits in Redis, in case it is emptied. They apply only there: the workers
        of a spool run each job that Redis has assigned."""
        if limits != self.known_limits():
            shown = {queue: record.decode(errors="replace") for queue, record in limits.items()}
            replace_file(f"{self.root}/limits", json.dumps(shown).encode())

    def mirror_pauses(self, paused: Mapping[str, bytes]) -> None:
        """Pause the queues that are paused in Redis, and resume all others. `paused`: the pause of
        each, as JSON. Jobs that wait here in a paused queue are returned: once it is resumed, any
        free machine can run them."""
        wanted, here = set(filter(is_queue_name, paused)), self.pauses.queues()
        for queue in here - wanted:
            self.pauses.resume(queue)
        for queue in wanted:
            if queue not in here:
                self.pauses.put(parse_pause(queue, paused[queue]))
            for job_id in self.names_in(f"{self.root}/queued/{queue}"):
                self._return(job_id, queue)


def open_spool(path: str) -> Spool:
    """The spool in a folder; OSError and ValueError name the setting."""
    with naming_setting("TAILBOARD_SPOOL", path):
        return Spool(path)
