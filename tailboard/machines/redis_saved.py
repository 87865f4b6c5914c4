"""The saved commands in Redis."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress

from tailboard.chains import check_then
from tailboard.errors import CommandNotFound, JobDamaged, check_seen
from tailboard.folder.saved_files import RUNS_KEPT
from tailboard.machines.redis_link import Command, RedisLink
from tailboard.program_log import RepeatedErrors
from tailboard.saved_command import SavedCommand, check_room, parse_command
from tailboard.schedules import SavedState, Schedule, encode_schedule, parse_schedule
from tailboard.values import parse_time, utc

ANY = b"*"  # for save.lua, which no record is equal to


class RedisSaved:
    """The saved commands in Redis: the hashes `saved` and `schedules`, by name, and the lists
    `saved-runs:NAME`."""

    def __init__(self, link: RedisLink, errors: RepeatedErrors) -> None:
        """`errors` logs damaged values, as saved/NAME or schedules/NAME."""
        self.link, self._errors = link, errors
        self._commands: dict[str, tuple[bytes, SavedCommand]] = {}  # by name: as stored, parsed

    def save(self, command: SavedCommand, seen: str | None = None) -> bool:
        command.check()
        name, now = command.saved, utc(self.link.now())
        record = json.dumps(command.definition() | {"saved_at": now}, ensure_ascii=False).encode()
        check_room(name, len(record), self._sizes())
        check_then(command, self.load)
        while True:
            replaced = ANY if seen is None else self._read_seen(name, seen)
            raw, schedule = self.read_schedule(name)
            is_same = schedule.is_of(command)
            after = b"" if is_same else encode_schedule(schedule.adapted(command, now))
            answer = self.link.run("save", name, record, raw, after, replaced)
            if answer is not None:  # else the command or its schedule has just changed: try again
                return bool(answer)

    def _read_seen(self, name: str, seen: str) -> bytes:
        """The saved command as it is stored, or b"" if there is none. CommandChanged if it does not
        have the digest `seen`."""
        record, current = self.read(name) or b"", ""
        with suppress(ValueError, RecursionError):
            current = self.parse(name, record).digest()
        check_seen(name, seen, current)
        return record

    def _sizes(self) -> dict[str, int]:
        """Bytes of each saved command, by name. Commands that other processes save at the same
        moment are not counted, so the total may exceed the limit a little."""
        records = self._read_all()
        return {name.decode(errors="replace"): len(data) for name, data in records.items()}

    def load(self, name: str) -> SavedCommand:
        data = self.read(name)
        if data is None:
            raise CommandNotFound(f"there is no saved command {name[:80]!r}")
        try:
            return self.parse(name, data)
        except (ValueError, RecursionError) as error:
            raise CommandNotFound(f"saved command {name!r} cannot be read: {error}") from None

    def read(self, name: str) -> bytes | None:
        """A saved command as it is stored; None if it does not exist."""
        (data,) = self.link.ask(("HGET", self.link.key("saved"), name))
        return None if data is None else bytes(data)

    def _read_all(self) -> Mapping[bytes, bytes]:
        """All saved commands as they are stored, by name."""
        (records,) = self.link.ask(("HGETALL", self.link.key("saved")))
        return dict(records)

    def parse(self, name: str, data: bytes) -> SavedCommand:
        """The command in `data`, which is parsed only if it has changed since the last call.
        ValueError or RecursionError if it is damaged."""
        known = self._commands.get(name)
        if known is None or known[0] != data:
            command = parse_command(data, name)
            saved_at = json.loads(data).get("saved_at")
            if saved_at is not None:
                command.saved_at = utc(parse_time(str(saved_at)))
            known = self._commands[name] = (data, command)
        return known[1]

    def list(self) -> Sequence[SavedCommand]:
        records = self._read_all()
        found = []
        for raw_name, data in sorted(records.items()):
            name = raw_name.decode(errors="replace")
            try:
                found.append(self.parse(name, data))
            except (ValueError, RecursionError) as error:
                self._errors.report(f"saved/{name}", JobDamaged(str(error)))
            else:
                self._errors.resolved(f"saved/{name}")
        known = self._errors.current
        deleted = [thing for thing in known if thing.rpartition("/")[2].encode() not in records]
        for thing in deleted:
            self._errors.resolved(thing)
        return found

    def names(self) -> Sequence[str]:
        return sorted(name.decode(errors="replace") for name in self._read_all())

    def list_states(self) -> Sequence[SavedState]:
        commands = self.list()
        names = [command.saved for command in commands]
        schedules, *runs = self.link.ask(
            ("HGETALL", self.link.key("schedules")), *map(self._ask_runs, names)
        )
        states = zip(commands, names, runs, strict=True)
        return [
            SavedState(
                command,
                self._parse_schedule(name, schedules.get(name.encode())),
                self.link.checked(found),
            )
            for command, name, found in states
        ]

    def delete(self, name: str) -> None:
        commands: list[Command] = [
            ("HDEL", self.link.key("saved"), name),
            ("HDEL", self.link.key("schedules"), name),
            ("UNLINK", self.link.key(f"saved-runs:{name}")),
        ]
        count, *_ = self.link.ask(*commands)
        if not count:
            raise CommandNotFound(f"there is no saved command {name[:80]!r}")

    def runs(self, name: str) -> Sequence[str]:
        (found,) = self.link.ask(self._ask_runs(name))
        return self.link.checked(found)

    def _ask_runs(self, name: str) -> Command:
        return "LRANGE", self.link.key(f"saved-runs:{name}"), 0, RUNS_KEPT - 1

    def load_schedule(self, name: str) -> Schedule:
        return self.read_schedule(name)[1]

    def read_schedule(self, name: str) -> tuple[bytes, Schedule]:
        """(the schedule as it is stored, or b"" if there is none; the same, parsed)."""
        (data,) = self.link.ask(("HGET", self.link.key("schedules"), name))
        return data or b"", self._parse_schedule(name, data)

    def _parse_schedule(self, name: str, data: bytes | None) -> Schedule:
        """The schedule as it is stored. A damaged one is parsed as the default `Schedule()`: its
        times count from the moment a worker reads it."""
        if data is None:
            return Schedule()
        thing = f"schedules/{name}"
        try:
            schedule = parse_schedule(data)
        except (ValueError, TypeError, RecursionError) as error:
            self._errors.report(thing, JobDamaged(str(error)))
            return Schedule()
        self._errors.resolved(thing)
        return schedule
