"""Which notices an event of a job gives rise to, and to whom a message is sent about each."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import takewhile

from storage import Store
from tailboard.durations import format_usual
from tailboard.job import Job
from tailboard.keep_rules import group_of
from tailboard.notices import Delivery, Notice
from tailboard.notify.history import History, Run, finish_time
from tailboard.notify.ping import PING_END, PING_START, ping_url
from tailboard.notify_rules import BAD_ENDS, Event, Rule, targets_for
from tailboard.order import replaced_by
from tailboard.status import FAILURES, FINISHED, Status
from tailboard.values import parse_time, utc

DAY = 86_400.0  # seconds between two messages about a command that keeps failing
NO_MESSAGE = "no message: the last one was sent less than a day ago"
WAIT_AGAIN = 5.0  # seconds at least until a job is checked again that may be queued again
OWN_CANCELS = ("cancelled from the page", "cancelled through the API")  # by whoever submits jobs


class Decider:
    """Decides about the notices of jobs. Only the sender uses it."""

    def __init__(
        self, store: Store, history: History, rules_of: Callable[[Job], Sequence[Rule]]
    ) -> None:
        self.store, self.history, self.rules_of = store, history, rules_of

    def plain(self, job: Job, event: str, text: str = "") -> list[Notice]:
        """A notice for those whom the job's rules name; none if they name nobody."""
        return make_notice(event, targets_for(self.rules_of(job), event), text)

    # The end of a job

    def end(self, job: Job) -> list[Notice]:
        """The notices of a job that has ended."""
        return [*self._end_of(job), *self._ping_end(job)]

    def _end_of(self, job: Job) -> list[Notice]:
        rules = self.rules_of(job)
        if not rules or is_own_cancel(job):
            return []
        if job.status is Status.CANCELLED:
            return self.plain(job, Event.CANCELLED)
        if job.status is Status.SUCCEEDED:
            return self._success(job, rules)
        return self._bad_end(job, targets_for(rules, job.status))

    def _success(self, job: Job, rules: Sequence[Rule]) -> list[Notice]:
        """Who is notified of a recovery gets no second message about the success."""
        recovered = targets_for(rules, Event.RECOVERED)
        failures = len(self.failures_before(job)) if recovered else 0
        recovered = recovered if failures else []
        others = [to for to in targets_for(rules, Event.SUCCEEDED) if to not in recovered]
        text = f"after {failures} failure{'s' if failures > 1 else ''}"
        return [
            *make_notice(Event.RECOVERED, recovered, text),
            *make_notice(Event.SUCCEEDED, others),
        ]

    def _bad_end(self, job: Job, targets: Sequence[str]) -> list[Notice]:
        """Each target gets one message a day while the command keeps failing."""
        failures = self.failures_before(job) if targets else []
        notified = self._notified_today(failures, targets)
        rest = [to for to in targets if to not in notified]
        if not rest:
            return make_notice(job.status, targets, NO_MESSAGE, is_sent=False)
        text = ""
        if failures:
            first = utc(finish_time(failures[-1]))
            since = f"{first[:10]} {first[11:16]} UTC"
            text = f"still failing, {len(failures) + 1} times since {since}"
        return make_notice(job.status, rest, text)

    def _notified_today(self, failures: Sequence[Run], targets: Sequence[str]) -> set[str]:
        """To which targets a message about one of these runs was, or is still to be, sent within a
        day."""
        since = time.time() - DAY
        notified: set[str] = set()
        for run in takewhile(lambda run: finish_time(run) > since, failures):
            for notice in self.store.notices.load(run.id).notices:
                if notice.event in BAD_ENDS and is_after(notice.at, since):
                    arriving = (d for d in notice.deliveries if d.sent_at or d.is_open)
                    notified.update(delivery.to for delivery in arriving)
            if notified.issuperset(targets):
                break
        return notified

    def earlier_runs(self, job: Job) -> Sequence[Run]:
        """The runs of the same command that ended before the job did, or before now, the last one
        first."""
        runs, ended = self.history.runs_of(group_of(job)), finish_of(job)
        earlier = [run for run in runs if run.id != job.id and finish_time(run) <= ended]
        return sorted(earlier, key=finish_time, reverse=True)

    def failures_before(self, job: Job) -> Sequence[Run]:
        """The runs that failed since the command's last success, the last one first."""
        runs = takewhile(lambda run: run.status is not Status.SUCCEEDED, self.earlier_runs(job))
        return [run for run in runs if run.status in FAILURES]

    # Pings

    def start(self, job: Job) -> list[Notice]:
        """The ping of a job that has started, unless it has ended: then its end says more."""
        url = None if job.status in FINISHED else ping_url(self.store, job)
        return [] if url is None else make_notice(PING_START, [url])

    def _ping_end(self, job: Job) -> list[Notice]:
        if job.started_at is None and job.status is Status.CANCELLED:
            return []  # no ping has announced it
        url = ping_url(self.store, job)
        return [] if url is None else make_notice(PING_END, [url])

    # Waiting

    def waiting(self, job: Job, now: float) -> tuple[list[Notice], float | None]:
        """(the notices of a job that may be queued for too long, when to look again, in seconds
        since 1970, or None: never)."""
        if job.status in FINISHED or job.warn_waiting is None:
            return [], None
        if job.status is Status.RUNNING:
            can_wait = job.attempt <= job.retries  # it is queued again if this attempt fails
            return [], now + max(float(job.warn_waiting), WAIT_AGAIN) if can_wait else None
        waited = now - queued_since(job)
        if waited < job.warn_waiting:
            return [], now + job.warn_waiting - waited
        return self.plain(job, Event.WAITING, f"queued for {format_usual(waited)}"), None


def make_notice(
    event: str, targets: Sequence[str], text: str = "", is_sent: bool = True
) -> list[Notice]:
    """The notice of an event, with a delivery for each target; none if there is no target."""
    if not targets:
        return []
    deliveries = [Delivery(to=to) for to in targets] if is_sent else []
    return [Notice(event=event, at=utc(), text=text, deliveries=deliveries)]


def is_own_cancel(job: Job) -> bool:
    """Was the job cancelled by the person who submitted it, or replaced by a newer one? If requests
    need no named token, nobody knows who has made them, so they all count as one person's."""
    if job.status is not Status.CANCELLED:
        return False
    reason = job.reason or ""
    if reason.startswith(replaced_by("")):
        return True
    if job.submitted_by is None:
        return reason in OWN_CANCELS
    return reason == f"cancelled by {job.submitted_by}"


def queued_since(job: Job) -> float:
    """Since when a queued job could start but for its turn, in seconds since 1970."""
    times = [job.submitted_at, job.not_before, job.retried_at]
    times += [each.result.finished_at for each in job.attempts if each.result]
    return max((_seconds(text) for text in times if text), default=time.time())


def finish_of(job: Job) -> float:
    """When the job ended, in seconds since 1970; infinity if it has not."""
    return _seconds(job.finished_at) if job.finished_at else float("inf")


def is_after(text: str, since: float) -> bool:
    return _seconds(text) > since


def _seconds(text: str) -> float:
    with suppress(ValueError):
        return parse_time(text)
    return 0.0
