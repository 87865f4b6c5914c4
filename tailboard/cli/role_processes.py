"""Runs roles as processes: prints what they write, and ends all of them together.

honcho's printer and colours are used, but not its manager: that would start another Python process
for each role, and an early Ctrl-C makes it print a traceback."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from queue import Empty, SimpleQueue
from types import FrameType
from typing import NamedTuple

from honcho.colour import get_colours
from honcho.printer import Message, Printer

STOP_TIME = 2.0  # seconds for the roles to end by themselves, as long as the API needs at most
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Line(NamedTuple):
    """A role has written a line."""

    role: str
    text: bytes


class Ended(NamedTuple):
    """A role has ended. `code`: its exit code, or the negative number of a signal."""

    role: str
    code: int


class StopRequest(NamedTuple):
    """A signal has asked this program to stop."""

    number: int


class Notice(NamedTuple):
    """A line to print that does not come from a role."""

    text: str


Event = Line | Ended | StopRequest | Notice


class RoleProcesses:
    """Some roles, from their start to the end of all of them."""

    def __init__(self, names: Sequence[str]) -> None:
        self.events: SimpleQueue[Event] = SimpleQueue()
        self.running: dict[str, subprocess.Popen[bytes]] = {}
        self.colours = dict(zip(names, get_colours(), strict=False))
        width = max(len(name) for name in names)
        self.printer = Printer(sys.stdout, width=width, colour="NO_COLOR" not in os.environ)
        self.last_lines: dict[str, str] = {}  # by role
        self.stop_request: StopRequest | None = None
        self.failed: Ended | None = None  # the role whose end stopped the others
        self.is_stopping = False
        self.kill_at: float | None = None  # on the monotonic clock; None: not yet, or done

    def run(self, commands: Mapping[str, Sequence[str]], env: Mapping[str, str]) -> None:
        """Start the command of each role, and handle the events until all roles have ended. Ctrl-C,
        SIGTERM and the end of one role stop all of them."""
        catch_signals(self.events.put)
        try:
            for role, command in commands.items():
                self._start(role, command, env)
            while self.running:
                self._handle_event()
        finally:
            self._kill()

    def _start(self, role: str, command: Sequence[str], env: Mapping[str, str]) -> None:
        """Start a role in a session of its own: Ctrl-C in the terminal reaches only this program,
        which then ends the roles."""
        process = subprocess.Popen(
            command,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self.running[role] = process
        threading.Thread(target=self._follow, args=(role, process), daemon=True).start()

    def _follow(self, role: str, process: subprocess.Popen[bytes]) -> None:
        """Report the lines and the end of a role. Runs in a thread."""
        assert process.stdout is not None
        for line in process.stdout:
            self.events.put(Line(role, line))
        self.events.put(Ended(role, process.wait()))

    def _handle_event(self) -> None:
        remaining = None if self.kill_at is None else max(0.0, self.kill_at - time.monotonic())
        try:
            event = self.events.get(timeout=remaining)
        except Empty:
            self._kill()
            self.kill_at = None
            return
        match event:
            case Line():
                self._print(event)
            case Notice():
                self._write(event.text)
            case StopRequest():
                self._stop_at_request(event)
            case Ended():
                self._note_end(event)

    def _print(self, line: Line) -> None:
        colour = self.colours[line.role]
        message = Message("line", line.text, datetime.now(), line.role, colour)
        if text := line.text.decode(errors="replace").strip():
            self.last_lines[line.role] = text
        try:
            self.printer.write(message)
        except OSError:  # the terminal was closed, or the reader of a pipe has ended
            self._terminate()

    def _write(self, text: str) -> None:
        try:
            print(text, flush=True)
        except OSError:
            self._terminate()

    def _stop_at_request(self, request: StopRequest) -> None:
        """End the roles; at the second request, kill them."""
        if self.stop_request is not None:
            self._kill()
            return
        self.stop_request = request
        self._terminate()

    def _note_end(self, ended: Ended) -> None:
        del self.running[ended.role]
        if not self.is_stopping:
            self.failed = ended
            self._terminate()

    def _terminate(self) -> None:
        if not self.is_stopping:
            self.is_stopping = True
            self.kill_at = time.monotonic() + STOP_TIME
            for process in self.running.values():
                process.terminate()

    def _kill(self) -> None:
        for process in self.running.values():
            with suppress(ProcessLookupError):  # it has just ended
                os.killpg(process.pid, signal.SIGKILL)

    def describe_failure(self) -> str:
        """A sentence about the role that ended although nobody asked for it, with the last line
        that it wrote."""
        assert self.failed is not None
        role, code = self.failed
        how = f"ended with exit code {code}"
        if code < 0:
            how = f"was killed by {signal.Signals(-code).name}"
        reason = self.last_lines.get(role, "").removeprefix("Error: ").removeprefix(f"{role}: ")
        return f"the {role} {how}: {reason}" if reason else f"the {role} {how}"


def catch_signals(report: Callable[[StopRequest], None]) -> None:
    """Report the signals that ask this program to stop, unless they are ignored (`nohup`)."""

    def handle(number: int, _frame: FrameType | None) -> None:
        report(StopRequest(number))

    for number in STOP_SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, handle)
