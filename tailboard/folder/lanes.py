"""The lanes of a queue: queued/QUEUE and, for urgent jobs, queued/QUEUE.urgent. No queue can be
called QUEUE.urgent."""

from __future__ import annotations

import os
from typing import NamedTuple

from tailboard.values import is_queue_name

SUFFIX = ".urgent"


class Entry(NamedTuple):
    """A queued job and its lane. Entries sort by when their jobs start: urgent ones first."""

    is_last: bool  # False if it is urgent
    id: str
    lane: str

    @property
    def queue(self) -> str:
        return queue_of(self.lane)


def entry_in(lane: str, job_id: str) -> Entry:
    return Entry(not is_urgent(lane), job_id, lane)


def lane_of(queue: str, urgent: bool) -> str:
    return f"{queue}{SUFFIX}" if urgent else queue


def lane_in(folder: str) -> str:
    """The lane of a queued job's folder."""
    return os.path.basename(os.path.dirname(folder))


def queue_of(lane: str) -> str:
    return lane.removesuffix(SUFFIX)


def is_urgent(lane: str) -> bool:
    return lane.endswith(SUFFIX)


def is_lane(name: str) -> bool:
    return is_queue_name(queue_of(name))
