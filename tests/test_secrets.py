"""Secrets of jobs: where their values come from, who gets them, and what the disk keeps of them."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from command_site import Tailboard
from conftest import (
    PROGRAMS,
    Gate,
    JobMaker,
    Processes,
    Site,
    SmallDisk,
    all_end,
    quick_worker,
    wait_until,
)

from storage import load_logs
from tailboard.errors import JobNotFound
from tailboard.folder.folder_store import FolderStore
from tailboard.folder.job_secrets import JobSecrets
from tailboard.job import Job
from tailboard.status import Status

VALUE = b"correct horse/battery+staple"
FORMS = (VALUE, base64.b64encode(VALUE), b"correct%20horse%2Fbattery%2Bstaple")
STARS = b"*" * len(VALUE)
PRINT_SECRET = 'echo "begin $DB_PASSWORD end"'
Worker = Callable[..., subprocess.Popen[bytes]]
Drain = Callable[..., None]
Started = Callable[..., Job]


class Secrets:
    """A folder with secrets."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(mode=0o700)

    def write(self, name: str = "DB_PASSWORD", value: bytes = VALUE, mode: int = 0o600) -> Path:
        path = self.folder / name
        path.touch(mode=0o600)
        path.write_bytes(value)
        path.chmod(mode)
        return path

    @property
    def env(self) -> dict[str, str]:
        return {"TAILBOARD_SECRETS": str(self.folder)}


@pytest.fixture
def secrets(tmp_path: Path) -> Secrets:
    made = Secrets(tmp_path / "secrets")
    made.write()
    return made


def folder_of(folder: Path, job: Job) -> Path:
    (found,) = folder.glob(f"**/{job.id}")
    return found


def files_with(folder: Path, *values: bytes) -> list[str]:
    """The files below a folder that contain one of these values."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return [str(path) for path in files if any(value in path.read_bytes() for value in values)]


def is_clean(folder: Path, job: Job, *values: bytes) -> bool:
    """No file contains a value of the job, and the job has no secrets any more."""
    assert files_with(folder, *(values or FORMS)) == []
    assert not (folder_of(folder, job) / "secrets").exists()
    return True


# --- What a job gets ------------------------------------------------------------------------------


def test_a_job_gets_the_value_and_its_log_is_masked_on_the_disk(
    storage: FolderStore, folder: Path, secrets: Secrets, drain: Drain, processes: Processes
) -> None:
    line = (
        f'{PRINT_SECRET}; printf %s "$DB_PASSWORD" | base64; printf %s "$DB_PASSWORD" | md5sum; '
        "echo correct%20horse%2Fbat''tery%2Bstaple"  # so that job.json does not contain it
    )
    job = storage.submit(Job(command=line, secrets=["DB_PASSWORD"]))
    secrets.write(value=VALUE + b"\n")
    drain(**secrets.env)
    assert storage.get(job.id).status == Status.SUCCEEDED, processes.text()
    digest = hashlib.md5(VALUE).hexdigest()
    forms = [b"*" * len(form) for form in FORMS]
    wanted = b"begin %b end\n%b\n%b  -\n%b\n" % (forms[0], forms[1], digest.encode(), forms[2])
    assert (folder_of(folder, job) / "output.log").read_bytes() == wanted
    assert is_clean(folder, job)
    assert not any(form in processes.text().encode() for form in FORMS)


def test_bytes_of_any_kind_and_newlines_reach_the_job_unchanged(
    storage: FolderStore, folder: Path, secrets: Secrets, drain: Drain
) -> None:
    value = bytes(range(1, 256)) + b"\n\nlast line\n"
    secrets.write("BLOB", value)
    secrets.write("EMPTY", b"")
    line = 'printf %s "$BLOB" | md5sum; printf %s "$EMPTY" | wc -c; printf %s "$BLOB"'
    job = storage.submit(Job(command=line, secrets=["BLOB", "EMPTY"]))
    drain(**secrets.env)
    (digest, count, *_) = (folder_of(folder, job) / "output.log").read_bytes().split(b"\n")
    # The shell's $() and the like are not used: only one newline, that of the file, is removed.
    assert digest.split()[0].decode() == hashlib.md5(value[:-1]).hexdigest()
    assert int(count) == 0
    assert is_clean(folder, job, value[20:90], b"last line")


def test_only_the_named_secrets_are_in_the_environment(
    storage: FolderStore, secrets: Secrets, drain: Drain
) -> None:
    secrets.write("OTHER", b"another value")
    program = [sys.executable, str(PROGRAMS / "print_environment.py")]
    job = storage.submit(Job(command=program, secrets=["OTHER"]))
    drain(**secrets.env)
    env = json.loads(load_logs(storage, job.id))
    assert env["OTHER"] == "*" * len("another value")
    assert "DB_PASSWORD" not in env and "TAILBOARD_SECRETS" not in env


def test_no_process_has_the_value_among_its_arguments(
    storage: FolderStore, secrets: Secrets, worker: Worker, gate: Gate, started: Started
) -> None:
    worker(**secrets.env)
    job = started(
        storage.submit(Job(command=f"echo started; {gate.wait}", secrets=["DB_PASSWORD"]))
    )
    paths = Path("/proc").glob("[0-9]*/cmdline")
    commands = [path.read_bytes() for path in paths if can_read(path)]
    assert any(str(gate.path).encode() in command for command in commands), "the job's own"
    assert not any(VALUE in command for command in commands)
    assert VALUE in Path(f"/proc/{storage.get(job.id).pid}/environ").read_bytes()
    gate.open()


def can_read(path: Path) -> bool:
    try:
        path.read_bytes()
    except OSError:
        return False
    return True


def test_secrets_can_be_the_credentials_of_a_systemd_service(
    storage: FolderStore, folder: Path, secrets: Secrets, drain: Drain
) -> None:
    secrets.write(mode=0o440)  # as root's files with an access list look
    job = storage.submit(Job(command=PRINT_SECRET, secrets=["DB_PASSWORD"]))
    drain(CREDENTIALS_DIRECTORY=str(secrets.folder))
    assert load_logs(storage, job.id) == f"begin {STARS.decode()} end\n"
    assert is_clean(folder, job)


def test_a_secret_can_be_a_link_as_in_kubernetes(
    storage: FolderStore, secrets: Secrets, drain: Drain
) -> None:
    secrets.folder.chmod(0o1777)
    version = secrets.folder / "..2026_11_30"
    version.mkdir()
    secrets.write("DB_PASSWORD").rename(version / "DB_PASSWORD")
    (secrets.folder / "..data").symlink_to(version.name)
    (secrets.folder / "DB_PASSWORD").symlink_to("..data/DB_PASSWORD")
    job = storage.submit(Job(command=PRINT_SECRET, secrets=["DB_PASSWORD"]))
    drain(**secrets.env)
    assert storage.get(job.id).status == Status.SUCCEEDED


# --- What prevents a start ------------------------------------------------------------------------


def remove(path: Path) -> None:
    path.unlink()


def make_fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path, 0o600)


def make_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def give_away(path: Path) -> None:
    os.chown(path, 65534, 65534)


def link_of_another_user(path: Path) -> None:
    path.rename(path.with_name("theirs"))
    path.symlink_to("theirs")
    os.chown(path, 65534, 65534, follow_symlinks=False)


def share_with_group(path: Path) -> None:
    path.chmod(0o660)


PROBLEMS: list[tuple[Callable[[Path], object], str]] = [
    (remove, "{path}: No such file or directory"),
    (make_fifo, "{path} is not a regular file"),
    (make_folder, "{path} is not a regular file"),
    (lambda path: path.chmod(0o604), "other users can read or change {path}: chmod 600 {path}"),
    (lambda path: path.chmod(0o602), "other users can read or change {path}: chmod 600 {path}"),
    (share_with_group, "other users can read or change {path}: chmod 600 {path}"),
    (lambda path: path.write_bytes(VALUE + b"x" * 65_536), "{path} has more than 65,536 bytes"),
    (lambda path: path.write_bytes(VALUE + b"\0"), "{path} contains a NUL byte, which no variable"),
    (give_away, "{path} belongs to nobody: chown root {path}"),
    (link_of_another_user, "{path} belongs to nobody: chown root {path}"),
]


def test_a_job_whose_secret_cannot_be_used_fails_and_says_why(
    storage: FolderStore, folder: Path, secrets: Secrets, drain: Drain, processes: Processes
) -> None:
    jobs = []
    for number, (spoil, reason) in enumerate(PROBLEMS):
        if spoil in (give_away, link_of_another_user) and os.geteuid() != 0:
            continue
        path = secrets.write(f"S_{number}")
        spoil(path)
        wanted = f"cannot start: the secret S_{number} cannot be read: {reason.format(path=path)}"
        jobs.append((storage.submit(Job(command="true", retries=3, secrets=[path.name])), wanted))
    drain(**secrets.env)
    for job, wanted in jobs:
        found = storage.get(job.id)
        assert (found.status, found.attempt, found.exit_code) == (Status.FAILED, 1, None)
        assert found.reason and found.reason.startswith(wanted), found.reason
        assert load_logs(storage, job.id) == f"tailboard: {found.reason}\n"
        assert is_clean(folder, job)
    assert VALUE.decode() not in processes.text()


def test_without_a_folder_the_reason_names_the_setting(storage: FolderStore, drain: Drain) -> None:
    job = storage.submit(Job(command="true", secrets=["DB_PASSWORD"]))
    drain()
    assert storage.get(job.id).reason == (
        "cannot start: the secret DB_PASSWORD cannot be read: TAILBOARD_SECRETS is not set"
    )


@pytest.mark.parametrize("name", ["RANDOM", "UID", "LD_PRELOAD"])
def test_a_name_that_would_become_an_argument_is_refused(
    storage: FolderStore, secrets: Secrets, drain: Drain, name: str
) -> None:
    secrets.write(name)
    job = storage.submit(Job(command="true", secrets=[name]))
    drain(**secrets.env)
    reason = storage.get(job.id).reason
    assert reason is not None and f"the secret {name} needs another name: a shell does" in reason


def test_more_secrets_than_the_system_can_pass_on_are_a_clear_failure(
    storage: FolderStore, folder: Path, secrets: Secrets, drain: Drain
) -> None:
    names = [f"LARGE_{number}" for number in range(32)]
    for name in names:
        secrets.write(name, VALUE + b"x" * (65_536 - len(VALUE)))
    job = storage.submit(Job(command="true", secrets=names))
    drain(**secrets.env)
    assert storage.get(job.id).reason == (
        "cannot start: its command, its environment and its secrets together are too long for the "
        "system"
    )
    assert is_clean(folder, job)


def test_a_worker_does_not_start_with_a_bad_folder_of_secrets(
    processes: Processes, tmp_path: Path, worker: Worker
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    sentences = {
        "missing": "is missing: make it, with mode 700",
        "file": "is not a folder",
        "open": "and therefore change the values of secrets: chmod go-w ",
    }
    for name, sentence in sentences.items():
        assert worker(TAILBOARD_SECRETS=str(tmp_path / name)).wait(30) != 0
        assert "Error: TAILBOARD_SECRETS: " in processes.text()
        assert sentence in processes.text()
    assert "Traceback" not in processes.text()


# --- While it runs, and its end -------------------------------------------------------------------


def test_while_a_job_runs_its_log_is_unmasked_only_on_the_disk(
    storage: FolderStore,
    folder: Path,
    secrets: Secrets,
    worker: Worker,
    gate: Gate,
    started: Started,
    ended: Callable[..., Job],
) -> None:
    worker(**secrets.env)
    line = f"echo started; {PRINT_SECRET}; {gate.wait}; {PRINT_SECRET}"
    job = started(storage.submit(Job(command=line, secrets=["DB_PASSWORD"])))
    log = folder_of(folder, job) / "output.log"
    wait_until(lambda: VALUE in log.read_bytes())
    assert load_logs(storage, job.id) == f"started\nbegin {STARS.decode()} end\n"
    sealed = folder_of(folder, job) / "secrets"
    assert sealed.stat().st_mode & 0o777 == 0o600
    assert files_with(folder, *FORMS) == [str(log)], "the values in `secrets` are encrypted"
    gate.open()
    assert ended(job).status == Status.SUCCEEDED
    assert is_clean(folder, job)


def test_a_retry_masks_the_values_of_all_attempts(
    storage: FolderStore, folder: Path, secrets: Secrets, drain: Drain
) -> None:
    new = b"a value after the rotation"
    rotate = f"mv {secrets.write('NEW', new)} {secrets.folder}/DB_PASSWORD"
    line = f'{PRINT_SECRET}; [ "$JOB_ATTEMPT" = 1 ] && {rotate}; exit 1'
    job = storage.submit(Job(command=line, secrets=["DB_PASSWORD"], retries=2))
    drain(**secrets.env)
    masked = [f"begin {'*' * len(value)} end" for value in (VALUE, new, new)]
    lines = load_logs(storage, job.id).splitlines()
    assert [line for line in lines if not line.startswith("---")] == masked
    assert storage.get(job.id).hint == masked[2]
    assert is_clean(folder, job, *FORMS, new)


def test_the_log_is_masked_between_two_attempts_and_the_values_stay(
    storage: FolderStore, folder: Path, secrets: Secrets, worker: Worker
) -> None:
    worker(**secrets.env)
    line = f"{PRINT_SECRET}; exit 1"
    job = storage.submit(Job(command=line, secrets=["DB_PASSWORD"], retries=1, retry_delay=3_600))
    wait_until(lambda: storage.get(job.id).attempt == 2)
    assert files_with(folder, *FORMS) == []
    assert (folder_of(folder, job) / "secrets").exists()
    assert storage.get(job.id).attempts[0].as_dict()["hint"] == f"begin {STARS.decode()} end"
    storage.cancel(job.id, "enough")
    assert storage.get(job.id).status == Status.CANCELLED
    assert is_clean(folder, job)


def test_no_end_leaves_a_value(
    storage: FolderStore,
    folder: Path,
    secrets: Secrets,
    worker: Worker,
    gate: Gate,
    started: Started,
    ended: Callable[..., Job],
) -> None:
    """Cancelled, timed out, killed together with its shim, and with a journal that it destroyed."""
    worker(**secrets.env)
    line = f"echo started; {PRINT_SECRET}; {gate.wait}"
    wanted: dict[str, Status] = {}

    def start(status: Status, line: str = line, **fields: Any) -> Job:
        job = started(storage.submit(Job(command=line, secrets=["DB_PASSWORD"], **fields)))
        wanted[job.id] = status
        log = folder_of(folder, job) / "output.log"
        wait_until(lambda: VALUE in log.read_bytes() or not log.parent.exists())
        return job

    storage.cancel(start(Status.CANCELLED).id, "enough")
    start(Status.TIMED_OUT, timeout=0.5)
    pid = storage.get(start(Status.LOST).id).pid
    assert pid is not None
    os.killpg(pid, signal.SIGKILL)
    damage = f'rm "{folder}/running/$JOB_ID/journal"; mkdir "{folder}/running/$JOB_ID/journal"'
    start(Status.LOST, f"echo started; {PRINT_SECRET}; sleep 0.1; {damage}")
    jobs = [ended(job_id) for job_id in wanted]
    assert [job.status for job in jobs] == list(wanted.values())
    for job in jobs:
        assert is_clean(folder, job)
        assert VALUE.decode() not in (job.hint or "")


def test_the_beginning_of_a_value_at_the_end_of_the_log_is_masked(
    storage: FolderStore, folder: Path, secrets: Secrets, drain: Drain
) -> None:
    """Programs that are killed have written whole blocks, the last of which can end in a value."""
    half = 'printf "a %.12s" "$DB_PASSWORD"; kill -9 $$'
    job = storage.submit(Job(command=half, secrets=["DB_PASSWORD"], retries=1, retry_delay=0))
    drain(**secrets.env)
    line = "a " + "*" * 12
    assert load_logs(storage, job.id) == f"{line}\n--- attempt 2 ---\n{line}"
    assert storage.get(job.id).hint == line
    assert is_clean(folder, job, VALUE[:6])


@pytest.mark.parametrize("patience", [60, 0], ids=["soon", "late"])
def test_what_a_process_writes_after_its_job_is_masked(
    storage: FolderStore,
    folder: Path,
    secrets: Secrets,
    processes: Processes,
    gate: Gate,
    ended: Callable[..., Job],
    patience: int,
) -> None:
    """Such as the `tee` of `exec > >(tee build.log)`. The end of the job waits for it. If that
    takes too long, the values stay, for the readers of the log."""
    program = quick_worker()
    program.insert(-1, f"tailboard.intervals.CLOSE_TIME={patience}")
    processes.start(*program, **secrets.env)
    line = f"{PRINT_SECRET}; ({gate.wait}; {PRINT_SECRET}) & exit 0"
    job = storage.submit(Job(command=line, secrets=["DB_PASSWORD"]))
    shown = f"begin {STARS.decode()} end\n"
    if patience:
        home = wait_until(lambda: next(folder.glob(f"running/{job.id}"), None))
        wait_until(lambda: b'"exit"' in (home / "journal").read_bytes())
        gate.open()
        ended(job)
        assert is_clean(folder, job)
    else:
        ended(job)
        assert files_with(folder, *FORMS) == []
        gate.open()
        log = folder_of(folder, job) / "output.log"
        wait_until(lambda: VALUE in log.read_bytes())
    assert load_logs(storage, job.id) == shown * 2


@pytest.mark.parametrize("reboots", [False, True], ids=["same-boot", "after-a-reboot"])
def test_the_next_worker_masks_what_a_killed_worker_left(
    storage: FolderStore,
    folder: Path,
    secrets: Secrets,
    worker: Worker,
    drain: Drain,
    gate: Gate,
    started: Started,
    reboots: bool,
) -> None:
    """The job prints the value, and then the machine, or its worker and its shim, dies."""
    first = worker(**secrets.env)
    line = f"echo started; {PRINT_SECRET}; {gate.wait}"
    job = started(storage.submit(Job(command=line, secrets=["DB_PASSWORD"])))
    home = folder_of(folder, job)
    wait_until(lambda: VALUE in (home / "output.log").read_bytes())
    pid = storage.get(job.id).pid
    assert pid is not None
    first.kill()
    first.wait()
    os.killpg(pid, signal.SIGKILL)
    all_end(pid)
    if reboots:
        journal = home / "journal"
        boot = storage.boot.encode()
        assert boot in journal.read_bytes()
        journal.write_bytes(journal.read_bytes().replace(boot, b"0" * len(boot)))
    assert VALUE.decode() not in load_logs(storage, job.id)
    drain()  # it does not need the folder with the secrets
    assert storage.get(job.id).status == Status.LOST
    assert load_logs(storage, job.id) == f"started\nbegin {STARS.decode()} end\n"
    assert is_clean(folder, job)


def test_other_jobs_start_and_end_while_a_large_log_is_masked(
    storage: FolderStore,
    folder: Path,
    secrets: Secrets,
    worker: Worker,
    ended: Callable[..., Job],
) -> None:
    """The only slot is free, and the worker's loop does not wait."""
    worker("--slots=1", **secrets.env)
    fill = f'yes "$DB_PASSWORD" | head -c {8 << 20}'
    large = storage.submit(Job(command=fill, secrets=["DB_PASSWORD"]))
    home = wait_until(lambda: next(folder.glob(f"running/{large.id}"), None))
    wait_until(lambda: b'"exit"' in (home / "journal").read_bytes())
    ended(storage.submit(Job(command="true")))
    assert storage.get(large.id).status == Status.RUNNING, "its log is still being masked"
    assert ended(large).status == Status.SUCCEEDED
    assert is_clean(folder, large)


def test_an_end_is_not_recorded_before_the_log_is_masked(
    storage: FolderStore,
    folder: Path,
    secrets: Secrets,
    worker: Worker,
    gate: Gate,
    started: Started,
    ended: Callable[..., Job],
    processes: Processes,
) -> None:
    """The disk refuses what masking needs for a while."""
    worker("--slots=1", **secrets.env)
    line = f"echo started; {PRINT_SECRET}; {gate.wait}"
    job = started(storage.submit(Job(command=line, secrets=["DB_PASSWORD"])))
    drafts = folder / "tmp"
    drafts.rename(folder / "away")
    drafts.touch()
    gate.open()
    wait_until(lambda: f"trouble job={job.id}" in processes.text())
    assert b'"ended"' not in (folder_of(folder, job) / "journal").read_bytes()
    drafts.unlink()
    (folder / "away").rename(drafts)
    assert ended(job).status == Status.SUCCEEDED
    assert is_clean(folder, job)


# --- Masking on the disk --------------------------------------------------------------------------


def mask(held: Any, *values: bytes) -> bytes:
    """Masks the log of a claimed job on the disk; returns it."""
    held.seal_secrets(values)
    held.mask_log()
    return Path(held.folder, "output.log").read_bytes()


def test_masking_changes_neither_size_nor_holes_nor_times(job_maker: JobMaker) -> None:
    held = job_maker.running()
    path = Path(held.folder, "output.log")
    with path.open("wb") as file:
        file.write(b"x" * 10 + VALUE)
        file.seek(64 << 20)
        file.write(VALUE + b"\n")
    os.utime(path, ns=(10**18, 10**18 + 7))
    before = path.stat()
    data = mask(held, VALUE)
    after = path.stat()
    assert (after.st_size, after.st_blocks) == (before.st_size, before.st_blocks)
    assert after.st_mtime_ns == before.st_mtime_ns
    assert data[:38] == b"x" * 10 + STARS and data[64 << 20 :] == STARS + b"\n"
    held.release()


@pytest.mark.parametrize("split", range(1, len(VALUE), 5))
def test_an_overwrite_that_a_crash_cut_in_two_is_completed(job_maker: JobMaker, split: int) -> None:
    """No search finds the rest of such a value; what was to be overwritten is stored before."""
    held = job_maker.running(b"begin " + VALUE + b" end\n" + VALUE + b"\n")
    held.seal_secrets([VALUE])
    secrets = JobSecrets(held.folders.root, held.folder)
    secrets._announce([VALUE], [(6, 6 + len(VALUE))])
    with Path(held.folder, "output.log").open("r+b") as file:
        file.seek(6)
        file.write(b"*" * split)
    assert VALUE[split:].decode() not in load_logs(job_maker.storage, held.job.id)
    held.mask_log()
    wanted = b"begin " + STARS + b" end\n" + STARS + b"\n"
    assert Path(held.folder, "output.log").read_bytes() == wanted
    held.release()


def test_batches_and_blocks_split_no_value(
    job_maker: JobMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Values that overlap, touch each other and cross the borders of blocks."""
    monkeypatch.setattr("tailboard.masking.MASKED_BLOCK", 37)
    monkeypatch.setattr("tailboard.folder.job_secrets.BATCH", 2)
    content = b"".join(b"%d abcabcab%dabcab aaaaaaaaa *abca\n" % (n % 7, n) for n in range(200))
    held = job_maker.running(content)
    data = mask(held, b"abcab", b"aaaa", b"*abc")
    wanted = bytearray(content)
    for value in (b"abcab", b"aaaa", b"*abc"):
        for at in range(len(content)):
            if content[at : at + len(value)] == value:
                wanted[at : at + len(value)] = b"*" * len(value)
    assert data == bytes(wanted)
    held.release()


def test_a_full_disk_does_not_prevent_masking(small: FolderStore, disk: SmallDisk) -> None:
    maker = JobMaker(Path(small.root))
    held = maker.running(VALUE + b"\n")
    held.seal_secrets([VALUE])
    disk.fill()
    held.mask_log()
    disk.free()
    assert Path(held.folder, "output.log").read_bytes() == STARS + b"\n"
    held.release()


def test_damaged_values_do_not_prevent_an_end_but_every_read(
    storage: FolderStore,
    folder: Path,
    secrets: Secrets,
    worker: Worker,
    gate: Gate,
    started: Started,
    ended: Callable[..., Job],
    processes: Processes,
) -> None:
    worker(**secrets.env)
    line = f"echo started; {PRINT_SECRET}; {gate.wait}; exit 3"
    job = started(storage.submit(Job(command=line, secrets=["DB_PASSWORD"])))
    (folder_of(folder, job) / "secrets").write_bytes(b"x")
    gate.open()
    found = ended(job)
    assert (found.status, found.exit_code) == (Status.FAILED, 3)
    assert VALUE.decode() not in (found.hint or "")
    with pytest.raises(OSError):
        load_logs(storage, job.id)
    assert "its log contains secrets" in processes.text()
    assert (folder_of(folder, job) / "secrets").exists()


def test_a_folder_that_is_set_aside_is_masked(job_maker: JobMaker, folder: Path) -> None:
    held = job_maker.running(VALUE + b"\n")
    held.seal_secrets([VALUE])
    job_maker.storage.move_aside(held.folder)
    assert is_clean(folder / "set-aside", Job(command="", id=f"{held.job.id}*"))
    held.release()
    with pytest.raises(JobNotFound):
        job_maker.storage.get(held.job.id)


def test_a_job_without_secrets_has_no_file_and_reads_nothing(
    job_maker: JobMaker, folder: Path
) -> None:
    held = job_maker.running(VALUE + b"\n")
    assert not held.needs_mask()
    job = job_maker.finish(held)
    assert load_logs(job_maker.storage, job.id) == VALUE.decode() + "\n"
    assert not (folder / "secret-key").exists()


# --- The option -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "secrets",
    [
        "DB_PASSWORD",
        ["1ST"],
        ["A-B"],
        [""],
        ["JOB_ID"],
        ["TAILBOARD_TOKEN"],
        ["A", "A"],
        ["A" * 65],
        ["A\n"],
        [f"S_{number}" for number in range(33)],
        [7],
        ["TAKEN"],
    ],
)
def test_bad_names_are_refused(site: Site, secrets: Any) -> None:
    body = {"command": "true", "env": {"TAKEN": "x"}, "secrets": secrets}
    for answer in (site.post("/jobs", body), site.ask("PUT", "/saved/bad-secrets", json=body)):
        assert answer.status_code == 400
        assert answer.json()["detail"].startswith("secrets must be a list of up to 32 different")


def test_a_secret_cannot_also_be_a_param(site: Site) -> None:
    body = {"command": "true", "secrets": ["A"], "params": [{"name": "A"}]}
    answer = site.ask("PUT", "/saved/bad-secrets", json=body)
    assert answer.status_code == 400
    assert answer.json()["detail"] == "params: A is already one of its secrets"


def test_saved_commands_reruns_and_exports_keep_the_names(
    site: Site, processes: Processes, tmp_path: Path
) -> None:
    body = {"command": "true", "secrets": ["DB_PASSWORD", "key_2"], "queue": "by-hand"}
    assert site.ask("PUT", "/saved/with-secrets", json=body).status_code == 201
    job = site.post("/saved/with-secrets/run", {}).json()
    again = site.post(f"/jobs/{job['id']}/rerun").json()
    assert job["secrets"] == again["secrets"] == ["DB_PASSWORD", "key_2"]
    storage = FolderStore(site.folder)
    command = storage.saved.load("with-secrets")
    assert command.secrets == ["DB_PASSWORD", "key_2"]


def test_the_commands_submit_and_save_take_secrets(on_folder: Tailboard) -> None:
    storage = on_folder.storage

    def run(*words: str) -> str:
        done = on_folder(*words)
        assert done.exit_code == 0, done.output
        return done.stdout.strip()

    job_id = run("submit", "--secret", "A", "--secret=B", "true")
    assert storage.get(job_id).secrets == ["A", "B"]
    run("save", "--secret", "C", "kept", "true")
    assert storage.saved.load("kept").secrets == ["C"]
    run("save", "--from", job_id, "copied")
    assert storage.saved.load("copied").secrets == ["A", "B"]
    assert "secrets   A B" in run("saved", "show", "copied")
    assert storage.get(run("start", "copied")).secrets == ["A", "B"]
