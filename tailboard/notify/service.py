"""The thread of a worker that notifies people.

Each worker has one, and one of all workers that share the storage is the sender: it alone looks at
the requests, decides and sends. What it has decided is stored before it sends anything, and what it
has sent is stored afterwards. If it dies in between, its successor sends the message again; so each
message is sent once, or twice if the sender died in this moment. Jobs never wait for it."""

from __future__ import annotations

import logging
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from math import inf

from storage import Store
from tailboard import intervals
from tailboard.errors import JobNotFound
from tailboard.job import Job
from tailboard.notices import Kind, Notice, NoticeRecord, Request
from tailboard.notify.decide import Decider
from tailboard.notify.history import History
from tailboard.notify.outbox import Outbox
from tailboard.notify.ping import PING_START
from tailboard.notify.pool import DeliveryPool
from tailboard.notify.usual import UsualTimes
from tailboard.notify.watch import RunningWatch, Sign
from tailboard.notify_rules import TARGET_NAME_RE, Event, Rule
from tailboard.program_log import RepeatedErrors
from tailboard.settings import Settings
from tailboard.status import FINISHED
from tailboard.titles import short_title

log = logging.getLogger("worker")

BEGIN_TIME = 1.0  # seconds that the start of a worker may wait for the storage
MOST_JOBS = 200  # about which messages are sent at a time
HISTORY_TRIES = 15  # seconds for reading the history, before the first message


class NotificationService:
    """The thread. `wake` may be called by any thread, the other methods by the worker's."""

    def __init__(
        self, store: Store, settings: Settings, now: Callable[[], float] = time.time
    ) -> None:
        """`store`: used only by this thread. `now`: the clock by which requests are due."""
        self.store, self.now = store, now
        self.default_rules = settings.default_rules
        self.history = History(store)
        self.history_tries = HISTORY_TRIES
        self.pool = DeliveryPool()
        self.errors = RepeatedErrors(log)  # by step, and by job
        self.decider = Decider(store, self.history, self.rules_of)
        self.clock_offset = 0.0  # seconds by which `now` is ahead of this machine's clock
        self.outbox = Outbox(
            store, self.decider, self.pool, settings.page_url, self.errors, self._estimate_now
        )
        self.watch = RunningWatch(store, UsualTimes(store, self.history), self.rules_of)
        self.is_leading = False
        self.is_stopping = False
        self.is_woken = True
        self.skipped: set[str] = set()  # jobs with new requests, whose messages are being sent
        self.has_begun = threading.Event()  # the storage knows whether there are default rules
        self.next_look = 0.0  # on the monotonic clock
        self.deadline = inf  # on the monotonic clock; for sending the last messages
        self.thread = threading.Thread(target=self._run, name="notifications", daemon=True)

    def start(self) -> None:
        """Start the thread, and wait a moment until jobs that end make requests."""
        self.thread.start()
        self.has_begun.wait(BEGIN_TIME)

    def wake(self, job: Job) -> None:
        """Look at the requests now, if this job can have one: it has started or ended. Any thread
        can call this."""
        if job.pings or self.rules_of(job):
            self.is_woken = True
            self.pool.wake()

    def stop(self, seconds: float) -> None:
        """Send what is due, for so many seconds at most. The rest is sent by the next sender."""
        self.deadline = time.monotonic() + seconds
        self.is_stopping = True
        self.pool.wake()
        if self.thread.ident is not None:
            self.thread.join(seconds + BEGIN_TIME)

    def rules_of(self, job: Job) -> Sequence[Rule]:
        return self.default_rules if job.notify is None else job.notify

    def _estimate_now(self) -> float:
        """`now`, without asking a server that may be unreachable."""
        return time.time() + self.clock_offset

    # --- The loop ---

    def _run(self) -> None:
        while not self.is_stopping:
            self._pass()
            if not self._step("answers", self._wait):
                time.sleep(intervals.NOTIFY_INTERVAL)
        self._finish()

    def _wait(self) -> None:
        """Wait until there is something to do."""
        due = 0.0 if self.is_woken else min(self.deadline, self.next_look)
        self.outbox.handle(self.pool.wait(due - time.monotonic()))

    def _pass(self) -> None:
        """Look at what is due, and send what is to be sent."""
        if self.skipped - self.outbox.works.keys():
            self.is_woken = True
        if time.monotonic() >= self.next_look:
            self.next_look = time.monotonic() + intervals.NOTIFY_INTERVAL
            self._begin_look()
        if not self.is_leading:
            self.is_woken = False  # the sender looks at the requests, so there is nothing to do
            return
        if self.is_woken:
            self.is_woken = False
            self._step("requests", self._look_at_requests)
        self._step("sending", self.outbox.begin)

    def _begin_look(self) -> None:
        """What is done every NOTIFY_INTERVAL, besides looking at the requests."""
        if not self.has_begun.is_set() and self._step("default rules", self._store_default):
            self.has_begun.set()
        if self._step("lead", self._lead) and self.is_leading:
            self.is_woken = True
            self._step("stored notices", self.outbox.settle_all)
            self._step("running jobs", self._look_at_running)

    def _step(self, name: str, step: Callable[[], None]) -> bool:
        """Run a step; returns False if it failed. The error is logged once."""
        return self.errors.run(f"notifications step={name!r}", step)

    def _store_default(self) -> None:
        self.store.notices.set_default(bool(self.default_rules))
        named = self.store.notices.targets() if self.default_rules else {}
        for rule in self.default_rules:
            if TARGET_NAME_RE.fullmatch(rule["to"]) and rule["to"] not in named:
                log.warning("TAILBOARD_NOTIFY names %r, but no URL has this name", rule["to"])

    def _lead(self) -> None:
        """Become the sender, remain it, or find out that another process has become it."""
        is_leading = self.store.notices.lead()
        if self.is_leading and not is_leading:
            self.outbox.drop()
        self.is_leading = is_leading

    def _finish(self) -> None:
        """Send what is due within the time that is left."""
        self.is_woken = True
        self._pass()
        while self.is_leading and self.outbox.is_sending() and time.monotonic() < self.deadline:
            self._step("answers", self._wait)
            self._pass()
        self.outbox.drop()
        if self.is_leading:
            self._step("resign", self.store.notices.resign)

    # --- What is to be noticed ---

    def _look_at_requests(self) -> None:
        by_job: dict[str, list[Request]] = defaultdict(list)
        now = self.now()
        self.clock_offset = now - time.time()
        for request in self.store.notices.requests(now):
            by_job[request.job_id].append(request)
        if by_job and not self._has_history():
            return
        self.skipped = by_job.keys() & self.outbox.works.keys()
        for job_id, requests in by_job.items():
            if len(self.outbox.works) >= MOST_JOBS:
                return
            if job_id not in self.skipped:
                with self.outbox.isolated(job_id):
                    self._look_at_job(job_id, requests)

    def _has_history(self) -> bool:
        """Are the earlier runs known? Reading them all can take longer than the sender may do
        without `lead`, so each call takes a second at most, and the last one gives up."""
        if not self.history.is_complete and self.history_tries > 0:
            self.history_tries -= 1
            self.history.refresh()
            self.is_woken = True
        return self.history.is_complete or self.history_tries == 0

    def _look_at_job(self, job_id: str, requests: Sequence[Request]) -> None:
        try:
            job = self.store.get(job_id)
        except JobNotFound:
            for request in requests:
                self.store.notices.done(request)
            return
        record = self._record_of(job)
        answered, is_changed = [], False
        for request in requests:
            notices = self._notices_for(job, request, record)
            if notices is not None:
                is_changed |= add_new(record, notices)
                answered.append(request)
        if job.status in FINISHED:
            is_changed |= drop_start(record)
        if is_changed:
            self.store.notices.save(record)
        if answered:
            self.outbox.add(record, answered)

    def _record_of(self, job: Job) -> NoticeRecord:
        record = self.store.notices.load(job.id)
        record.title, record.saved = short_title(job.name, job.command), job.saved
        return record

    def _notices_for(
        self, job: Job, request: Request, record: NoticeRecord
    ) -> Sequence[Notice] | None:
        """What a request gives rise to; None if it has to be looked at again later."""
        if request.kind is Kind.END:
            return self.decider.end(job) if job.status in FINISHED else None
        if request.kind is Kind.START:
            return self.decider.start(job)
        if request.kind is Kind.MISSED:
            return self.decider.plain(job, Event.MISSED, request.text)
        if request.kind is Kind.WAIT and record.find(Event.WAITING) is None:
            notices, again_at = self.decider.waiting(job, self._estimate_now())
            if again_at is not None:
                self.store.notices.request(request._replace(at=again_at))
                return None
            return notices
        return []

    def _look_at_running(self) -> None:
        for sign in self.watch.look():
            is_stored = False
            if sign.job.id not in self.outbox.works:
                with self.outbox.isolated(sign.job.id):
                    self._store_sign(sign)
                    is_stored = True
            if not is_stored:
                self.watch.repeat(sign)

    def _store_sign(self, sign: Sign) -> None:
        """A running job is late or silent. The request comes first, so that the messages are not
        forgotten if this process dies."""
        record = self._record_of(sign.job)
        if add_new(record, self.decider.plain(sign.job, sign.event, sign.text)):
            request = Request(sign.job.id, Kind.SEND, self._estimate_now())
            self.store.notices.request(request)
            self.store.notices.save(record)
            self.outbox.add(record, [request])


def add_new(record: NoticeRecord, notices: Sequence[Notice]) -> bool:
    """Add the notices whose event is not in the record yet. Returns True if there are any."""
    new = [notice for notice in notices if record.find(notice.event) is None]
    record.notices += new
    return bool(new)


def drop_start(record: NoticeRecord) -> bool:
    """Drop the unsent ping of a start, since the job has ended. Returns True if there was one."""
    notice = record.find(PING_START)
    unsent = [d for d in notice.deliveries if d.is_open] if notice else []
    for delivery in unsent:
        delivery.next_at, delivery.error = None, "the job has ended before this ping was sent"
    return bool(unsent)
