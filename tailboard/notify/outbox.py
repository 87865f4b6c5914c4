"""The messages that are being sent: each try is stored in the record of its job."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from storage import Store
from tailboard import intervals
from tailboard.errors import JobNotFound
from tailboard.notices import Delivery, Kind, Notice, NoticeRecord, Request
from tailboard.notify.decide import Decider
from tailboard.notify.message import compose, read_log_end
from tailboard.notify.ping import PING_END, PING_START, ping_task
from tailboard.notify.pool import Answer, DeliveryPool
from tailboard.notify.targets import resolve
from tailboard.notify_rules import mask_target
from tailboard.program_log import RepeatedErrors
from tailboard.values import utc

log = logging.getLogger("worker")

TRIES = 5
PAUSE_FACTOR = 7  # each pause is so much longer than the one before: 10 s, 70 s, 8 min, 57 min


class Try(NamedTuple):
    """A try of a delivery."""

    record: NoticeRecord
    notice: Notice
    delivery: Delivery


@dataclass(slots=True)
class Work:
    """A job about which messages are to be sent now."""

    record: NoticeRecord
    requests: Sequence[Request]  # which are done once the messages were tried
    unsent: list[Try] = field(default_factory=list)
    open_count: int = 0  # tries that have begun


class Outbox:
    """Sends the messages that are due. To be used by one thread, that of the sender."""

    def __init__(
        self,
        store: Store,
        decider: Decider,
        pool: DeliveryPool,
        page_url: str,
        errors: RepeatedErrors,
        now: Callable[[], float],
    ) -> None:
        """`page_url`: for links; "" if it is not known. `now`: the clock of the requests."""
        self.store, self.decider, self.pool, self.page_url = store, decider, pool, page_url
        self.errors, self.now = errors, now
        self.works: dict[str, Work] = {}  # by job ID
        self.tries: dict[int, Try] = {}  # those that have begun, by the number of the delivery

    def add(self, record: NoticeRecord, requests: Sequence[Request]) -> None:
        """Send what is due of a record, which must be stored. `requests`: those for which the
        record is the answer; they are removed afterwards."""
        work, now = Work(record, requests), self.now()
        for notice in record.notices:
            for delivery in notice.deliveries:
                if delivery.next_at is not None and delivery.next_at <= now:
                    work.unsent.append(Try(record, notice, delivery))
        self.works[record.job] = work
        if not work.unsent:
            self._settle(work)

    def is_sending(self) -> bool:
        return any(work.unsent or work.open_count for work in self.works.values())

    def begin(self) -> None:
        """Begin as many tries as there is room for."""
        for work in list(self.works.values()):
            with self.isolated(work.record.job):
                while work.unsent and self.pool.has_room():
                    self._begin(work, work.unsent.pop(0))

    def _begin(self, work: Work, attempt: Try) -> None:
        """Begin a try. OSError if the storage or this machine does not allow it now: that is not
        the fault of the receiver, so it is no try."""
        try:
            number = self.pool.begin(self._task(attempt))
        except OSError:
            work.unsent.insert(0, attempt)
            raise
        except JobNotFound:
            self._forget(work)
        except Exception as error:
            if not isinstance(error, ValueError):  # a fault of our own
                self.errors.report(f"message of job={work.record.job}", error)
            work.open_count += 1
            self._note(attempt, False, str(error) or type(error).__name__)
        else:
            work.open_count += 1
            self.tries[number] = attempt

    def _forget(self, work: Work) -> None:
        """The job was deleted."""
        del self.works[work.record.job]
        work.unsent.clear()
        self.store.notices.forget(work.record.job)
        for request in work.requests:
            self.store.notices.done(request)

    def _task(self, attempt: Try) -> dict[str, Any]:
        """What tailboard/notify/deliver.py needs. The text is written anew for each try: the log
        may have grown, and a record stays small."""
        job, notice = self.store.get(attempt.record.job), attempt.notice
        if notice.event in (PING_START, PING_END):
            return ping_task(self.store, job, notice.event)
        url = resolve(attempt.delivery.to, self.store.notices.targets())
        earlier = self.decider.earlier_runs(job)
        log_end = read_log_end(self.store, job)
        message = compose(job, notice, log_end, earlier, self.page_url)
        return {"url": url} | message._asdict()

    def handle(self, answers: Sequence[Answer]) -> None:
        for answer in answers:
            attempt = self.tries.pop(answer.number, None)
            if attempt is not None:
                self._note(attempt, answer.ok, answer.text)

    def _note(self, attempt: Try, ok: bool, text: str) -> None:
        """Store how a try has ended. When all tries of its job have ended, the job is done."""
        record, notice, delivery = attempt
        work = self.works.get(record.job)
        if work is None:  # the job was deleted
            return
        delivery.tries += 1
        event = notice.event.replace(" ", "_")
        who = f"job={record.job} event={event} to={mask_target(delivery.to)}"
        if ok:
            delivery.sent_at, delivery.next_at, delivery.error = utc(), None, None
            log.info("notified %s", who)
        else:
            delivery.error, delivery.next_at = text, self._next_try(delivery.tries)
            log.error("not notified %s try=%d of %d error=%r", who, delivery.tries, TRIES, text)
        work.open_count -= 1
        with self.isolated(record.job):
            self.store.notices.save(record)
            if not work.unsent and not work.open_count:
                self._settle(work)

    def _next_try(self, tries: int) -> float | None:
        """When to try again after so many tries, in seconds since 1970; None: never."""
        if tries >= TRIES:
            return None
        return self.now() + intervals.SEND_PAUSE * float(PAUSE_FACTOR ** (tries - 1))

    def settle_all(self) -> None:
        """Try again to store what could not be stored."""
        for work in list(self.works.values()):
            if not work.unsent and not work.open_count:
                with self.isolated(work.record.job):
                    self.store.notices.save(work.record)
                    self._settle(work)

    def _settle(self, work: Work) -> None:
        """Replace the requests by one for the next try, if there is one."""
        notices, next_at = self.store.notices, work.record.next_try()
        if next_at is not None:
            notices.request(Request(work.record.job, Kind.SEND, next_at))
        for request in work.requests:
            if next_at is None or request.kind is not Kind.SEND:
                notices.done(request)
        del self.works[work.record.job]

    @contextmanager
    def isolated(self, job_id: str) -> Iterator[None]:
        """Log an error of one job once, and go on with the others."""
        try:
            yield
        except Exception as error:
            self.errors.report(f"notifications of job={job_id}", error)
        else:
            self.errors.resolved(f"notifications of job={job_id}")

    def drop(self) -> None:
        """Forget everything: another process has become the sender, or this one stops. What was not
        stored as sent is sent by the next sender."""
        self.pool.close()
        self.works.clear()
        self.tries.clear()
