"""Reading the jobs in Redis: one, a list, the counts, the logs, the files."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from typing import Any

from tailboard.errors import JobNotFound
from tailboard.folder import job_folders
from tailboard.folder.job_folders import fill_finished, fill_running
from tailboard.job import Job, matches, parse_record, shorten
from tailboard.job_files import FileListing, OpenFile
from tailboard.journal import parse_journal
from tailboard.judge import judge
from tailboard.logs import Log
from tailboard.machines.answers import (
    DAMAGED,
    flat_pairs,
    none_if_damaged,
    parse_count,
    parse_score,
    parse_status,
    text_of,
)
from tailboard.machines.messages import SPOOL_RE
from tailboard.machines.redis_files import RedisFiles
from tailboard.machines.redis_link import Command, RedisLink
from tailboard.machines.redis_logs import RedisFeed, RedisLog, RedisNotifier
from tailboard.notifier import Notifier
from tailboard.order import RunningJob
from tailboard.status import FINISHED, Status
from tailboard.usage import UsageSample, parse_usage
from tailboard.values import (
    ID_RE,
    LAST_TIME,
    QUEUE_RE,
    ids_with,
    is_queue_name,
    utc,
)

SEARCH_STEP = 200  # records read in one round trip to Redis
ID_STEP = 1_000  # IDs read in one round trip
RECORD_STEP = 100  # records read in one round trip for a list: each may be a megabyte long
QUEUED_KINDS = ("queue", "delayed", "waiting", "newer")  # the sorted sets of a queue
STATE_FIELDS = ("status", "queue", "token", "log_size", "log_start", "not_before", "lane", "log_at")
NO_STATE = [None for _ in STATE_FIELDS]  # these fields of a damaged state


class RedisJobs:
    """Finds, reads and lists jobs in Redis, as JobFolders does in a folder."""

    def __init__(self, url: str, unreachable: int) -> None:
        self.link = RedisLink(url)
        self.feed = RedisFeed(self.link)
        self.files = RedisFiles(self.link)
        self.unreachable = unreachable  # seconds

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

    # Files

    def list_files(self, job_id: str) -> FileListing:
        return self.files.list(self.get(job_id), self.state_field(job_id, "token"))

    def open_file(self, job_id: str, path: bytes) -> OpenFile:
        return self.files.open(self.get(job_id), self.state_field(job_id, "token"), path)

    def sent_bytes(self, ids: Sequence[str]) -> Mapping[str, int]:
        """How many bytes of files Redis has of each of these jobs, in one round trip. A job of
        which it has none is left out."""
        commands = [("HGET", self.link.key(f"state:{job_id}"), "files") for job_id in ids]
        sizes = [parse_count(text_of(answer)) for answer in self.link.try_all(commands)]
        return {job_id: size for job_id, size in zip(ids, sizes, strict=True) if size}

    def usage(self, job_id: str) -> Sequence[UsageSample]:
        self.status(job_id)
        (data,) = self.link.try_all([("GET", self.link.key(f"usage:{job_id}"))])
        return parse_usage(none_if_damaged(data) or b"")

    def latest_usage(self, ids: Iterable[str]) -> Mapping[str, Sequence[UsageSample]]:
        wanted = [job_id for job_id in ids if ID_RE.fullmatch(job_id)]
        commands = [("HGET", self.link.key(f"state:{job_id}"), "usage") for job_id in wanted]
        answers = map(none_if_damaged, self.link.try_all(commands))
        found = {i: parse_usage(data) for i, data in zip(wanted, answers, strict=True) if data}
        return {job_id: samples for job_id, samples in found.items() if samples}

    # The state of a job

    def state_field(self, job_id: str, field: str) -> str:
        """A field of a job's state; "" if it has none or is damaged."""
        (value,) = self.link.try_all([("HGET", self.link.key(f"state:{job_id}"), field)])
        return text_of(value)

    def cancel_reason(self, job_id: str) -> str:
        return self.state_field(job_id, "cancel")
