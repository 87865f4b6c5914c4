"""Whether something needs attention: the content of GET /healthz."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from tailboard import __version__, workers
from tailboard.order import ServedQueues
from tailboard.values import age_of
from tailboard.web.state import state
from tailboard.web.views import some_names
from tailboard.workers import WorkerInfo


def check_health() -> dict[str, Any]:
    """The health of the service; `reason` is None if nothing needs attention. Anyone can read this
    without a token, so it names only a few queues. It counts entries that cannot be read; GET
    /workers lists them."""
    store = state().store
    waiting, alive = store.queued_by_queue(), store.workers()
    for paused in store.pauses.list():  # these jobs wait because a user paused their queue
        waiting.pop(paused.queue, None)
    reason, space = find_reason(waiting, alive), store.space()
    return {
        "status": "unhealthy" if reason else "ok",
        "reason": reason,
        "workers": len(alive),
        "oldest_queued_seconds": max((age_of(ids[0]) for ids in waiting.values()), default=None),
        "unreadable": len(store.unreadable()),
        "free_bytes": space.free if space else None,
        "total_bytes": space.total if space else None,
        "version": __version__,
    }


def find_reason(waiting: Mapping[str, Sequence[str]], alive: Sequence[WorkerInfo]) -> str | None:
    """The most serious problem, as a sentence fragment; None if there is none. `waiting`: the IDs
    of queued jobs by queue, without the paused queues."""
    store = state().store
    try:
        store.check_writable()
    except OSError as error:
        return f"the storage is not writable: {error.strerror}"
    if problem := store.problem():
        return problem
    if silent := sum(not worker.responds for worker in alive):
        period = f"{workers.UNRESPONSIVE_AFTER:g} s"
        return f"workers that have not responded for {period}: {silent} of {len(alive)}"
    if unserved := set(waiting) - served_queues(waiting, alive):
        return f"jobs wait in {some_names(unserved)}, which no worker serves"
    return None


def served_queues(waiting: Mapping[str, object], alive: Sequence[WorkerInfo]) -> set[str]:
    """Those of the queues that a living worker serves."""
    served: set[str] = set()
    for worker in alive:
        with suppress(ValueError):  # the record of another version, perhaps
            queues = ServedQueues(worker.queues)
            served |= {queue for queue in waiting if queue in queues}
    return served
