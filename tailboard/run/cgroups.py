"""The cgroups (version 2) that limit the memory of jobs.

A worker may only divide a cgroup that was delegated to it: by systemd (`Delegate=memory` in its
unit) or because it is the root of a container's cgroup namespace. In the delegated cgroup, the
*base*, each job with `max_memory` gets a cgroup of its own. A cgroup that limits others cannot
contain processes (cgroups(7), "no internal processes"), so all processes of the base move into the
cgroup `tailboard-main` first. Only a job with `max_memory` causes all this."""

from __future__ import annotations

import errno
import logging
import os
import re
import subprocess
import time
from contextlib import suppress
from pathlib import Path

log = logging.getLogger("worker")

MAIN = "tailboard-main"  # the cgroup for the worker and everything else that was in the base
JOB_CGROUP = "tailboard-{id}-{attempt}"
MOVES = 10  # rounds of moving the processes of the base, some of which may start others meanwhile
ASK_TIME = 5.0  # seconds for the answer of systemd
LEFT_AFTER = 60.0  # seconds after which the empty cgroup of a job counts as left behind
# Waits until the worker has exited, however that happens, and then stops the division of the base.
# Otherwise systemd could not start the next worker while limited jobs are running: it puts the
# worker into the base, and the kernel refuses that with EBUSY, see systemd's issue 24064.
GUARD = 'read -r _; echo -memory >"$0"'


class NoCgroups(Exception):
    """This worker cannot limit the memory of jobs. The message is a clause that says why."""


def own_cgroup(proc: Path = Path("/proc/self")) -> tuple[Path, Path]:
    """The folders of a process's cgroup and of the root from which it is visible. NoCgroups if it
    has none of version 2."""
    path = ""
    for line in (proc / "cgroup").read_text().splitlines():
        if line.startswith("0::"):
            path = line.removeprefix("0::")
    for line in (proc / "mountinfo").read_text().splitlines():
        mount, _, kind = line.partition(" - ")
        if path and kind.startswith("cgroup2 "):
            root, point = (unescape(field) for field in mount.split()[3:5])
            if path == root or path.startswith(f"{root.rstrip('/')}/"):
                return Path(point, os.path.relpath(path, root)), Path(point)
    raise NoCgroups("this system has no cgroups v2")


def unescape(field: str) -> str:
    """A field of mountinfo, in which white space is octal (proc(5))."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), field)


def find_base(proc: Path = Path("/proc/self")) -> Path:
    """The cgroup that was delegated to this worker: its own, or the one above it if the worker was
    put or has moved into a part of it. NoCgroups if there is none that it can divide."""
    try:
        own, root = own_cgroup(proc)
    except OSError as error:
        raise NoCgroups(f"/proc cannot be read: {error.strerror}") from None
    if "memory" not in words_in(root / "cgroup.controllers"):
        raise NoCgroups("cgroups v2 do not control memory here")
    for folder in (own, own.parent):
        if folder.is_relative_to(root) and is_delegated(folder, root):
            if "memory" not in words_in(folder / "cgroup.controllers"):
                raise NoCgroups(f"its cgroup {folder} was delegated without control of memory")
            return folder
    raise NoCgroups(f"its cgroup {own} is not delegated to it")


def is_delegated(folder: Path, root: Path) -> bool:
    """May this process divide the cgroup? Others must be left alone, even if root may write to
    them: their processes belong to somebody else."""
    files = [folder, folder / "cgroup.procs", folder / "cgroup.subtree_control"]
    if not all(os.access(path, os.W_OK) for path in files):
        return False
    if folder == root:  # only the system's own root has no such file
        return (folder / "cgroup.type").exists()
    for name in ("user.delegate", "trusted.delegate"):  # by systemd; the latter, only root can read
        with suppress(OSError):
            if os.getxattr(folder, name) == b"1":
                return True
    # Not all versions of systemd mark it so that users can read that. Below user@.service, users
    # own all cgroups; elsewhere, only those that were delegated to them.
    if any(part.startswith("user@") for part in folder.parts):
        return is_delegated_unit(folder.name)
    return folder.stat().st_uid == os.geteuid() != 0


def is_delegated_unit(name: str) -> bool:
    """Does a unit of the user's systemd have Delegate=? Version 252 does not mark its cgroup."""
    command = ["systemctl", "--user", "show", "--property=Delegate", "--value", "--", name]
    with suppress(OSError, subprocess.TimeoutExpired):
        answer = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=ASK_TIME,
        )
        return answer.stdout.strip() == b"yes"
    return False


def words_in(path: Path) -> list[str]:
    """The words in a small file; none if it cannot be read."""
    with suppress(OSError):
        return path.read_text().split()
    return []


class Cgroups:
    """The cgroups of the jobs of a worker."""

    def __init__(self) -> None:
        self.base: Path | None = None  # None: not looked for, or not found
        self.guard: subprocess.Popen[bytes] | None = None

    def prepare(self) -> Path:
        """The base, ready for cgroups with limits. NoCgroups if that is not possible."""
        base = self.base or find_base()
        try:
            if "memory" not in words_in(base / "cgroup.subtree_control"):
                self._divide(base)
        except OSError as error:
            self.base = None  # it may have been moved
            raise NoCgroups(f"its cgroup {base} cannot be divided: {error.strerror}") from None
        self.base = base
        return base

    def _divide(self, base: Path) -> None:
        log.info("divides cgroup=%s", base)
        remove_left_behind(base)
        control = base / "cgroup.subtree_control"
        if base.suffix == ".service" and (self.guard is None or self.guard.poll() is not None):
            self.guard = start_guard(control)
        (base / MAIN).mkdir(exist_ok=True)
        for count in range(1, MOVES + 1):
            move_processes(base, base / MAIN)
            try:
                control.write_text("+memory")
                return
            except OSError as error:
                if error.errno != errno.EBUSY or count == MOVES:
                    raise

    def create(self, job_id: str, attempt: int, limit: int) -> Path:
        """A cgroup in which processes can use so many bytes of memory, and no swap. NoCgroups if
        this worker can have none, OSError if the kernel refuses this one."""
        folder = self.prepare() / JOB_CGROUP.format(id=job_id, attempt=attempt)
        with suppress(OSError):  # of a start that failed: its counters begin at 0 again
            folder.rmdir()
        folder.mkdir(exist_ok=True)
        set_limit(folder, limit)
        return folder

    def find(self, job_id: str, attempt: int, pid: int | None) -> Path | None:
        """The cgroup of a job that another worker has started, whose shim is `pid`; None if it has
        none."""
        name = JOB_CGROUP.format(id=job_id, attempt=attempt)
        with suppress(NoCgroups, OSError):
            if pid is not None:  # it may be elsewhere than those of this worker
                folder = own_cgroup(Path(f"/proc/{pid}"))[0]
                if folder.name == name:
                    return folder
        with suppress(NoCgroups):
            folder = find_base() / name
            if folder.is_dir():
                return folder
        return None

    def renew(self, folder: Path, limit: int) -> None:
        """Limit a cgroup again if the division of the base had ended with the worker before. What
        its processes use already does not count."""
        if words_in(folder / "memory.max") in ([], ["max"]) and folder.is_dir():
            self.base = folder.parent
            self.prepare()
            set_limit(folder, limit)


def start_guard(control: Path) -> subprocess.Popen[bytes]:
    """Start the process that ends the division of a cgroup, of which this is the file
    `cgroup.subtree_control`, once this process has exited."""
    return subprocess.Popen(
        ["/bin/sh", "-c", GUARD, control],
        stdin=subprocess.PIPE,  # only this process holds the other end
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def set_limit(folder: Path, limit: int) -> None:
    # memory.oom.group stays 0: the kernel must not kill the shim with the rest of the job.
    with suppress(FileNotFoundError):  # a kernel without swap accounting
        (folder / "memory.swap.max").write_text("0")
    (folder / "memory.max").write_text(str(limit))


def add_process(folder: Path, pid: int) -> None:
    """Move a process into a cgroup. OSError if it is not permitted."""
    (folder / "cgroup.procs").write_text(str(pid))


def move_processes(source: Path, target: Path) -> None:
    for pid in words_in(source / "cgroup.procs"):
        if pid != "0":  # it is not visible in this PID namespace; 0 would mean this process
            with suppress(ProcessLookupError):  # it has exited
                add_process(target, int(pid))


def count_oom_kills(folder: Path) -> int:
    """How many processes of a cgroup the kernel has killed because of its limit."""
    words = words_in(folder / "memory.events")
    events = dict(zip(words[::2], words[1::2], strict=False))
    # `oom_kill` also counts those that were killed because the whole machine had no memory left.
    return int(events.get("oom_kill", 0)) if int(events.get("oom", 0)) else 0


def remove(folder: Path) -> bool:
    """Remove a cgroup. Returns False if it still has processes, which the job has left behind."""
    try:
        folder.rmdir()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def remove_left_behind(base: Path) -> None:
    """Remove the cgroups of jobs that have ended without a worker. Young ones may belong to a job
    that another worker is just starting."""
    for folder in base.glob(JOB_CGROUP.format(id="*", attempt="*")):
        with suppress(OSError):
            if time.time() - folder.stat().st_mtime > LEFT_AFTER:
                folder.rmdir()
