"""The storage: the map of the jobs folder, the contracts of a storage, `open_store`, `load_logs`.

A job is a folder. Its state is the folder that it is in, and every transition is one rename:

    jobs/
      queued/QUEUE/ID/     waits for a worker; in QUEUE.urgent/ if it is urgent
      running/ID/          claimed by a worker
      succeeded/DAY/ID/    ended; also failed/ cancelled/ timed_out/ lost/
      workers/NAME.json    one for each worker, flocked while the worker lives
      keys/HASH            of an Idempotency-Key: the ID of its job, a hash of its request
      paused/QUEUE.json    a paused queue, from which no worker claims jobs
      queues/QUEUE.json    the limit of a queue; `lock`: held while one of its jobs is claimed
      sessions/SHA256      a person who stays signed in; named by the hash of the session key
      set-aside/           folders with a duplicate ID, kept for inspection
      tmp/                 half-made and half-deleted jobs, never read
      reserve/             empty folders, for what must be done when no inode is left
      deleted              how many jobs of each status were deleted
      secret               random bytes, with which the API signs tickets
      secret-key           encrypts the values of secrets in the folders of jobs
      audit/DAY.jsonl      who did what: lines, only ever appended
      saved/NAME.json      saved commands: the fields of POST /jobs, with params, cron and zone
      schedules/           NAME.state: which of its times are done; NAME.runs: its jobs
      notices/             records/ID: what was noticed about a job; requests/ID.KIND: jobs to look
                           at; default: TAILBOARD_NOTIFY has rules; sender: its flock is the right
                           to send; targets: held while notify.json is changed
      notify.json          the URLs that rules name; nobody else may read it
    ID/job.json      the job as it was submitted: written once      by the process that submits it
       journal       what happened: lines, only ever appended       by the holder of its flock
       output.log    the job's output, unmodified                   by the job
       script        the command, if it begins with #!              by the worker, before each start
       secrets       values that readers mask, encrypted            by the worker, before the log
       secret-params values of secret params, encrypted             by the process that submits it
       times         (time, size) samples of the log                by its supervisor
       usage         samples of its processor time and memory       by its worker
       files/        what the job keeps: its $JOB_FILES             by the job
       cancel        a request to cancel the job                    by anybody

The lines of a journal, in order: {"claimed": {…}} by the worker that claims the job, fsynced before
the shim starts the command; {"pid": 4242} and {"exit": 3} by the shim, which has the journal as its
standard input; {"stopping": {…}} by the supervisor before it signals; {"ended": {…}} by the process
that records the end, before the rename. Each line is one write with a newline before and after it,
so a torn line spoils only itself.

Lock rule: only the holder of the journal's flock moves the folder or appends `claimed` and `ended`.
The shim holds it as long as it lives, so a free lock proves that the shim is dead.
Supervisor rule: only the holder of the flock on `times` signals, writes `stopping` and records.
Secret rule: `secrets` is older than the log, and is removed only once the log is masked on disk.
Crash rule: the process that gets the lock reads the folder again, and `judge`, one pure function,
decides where it belongs. Whatever a crash or a power cut undid is then done again, so a crash is
harmless at any moment.
Notice rule: the request that someone looks at the end of a job is durable before the folder moves.
A job is looked up in the order in which it moves (queued, running, finished), so none is missed.

Which file of tailboard/ contains what:

    job.py, journal.py, judge.py    a job's fields, what happened to it, where it belongs
    status.py, errors.py            the states; the errors of a storage
    logs.py, log_limit.py           reading a log; its samples and its limit
    job_files.py, usage.py          the files of a job; what its processes used
    masking.py, secret_forms.py     reading the log of a job with secrets; what is masked of a value
    sealed.py                       the values of secrets, encrypted
    saved_command.py, schedules.py, cron.py, scheduler.py    saved commands, and when they start
    key_template.py, chains.py      their keys; which of them starts after another
    settings.py, program_log.py     the settings from the environment; the log of the program
    intervals.py                    the times that tests change
    addresses.py                    the addresses at which servers can listen
    disk_space.py                   the free space of a file system
    notices.py, notify_rules.py     what was noticed about a job; who is notified of what
    workers.py, keys.py             records of workers and pauses; Idempotency-Keys
    order.py                        limits, keys, and jobs that wait for others
    keep_rules.py, prune_pass.py    which ended jobs are deleted, and in which order
    saved_rules.py                  the rules of saved commands, as they are now
    sessions.py, audit.py           people who stay signed in; who did what
    access_role.py, proxy_headers.py    what a visitor may do; whom a proxy has signed in
    notifier.py, wake_pipe.py, slices.py     waiting for changes; work in short slices
    files.py, values.py             writing and locking files; IDs, times, checks
    folder/      jobs in a folder: submit, claim, cancel, delete, retention
    machines/    several machines: Redis, each machine's spool, the relay between them
    run/         a job at work: its environment, the shim, supervision, signals, the webhook
    explain/     what the logs of a job and of its earlier runs say
    web/         what the API's routes use      cli/    the commands      page/    the page

This module must not import the roles (api, worker, dashboard), Flask or Streamlit. It imports
machines/ only if the storage is in Redis.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Container, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from tailboard.audit import AuditFilter, AuditPage, Entry
from tailboard.disk_space import Space
from tailboard.folder.access import naming_setting
from tailboard.folder.claim import Claim
from tailboard.folder.folder_store import FolderStore
from tailboard.job import Job
from tailboard.job_files import FileListing, OpenFile
from tailboard.keep_rules import KeepLimits, Prunable
from tailboard.logs import Log
from tailboard.notices import NoticeRecord, Request
from tailboard.notifier import Notifier
from tailboard.order import RunningJob
from tailboard.saved_command import SavedCommand
from tailboard.schedules import SavedState, Schedule, ScheduleDecision
from tailboard.sessions import Session
from tailboard.settings import UNREACHABLE, is_redis
from tailboard.status import Status
from tailboard.usage import UsageSample
from tailboard.workers import Machine, Pause, WorkerInfo

if TYPE_CHECKING:
    from tailboard.machines.redis_store import RedisStore

# --- The contracts --------------------------------------------------------------------------------
#
# What a backend must provide, by subject. A backend also needs a `Log` and a `Notifier` of its own.
# Workers run jobs from folders: a `Claim` is one. A backend without folders therefore also provides
# a `RelayStore` (machines/relay_store.py), and each machine's worker runs jobs from a spool.
# It does not repeat these docstrings; it documents only how it differs.
# tests/test_store_contract.py checks every backend.
#
# In all methods:
# - IDs are made by `new_id` and sort by the time of submission. A string of any other form
#   is not the ID of any job.
# - OSError: the storage is full, damaged or unreachable. The change may or may not have been made.
# - Damage affects only the job, command or file in question. A job whose record cannot be read is
#   still found and listed, with version 0 and a `reason` that says what is wrong with it.
# - Several threads and several processes, on Redis also several machines, may call them at once.
# - "Durable" means that the change survives a power cut, on Redis as far as its own persistence
#   allows.


class Jobs(Protocol):
    """Jobs and their states. The transitions (submit, cancel, delete) name the states that they may
    start from; a worker makes all others (see WorkerStore)."""

    seals_params: bool  # can its jobs have secret params?

    def submit(self, job: Job, key: str | None = None, request: str | None = None) -> Job:
        """Queue a job (new -> queued) durably. Returns it with its new `id` and `submitted_at`,
        whose values in `job` are ignored. All other fields of RECORD are stored, and if the storage
        `seals_params`, the `secret_values`, encrypted; ValueError if it does not, and there are
        some. The returned job has none.

        `key`: an Idempotency-Key. If an earlier call with the same key has submitted a job that
        still exists, in whatever state, nothing is submitted and that job is returned, with
        `is_repeat`. If several calls run at once, only one of them submits. A key made by `own_key`
        also finds the job that an earlier version has submitted under the `earlier_key` for the
        same purpose, see `is_same_run`. `request`: a SHA-256 in hexadecimal of what the client
        sent, stored with the key; None if it is not known. KeyReused if the earlier call with this
        key passed another hash.

        If `job.saved` is the name of a saved command, `SavedCommands.runs` returns the new job from
        then on. `job.not_before`: no attempt starts before this time.

        If `job.if_busy` is "skip" and another job with `job.key` is queued or running, KeyBusy; if
        it is "latest" or "replace", the older jobs with the key that are queued are cancelled, and
        with "replace" the one that runs, too. After a crash in between, the claim of the job does
        the rest. A running job of `job.after` is not in the way: the new one waits for its end
        anyway. With a `key` that is known, none of this happens again.

        ValueError for a bad queue name, or if a job of `job.after` does not exist. After an
        OSError the job may still have been queued: only a call with a `key` can be repeated
        safely."""

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
        by: str | None = None,
    ) -> tuple[Sequence[Job], str | None]:
        """(up to `limit` jobs that match all the conditions, newest first; the ID to pass as
        `before` for the next page, or None if there are no more).

        `status`, `queue`: only these jobs; None: all.
        `text`: only jobs whose name, command or ID contains it, whatever its case.
        `before`: only jobs whose ID is below it. It need not be the ID of a job.
        `since`: only jobs whose ID is not below it, see `first_id`.
        `short`: long texts are cut, as by `shorten`, and `env` is empty.
        `by`: only jobs whose `submitted_by` equals it; None: all.

        Reads about SCAN_LIMIT records at most, so a page may be short or even empty although more
        follow. A job that changes its state meanwhile appears at most once."""

    def counts(self) -> dict[Status, int]:
        """How many jobs have each status; every status is a key. No record is read."""

    def count_since(self, since: str, status: Status | None = None) -> int:
        """How many jobs, with this status or with any, have an ID that is not below `since`. No
        record is read."""

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
        """How many jobs have ever ended with each status of FINISHED, including deleted ones. A job
        that is being deleted may be missing, but none is counted twice. The counts of a folder are
        not durable: a power cut may lose the last deletions."""

    def cancel(self, job_id: str, reason: str) -> Job:
        """Cancel a queued job (queued -> cancelled), or request that a running job's worker cancel
        it. The request is durable on return and always carried out: the job ends as cancelled, with
        this reason, or with that of an earlier request. Returns the job as it is then: cancelled,
        or still running. JobNotFound; WrongState if the job has ended, also if its exit is known
        but not recorded yet. OSError with EBUSY if recording its end takes long: try again."""

    def set_urgent(self, job_id: str, urgent: bool) -> Job:
        """Let a queued job start before all that are not urgent, or no longer, durably. The oldest
        urgent job starts first. Its retries wait as it was submitted. Returns the job. JobNotFound;
        WrongState if it is not queued. OSError with EBUSY if it is just being started."""

    def list_running(self) -> Sequence[RunningJob]:
        """The jobs that count towards limits and keys: those that are running, whether or not their
        worker lives, and on several machines those that a machine has taken. Sorted by ID."""

    def is_cancel_requested(self, job_id: str) -> bool:
        """Was a cancel of this running job accepted that has not ended it yet? JobNotFound."""

    def delete(self, job_id: str) -> None:
        """Delete a job with its log (finished -> deleted), durably. JobNotFound; WrongState if it
        has not ended or its end is being recorded."""

    def prunable(self, days: int, max_bytes: int) -> Iterator[Collection[Prunable]]:
        """The jobs that `WorkerStore.prune` would delete now if it could delete any number in an
        hour, also those whose log is being read. Yields what it has found so far, after each small
        part of the work; the first call in a process reads the record of each ended job. One thread
        at a time may use it."""

    def keep_limits(self) -> KeepLimits | None:
        """The limits of the last `WorkerStore.prune`; None if no worker has pruned yet."""

    def waiting_for(self, job_id: str) -> str | None:
        """A job that waits for this one and has not ended; None if there is none."""

    def fire(
        self, command: SavedCommand, seen: Schedule, decision: ScheduleDecision, job: Job | None
    ) -> Job | None:
        """Carry out what `due` has decided about the saved command's times: store the schedule
        `decision.schedule` and, if `decision` has a key, submit `job` under that key. Both or
        neither: after a crash in between, a later call does the rest, and the job is never
        submitted twice. Both come with the request that people are notified of `decision.notice`.

        `job`: None if times are skipped or only the schedule changes. Returns the submitted job.
        Returns None, and changes nothing, if the stored command or schedule no longer equals
        `command` and `seen`: it was changed, or another worker got it first. Also returns None if
        it had to finish an interrupted firing first. BlockingIOError if another worker is changing
        a schedule at this moment. JobError and ValueError as `submit`; after a KeyBusy nothing has
        changed."""


class Logs(Protocol):
    """The output of jobs. `load_logs` reads the end of one as text."""

    def open_log(self, job_id: str) -> Log:
        """The job's log, for reading; the caller closes it. It stays readable if the job moves, and
        retention does not delete the job while its log is open. JobNotFound; FileNotFoundError if
        the job has no log, for example because it has never started. The values of its secrets are
        masked; SecretsDamaged if that is not possible."""

    def watch(self, job_id: str) -> Notifier:
        """A notifier that becomes readable when the job's log or state changes after this call, and
        sometimes without a change; the caller closes it. JobNotFound."""


class Files(Protocol):
    """The files that jobs have written into their folder `files`, and what their processes used."""

    def list_files(self, job_id: str) -> FileListing:
        """The files of a job, also while it runs; none if it has none. With `elsewhere` if only its
        machine has their content; FilesElsewhere if only its machine knows them. JobNotFound."""

    def open_file(self, job_id: str, path: bytes) -> OpenFile:
        """Open a file of a job; the caller closes it. `path` is as in the listing. It stays
        readable if the job moves. No link is followed, whatever the job puts into its folder.
        JobNotFound; FileNotFoundError; NotAFile; FilesElsewhere."""

    def usage(self, job_id: str) -> Sequence[UsageSample]:
        """The samples of a job, oldest first; on Redis up to a minute late while it runs.
        JobNotFound."""

    def latest_usage(self, ids: Iterable[str]) -> Mapping[str, Sequence[UsageSample]]:
        """The last two samples of each of these jobs, oldest first, in few requests to a server. A
        job that has none, or does not exist, is left out."""


class Pauses(Protocol):
    """Queues from which no job is claimed, by any worker. Running jobs continue, and new jobs can
    be submitted."""

    def pause(self, queue: str, why: str | None, by: str | None) -> Pause:
        """Pause a queue, whether or not it has jobs, durably. If it is paused already, `why` and
        `by` replace the earlier ones and `since` stays. It applies from the next claim of each
        worker on, with several machines after a few tenths of a second. ValueError for a bad queue
        name."""

    def put(self, pause: Pause) -> None:
        """Store a pause unchanged, durably. It replaces the queue's current pause, if any. For
        pauses from another store, whose queue names are valid."""

    def resume(self, queue: str) -> None:
        """End a queue's pause, durably. Does nothing if it is not paused. ValueError as in
        `pause`."""

    def list(self) -> Sequence[Pause]:
        """The paused queues, by name. If the text of a pause is damaged, the queue is
        paused nevertheless, and `why` says so."""


class Limits(Protocol):
    """How many jobs of a queue can run at a time, on all machines together."""

    def set(self, queue: str, limit: int | None) -> None:
        """Limit a queue, durably; None removes the limit. It applies from the next claim of each
        worker on. Jobs that run continue, even if there are more. ValueError for a bad queue name
        or a bad limit."""

    def list(self) -> dict[str, int]:
        """The limits, by queue, sorted. A queue whose record is damaged has DAMAGED_LIMIT."""


class Sessions(Protocol):
    """The sessions of people who stay signed in, by the SHA-256 of their keys (in lower-case
    hexadecimal)."""

    def add(self, session: Session) -> None:
        """Store a new session, durably. Removes those that have expired and, if there are more than
        MAX_SESSIONS, the oldest ones."""

    def find(self, key_sha256: str) -> Session | None:
        """The session; None if it has ended or expired, or if its record is damaged."""

    def end(self, key_sha256: str) -> None:
        """End a session, durably. Does nothing if there is none."""


class AuditLog(Protocol):
    """Who did what: lines that are only ever appended; tailboard/audit.py explains them."""

    def append(self, entry: Entry) -> None:
        """Append a line. Not durable: a power cut can lose the lines of the last seconds. OSError
        if it cannot be stored; then a part of it may have been, which `read` skips."""

    def read(self, wanted: AuditFilter, limit: int, before: str | None = None) -> AuditPage:
        """Up to `limit` of the lines that are wanted, newest first, as they were appended.
        `before`: the `next` of the page before this one; ValueError if it has another form. Looks
        at a bounded number of lines, so a page can be short, or even empty, and still have a
        `next`."""

    def prune(self, days: int, now: float) -> Iterator[None]:
        """Delete the lines of days that ended more than `days` days ago (0: no limit). `now`: the
        time, in seconds since 1970, by a clock that can be trusted. A generator, see
        `WorkerStore.prune`. Several processes may do so at once."""


class Notices(Protocol):
    """What Tailboard has noticed about jobs; tailboard/notices.py explains requests, records and
    the sender."""

    def set_default(self, has_rules: bool) -> None:
        """Store whether jobs that have no rules of their own have any: TAILBOARD_NOTIFY. If not,
        no request is made for them when they end. The setting of the sender counts: False applies
        when this process becomes the sender, and `lead` stores the value again if it was lost."""

    def request(self, request: Request) -> None:
        """Store a request, durably. It replaces one of the same kind for the same job. One of the
        kind START need not be durable."""

    def requests(self, now: float) -> Sequence[Request]:
        """The requests that are due at this time (seconds since 1970), earliest first, 1,000 at
        most. Damaged ones are removed."""

    def next_due(self) -> float:
        """When the next request is due that is not yet, in seconds since 1970; infinity if there is
        none. Known after `requests`."""

    def done(self, request: Request) -> None:
        """Remove a request. A power cut may bring it back, which does no harm: the record says what
        was decided."""

    def load(self, job_id: str) -> NoticeRecord:
        """The record of a job; an empty one if there is none or it is damaged."""

    def save(self, record: NoticeRecord) -> None:
        """Store the record of a job, durably. Only the sender may do so. OSError if another process
        has become the sender: then nothing may be sent."""

    def recent(self, since: float, limit: int) -> Sequence[NoticeRecord]:
        """The records that have changed after this time (seconds since 1970), `limit` at most, the
        one that changed last first."""

    def forget(self, job_id: str) -> None:
        """Delete the record of a job, if there is one. Deleting a job does so, too."""

    def lead(self) -> bool:
        """Become the sender or remain it. Returns False if another process is the sender. To be
        called every second; a sender that does not call it for LEAD_TIME seconds, or whose process
        has died, may be succeeded by another."""

    def resign(self) -> None:
        """Stop being the sender."""

    def targets(self) -> Mapping[str, str]:
        """The URLs that rules can name, by name. ValueError, without a URL, if notify.json is
        damaged or other users can read or change it."""

    def set_target(self, name: str, url: str | None) -> None:
        """Name a URL, durably; None removes the name, if it exists. ValueError for a bad name or
        URL, if there are too many names (MAX_NAMED), and as `targets`."""


class SavedCommands(Protocol):
    """Saved commands by name, each with its schedule and its last jobs."""

    def save(self, command: SavedCommand, seen: str | None = None) -> bool:
        """Store a command under its name (`command.saved`), durably. It replaces a command of the
        same name; CommandChanged if that does not have the digest `seen` ("": there must be none;
        None: replace any). Returns True if the name is new. If its cron, zone or `paused` has
        changed, its schedule counts from now on. ValueError if the command could not run or is too
        large (MAX_DEFINITION), or if its `then` is new and `check_then` refuses it; TooManySaved if
        there is no room for it (MAX_SAVED, MAX_SAVED_BYTES). A command that does not grow is always
        accepted."""

    def load(self, name: str) -> SavedCommand:
        """The saved command, with `saved_at`. Do not change it: it is cached. CommandNotFound, also
        if it is damaged; the message says which."""

    def list(self) -> Sequence[SavedCommand]:
        """All saved commands, by name. Damaged ones are omitted, and reported by
        `Health.unreadable`."""

    def names(self) -> Sequence[str]:
        """The names of all saved commands, also of damaged ones."""

    def list_states(self) -> Sequence[SavedState]:
        """The same, each with its schedule and its runs, in few requests to a server."""

    def delete(self, name: str) -> None:
        """Delete a saved command, its schedule and the list of its runs, durably. Its jobs are
        kept. CommandNotFound; a damaged command can be deleted."""

    def runs(self, name: str) -> Sequence[str]:
        """The IDs of the last jobs, up to RUNS_KEPT, that were started from a saved command, newest
        first. Some may be deleted. Empty if there is no such command."""

    def load_schedule(self, name: str) -> Schedule:
        """The state of a saved command's times; the default `Schedule()` if none is stored. If it
        is damaged, `Health.unreadable` reports it, and times before the damage do not count."""


class Workers(Protocol):
    """The workers, and the machines that they run on."""

    def workers(self) -> Sequence[WorkerInfo]:
        """The living workers, by name; on Redis those of all machines that are not unreachable."""

    def machines(self) -> Sequence[Machine]:
        """The machines that share the jobs, by the names of their spools. Empty if the storage
        belongs to one machine."""


class Health(Protocol):
    """The health of the storage."""

    def check(self) -> None:
        """ValueError if the storage's configuration allows it to lose jobs; OSError if that cannot
        be checked now."""

    def check_writable(self) -> None:
        """OSError if nothing can be written."""

    def problem(self) -> str | None:
        """Why no job can start now, as a sentence fragment; None if no reason is known."""

    def unreadable(self) -> Sequence[str]:
        """The damaged jobs folders, workers, saved commands and schedules, which were omitted, each
        as "NAME: reason", sorted."""

    def space(self) -> Space | None:
        """The space of the file system with the jobs; None if it is not known here, as with
        Redis."""

    def describe(self) -> dict[str, Any]:
        """`kind` ("folder" or "redis") and what else is known about the storage, as JSON; for Redis
        `version`, `used_bytes`, `max_bytes` (None: no limit) and `rolled_back_at`, when it last
        returned to an older state (None: never)."""


class Store(Jobs, Logs, Files, Workers, Health, Protocol):
    """The storage as the API and the commands need it."""

    @property
    def pauses(self) -> Pauses:
        """The paused queues."""

    @property
    def limits(self) -> Limits:
        """The queues with a limit."""

    @property
    def notices(self) -> Notices:
        """What was noticed about jobs, and to whom it is sent."""

    @property
    def saved(self) -> SavedCommands:
        """The saved commands."""

    @property
    def sessions(self) -> Sessions:
        """The sessions of people who stay signed in."""

    @property
    def audit(self) -> AuditLog:
        """The audit log."""

    def secret(self) -> bytes:
        """SECRET_BYTES random bytes, the same for all processes that use this storage, made by the
        first call. OSError if they are damaged."""


class WorkerStore(Store, Protocol):
    """The additional methods that a worker needs. A worker calls them from one thread."""

    def heartbeat(self, info: WorkerInfo, running: int) -> None:
        """Show this worker, which runs `running` jobs, in `workers` for as long as its process
        lives. If another living worker has its name, `info.name` gets a number. Sets `info.running`
        and `info.seen_at`. Called every few seconds; after UNRESPONSIVE_AFTER seconds without a
        call the worker is shown as not responding. OSError if a hundred workers have the name."""

    def listen(self, queues: Iterable[str]) -> Notifier | None:
        """Serve these queues from now on; all if none is given, and all but these if each begins
        with "!". Returns a notifier that becomes readable when a job may have entered one of them,
        a queue was resumed or its limit changed, or a job has ended for which another waits; None
        if the system cannot notify, so that the caller must call `claim` periodically. ValueError
        for a bad queue name."""

    def claim(self, worker: str, host: str) -> Claim | None:
        """Claim the oldest job of our queues that may start now (queued -> running), for this
        worker on this host; urgent jobs come first. None if there is none. Skips jobs of paused
        queues and jobs that are not due yet, except that a request to cancel one is carried out.
        Also skips a job if its queue has as many running jobs as its limit, if another job with its
        key is running, or if a job of `after` has not ended; such a job does not delay those behind
        it. If a job of `after` has ended with another status than `after_status` allows, or was
        deleted, the job is cancelled (queued -> cancelled) with the reason "ID failed". A job that
        cannot run (it was cancelled, it is damaged, it has ended already) is moved to where it
        belongs. The caller releases the claim."""

    def next_due(self) -> float:
        """When the next job that is not due yet may start, on the monotonic clock (seconds);
        infinity if there is none. Known after `claim`."""

    def expects_more(self) -> bool:
        """Does a job of our queues wait for one that runs, on whatever worker, or that has just
        ended, so that it may start soon? Known after `claim`."""

    def orphans(self, host: str, ours: Container[str]) -> Iterator[Claim]:
        """The running jobs of this host that no living worker supervises: their worker has died.
        `ours` are the IDs that the caller supervises. Each claim makes the caller its supervisor;
        the job's processes may still be alive, and then they hold the lock of its journal. Jobs of
        another PID namespace are skipped while they are alive."""

    def tracking_env(self, job_id: str) -> dict[str, str]:
        """The environment variables that mark a job's processes, also those that have left its
        session. They differ for each job, and between a storage and a copy of it."""

    def prune(self, days: int, max_bytes: int, audit_days: int = 0) -> Iterator[None]:
        """Delete the ended jobs that the rules of keep_rules.py no longer keep: jobs that ended
        more than `days` days ago (0: no limit) or have too many newer runs, and, if the logs and
        files of all jobs exceed `max_bytes` on the disk (0: no limit) even after the large logs
        were trimmed, the oldest. Skips jobs whose log is being read. Also deletes half-made jobs,
        and lines of the audit log after `audit_days` days. Does nothing by age while the clock
        cannot be trusted, see Retention.
        A generator, so that the caller can spread the work over time; if another worker is pruning,
        it ends at once."""


# --- Entry points ---------------------------------------------------------------------------------


def load_logs(store: Logs, job_id: str, tail: int = 1000) -> str:
    """The last `tail` lines of a job's log, at most TAIL_BYTES, with U+FFFD instead of bytes that
    are not UTF-8. JobNotFound; FileNotFoundError if the job has no log."""
    with store.open_log(job_id) as log:
        return log.read_tail(tail, log.size)[1].decode(errors="replace")


def open_store(
    url: str, unreachable: int = UNREACHABLE, create: bool = True, secret_key: str = ""
) -> FolderStore | RedisStore:
    """The storage at a URL: a folder or Redis; ValueError for anything else. `create`: see
    `open_folder`; `secret_key`: the file of a SharedKey, for Redis."""
    if is_redis(url):
        from tailboard.machines.redis_store import (
            RedisStore,
        )  # imported here: a folder does not need it

        return RedisStore(url, unreachable, secret_key)
    return open_folder(url, create)


def open_folder(path: str, create: bool = True) -> FolderStore:
    """The storage in a folder, which is made if it is missing. Without `create` a missing folder
    is an empty storage that can only be read. ValueError if this is a URL; an OSError names the
    setting."""
    if "://" in path or re.match("rediss?:", path):
        raise ValueError("TAILBOARD_STORAGE must be a folder, redis://… or rediss://…")
    with naming_setting("TAILBOARD_STORAGE", path):
        return FolderStore(path, create)
