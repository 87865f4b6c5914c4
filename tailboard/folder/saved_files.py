"""The saved commands of a jobs folder, and their schedules."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

from tailboard.chains import check_then
from tailboard.errors import CommandNotFound, JobDamaged, check_seen
from tailboard.files import fsync_folder, mtime, open_regular, read_small, replace_whole
from tailboard.program_log import RepeatedErrors
from tailboard.saved_command import (
    SAVED_NAMES,
    SAVED_RE,
    SavedCommand,
    check_room,
    encode_command,
    parse_command,
)
from tailboard.schedules import SavedState, Schedule, encode_schedule, parse_schedule
from tailboard.values import ID_RE, RESOURCE_ERRNOS, is_json_name, utc

RUNS_KEPT = 100  # jobs of a saved command that are remembered as its own


class SavedFiles:
    """The saved commands of a jobs folder, saved/NAME.json, with their schedules and their last
    jobs, schedules/NAME.state and NAME.runs."""

    def __init__(
        self,
        root: str,
        errors: RepeatedErrors,
        list_names: Callable[[str, Callable[[str], object]], Sequence[str]],
    ) -> None:
        """`errors`: where damaged files are reported, by path below `root`. `list_names` returns
        the names in a folder that a check accepts, sorted."""
        self.root, self._errors, self._list_names = root, errors, list_names
        self._commands: dict[str, tuple[Any, SavedCommand]] = {}  # by name: stamp, content

    def save(self, command: SavedCommand, seen: str | None = None) -> bool:
        command.check()
        name, content = command.saved, encode_command(command)
        with self.lock():
            check_seen(name, seen, self._digest(name))
            check_room(name, len(content), self._sizes())
            check_then(command, self.load)
            is_new = not os.path.lexists(self._path(name))
            self._replace_file(self._path(name), content)
            schedule = self.load_schedule(name)
            if not schedule.is_of(command):
                self.write_schedule(name, schedule.adapted(command, utc()))
        return is_new

    def _digest(self, name: str) -> str:
        """The digest of a saved command; "" if there is none that can be read."""
        with suppress(CommandNotFound):
            return self.load(name).digest()
        return ""

    def load(self, name: str) -> SavedCommand:
        try:
            return self._read(name)
        except FileNotFoundError:
            raise CommandNotFound(f"there is no saved command {name[:80]!r}") from None
        except (OSError, ValueError, RecursionError) as error:
            if isinstance(error, OSError) and error.errno in RESOURCE_ERRNOS:
                raise
            why = error.strerror if isinstance(error, OSError) else error
            raise CommandNotFound(f"saved command {name!r} cannot be read: {why}") from None

    def _read(self, name: str) -> SavedCommand:
        """The command in its file, which is parsed only after it has changed."""
        if not SAVED_RE.fullmatch(name):
            raise FileNotFoundError(errno.ENOENT, "not the name of a saved command", name)
        path = self._path(name)
        found = os.lstat(path)
        stamp = (found.st_ino, found.st_mtime_ns, found.st_size)
        known = self._commands.get(name)
        if known is None or known[0] != stamp:
            command = parse_command(read_small(path), name)
            command.saved_at = utc(found.st_mtime)
            known = self._commands[name] = (stamp, command)
        return known[1]

    def names(self) -> Sequence[str]:
        files = self._list_names(f"{self.root}/saved", is_json_name)
        return [name.removesuffix(".json") for name in files]

    def list(self) -> Sequence[SavedCommand]:
        found = []
        for file_name in self._list_names(f"{self.root}/saved", is_json_name):
            name, thing = file_name.removesuffix(".json"), f"saved/{file_name}"
            try:
                if not SAVED_RE.fullmatch(name):
                    raise ValueError(f"its name must be {SAVED_NAMES}")
                found.append(self._read(name))
            except FileNotFoundError:  # it was just deleted
                continue
            except (OSError, ValueError, RecursionError) as error:
                if isinstance(error, OSError) and error.errno in RESOURCE_ERRNOS:
                    raise
                why = error.strerror if isinstance(error, OSError) else str(error)
                self._errors.report(thing, JobDamaged(why))
            else:
                self._errors.resolved(thing)
        return found

    def list_states(self) -> Sequence[SavedState]:
        return [
            SavedState(command, self.load_schedule(command.saved), self.runs(command.saved))
            for command in self.list()
        ]

    def delete(self, name: str) -> None:
        with self.lock():
            try:
                if not SAVED_RE.fullmatch(name):
                    raise FileNotFoundError
                os.unlink(self._path(name))
            except FileNotFoundError:
                raise CommandNotFound(f"there is no saved command {name[:80]!r}") from None
            fsync_folder(f"{self.root}/saved")
            self._commands.pop(name, None)
            for kind in ("state", "runs"):
                with suppress(FileNotFoundError):
                    os.unlink(f"{self.root}/schedules/{name}.{kind}")

    def runs(self, name: str) -> Sequence[str]:
        if not SAVED_RE.fullmatch(name):
            return []
        with suppress(OSError):
            text = read_small(f"{self.root}/schedules/{name}.runs").decode(errors="replace")
            return [line for line in reversed(text.split()) if ID_RE.fullmatch(line)]
        return []

    def note_run(self, name: str, job_id: str) -> None:
        """Remember a job as a run of this command, durably. Call this before the job is queued, so
        that `runs` misses no job."""
        if not SAVED_RE.fullmatch(name):
            return
        self._make_schedules()
        path = f"{self.root}/schedules/{name}.runs"
        with open(open_regular(path, os.O_RDWR | os.O_CREAT), "r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            known = file.read().decode(errors="replace").split()
            content = "\n".join([*known[-RUNS_KEPT + 1 :], job_id]) + "\n"
            file.seek(0)
            file.write(content.encode(errors="replace"))
            file.truncate()
            file.flush()
            os.fsync(file.fileno())
        fsync_folder(f"{self.root}/schedules")

    def load_schedule(self, name: str) -> Schedule:
        path, thing = f"{self.root}/schedules/{name}.state", f"schedules/{name}.state"
        try:
            schedule = parse_schedule(read_small(path))
        except FileNotFoundError:
            return Schedule()
        except (OSError, ValueError, TypeError, RecursionError) as error:
            if isinstance(error, OSError) and error.errno in RESOURCE_ERRNOS:
                raise
            why = error.strerror if isinstance(error, OSError) else str(error)
            self._errors.report(thing, JobDamaged(why))
            written_at = mtime(path)
            return Schedule(settled=None if written_at is None else utc(written_at))
        self._errors.resolved(thing)
        return schedule

    def write_schedule(self, name: str, schedule: Schedule) -> None:
        """Replace the stored schedule durably. The caller holds `lock`."""
        self._make_schedules()
        self._replace_file(f"{self.root}/schedules/{name}.state", encode_schedule(schedule))

    def is_as_seen(self, command: SavedCommand, seen: Schedule) -> bool:
        """Are exactly this command and this schedule stored?"""
        with suppress(CommandNotFound):
            return self.load(command.saved) == command and (
                self.load_schedule(command.saved) == seen
            )
        return False

    def finish_interrupted(self, name: str, seen: Schedule, is_submitted: bool) -> None:
        """End a firing that was interrupted because its worker died or the disk was full.
        `is_submitted`: its job exists; if not, its time is due again. The caller holds `lock`."""
        settled = seen.firing if is_submitted else seen.settled
        self.write_schedule(name, replace(seen, firing=None, settled=settled))

    @contextmanager
    def lock(self, wait: bool = True) -> Iterator[None]:
        """Lock the saved commands and schedules, to change them. BlockingIOError if another process
        holds the lock and `wait` is False."""
        self._make_schedules()
        path = f"{self.root}/schedules/lock"
        fd = open_regular(path, os.O_RDWR | os.O_CREAT)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            yield
        finally:
            os.close(fd)

    def make_folders(self) -> None:
        """Make the two folders, which are otherwise made when first needed."""
        self._make_durable(f"{self.root}/saved")
        self._make_schedules()

    def _make_schedules(self) -> None:
        self._make_durable(f"{self.root}/schedules")

    def _make_durable(self, home: str) -> None:
        """Make a folder durably if it does not exist."""
        if not os.path.isdir(home):
            os.makedirs(home, mode=0o700, exist_ok=True)
            fsync_folder(self.root)

    def _replace_file(self, path: str, content: bytes) -> None:
        self._make_durable(os.path.dirname(path))
        replace_whole(path, content, f"{self.root}/tmp")

    def _sizes(self) -> dict[str, int]:
        """Bytes of each saved command, by name."""
        sizes = {}
        with suppress(FileNotFoundError), os.scandir(f"{self.root}/saved") as entries:
            for entry in filter(lambda entry: is_json_name(entry.name), entries):
                with suppress(FileNotFoundError):
                    size = entry.stat(follow_symlinks=False).st_size
                    sizes[entry.name.removesuffix(".json")] = size
        return sizes

    def _path(self, name: str) -> str:
        return f"{self.root}/saved/{name}.json"
