"""The outbox of a machine: the changes in its spool that Redis does not know about yet."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

from tailboard.errors import (
    JobDamaged,
    JobNotFound,
    RecordDamaged,
    StoreUnreachable,
    WrongState,
)
from tailboard.machines.answers import is_full
from tailboard.machines.file_sender import FileSender, FilesRoom
from tailboard.machines.messages import Assignment, SpoolEntry
from tailboard.machines.next_runs import has_next, plan_next
from tailboard.machines.redis_link import Command
from tailboard.machines.redis_machines import REDIS_LOG_KEPT
from tailboard.machines.relay_store import RelayStore
from tailboard.machines.spool import Spool
from tailboard.notifier import Notifier
from tailboard.program_log import RepeatedErrors
from tailboard.settings import Settings
from tailboard.status import FINISHED, Status
from tailboard.usage import USAGE_RECORD
from tailboard.workers import FENCED_REASON

log = logging.getLogger("worker")

LOG_CHUNK = 65_000  # bytes of a stream's entry; 65,536 would take a quarter more memory
MAX_LOG_SENT = 16 * LOG_CHUNK  # bytes of a log sent in one round
USAGE_INTERVAL = 60.0  # seconds until the next samples of what a job's processes use are sent
FIRST_USAGE_INTERVAL = 5.0  # the same until the first two are sent, which show the current values
FULL_LOG_KEPT = 4_000  # bytes that Redis gets of the log of a job that ends while Redis is full
START_REPORT_DELAY = 0.1  # seconds until a start is reported: a short job may have ended by then
COMPARE_BATCH = 200  # jobs compared with Redis in one round
PREFETCH_WINDOW = 0.25  # seconds: prefetch as many jobs as ended within this time
NEVER = float("inf")  # on the monotonic clock


@dataclass
class Sent:
    """What Redis knows of a job that this machine runs."""

    watch: int = -1  # the number that the notifier gives changes of its folder; -1: not watched
    moves: int = 0  # how often its folder has moved (once at its start, once at its end)
    entry: SpoolEntry | None = None  # as last read
    offset: int | None = None  # bytes of its log that Redis has; None: ask Redis
    has_log: bool = False
    journal: bytes | None = None  # None: send it again
    place: str = ""
    has_secret_values: bool = False  # Redis still has those of its secret params
    times: int = 0  # bytes of its samples that Redis has
    usage: int = 0  # the same of what its processes used
    usage_due: float = 0.0  # when to send those again, on the monotonic clock
    files: FileSender | None = None
    leaves_files: bool = False  # it ended while Redis was full: Redis does not get its files
    has_end: bool = False  # Redis has its end already, so that other files are more urgent
    waits_for_room: bool = False  # only its files are missing, and the last round had no room
    worker: str | None = None  # the worker that claimed it
    queue: str = ""
    is_fenced: bool = False  # declared lost: kill its processes, record nothing
    is_cut: bool = False  # it ended while Redis was full: Redis gets only the end of its log

    def send_again(self) -> None:
        """Ask Redis how much of the log it has, and send it everything else again."""
        self.offset = self.journal = None
        self.times = self.usage = 0
        self.stop_files()

    def stop_files(self) -> None:
        """Send its files from the beginning, if they are sent at all."""
        if self.files is not None:
            self.files.close()
        self.files = None


@dataclass(slots=True)
class Message:
    """A command for Redis with news of one job."""

    entry: SpoolEntry
    kind: Literal["log", "samples", "chunk", "listing", "report"]
    command: Command


class RecentEnds:
    """When jobs of this machine ended, on the monotonic clock."""

    def __init__(self) -> None:
        self.last = 0.0
        self.times: deque[float] = deque(maxlen=1_000)

    def add(self) -> None:
        self.last = time.monotonic()
        self.times.append(self.last)

    def count(self) -> int:
        """How many ended within PREFETCH_WINDOW seconds."""
        since = time.monotonic() - PREFETCH_WINDOW
        while self.times and self.times[0] < since:
            self.times.popleft()
        return len(self.times)


class Outbox:
    """Follows the folders of the jobs that Redis shows as running on this machine, and sends their
    changes. Redis answers where to continue: a lost message is sent again, and a job that Redis has
    lost is restored. All methods except `hurry` belong to the relay's thread."""

    def __init__(
        self,
        store: RelayStore,
        spool: Spool,
        errors: RepeatedErrors,
        most_files: int = Settings.files_sent_bytes,
    ) -> None:
        """`errors` logs errors that affect only one job. `most_files`: Redis gets the files of a
        job if they have at most so many bytes."""
        self.store, self.spool, self.errors = store, spool, errors
        self.most_files = most_files
        self.files_room = FilesRoom()
        self.sent: dict[str, Sent] = {}  # by job ID: jobs that Redis shows as running here
        self.changed: set[str] = set()  # jobs to send in the next round
        self.deferred: set[str] = set()  # changed jobs that are not urgent
        self.deferred_until = NEVER  # when the deferred ones become due, on the monotonic clock
        self.to_compare: list[str] = []  # jobs of which Redis may have lost something
        self.log_sizes: dict[str, int] = {}  # bytes in Redis of the logs of jobs just taken
        self.ended: list[str] = []  # jobs that ended since `compare_again` was called last
        self.ends = RecentEnds()
        self.folders: Notifier | None = None
        self.by_watch: dict[int, str] = {}  # the number of a watched folder -> job ID

    def has_work(self) -> bool:
        """Does the next round have anything to send or compare?"""
        return bool(self.changed or self.to_compare)

    def hurry(self) -> None:
        """Send in the next round what is deferred. Any thread can call this."""
        self.deferred_until = 0.0

    def send_again(self) -> None:
        """After an outage: Redis may have lost anything."""
        for sent in self.sent.values():
            sent.send_again()

    # --- Following the folders ---

    def open(self) -> None:
        """Watch the spool's folders, if they are not watched yet."""
        if self.folders is None:
            self.folders = self.spool.watch_active()

    def close(self) -> None:
        if self.folders is not None:
            self.folders.close()
        self.folders = None
        for sent in self.sent.values():
            sent.stop_files()

    def note_changes(self, is_scan_due: bool, is_full_scan_due: bool) -> None:
        """Note which folders have changed. `is_scan_due`: look also for new jobs, and at folders
        that cannot be watched. `is_full_scan_due`: look at all, in case an event was lost."""
        assert self.folders is not None
        for number, name in self.folders.changes():
            job_id = self.by_watch.get(number)
            if job_id in self.sent:
                self._note_change(job_id, self.sent[job_id], name)
        if time.monotonic() >= self.deferred_until:
            self.changed |= self.deferred & self.sent.keys()
            self.deferred, self.deferred_until = set(), NEVER
        if is_scan_due or self.folders.fileno() is None:
            for job_id in self.spool.active() - self.sent.keys():
                self.follow(job_id)
            now = time.monotonic()
            due = (i for i, sent in self.sent.items() if sent.watch < 0 or sent.usage_due <= now)
            self.changed.update(due)
        if is_full_scan_due:
            self.changed.update(self.sent)

    def _note_change(self, job_id: str, sent: Sent, name: str) -> None:
        """Send output and ends at once, starts a little later: a short job may have ended then."""
        has_moved = not name
        if has_moved:
            sent.moves += 1
        if name == "usage":  # sent once a minute
            return
        if name == "output.log" or (has_moved and sent.moves > 1):
            self.changed.add(job_id)
        else:
            self._defer(job_id)

    def _defer(self, job_id: str) -> None:
        self.deferred.add(job_id)
        self.deferred_until = min(self.deferred_until, time.monotonic() + START_REPORT_DELAY)

    def expect(self, assignment: Assignment) -> None:
        """Redis has assigned this job and has its earlier log: only what follows must be sent."""
        self.log_sizes[assignment.id] = assignment.log_size or 0

    def follow(self, job_id: str) -> Sent:
        """Send this job's changes from now on."""
        sent = self.sent.get(job_id)
        if sent is None:
            sent = self.sent[job_id] = Sent(offset=self.log_sizes.pop(job_id, None))
        self.changed.add(job_id)
        return sent

    def follow_admitted(self, entry: SpoolEntry) -> None:
        """Send changes of a job that was just confirmed: so far, Redis knows everything."""
        sent = self.follow(entry.id)
        sent.entry, sent.queue = entry, entry.queue
        sent.journal, sent.place = entry.journal, entry.place
        sent.has_secret_values = entry.has_secret_values
        self._watch(sent, entry)
        self.changed.discard(entry.id)

    def forget(self, job_id: str) -> None:
        """Send nothing more of this job."""
        sent = self.sent.pop(job_id, None)
        self.changed.discard(job_id)
        if sent is not None:
            sent.stop_files()
        if sent is not None and sent.watch >= 0 and self.folders is not None:
            self.folders.drop(sent.watch)
            self.by_watch.pop(sent.watch, None)

    def _watch(self, sent: Sent, entry: SpoolEntry) -> None:
        """Watch the job's folder from now on."""
        assert self.folders is not None
        if sent.watch < 0:
            with suppress(OSError):  # it has moved
                sent.watch = self.folders.add(entry.folder)
                self.by_watch[sent.watch] = entry.id
                sent.moves = 0 if entry.place == "queued" else 1
                self.changed.add(entry.id)  # changes before the watch are not reported

    # --- Comparing with Redis ---

    def compare_all(self) -> None:
        """Compare all jobs of the spool in the next rounds."""
        self.to_compare = self.spool.ids()

    def compare_again(self) -> None:
        """Compare in the next rounds the jobs that run here or have ended since the last call: one
        may belong to another machine now, or have left processes that still write."""
        self.to_compare += [*self.sent, *self.ended]
        self.ended = []

    def compare(self) -> None:
        """Compare some jobs with Redis, and mark those that it lacks or knows differently."""
        if not self.to_compare:
            return
        ids, self.to_compare = self.to_compare[:COMPARE_BATCH], self.to_compare[COMPARE_BATCH:]
        entries = self.spool.read_entries(ids)
        known = self.store.known_states([entry.id for entry in entries]) if entries else []
        for entry, state in zip(entries, known, strict=True):
            is_known = (state.status, state.token) == (entry.status_for_redis, entry.token)
            has_all = entry.is_log_at(state.log_size) and (state.has_files or not entry.has_files)
            if not (is_known and has_all) and entry.place != "taken":
                sent = self.follow(entry.id)
                sent.offset = sent.journal = None
                sent.has_end = is_known and entry.is_over

    # --- Sending ---

    def send(self) -> None:
        """Send the changes: log bytes, samples, files, the journal. Redis accepts no end of a job
        before it has the whole log, and receives it after the files. OSError if Redis did not
        accept something; it is sent again."""
        changed, self.changed = self.changed, set()
        self.files_room.begin_round()
        try:
            messages = self._collect(changed)
            if not messages:
                return
            answers = self.store.send([message.command for message in messages])
        except OSError:
            self.changed |= changed
            self.files_room.note_outage()
            raise
        failed = None
        for message, answer in zip(messages, answers, strict=True):
            if isinstance(answer, RecordDamaged):  # it affects only this job
                self.errors.report(f"job={message.entry.id}", answer)
                self._defer(message.entry.id)
            elif isinstance(answer, OSError):
                self._handle_failure(message, answer)
                failed = answer
            elif message.entry.id in self.sent:
                self._handle_answer(message, answer)
        if failed is not None:
            raise failed

    def _collect(self, changed: Iterable[str]) -> Sequence[Message]:
        """The messages about the changed jobs. A job that the disk cannot read is tried again.
        StoreUnreachable if the saved command that follows a job cannot be loaded."""
        messages: list[Message] = []
        for job_id in sorted(changed, key=self._turn):
            if self.files_room.is_full and self._waits_for_room(job_id):
                self.changed.add(job_id)
                continue
            try:
                messages += self._prepare(job_id)
            except StoreUnreachable:
                raise
            except OSError as error:
                self.errors.report(f"job={job_id}", error)
                self._defer(job_id)
        return messages

    def _turn(self, job_id: str) -> tuple[bool, int, str]:
        """In which order the jobs send their files: first those whose end waits for them, so that
        many large files do not delay a small one. Others, which Redis has lost, follow one after
        the other."""
        sent = self.sent.get(job_id)
        if sent is None or sent.files is None:
            return sent is not None and sent.has_end, 0, job_id
        return sent.has_end, -sent.files.sent if sent.has_end else sent.files.sent, job_id

    def _waits_for_room(self, job_id: str) -> bool:
        sent = self.sent.get(job_id)
        return sent is not None and sent.waits_for_room

    def _prepare(self, job_id: str) -> Sequence[Message]:
        """The messages about one job. A job that is no longer here, or not from Redis, is
        forgotten."""
        sent = self.sent.setdefault(job_id, Sent())
        entry = self.spool.read_entry(job_id, sent.entry, must_read=True)
        if entry is None:
            self.forget(job_id)
            return ()
        if sent.entry is not None and sent.entry.token != entry.token:  # it was taken again
            self.forget(job_id)
            sent = self.sent[job_id] = Sent()
        sent.entry = entry
        self._watch(sent, entry)
        sent.queue = entry.queue
        if entry.place == "running" and sent.journal != entry.journal:
            sent.worker = entry.worker
        return list(self._messages(sent, entry))

    def _messages(self, sent: Sent, entry: SpoolEntry) -> Iterator[Message]:
        if sent.is_fenced:
            yield Message(entry, "report", self.store.report(entry, -1))
            return
        if not entry.is_over or entry.log_size != 0:  # else the report says that the log is empty
            yield from self._log_messages(sent, entry)
        yield from self._usage_messages(sent, entry)
        if entry.has_files and not (sent.files and sent.files.is_over):
            yield from self._file_messages(sent, entry)
        elif not is_reported(sent, entry):
            size = entry.log_size if entry.is_over and entry.log_size is not None else -1
            yield Message(entry, "report", self._report(entry, size))

    def _report(self, entry: SpoolEntry, size: int) -> Command:
        if not has_next(entry) or self.spool.has_started_next(entry):
            return self.store.report(entry, size)
        entry, following = plan_next(entry, self.store.saved.load)
        return self.store.report(entry, size, following)

    def _log_messages(self, sent: Sent, entry: SpoolEntry) -> Iterator[Message]:
        if entry.log_size is None:
            return
        if sent.is_cut:
            if sent.offset != entry.log_size:
                yield self._log_end(entry, entry.log_size)
            return
        if sent.offset is None or (entry.log_size == 0 and not sent.has_log):
            yield Message(entry, "log", self.store.append(entry, 0, b"", "join"))
            sent.has_log = True
            return
        start, how = place_to_send(sent.offset, entry.log_start, entry.log_size, entry.log_held)
        data = b""
        if start < entry.log_size or how == "anew":
            data = self.spool.read_log(entry, start, min(MAX_LOG_SENT, entry.log_size - start))
        chunks = [data[at : at + LOG_CHUNK] for at in range(0, len(data), LOG_CHUNK)]
        if not chunks and how != "join":  # Redis must learn of the gap even so
            chunks = [b""]
        for chunk in chunks:
            yield Message(entry, "log", self.store.append(entry, start, chunk, how))
            start, how = start + len(chunk), "join"
        begin, samples = self.spool.read_samples(entry, "times", sent.times)
        if samples:
            sent.times = begin + len(samples)
            yield Message(entry, "samples", self.store.note(entry, "times", begin, samples))

    def _usage_messages(self, sent: Sent, entry: SpoolEntry) -> Iterator[Message]:
        """What the job's processes used since the last minute, and the rest at its end. Not for a
        short job, which has only the samples of its start and its end: they would take a quarter of
        what Redis needs for it."""
        now = time.monotonic()
        if now < sent.usage_due and not entry.is_over:
            return
        begin, samples = self.spool.read_samples(entry, "usage", sent.usage)
        has_some = begin + len(samples) >= (3 if entry.is_over else 2) * USAGE_RECORD.size
        sent.usage_due = now + (USAGE_INTERVAL if has_some else FIRST_USAGE_INTERVAL)
        if samples and has_some:
            sent.usage = begin + len(samples)
            yield Message(entry, "samples", self.store.note(entry, "usage", begin, samples))

    def _file_messages(self, sent: Sent, entry: SpoolEntry) -> Iterator[Message]:
        """The next part of the files of a job that has ended. Other jobs' output, and ends of jobs
        without files, are in the same round."""
        if sent.files is None:
            sent.files = FileSender(self.store, self.most_files, sent.leaves_files)
        sent.waits_for_room = self.files_room.is_full and entry.is_log_at(sent.offset)
        for kind, command in sent.files.messages(entry, self.files_room):
            yield Message(entry, kind, command)
        self.changed.add(entry.id)

    def _log_end(self, entry: SpoolEntry, size: int) -> Message:
        """The end of the log, for a Redis that is full: it first drops what it has of the log,
        which makes the room."""
        start = max(entry.log_start, size - FULL_LOG_KEPT)
        data = self.spool.read_log(entry, start, size - start)
        return Message(entry, "log", self.store.append(entry, start, data, "anew"))

    # --- Handling the answers ---

    def _handle_failure(self, message: Message, error: OSError) -> None:
        """Send the job again, and after its end only the end of its log if Redis is full."""
        entry = message.entry
        sent = self.sent[entry.id]
        self.changed.add(entry.id)
        if message.kind == "log" and entry.is_over and is_full(error):
            sent.is_cut = True
        if message.kind in ("chunk", "listing") and is_full(error):
            sent.leaves_files = True
        sent.send_again()

    def _handle_answer(self, message: Message, answer: Any) -> None:
        sent = self.sent[message.entry.id]
        if message.kind == "log":
            self._handle_offset(sent, message.entry, answer)
        elif message.kind in ("chunk", "listing"):
            if sent.files is not None:  # else another message of this round has failed
                sent.files.handle(message.kind, answer)
        elif message.kind == "report":
            self._handle_report(sent, message.entry, answer.decode())

    def _handle_offset(self, sent: Sent, entry: SpoolEntry, offset: int) -> None:
        if offset < 0:  # the next report shows why
            sent.journal = sent.offset = None
        else:
            sent.offset = offset
        if not entry.is_log_at(sent.offset):
            self.changed.add(entry.id)

    def _handle_report(self, sent: Sent, entry: SpoolEntry, answer: str) -> None:
        if answer in ("absent", "behind"):
            answer = self._restore(entry).decode()
            sent.send_again()
            sent.has_end = entry.is_over
            self.changed.add(entry.id)
            if answer not in ("fenced", "cancel"):
                return
        if answer == "fenced":
            self.drop_fenced(entry)
        elif answer == "cancel":
            self.end_cancelled(entry)
        elif answer == "log":
            if entry.is_log_at(sent.offset):  # Redis has lost a part
                sent.offset = None
            self.changed.add(entry.id)
        elif entry.place == "returned":
            self.spool.discard_returned(entry)
            self.forget(entry.id)
        elif entry.status in FINISHED:
            if has_next(entry) and answer == Status.SUCCEEDED:
                self.spool.note_next_started(entry)
            self.ends.add()
            self.ended.append(entry.id)
            self.forget(entry.id)
        else:
            sent.journal, sent.place = entry.journal, entry.place
            sent.has_secret_values = entry.has_secret_values

    def _restore(self, entry: SpoolEntry) -> bytes:
        """Put back a job that Redis has lost. The answer is as for a report."""
        (answer,) = self.store.send([self.store.restore(entry, self.spool.secret_values(entry))])
        if isinstance(answer, OSError):
            raise answer
        return bytes(answer)

    def end_cancelled(self, entry: SpoolEntry) -> None:
        """Record and report as cancelled a job that has ended otherwise, will run again or has not
        started: Redis accepted a cancel request first."""
        reason = self.store.cancel_reason(entry.id)
        try:
            self.spool.end_cancelled(entry, reason)
        except (BlockingIOError, FileNotFoundError):  # its worker is recording it or moves it
            self._defer(entry.id)
        except OSError as error:  # a full disk, for example
            self.errors.report(f"cancel={entry.id}", error)
            self._defer(entry.id)
        else:
            log.info("cancelled job=%s instead=%s reason=%r", entry.id, entry.place, reason)
            self.follow(entry.id)

    def drop_fenced(self, entry: SpoolEntry) -> None:
        """Kill the processes of a followed job that belongs to another machine now. Record nothing,
        and remove it from here once no process of it runs."""
        if entry.place not in ("queued", "running"):
            log.warning("dropped job=%s reason=%r", entry.id, FENCED_REASON)
            if entry.is_over:
                self.spool.set_aside(entry)
            else:
                self.spool.discard(entry)
            self.forget(entry.id)
            return
        sent = self.sent[entry.id]
        if not sent.is_fenced:
            sent.is_fenced = self.deliver_cancel(entry.id, FENCED_REASON)

    def deliver_cancel(self, job_id: str, reason: str) -> bool:
        """Leave a request to cancel a job in its folder. Returns False if it must be repeated."""
        try:
            self.spool.leave_request(job_id, reason)
        except FileNotFoundError:  # it moves
            return False
        except JobNotFound:  # or it waits in taken/ or returned/, where requests are not allowed
            return not self.spool.holds(job_id)
        except (WrongState, JobDamaged):  # its end is reported, and Redis refuses it
            return True
        except OSError as error:  # a full disk, for example
            self.errors.report(f"cancel={job_id}", error)
            return False
        return True


def is_reported(sent: Sent, entry: SpoolEntry) -> bool:
    """Does Redis know everything of the job but its log?"""
    drops_values = sent.has_secret_values and not entry.has_secret_values
    return sent.journal == entry.journal and sent.place == entry.place and not drops_values


def place_to_send(offset: int, log_start: int, log_size: int, held: int) -> tuple[int, str]:
    """(the offset to send a log from, how it joins the `offset` bytes that Redis has). "gap" if the
    bytes between no longer exist or are more than Redis keeps; "anew" if the job has truncated its
    log; else "join". `held`: bytes after `log_size` that are held back."""
    oldest = max(log_start, log_size - REDIS_LOG_KEPT)
    if log_size + held < offset:
        return oldest, "anew"
    if oldest > offset:
        return oldest, "gap"
    return offset, "join"
