"""Secrets on several machines: no value ever reaches Redis."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from conftest import RedisServer, wait_until
from machines import RedisMachine
from redis_team import Team, read_all

from tailboard.folder.claim import Claim
from tailboard.journal import Outcome
from tailboard.machines.outbox import FULL_LOG_KEPT, LOG_CHUNK
from tailboard.machines.redis_machines import REDIS_LOG_KEPT
from tailboard.status import Status

VALUE = b"correct horse battery staple"
STARS = b"*" * len(VALUE)


@pytest.fixture
def machine(team: Team) -> Iterator[RedisMachine]:
    """A machine whose relay does only what the test makes it do."""
    machine = RedisMachine(team.url, str(team.place / "m"))
    yield machine
    machine.close()


class SecretJob:
    """A claimed job with a secret, whose output the test writes."""

    def __init__(self, machine: RedisMachine, *values: bytes) -> None:
        self.machine = machine
        claim = machine.claim("worker", "host")
        assert claim is not None
        self.claim: Claim = claim
        self.id = claim.job.id
        claim.seal_secrets(values or (VALUE,))

    def write(self, data: bytes) -> bytes:
        """Appends to the log; returns what Redis has of it then."""
        with self.claim.open_log_for_append() as file:
            file.write(data)
        self.machine.sync()
        return self.in_redis()

    def in_redis(self) -> bytes:
        with self.machine.redis.open_log(self.id) as log:
            return read_all(log.read, log.start, log.size)

    def finish(self, status: Status = Status.SUCCEEDED) -> None:
        """Ends the job for good."""
        self.claim.finish(Outcome(status, 0))
        self.machine.sync()

    def retry(self) -> None:
        """Ends this attempt; another one follows, so the values stay in the folder."""
        self.claim.requeue(Outcome(Status.FAILED, 1))
        self.claim.release()


@pytest.fixture
def job(team: Team, machine: RedisMachine) -> Iterator[SecretJob]:
    """A running job of the machine that can be retried."""
    team.submit("true", retries=3)
    job = SecretJob(machine)
    yield job
    job.claim.release()


def shows(data: bytes, value: bytes = VALUE) -> bool:
    """Do these bytes contain three consecutive characters of a value?"""
    return any(value[at : at + 3] in data for at in range(len(value) - 2))


def is_up_to_date(machine: RedisMachine) -> bool:
    """Does the relay find nothing to send, although it compares its jobs with Redis?"""
    outbox = machine.relay.outbox
    assert not outbox.has_work()
    outbox.compare_again()
    outbox.compare()
    return not outbox.has_work()


def stored(redis: RedisServer) -> bytes:
    """All that the server has ever written to its disk."""
    files = [path for path in redis.folder.rglob("*") if path.is_file()]
    assert any(path.suffix == ".aof" for path in files)
    return b"".join(path.read_bytes() for path in files)


def test_a_value_written_in_two_parts_never_reaches_redis(
    job: SecretJob, redis: RedisServer
) -> None:
    expected = b""
    for length in range(1, len(VALUE)):
        assert job.write(b"> " + VALUE[:length]) == expected + b"> "
        expected += b"> " + STARS + b"\n"
        assert job.write(VALUE[length:] + b"\n") == expected
    job.finish()
    assert job.in_redis() == expected
    assert VALUE not in stored(redis) and STARS in stored(redis)


def test_bytes_that_are_held_back_are_sent_once_they_are_no_value(job: SecretJob) -> None:
    assert job.write(b"the corr") == b"the "
    assert is_up_to_date(job.machine)
    assert job.write(b"idor, corr") == b"the corridor, "
    job.finish()
    assert job.in_redis() == b"the corridor, ****"


def test_bytes_that_are_held_back_are_sent_at_the_end_of_an_attempt(
    team: Team, job: SecretJob
) -> None:
    """The next attempt may run on another machine, which does not have this log."""
    assert job.write(VALUE + b" corr") == STARS + b" "
    job.retry()
    job.machine.sync()
    assert team.store.status(job.id) is Status.QUEUED
    assert job.in_redis() == STARS + b" ****"


def test_an_earlier_log_is_not_sent_again_if_it_ends_like_a_new_value(
    team: Team, job: SecretJob
) -> None:
    """The other machine has only the last block of it, so it could not send all of it."""
    line = b"0123456789abcde\n"
    whole = line * (2 * LOG_CHUNK // len(line)) + b"to"
    job.write(whole)
    job.retry()
    job.machine.sync()
    other = RedisMachine(team.url, str(team.place / "other"))
    try:
        second = SecretJob(other, b"tomorrow")
        assert not os.path.exists(f"{job.machine.spool.root}/returned/default/{job.id}")
        assert second.write(b"") == whole
        assert team.store.get(job.id).log_start == 0
        assert is_up_to_date(other)
        assert second.write(b"\n--- 2 ---\ntomor") == whole + b"\n--- 2 ---\n"
        assert second.write(b"row\n") == whole + b"\n--- 2 ---\n********\n"
        second.claim.release()
    finally:
        other.close()


def test_values_are_not_sent_to_another_machine(
    team: Team, job: SecretJob, redis: RedisServer
) -> None:
    sealed = Path(job.claim.folder, "secrets").read_bytes()
    job.write(VALUE)
    job.retry()
    job.machine.sync()
    other = RedisMachine(team.url, str(team.place / "other"))
    try:
        claim = other.claim("worker", "host")
        assert claim is not None and "secrets" not in os.listdir(claim.folder)
        claim.release()
    finally:
        other.close()
    assert sealed not in stored(redis)
    assert job.id not in str(list(Path(job.machine.spool.root).rglob("secrets")))


def test_a_job_that_is_cancelled_between_two_attempts_keeps_no_values(
    team: Team, job: SecretJob
) -> None:
    job.write(VALUE + b" corr")
    team.store.cancel(job.id, "enough")
    job.claim.requeue(Outcome(Status.FAILED, 1))
    job.claim.release()
    assert Path(job.machine.spool.root, "returned", "default", job.id, "secrets").exists()
    job.machine.sync()
    assert team.store.status(job.id) is Status.CANCELLED
    (folder,) = Path(job.machine.spool.root).glob(f"cancelled/*/{job.id}")
    assert not (folder / "secrets").exists()
    assert (folder / "output.log").read_bytes() == STARS + b" ****" == job.in_redis()


def test_a_result_that_comes_too_late_is_set_aside_without_values(
    team: Team, job: SecretJob
) -> None:
    job.write(VALUE + b" corr")
    team.store.mark_lost(job.machine.spool.name, "gone")
    job.retry()
    job.machine.sync()
    (aside,) = Path(job.machine.spool.root, "set-aside").iterdir()
    assert (aside / "output.log").read_bytes() == STARS + b" ****"
    assert not (aside / "secrets").exists()


def test_a_log_that_is_cut_in_the_middle_of_a_value_is_masked(
    job: SecretJob, redis: RedisServer
) -> None:
    """Redis is full when the job ends, so it gets the last bytes of the log."""
    count = FULL_LOG_KEPT // len(VALUE) + 9
    assert FULL_LOG_KEPT % len(VALUE), "so a value begins before the cut"
    job.write(b"begun\n")
    redis.do("CONFIG", "SET", "maxmemory", "1mb")
    with job.claim.open_log_for_append() as file:
        file.write(VALUE * count)
    job.claim.requeue(Outcome(Status.FAILED, 1))

    def is_sent() -> bool:
        with suppress(OSError):  # it is full
            job.machine.relay.round()
        return job.in_redis() != b"begun\n"

    wait_until(is_sent, 30)
    assert job.in_redis() == b"*" * FULL_LOG_KEPT


def test_a_log_that_begins_in_the_middle_of_a_value_is_masked(
    job: SecretJob, redis: RedisServer
) -> None:
    """Redis was away while the job wrote more than Redis keeps."""
    line = b"0123456789abcdef" * 63 + b"\n"
    with job.claim.open_log_for_append() as file:
        file.write(VALUE * 99 + line * (REDIS_LOG_KEPT // len(line)))
        size = os.fstat(file.fileno()).st_size
    cut = size - REDIS_LOG_KEPT
    assert cut < len(VALUE * 99) and cut % len(VALUE), "it is in the middle of a value"
    got = job.write(b"")
    begin = job.machine.redis.get(job.id).log_start
    assert got.startswith(b"*" * (len(VALUE * 99) - begin) + line)


def test_a_log_whose_beginning_was_freed_is_masked(job: SecretJob, redis: RedisServer) -> None:
    job.write(b"> " + VALUE * 40_000)
    if not job.claim.sample_and_trim(1 << 18):
        pytest.skip("nothing can be freed here")
    start = job.machine.spool.get(job.id).log_start
    assert start and (start - 2) % len(VALUE), "it begins in the middle of a value"
    redis.do("FLUSHALL")
    job.machine.sync()
    assert set(job.in_redis()) == set(b"*")
    assert job.machine.redis.get(job.id).log_start == start


def test_a_log_that_its_job_truncates_is_masked(job: SecretJob) -> None:
    job.write(b"a long line\n" + VALUE[:9])
    os.truncate(f"{job.claim.folder}/output.log", 0)
    assert job.write(b"") == b""
    assert job.write(VALUE[:20]) == b""
    assert job.write(VALUE[20:] + b" corr") == STARS + b" "


def test_a_log_is_masked_if_it_is_sent_again(job: SecretJob, redis: RedisServer) -> None:
    job.write(b"one " + VALUE + b" two corr")
    redis.do("FLUSHALL")
    job.machine.sync()
    assert job.in_redis() == b"one " + STARS + b" two "
    assert job.write(b"ect\n") == b"one " + STARS + b" two correct\n"


def test_secrets_that_cannot_be_read_stop_only_the_log_of_their_job(
    team: Team, job: SecretJob
) -> None:
    """A job can damage its own folder."""
    job.write(b"begun\n")
    Path(job.claim.folder, "secrets").write_bytes(b"x")
    other = team.submit("true", retries=1)
    assert job.write(b"more " + VALUE) == b"begun\n"
    second = SecretJob(job.machine)
    assert second.write(b"second\n") == b"second\n" and second.id == other.id
    second.finish()
    job.claim.finish(Outcome(Status.FAILED, 1))
    job.machine.sync()
    assert team.store.status(job.id) is Status.FAILED
    assert team.store.status(other.id) is Status.SUCCEEDED
    assert job.in_redis() == b"begun\n"
