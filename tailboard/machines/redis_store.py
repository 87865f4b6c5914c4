"""The storage in Redis, as the API and the commands use it."""

from __future__ import annotations

import errno
import heapq
import logging
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import chain, islice
from math import inf
from typing import Any

from tailboard.errors import (
    EvictionAllowed,
    JobNotFound,
    KeyBusy,
    cannot_cancel,
    cannot_delete,
    not_queued,
)
from tailboard.folder import job_folders
from tailboard.folder.folder_store import SECRET_BYTES
from tailboard.folder.job_folders import fill_finished, fill_running
from tailboard.folder.secret_params import NO_SHARED_KEY
from tailboard.job import Job, encode_record, matches, parse_record, shorten
from tailboard.journal import parse_journal
from tailboard.judge import judge
from tailboard.keys import check_request, earlier_key, hash_key, is_same_run
from tailboard.logs import Log
from tailboard.machines.answers import (
    DAMAGED,
    ended_line,
    flat_pairs,
    none_if_damaged,
    parse_count,
    parse_score,
    parse_status,
    text_of,
)
from tailboard.machines.messages import RESTORE_TIME, SPOOL_RE, MachineReport
from tailboard.machines.redis_audit import RedisAudit
from tailboard.machines.redis_limits import RedisLimits
from tailboard.machines.redis_link import Command, RedisLink
from tailboard.machines.redis_logs import RedisFeed, RedisLog, RedisNotifier
from tailboard.machines.redis_notices import RedisNotices
from tailboard.machines.redis_pauses import RedisPauses
from tailboard.machines.redis_saved import RedisSaved
from tailboard.machines.redis_sessions import RedisSessions
from tailboard.machines.shared_key import SharedKey
from tailboard.notices import wait_request
from tailboard.notifier import Notifier
from tailboard.order import RunningJob
from tailboard.program_log import RepeatedErrors
from tailboard.saved_command import SavedCommand
from tailboard.schedules import Schedule, ScheduleDecision, encode_schedule
from tailboard.settings import UNREACHABLE
from tailboard.status import FINISHED, Status
from tailboard.values import (
    ID_RE,
    LAST_TIME,
    QUEUE_RE,
    check_queue,
    ids_with,
    is_queue_name,
    new_id,
    parse_time,
    utc,
)
from tailboard.workers import GIVEN_UP, REACHABLE, Machine, WorkerInfo, parse_workers

log = logging.getLogger("storage")

SEARCH_STEP = 200  # records read in one round trip to Redis
ID_STEP = 1_000  # IDs read in one round trip
RECORD_STEP = 100  # records read in one round trip for a list: each may be a megabyte long
QUEUED_KINDS = ("queue", "delayed", "waiting", "newer")  # the sorted sets of a queue
POLICY_INTERVAL = 60.0  # seconds between checks of the eviction policy of Redis
STATE_FIELDS = ("status", "queue", "token", "log_size", "log_start", "not_before", "lane", "log_at")
NO_STATE = [None for _ in STATE_FIELDS]  # these fields of a damaged state


class RedisStore:
    """A Store: jobs in Redis, shared by several machines. It shows a running job as its machine has
    reported it. `RedisMachines` adds what a machine's relay needs."""

    def __init__(self, url: str, unreachable: int = UNREACHABLE, secret_key: str = "") -> None:
        """`secret_key`: the file of a SharedKey; "": jobs cannot have secret params. ValueError if
        it cannot be used."""
        self.params_key = SharedKey(secret_key) if secret_key else None
        self.seals_params = self.params_key is not None
        self.link = RedisLink(url)
        self.feed = RedisFeed(self.link)
        self.unreachable = unreachable  # seconds
        self._errors = RepeatedErrors(log)  # by key: saved/NAME, schedules/NAME
        self._policy_checked_at = -inf  # on the monotonic clock; -inf: never, or it is wrong
        self.pauses = RedisPauses(self.link)
        self.limits = RedisLimits(self.link)
        self.sessions = RedisSessions(self.link)
        self.audit = RedisAudit(self.link)
        self.notices = RedisNotices(self.link)
        self.saved = RedisSaved(self.link, self._errors)

    def close(self) -> None:
        self.feed.close()
        self.link.client.close()

    def now(self) -> float:
        return self.link.now()

    # Jobs

    def get(self, job_id: str) -> Job:
        jobs = self.load([job_id]) if ID_RE.fullmatch(job_id) else []
        if not jobs:
            raise JobNotFound(f"there is no job {job_id!r}")
        return jobs[0]

    def get_many(self, ids: Sequence[str]) -> Iterator[Job]:
        return self._load_in_steps(ids, SEARCH_STEP)

    def _load_in_steps(self, ids: Sequence[str], step: int) -> Iterator[Job]:
        for place in range(0, len(ids), step):
            yield from self.load(ids[place : place + step])

    def load(self, ids: Sequence[str]) -> Sequence[Job]:
        """Those of the jobs that exist, in this order. A damaged one has a reason that says so."""
        commands: list[Command] = [
            ("ZRANGE", self.link.key("heard"), 0, -1, "WITHSCORES"),
            ("TIME",),
        ]
        for job_id in ids:
            commands.append(("GET", self.link.key(f"job:{job_id}")))
            commands.append(("HMGET", self.link.key(f"state:{job_id}"), *STATE_FIELDS))
        last_seen, now, *found = map(none_if_damaged, self.link.try_all(commands))
        silences = {name: now[0] - int(at) for name, at in self._last_reports(last_seen)}
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
        """The record and the state of jobs that seemed to lack one; None for a deleted job. A job
        may have been stored or deleted between the two commands that read it, so it is damaged only
        if it still lacks one of them."""
        commands: list[Command] = []
        for job_id in ids:
            job, state = self.link.key(f"job:{job_id}"), self.link.key(f"state:{job_id}")
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
        """The job from what Redis has of it: `content` is its record and journal, `state` the
        STATE_FIELDS; `silences` gives the seconds since each machine's last report."""
        texts = ((text or b"").decode(errors="replace") for text in state)
        status, queue, token, log_size, log_start, due, lane, log_at = texts
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
        job.urgent = lane == "1" if lane else job.urgent
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
        job.log_changed_at = parse_score(log_at) if log_at else None
        if job.status is Status.RUNNING:
            job.reason = self._silence(token, silences) or job.reason
        return job

    def _silence(self, token: str, silences: dict[str, int]) -> str | None:
        """A reason for a running job whose state may be outdated because its machine is silent;
        None if the machine reports."""
        spool = token.rpartition(":")[0]
        seconds = silences.get(spool)
        if seconds is None:
            return f"its machine {spool} has not reported since Redis was emptied"
        if seconds < self.unreachable:
            return None
        return f"its machine {spool} has not reported for {seconds} s"

    def status(self, job_id: str) -> Status:
        if ID_RE.fullmatch(job_id):
            state, job = self.link.key(f"state:{job_id}"), self.link.key(f"job:{job_id}")
            commands: list[Command] = [("HGET", state, "status"), ("EXISTS", job, state)]
            for is_last in (False, True):  # it might be stored or deleted between the two commands
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
        by: str | None = None,
    ) -> tuple[Sequence[Job], str | None]:
        jobs: list[Job] = []
        needle, read = text.casefold(), 0
        step = SEARCH_STEP if text or queue or by else limit + 1
        place = before.encode() if before else None
        while read < job_folders.SCAN_LIMIT:
            ids = self.ids_before(place, step, status, since)
            for job in self._load_in_steps(self.link.checked(ids), RECORD_STEP):
                if len(jobs) == limit:
                    return jobs, before
                before = job.id
                if matches(job, status, queue, needle, by):
                    jobs.append(shorten(job) if short else job)
            if len(ids) < step:
                return jobs, None
            place, read = ids[-1], read + len(ids)
            before = place.decode(errors="replace")
        return jobs, before

    def _last_reports(self, flat: Sequence[Any] | None) -> Sequence[tuple[str, float]]:
        """(spool, time of its last report) of each machine, from the reply of Redis."""
        return [
            (name, float(at))
            for raw, at in flat_pairs(flat or [])
            for name in self.link.checked([raw], SPOOL_RE)
        ]

    def ids_before(
        self, before: bytes | None, count: int, status: Status | None, since: str | None = None
    ) -> Sequence[bytes]:
        """Up to `count` IDs below `before` (None: from the newest), newest first, as Redis stores
        them: one that is not an ID of ours may be among them. `since`: none below this ID."""
        key = self.link.key(f"status:{status}" if status else "all")
        top = b"(" + before if before else b"+"
        bottom = f"[{since}" if since else "-"
        (found,) = self.link.ask(("ZREVRANGEBYLEX", key, top, bottom, "LIMIT", 0, count))
        return list(found)

    def find(self, part: str) -> Sequence[str]:
        return ids_with(part, self._iter_all_ids())

    def _iter_all_ids(self) -> Iterator[str]:
        (found,) = self.link.ask(("ZRANGE", self.link.key("all"), 0, -1))
        yield from self.link.checked(found)

    def unfinished_ids(self) -> set[str]:
        states = (Status.QUEUED, Status.RUNNING)  # the order in which jobs move
        found = self.link.ask(*(("ZRANGE", self.link.key(f"status:{s}"), 0, -1) for s in states))
        return {name for names in found for name in self.link.checked(names)}

    def iter_finished_ids(self) -> Iterator[str]:
        return heapq.merge(*map(self._iter_ids, FINISHED), reverse=True)

    def _iter_ids(self, status: Status) -> Iterator[str]:
        before = None
        while ids := self.ids_before(before, ID_STEP, status):
            yield from self.link.checked(ids)
            before = ids[-1]

    def queued_by_queue(self) -> dict[str, Sequence[str]]:
        (names,) = self.link.ask(("SMEMBERS", self.link.key("queues")))
        queues, kinds = sorted(self.link.checked(names, QUEUE_RE)), QUEUED_KINDS
        keys = [self.link.key(f"{kind}:{queue}") for queue in queues for kind in kinds]
        found = iter(self.link.ask(*(("ZRANGE", key, 0, -1) for key in keys)) if keys else ())
        known = {}
        for queue in queues:
            ids = set(self.link.checked(chain(*islice(found, len(kinds)))))  # one may be moving
            known[queue] = sorted(ids)
        return {queue: ids for queue, ids in known.items() if ids}

    def counts(self) -> dict[Status, int]:
        counts = self.link.ask(*(("ZCARD", self.link.key(f"status:{s}")) for s in Status))
        return dict(zip(Status, counts, strict=True))

    def count_since(self, since: str, status: Status | None = None) -> int:
        """Counts the IDs here: ZLEXCOUNT would need a permission that the documented user of an
        earlier version does not have."""
        key = self.link.key(f"status:{status}" if status else "all")
        (found,) = self.link.ask(("ZREVRANGEBYLEX", key, "+", f"[{since}"))
        return len(found)

    def finished_totals(self) -> dict[Status, int]:
        (deleted,) = self.link.ask(("HGETALL", self.link.key("deleted")))
        here = self.counts()  # last, so that a job that is deleted meanwhile is not counted twice
        return {s: here[s] + parse_count(deleted.get(s.encode())) for s in FINISHED}

    def list_running(self) -> Sequence[RunningJob]:
        found = []
        for raw, queue, key in self.link.run("running"):
            for job_id in self.link.checked([raw]):
                words = queue.decode(errors="replace"), key.decode(errors="replace")
                found.append(RunningJob(job_id, words[0], words[1] or None))
        return sorted(found)

    # Logs

    def open_log(self, job_id: str) -> Log:
        self.status(job_id)
        return RedisLog(self.link, job_id)

    def watch(self, job_id: str) -> Notifier:
        self.status(job_id)
        return RedisNotifier(self.feed, job_id)

    def watch_all(self) -> RedisNotifier:
        return RedisNotifier(self.feed, "")

    # Condition

    def check_writable(self) -> None:
        self.link.ask(("SET", self.link.key("check"), "x", "EX", 1))

    def unreadable(self) -> Sequence[str]:
        for command in self.saved.list():
            self.saved.load_schedule(command.saved)
        return [f"{thing}: {why}" for thing, why in sorted(self._errors.current.items())]

    def secret(self) -> bytes:
        key = self.link.key("secret")
        (found,) = self.link.ask(("GET", key))
        if found is None:  # if it exists, do not try: a full Redis refuses SETNX
            _, found = self.link.ask(("SETNX", key, os.urandom(SECRET_BYTES)), ("GET", key))
        return bytes(found)

    # Transitions

    def submit(self, job: Job, key: str | None = None, request: str | None = None) -> Job:
        check_queue(job.queue)
        sealed = self._seal_params(job)
        self.check_policy()
        known = None if key is None else self._job_of_earlier_key(key, job)
        if known is not None:
            return replace(known, is_repeat=True)
        job = replace(job, id=new_id(), submitted_at=utc(), secret_values={})
        arguments = submit_arguments(job, key, request, sealed)
        given = given_id(self.link.run("submit", *arguments), job)
        if given == job.id:
            return job
        known = self.get(given)
        check_request(known, self._request_of(given), request)
        return replace(known, is_repeat=True)

    def _seal_params(self, job: Job) -> bytes:
        """The values of its secret params, encrypted. ValueError if it has some and there is no
        key."""
        if not job.secret_params:
            return b""
        if self.params_key is None:
            raise ValueError(NO_SHARED_KEY)
        return self.params_key.seal(job.secret_values)

    def _request_of(self, job_id: str) -> str | None:
        """The hash of the request that submitted a job; None if it is not known. It is not stored
        in key:HASH, because earlier versions expect only the ID there."""
        return self.state_field(job_id, "request") or None

    def _job_of_earlier_key(self, key: str, job: Job) -> Job | None:
        """The job that an earlier version submitted for the same purpose as `job`, if the key is
        our own; None if there is no such job, or it was deleted."""
        earlier = earlier_key(key)
        if earlier is None:
            return None
        (given,) = self.link.try_all([("GET", self.link.key(f"key:{hash_key(earlier)}"))])
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
            line = ended_line(Status.CANCELLED, reason)
            earlier = self.cancel_reason(job_id) if found is Status.RUNNING else ""
            if self.override(job_id, found, "*", Status.CANCELLED, line, cancel=earlier):
                return self.get(job_id)
        raise cannot_cancel(job_id, found)

    def set_urgent(self, job_id: str, urgent: bool) -> Job:
        self.status(job_id)  # also checks the ID
        answer = self.link.run("urgent", job_id, int(urgent)).decode()
        if answer == "taken":
            raise OSError(errno.EBUSY, "this job is being started")
        if answer == "absent":
            raise JobNotFound(f"there is no job {job_id!r}")
        if answer != "done":
            raise not_queued(job_id, parse_status(answer)[0])
        return self.get(job_id)

    def is_cancel_requested(self, job_id: str) -> bool:
        return bool(self.cancel_reason(job_id))

    def override(
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
        about = decision.notice or "", decision.schedule.skipped_for or ""
        as_seen = (name, record, raw, encode_schedule(decision.schedule), *about)
        if job is None or decision.key is None:
            self.link.run("fire", *as_seen)
            return None
        self.check_policy()
        job = replace(job, id=new_id(), submitted_at=utc())
        answer = self.link.run("fire", *as_seen, *submit_arguments(job, decision.key, None))
        if answer is None:
            return None
        given = given_id(answer, job)
        return job if given == job.id else self.get(given)

    # Machines

    def machine_reports(self) -> Sequence[MachineReport]:
        """The last report of each machine."""
        last_seen, shown, now = self.link.ask(
            ("ZRANGE", self.link.key("heard"), 0, -1, "WITHSCORES"),
            ("HGETALL", self.link.key("machines")),
            ("TIME",),
        )
        found = []
        for spool, at in self._last_reports(last_seen):
            workers = parse_workers(shown.get(spool.encode(), b""))
            found.append(MachineReport(spool, at, now[0] - int(at), workers))
        return found

    def workers(self) -> Sequence[WorkerInfo]:
        found = [
            worker
            for report in self.machine_reports()
            if report.silence < self.unreachable
            for worker in report.workers
        ]
        return sorted(found, key=lambda info: info.name)

    def machines(self) -> Sequence[Machine]:
        found = []
        for report in self.machine_reports():
            spool, workers = report.spool, report.workers
            slots = sum(worker.slots for worker in workers)
            running = self.link.ask(("ZCARD", self.link.key(f"runs:{spool}")))[0]
            host = workers[0].host if workers else spool.rpartition("-")[0]
            state = REACHABLE if report.silence < self.unreachable else GIVEN_UP
            found.append(Machine(spool, host, slots, running, utc(report.reported_at), state))
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
        key = self.link.key("restoring")
        (names,) = self.link.ask(("ZRANGE", key, oldest, "+inf", "BYSCORE"))
        if names:
            return f"Redis has returned to an older state: {len(names)} machines are restoring jobs"
        return None

    def describe(self) -> dict[str, Any]:
        memory, server, at = self.link.ask(
            ("INFO", "memory"), ("INFO", "server"), ("GET", self.link.key("rolled-back"))
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

    def state_field(self, job_id: str, field: str) -> str:
        """A field of a job's state; "" if it has none or is damaged."""
        (value,) = self.link.try_all([("HGET", self.link.key(f"state:{job_id}"), field)])
        return text_of(value)

    def cancel_reason(self, job_id: str) -> str:
        return self.state_field(job_id, "cancel")


def submit_arguments(
    job: Job, key: str | None, request: str | None, sealed: bytes = b""
) -> Sequence[Any]:
    """The arguments of submit.lua. `key`: an Idempotency-Key; `sealed`: the values of its secret
    params, encrypted."""
    name = "" if key is None else hash_key(key)
    at = f"{parse_time(job.not_before):.3f}" if job.not_before else ""
    stored = job.id, job.queue, encode_record(job), name, job.saved or "", at, request or ""
    after = f"{job.after_status} {' '.join(job.after)}" if job.after else ""
    ordered = job.key or "", job.if_busy or "", int(job.urgent), after, utc()
    wait = wait_request(job)
    noticed = rules_word(job), "1" if job.pings else "", "" if wait is None else f"{wait.at:.3f}"
    return *stored, *ordered, *noticed, sealed


def rules_word(job: Job) -> str:
    """The field `notify` of a job's state; "" if the job has none."""
    if job.notify is None:
        return ""
    return "some" if job.notify else "none"


def given_id(answer: Any, job: Job) -> str:
    """The ID that submit.lua returned. ValueError or KeyBusy if another job prevented it."""
    if isinstance(answer, bytes):
        return answer.decode()
    why, other = (word.decode(errors="replace") for word in answer)
    if why == "busy":
        raise KeyBusy(other, job.key or "")
    raise ValueError(f"after: there is no job {other!r}")
