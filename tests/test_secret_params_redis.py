"""Secret params on several machines: Redis has their values only encrypted, with a key that it does
not have, and only as long as a job needs them."""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests
from conftest import Gate, Processes, RedisServer, wait_until
from machines import RedisMachine
from redis_team import Team

from storage import load_logs
from tailboard.job import Job
from tailboard.machines.redis_store import RedisStore
from tailboard.machines.shared_key import SharedKey
from tailboard.status import Status

VALUE = "hunter2 hunter2"
PRINTS_HASH = 'printf %s "$PASSWORD" | sha256sum | head -c 8; echo'
HASH = hashlib.sha256(VALUE.encode()).hexdigest()[:8]


@pytest.fixture
def key(tmp_path: Path) -> str:
    path = tmp_path / "shared-key"
    path.write_bytes(base64.b64encode(os.urandom(32)) + b"\n")
    path.chmod(0o600)
    return str(path)


@pytest.fixture
def submit(redis: RedisServer, key: str) -> Iterator[Callable[..., Job]]:
    """Submits a job with a secret param."""
    store = RedisStore(redis.url, secret_key=key)

    def submit(command: str, **fields: object) -> Job:
        secret = {"secret_params": ["PASSWORD"], "secret_values": {"PASSWORD": VALUE}}
        return store.submit(Job(command=command, saved="deploy", **secret, **fields))  # type: ignore[arg-type]

    yield submit
    store.close()


def has_values(redis: RedisServer, job: Job) -> bool:
    """Does Redis have values of its secret params?"""
    return bool(redis.do("HEXISTS", f"tailboard:state:{job.id}", "params"))


def test_a_job_gets_the_values_of_its_secret_params_through_redis(
    team: Team, redis: RedisServer, key: str, processes: Processes, gate: Gate, tmp_path: Path
) -> None:
    api = processes.api(TAILBOARD_STORAGE=redis.url, TAILBOARD_SECRET_KEY=key)
    body = {
        "command": f"{PRINTS_HASH}; {gate.wait}",
        "params": [{"name": "PASSWORD", "secret": True}],
    }
    assert requests.put(f"{api}/saved/deploy", json=body, timeout=20).status_code == 201
    answer = requests.post(f"{api}/saved/deploy/run", json={"PASSWORD": VALUE}, timeout=20)
    assert answer.status_code == 201 and VALUE not in answer.text
    job = team.store.get(answer.json()["id"])
    assert has_values(redis, job)
    team.start("a", TAILBOARD_SECRET_KEY=key)
    team.wait_for_log(job, f"{HASH}\n")
    wait_until(lambda: not has_values(redis, job), 30)  # its last attempt has started
    assert team.store.status(job.id) is Status.RUNNING
    gate.open()
    assert team.wait(job).status is Status.SUCCEEDED
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert any(path.suffix == ".aof" for path in files)
    assert [path for path in files if VALUE.encode() in path.read_bytes()] == []


def test_a_retry_on_another_machine_gets_the_values(
    team: Team, redis: RedisServer, key: str, submit: Callable[..., Job], gate: Gate
) -> None:
    job = submit(f"{PRINTS_HASH}; {gate.wait}; exit 1", retries=1)
    first = team.start("a", TAILBOARD_SECRET_KEY=key)
    team.wait_for_log(job, f"{HASH}\n")
    assert has_values(redis, job), "another attempt can follow"
    first.terminate()
    first.wait(30)
    team.start("b", TAILBOARD_SECRET_KEY=key)
    team.store.mark_lost(team.spool("a").name, "gone")
    gate.open()
    assert team.wait(job).status is Status.FAILED
    assert load_logs(team.store, job.id) == f"{HASH}\n--- attempt 2 ---\n{HASH}\n"
    assert not has_values(redis, job)


def test_a_retry_gets_the_values_if_redis_was_emptied(
    team: Team, redis: RedisServer, key: str, submit: Callable[..., Job], gate: Gate
) -> None:
    job = submit(f"{PRINTS_HASH}; {gate.wait}; exit 1", retries=1)
    team.start("a", TAILBOARD_SECRET_KEY=key)
    team.wait_for_log(job, f"{HASH}\n")
    redis.do("FLUSHALL")
    wait_until(lambda: has_values(redis, job), 30)
    gate.open()
    assert team.wait(job).status is Status.FAILED
    assert load_logs(team.store, job.id) == f"{HASH}\n--- attempt 2 ---\n{HASH}\n"
    assert not has_values(redis, job)


def test_redis_forgets_the_values_of_a_job_that_never_starts(
    team: Team, redis: RedisServer, submit: Callable[..., Job]
) -> None:
    job = submit("true")
    team.store.cancel(job.id, "no")
    assert not has_values(redis, job)


def test_a_job_that_was_given_back_keeps_its_values(
    team: Team, redis: RedisServer, key: str, submit: Callable[..., Job]
) -> None:
    job = submit("true")
    machine = RedisMachine(team.url, str(team.place / "m"))
    machine.redis.params_key = SharedKey(key)
    try:
        taken = machine.redis.take(machine.spool.name, 1, []).jobs
        machine.relay.receive(taken)
        assert "secret-params" in os.listdir(f"{machine.spool.root}/taken/{job.id}")
        machine.relay.give_back([job.id])
    finally:
        machine.close()
    assert has_values(redis, job)
    assert not list(Path(machine.spool.root).rglob("secret-params"))
    team.start("a", TAILBOARD_SECRET_KEY=key)
    assert team.wait(job).status is Status.SUCCEEDED


@pytest.mark.parametrize("has_another", [False, True])
def test_a_machine_without_the_key_fails_the_job(
    team: Team, tmp_path: Path, submit: Callable[..., Job], has_another: bool
) -> None:
    job = submit(f"touch {tmp_path}/ran", retries=1)
    other = tmp_path / "other-key"
    other.write_bytes(base64.b64encode(os.urandom(32)))
    other.chmod(0o600)
    team.start("a", **({"TAILBOARD_SECRET_KEY": str(other)} if has_another else {}))
    found = team.wait(job)
    assert found.status is Status.FAILED and not (tmp_path / "ran").exists()
    assert "its secret values are no longer stored" in (found.reason or "")
    why = "the values do not fit the key in" if has_another else "TAILBOARD_SECRET_KEY is not set"
    assert why in team.processes.text()


@pytest.mark.parametrize(
    ("content", "mode", "error"),
    [
        (None, 0, "No such file or directory; make it with `openssl rand -base64 32`"),
        (b"short", 0o600, "must contain 32 bytes in base64"),
        (b"\xff" * 44, 0o600, "must contain 32 bytes in base64"),
        (base64.b64encode(bytes(32)), 0o644, "other users can read or change"),
        (base64.b64encode(bytes(32)), 0o620, "other users can read or change"),
    ],
)
def test_a_key_that_cannot_be_used_stops_the_start(
    tmp_path: Path, content: bytes | None, mode: int, error: str
) -> None:
    path = tmp_path / "key"
    if content is not None:
        path.write_bytes(content)
        path.chmod(mode)
    with pytest.raises(ValueError, match=error) as raised:
        SharedKey(str(path))
    assert "TAILBOARD_SECRET_KEY: " in str(raised.value) and str(path) in str(raised.value)


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_a_key_that_is_no_file_stops_the_start(tmp_path: Path, make: Callable[[str], None]) -> None:
    make(str(tmp_path / "key"))
    with pytest.raises(ValueError, match="is not a regular file"):
        SharedKey(str(tmp_path / "key"))


def test_a_key_can_be_in_either_form_of_base64(tmp_path: Path) -> None:
    path, raw = tmp_path / "key", bytes(range(224, 256))
    path.touch(0o600)
    path.write_bytes(base64.b64encode(raw) + b"\n")
    sealed = SharedKey(str(path)).seal({"A": VALUE})
    path.write_bytes(base64.urlsafe_b64encode(raw))
    assert SharedKey(str(path)).unseal(sealed) == {"A": VALUE}
