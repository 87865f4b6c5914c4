"""The storage in Redis, as the API and the commands use it."""

from __future__ import annotations

import errno
import logging
import os
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
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
from tailboard.folder.folder_store import SECRET_BYTES
from tailboard.folder.secret_params import NO_SHARED_KEY
from tailboard.job import Job, encode_record
from tailboard.keep_rules import KeepLimits, Prunable
from tailboard.keys import check_request, earlier_key, hash_key, is_same_run
from tailboard.machines.answers import (
    ended_line,
    parse_score,
    parse_status,
    text_of,
)
from tailboard.machines.messages import RESTORE_TIME, MachineReport
from tailboard.machines.redis_audit import RedisAudit
from tailboard.machines.redis_jobs import RedisJobs
from tailboard.machines.redis_limits import RedisLimits
from tailboard.machines.redis_notices import RedisNotices
from tailboard.machines.redis_pauses import RedisPauses
from tailboard.machines.redis_pruning import RedisPruning
from tailboard.machines.redis_saved import RedisSaved
from tailboard.machines.redis_sessions import RedisSessions
from tailboard.machines.shared_key import SharedKey
from tailboard.notices import wait_request
from tailboard.program_log import RepeatedErrors
from tailboard.saved_command import SavedCommand
from tailboard.schedules import Schedule, ScheduleDecision, encode_schedule
from tailboard.settings import UNREACHABLE
from tailboard.status import FINISHED, Status
from tailboard.values import (
    check_queue,
    new_id,
    parse_time,
    utc,
)
from tailboard.workers import GIVEN_UP, REACHABLE, Machine, WorkerInfo, parse_workers

log = logging.getLogger("storage")

POLICY_INTERVAL = 60.0  # seconds between checks of the eviction policy of Redis


class RedisStore(RedisJobs):
    """A Store: jobs in Redis, shared by several machines. It shows a running job as its machine has
    reported it. `RedisMachines` adds what a machine's relay needs."""

    def __init__(self, url: str, unreachable: int = UNREACHABLE, secret_key: str = "") -> None:
        """`secret_key`: the file of a SharedKey; "": jobs cannot have secret params. ValueError if
        it cannot be used."""
        super().__init__(url, unreachable)
        self.params_key = SharedKey(secret_key) if secret_key else None
        self.seals_params = self.params_key is not None
        self._errors = RepeatedErrors(log)  # by key: saved/NAME, schedules/NAME
        self._policy_checked_at = -inf  # on the monotonic clock; -inf: never, or it is wrong
        self.pauses = RedisPauses(self.link)
        self.limits = RedisLimits(self.link)
        self.sessions = RedisSessions(self.link)
        self.audit = RedisAudit(self.link)
        self.notices = RedisNotices(self.link)
        self.saved = RedisSaved(self.link, self._errors)
        self.pruning = RedisPruning(self, self.saved)

    def close(self) -> None:
        self.feed.close()
        self.link.client.close()

    def now(self) -> float:
        return self.link.now()

    # Condition

    def space(self) -> None:
        """The jobs are in Redis, whose memory `describe` reports."""

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

    def prunable(self, days: int, max_bytes: int) -> Iterator[Collection[Prunable]]:
        return self.pruning.prunable(days, max_bytes)

    def keep_limits(self) -> KeepLimits | None:
        return self.pruning.limits()

    def waiting_for(self, job_id: str) -> str | None:
        return self.pruning.awaited.waiting_for(job_id)

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
