"""The connection to Redis."""

from __future__ import annotations

import errno
import logging
import re
from collections.abc import Iterable, Sequence
from typing import Any

from tailboard.errors import RecordDamaged, StoreError, StoreUnreachable
from tailboard.machines.answers import DAMAGE_RE
from tailboard.machines.scripts import load_scripts
from tailboard.program_log import RepeatedErrors
from tailboard.values import ID_RE

log = logging.getLogger("storage")

REDIS_PREFIX = "tailboard:"
REDIS_TIMEOUT = 3.0  # seconds for one answer
Command = tuple[Any, ...]


class RedisLink:
    """Sends commands and scripts, several in one round trip. Errors are OSErrors with our own
    message, because the client's message may show the URL, which contains a password."""

    def __init__(self, url: str) -> None:
        import redis  # imported here: it takes memory and time, and a folder does not need it
        from redis.backoff import NoBackoff
        from redis.retry import Retry

        self.errors = redis.exceptions
        options: dict[str, Any] = {
            "protocol": 2,
            "socket_timeout": REDIS_TIMEOUT,
            "socket_connect_timeout": REDIS_TIMEOUT,
            "retry": Retry(NoBackoff(), 0),  # the client's own retries would prolong a hang
            "driver_info": None,  # CLIENT SETINFO, which an ACL of Redis 7.0 cannot allow
        }
        try:
            self.client: Any = redis.Redis.from_url(url, **options)
            self.client.connection_pool.make_connection()
        except (ValueError, TypeError, redis.RedisError):
            raise ValueError(
                "TAILBOARD_STORAGE must be redis://[USER:PASSWORD@]HOST[:PORT][/NUMBER], "
                "or the same with rediss:// for TLS"
            ) from None
        from hashlib import sha1

        scripts = load_scripts().items()
        self.names = {name: sha1(text.encode()).hexdigest() for name, text in scripts}
        self._foreign_names = RepeatedErrors(log)  # invalid names in Redis, each logged once

    def key(self, name: str) -> str:
        """One of our keys, with the common prefix."""
        return REDIS_PREFIX + name

    def script(self, name: str, *arguments: Any) -> Command:
        """The command that runs a script."""
        return ("EVALSHA", self.names[name], 1, REDIS_PREFIX, *arguments)

    def run(self, name: str, *arguments: Any) -> Any:
        """Run a script; returns its answer. OSError as `ask`."""
        return self.ask(self.script(name, *arguments))[0]

    def ask(self, *commands: Command) -> list[Any]:
        """Send these commands; returns their answers. OSError if one of them failed; the others
        may have taken effect."""
        answers = self.try_all(commands)
        for answer in answers:
            if isinstance(answer, OSError):
                raise answer
        return answers

    def try_all(self, commands: Sequence[Command]) -> list[Any]:
        """Send these commands; returns their answers, with an OSError instead of each that failed.
        StoreUnreachable if the connection broke: any of them may have taken effect."""
        answers = self._execute(commands)
        if any(isinstance(answer, self.errors.NoScriptError) for answer in answers):
            self._execute([("SCRIPT LOAD", text) for text in load_scripts().values()])
            answers = self._execute(commands)  # each command can safely be carried out twice
        return [self._translate_error(a) if isinstance(a, Exception) else a for a in answers]

    def _execute(self, commands: Sequence[Command]) -> list[Any]:
        pipeline = self.client.pipeline(transaction=False)
        for command in commands:
            pipeline.execute_command(*command)
        try:
            return list(pipeline.execute(raise_on_error=False))
        except (self.errors.RedisError, OSError) as error:
            raise self._translate_error(error) from None

    def _translate_error(self, error: Exception) -> OSError:
        """The client's error as one of ours, with a message that contains no secret."""
        text, known = str(error), self.errors
        if isinstance(error, known.OutOfMemoryError) or "OOM" in text[:80]:
            return StoreError(errno.ENOSPC, "Redis is full (maxmemory)")
        if isinstance(error, known.AuthenticationError) or text.startswith(("NOAUTH", "WRONGPASS")):
            return StoreUnreachable(errno.EACCES, "Redis rejects the user or password")
        if isinstance(error, known.NoPermissionError) or "NOPERM" in text:
            commands = re.findall("the '([a-z|]{1,30})'", text)
            forbidden = commands[0] if commands else "that"
            return StoreError(errno.EACCES, f"Redis' ACL forbids {forbidden}")
        if isinstance(error, (known.TimeoutError, TimeoutError)):
            return StoreUnreachable(errno.ETIMEDOUT, "Redis does not answer in time")
        if isinstance(error, known.ResponseError) and not isinstance(error, known.BusyLoadingError):
            message = text.partition(", with args")[0]  # the arguments may be secret
            if DAMAGE_RE.search(message):
                return RecordDamaged(errno.EIO, f"Redis reports: {message[:200]}")
            return StoreError(errno.EIO, f"Redis reports: {message[:200]}")
        return StoreUnreachable(errno.EHOSTUNREACH, "Redis cannot be reached")

    def check_server(self) -> None:
        """ValueError if the eviction policy of Redis allows it to drop keys."""
        (memory,) = self.ask(("INFO", "memory"))
        policy = memory.get("maxmemory_policy")
        if policy != "noeviction":
            raise ValueError(f"Redis' maxmemory-policy must be noeviction, not {policy}")

    def now(self) -> float:
        """Seconds since 1970 by the clock of Redis."""
        ((seconds, microseconds),) = self.ask(("TIME",))
        return float(seconds) + int(microseconds) / 1e6

    def checked(self, names: Iterable[bytes], known: re.Pattern[str] = ID_RE) -> Sequence[str]:
        """The names, among these from Redis, that are IDs of jobs or match `known`. Only such names
        may become parts of paths and keys. Each other name is logged once."""
        found = []
        for raw in names:
            name = raw.decode(errors="replace")
            if known.fullmatch(name):
                found.append(name)
            else:
                self._foreign_names.report(
                    f"redis={name[:80]!r}", ValueError("ignored: it is not a valid name")
                )
        return found
