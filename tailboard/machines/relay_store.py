"""The contract between a machine's relay and the storage that all machines share."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from tailboard.folder.retention import Retention
from tailboard.job import Job
from tailboard.machines.messages import (
    Assignment,
    Instance,
    KnownState,
    LogTail,
    MachineOrders,
    SampleFile,
    SpoolEntry,
    Taken,
)
from tailboard.machines.next_runs import NextRun
from tailboard.machines.redis_link import Command
from tailboard.machines.redis_logs import RedisNotifier
from tailboard.saved_command import SavedCommand
from tailboard.workers import Pause, WorkerInfo


class RelayPauses(Protocol):
    """The methods for paused queues that the relay needs; the contract is `storage.Pauses`."""

    def put(self, pause: Pause) -> None: ...


class RelayLimits(Protocol):
    """The method for limited queues that the relay needs; the contract is `storage.Limits`."""

    def put(self, queue: str, record: bytes) -> None:
        """Store the record of a queue unchanged."""


class RelaySaved(Protocol):
    """The method for saved commands that the relay needs; the contract is
    `storage.SavedCommands`."""

    def load(self, name: str) -> SavedCommand: ...


class RelayStore(Protocol):
    """The jobs as all machines share them. A machine's relay takes jobs from this store into the
    machine's spool, reports what happens to them, and carries out the store's orders. The relay
    does not use Redis in any other way.

    A spool is named as SPOOL_RE allows. A job has a token, SPOOL:N, from the moment at which a
    spool takes it. N grows whenever the job is taken, or changed without its spool, which makes the
    spool's token invalid: the spool is "fenced" and must drop the job. A job is "absent" or
    "behind" if the store was reset to an older state and has lost the job or its token; the spool,
    whose folder is the truth, then restores it.

    OSError: StoreUnreachable if it cannot be reached, another StoreError if it refuses, for example
    because it is full, RecordDamaged if one record is damaged. Every call may be repeated after an
    error. Times are in seconds since 1970 by the clock of the store, one for all machines."""

    @property
    def pauses(self) -> RelayPauses:
        """The paused queues, which `take` and `report` respect."""

    @property
    def limits(self) -> RelayLimits:
        """The limits of queues, which `take` respects."""

    @property
    def saved(self) -> RelaySaved:
        """The saved commands, which can follow each other."""

    def now(self) -> float:
        """The clock of the store."""

    def close(self) -> None:
        """Close its connections."""

    def check_policy(self, period: float | None = None) -> None:
        """EvictionAllowed if the store's configuration allows it to drop jobs: then none may be
        taken or submitted. Asks the server only if the last check failed or is older than `period`
        (seconds; None: a minute)."""

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
        """Report once a second that this machine is alive and has these workers; returns its
        orders. `instance` is this run of the relay; its `since`, `beats` and `epoch` are updated.
        SpoolInUse if another instance has reported for this spool within INSTANCE_SILENCE seconds,
        unless that is `ended`, the name of an instance that is known to have ended."""

    def acknowledge(
        self, spool: str, cancel_requests: Iterable[str], deletions: Iterable[str]
    ) -> None:
        """Report that these requests to cancel jobs, and these deletions, are carried out: `beat`
        does not return them again."""

    def note_root(self, spool: str, root: str) -> None:
        """Store the path of this spool's folder, which is shown to readers if only this machine
        has the files of a job. Does nothing if the store is full."""

    def restored(self, spool: str) -> None:
        """Report that this machine has restored what the store had lost."""

    # Jobs for this machine

    def take(
        self, spool: str, want: int, queues: Iterable[str], instance: Instance | None = None
    ) -> Taken:
        """Returns the jobs that this spool has taken and not confirmed.

        Takes jobs of these queues (none given: all; each after a "!": all others) until there are
        `want` of them, as WorkerStore.claim does: the urgent ones first, then the oldest, but none
        that has to wait for a pause, a limit or another job. A repeated call returns the same jobs
        again. While a machine restores jobs it returns none. Damaged jobs become lost, and jobs of
        a newer version stay for a machine that knows it. RedisIsOlder if the store has lost what
        `instance` has reported."""

    def past_log(self, assignment: Assignment) -> LogTail:
        """The last part of the log of earlier attempts on other machines, which this machine
        continues. It begins at a multiple of BLOCK bytes, so that the hole before it in the spool's
        copy hides no byte."""

    def secret_values(self, assignment: Assignment) -> Mapping[str, str]:
        """The values of its secret params, by name. Empty, and logged as an error, if they cannot
        be read: the job then fails to start."""

    def give_back_one(self, job_id: str, token: str) -> bool:
        """Queue a job that was taken with this token and not confirmed (taken -> queued). False if
        it is confirmed or another spool has it."""

    def give_back(self, spool: str, ids: Sequence[str] | None = None) -> None:
        """Queue the jobs that a spool has taken and not confirmed, or those of them that are among
        `ids`. They have not started and no longer can."""

    def taken_by(self, spool: str) -> Sequence[str]:
        """The IDs of the jobs that a spool has taken and not confirmed."""

    # What has happened to jobs here: messages, of which `send` sends many in one round trip

    def report(self, entry: SpoolEntry, size: int, following: NextRun | None = None) -> Command:
        """The message with the state and the journal of a spool's job. For a job in taken/ it
        confirms the take (taken -> running); for one in returned/ it queues the job again, after
        its retry delay. `size`: bytes of the log that the store must have first; -1: any.
        `following`: a run to submit, under the key `next_key(entry.id)`, at the moment at which the
        store accepts the report.

        The answer is the status that the job has now, or: "absent", "behind": restore it. "fenced":
        drop it. "cancel": a request to cancel it was accepted, so it must neither start nor run
        again nor end otherwise; record and report it as cancelled. "log": the store lacks a part of
        the log. "paused": its queue is paused, give it back."""

    def restore(self, entry: SpoolEntry, secret_values: Mapping[str, str]) -> Command:
        """The message that puts back a job which the store has lost, with its token, a request to
        cancel it that has reached the spool, and the values of its secret params, by name. Newer
        data in the store is kept. The answer is as for `report`."""

    def append(self, entry: SpoolEntry, start: int, data: bytes, how: str) -> Command:
        """The message with `data` of a job's log, which begins at the offset `start`; at most
        LOG_CHUNK bytes. `how`: "join" continues what the store has, "gap" skips the bytes before
        `start`, which are lost, "anew" replaces everything. The store keeps the last REDIS_LOG_KEPT
        bytes. The answer is the offset up to which it has the log and from which to continue,
        whatever was sent; -1: fenced; -2: absent or behind."""

    def note(self, entry: SpoolEntry, name: SampleFile, offset: int, samples: bytes) -> Command:
        """The message with the bytes at an offset of the file `times` or `usage`. Ignored if the
        token is invalid."""

    def put_chunk(self, entry: SpoolEntry, number: int, data: bytes) -> Command:
        """The message with the chunk of this number of a job's files, see FilePacker. Chunk 0
        replaces everything that the store has of them. No reader sees them yet. The answer is the
        number of the chunk with which to continue; -1 and -2 as for `append`."""

    def put_listing(self, entry: SpoolEntry, count: int, listing: bytes, size: int) -> Command:
        """The message with the listing of a job's files, which shows them to readers. `count`: how
        many chunks belong to it; 0: the store drops those that it has. `size`: bytes of content.
        The answer is 1, or 0 if the store lacks chunks: send them again; -1 and -2 as for
        `append`."""

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

    def known_states(self, ids: Sequence[str]) -> Sequence[KnownState]:
        """What it knows of each job."""

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

    def prune(
        self, retention: Retention, days: int, max_bytes: int, audit_days: int
    ) -> Iterator[None]:
        """Delete old jobs as WorkerStore.prune does, by the clock of the store. `retention` says
        whether that clock can be trusted. Trims no log."""
