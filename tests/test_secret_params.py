"""Secret params: their values reach the job, and are stored only encrypted and only while the job
can need them."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import pty
import stat
import subprocess
import sys
import termios
from collections.abc import Callable
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from command_site import Tailboard
from conftest import BY_HAND, ROOT, Gate, JobMaker, Processes, RedisServer, wait_until
from flask.testing import FlaskClient

from api import create_app
from storage import load_logs
from tailboard.files import append_line
from tailboard.folder.folder_store import FolderStore
from tailboard.folder.secret_params import drop_params_if_started, unseal_params
from tailboard.job import Job
from tailboard.saved_command import Param, SavedCommand
from tailboard.status import Status

VALUE = "hunter2-Grüße-47110815"
OTHER = "correct horse battery"
PASSWORD = {"name": "PASSWORD", "secret": True}
PRINTS_HASH = 'printf %s "$PASSWORD" | sha256sum; echo place=$PLACE'
HASH = sha256(VALUE.encode()).hexdigest()
BODY = {
    "command": PRINTS_HASH,
    "params": [PASSWORD, {"name": "PLACE", "default": "test"}],
}
FILE = "secret-params"


def forms(value: str) -> list[bytes]:
    """How a value could be written into a file or a response."""
    plain = value.encode()
    escaped = json.dumps(value)[1:-1].encode()
    return [plain, escaped, repr(value)[1:-1].encode(), quote(value).encode(), encode(plain)]


def encode(plain: bytes) -> bytes:
    return base64.b64encode(plain).rstrip(b"=")


def files_with(value: str, *folders: Path) -> list[str]:
    """The files below the folders that contain the value, in any form."""
    paths = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    return [str(path) for path in paths if any(f in path.read_bytes() for f in forms(value))]


def sealed_files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob(FILE)]


def save(client: FlaskClient, name: str = "deploy", **fields: Any) -> None:
    answer = client.put(f"/saved/{name}", json=BODY | fields)
    assert answer.status_code in (200, 201), answer.text


def run(client: FlaskClient, value: Any = VALUE, **headers: str) -> dict[str, Any]:
    answer = client.post("/saved/deploy/run", json={"PASSWORD": value}, headers=headers)
    assert answer.status_code == 201, answer.text
    job: dict[str, Any] = answer.get_json()
    return job


# --- From the request to the job ------------------------------------------------------------------


def test_a_job_gets_the_value_and_no_file_or_response_contains_it(
    client: FlaskClient, folder: Path, drain: Callable[..., None], tmp_path: Path
) -> None:
    save(client)
    job = run(client)
    assert (job["values"], job["secret_params"]) == ({"PLACE": "test"}, ["PASSWORD"])
    (sealed,) = sealed_files(folder)
    assert stat.S_IMODE(sealed.stat().st_mode) == 0o600
    assert stat.S_IMODE((folder / "secret-key").stat().st_mode) == 0o600
    assert files_with(VALUE, tmp_path) == []
    drain()
    assert client.get(f"/jobs/{job['id']}").get_json()["status"] == "succeeded"
    storage = FolderStore(folder)
    assert load_logs(storage, job["id"]) == f"{HASH}  -\nplace=test\n"
    assert sealed_files(folder) == []
    assert files_with(VALUE, tmp_path) == []  # with the output of the worker
    for path in (f"/jobs/{job['id']}", "/jobs", "/saved?env=1", "/saved/deploy", "/notifications"):
        assert not any(form in client.get(path).data for form in forms(VALUE)), path


def test_a_job_shows_no_value_in_its_representation() -> None:
    command = SavedCommand(saved="a", command="true", params=[Param(name="A", secret=True)])
    job = command.job({"A": VALUE})
    assert job.secret_values == {"A": VALUE}
    assert VALUE not in repr(job) and VALUE not in json.dumps(job.as_dict())


def test_the_submitted_job_no_longer_has_the_value(storage: FolderStore) -> None:
    job = storage.submit(Job(command="true", secret_params=["A"], secret_values={"A": VALUE}))
    assert job.secret_values == {}


# --- What a command with a secret param can be ----------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        (
            {"params": [PASSWORD | {"default": VALUE}]},
            "params: PASSWORD is secret: it has neither a default nor choices",
        ),
        (
            {"params": [PASSWORD | {"choices": [VALUE]}]},
            "params: PASSWORD is secret: it has neither a default nor choices",
        ),
        ({"cron": "@daily"}, "PASSWORD is secret, so this cannot run on a schedule"),
        ({"key": "deploy-$PASSWORD"}, "key must not contain PASSWORD, which is secret"),
        ({"key": "deploy-${PASSWORD}"}, "key must not contain PASSWORD, which is secret"),
        ({"env": {"PASSWORD": VALUE}}, "params: PASSWORD is already set in env"),
    ],
)
def test_a_command_that_needs_a_secret_value_in_advance_is_refused(
    client: FlaskClient, fields: dict[str, Any], error: str
) -> None:
    answer = client.put("/saved/deploy", json=BODY | fields)
    assert (answer.status_code, answer.get_json()["detail"]) == (400, error)


def test_secret_must_be_true_or_false(client: FlaskClient) -> None:
    answer = client.put("/saved/deploy", json=BODY | {"params": [PASSWORD | {"secret": "yes"}]})
    assert answer.status_code == 400
    assert answer.get_json()["detail"].endswith("; wrong: 'secret' of item 1")


def test_a_command_with_a_secret_param_cannot_follow_another(
    client: FlaskClient, folder: Path, drain: Callable[..., None]
) -> None:
    """One that gets such a param later does not start, and the job before it says why."""
    save(client)
    answer = client.put("/saved/build", json={"command": "true", "then": "deploy"})
    error = "then: deploy needs PASSWORD, which is secret, for each run"
    assert (answer.status_code, answer.get_json()["detail"]) == (400, error)
    save(client, params=[])
    assert client.put("/saved/build", json={"command": "true", "then": "deploy"}).status_code == 201
    save(client)
    job_id = client.post("/saved/build/run").get_json()["id"]
    drain()
    reason = client.get(f"/jobs/{job_id}").get_json()["reason"]
    allowed = "a string; it is secret, so each run must give it"
    assert reason == f"deploy did not start: PASSWORD is required: {allowed}"
    assert client.get("/jobs").get_json()["counts"]["queued"] == 0


def test_the_file_of_a_saved_command_keeps_secret_and_an_older_one_has_none(
    client: FlaskClient, folder: Path
) -> None:
    save(client)
    path = folder / "saved" / "deploy.json"
    record = json.loads(path.read_text())
    assert [param["secret"] for param in record["params"]] == [True, False]
    for param in record["params"]:
        del param["secret"]
    path.write_text(json.dumps(record))
    shown = client.get("/saved/deploy").get_json()
    assert [param["secret"] for param in shown["params"]] == [False, False]


# --- Bad values -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value", [471108150815, [VALUE], {"a": VALUE}, f"{VALUE}\0", VALUE * 2_000, None]
)
def test_the_error_of_a_bad_value_does_not_contain_it(client: FlaskClient, value: Any) -> None:
    save(client)
    answer = client.post("/saved/deploy/run", json={"PASSWORD": value})
    assert answer.status_code == 400
    assert "PASSWORD" in answer.get_json()["detail"]
    assert "hunter2" not in answer.text and "4711" not in answer.text


def test_values_that_are_too_large_together_are_refused_without_being_shown(
    client: FlaskClient, folder: Path
) -> None:
    params = [{"name": f"P{number}", "secret": True} for number in range(3)]
    save(client, params=params)
    body = {param["name"]: f"{VALUE}{'x' * 29_000}" for param in params}
    answer = client.post("/saved/deploy/run", json=body)
    assert (answer.status_code, "64 KiB" in answer.text) == (400, True)
    assert "hunter2" not in answer.text
    assert sealed_files(folder) == []


# --- A repeated request ---------------------------------------------------------------------------


def test_a_request_repeated_with_another_secret_value_finds_the_same_job(
    client: FlaskClient, folder: Path
) -> None:
    """No hash of the value is stored, since a short one could be guessed."""
    save(client)
    key = {"Idempotency-Key": "once"}
    first, again = run(client, **key), run(client, OTHER, **key)
    assert first["id"] == again["id"]
    (stored,) = (folder / "keys").iterdir()
    written = stored.read_bytes()
    assert run(client, OTHER, **{"Idempotency-Key": "twice"})["id"] != first["id"]
    hashes = {path.read_bytes().split()[1] for path in (folder / "keys").iterdir()}
    assert hashes == {written.split()[1]}
    body = {"PASSWORD": VALUE, "PLACE": "live"}
    assert client.post("/saved/deploy/run", json=body, headers=key).status_code == 422


# --- A rerun --------------------------------------------------------------------------------------


@pytest.mark.parametrize("body", [{}, {"with_after": True}])
def test_a_job_with_secret_values_is_not_rerun_without_them(
    client: FlaskClient, folder: Path, drain: Callable[..., None], body: dict[str, Any]
) -> None:
    save(client)
    job_id = run(client)["id"]
    drain()
    error = f"job {job_id} had secret values, which are not kept: start deploy again with PASSWORD"
    for headers in ({}, {"Idempotency-Key": f"rerun {job_id}"}):
        answer = client.post(f"/jobs/{job_id}/rerun", json=body, headers=headers)
        assert (answer.status_code, answer.get_json()["detail"]) == (409, error)
    assert client.get("/jobs").get_json()["counts"]["queued"] == 0


# --- The log --------------------------------------------------------------------------------------


def test_the_log_of_a_job_shows_no_value(
    client: FlaskClient, folder: Path, worker: Callable[..., Any], gate: Gate, tmp_path: Path
) -> None:
    """Neither while it runs nor, on the disk, when it has ended; nor does its reason or hint."""
    prints = 'echo "error: got $PASSWORD"'
    save(client, command=f"{prints}; {gate.wait}; {prints}; exit 3", retries=1)
    job_id = run(client)["id"]
    line = f"error: got {'*' * len(VALUE.encode())}\n"
    worker()
    wait_until(lambda: log_text(client, job_id) == line)
    gate.open()
    wait_until(lambda: client.get(f"/jobs/{job_id}").get_json()["status"] == "failed")
    assert log_text(client, job_id) == f"{line * 2}--- attempt 2 ---\n{line * 2}"
    assert files_with(VALUE, tmp_path) == []
    assert client.get(f"/jobs/{job_id}").get_json()["hint"] == line.strip()
    assert not list(folder.rglob(f"{job_id}/secrets"))


def log_text(client: FlaskClient, job_id: str) -> str:
    return client.get(f"/jobs/{job_id}/logs").get_data(as_text=True)


# --- How long the values are stored ---------------------------------------------------------------


def counting(retries: int = 0, **fields: Any) -> Job:
    """A job that ends with the length of the value and the number of its attempt as its code."""
    fields = {"command": "exit $((${#PASSWORD} + JOB_ATTEMPT))", "retries": retries} | fields
    return Job(secret_params=["PASSWORD"], secret_values={"PASSWORD": OTHER}, **fields)


def test_each_attempt_gets_the_value_and_it_is_deleted_once_the_last_has_started(
    storage: FolderStore,
    folder: Path,
    worker: Callable[..., Any],
    ended: Callable[..., Job],
    gate: Gate,
) -> None:
    command = f"[ $JOB_ATTEMPT = 1 ] || read _ <{gate.path}; exit $((${{#PASSWORD}} + JOB_ATTEMPT))"
    job = storage.submit(counting(command=command, retries=1, retry_delay=1))
    worker()
    wait_until(lambda: storage.get(job.id).attempt == 2)
    wait_until(lambda: sealed_files(folder) == [])
    assert storage.status(job.id) is Status.RUNNING
    gate.open()
    found = ended(job)
    codes = [each["exit_code"] for each in found.attempts_as_dicts()]
    assert codes == [len(OTHER) + 1, len(OTHER) + 2]


@pytest.mark.parametrize(("retries", "remain"), [(0, False), (1, True)])
def test_the_value_is_deleted_only_when_no_start_can_need_it(
    job_maker: JobMaker, folder: Path, retries: int, remain: bool
) -> None:
    """As long as the journal has no `pid`, the same attempt can start again."""
    claim = job_maker.start(job_maker.storage.submit(counting(retries=retries, queue=BY_HAND)))
    drop_params_if_started(claim.folder, claim.job, claim.attempt.number)
    assert len(sealed_files(folder)) == 1
    append_line(claim.shim_input(), {"pid": os.getpid()})
    drop_params_if_started(claim.folder, claim.job, claim.attempt.number)
    assert len(sealed_files(folder)) == remain
    job_maker.finish(claim)


def test_a_failed_start_keeps_the_value_for_the_next_try(
    storage: FolderStore,
    folder: Path,
    worker: Callable[..., Any],
    ended: Callable[..., Job],
    tmp_path: Path,
) -> None:
    shell, broken = tmp_path / "sh", tmp_path / "broken"
    broken.touch()
    shell.write_text(f'#!/bin/sh\n[ ! -e {broken} ] || exit 127\nexec /bin/sh "$@"\n')
    shell.chmod(0o755)
    job = storage.submit(counting())
    worker(TEST_SHELL=str(shell))
    journal = folder / "queued" / "default" / job.id / "journal"
    wait_until(lambda: journal.exists() and "failed_starts" in journal.read_text())
    assert len(sealed_files(folder)) == 1
    broken.unlink()
    assert ended(job).exit_code == len(OTHER) + 1
    assert sealed_files(folder) == []


def test_a_job_that_is_cancelled_while_queued_loses_its_value(
    client: FlaskClient, folder: Path
) -> None:
    save(client, queue=BY_HAND)
    job_id = run(client)["id"]
    assert len(sealed_files(folder)) == 1
    assert client.post(f"/jobs/{job_id}/cancel").get_json()["status"] == "cancelled"
    assert sealed_files(folder) == []


def test_a_job_that_ends_before_its_last_attempt_loses_its_value(
    job_maker: JobMaker, folder: Path
) -> None:
    job = job_maker.storage.submit(counting(retries=3, queue=BY_HAND))
    claim = job_maker.start(job)
    assert len(sealed_files(folder)) == 1
    job_maker.finish(claim, Status.SUCCEEDED)
    assert sealed_files(folder) == []


def test_a_damaged_job_that_ends_loses_its_value(
    storage: FolderStore, folder: Path, drain: Callable[..., None]
) -> None:
    job = storage.submit(counting())
    (sealed,) = sealed_files(folder)
    (sealed.parent / "job.json").write_text("{")
    drain()
    assert storage.status(job.id) is Status.FAILED
    assert sealed_files(folder) == []


# --- Without the values ---------------------------------------------------------------------------


def remove(sealed: Path, _folder: Path) -> None:
    sealed.unlink()


def damage(sealed: Path, _folder: Path) -> None:
    sealed.write_bytes(b"gAAAA")


def replace_by_folder(sealed: Path, _folder: Path) -> None:
    sealed.unlink()
    sealed.mkdir()


def lose_the_key(_sealed: Path, folder: Path) -> None:
    (folder / "secret-key").write_bytes(base64.urlsafe_b64encode(b"1" * 32))


def take_another_jobs(sealed: Path, folder: Path) -> None:
    """The values of a job with other params."""
    other = Job(command="true", secret_params=["A"], secret_values={"A": VALUE}, queue=BY_HAND)
    job = FolderStore(folder).submit(other)
    (folder / "queued" / BY_HAND / job.id / FILE).rename(sealed)


@pytest.mark.parametrize(
    ("break_it", "reason"),
    [
        (remove, "its secret values are no longer stored"),
        (damage, "its secret values cannot be read: the values do not fit the key in"),
        (replace_by_folder, "its secret values cannot be read: "),
        (lose_the_key, "its secret values cannot be read: the values do not fit the key in"),
        (take_another_jobs, "its secret values do not fit its params"),
    ],
)
def test_a_job_without_its_values_fails_instead_of_running_without_them(
    client: FlaskClient,
    folder: Path,
    drain: Callable[..., None],
    tmp_path: Path,
    break_it: Callable[[Path, Path], None],
    reason: str,
) -> None:
    save(client, command=f"touch {tmp_path}/ran", retries=2)
    job_id = run(client)["id"]
    (sealed,) = sealed_files(folder)
    break_it(sealed, folder)
    drain("--queues=default")
    job = client.get(f"/jobs/{job_id}").get_json()
    assert (job["status"], job["attempt"]) == ("failed", 1)
    assert job["reason"].startswith(f"cannot start: {reason}")
    assert job["reason"].endswith("; start deploy again with PASSWORD")
    assert not (tmp_path / "ran").exists()


# --- Redis ----------------------------------------------------------------------------------------


def test_redis_refuses_secret_params_without_a_shared_key(redis: RedisServer) -> None:
    client = create_app({"STORAGE": redis.url}).test_client()
    error = (
        "with Redis, secret params need the setting TAILBOARD_SECRET_KEY; or use `secrets`, whose "
        "values are in files"
    )
    for check in ("", "?check=1"):
        answer = client.put(f"/saved/deploy{check}", json=BODY)
        assert (answer.status_code, answer.get_json()["detail"]) == (400, f"params: {error}")
    store = client.application.extensions["tailboard"].store
    store.saved.save(SavedCommand(saved="deploy", command="true", params=[Param(**PASSWORD)]))
    answer = client.post("/saved/deploy/run", json={"PASSWORD": VALUE})
    assert (answer.status_code, answer.get_json()["detail"]) == (400, error)


# --- The commands ---------------------------------------------------------------------------------


def save_by_command(tailboard: Tailboard) -> None:
    words = "--secret-param PASSWORD --param PLACE=test --label PASSWORD=Of --queue"
    done = tailboard("save", "deploy", PRINTS_HASH, *words.split(), BY_HAND)
    assert done.stdout == "saved deploy\n", done.output


def value_in(tailboard: Tailboard, job_id: str) -> str:
    """The value that the job got, read as a worker does."""
    folder = tailboard.folder / "queued" / BY_HAND / job_id
    job = tailboard.storage.get(job_id)
    (value,) = unseal_params(str(tailboard.folder), str(folder), job).values()
    return value.decode()


@pytest.mark.parametrize("text", [f"{VALUE}\n", VALUE, f"{VALUE}\r\nnext line\n\n"])
def test_start_reads_a_value_from_standard_input(tailboard: Tailboard, text: str) -> None:
    """It removes one newline at the end, and nothing else."""
    save_by_command(tailboard)
    done = tailboard("start", "deploy", "PLACE=live", "--secret", "PASSWORD=-", text=text)
    job_id = done.stdout.strip()
    assert tailboard.storage.get(job_id).values == {"PLACE": "live"}
    assert value_in(tailboard, job_id) == text.removesuffix("\n")
    assert VALUE not in done.output
    shown = tailboard("saved", "show", "deploy").stdout
    assert "PASSWORD  secret  Of\n" in shown
    job = tailboard("show", job_id).stdout
    assert "PASSWORD" in job and VALUE not in job


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["PASSWORD={}"], "PASSWORD is secret: other users of this machine can see the"),
        (["--secret", "PASSWORD={}"], "--secret must be P or P=-, without the value: other users"),
        (["--secret", "PLACE=-"], "--secret: 'PLACE' is not a secret param of deploy; these are:"),
        ([], "there is no terminal to ask for PASSWORD, which is secret: pipe its value into"),
        (["--secret", "PASSWORD"], "there is no terminal to ask for PASSWORD, which is secret:"),
    ],
)
def test_start_takes_no_secret_value_on_the_command_line(
    tailboard: Tailboard, words: list[str], error: str
) -> None:
    save_by_command(tailboard)
    done = tailboard("start", "deploy", *(word.format(VALUE) for word in words))
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr.startswith(f"Error: {error}"), done.stderr
    assert VALUE not in done.stderr
    assert sealed_files(tailboard.folder) == []


def test_only_one_value_can_come_from_standard_input(tailboard: Tailboard) -> None:
    tailboard("save", "deploy", "true", "--secret-param", "A", "--secret-param", "B")
    words = ["--secret", "A=-", "--secret", "B=-"]
    done = tailboard("start", "deploy", *words, text=VALUE)
    assert done.stderr == (
        "Error: only one value can come from standard input, not those of A and B\n"
    )


def test_start_on_a_terminal_asks_without_showing_the_value(
    storage: FolderStore, processes: Processes, folder: Path
) -> None:
    params = [Param(name="PASSWORD", secret=True)]
    storage.saved.save(SavedCommand(saved="deploy", command="true", params=params))
    shown = type_on_a_terminal(processes, "start", "deploy", text=f"{VALUE}\n")
    prompt, job_id = shown.splitlines()
    assert prompt == "PASSWORD: "
    path = folder / "queued" / "default" / job_id
    found = unseal_params(str(folder), str(path), storage.get(job_id))
    assert found == {b"PASSWORD": VALUE.encode()}


def type_on_a_terminal(processes: Processes, *words: str, text: str) -> str:
    """The output of a command on a terminal of its own, where a person types this text once it
    asks."""
    terminal, its = pty.openpty()

    def control() -> None:
        """getpass reads from the terminal that controls the process."""
        fcntl.ioctl(its, termios.TIOCSCTTY, 0)

    process = subprocess.Popen(
        [sys.executable, "-m", "tailboard", *words],
        cwd=ROOT,
        env=processes.env,
        stdin=its,
        stdout=its,
        stderr=its,
        start_new_session=True,
        preexec_fn=control,
    )
    processes.started.append(process)
    os.close(its)
    written = b""
    with suppress(OSError):  # EIO: the command has ended
        while piece := os.read(terminal, 1 << 16):
            written += piece
            if text and written.endswith(b": "):
                os.write(terminal, text.encode())
                text = ""
    os.close(terminal)
    assert process.wait(60) == 0, written
    return written.decode()


def test_rerun_says_how_to_start_the_job_instead(tailboard: Tailboard) -> None:
    save_by_command(tailboard)
    words = ["PLACE=a b", "--secret", "PASSWORD=-"]
    job_id = tailboard("start", "deploy", *words, text=VALUE).stdout.strip()
    tailboard("cancel", job_id)
    done = tailboard("rerun", job_id)
    assert (done.exit_code, done.stderr) == (
        1,
        f"Error: the value of PASSWORD is not kept, so {job_id} cannot be rerun; start it with: "
        "tailboard start deploy 'PLACE=a b'\n",
    )
    many = tailboard("rerun", "--status", "cancelled", "--yes")
    reason = "had secret values, which are not kept: start deploy again with PASSWORD"
    assert f"{job_id}: job {job_id} {reason}\n" in many.stderr
    assert many.exit_code == 1


def test_an_exported_command_keeps_its_secret_param(tailboard: Tailboard, tmp_path: Path) -> None:
    save_by_command(tailboard)
    assert tailboard("saved", "export", str(tmp_path / "files")).exit_code == 0
    tailboard("saved", "delete", "deploy")
    assert tailboard("saved", "import", str(tmp_path / "files")).stdout == "saved deploy\n"
    assert tailboard.storage.saved.load("deploy").secret_names() == ["PASSWORD"]
