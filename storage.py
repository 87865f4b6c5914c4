"""Jobs: what one is, where it lives, how it moves from state to state, how its log is read.

A job is a folder; its state is the folder that it stands in; every transition is one rename:

    jobs/
      queued/QUEUE/ID/     waits for a worker
      running/ID/          claimed by a worker
      succeeded/DAY/ID/    ended; likewise failed/ cancelled/ timed_out/ lost/
      workers/NAME.json    one for each worker, flock-ed while it lives
      keys/HASH            of an Idempotency-Key: the ID of its job, a hash of its request
      paused/QUEUE.json    of a queue from which nothing is claimed, by anybody
      set-aside/           folders of an ID that stands elsewhere already, for a person to look at
      tmp/                 half-made and half-deleted jobs, never read
      reserve/             empty folders, for what must be done when no inode is left
      deleted              how many jobs of each status were deleted
      secret               random bytes, with which the API signs tickets
      saved/NAME.json      saved commands: what POST /jobs takes, with params, cron and zone
      schedules/           NAME.state: which of its times are settled; NAME.runs: its jobs
    ID/job.json      what was asked: written once, at submit        by who submits
       journal       what happened: lines, only ever appended to    by who holds its flock
       output.log    what the job said, untouched                   by the job
       times         (time, size) samples of the log                by its supervisor
       cancel        a person's wish                                by anybody

A journal, whole: {"claimed": {…}} by the claimer, fsynced before the shim goes on; {"pid": 4242}
and {"exit": 3} by the shim, which has the journal as its standard input; {"stopping": {…}} by the
supervisor before it signals; {"ended": {…}} by who records the end, before the rename. Each
line is one write with a newline before and after it, so that a torn one spoils only itself.

Lock rule: only the holder of the journal's flock moves the folder or says in the journal how things
stand. The shim holds it as long as it lives, so a free lock proves that the shim is dead.
Supervisor rule: only the holder of the flock on `times` signals, writes `stopping` and records.
Crash rule: whoever gets the lock reads the folder anew and asks `judge`, one pure function, where
it belongs. What a crash or a power cut undid, the function does again, so any moment is harmless.
A job is looked up in the order it moves (queued, running, finished), so it cannot slip past.

This module imports none of our others, nor Flask or Streamlit.
"""

from __future__ import annotations

import errno
import heapq
import json
import logging
import os
import re
import threading
import time
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import cache
from itertools import chain
from math import inf, isfinite
from typing import Any, Protocol

from tailboard import values
from tailboard.errors import (
    CommandNotFound,
    EvictionAllowed,
    JobDamaged,
    JobError,
    JobNotFound,
    RecordDamaged,
    StoreError,
    StoreUnreachable,
    cannot_cancel,
    cannot_delete,
)
from tailboard.files import (
    SMALL_FILE,
    append_line,
    fsync_file,
    fsync_folder,
    is_damage,
    lock_file,
    open_private,
    open_regular,
    paths_in,
    read_small,
    remove_tree,
    replace_file,
    write_new,
)
from tailboard.folder import folder_store
from tailboard.folder.claim import Claim, fill_finished, fill_running, read_cancel_request
from tailboard.folder.folder_store import LOOKUPS, SECRET_BYTES, FolderStore, naming_setting
from tailboard.folder.retention import Retention, Sweep
from tailboard.folder.saved_files import ID_RE, RUNS_KEPT
from tailboard.job import VERSION, Job, encode_record, matches, parse_record, shorten
from tailboard.journal import Attempt, Outcome, cancelled_line, parse_journal, token_in
from tailboard.judge import Verdict, delay_before_start, judge
from tailboard.keys import check_request, earlier_key, hash_key, is_same_run
from tailboard.logs import LAST_SIZE, SAMPLE, FileLog, Log, SizeSamples
from tailboard.notifier import Notifier
from tailboard.saved_command import SavedCommand, check_room, parse_command
from tailboard.schedules import (
    Schedule,
    ScheduleDecision,
    encode_schedule,
    parse_schedule,
    parse_timestamp,
)
from tailboard.settings import RepeatedErrors
from tailboard.status import FINISHED, Status
from tailboard.values import (
    FULL_ERRNOS,
    LAST_TIME,
    QUEUE_RE,
    RESOURCE_ERRNOS,
    check_queue,
    ids_with,
    is_queue_name,
    known_fields,
    new_id,
    parse_time,
    utc,
    whole_number,
)
from tailboard.workers import (
    Machine,
    Pause,
    WorkerInfo,
    encode_worker,
    make_pause,
    parse_pause,
    parse_workers,
)

log = logging.getLogger("storage")

SEARCH_STEP = 200  # records asked of Redis in one trip
ID_STEP = 1_000  # IDs asked of Redis in one trip
RECORD_STEP = 100  # records asked of Redis in one trip for a list: each may have a megabyte
INSTANCES_KEPT = 20  # runs of its relay that a spool remembers
SPOOL_RE = re.compile("[a-zA-Z0-9-]{1,40}")


#
# What a backend must provide, by subject. A backend needs these, a `Log` and a `Notifier`. It does
# not repeat these docstrings; it documents only how it differs. tests/test_store.py checks every
# backend.
#
# In all methods:
# - IDs are as `new_id` makes them and sort by the time of submission. A text that is no such ID is
#   the ID of no job.
# - OSError: the storage is full, damaged or out of reach. The change may have been made or not.
# - Damage affects only the job, command or file in question. A job whose record cannot be read is
#   still found and listed, with version 0 and a `reason` that says what is wrong with it.
# - Several threads and several processes, on Redis also several machines, may call them at once.
# - "Durable" means that the change survives a power cut, on Redis as far as its own persistence
#   allows.


class Jobs(Protocol):
    """Jobs and their states. The transitions (submit, cancel, delete) name the states that they may
    start from; a worker makes all others (see WorkerStore)."""

    def submit(self, job: Job, key: str | None = None, request: str | None = None) -> Job:
        """Queue a job (new -> queued) durably. Returns it with its new `id` and `submitted_at`;
        whatever these two were in `job` is ignored, all other fields of RECORD are stored.

        `key`: an Idempotency-Key. If an earlier call with the same key has submitted a job that
        still exists, in whatever state, nothing is submitted and that job is returned. Of several
        calls at once, one submits. A key made by `own_key` also finds the job that an earlier
        version has submitted under the `earlier_key` for the same purpose, see `is_same_run`.
        `request`: a SHA-256 in hexadecimal of what the client sent, stored with the key; None if it
        is not known. KeyReused if the earlier call with this key had another one.

        If `job.saved` is the name of a saved command, `SavedCommands.runs` returns the new job from
        then on. `job.not_before`: no attempt starts before this time.

        ValueError for a bad queue name. After an OSError the job may be queued nevertheless: only
        a call with a `key` can be repeated safely."""

    def get(self, job_id: str) -> Job:
        """The job with its attempts, as it is now. JobNotFound."""

    def get_many(self, ids: Sequence[str]) -> Iterator[Job]:
        """Those of the jobs that exist, in the order of `ids`. They are read as the caller
        iterates."""

    def status(self, job_id: str) -> Status:
        """A job's status. Cheaper than `get`: no record is read. JobNotFound."""

    def find(self, part: str) -> Sequence[str]:
        """The IDs, in any state and order, that start or end with this text, or equal it. No ID if
        it is empty."""

    def list(
        self,
        status: Status | None = None,
        queue: str | None = None,
        text: str = "",
        limit: int = 50,
        before: str | None = None,
        since: str | None = None,
        short: bool = False,
    ) -> tuple[Sequence[Job], str | None]:
        """(up to `limit` jobs that match all the conditions, newest first; the ID to pass as
        `before` for the next page, or None if there are no more).

        `status`, `queue`: only these jobs; None: all.
        `text`: only jobs whose name, command or ID contains it, whatever its case.
        `before`: only jobs whose ID is below it. It need not be the ID of a job.
        `since`: only jobs whose ID is not below it, see `first_id`.
        `short`: long texts are cut, as by `shorten`, and `env` is empty.

        Reads about SCAN_LIMIT records at most, so a page may be short or even empty although more
        follow. A job that changes its state meanwhile appears at most once."""

    def counts(self) -> dict[Status, int]:
        """How many jobs have each status; every status is a key. No record is read."""

    def queued_by_queue(self) -> dict[str, Sequence[str]]:
        """The IDs of the queued jobs of each queue that has any, oldest first, including those that
        wait for their time and those of paused queues. The queues are sorted."""

    def unfinished_ids(self) -> set[str]:
        """The IDs of the jobs that are queued or running. Queued ones are read first, so a job that
        starts during the call is not missing; one that ends during it may be."""

    def iter_finished_ids(self) -> Iterator[str]:
        """The IDs of the jobs that have ended, highest first. They are read as the caller
        iterates."""

    def finished_totals(self) -> dict[Status, int]:
        """How many jobs have ever ended with each status of FINISHED, including deleted ones. The
        counts of a folder are not durable: a power cut may lose the last deletions."""

    def cancel(self, job_id: str, reason: str) -> Job:
        """Cancel a queued job (queued -> cancelled), or request it of a running one's worker. The
        request is durable on return and always carried out: the job ends as cancelled, with this
        reason, or with that of an earlier request. Returns the job as it is then: cancelled, or
        still running. JobNotFound; WrongState if the job has ended, also if its exit is known but
        not recorded yet. OSError with EBUSY if its end is being recorded for long: try again."""

    def delete(self, job_id: str) -> None:
        """Delete a job with its log (finished -> deleted), durably. JobNotFound; WrongState if it
        has not ended or its end is being recorded."""

    def fire(
        self, command: SavedCommand, seen: Schedule, decision: ScheduleDecision, job: Job | None
    ) -> Job | None:
        """Carry out what `due` has decided about the saved command's times: store the schedule
        `firing.schedule` and, if it has a key, submit `job` under that key. Both or neither: after
        a crash in between, a later call does the rest, and the job is never submitted twice.

        `job`: None if times are skipped or only the schedule changes. Returns the submitted job.
        Returns None, and changes nothing, if the stored command or schedule no longer equals
        `command` and `seen`: somebody changed it or another worker was faster. Also returns None if
        it had to finish an interrupted firing first. BlockingIOError if another worker is changing
        a schedule at this moment. JobError and ValueError as `submit`."""


class Logs(Protocol):
    """The output of jobs. `load_logs` reads the end of one as text."""

    def open_log(self, job_id: str) -> Log:
        """The job's log, for reading; the caller closes it. It stays readable if the job moves, and
        retention does not delete the job while its log is open. JobNotFound; FileNotFoundError if
        the job has no log, for example because it has never started."""

    def watch(self, job_id: str) -> Notifier:
        """A notifier that becomes readable when the job's log or state changes after this call, and
        sometimes without a change; the caller closes it. JobNotFound."""


class Pauses(Protocol):
    """Queues from which no job is claimed, by any worker. Running jobs continue, and new jobs can
    be submitted."""

    def pause(self, queue: str, why: str | None, by: str | None) -> Pause:
        """Pause a queue, whether or not it has jobs, durably. If it is paused already, `why` and
        `by` replace the earlier ones and `since` stays. It applies from the next claim of each
        worker on, with several machines after a few tenths of a second. ValueError for a bad queue
        name."""

    def put(self, pause: Pause) -> None:
        """Store a pause as it is, durably, instead of one that its queue may have. For pauses from
        another store, whose queue names are valid."""

    def resume(self, queue: str) -> None:
        """End a queue's pause, durably. Does nothing if it is not paused. ValueError as in
        `pause`."""

    def list(self) -> Sequence[Pause]:
        """The paused queues, by name. A pause whose text is damaged is one nevertheless, with a
        `why` that says so."""


class SavedCommands(Protocol):
    """Saved commands by name, each with its schedule and its last jobs."""

    def save(self, command: SavedCommand) -> bool:
        """Store a command under its name (`command.saved`), durably, instead of one that has this
        name. Returns True if the name is new. If its cron, zone or `paused` differ from those
        before, its times count from now on. ValueError if the command could not run or is too
        large (MAX_DEFINITION); TooManySaved if there is no room for it (MAX_SAVED,
        MAX_SAVED_BYTES). A command that does not grow is always accepted."""

    def load(self, name: str) -> SavedCommand:
        """The saved command, with `saved_at`. Do not change it: it is cached. CommandNotFound, also
        if it is damaged; the message says which."""

    def list(self) -> Sequence[SavedCommand]:
        """All saved commands, by name. Damaged ones are left out and reported by
        `Health.unreadable`."""

    def delete(self, name: str) -> None:
        """Delete a saved command, its schedule and the list of its runs, durably. Its jobs stay.
        CommandNotFound; a damaged command can be deleted."""

    def runs(self, name: str) -> Sequence[str]:
        """The IDs of the last jobs, up to RUNS_KEPT, that were started from a saved command, newest
        first. Some may be deleted. Empty if there is no such command."""

    def load_schedule(self, name: str) -> Schedule:
        """The state of a saved command's times; the default `Schedule()` if none is stored. If it
        is damaged, `Health.unreadable` reports it, and times before the damage do not count."""


class Workers(Protocol):
    """Who runs the jobs."""

    def workers(self) -> Sequence[WorkerInfo]:
        """The living workers, by name; on Redis those of all machines that are not unreachable."""

    def machines(self) -> Sequence[Machine]:
        """The machines that share the jobs, by the names of their spools. Empty if the storage
        belongs to one machine."""


class Health(Protocol):
    """The condition of the storage."""

    def check(self) -> None:
        """ValueError if the storage is set up in such a way that it may lose jobs; OSError if that
        cannot be found out now."""

    def check_writable(self) -> None:
        """OSError if nothing can be written."""

    def problem(self) -> str | None:
        """Why no job can start now, in half a sentence; None if no reason is known."""

    def unreadable(self) -> Sequence[str]:
        """Jobs folders, workers, saved commands and schedules that are damaged and were left out,
        each as "NAME: reason", sorted."""

    def describe(self) -> dict[str, Any]:
        """`kind` ("folder" or "redis") and what else is known of the storage, as JSON: for Redis
        `version`, `used_bytes`, `max_bytes` (None: no limit) and `rolled_back_at`, when it last
        returned to an older state (None: never)."""


class Store(Jobs, Logs, Workers, Health, Protocol):
    """What the API and the commands need of a storage."""

    @property
    def pauses(self) -> Pauses:
        """The paused queues."""

    @property
    def saved(self) -> SavedCommands:
        """The saved commands."""

    def secret(self) -> bytes:
        """SECRET_BYTES random bytes, the same for all processes that use this storage, made by the
        first call. OSError if they are damaged."""


class WorkerStore(Store, Protocol):
    """What a worker needs in addition. A worker calls these from one thread."""

    def heartbeat(self, info: WorkerInfo, running: int) -> None:
        """Show this worker, which runs `running` jobs, in `workers` for as long as its process
        lives. If another living worker has its name, `info.name` gets a number. Sets `info.running`
        and `info.seen_at`. Called every few seconds; after UNRESPONSIVE_AFTER seconds without a
        call the worker is shown as not responding. OSError if a hundred workers have the name."""

    def listen(self, queues: Iterable[str]) -> Notifier | None:
        """Serve these queues from now on; all if none is given. Returns a notifier that becomes
        readable when a job may have entered one of them or a queue was resumed; None if the system
        cannot notify, so that the caller must call `claim` now and then. ValueError for a bad queue
        name."""

    def claim(self, worker: str, host: str) -> Claim | None:
        """Claim the oldest job of our queues that may start now (queued -> running), for this
        worker on this host. None if there is none. Jobs of paused queues, and jobs whose time has
        not come, are left alone, except that a request to cancel one is carried out. A job that
        cannot run (it was cancelled, it is damaged, it has ended already) is moved to where it
        belongs. The caller releases the claim."""

    def next_due(self) -> float:
        """When the next of the jobs that wait for their time may start, on the monotonic clock
        (seconds); infinity if none waits. Known after `claim`."""

    def orphans(self, host: str, ours: Container[str]) -> Iterator[Claim]:
        """The running jobs of this host that no living worker supervises: their worker has died.
        `ours` are the IDs that the caller supervises. Each claim makes the caller its supervisor;
        the job's processes may still be alive, and then they hold the lock of its journal. Jobs of
        another PID namespace are left out while they are alive."""

    def tracking_env(self, job_id: str) -> dict[str, str]:
        """The environment variables that mark a job's processes, also those that have left its
        session. They differ for each job, and between a storage and a copy of it."""

    def prune(self, days: int, max_bytes: int) -> Iterator[None]:
        """Delete jobs that ended more than `days` days ago (0: no limit). If the logs of all jobs
        exceed `max_bytes` on the disk (0: no limit), trim the large ones and then delete the oldest
        jobs that ended more than an hour ago. No job whose log is being read is deleted. Deletes
        half-made jobs, too. Does nothing by age while the clock cannot be trusted, see Retention.
        A generator, so that the caller can spread the work over time; if another worker is pruning,
        it ends at once."""


def load_logs(store: Logs, job_id: str, tail: int = 1000) -> str:
    """The last `tail` lines of a job's log, at most TAIL_BYTES, with U+FFFD instead of what is not
    UTF-8. JobNotFound; FileNotFoundError if the job has no log."""
    with store.open_log(job_id) as log:
        return log.read_tail(tail, log.size)[1].decode(errors="replace")


@cache
def load_scripts() -> Mapping[str, str]:
    """The Lua scripts that Redis runs, by name. The files are read at the first call."""
    from pathlib import Path  # here: a folder needs no scripts

    folder = Path(__file__).parent / "tailboard" / "machines" / "lua"
    texts = {path.stem: path.read_text(encoding="utf-8") for path in folder.glob("*.lua")}
    constants = f"local RUNS_KEPT, SMALL_FILE = {RUNS_KEPT}, {SMALL_FILE}\n"
    begin = constants + texts.pop("begin")
    return {name: begin + text for name, text in texts.items()}


REDIS_PREFIX = "tailboard:"
REDIS_TIMEOUT = 3.0  # seconds for one answer
REDIS_BLOCK = 2.0  # seconds for which Redis is asked to wait for news
REDIS_LOG_KEPT = 16 << 20  # bytes of a log: Redis is memory
TIMES_KEPT = 4 << 20  # bytes of a log's samples: three days of output in each second
LOG_CHUNK = 65_000  # bytes of a stream's entry; 65,536 would take a quarter more memory
RESTORE_TIME = 30.0  # seconds without starts, at most, after Redis returned to an older state
POLICY_INTERVAL = 60.0  # seconds between looks at the eviction policy of Redis
INSTANCE_SILENCE = 10.0  # seconds after which another instance of a spool counts as ended
READER_LEASE = 60  # seconds for which an open log is not pruned
UNREACHABLE = 30  # seconds, see Settings
# Errors of Redis if a key holds something other than our command or script expects.
DAMAGE_RE = re.compile(
    "WRONGTYPE|attempt to |bad argument|not an integer|equal or smaller|no such key"
)
Command = tuple[Any, ...]


def is_redis(url: str) -> bool:
    return url.startswith(("redis://", "rediss://"))


class RedisLink:
    """Sends commands and scripts, several in one round trip. Errors are OSErrors in our own words,
    because the client's may show the URL, which holds a password."""

    def __init__(self, url: str) -> None:
        import redis  # here: a folder needs neither its memory nor its start-up time
        from redis.backoff import NoBackoff
        from redis.retry import Retry

        self.errors = redis.exceptions
        options: dict[str, Any] = {
            "protocol": 2,
            "socket_timeout": REDIS_TIMEOUT,
            "socket_connect_timeout": REDIS_TIMEOUT,
            "retry": Retry(NoBackoff(), 0),  # its own retries would hang through a stall
            "driver_info": None,  # CLIENT SETINFO, which an ACL of Redis 7.0 cannot allow
        }
        try:
            self.client: Any = redis.Redis.from_url(url, **options)
            self.client.connection_pool.make_connection()
        except (ValueError, TypeError, redis.RedisError):
            raise ValueError(
                "TAILBOARD_STORAGE must be redis://[USER:PASSWORD@]HOST[:PORT][/NUMBER], "
                "or the same with rediss:// for TLS"
            ) from None
        from hashlib import sha1

        scripts = load_scripts().items()
        self.names = {name: sha1(text.encode()).hexdigest() for name, text in scripts}
        self._foreign_names = RepeatedErrors(log)  # names in Redis that are not ours

    def key(self, name: str) -> str:
        """A key of ours, with the prefix of all."""
        return REDIS_PREFIX + name

    def script(self, name: str, *arguments: Any) -> Command:
        return ("EVALSHA", self.names[name], 1, REDIS_PREFIX, *arguments)

    def run(self, name: str, *arguments: Any) -> Any:
        """The answer of one script."""
        return self.ask(self.script(name, *arguments))[0]

    def ask(self, *commands: Command) -> list[Any]:
        """The answers; OSError if one failed."""
        answers = self.try_all(commands)
        for answer in answers:
            if isinstance(answer, OSError):
                raise answer
        return answers

    def try_all(self, commands: Sequence[Command]) -> list[Any]:
        """The answers, with an OSError in place of each that failed."""
        answers = self._execute(commands)
        if any(isinstance(answer, self.errors.NoScriptError) for answer in answers):
            self._execute([("SCRIPT LOAD", text) for text in load_scripts().values()])
            answers = self._execute(commands)  # safe, as each may be carried out twice
        return [self._translate_error(a) if isinstance(a, Exception) else a for a in answers]

    def _execute(self, commands: Sequence[Command]) -> list[Any]:
        pipeline = self.client.pipeline(transaction=False)
        for command in commands:
            pipeline.execute_command(*command)
        try:
            return list(pipeline.execute(raise_on_error=False))
        except (self.errors.RedisError, OSError) as error:
            raise self._translate_error(error) from None

    def _translate_error(self, error: Exception) -> OSError:
        """The client's error in our own words, without secrets."""
        text, known = str(error), self.errors
        if isinstance(error, known.OutOfMemoryError) or "OOM" in text[:80]:
            return StoreError(errno.ENOSPC, "Redis is full (maxmemory)")
        if isinstance(error, known.AuthenticationError) or text.startswith(("NOAUTH", "WRONGPASS")):
            return StoreUnreachable(errno.EACCES, "Redis refuses our user or password")
        if isinstance(error, known.NoPermissionError) or "NOPERM" in text:
            words = re.findall("the '([a-z|]{1,30})'", text)
            return StoreError(errno.EACCES, f"Redis' ACL forbids {words[0] if words else 'that'}")
        if isinstance(error, (known.TimeoutError, TimeoutError)):
            return StoreUnreachable(errno.ETIMEDOUT, "Redis does not answer in time")
        if isinstance(error, known.ResponseError) and not isinstance(error, known.BusyLoadingError):
            said = text.partition(", with args")[0]  # the address may hold a password
            if DAMAGE_RE.search(said):
                return RecordDamaged(errno.EIO, f"Redis says: {said[:200]}")
            return StoreError(errno.EIO, f"Redis says: {said[:200]}")
        return StoreUnreachable(errno.EHOSTUNREACH, "Redis cannot be reached")

    def check_server(self) -> None:
        """ValueError if its eviction policy may drop keys."""
        (memory,) = self.ask(("INFO", "memory"))
        policy = memory.get("maxmemory_policy")
        if policy != "noeviction":
            raise ValueError(f"Redis' maxmemory-policy must be noeviction, and it is {policy}")

    def now(self) -> float:
        """Seconds since 1970 by the clock of Redis."""
        ((seconds, microseconds),) = self.ask(("TIME",))
        return float(seconds) + int(microseconds) / 1e6

    def checked(self, names: Iterable[bytes], known: re.Pattern[str] = ID_RE) -> Sequence[str]:
        """Those names from Redis that are IDs, or match `known`: only these become paths and keys.
        Each other name is logged once."""
        found = []
        for raw in names:
            name = raw.decode(errors="replace")
            if known.fullmatch(name):
                found.append(name)
            else:
                self._foreign_names.report(
                    f"redis={name[:80]!r}", ValueError("ignored: it is not a name of ours")
                )
        return found


class RedisFeed:
    """Waits on behalf of all followers of this process, with one thread and one connection: XREAD
    over the streams of all followed logs and `changes`."""

    def __init__(self, link: RedisLink) -> None:
        self.link = link
        self.changed = threading.Condition()
        self.waiting: dict[str, set[RedisNotifier]] = {}  # by job ID; "": any job
        self.places: dict[str, str] = {}  # stream -> the last entry seen
        self.version = self.read_version = 0  # of `places`: the newest, and what the thread reads
        self.client_id: int | None = None
        self.thread: threading.Thread | None = None
        self.is_closed = False

    def close(self) -> None:
        """Tell the thread to end."""
        self.is_closed = True
        if self.client_id is not None:
            with suppress(OSError):
                self.link.ask(("CLIENT UNBLOCK", self.client_id))

    def add(self, notifier: RedisNotifier, job_id: str) -> None:
        """Wake this notifier from now on; what is written after this call is not missed."""
        streams = [f"log:{job_id}", "changes"] if job_id else ["changes"]
        lasts = self.link.ask(
            *(("XREVRANGE", REDIS_PREFIX + s, "+", "-", "COUNT", 1) for s in streams)
        )
        with self.changed:
            self.waiting.setdefault(job_id, set()).add(notifier)
            for stream, last in zip(streams, lasts, strict=True):
                self.places.setdefault(stream, last[0][0].decode() if last else "0-0")
            self.version += 1
            if self.thread is None or not self.thread.is_alive():
                self.thread = threading.Thread(target=self._run, daemon=True)
                self.thread.start()
            self._hurry()

    def _hurry(self) -> None:
        """Unblock the thread until it reads the new stream: it may be about to wait without it."""
        deadline = time.monotonic() + REDIS_BLOCK
        while self.read_version < self.version and time.monotonic() < deadline:
            if self.client_id is not None:
                with suppress(OSError):
                    self.link.ask(("CLIENT UNBLOCK", self.client_id))
            self.changed.wait(0.005)

    def remove(self, notifier: RedisNotifier, job_id: str) -> None:
        with self.changed:
            notifiers = self.waiting.get(job_id, set())
            notifiers.discard(notifier)
            if not notifiers and job_id:
                self.waiting.pop(job_id, None)
                self.places.pop(f"log:{job_id}", None)

    def _run(self) -> None:
        pause = 0.05
        while not self.is_closed:
            try:
                self._read()
                pause = 0.05
            except Exception:  # away: the woken followers ask Redis themselves and get the error
                self.client_id = None
                self._wake_all()
                time.sleep(pause)
                pause = min(pause * 2, 1.0)

    def _read(self) -> None:
        with self.link.client.client() as client:  # a connection of its own
            self.client_id = client.client_id()
            while not self.is_closed:
                with self.changed:
                    self.read_version = self.version
                    self.changed.notify_all()
                    places = {REDIS_PREFIX + s: place for s, place in self.places.items()}
                found = client.xread(places, count=100, block=int(REDIS_BLOCK * 1000))
                with self.changed:
                    for key, entries in found or ():
                        self._wake(key.decode().removeprefix(REDIS_PREFIX), entries)

    def _wake(self, stream: str, entries: Sequence[Any]) -> None:
        if stream in self.places:
            self.places[stream] = entries[-1][0].decode()
        jobs = {stream.removeprefix("log:")}
        if stream == "changes":
            jobs = {fields.get(b"id", b"").decode(errors="replace") for _, fields in entries} | {""}
        for job_id in jobs:
            for notifier in self.waiting.get(job_id, ()):
                notifier.wake()

    def _wake_all(self) -> None:
        with self.changed:
            for notifiers in self.waiting.values():
                for notifier in notifiers:
                    notifier.wake()


class RedisNotifier(Notifier):
    """Waits for changes of a job and its log, or ("") of any job."""

    def __init__(self, feed: RedisFeed, job_id: str) -> None:
        self.inotify, self.feed, self.job_id = None, feed, job_id
        self.reader, self.writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            feed.add(self, job_id)
        except BaseException:
            self.close()
            raise

    def fileno(self) -> int:
        return self.reader

    def wake(self) -> None:
        with suppress(BlockingIOError):  # the pipe is full: it will wake anyway
            os.write(self.writer, b"x")

    def pop_news(self) -> bool:
        """Forget the news that came since the last call; returns whether there was any."""
        with suppress(BlockingIOError):
            return bool(os.read(self.reader, 1 << 16))
        return False

    def changes(self) -> Iterator[tuple[int, str]]:
        self.pop_news()
        return iter(())

    def close(self) -> None:
        self.feed.remove(self, self.job_id)
        if self.reader >= 0:
            os.close(self.reader)
            os.close(self.writer)
        self.reader = self.writer = -1


class MemorySamples(SizeSamples):
    """Samples in memory, as fetched from Redis."""

    def __init__(self, data: bytes) -> None:
        super().__init__(-1)
        self.data, self.length = data, len(data) // SAMPLE.size

    def __getitem__(self, place: Any) -> Any:
        if place >= self.length:
            raise IndexError(place)
        found, size = SAMPLE.unpack_from(self.data, place * SAMPLE.size)
        return (found if 0 <= found < LAST_TIME else 0.0), size


class RedisLog(Log):
    """The mirror of a log in Redis. `size` asks Redis; `start` and `changed_at` are as of then."""

    def __init__(self, link: RedisLink, job_id: str) -> None:
        """JobNotFound; FileNotFoundError where the job has written none."""
        self.link, self.job_id = link, job_id
        self.leased_until = 0.0  # on the monotonic clock
        self.state = self._read_state()
        reading = f"{REDIS_PREFIX}reading:{job_id}"
        link.try_all([("INCR", reading), ("EXPIRE", reading, READER_LEASE)])
        self.leased_until = time.monotonic() + READER_LEASE / 2

    def _read_state(self) -> tuple[int, int, float]:
        key = f"{REDIS_PREFIX}state:{self.job_id}"
        fields = ("status", "log_size", "log_start", "log_at")
        (found,) = self.link.try_all([("HMGET", key, *fields)])
        status, size, start, at = none_if_damaged(found) or (b"", None, None, None)
        if status is None:
            raise JobNotFound(f"there is no job {self.job_id!r}")
        if size is None:
            raise FileNotFoundError(errno.ENOENT, "the job has written nothing", self.job_id)
        return parse_count(size), parse_count(start), parse_score(at)

    def close(self) -> None:
        with suppress(OSError):
            self.link.run("unread", self.job_id)

    @property
    def size(self) -> int:
        with suppress(JobNotFound, FileNotFoundError):  # deleted meanwhile: the last known size
            self.state = self._read_state()
        return self.state[0]

    @property
    def start(self) -> int:
        return self.state[1]

    @property
    def changed_at(self) -> float:
        return self.state[2]

    def read(self, offset: int, limit: int) -> tuple[int, bytes]:
        commands = [self.link.script("read", self.job_id, offset, limit)]
        if time.monotonic() > self.leased_until:
            commands.append(("EXPIRE", f"{REDIS_PREFIX}reading:{self.job_id}", READER_LEASE))
            self.leased_until = time.monotonic() + READER_LEASE / 2
        answer = self.link.try_all(commands)[0]
        if isinstance(answer, OSError):
            raise answer
        begin, data = answer
        return int(begin), data

    def pread(self, limit: int, offset: int) -> bytes:
        """Bytes that are gone read as zeros, like a hole in a file."""
        begin, data = self.read(offset, limit)
        return (bytes(min(begin - offset, limit)) + data)[:limit] if data else b""

    def samples(self) -> SizeSamples:
        (data,) = self.link.try_all([("GET", f"{REDIS_PREFIX}times:{self.job_id}")])
        return MemorySamples(none_if_damaged(data) or b"")


class RelayStore(Protocol):
    """The jobs as all machines share them. A machine's relay takes jobs from it into the machine's
    spool, reports what happens to them, and carries out its orders. `worker.Relay` uses nothing
    else of Redis.

    A spool is named as SPOOL_RE allows. A job has a token, SPOOL:N, from the moment at which a
    spool takes it. N grows whenever the job is taken, or changed without its spool, which makes the
    spool's token invalid: the spool is "fenced" and must drop the job. A job is "absent" or
    "behind" if the store was reset to an older state and has lost the job or its token; the spool,
    whose folder is the truth, then restores it.

    OSError: StoreUnreachable if it cannot be reached, another StoreError if it refuses, for example
    because it is full, RecordDamaged if one record is damaged. Every call may be repeated after an
    error. Times are in seconds since 1970 by the clock of the store, one for all machines."""

    @property
    def pauses(self) -> Pauses:
        """The paused queues, of which `take` and `report` take account."""

    def now(self) -> float:
        """The clock of the store."""

    def close(self) -> None:
        """Close its connections."""

    def check_policy(self, period: float | None = None) -> None:
        """EvictionAllowed if the store is set up in such a way that it may drop jobs: none may be
        taken or submitted then. Asks the server only if the last check failed or is older than
        `period` (seconds; None: a minute)."""

    def watch_all(self) -> RedisNotifier:
        """A notifier that becomes readable with every change of a job, a pause or an order."""

    # Reports and orders

    def beat(
        self,
        spool: str,
        workers: Sequence[WorkerInfo],
        instance: Instance | None = None,
        ended: str = "",
    ) -> MachineOrders:
        """Report that this machine lives and has these workers; returns what it is to do. Once a
        second. `instance` is this run of the relay; its `since`, `beats` and `epoch` are updated.
        SpoolInUse if another instance has reported for this spool within INSTANCE_SILENCE seconds,
        unless it is `ended`, the name of an instance that is known to have ended."""

    def acknowledge(
        self, spool: str, cancel_requests: Iterable[str], deletions: Iterable[str]
    ) -> None:
        """Report that these requests to cancel jobs, and these deletions, are carried out: `beat`
        does not return them again."""

    def restored(self, spool: str) -> None:
        """Report that this machine has restored what an older state of the store lacked."""

    # Jobs for this machine

    def take(
        self, spool: str, want: int, queues: Iterable[str], instance: Instance | None = None
    ) -> tuple[Sequence[Assignment], float]:
        """(the jobs that this spool has taken and not confirmed; seconds until the next job that
        waits for its time may start, infinity if none waits).

        Takes the oldest jobs of these queues (none given: all), but none of paused queues, until
        there are `want` of them. Asked again, it returns the same ones again. While a machine
        restores jobs it returns none. Damaged jobs become lost, and jobs of a newer version stay
        for a machine that knows it. RedisIsOlder if the store has lost what `instance` has
        reported."""

    def past_log(self, assignment: Assignment) -> LogTail:
        """The last part of the log of earlier attempts on other machines, which this machine
        continues. It begins at a multiple of BLOCK bytes, so that the hole that the spool has
        before it hides no byte."""

    def give_back_one(self, job_id: str, token: str) -> bool:
        """Queue a job that was taken with this token and not confirmed (taken -> queued). False if
        it is confirmed or another spool has it."""

    def give_back(self, spool: str, ids: Sequence[str] | None = None) -> None:
        """Queue the jobs that a spool has taken and not confirmed, or those of them that are among
        `ids`. They have not started and no longer can."""

    def taken_by(self, spool: str) -> Sequence[str]:
        """The IDs of the jobs that a spool has taken and not confirmed."""

    # What has happened to jobs here: messages, of which `send` sends many in one round trip

    def report(self, entry: SpoolEntry, size: int) -> Command:
        """The message with the state and the journal of a spool's job. For a job in taken/ it
        confirms the take (taken -> running); for one in returned/ it queues the job again, after
        its retry delay. `size`: bytes of the log that the store must have first; -1: any.

        The answer is the status that the job has now, or: "absent", "behind": restore it. "fenced":
        drop it. "cancel": a request to cancel it was accepted, so it must neither start nor run
        again nor end otherwise; record and report it as cancelled. "log": the store lacks a part of
        the log. "paused": its queue is paused, give it back."""

    def restore(self, entry: SpoolEntry) -> Command:
        """The message that puts back a job which the store has lost, with its token and a request
        to cancel it that has reached the spool. What the store knows better stays. The answer is as
        for `report`."""

    def append(self, entry: SpoolEntry, start: int, data: bytes, how: str) -> Command:
        """The message with `data` of a job's log, which begins at the offset `start`; at most
        LOG_CHUNK bytes. `how`: "join" continues what the store has, "gap" skips the bytes before
        `start`, which are lost, "anew" replaces everything. The store keeps the last REDIS_LOG_KEPT
        bytes. The answer is the offset up to which it has the log and from which to continue,
        whatever was sent; -1: fenced; -2: absent or behind."""

    def note(self, entry: SpoolEntry, offset: int, samples: bytes) -> Command:
        """The message with the bytes at an offset of the file `times`. Ignored if its token is not
        valid."""

    def send(self, messages: Sequence[Command]) -> Sequence[Any]:
        """Send these messages in order. Returns their answers (bytes for a word, int for a number),
        with an OSError instead of each that failed. StoreUnreachable if the connection broke: any
        of the messages may have arrived."""

    # Single jobs

    def cancel_reason(self, job_id: str) -> str:
        """The reason of the accepted request to cancel a job; "" if there is none."""

    def drop(self, job_id: str, why: str) -> None:
        """End a job whose record is damaged (any state -> lost), so that all others continue."""

    # What the store knows

    def known_states(self, ids: Sequence[str]) -> Sequence[tuple[str, str, int | None]]:
        """(status, token, bytes of the log) of each job; ("", "", None) for one that it does not
        have or whose state is damaged."""

    def running_on(self, spool: str) -> Sequence[str]:
        """The IDs of the jobs that are confirmed by this spool and have not ended."""

    # On behalf of all machines. Several relays may do this at once.

    def lose_missing(self, job_id: str, spool: str) -> Job | None:
        """Give up a job that runs on this spool, which does not have it (running -> lost, queued or
        cancelled). Returns the job if this ended it; None if it may be retried and was queued, or
        was no longer running there."""

    def give_up_silent_machines(self, lost_after: int, own_spool: str) -> Sequence[Job]:
        """Give up the machines that have been silent for `lost_after` seconds, except `own_spool`:
        their running jobs become lost or are queued again, their unconfirmed ones are queued. Those
        that are merely unreachable give back only their unconfirmed jobs. A silence ends with the
        newest report of any machine: while the store was away, none could report. Returns the jobs
        that this ended."""

    def prune(self, retention: Retention, days: int, max_bytes: int) -> Iterator[None]:
        """Delete old jobs as WorkerStore.prune does, by the clock of the store. `retention` says
        whether that clock can be trusted. Trims no log."""


@dataclass(slots=True)
class Assignment:
    """A job that Redis has assigned to a spool, which has not confirmed it yet."""

    id: str
    token: str
    log_size: int | None  # of earlier attempts on other machines; None: there is no log
    record: bytes  # what was asked, as a line
    journal: bytes

    @property
    def queue(self) -> str:
        return parse_record(self.record, self.id).queue


class RedisPauses:
    """The paused queues in Redis: the hash `paused`, by queue."""

    def __init__(self, link: RedisLink) -> None:
        self.link = link

    def pause(self, queue: str, why: str | None, by: str | None) -> Pause:
        pause = make_pause(queue, why, by, self.list())
        self.put(pause)
        return pause

    def put(self, pause: Pause) -> None:
        self.link.run("pause", pause.queue, pause.encode())

    def resume(self, queue: str) -> None:
        check_queue(queue)
        self.link.run("resume", queue)

    def list(self) -> Sequence[Pause]:
        (found,) = self.link.ask(("HGETALL", self.link.key("paused")))
        queues = sorted(self.link.checked(found, QUEUE_RE))
        return [parse_pause(queue, found[queue.encode()]) for queue in queues]


class RedisSaved:
    """The saved commands in Redis: the hashes `saved` and `schedules`, by name, and the lists
    `saved-runs:NAME`."""

    def __init__(self, link: RedisLink, errors: RepeatedErrors) -> None:
        """`troubles`: where damaged values are reported, as saved/NAME or schedules/NAME."""
        self.link, self._errors = link, errors
        self._commands: dict[str, tuple[bytes, SavedCommand]] = {}  # by name: as stored, parsed

    def save(self, command: SavedCommand) -> bool:
        command.check()
        name, now = command.saved, utc(self.link.now())
        record = json.dumps(command.definition() | {"saved_at": now}, ensure_ascii=False).encode()
        check_room(name, len(record), self._sizes())
        while True:
            raw, seen = self.read_schedule(name)
            after = b"" if seen.is_of(command) else encode_schedule(seen.adapted(command, now))
            answer = self.link.run("save", name, record, raw, after)
            if answer is not None:  # else a worker has just written the schedule
                return bool(answer)

    def _sizes(self) -> dict[str, int]:
        """Bytes of each saved command, by name. Commands that others save at the same moment are
        not counted, so all together may exceed the limit a little."""
        records = self._read_all()
        return {name.decode(errors="replace"): len(data) for name, data in records.items()}

    def load(self, name: str) -> SavedCommand:
        data = self.read(name)
        if data is None:
            raise CommandNotFound(f"there is no saved command {name[:80]!r}")
        try:
            return self.parse(name, data)
        except (ValueError, RecursionError) as error:
            raise CommandNotFound(f"saved command {name!r} cannot be read: {error}") from None

    def read(self, name: str) -> bytes | None:
        """A saved command as it is stored; None if it does not exist."""
        (data,) = self.link.ask(("HGET", self.link.key("saved"), name))
        return None if data is None else bytes(data)

    def _read_all(self) -> Mapping[bytes, bytes]:
        """All saved commands as they are stored, by name."""
        (records,) = self.link.ask(("HGETALL", self.link.key("saved")))
        return dict(records)

    def parse(self, name: str, data: bytes) -> SavedCommand:
        """The command in `data`, which is parsed only after it has changed. ValueError if it is
        damaged."""
        known = self._commands.get(name)
        if known is None or known[0] != data:
            command = parse_command(data, name)
            saved_at = json.loads(data).get("saved_at")
            if saved_at is not None:
                command.saved_at = utc(parse_timestamp(str(saved_at)))
            known = self._commands[name] = (data, command)
        return known[1]

    def list(self) -> Sequence[SavedCommand]:
        records = self._read_all()
        found = []
        for raw_name, data in sorted(records.items()):
            name = raw_name.decode(errors="replace")
            try:
                found.append(self.parse(name, data))
            except (ValueError, RecursionError) as error:
                self._errors.report(f"saved/{name}", JobDamaged(str(error)))
            else:
                self._errors.resolved(f"saved/{name}")
        known = self._errors.current
        deleted = [thing for thing in known if thing.rpartition("/")[2].encode() not in records]
        for thing in deleted:
            self._errors.resolved(thing)
        return found

    def delete(self, name: str) -> None:
        commands: list[Command] = [
            ("HDEL", self.link.key("saved"), name),
            ("HDEL", self.link.key("schedules"), name),
            ("UNLINK", self.link.key(f"saved-runs:{name}")),
        ]
        count, *_ = self.link.ask(*commands)
        if not count:
            raise CommandNotFound(f"there is no saved command {name[:80]!r}")

    def runs(self, name: str) -> Sequence[str]:
        key = self.link.key(f"saved-runs:{name}")
        (found,) = self.link.ask(("LRANGE", key, 0, RUNS_KEPT - 1))
        return self.link.checked(found)

    def load_schedule(self, name: str) -> Schedule:
        return self.read_schedule(name)[1]

    def read_schedule(self, name: str) -> tuple[bytes, Schedule]:
        """(the schedule as it is stored, b"" if there is none; the same, parsed). Redis does not
        know when a damaged one was written: its times count from when a worker looks at it."""
        (data,) = self.link.ask(("HGET", self.link.key("schedules"), name))
        if data is None:
            return b"", Schedule()
        thing = f"schedules/{name}"
        try:
            schedule = parse_schedule(data)
        except (ValueError, TypeError, RecursionError) as error:
            self._errors.report(thing, JobDamaged(str(error)))
            return data, Schedule()
        self._errors.resolved(thing)
        return data, schedule


class RedisStore:
    """Jobs in Redis: a Store for the API and the commands, and a RelayStore for a machine's relay.
    A running job is shown as its machine has reported it."""

    def __init__(self, url: str, unreachable: int = UNREACHABLE) -> None:
        self.link = RedisLink(url)
        self.feed = RedisFeed(self.link)
        self.unreachable = unreachable  # seconds
        self._errors = RepeatedErrors(log)  # by key: saved/NAME, schedules/NAME
        self._policy_checked_at = -inf  # on the monotonic clock; -inf: never, or it is wrong
        self.pauses = RedisPauses(self.link)
        self.saved = RedisSaved(self.link, self._errors)

    def close(self) -> None:
        self.feed.close()
        self.link.client.close()

    def now(self) -> float:
        return self.link.now()

    # Looking

    def _key(self, name: str) -> str:
        return self.link.key(name)

    def get(self, job_id: str) -> Job:
        jobs = self._load([job_id]) if ID_RE.fullmatch(job_id) else []
        if not jobs:
            raise JobNotFound(f"there is no job {job_id!r}")
        return jobs[0]

    def get_many(self, ids: Sequence[str]) -> Iterator[Job]:
        return self._load_in_steps(ids, SEARCH_STEP)

    def _load_in_steps(self, ids: Sequence[str], step: int) -> Iterator[Job]:
        for place in range(0, len(ids), step):
            yield from self._load(ids[place : place + step])

    def _load(self, ids: Sequence[str]) -> Sequence[Job]:
        """Those of the jobs that exist, in this order; damaged ones with a reason that says so."""
        commands: list[Command] = [("ZRANGE", self._key("heard"), 0, -1, "WITHSCORES"), ("TIME",)]
        for job_id in ids:
            commands.append(("GET", self._key(f"job:{job_id}")))
            commands.append(("HMGET", self._key(f"state:{job_id}"), *STATE_FIELDS))
        last_seen, now, *found = map(none_if_damaged, self.link.try_all(commands))
        silences = {name: now[0] - int(at) for name, at in self._last_seen(last_seen)}
        triples = list(zip(ids, found[::2], found[1::2], strict=True))
        odd = [i for i, content, state in triples if not (content and state and state[0])]
        again = self._read_again(odd) if odd else {}
        jobs = []
        for job_id, content, state in triples:
            parts = again.get(job_id, (content, state))
            if parts is not None:
                jobs.append(self._parse(job_id, parts[0], parts[1] or NO_STATE, silences))
        return jobs

    def _read_again(self, ids: Sequence[str]) -> dict[str, tuple[Any, Any] | None]:
        """The record and the state of jobs that seemed to lack one; None if a job is deleted. It
        may have been stored or deleted between the two commands that read it, so only what it still
        lacks is damage."""
        commands: list[Command] = []
        for job_id in ids:
            job, state = self._key(f"job:{job_id}"), self._key(f"state:{job_id}")
            commands += [("EXISTS", job, state), ("GET", job), ("HMGET", state, *STATE_FIELDS)]
        found = [none_if_damaged(answer) for answer in self.link.try_all(commands)]
        again: dict[str, tuple[Any, Any] | None] = {}
        answers = zip(ids, found[::3], found[1::3], found[2::3], strict=True)
        for job_id, count, content, state in answers:
            again[job_id] = (content, state) if count else None
        return again

    def _parse(
        self,
        job_id: str,
        content: bytes | None,
        state: Sequence[bytes | None],
        silences: dict[str, int],
    ) -> Job:
        words = ((word or b"").decode(errors="replace") for word in state)
        status, queue, token, log_size, log_start, due = words
        record, _, journal = (content or b"").partition(b"\n")
        try:
            job = parse_record(record or b"null", job_id)
        except (ValueError, RecursionError) as error:
            why = str(error) if record else "it is missing"
            job = Job(id=job_id, command="", reason=f"{DAMAGED}: {why}", version=0)
        attempts = parse_journal(journal)
        job.status, damage = parse_status(status)
        job.reason = job.reason or damage
        job.queue = queue if is_queue_name(queue) else job.queue
        job.attempts, last = attempts[1:], attempts[-1]
        if job.status is Status.RUNNING and last.ended is None and last.number:
            fill_running(job, last)
        elif job.status in FINISHED:
            fill_finished(job, last)
        else:
            job.attempt = judge(job.retries, last, None, "", 0.0).next_attempt
            if due and last.number:  # by the clock of Redis
                job.retried_at = utc(min(parse_score(due), LAST_TIME))
        job.log_size, job.log_start = parse_count(log_size), parse_count(log_start)
        if job.status is Status.RUNNING:
            job.reason = self._silence(token, silences) or job.reason
        return job

    def _silence(self, token: str, silences: dict[str, int]) -> str | None:
        """Why a running job's state may be outdated: its machine is silent."""
        spool = token.rpartition(":")[0]
        seconds = silences.get(spool)
        if seconds is None:
            return f"its machine {spool} has not been heard of since Redis was emptied"
        if seconds < self.unreachable:
            return None
        return f"its machine {spool} has not been heard of for {seconds} s"

    def status(self, job_id: str) -> Status:
        if ID_RE.fullmatch(job_id):
            state, job = self._key(f"state:{job_id}"), self._key(f"job:{job_id}")
            commands: list[Command] = [("HGET", state, "status"), ("EXISTS", job, state)]
            for is_last in (False, True):  # it may be stored or deleted between the two commands
                found, count = self.link.try_all(commands)
                if isinstance(count, OSError):
                    raise count
                if count and (is_last or text_of(found)):
                    return parse_status(text_of(found))[0]
        raise JobNotFound(f"there is no job {job_id!r}")

    def list(
        self,
        status: Status | None = None,
        queue: str | None = None,
        text: str = "",
        limit: int = 50,
        before: str | None = None,
        since: str | None = None,
        short: bool = False,
    ) -> tuple[Sequence[Job], str | None]:
        jobs: list[Job] = []
        needle, read = text.casefold(), 0
        step = SEARCH_STEP if text or queue else limit + 1
        place = before.encode() if before else None
        while read < folder_store.SCAN_LIMIT:
            ids = self._ids_before(place, step, status, since)
            for job in self._load_in_steps(self.link.checked(ids), RECORD_STEP):
                if len(jobs) == limit:
                    return jobs, before
                before = job.id
                if matches(job, status, queue, needle):
                    jobs.append(shorten(job) if short else job)
            if len(ids) < step:
                return jobs, None
            place, read = ids[-1], read + len(ids)
            before = place.decode(errors="replace")
        return jobs, before

    def _last_seen(self, flat: Sequence[Any] | None) -> Sequence[tuple[str, float]]:
        """(spool, time of its last report) of each machine."""
        return [
            (name, float(at))
            for raw, at in flat_pairs(flat or [])
            for name in self.link.checked([raw], SPOOL_RE)
        ]

    def _ids_before(
        self, before: bytes | None, count: int, status: Status | None, since: str | None = None
    ) -> Sequence[bytes]:
        """IDs as they are stored, newest first."""
        key = self._key(f"status:{status}" if status else "all")
        top = b"(" + before if before else b"+"
        bottom = f"[{since}" if since else "-"
        (found,) = self.link.ask(("ZREVRANGEBYLEX", key, top, bottom, "LIMIT", 0, count))
        return list(found)

    def find(self, part: str) -> Sequence[str]:
        return ids_with(part, self._iter_all_ids())

    def _iter_all_ids(self) -> Iterator[str]:
        (found,) = self.link.ask(("ZRANGE", self._key("all"), 0, -1))
        yield from self.link.checked(found)

    def unfinished_ids(self) -> set[str]:
        states = (Status.QUEUED, Status.RUNNING)  # the order in which jobs move
        found = self.link.ask(*(("ZRANGE", self._key(f"status:{s}"), 0, -1) for s in states))
        return {name for names in found for name in self.link.checked(names)}

    def iter_finished_ids(self) -> Iterator[str]:
        return heapq.merge(*map(self._iter_ids, FINISHED), reverse=True)

    def _iter_ids(self, status: Status) -> Iterator[str]:
        before = None
        while ids := self._ids_before(before, ID_STEP, status):
            yield from self.link.checked(ids)
            before = ids[-1]

    def queued_by_queue(self) -> dict[str, Sequence[str]]:
        (names,) = self.link.ask(("SMEMBERS", self._key("queues")))
        queues, kinds = sorted(self.link.checked(names, QUEUE_RE)), ("queue", "delayed", "newer")
        keys = [self._key(f"{kind}:{queue}") for queue in queues for kind in kinds]
        found = self.link.ask(*(("ZRANGE", key, 0, -1) for key in keys)) if keys else []
        waiting = zip(queues, found[::3], found[1::3], found[2::3], strict=True)
        known = {queue: sorted(self.link.checked(chain(*ids))) for queue, *ids in waiting}
        return {queue: ids for queue, ids in known.items() if ids}

    def counts(self) -> dict[Status, int]:
        counts = self.link.ask(*(("ZCARD", self._key(f"status:{s}")) for s in Status))
        return dict(zip(Status, counts, strict=True))

    def finished_totals(self) -> dict[Status, int]:
        here = self.counts()
        (deleted,) = self.link.ask(("HGETALL", self._key("deleted")))
        return {s: here[s] + parse_count(deleted.get(s.encode())) for s in FINISHED}

    def open_log(self, job_id: str) -> Log:
        self.status(job_id)
        return RedisLog(self.link, job_id)

    def watch(self, job_id: str) -> Notifier:
        self.status(job_id)
        return RedisNotifier(self.feed, job_id)

    def watch_all(self) -> RedisNotifier:
        return RedisNotifier(self.feed, "")

    def check_writable(self) -> None:
        self.link.ask(("SET", self._key("check"), "x", "EX", 1))

    def unreadable(self) -> Sequence[str]:
        for command in self.saved.list():
            self.saved.load_schedule(command.saved)
        return [f"{thing}: {why}" for thing, why in sorted(self._errors.current.items())]

    def secret(self) -> bytes:
        key = self._key("secret")
        (found,) = self.link.ask(("GET", key))
        if found is None:  # only then, because a full Redis refuses SETNX
            _, found = self.link.ask(("SETNX", key, os.urandom(SECRET_BYTES)), ("GET", key))
        return bytes(found)

    # Transitions

    def submit(self, job: Job, key: str | None = None, request: str | None = None) -> Job:
        check_queue(job.queue)
        self.check_policy()
        known = None if key is None else self._job_of_earlier_key(key, job)
        if known is not None:
            return known
        job = replace(job, id=new_id(), submitted_at=utc())
        name = "" if key is None else hash_key(key)
        at = f"{parse_time(job.not_before):.3f}" if job.not_before else ""
        asked = (job.id, job.queue, encode_record(job), name, job.saved or "", at, request or "")
        given = self.link.run("submit", *asked).decode()
        if given == job.id:
            return job
        known = self.get(given)
        check_request(known, self._request_of(given), request)
        return known

    def _request_of(self, job_id: str) -> str | None:
        """The hash of the request that submitted a job; None if it is not known. It is not stored
        in key:HASH, because earlier versions expect only the ID there."""
        return self._state_of(job_id, "request") or None

    def _job_of_earlier_key(self, key: str, job: Job) -> Job | None:
        """The job that an earlier version submitted for the same purpose as `job`, if the key is
        our own; None if there is no such job, or it was deleted."""
        earlier = earlier_key(key)
        if earlier is None:
            return None
        (given,) = self.link.try_all([("GET", self._key(f"key:{hash_key(earlier)}"))])
        with suppress(JobNotFound):
            known = self.get(text_of(given))
            is_earlier = self._request_of(known.id) is None
            return known if is_earlier and is_same_run(known, job) else None
        return None

    def cancel(self, job_id: str, reason: str) -> Job:
        while (found := self.status(job_id)) not in FINISHED:
            if found is Status.RUNNING:
                answer = self.link.run("wish", job_id, reason)
                if answer == b"running":
                    return self.get(job_id)
                if answer != b"damaged":
                    continue
            ended = {"status": Status.CANCELLED, "reason": reason, "finished_at": utc()}
            line = f"\n{json.dumps({'ended': ended})}\n"
            asked = self.cancel_reason(job_id) if found is Status.RUNNING else ""
            if self._override(job_id, found, "*", Status.CANCELLED, line, cancel=asked):
                return self.get(job_id)
        raise cannot_cancel(job_id, found)

    def _override(
        self,
        job_id: str,
        found: Status,
        token: str,
        to: Status,
        line: str,
        delay: float = 0.0,
        cancel: str = "",
    ) -> bool:
        """Move a job without its machine. Returns False if its state, its token or the request to
        cancel it (`cancel`) has changed. `delay`: seconds until a job that is queued again may
        start."""
        answer: bytes = self.link.run("override", job_id, found, token, to, line, delay, cancel)
        return answer == b"done"

    def delete(self, job_id: str) -> None:
        self.status(job_id)
        answer = self.link.run("delete", job_id).decode()
        if answer == "absent":
            raise JobNotFound(f"there is no job {job_id!r}")
        if answer != "deleted":
            raise cannot_delete(job_id, answer)

    def fire(
        self, command: SavedCommand, seen: Schedule, decision: ScheduleDecision, job: Job | None
    ) -> Job | None:
        name = command.saved
        raw, schedule = self.saved.read_schedule(name)
        record = self.saved.read(name)
        if record is None or schedule != seen or self.saved.parse(name, record) != command:
            return None
        as_seen = (name, record, raw, encode_schedule(decision.schedule))
        if job is None or decision.key is None:
            self.link.run("fire", *as_seen)
            return None
        self.check_policy()
        job = replace(job, id=new_id(), submitted_at=utc())
        asked = (job.id, job.queue, encode_record(job), hash_key(decision.key), name, "", "")
        given = self.link.run("fire", *as_seen, *asked)
        if given is None:
            return None
        return job if given.decode() == job.id else self.get(given.decode())

    # Machines

    def _machines(self) -> Sequence[tuple[str, float, int, Sequence[WorkerInfo]]]:
        """(spool, heard at, seconds since, its workers) of each."""
        last_seen, shown, now = self.link.ask(
            ("ZRANGE", self._key("heard"), 0, -1, "WITHSCORES"),
            ("HGETALL", self._key("machines")),
            ("TIME",),
        )
        found = []
        for name, at in self._last_seen(last_seen):
            workers = parse_workers(shown.get(name.encode(), b""))
            found.append((name, at, now[0] - int(at), workers))
        return found

    def workers(self) -> Sequence[WorkerInfo]:
        found = [
            worker
            for _, _, silence, workers in self._machines()
            if silence < self.unreachable
            for worker in workers
        ]
        return sorted(found, key=lambda info: info.name)

    def machines(self) -> Sequence[Machine]:
        found = []
        for spool, at, silence, workers in self._machines():
            slots = sum(worker.slots for worker in workers)
            running = self.link.ask(("ZCARD", self._key(f"runs:{spool}")))[0]
            host = workers[0].host if workers else spool.rpartition("-")[0]
            state = "heard of" if silence < self.unreachable else "unreachable"
            found.append(Machine(spool, host, slots, running, utc(at), state))
        return sorted(found, key=lambda machine: machine.spool)

    def check(self) -> None:
        self.link.check_server()

    def check_policy(self, period: float | None = None) -> None:
        now = time.monotonic()
        if now - self._policy_checked_at < (POLICY_INTERVAL if period is None else period):
            return
        self._policy_checked_at = -inf
        try:
            self.link.check_server()
        except ValueError as error:
            raise EvictionAllowed(errno.EPERM, f"Redis may drop jobs: {error}") from None
        self._policy_checked_at = now

    def problem(self) -> str | None:
        try:
            self.check_policy(0.0)
        except EvictionAllowed as error:
            return str(error)
        oldest = self.now() - RESTORE_TIME
        key = self._key("restoring")
        (names,) = self.link.ask(("ZRANGE", key, oldest, "+inf", "BYSCORE"))
        if names:
            return f"Redis has returned to an older state: {len(names)} machines restore their jobs"
        return None

    def describe(self) -> dict[str, Any]:
        memory, server, at = self.link.ask(
            ("INFO", "memory"), ("INFO", "server"), ("GET", self._key("rolled-back"))
        )
        version = server.get("valkey_version") or server.get("redis_version")
        limit = memory.get("maxmemory") or None
        return {
            "kind": "redis",
            "rolled_back_at": utc(parse_score(at)) if at else None,
            "version": version,
            "used_bytes": memory.get("used_memory"),
            "max_bytes": limit,
        }

    def mark_lost(self, spool: str, reason: str) -> Sequence[Job]:
        """Give a machine up: its running jobs become lost, or are queued again if they may be
        retried; what it has only taken is queued. If it comes back, it is fenced. Returns the lost
        jobs; ValueError if there is no such machine."""
        known = f"taken:{spool}", f"runs:{spool}"
        last_seen, *ids = self.link.ask(
            ("ZSCORE", self._key("heard"), spool),
            *(("ZRANGE", self._key(name), 0, -1) for name in known),
        )
        if last_seen is None and not any(ids):
            raise ValueError(f"there is no machine {spool!r}; /workers has their names")
        self.give_back(spool)
        running = self.link.checked(ids[1])
        jobs = [job for job_id in running if (job := self._lose(job_id, spool, reason))]
        self.link.ask(("ZREM", self._key("heard"), spool), ("HDEL", self._key("machines"), spool))
        return jobs

    def give_back(self, spool: str, ids: Sequence[str] | None = None) -> None:
        for job_id in self.taken_by(spool) if ids is None else ids:
            token = self._state_of(job_id, "token")
            if token.startswith(f"{spool}:"):
                self.give_back_one(job_id, token)

    def taken_by(self, spool: str) -> Sequence[str]:
        (taken,) = self.link.ask(("ZRANGE", self._key(f"taken:{spool}"), 0, -1))
        return self.link.checked(taken)

    def give_back_one(self, job_id: str, token: str) -> bool:
        return self._override(job_id, Status.QUEUED, token, Status.QUEUED, "")

    def _state_of(self, job_id: str, field: str) -> str:
        """A field of a job's state; "" if it has none or is damaged."""
        (value,) = self.link.try_all([("HGET", self._key(f"state:{job_id}"), field)])
        return text_of(value)

    def cancel_reason(self, job_id: str) -> str:
        return self._state_of(job_id, "cancel")

    def drop(self, job_id: str, why: str) -> None:
        """End a job whose record is damaged: it is lost, and all others continue."""
        log.error("lost job=%s reason=%r", job_id, f"{DAMAGED}: {why}")
        self.link.run("drop", job_id, damaged_line(why))

    def _lose(self, job_id: str, spool: str, reason: str) -> Job | None:
        """Give up a job that its machine will not report any more. Returns the job if this ended
        it: as lost, or as cancelled if Redis had accepted a request. Returns None if it was queued
        again or has ended meanwhile."""
        token, asked = self._state_of(job_id, "token"), self.cancel_reason(job_id)
        if not token.startswith(f"{spool}:"):
            return None
        job = self.get(job_id)
        attempt, lines = job.attempts[-1] if job.attempts else Attempt(), []
        if attempt.ended is not None or attempt.number == 0:  # confirmed: it may have started
            attempt = Attempt(job.attempt, spool, spool, "", utc(), 0.0)
            lines.append({"claimed": attempt.claimed_line()})
        outcome = Outcome(Status.LOST, reason=reason, finished_at=utc())
        verdict = judge(job.retries, replace(attempt, ended=outcome), None, "", 0.0)
        if asked:
            outcome = replace(outcome, status=Status.CANCELLED, reason=asked)
            verdict = Verdict(Status.CANCELLED, outcome, recorded=False)
        lines.append({"ended": outcome.ended_line()})
        text = "".join(f"\n{json.dumps(line)}\n" for line in lines)
        delay = delay_before_start(job, verdict, 0.0).seconds_left(time.time())
        if not self._override(job_id, Status.RUNNING, token, verdict.status, text, delay, asked):
            is_asked_since = self.cancel_reason(job_id) != asked
            return self._lose(job_id, spool, reason) if is_asked_since else None
        log.warning("lost job=%s machine=%s now=%s", job_id, spool, verdict.status)
        return self.get(job_id) if verdict.status in FINISHED else None

    def lose_missing(self, job_id: str, spool: str) -> Job | None:
        return self._lose(job_id, spool, "its folder was removed from its machine's spool")

    def give_up_silent_machines(self, lost_after: int, own_spool: str) -> Sequence[Job]:
        jobs: list[Job] = []
        machines = self._machines()
        newest = max((heard_at for _, heard_at, _, _ in machines), default=0.0)
        for spool, heard_at, _, _ in machines:
            silence = int(newest - heard_at)
            if spool == own_spool:
                continue
            if silence >= lost_after:
                jobs += self.mark_lost(spool, f"its machine {spool} was gone for {silence} s")
            elif silence >= self.unreachable:
                self.give_back(spool)
        return jobs

    # For a machine's relay

    def send(self, messages: Sequence[Command]) -> Sequence[Any]:
        return self.link.try_all(messages)

    def beat(
        self,
        spool: str,
        workers: Sequence[WorkerInfo],
        instance: Instance | None = None,
        ended: str = "",
    ) -> MachineOrders:
        instance = instance or Instance("")
        shown = json.dumps([encode_worker(worker) for worker in workers])
        rest = (instance.name, instance.since, ended, INSTANCE_SILENCE, *instance.known)
        epoch, *answer = self.link.run("beat", spool, shown, os.urandom(8).hex(), *rest)
        if epoch is None:
            raise SpoolInUse(answer[0].decode(errors="replace"), parse_count(answer[1]))
        cancel_requests, deletions, paused, beats, since, restoring, must_restore = answer
        instance.beats, instance.since = parse_count(beats), parse_score(since)
        instance.epoch = epoch.decode()
        reasons = {
            raw: reason.decode(errors="replace") for raw, reason in flat_pairs(cancel_requests)
        }
        pauses = dict(flat_pairs(paused))
        return MachineOrders(
            epoch.decode(),
            {job_id: reasons[job_id.encode()] for job_id in self.link.checked(reasons)},
            list(self.link.checked(deletions)),
            {queue: pauses[queue.encode()] for queue in self.link.checked(pauses, QUEUE_RE)},
            restoring,
            bool(must_restore),
        )

    def restored(self, spool: str) -> None:
        self.link.ask(("ZREM", self._key("restoring"), spool))

    def acknowledge(
        self, spool: str, cancel_requests: Iterable[str], deletions: Iterable[str]
    ) -> None:
        commands: list[Command] = [
            ("HDEL", self._key(f"wishes:{spool}"), name) for name in cancel_requests
        ]
        commands += [("SREM", self._key(f"gone:{spool}"), name) for name in deletions]
        if commands:
            self.link.ask(*commands)

    def take(
        self, spool: str, want: int, queues: Iterable[str], instance: Instance | None = None
    ) -> tuple[Sequence[Assignment], float]:
        known = (instance or Instance("")).known
        for _ in range(LOOKUPS):  # until all that was given can be used
            line = damaged_line("it is missing, or much too large")
            answer = self.link.run("take", spool, want, VERSION, line, *known, *queues)
            if answer is None:
                raise RedisIsOlder
            given, next_due = answer
            found = [assignment for each in given if (assignment := self._usable(spool, *each))]
            if len(found) == len(given):
                break
        return found, float(next_due or "inf")

    def _usable(
        self, spool: str, raw_id: bytes, raw_token: bytes, size: bytes, content: bytes
    ) -> Assignment | None:
        """A job that was taken. None if its ID is no ID, if its record is damaged, or if it is of a
        newer version: then it waits for a machine that knows that one."""
        if not self.link.checked([raw_id]):
            self.link.run("unlist", spool, raw_id)
            return None
        job_id, token = raw_id.decode(), raw_token.decode(errors="replace")
        record, _, journal = content.partition(b"\n")
        try:
            if max(len(record), len(journal)) > SMALL_FILE:
                raise ValueError(f"it is larger than {SMALL_FILE:,} bytes")
            version = parse_record(record, job_id).version
            if version < VERSION:
                raise ValueError(f"it is of version {version}")
        except (ValueError, RecursionError) as error:
            self.drop(job_id, str(error))
            return None
        if version > VERSION:
            log.info("skipped job=%s reason='its record is of version %d'", job_id, version)
            self.link.run("defer", job_id, token, version)
            return None
        log_size = parse_count(size) if size else None
        return Assignment(job_id, token, log_size, record, journal)

    def report(self, entry: SpoolEntry, size: int) -> Command:
        confirms = int(entry.place == "taken")
        delay = entry.seconds_to_retry() if entry.status_for_redis is Status.QUEUED else 0.0
        rest = (entry.token, entry.status_for_redis, entry.journal, size, confirms, delay)
        return self.link.script("report", entry.id, *rest)

    def restore(self, entry: SpoolEntry) -> Command:
        status = Status.RUNNING if entry.status is Status.QUEUED else entry.status
        content = entry.record.rstrip(b"\n") + b"\n" + entry.journal
        asked = read_cancel_request(entry.folder)
        reason = asked.reason if asked else ""
        return self.link.script(
            "restore", entry.id, status, entry.queue, content, entry.token, reason
        )

    def append(self, entry: SpoolEntry, start: int, data: bytes, how: str) -> Command:
        rest = (start, data, REDIS_LOG_KEPT, how, entry.log_at)
        return self.link.script("append", entry.id, entry.token, *rest)

    def note(self, entry: SpoolEntry, offset: int, samples: bytes) -> Command:
        return self.link.script("note", entry.id, entry.token, offset, samples)

    def known_states(self, ids: Sequence[str]) -> Sequence[tuple[str, str, int | None]]:
        names = "status", "token", "log_size"
        commands = [("HMGET", self._key(f"state:{i}"), *names) for i in ids]
        states = [none_if_damaged(a) or (None,) * 3 for a in self.link.try_all(commands)]
        return [
            (
                (status or b"").decode(errors="replace"),
                (token or b"").decode(errors="replace"),
                None if size is None else parse_count(size),
            )
            for status, token, size in states
        ]

    def running_on(self, spool: str) -> Sequence[str]:
        (found,) = self.link.ask(("ZRANGE", self._key(f"runs:{spool}"), 0, -1))
        return self.link.checked(found)

    def past_log(self, assignment: Assignment) -> LogTail:
        if not assignment.log_size:
            return LogTail()
        begin = (assignment.log_size - 1) // values.BLOCK * values.BLOCK
        stored, times = self.link.try_all(
            [
                self.link.script("read", assignment.id, begin, values.BLOCK),
                ("GET", self._key(f"times:{assignment.id}")),
            ]
        )
        offset, data = none_if_damaged(stored) or (begin, b"")
        return LogTail(int(offset), data, none_if_damaged(times) or b"")

    def prune(self, retention: Retention, days: int, max_bytes: int) -> Iterator[None]:
        oldest = self.now() - days * 86_400 if days and retention.believes_clock() else 0.0
        if not oldest and not max_bytes:
            return
        day = f"{datetime.fromtimestamp(oldest, UTC):%Y%m%d}-99"
        before = None if max_bytes else day.encode()
        total = sum(self.finished_totals().values())
        sweep = Sweep(max_bytes, oldest, retention, total)  # Redis keeps little of each log
        while ids := self._ids_before(before, SEARCH_STEP, None):
            before = ids[-1]
            now = self.now()
            for job in self._load(self.link.checked(ids)):
                if job.status in FINISHED:
                    self._prune_job(sweep, job, now)
            yield
        sweep.write_log()

    def _prune_job(self, sweep: Sweep, job: Job, now: float) -> None:
        size = job.log_size - job.log_start
        sweep.kept += size
        ended_at = now
        with suppress(ValueError):  # of a damaged journal
            ended_at = parse_time(job.finished_at or job.submitted_at or "")
        bound = sweep.bound(ended_at, now)
        if bound is None or self._is_read(job.id):
            return
        if bound == "age":
            sweep.retention.deleted += 1
        with suppress(JobError):
            self.delete(job.id)
            sweep.count_deleted(job.id, job.status, size, bound)

    def _is_read(self, job_id: str) -> bool:
        return bool(self.link.ask(("EXISTS", self._key(f"reading:{job_id}")))[0])


@dataclass(slots=True)
class LogTail:
    """The end of the log that a job's earlier attempts wrote on other machines."""

    offset: int = 0  # where `end` begins
    end: bytes = b""
    times: bytes = b""


@dataclass(slots=True)
class Instance:
    """One run of a spool's relay. Redis knows the one that speaks for a spool."""

    name: str  # random
    since: float = 0.0  # seconds since 1970, by the clock of Redis; 0: not accepted yet
    beats: int = 0  # the number of the last report of this spool that is known to be accepted
    epoch: str = ""  # of Redis then

    @property
    def known(self) -> tuple[str, int, float]:
        """What shows whether Redis has returned to an older state, and how long restoring lasts."""
        return self.epoch, self.beats, RESTORE_TIME


class RedisIsOlder(StoreError):
    """Redis has returned to an older state."""

    def __init__(self) -> None:
        super().__init__(errno.ESTALE, "Redis has returned to an older state")


class SpoolInUse(OSError):
    """Another instance of this spool reported to Redis a moment ago."""

    def __init__(self, instance: str, beats: int) -> None:
        super().__init__(errno.EBUSY, "another worker reported for this spool a moment ago")
        self.instance, self.beats = instance, beats


@dataclass(slots=True)
class MachineOrders:
    """The orders of Redis for a machine."""

    epoch: str  # it changes when Redis was emptied
    cancel_requests: dict[str, str]  # jobs to cancel, and why
    deletions: list[str]  # jobs to delete
    paused: dict[str, bytes]  # queues, and what is said of each
    restoring: int  # machines that are putting back what an older state of Redis lacks
    must_restore: bool  # this one is among them


STATE_FIELDS = ("status", "queue", "token", "log_size", "log_start", "not_before")
NO_STATE = (None,) * 6  # these fields of a damaged state
DAMAGED = "its record in Redis is damaged"


def none_if_damaged(answer: Any) -> Any:
    """An answer about one job; None if its key holds something else. Other errors are raised."""
    if isinstance(answer, RecordDamaged):
        return None
    if isinstance(answer, OSError):
        raise answer
    return answer


def text_of(answer: Any) -> str:
    """The text in an answer about one job; "" if there is none, or if its key is damaged."""
    return (none_if_damaged(answer) or b"").decode(errors="replace")


def parse_count(text: bytes | str | None) -> int:
    """A number of bytes or jobs from Redis; 0 if it is not a number."""
    with suppress(ValueError):
        return max(0, min(int(text or 0), LAST_SIZE))
    return 0


def parse_score(text: bytes | str | None) -> float:
    """A time in seconds since 1970 from Redis; 0 if it is not a valid time."""
    with suppress(ValueError):
        found = float(text or 0)
        return found if 0 <= found < LAST_TIME else 0.0
    return 0.0


def parse_status(text: str) -> tuple[Status, str | None]:
    """(status, problem) from the text in Redis. A job with a damaged status is lost; the problem of
    a good one is None."""
    with suppress(ValueError):
        return Status(text), None
    why = f"its status is {text[:40]!r}" if text else "it has no status"
    return Status.LOST, f"{DAMAGED}: {why}"


def damaged_line(why: str) -> str:
    """The journal's line for a job whose record is damaged."""
    ended = {"status": Status.LOST, "reason": f"{DAMAGED}: {why}", "finished_at": utc()}
    return f"\n{json.dumps({'ended': ended})}\n"


def flat_pairs(flat: Sequence[Any]) -> Iterator[tuple[Any, Any]]:
    """The pairs in a flat list, as Redis sends them."""
    return zip(flat[::2], flat[1::2], strict=True)


@dataclass(slots=True)
class SpoolInstances:
    """The file `instances` of a spool, beside what differs in a copy."""

    names: list[str]  # of the last instances, the newest last
    admitted: bool  # Redis has accepted one
    beats: int = 0  # see Instance, as are
    epoch: str = ""


@dataclass(slots=True)
class SpoolEntry:
    """One job in the spool, as the relay read it at one moment."""

    id: str
    status: Status
    place: str  # the spool's folder that holds it: taken, returned or its status
    folder: str
    token: str
    queue: str
    record: bytes
    journal: bytes
    log_size: int | None  # None: it has no log
    log_start: int
    log_at: float

    @property
    def is_waiting(self) -> bool:
        """Does it wait for a worker of this machine, confirmed or about to be?"""
        return self.place in ("taken", "queued")

    @property
    def is_over(self) -> bool:
        """Has its attempt ended, and may Redis know of that only with its whole log?"""
        return self.status in FINISHED or self.place == "returned"

    @property
    def status_for_redis(self) -> Status:
        """The status to report to Redis."""
        return Status.RUNNING if self.is_waiting else self.status

    def seconds_to_retry(self) -> float:
        """Seconds until its next attempt may start, where it has had one that ended badly."""
        with suppress(ValueError, RecursionError):  # a job's doing
            job = parse_record(self.record, self.id)
            verdict = judge(job.retries, parse_journal(self.journal)[-1], None, "", 0.0)
            delay = delay_before_start(job, verdict, 0.0)
            return delay.seconds_left(time.time()) if isfinite(delay.at_most) else 0.0
        return 0.0

    @property
    def worker(self) -> str | None:
        """The worker that claimed its last attempt."""
        return parse_journal(self.journal)[-1].worker


class Spool(FolderStore):
    """The jobs from Redis that this machine runs or has run: a jobs folder like any other, into
    which the relay puts jobs for the workers. In addition:

        name            this folder's name in Redis, made once
        epoch           that of Redis, as its jobs and pauses were compared with it last
        relay           flock-ed by the one relay
        instances       the last runs of the relay in this very folder, of which a copy has none
        taken/ID/       taken from Redis, not confirmed: no worker sees it yet
        returned/QUEUE/ID/    to be queued in Redis again, for whichever machine

    A journal that begins with {"taken": "SPOOL:N"} is of a job that Redis knows by that token."""

    EXTRA = ("taken", "returned")

    def __init__(self, root: str | os.PathLike[str]) -> None:
        super().__init__(root)
        self.name = self._read_name()

    def _make_folders(self) -> None:
        super()._make_folders()
        for name in self.EXTRA:
            os.makedirs(f"{self.root}/{name}", mode=0o700, exist_ok=True)

    def _read_name(self) -> str:
        """The host's name and a random part: hosts, and spools of one host, may be named alike."""
        path = f"{self.root}/name"
        host = re.sub("[^a-zA-Z0-9-]", "-", os.uname().nodename)[:24]
        with suppress(FileExistsError):
            draft = f"{self.root}/tmp/name-{os.urandom(4).hex()}"
            write_new(draft, f"{host}-{os.urandom(4).hex()}".encode())
            try:
                os.link(draft, path)
                self._set_aside_foreign()
            finally:
                os.unlink(draft)
        # Also if another worker made it: Redis must learn of no name that a power cut may undo.
        fsync_folder(self.root)
        fsync_folder(os.path.dirname(self.root))
        name = read_small(path).decode(errors="replace")
        if not SPOOL_RE.fullmatch(name):
            raise ValueError(f"{path} does not hold the name of a spool")
        return name

    def _set_aside_foreign(self) -> None:
        """Set aside the unfinished jobs of a folder that gets a new name, as a copy does: they are
        those of another machine, and must not run here as well."""
        for home in (f"{self.root}/taken", f"{self.root}/running", *self._queue_folders()):
            for job_id in self._listing(home):
                with suppress(BlockingIOError, FileNotFoundError):  # supervised here, or moving
                    self._set_aside_unless_alive(f"{home}/{job_id}")

    def _set_aside_unless_alive(self, folder: str) -> None:
        """Set aside a job unless its shim is alive; BlockingIOError if a worker supervises it."""
        with Claim(self, folder, self._lock_times(folder), None) as claim:
            with suppress(JobDamaged):  # without a journal it cannot be alive
                if not claim.acquire_lock():
                    return
            self._set_aside(folder, "its spool got a new name")

    def check_name(self) -> None:
        """OSError if the folder is missing or another one. Its jobs are not lost by that."""
        if read_small(f"{self.root}/name").decode(errors="replace") != self.name:
            raise OSError(errno.ENOENT, "another spool stands in its place", self.root)

    def _identity(self) -> dict[str, Any]:
        """What differs in every copy of this folder: on one file system its inode, on another
        machine the ID of the boot. It also changes with a restart of the machine."""
        found = os.stat(self.root)
        return {"boot": self.boot, "device": found.st_dev, "inode": found.st_ino}

    def _read_instances(self) -> SpoolInstances:
        """The stored use of this very folder by its relays. In a copy, or after a restart of the
        machine, no instance is known; under a new name, no report is."""
        with suppress(OSError, ValueError, TypeError, RecursionError):
            record = json.loads(read_small(f"{self.root}/instances"))
            use = SpoolInstances(**known_fields(SpoolInstances, record))
            names = use.names if isinstance(use.names, list) else []
            identity = self._identity()
            is_here = {name: record.get(name) for name in identity} == identity
            seen = 0, ""
            if record.get("spool") == self.name:  # else it has got a new name, which Redis lacks
                seen = whole_number(use.beats, 0, LAST_SIZE), str(use.epoch)
            return SpoolInstances(names if is_here else [], is_here and use.admitted is True, *seen)
        return SpoolInstances([], False)

    def begin_instance(self) -> Instance:
        """A new run of the relay, which has the relay's lock."""
        use = self._read_instances()
        instance = Instance(os.urandom(8).hex(), beats=use.beats, epoch=use.epoch)
        self.note_instance(instance, self.is_admitted())
        return instance

    def note_instance(self, instance: Instance, admitted: bool) -> None:
        """Store that this instance runs in this very folder. Not fsynced: after a power cut the
        machine has another boot ID."""
        names = [name for name in self._read_instances().names if name != instance.name]
        names = [*names[-INSTANCES_KEPT:], instance.name]
        use = SpoolInstances(names, admitted, instance.beats, instance.epoch)
        draft = f"{self.root}/tmp/instances-{os.urandom(4).hex()}"
        try:
            with open(draft, "x", opener=open_private) as file:
                json.dump(asdict(use) | self._identity() | {"spool": self.name}, file)
            os.rename(draft, f"{self.root}/instances")
        except OSError as error:  # a worker starts on a full disk, too
            if error.errno not in FULL_ERRNOS:
                raise
            with suppress(OSError):
                os.unlink(draft)

    def is_admitted(self) -> bool:
        """Has Redis accepted an instance of this very folder? Before, it may be a copy, whose jobs
        another machine runs."""
        return self._read_instances().admitted

    def has_run(self, instance: str) -> bool:
        """Has this instance run in this very folder? It has ended, since it no longer holds the
        relay's lock."""
        return instance in self._read_instances().names

    def lock_relay(self) -> int | None:
        """Lock the right to speak with Redis for this spool until the descriptor is closed; None if
        another worker has it."""
        return lock_file(f"{self.root}/relay", os.O_RDWR | os.O_CREAT)

    @contextmanager
    def retention(self, redis_clock: float) -> Iterator[Retention]:
        """What is known of Redis' clock, for deleting from Redis by age."""
        fd = open_regular(f"{self.root}/retention-redis", os.O_RDWR | os.O_CREAT)
        try:
            retention = Retention.read(fd, self.boot, redis_clock)
            yield retention
            retention.write(fd)
        finally:
            os.close(fd)

    def _wait_is_over(self, claim: Claim, verdict: Verdict) -> bool:
        """Redis, whose clock is one for all machines, gave it when its time had come."""
        return True

    def is_own_host(self, claimed: str | None, host: str) -> bool:
        """A spool belongs to one machine, which may be renamed: a container gets a new host name
        with each start."""
        return True

    def requeue_home(self, queue: str) -> str:
        """A job that is to run again goes back to Redis: any machine may run it."""
        return f"{self.root}/returned/{queue}"

    # What the relay looks at

    def ids(self) -> list[str]:
        """All jobs here; those that have not ended come first."""
        found = [*self._listing(f"{self.root}/taken"), *self._listing(f"{self.root}/running")]
        for folder in self._queue_folders():
            found += self._listing(folder)
        for status in FINISHED:
            for folder in self._folders(status):
                found += self._listing(folder)
        return found

    def taken(self) -> Sequence[str]:
        return self._listing(f"{self.root}/taken")

    def active(self) -> set[str]:
        """The jobs that wait here for a worker, run, or are to be returned."""
        found = set(self._listing(f"{self.root}/running"))
        for folder in self._queue_folders():
            found.update(self._listing(folder))
        return found

    def _queue_folders(self) -> list[str]:
        """The folders of the queues in queued/ and returned/."""
        return [*paths_in(f"{self.root}/queued"), *paths_in(f"{self.root}/returned")]

    def watch_active(self) -> Notifier:
        """A watch on those folders; the folders of running jobs are added to it."""
        names = ("running", "queued", "returned", "workers", "returned/default", "queued/default")
        os.makedirs(f"{self.root}/returned/default", mode=0o700, exist_ok=True)
        return Notifier(*(f"{self.root}/{name}" for name in names))

    def read_entry(
        self, job_id: str, known: SpoolEntry | None = None, must_read: bool = False
    ) -> SpoolEntry | None:
        """The job as it is now; None if not here or not from Redis. `known`: an earlier look.
        `must_read`: OSError if the disk prevents it."""
        for _ in range(LOOKUPS):  # a job may move past the search
            for place, folder in self._places(job_id):
                try:
                    return self._read_entry_at(job_id, place, folder, known)
                except FileNotFoundError:
                    continue
                except OSError as error:
                    if error.errno in RESOURCE_ERRNOS or (must_read and not is_damage(error)):
                        raise
                    self._errors.report(f"{place}/{job_id}", error)
                    return None
        return None

    def holds(self, job_id: str) -> bool:
        """Is this job here, in any state? Only the relay adds one."""
        return any(os.path.isdir(folder) for _, folder in self._places(job_id))

    def _places(self, job_id: str) -> Iterator[tuple[str, str]]:
        """(taken, returned or a status; the folder) of each possible place, in the order in which a
        job moves. Nothing for a text that is not an ID: it might lead out of the spool."""
        if not ID_RE.fullmatch(job_id):
            return
        yield "taken", f"{self.root}/taken/{job_id}"
        for status in Status:
            for home in self._folders(status, job_id[:8]):
                yield status, f"{home}/{job_id}"
        for queue in self._listing(f"{self.root}/returned", is_queue_name):
            yield "returned", f"{self.root}/returned/{queue}/{job_id}"

    def _read_entry_at(
        self, job_id: str, place: str, folder: str, known: SpoolEntry | None
    ) -> SpoolEntry | None:
        """Read the journal before the log's size: once a job has ended, no byte is missed."""
        journal = self._read_journal(folder)
        size, start, at = None, 0, 0.0
        with suppress(FileNotFoundError, PermissionError), FileLog(f"{folder}/output.log") as file:
            size, start, at = file.size, file.start, file.changed_at
        status = Status.QUEUED if place in self.EXTRA else Status(place)
        token = token_in(journal)
        if known is not None and token in (known.token, ""):  # "": its journal was destroyed
            new = replace(known, status=status, place=place, folder=folder, journal=journal)
            new.log_size, new.log_start, new.log_at = size, start, at
            return new
        record = read_small(f"{folder}/job.json")
        if not token.startswith(f"{self.name}:"):
            return None
        queue = "default"
        with suppress(ValueError, RecursionError):  # a job's doing
            queue = parse_record(record, job_id).queue
        return SpoolEntry(
            job_id, status, place, folder, token, queue, record, journal, size, start, at
        )

    @staticmethod
    def _read_journal(folder: str) -> bytes:
        try:
            return read_small(f"{folder}/journal")
        except FileNotFoundError:
            raise
        except OSError as error:
            if not is_damage(error):
                raise
            return b""  # nothing is known of it

    @staticmethod
    def read_log(entry: SpoolEntry, offset: int, limit: int) -> bytes:
        with FileLog(f"{entry.folder}/output.log") as file:
            return file.pread(limit, offset)

    @staticmethod
    def read_times(entry: SpoolEntry, known: int) -> tuple[int, bytes]:
        """(offset, bytes from there on) of its samples after the first `known` bytes, or of all of
        them if samples have been removed. Only the first TIMES_KEPT bytes of the file count,
        because a job can put a file of any size there."""
        with suppress(OSError):
            fd = open_regular(f"{entry.folder}/times", os.O_RDONLY)
            try:
                size = min(os.fstat(fd).st_size, TIMES_KEPT)
                begin = known if known <= size else 0
                return begin, os.pread(fd, size - begin, begin)
            finally:
                os.close(fd)
        return known, b""

    # What the relay does

    def receive(self, found: Sequence[tuple[Assignment, LogTail]]) -> None:
        """Write taken jobs down durably, where no worker sees them yet. All are written before the
        first fsync, so that the file system can flush them together."""
        if not found:
            return
        drafts = [self._draft(assignment, past) for assignment, past in found]
        for draft in drafts:
            for name in ("job.json", "journal", "output.log"):
                with suppress(FileNotFoundError):
                    fsync_file(f"{draft}/{name}")
            fsync_folder(draft)
        for draft in drafts:
            os.rename(draft, f"{self.root}/taken/{os.path.basename(draft)}")
        fsync_folder(f"{self.root}/taken")

    def _draft(self, assignment: Assignment, past: LogTail) -> str:
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
        if past.times:
            contents["times"] = past.times
        for name, content in contents.items():
            with open(f"{draft}/{name}", "xb", opener=open_private) as file:
                file.write(content)
        if assignment.log_size is not None:
            with open(f"{draft}/output.log", "xb", opener=open_private) as file:
                file.truncate(assignment.log_size)  # what is not here is a hole, as after a trim
                file.seek(past.offset)
                file.write(past.end)
        return draft

    def admit(self, entry: SpoolEntry) -> SpoolEntry:
        """Let a confirmed job run."""
        home = f"{self.root}/queued/{entry.queue}"
        if not os.path.isdir(home):
            os.makedirs(home, mode=0o700, exist_ok=True)
        os.rename(entry.folder, f"{home}/{entry.id}")
        return replace(entry, place="queued", folder=f"{home}/{entry.id}")

    def discard(self, entry: SpoolEntry) -> None:
        """Remove a job that is no longer this machine's."""
        grave = f"{self.root}/tmp/{entry.id}.discarded-{os.urandom(4).hex()}"
        with suppress(FileNotFoundError):
            os.rename(entry.folder, grave)
            with suppress(OSError):  # retention tries it again
                remove_tree(grave)

    def leave_request(self, job_id: str, reason: str) -> None:
        """Leave a request to cancel a job that has not ended here. Redis has accepted it, so it
        holds even if the exit is in the journal. Unlike `cancel`, this never waits for a recorder
        that may have looked for a request already: Redis refuses what that records. JobNotFound
        also for a job in taken/ or returned/; FileNotFoundError if it moves."""
        status, folder = self._find(job_id)
        if status in FINISHED:
            return
        if status is Status.QUEUED and self._cancel_queued(folder, reason):
            return
        self._request_cancel(folder, reason)
        fsync_folder(folder)

    def set_aside(self, entry: SpoolEntry) -> None:
        """Move a job that is no longer this machine's to set-aside/: it ran here, and its log may
        be the only whole one."""
        self._set_aside(entry.folder)

    def end_cancelled(self, entry: SpoolEntry, reason: str) -> None:
        """Record as cancelled a job that has ended otherwise or waits in taken/ or returned/: Redis
        accepted a request first. The exit code stays. Durable on return. BlockingIOError while the
        job is being recorded; OSError if the disk refuses."""
        with Claim(self, entry.folder, self._lock_times(entry.folder), None) as claim:
            with suppress(JobDamaged):  # its journal takes no line: then only the folder moves
                if not claim.acquire_lock():
                    raise BlockingIOError(errno.EAGAIN, "its journal is locked", entry.folder)
                journal = claim.shim_input()
                last = parse_journal(os.pread(journal, SMALL_FILE, 0))[-1]
                append_line(journal, {"ended": cancelled_line(entry.place, last, reason)})
                os.fsync(journal)
            self.move_folder(entry.folder, f"{self.root}/{Status.CANCELLED}/{entry.id[:8]}")

    def return_waiting(self, count: int) -> None:
        """Return up to `count` jobs that no worker here has claimed, the newest first."""
        homes = paths_in(f"{self.root}/queued")
        waiting = sorted((job_id, home) for home in homes for job_id in self._listing(home))
        for job_id, home in waiting[::-1][:count]:
            self._return(job_id, os.path.basename(home))

    def _return(self, job_id: str, queue: str) -> None:
        with (
            suppress(OSError, JobError),
            self._lock_queued(f"{self.root}/queued/{queue}/{job_id}") as claim,
        ):
            claim.move_to(Status.QUEUED, self.requeue_home(queue))

    def known_epoch(self) -> str:
        """The epoch of Redis that `note_epoch` stored last; "" before the first."""
        with suppress(OSError):
            return read_small(f"{self.root}/epoch").decode(errors="replace")
        return ""

    def note_epoch(self, epoch: str) -> None:
        replace_file(f"{self.root}/epoch", epoch.encode())

    def mirror_pauses(self, said: Mapping[str, bytes]) -> None:
        """Pause the queues that Redis has paused, and no other. What waits here in one of them is
        returned: once it is resumed, whichever machine is free may run it."""
        wanted, here = set(filter(is_queue_name, said)), self.pauses.queues()
        for queue in here - wanted:
            self.pauses.resume(queue)
        for queue in wanted:
            if queue not in here:
                self.pauses.put(parse_pause(queue, said[queue]))
            for job_id in self._listing(f"{self.root}/queued/{queue}"):
                self._return(job_id, queue)


def open_store(url: str, unreachable: int = UNREACHABLE) -> FolderStore | RedisStore:
    """The storage at a URL: a folder or Redis; ValueError for anything else."""
    if is_redis(url):
        return RedisStore(url, unreachable)
    if "://" in url or re.match("rediss?:", url):
        raise ValueError("TAILBOARD_STORAGE must be a folder, redis://… or rediss://…")
    with naming_setting("TAILBOARD_STORAGE", url):
        return FolderStore(url)


def open_spool(path: str) -> Spool:
    """The spool in a folder; OSError and ValueError name the setting."""
    with naming_setting("TAILBOARD_SPOOL", path):
        return Spool(path)
