"""The storage in Redis, as a machine's relay uses it. RelayStore describes the methods."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from tailboard import values
from tailboard.chains import next_key
from tailboard.files import SMALL_FILE
from tailboard.folder.claim import read_cancel_request
from tailboard.folder.job_folders import LOOKUPS
from tailboard.folder.retention import Retention
from tailboard.job import VERSION, Job, parse_record
from tailboard.journal import Attempt, Outcome, parse_journal
from tailboard.judge import Verdict, delay_before_start, judge
from tailboard.machines.answers import (
    DAMAGED,
    damaged_line,
    flat_pairs,
    is_full,
    none_if_damaged,
    parse_count,
    parse_score,
)
from tailboard.machines.file_pack import listing_version
from tailboard.machines.messages import (
    Assignment,
    Instance,
    KnownState,
    LogTail,
    MachineOrders,
    RedisIsOlder,
    SampleFile,
    SpoolEntry,
    SpoolInUse,
    Taken,
)
from tailboard.machines.next_runs import JOB_WITH_KEY, NextRun
from tailboard.machines.redis_link import Command
from tailboard.machines.redis_store import RedisStore, rules_word, submit_arguments
from tailboard.status import FINISHED, Status
from tailboard.values import QUEUE_RE, new_id, parse_time, utc
from tailboard.workers import WorkerInfo, encode_worker

log = logging.getLogger("storage")

INSTANCE_SILENCE = 10.0  # seconds after which another instance of a spool counts as ended
RESTORED_NOTICE_AGE = 3_600.0  # seconds since the end of a job of which people are still notified
REDIS_LOG_KEPT = 16 << 20  # bytes of a log: Redis is memory


class RedisMachines(RedisStore):
    """A RelayStore. It adds to the store the reports of machines, taking and returning jobs, and
    giving up silent machines."""

    # Reports and orders

    def beat(
        self,
        spool: str,
        workers: Sequence[WorkerInfo],
        instance: Instance | None = None,
        ended: str = "",
    ) -> MachineOrders:
        instance = instance or Instance("")
        shown = json.dumps([encode_worker(worker) for worker in workers])
        rest = (instance.name, instance.since, ended, INSTANCE_SILENCE, *instance.known, utc())
        epoch, *answer = self.link.run("beat", spool, shown, os.urandom(8).hex(), *rest)
        if epoch is None:
            raise SpoolInUse(answer[0].decode(errors="replace"), parse_count(answer[1]))
        cancel_requests, deletions, paused, beats, since, restoring, must_restore, limits = answer
        instance.beats, instance.since = parse_count(beats), parse_score(since)
        instance.epoch = epoch.decode()
        reasons = {
            raw: reason.decode(errors="replace") for raw, reason in flat_pairs(cancel_requests)
        }
        pauses, known_limits = dict(flat_pairs(paused)), dict(flat_pairs(limits))
        return MachineOrders(
            epoch.decode(),
            {job_id: reasons[job_id.encode()] for job_id in self.link.checked(reasons)},
            list(self.link.checked(deletions)),
            {queue: pauses[queue.encode()] for queue in self.link.checked(pauses, QUEUE_RE)},
            restoring,
            bool(must_restore),
            {q: known_limits[q.encode()] for q in self.link.checked(known_limits, QUEUE_RE)},
        )

    def note_root(self, spool: str, root: str) -> None:
        key, path = self.link.key("roots"), os.fsencode(root)
        if self.link.ask(("HGET", key, spool)) != [path]:
            (answer,) = self.link.try_all([("HSET", key, spool, path)])
            if isinstance(answer, OSError) and not is_full(answer):
                raise answer

    def restored(self, spool: str) -> None:
        self.link.ask(("ZREM", self.link.key("restoring"), spool))

    def acknowledge(
        self, spool: str, cancel_requests: Iterable[str], deletions: Iterable[str]
    ) -> None:
        commands: list[Command] = [
            ("HDEL", self.link.key(f"wishes:{spool}"), name) for name in cancel_requests
        ]
        for name in deletions:
            # An API of an earlier version does not know these keys.
            unknown = (self.link.key(f"{kind}:{name}") for kind in ("files", "usage"))
            commands += [("UNLINK", *unknown), ("SREM", self.link.key(f"gone:{spool}"), name)]
        if commands:
            self.link.ask(*commands)

    # Jobs for a machine

    def take(
        self, spool: str, want: int, queues: Iterable[str], instance: Instance | None = None
    ) -> Taken:
        known = (instance or Instance("")).known
        for _ in range(LOOKUPS):  # until all that was given can be used
            line = damaged_line("it is missing or far too large")
            answer = self.link.run("take", spool, want, VERSION, line, *known, utc(), *queues)
            if answer is None:
                raise RedisIsOlder
            given, next_due, expects_more = answer
            checked = [self._check_assignment(spool, *each) for each in given]
            found = [assignment for assignment in checked if assignment is not None]
            if len(found) == len(given):
                break
        return Taken(found, float(next_due or "inf"), bool(expects_more))

    def _check_assignment(
        self, spool: str, raw_id: bytes, raw_token: bytes, size: bytes, content: bytes
    ) -> Assignment | None:
        """A job that was taken; None if it cannot run here. One whose ID is not valid is removed
        from its queue, one with a damaged record becomes lost, and one of a newer version waits for
        a machine that knows that version."""
        if not self.link.checked([raw_id]):
            self.link.run("unlist", spool, raw_id)
            return None
        job_id, token = raw_id.decode(), raw_token.decode(errors="replace")
        record, _, journal = content.partition(b"\n")
        try:
            if max(len(record), len(journal)) > SMALL_FILE:
                raise ValueError(f"it is larger than {SMALL_FILE:,} bytes")
            job = parse_record(record, job_id)
            version = job.version
            if version < VERSION:
                raise ValueError(f"it has version {version}")
        except (ValueError, RecursionError) as error:
            self.drop(job_id, str(error))
            return None
        if version > VERSION:
            log.info("skipped job=%s reason='its record has version %d'", job_id, version)
            self.link.run("defer", job_id, token, version)
            return None
        log_size = parse_count(size) if size else None
        return Assignment(job_id, token, log_size, record, journal, bool(job.secret_params))

    def past_log(self, assignment: Assignment) -> LogTail:
        if assignment.log_size is None:
            return LogTail()
        begin = max(0, assignment.log_size - 1) // values.BLOCK * values.BLOCK
        stored, times, usage = self.link.try_all(
            [
                self.link.script("read", assignment.id, begin, values.BLOCK),
                ("GET", self.link.key(f"times:{assignment.id}")),
                ("GET", self.link.key(f"usage:{assignment.id}")),
            ]
        )
        offset, data = none_if_damaged(stored) or (begin, b"")
        samples = (none_if_damaged(answer) or b"" for answer in (times, usage))
        return LogTail(int(offset), data, *samples)

    def secret_values(self, assignment: Assignment) -> Mapping[str, str]:
        if not assignment.has_secret_params:
            return {}
        (found,) = self.link.ask(("HGET", self.link.key(f"state:{assignment.id}"), "params"))
        try:
            if self.params_key is None:
                raise ValueError("TAILBOARD_SECRET_KEY is not set on this machine")
            return self.params_key.unseal(found or b"")
        except ValueError as error:
            log.error("secret values cannot be read job=%s reason=%r", assignment.id, str(error))
            return {}

    def give_back_one(self, job_id: str, token: str) -> bool:
        return self.override(job_id, Status.QUEUED, token, Status.QUEUED, "")

    def give_back(self, spool: str, ids: Sequence[str] | None = None) -> None:
        for job_id in self.taken_by(spool) if ids is None else ids:
            token = self.state_field(job_id, "token")
            if token.startswith(f"{spool}:"):
                self.give_back_one(job_id, token)

    def taken_by(self, spool: str) -> Sequence[str]:
        (taken,) = self.link.ask(("ZRANGE", self.link.key(f"taken:{spool}"), 0, -1))
        return self.link.checked(taken)

    # Messages about jobs

    def report(self, entry: SpoolEntry, size: int, following: NextRun | None = None) -> Command:
        confirms = int(entry.place == "taken")
        delay = entry.seconds_to_retry() if entry.status_for_redis is Status.QUEUED else 0.0
        drops = int(entry.place == "running" and not entry.has_secret_values)
        rest = (entry.token, entry.status_for_redis, entry.journal, size, confirms, delay, drops)
        if following is None:
            return self.link.script("report", entry.id, *rest)
        job = replace(following.job, id=new_id(), submitted_at=utc())
        submission = submit_arguments(job, next_key(entry.id), None)
        return self.link.script(
            "report_then", entry.id, *rest, following.line_if_busy, JOB_WITH_KEY, *submission
        )

    def restore(self, entry: SpoolEntry, secret_values: Mapping[str, str]) -> Command:
        status = Status.RUNNING if entry.status is Status.QUEUED else entry.status
        content = entry.record.rstrip(b"\n") + b"\n" + entry.journal
        request = read_cancel_request(entry.folder)
        reason = request.reason if request else ""
        job = entry.read_job()
        rest = (content, entry.token, reason, job.key or "", int(job.urgent), *noticed(entry, job))
        # Without the key, the values came from an earlier start of this worker.
        sealed = self.params_key.seal(secret_values) if secret_values and self.params_key else b""
        return self.link.script("restore", entry.id, status, entry.queue, *rest, sealed)

    def append(self, entry: SpoolEntry, start: int, data: bytes, how: str) -> Command:
        rest = (start, data, REDIS_LOG_KEPT, how, entry.log_at)
        return self.link.script("append", entry.id, entry.token, *rest)

    def note(self, entry: SpoolEntry, name: SampleFile, offset: int, samples: bytes) -> Command:
        return self.link.script("note", entry.id, entry.token, offset, samples, name)

    def put_chunk(self, entry: SpoolEntry, number: int, data: bytes) -> Command:
        return self.link.script("put_chunk", entry.id, entry.token, number, data)

    def put_listing(self, entry: SpoolEntry, count: int, listing: bytes, size: int) -> Command:
        rest = (count, listing, listing_version(listing), size)
        return self.link.script("put_listing", entry.id, entry.token, *rest)

    def send(self, messages: Sequence[Command]) -> Sequence[Any]:
        return self.link.try_all(messages)

    # What Redis knows of a machine's jobs

    def drop(self, job_id: str, why: str) -> None:
        log.error("lost job=%s reason=%r", job_id, f"{DAMAGED}: {why}")
        self.link.run("drop", job_id, damaged_line(why))

    def known_states(self, ids: Sequence[str]) -> Sequence[KnownState]:
        names = "status", "token", "log_size", "files"
        commands = [("HMGET", self.link.key(f"state:{i}"), *names) for i in ids]
        unknown = [None for _ in names]
        states = [none_if_damaged(answer) or unknown for answer in self.link.try_all(commands)]
        return [
            KnownState(
                (status or b"").decode(errors="replace"),
                (token or b"").decode(errors="replace"),
                None if size is None else parse_count(size),
                files is not None,
            )
            for status, token, size, files in states
        ]

    def running_on(self, spool: str) -> Sequence[str]:
        (found,) = self.link.ask(("ZRANGE", self.link.key(f"runs:{spool}"), 0, -1))
        return self.link.checked(found)

    # Giving up jobs and machines

    def lose_missing(self, job_id: str, spool: str) -> Job | None:
        return self._lose(job_id, spool, "its folder was removed from its machine's spool")

    def give_up_silent_machines(self, lost_after: int, own_spool: str) -> Sequence[Job]:
        jobs: list[Job] = []
        reports = self.machine_reports()
        newest = max((report.reported_at for report in reports), default=0.0)
        for report in reports:
            spool, silence = report.spool, int(newest - report.reported_at)
            if spool == own_spool:
                continue
            if silence >= lost_after:
                jobs += self.mark_lost(spool, f"its machine {spool} did not report for {silence} s")
            elif silence >= self.unreachable:
                self.give_back(spool)
        return jobs

    def mark_lost(self, spool: str, reason: str) -> Sequence[Job]:
        """Give up a machine. Its running jobs become lost, or are queued again if they have retries
        left; jobs that it has taken and not confirmed are queued. If the machine returns, it drops
        them. Returns the jobs that this ended. ValueError if no such machine is known."""
        reported_at, taken, running = self.link.ask(
            ("ZSCORE", self.link.key("heard"), spool),
            ("ZRANGE", self.link.key(f"taken:{spool}"), 0, -1),
            ("ZRANGE", self.link.key(f"runs:{spool}"), 0, -1),
        )
        if reported_at is None and not taken and not running:
            raise ValueError(f"there is no machine {spool!r}; GET /workers lists them")
        self.give_back(spool)
        lost = [self._lose(job_id, spool, reason) for job_id in self.link.checked(running)]
        self.link.ask(
            ("ZREM", self.link.key("heard"), spool), ("HDEL", self.link.key("machines"), spool)
        )
        return [job for job in lost if job is not None]

    def _lose(self, job_id: str, spool: str, reason: str) -> Job | None:
        """Give up a job that its machine will no longer report. Returns the job if this ended it:
        as lost, or as cancelled if Redis had accepted a request. Returns None if it was queued
        again or has ended meanwhile."""
        token, cancel = self.state_field(job_id, "token"), self.cancel_reason(job_id)
        if not token.startswith(f"{spool}:"):
            return None
        job = self.get(job_id)
        verdict, lines = verdict_of_lost(job, spool, reason, cancel)
        delay = delay_before_start(job, verdict, 0.0).seconds_left(time.time())
        if not self.override(job_id, Status.RUNNING, token, verdict.status, lines, delay, cancel):
            is_cancelled_since = self.cancel_reason(job_id) != cancel
            return self._lose(job_id, spool, reason) if is_cancelled_since else None
        log.warning("lost job=%s machine=%s now=%s", job_id, spool, verdict.status)
        return self.get(job_id) if verdict.status in FINISHED else None

    # Deleting old jobs

    def prune(
        self, retention: Retention, days: int, max_bytes: int, audit_days: int
    ) -> Iterator[None]:
        trusts_clock = retention.believes_clock()
        if trusts_clock:
            yield from self.audit.prune(audit_days, self.now())
        yield from self.pruning.run(retention, days, max_bytes, trusts_clock)


def noticed(entry: SpoolEntry, job: Job) -> tuple[str, str, int]:
    """The last three arguments of restore.lua. If Redis was emptied, it has also lost what people
    were notified of, so for jobs that ended long ago they are not notified again."""
    attempt = parse_journal(entry.journal)[-1]
    pings = ""
    if job.pings:
        pings = "started" if attempt.number else "1"
    is_old = False
    if entry.is_over and attempt.ended is not None:
        with suppress(ValueError):
            age = time.time() - parse_time(attempt.ended.finished_at or "")
            is_old = age > RESTORED_NOTICE_AGE
    return rules_word(job), pings, int(is_old)


def verdict_of_lost(job: Job, spool: str, reason: str, cancel: str) -> tuple[Verdict, str]:
    """(the new status of a running job whose machine is given up, the lines for its journal).
    `cancel`: the reason of an accepted cancel request; "" if there is none."""
    attempt, lines = job.attempts[-1] if job.attempts else Attempt(), []
    if attempt.ended is not None or attempt.number == 0:  # confirmed: it may have started
        attempt = Attempt(job.attempt, spool, spool, "", utc(), 0.0)
        lines.append({"claimed": attempt.claimed_line()})
    outcome = Outcome(Status.LOST, reason=reason, finished_at=utc())
    verdict = judge(job.retries, replace(attempt, ended=outcome), None, "", 0.0)
    if cancel:
        outcome = replace(outcome, status=Status.CANCELLED, reason=cancel)
        verdict = Verdict(Status.CANCELLED, outcome, recorded=False)
    lines.append({"ended": outcome.ended_line()})
    return verdict, "".join(f"\n{json.dumps(line)}\n" for line in lines)
