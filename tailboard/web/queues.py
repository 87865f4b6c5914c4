"""The queues, as GET /queues shows them."""

from __future__ import annotations

from collections import Counter
from typing import Any

from tailboard.order import EXCLUDES
from tailboard.web.state import state


class Queues:
    """What is known about all queues, as it is during this request."""

    def __init__(self) -> None:
        store = state().store
        self.waiting = store.queued_by_queue()
        self.running = Counter(job.queue for job in store.list_running())
        self.limits = store.limits.list()
        self.pauses = {pause.queue: pause for pause in store.pauses.list()}

    def as_list(self) -> list[dict[str, Any]]:
        """The queues that have waiting or running jobs, a limit or a pause, or are named by a
        worker that serves them."""
        workers = state().store.workers()
        served = {name for worker in workers for name in worker.queues if EXCLUDES not in name}
        names = {*self.waiting, *self.running, *self.limits, *self.pauses, *served}
        return [self.show(name) for name in sorted(names)]

    def show(self, name: str) -> dict[str, Any]:
        """One queue, whether or not anything is known about it."""
        return {
            "queue": name,
            "queued": len(self.waiting.get(name, ())),
            "running": self.running[name],
            "limit": self.limits.get(name),
            "paused": self.pauses.get(name),
        }
