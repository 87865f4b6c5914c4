"""The storage in Redis."""

from __future__ import annotations

import errno
import heapq
import json
import logging
import os
import re
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from itertools import chain
from math import inf
from typing import Any

from tailboard import values
from tailboard.errors import EvictionAllowed, JobError, JobNotFound, cannot_cancel, cannot_delete
from tailboard.files import SMALL_FILE
from tailboard.folder import folder_store
from tailboard.folder.claim import fill_finished, fill_running, read_cancel_request
from tailboard.folder.folder_store import LOOKUPS, SECRET_BYTES
from tailboard.folder.retention import Retention, Sweep
from tailboard.folder.saved_files import ID_RE
from tailboard.job import VERSION, Job, encode_record, matches, parse_record, shorten
from tailboard.journal import Attempt, Outcome, parse_journal
from tailboard.judge import Verdict, delay_before_start, judge
from tailboard.keys import check_request, earlier_key, hash_key, is_same_run
from tailboard.logs import Log
from tailboard.machines.messages import (
    DAMAGED,
    NO_STATE,
    RESTORE_TIME,
    STATE_FIELDS,
    Assignment,
    Instance,
    LogTail,
    MachineOrders,
    RedisIsOlder,
    SpoolEntry,
    SpoolInUse,
    damaged_line,
    flat_pairs,
    none_if_damaged,
    parse_count,
    parse_score,
    parse_status,
)
from tailboard.machines.redis_link import Command, RedisLink, text_of
from tailboard.machines.redis_logs import RedisFeed, RedisLog, RedisNotifier
from tailboard.machines.redis_pauses import RedisPauses
from tailboard.machines.redis_saved import RedisSaved
from tailboard.notifier import Notifier
from tailboard.saved_command import SavedCommand
from tailboard.schedules import Schedule, ScheduleDecision, encode_schedule
from tailboard.settings import UNREACHABLE, RepeatedErrors
from tailboard.status import FINISHED, Status
from tailboard.values import (
    LAST_TIME,
    QUEUE_RE,
    check_queue,
    ids_with,
    is_queue_name,
    new_id,
    parse_time,
    utc,
)
from tailboard.workers import Machine, WorkerInfo, encode_worker, parse_workers

log = logging.getLogger("storage")

SEARCH_STEP = 200  # records asked of Redis in one trip
ID_STEP = 1_000  # IDs asked of Redis in one trip
RECORD_STEP = 100  # records asked of Redis in one trip for a list: each may have a megabyte
SPOOL_RE = re.compile("[a-zA-Z0-9-]{1,40}")
REDIS_LOG_KEPT = 16 << 20  # bytes of a log: Redis is memory
POLICY_INTERVAL = 60.0  # seconds between looks at the eviction policy of Redis
INSTANCE_SILENCE = 10.0  # seconds after which another instance of a spool counts as ended


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
