"""The contract of limits, keys, urgent jobs, and jobs that wait for others: the same for each
storage. Nothing here looks behind the port; `store_url` says where to."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack

import pytest
from conftest import in_processes, open_store, wait_until

from storage import WorkerStore
from tailboard.errors import JobNotFound, KeyBusy, WrongState
from tailboard.folder.claim import Claim
from tailboard.job import Job
from tailboard.journal import Outcome
from tailboard.order import DAMAGED_LIMIT, MAX_LIMIT
from tailboard.status import Status

UNKNOWN = "20200101-000000-00000000"
FAILED_ENDS = [
    (Status.FAILED, "failed"),
    (Status.TIMED_OUT, "timed out"),
    (Status.LOST, "was lost"),
]
Claimer = Callable[[], Claim | None]


def submit(store: WorkerStore, **options: object) -> Job:
    return store.submit(Job(**{"command": "true"} | options))


def claimed(claim: Claimer, job: Job) -> Claim:
    """The claim of this job, which is the next one to start."""
    held = wait_until(claim)
    assert held.job.id == job.id
    return held


def end(claim: Claimer, job: Job, status: Status = Status.SUCCEEDED) -> None:
    with claimed(claim, job) as held:
        held.finish(Outcome(status))


def wait_for_end(store: WorkerStore, claim: Claimer, job: Job, reason: str) -> None:
    """Waits until the store has cancelled a job that can never start, with this reason."""

    def is_cancelled() -> bool:
        assert claim() is None
        return store.status(job.id) is Status.CANCELLED

    wait_until(is_cancelled)
    assert store.get(job.id).reason == reason


def ended(store: WorkerStore, job: Job) -> tuple[Status, str | None]:
    found = store.get(job.id)
    return found.status, found.reason


# --- Limits ---------------------------------------------------------------------------------------


def test_limits_are_stored_listed_and_removed(store: WorkerStore) -> None:
    assert store.limits.list() == {}
    store.limits.set("deploy", 1)
    store.limits.set("a", MAX_LIMIT)
    store.limits.set("deploy", 2)
    assert list(store.limits.list().items()) == [("a", MAX_LIMIT), ("deploy", 2)]
    store.limits.set("a", None)
    store.limits.set("b", None)
    assert store.limits.list() == {"deploy": 2}
    assert DAMAGED_LIMIT == 1


@pytest.mark.parametrize(
    ("queue", "limit"), [("A", 1), ("a.urgent", 1), ("a", 0), ("a", MAX_LIMIT + 1), ("a", True)]
)
def test_a_bad_limit_is_refused(store: WorkerStore, queue: str, limit: int) -> None:
    with pytest.raises(ValueError, match="must be"):
        store.limits.set(queue, limit)
    assert store.limits.list() == {}


def test_a_full_queue_holds_up_only_its_own_jobs(store: WorkerStore, claim: Claimer) -> None:
    store.limits.set("deploy", 1)
    first, second = (submit(store, queue="deploy") for _ in range(2))
    other = submit(store)
    with claimed(claim, first) as held:
        assert [(run.id, run.queue) for run in store.list_running()] == [(first.id, "deploy")]
        with claimed(claim, other) as also:
            assert claim() is None
            also.finish(Outcome(Status.SUCCEEDED))
        assert claim() is None
        held.finish(Outcome(Status.SUCCEEDED))
    end(claim, second)


def test_a_limit_can_be_changed_while_jobs_run(store: WorkerStore, claim: Claimer) -> None:
    jobs = [submit(store, queue="deploy") for _ in range(4)]
    with ExitStack() as stack:
        running = [stack.enter_context(claimed(claim, job)) for job in jobs[:2]]
        store.limits.set("deploy", 1)  # no job ends because of it
        assert claim() is None
        assert [store.status(job.id) for job in jobs[:2]] == [Status.RUNNING] * 2
        running[0].finish(Outcome(Status.SUCCEEDED))
        assert claim() is None
        store.limits.set("deploy", 2)
        stack.enter_context(claimed(claim, jobs[2]))
        assert claim() is None
        store.limits.set("deploy", None)
        stack.enter_context(claimed(claim, jobs[3]))


def test_a_job_whose_worker_is_dead_counts(store: WorkerStore, claim: Claimer) -> None:
    store.limits.set("deploy", 1)
    first, second = (submit(store, queue="deploy") for _ in range(2))
    claimed(claim, first).release()
    assert claim() is None
    (orphan,) = store.orphans("host", ())
    with orphan as held:
        assert held.acquire_lock()
        held.finish(Outcome(Status.LOST))
    end(claim, second)


CLAIM_ALL = """
store = open_store(sys.argv[1])
store.listen(())
while (held := store.claim("worker", "host")) is not None:
    print(held.job.id)
"""


def test_many_claimers_together_respect_a_limit_and_a_key(
    store: WorkerStore, store_url: str
) -> None:
    store.limits.set("deploy", 3)
    jobs = [submit(store, queue="deploy") for _ in range(8)]
    keyed = [submit(store, key="one") for _ in range(4)]
    free = [submit(store) for _ in range(8)]
    started = sorted(" ".join(in_processes(3, CLAIM_ALL, store_url)).split())
    assert sum(job.id in started for job in jobs) == 3
    assert sum(job.id in started for job in keyed) == 1
    assert {job.id for job in free} <= set(started) and len(started) == 12


# --- Keys -----------------------------------------------------------------------------------------


def test_one_job_with_a_key_runs_at_a_time(store: WorkerStore, claim: Claimer) -> None:
    first = submit(store, key="deploy", retries=1)
    second = submit(store, key="deploy", queue="other", if_busy="wait")
    third = submit(store, key="deploy2")
    assert (store.get(second.id).key, store.get(second.id).if_busy) == ("deploy", "wait")
    with claimed(claim, first) as held:
        end(claim, third)
        assert claim() is None
        assert store.list_running()[0].key == "deploy"
        held.requeue(Outcome(Status.FAILED, 1))
    end(claim, first)
    end(claim, second)


def test_the_latest_replaces_those_that_wait(store: WorkerStore, claim: Claimer) -> None:
    running = submit(store, key="k")
    with claimed(claim, running) as held:
        waiting = [submit(store, key="k") for _ in range(2)]
        stranger = submit(store, key="l", not_before="2099-01-01T00:00:00Z")
        latest = submit(store, key="k", if_busy="latest")
        for job in waiting:
            assert ended(store, job) == (Status.CANCELLED, f"replaced by {latest.id}")
        assert store.status(stranger.id) is Status.QUEUED
        assert not store.is_cancel_requested(running.id)
        newest = submit(store, key="k", if_busy="latest", queue="other")
        assert ended(store, latest) == (Status.CANCELLED, f"replaced by {newest.id}")
        assert claim() is None
        held.finish(Outcome(Status.SUCCEEDED))
    end(claim, newest)


def test_a_replacement_also_cancels_the_job_that_runs(store: WorkerStore, claim: Claimer) -> None:
    running = submit(store, key="k")
    with claimed(claim, running) as held:
        waiting = submit(store, key="k")
        new = submit(store, key="k", if_busy="replace")
        assert ended(store, waiting) == (Status.CANCELLED, f"replaced by {new.id}")
        assert store.is_cancel_requested(running.id)
        assert claim() is None
        held.finish(Outcome(Status.FAILED, 1))  # the request decides how it ends
    assert ended(store, running) == (Status.CANCELLED, f"replaced by {new.id}")
    end(claim, new)


def test_a_running_job_is_not_in_the_way_of_one_that_waits_for_it(
    store: WorkerStore, claim: Claimer
) -> None:
    first = submit(store, key="k")
    with claimed(claim, first) as held:
        skips = submit(store, key="k", if_busy="skip", after=[first.id])
        replaces = submit(store, key="k", if_busy="replace", after=[first.id])
        assert ended(store, skips) == (Status.CANCELLED, f"replaced by {replaces.id}")
        assert not store.is_cancel_requested(first.id)
        assert claim() is None
        held.finish(Outcome(Status.SUCCEEDED))
    end(claim, replaces)


def test_a_job_is_skipped_if_another_has_its_key(store: WorkerStore, claim: Claimer) -> None:
    first = submit(store, key="k", if_busy="skip")
    with pytest.raises(KeyBusy) as busy:
        submit(store, key="k", if_busy="skip")
    assert busy.value.job_id == first.id
    with claimed(claim, first) as held:
        with pytest.raises(KeyBusy):
            store.submit(Job(command="true", key="k", if_busy="skip"), "once")
        held.finish(Outcome(Status.SUCCEEDED))
    assert [job.id for job in store.list()[0]] == [first.id]
    second = store.submit(Job(command="true", key="k", if_busy="skip"), "once")
    assert store.submit(Job(command="true", key="k", if_busy="skip"), "once").id == second.id
    end(claim, second)


def test_jobs_with_different_keys_do_not_wait_for_each_other(
    store: WorkerStore, claim: Claimer
) -> None:
    store.limits.set("full", 1)
    blocker = submit(store, queue="full")
    with claimed(claim, blocker):
        submit(store, queue="full", key="k")  # waits for its queue, and does not have the key yet
        free = submit(store, key="k")
        end(claim, free)
        assert claim() is None


# --- Urgent ---------------------------------------------------------------------------------------


def test_urgent_jobs_start_first_and_the_oldest_of_them(store: WorkerStore, claim: Claimer) -> None:
    jobs = [submit(store, queue=queue) for queue in ("a", "b", "a", "b")]
    urgent = submit(store, queue="b", urgent=True)
    assert store.get(urgent.id).urgent and not store.get(jobs[0].id).urgent
    assert store.set_urgent(jobs[2].id, True).urgent
    assert store.set_urgent(jobs[3].id, True).urgent
    assert not store.set_urgent(jobs[3].id, False).urgent
    assert store.queued_by_queue() == {
        "a": [jobs[0].id, jobs[2].id],
        "b": [jobs[1].id, jobs[3].id, urgent.id],
    }
    for job in (jobs[2], urgent, jobs[0], jobs[1], jobs[3]):
        end(claim, job)


def test_only_a_job_that_waits_can_become_urgent(store: WorkerStore, claim: Claimer) -> None:
    job = submit(store, not_before="2099-01-01T00:00:00Z")
    assert store.set_urgent(job.id, True).urgent and claim() is None
    assert store.cancel(job.id, "why").status is Status.CANCELLED
    with pytest.raises(WrongState, match="cancelled"):
        store.set_urgent(job.id, True)
    with pytest.raises(JobNotFound):
        store.set_urgent(UNKNOWN, True)
    running = submit(store)
    with claimed(claim, running), pytest.raises(WrongState, match="running"):
        store.set_urgent(running.id, False)


def test_an_urgent_job_is_retried_as_it_was_submitted(store: WorkerStore, claim: Claimer) -> None:
    urgent = submit(store, urgent=True, retries=1)
    submit(store)
    with claimed(claim, urgent) as held:
        held.requeue(Outcome(Status.FAILED, 1))
    assert store.get(urgent.id).urgent
    end(claim, urgent)


# --- After others ---------------------------------------------------------------------------------


def test_a_job_starts_after_those_that_it_waits_for(store: WorkerStore, claim: Claimer) -> None:
    parents = [submit(store, retries=1), submit(store)]
    child = submit(store, after=[job.id for job in parents], urgent=True)
    last = submit(store)
    assert store.get(child.id).after == [job.id for job in parents]
    with claimed(claim, parents[0]) as held:
        end(claim, parents[1])
        end(claim, last)  # the job that waits does not hold up others
        assert claim() is None
        held.requeue(Outcome(Status.FAILED, 1))  # its retry may succeed
    end(claim, parents[0])
    end(claim, child)


@pytest.mark.parametrize(("status", "word"), FAILED_ENDS)
def test_a_job_is_cancelled_with_all_that_wait_for_it_if_another_fails(
    store: WorkerStore, claim: Claimer, status: Status, word: str
) -> None:
    parent = submit(store)
    child = submit(store, after=[parent.id])
    anyway = submit(store, after=[child.id], after_status="ended")
    grandchild = submit(store, after=[child.id], queue="other")
    with claimed(claim, parent) as held:
        assert claim() is None
        held.finish(Outcome(status))
    with claimed(claim, anyway) as held:
        held.finish(Outcome(Status.SUCCEEDED))
    wait_for_end(store, claim, child, f"{parent.id} {word}")
    wait_for_end(store, claim, grandchild, f"{child.id} was cancelled")


def test_a_job_that_was_cancelled_or_deleted_never_lets_another_start(
    store: WorkerStore, claim: Claimer
) -> None:
    first, second = submit(store), submit(store)
    child, deleted = submit(store, after=[first.id]), submit(store, after=[second.id])
    anyway = submit(store, after=[second.id], after_status="ended")
    store.cancel(first.id, "enough")
    store.cancel(second.id, "enough")
    store.delete(second.id)
    end(claim, anyway)
    wait_for_end(store, claim, child, f"{first.id} was cancelled")
    wait_until(lambda: claim() is None and store.status(deleted.id) is Status.CANCELLED)
    assert store.get(deleted.id).reason in (
        f"{second.id} was deleted",
        f"{second.id} was cancelled",
    )


def test_a_job_waits_only_for_jobs_that_exist(store: WorkerStore, claim: Claimer) -> None:
    done = submit(store)
    end(claim, done)
    with pytest.raises(ValueError, match=f"after: there is no job '{UNKNOWN}'"):
        submit(store, after=[done.id, UNKNOWN])
    child = submit(store, after=[done.id])
    end(claim, child)
    assert len(store.list()[0]) == 2


def test_a_job_that_waits_can_be_cancelled(store: WorkerStore, claim: Claimer) -> None:
    parent = submit(store)
    child = submit(store, after=[parent.id], key="k")
    grandchild = submit(store, after=[child.id])
    with claimed(claim, parent) as held:
        assert claim() is None
        assert store.queued_by_queue() == {"default": [child.id, grandchild.id]}
        assert store.cancel(child.id, "enough").status is Status.CANCELLED
        wait_for_end(store, claim, grandchild, f"{child.id} was cancelled")
        held.finish(Outcome(Status.SUCCEEDED))
    assert claim() is None


def test_a_long_chain_and_a_wide_fan_end_in_order(store: WorkerStore, claim: Claimer) -> None:
    chain = [submit(store)]
    for _ in range(12):
        chain.append(submit(store, after=[chain[-1].id]))
    fan = [submit(store, after=[chain[0].id]) for _ in range(12)]
    for job in [chain[0], chain[1]]:
        end(claim, job)
    order = []
    while (held := claim()) is not None:
        with held:
            order.append(held.job.id)
            held.finish(Outcome(Status.SUCCEEDED))
    assert sorted(order) == sorted(job.id for job in chain[2:] + fan)
    assert [each for each in order if each in {job.id for job in chain}] == [
        job.id for job in chain[2:]
    ]


# --- Workers --------------------------------------------------------------------------------------


def test_a_worker_can_exclude_queues(store: WorkerStore, store_url: str) -> None:
    for queue in ("deploy", "other", "default"):
        submit(store, queue=queue)
    excluding = open_store(store_url)
    excluding.listen(["!deploy", "!other"])
    held = excluding.claim("worker", "host")
    assert held is not None and held.job.queue == "default"
    held.release()
    assert excluding.claim("worker", "host") is None
    with pytest.raises(ValueError, match="all begin with !"):
        excluding.listen(["!deploy", "other"])
