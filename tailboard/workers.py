"""Records of workers, machines and paused queues, and their encoding."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, fields
from typing import Any

from tailboard.status import FINISHED, Status
from tailboard.values import check_queue, finite_number, is_count, is_text, known_fields, utc

UNRESPONSIVE_AFTER = 30.0  # seconds without a heartbeat; one is due every 5
# Why a machine that was silent for a long time ends a job that Redis has given to another one.
FENCED_REASON = "its machine did not report for a long time, and another machine now has the job"


@dataclass(slots=True)
class WorkerInfo:
    """A worker as others see it. An empty `queues` means all queues."""

    name: str
    host: str
    pid: int
    slots: int = 0
    queues: list[str] = field(default_factory=list)
    running: int = 0
    started_at: str = field(default_factory=lambda: utc())
    seen_at: str = ""
    responds: bool = True  # False: alive, but has sent no heartbeat for UNRESPONSIVE_AFTER


@dataclass(slots=True)
class Pause:
    """A paused queue. Fields that were not given are None."""

    queue: str
    why: str | None = None
    by: str | None = None
    since: str | None = None

    @property
    def words(self) -> str:
        """Who paused it and why, to append to "is paused"; empty if neither is known."""
        by = f" by {self.by}" if self.by else ""
        why = f": {self.why}" if self.why else ""
        return by + why

    @property
    def reason(self) -> str:
        """The `reason` of the jobs that wait in this queue."""
        return f"its queue is paused{self.words}"

    def encode(self) -> bytes:
        """The content of the file paused/QUEUE.json: a line of JSON."""
        texts = {"why": self.why, "by": self.by, "since": self.since}
        return json.dumps(texts, ensure_ascii=False).encode() + b"\n"


# The states of a machine. Clients of the API compare these texts, so they must not change.
REACHABLE, GIVEN_UP = "heard of", "unreachable"


@dataclass(slots=True)
class Machine:
    """A machine that runs jobs, as others see it."""

    spool: str  # its name, for `tailboard mark-lost`
    host: str
    slots: int
    running: int
    heard_at: str
    state: str  # REACHABLE or GIVEN_UP


def parse_pause(queue: str, content: bytes) -> Pause:
    """The pause in the content of its file. Empty or damaged content is a pause, too: a paused
    queue must not run because a file is damaged."""
    if not content.strip():
        return Pause(queue)
    try:
        texts = json.loads(content)
        pause = Pause(queue, texts.get("why"), texts.get("by"), texts.get("since"))
        if all(map(is_text, (pause.why, pause.by, pause.since))):
            return pause
    except (ValueError, AttributeError, RecursionError):
        pass
    return Pause(queue, "its record cannot be read")


def make_pause(queue: str, why: str | None, by: str | None, known: Sequence[Pause]) -> Pause:
    """A new pause of a queue. If one of the `known` pauses is of the same queue, the new one keeps
    its `since`; otherwise it begins now. ValueError for a bad queue name."""
    check_queue(queue)
    began = {pause.queue: pause.since for pause in known}
    return Pause(queue, why, by, began.get(queue) or utc())


def encode_worker(info: WorkerInfo) -> dict[str, Any]:
    """A worker's record. `responds` is omitted if it is true: machines of earlier versions refuse
    unknown fields."""
    record = {f.name: getattr(info, f.name) for f in fields(info)}
    if info.responds:
        del record["responds"]
    return record


def parse_worker(content: bytes, boot: str) -> WorkerInfo:
    """The worker that a file workers/NAME.json describes. `boot`: the ID of this boot, see
    `boot_id`. ValueError if the content does not describe a worker."""
    try:
        record = json.loads(content)
        info = _make_worker(record)
        info.responds = _is_recent(record.get("heartbeat"), boot)
        return info
    except (ValueError, RecursionError):
        raise ValueError("it is not a worker's file") from None


def _make_worker(record: Any) -> WorkerInfo:
    """The worker that a record describes, which another version may have written. ValueError if
    it does not describe one."""
    known = known_fields(WorkerInfo, record)
    info = WorkerInfo(**{"name": None, "host": None, "pid": None} | known)
    words = [info.name, info.host, info.started_at, info.seen_at]
    numbers = [info.pid, info.slots, info.running]
    is_good = isinstance(info.queues, list) and all(isinstance(q, str) for q in info.queues)
    is_good = is_good and isinstance(info.responds, bool)
    if not is_good or not all(isinstance(word, str) for word in words):
        raise ValueError("it does not describe a worker")
    if not all(map(is_count, numbers)):
        raise ValueError("it does not describe a worker")
    return info


def _is_recent(heartbeat: Any, boot: str) -> bool:
    """Was this heartbeat sent in the last UNRESPONSIVE_AFTER seconds? Only the monotonic clock is
    compared, since the wall clock may be set at any time. A heartbeat of another boot, whose clock
    is not known here, counts as recent."""
    if not isinstance(heartbeat, dict) or not boot or heartbeat.get("boot") != boot:
        return True
    return time.monotonic() - finite_number(heartbeat.get("monotonic")) < UNRESPONSIVE_AFTER


def parse_workers(content: bytes) -> Sequence[WorkerInfo]:
    """The workers of a machine, as it reported them to Redis; those that cannot be read are
    skipped."""
    found = []
    with suppress(ValueError, RecursionError):
        records = json.loads(content)
        for record in records if isinstance(records, list) else []:
            with suppress(ValueError):
                found.append(_make_worker(record))
    return found


def parse_counts(data: bytes) -> dict[Status, int]:
    """The counts in the file `deleted`, by final status; all 0 if it is damaged."""
    try:
        return {status: int(json.loads(data)[status]) for status in FINISHED}
    except (ValueError, KeyError, TypeError):
        return dict.fromkeys(FINISHED, 0)
