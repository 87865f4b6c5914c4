"""The commands for limits, keys, urgent jobs and jobs that wait for others, on a folder and on a
server; and what the Python client returns."""

from __future__ import annotations

import re

import pytest
from command_site import Tailboard
from conftest import BY_HAND

from tailboard.saved_command import SavedCommand
from tailboard.status import Status


def submit(tailboard: Tailboard, *options: str) -> str:
    """The ID of a new job."""
    done = tailboard("submit", "--queue", BY_HAND, *options, "true")
    assert done.exit_code == 0, done.stderr
    return done.stdout.strip()


def queue_line(tailboard: Tailboard, queue: str) -> str | None:
    """What `queues` shows of a queue."""
    lines = [line.split(maxsplit=1) for line in tailboard("queues").stdout.splitlines()]
    return dict(lines).get(queue)  # type: ignore[arg-type]


def test_limit_sets_and_removes_the_limit_of_a_queue(tailboard: Tailboard) -> None:
    with tailboard.job_maker.running(queue="deploy") as held:
        waiting = tailboard.job_maker.queued(queue="deploy")
        assert tailboard("limit", "deploy", "1").exit_code == 0
        assert tailboard.storage.limits.list() == {"deploy": 1}
        assert queue_line(tailboard, "deploy") == "1 queued, 1 running (limit 1)"
        shown = tailboard("show", waiting.id).stdout
        reason = f"waits for a turn in queue deploy, whose limit is 1: {held.job.id} is running"
        assert reason in shown
        assert tailboard("limit", "deploy", "--none").exit_code == 0
        assert queue_line(tailboard, "deploy") == "1 queued, 1 running"
        tailboard.job_maker.finish(held)


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (("limit", "q"), 2, "give either a number of jobs or --none"),
        (("limit", "q", "1", "--none"), 2, "give either a number of jobs or --none"),
        (("limit", "q", "0"), 2, "0 is not in the range 1<=x<=10000"),
        (("limit", "q", "one"), 2, "'one' is not a valid integer"),
        (("limit", "Q", "1"), 1, "queue must be 1 to 32 of the characters a-z 0-9 _ -, not 'Q'"),
        (("urgent", "nothing"), 1, "no job has an ID that starts or ends with 'nothing'"),
        (("submit", "--after", "nothing", "true"), 1, "no job has an ID that starts or ends with"),
        (("submit", "--if-busy", "skip", "true"), 1, "if_busy must be one of wait, latest,"),
        (("submit", "--if-busy", "x", "true"), 2, "'x' is not one of 'wait', 'latest',"),
        (("submit", "--key", "k" * 65, "true"), 1, "key must be a string of 1 to 64 characters"),
        (("submit", "--after-status", "x", "true"), 2, "'x' is not one of 'succeeded', 'ended'"),
        (("rerun", "--with-after", "--status", "failed"), 2, "--with-after needs an ID, and no"),
        (("rerun", "--with-after"), 2, "--with-after needs an ID, and no options that select"),
    ],
)
def test_a_wrong_word_is_refused_in_one_sentence(
    tailboard: Tailboard, words: tuple[str, ...], code: int, sentence: str
) -> None:
    tailboard.job_maker.queued()
    refused = tailboard(*words)
    assert refused.exit_code == code and sentence in refused.stderr, refused.stderr
    assert refused.stdout == "" and "Traceback" not in refused.stderr
    assert len(tailboard.storage.list()[0]) == 1


def test_submit_passes_on_what_decides_when_a_job_starts(tailboard: Tailboard) -> None:
    first, second = tailboard.job_maker.queued().id, tailboard.job_maker.queued().id
    options = ("--key", "K", "--if-busy", "latest", "--urgent", "--after-status", "ended")
    job_id = submit(tailboard, "--after", first[-8:], "--after", second, *options)
    job = tailboard.storage.get(job_id)
    assert (job.key, job.if_busy, job.urgent) == ("K", "latest", True)
    assert (job.after, job.after_status) == ([first, second], "ended")
    shown = tailboard("show", job_id).stdout
    assert re.search(f"^reason +waits for {first} and {second}$", shown, re.MULTILINE)
    plain = tailboard.storage.get(submit(tailboard))
    assert (plain.key, plain.if_busy, plain.urgent, plain.after) == (None, None, False, [])


def test_urgent_lets_a_queued_job_start_first(tailboard: Tailboard) -> None:
    job_id = submit(tailboard)
    for options, urgent in (((), True), (("--off",), False)):
        assert tailboard("urgent", job_id[-8:], *options).stdout == f"{job_id}\n"
        assert tailboard.storage.get(job_id).urgent is urgent
    tailboard("cancel", job_id)
    refused = tailboard("urgent", job_id)
    assert refused.exit_code == 1 and job_id in refused.stderr


def test_with_skip_the_command_names_the_job_that_is_in_the_way(tailboard: Tailboard) -> None:
    ended = tailboard.job_maker.ended(key="K", if_busy="skip")
    first = submit(tailboard, "--key", "K")
    tailboard.storage.saved.save(
        SavedCommand(saved="deploy", command="true", key="K", if_busy="skip", queue=BY_HAND)
    )
    for words in (
        ("submit", "--key", "K", "--if-busy", "skip", "true"),
        ("start", "deploy"),
        ("rerun", ended),
        ("rerun", ended, "--with-after"),
    ):
        done = tailboard(*words)
        assert (done.exit_code, done.stdout) == (0, f"{first}\n"), done.stderr
        assert done.stderr == f"nothing was queued: {first} has the key 'K'\n"
    assert [job.id for job in tailboard.storage.list(Status.QUEUED)[0]] == [first]


def test_rerun_with_after_prints_the_ids_of_all_new_jobs(tailboard: Tailboard) -> None:
    held = tailboard.job_maker.running()
    waiting = submit(tailboard, "--after", held.job.id)
    tailboard.job_maker.finish(held, Status.FAILED)
    tailboard.storage.cancel(waiting, f"{held.job.id} failed")
    done = tailboard("rerun", "--with-after", held.job.id[-8:])
    root, rerun = done.stdout.split()
    assert tailboard.storage.get(root).rerun_of == held.job.id
    assert tailboard.storage.get(rerun).rerun_of == waiting
    assert tailboard.storage.get(rerun).after == [root]
    assert tailboard("rerun", waiting).stdout.count("\n") == 1
