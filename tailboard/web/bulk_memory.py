"""The bulk actions of the last hour: who has chosen which jobs for which action.

A bulk action is one request for each job. It gets one line in the audit log: the requests name the
bulk action, and this memory says which of them belong to it."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from tailboard.audit import Action, Actor, Entry, job_range

MOST_BULKS = 20  # bulk actions that are remembered
MOST_IDS = 200_000  # jobs of all of them together
LONGEST = 3_600.0  # seconds


@dataclass(slots=True)
class ChosenBulk:
    """The jobs that one visitor has chosen for one action."""

    action: Action
    actor: Actor
    subject: Entry  # of its line
    left: set[str]  # IDs of the jobs to which the action was not applied yet
    has_line: bool = False
    made_at: float = field(default_factory=time.monotonic)


class BulkMemory:
    """What a request that names a bulk action adds to the audit log. It can never hide an action:
    only a job that its visitor has chosen for the same action counts, and each only once."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.known: dict[str, ChosenBulk] = {}  # by name, the oldest first

    def remember(
        self, action: Action, actor: Actor, filters: Entry, ids: Sequence[str]
    ) -> str | None:
        """The name of a bulk action; None if it cannot be remembered, because it has no jobs or too
        many. Then each of its jobs gets a line."""
        if not 0 < len(ids) <= MOST_IDS:
            return None
        subject = {"count": len(ids), "filter": filters, **job_range(ids)}
        name = f"b_{secrets.token_hex(8)}"
        with self.lock:
            self.known[name] = ChosenBulk(action, actor, subject, set(ids))
            self._forget()
        return name

    def _forget(self) -> None:
        """Forget the oldest ones, if there are too many or they are too old."""
        too_old = time.monotonic() - LONGEST
        size = sum(len(each.left) for each in self.known.values())
        for name, each in list(self.known.items()):
            if each.made_at < too_old or len(self.known) > MOST_BULKS or size > MOST_IDS:
                size -= len(each.left)
                del self.known[name]

    def subject_of(self, name: str, action: Action, actor: Actor, job_id: str) -> Entry | None:
        """The subject of the line for an action on this job, if it belongs to the bulk action of
        this name: the whole bulk action for the first job, {} for the others, which need no line of
        their own. None if it does not belong to it."""
        with self.lock:
            self._forget()
            bulk = self.known.get(name)
            if bulk is None or (bulk.action, bulk.actor) != (action, actor):
                return None
            if job_id not in bulk.left:
                return None
            bulk.left.remove(job_id)
            is_first, bulk.has_line = not bulk.has_line, True
            return dict(bulk.subject) if is_first else {}
