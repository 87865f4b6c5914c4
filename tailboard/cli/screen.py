"""A terminal of which a command uses the whole screen, and which it leaves as it was."""

from __future__ import annotations

import os
import selectors
import shutil
import signal
import sys
import termios
import tty
from collections.abc import Sequence
from contextlib import AbstractContextManager, suppress
from typing import Any, Self

ENTER = "\x1b[?1049h\x1b[?25l"  # the other screen, without a cursor
LEAVE = "\x1b[?25h\x1b[?1049l"
HOME, CLEAR_LINE, CLEAR_REST = "\x1b[H", "\x1b[K", "\x1b[J"
ENDING = (signal.SIGTERM, signal.SIGHUP)


def has_terminal() -> bool:
    """Are standard input and output a terminal?"""
    return sys.stdin.isatty() and sys.stdout.isatty()


class Screen(AbstractContextManager["Screen"]):
    """The other screen of the terminal, without echo; keys are read one by one. However the block
    ends, also by a signal, the terminal is as before. Ctrl-Z has no effect: the shell would get the
    terminal in this state."""

    def __init__(self) -> None:
        self.fd = sys.stdin.fileno()
        self.drawn: tuple[Sequence[str], os.terminal_size] | None = None
        self.before = termios.tcgetattr(self.fd)
        self.handlers: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        for number in ENDING:  # first: a signal that comes now must not leave the terminal so
            self.handlers[number] = signal.signal(number, exit_by_signal)
        try:
            tty.setcbreak(self.fd)
            without_stop = termios.tcgetattr(self.fd)
            without_stop[6][termios.VSUSP] = b"\0"
            termios.tcsetattr(self.fd, termios.TCSANOW, without_stop)
            self._write(ENTER)
        except BaseException:
            self._restore()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._restore()

    def _restore(self) -> None:
        with suppress(OSError, termios.error):  # the terminal has been closed
            self._write(LEAVE)
            termios.tcsetattr(self.fd, termios.TCSADRAIN, self.before)
        for number, handler in self.handlers.items():
            signal.signal(number, handler)

    def size(self) -> os.terminal_size:
        """Columns and lines, as they are now."""
        return shutil.get_terminal_size()

    def draw(self, lines: Sequence[str]) -> None:
        """Show these lines, none of which is wider than the terminal, and nothing else."""
        if self.drawn != (lines, self.size()):
            # Cleared first: after a line that fills its row, xterm would clear the last character.
            *others, last = lines
            rows = [*(CLEAR_LINE + line for line in others), CLEAR_REST + last]
            self._write(HOME + "\r\n".join(rows))
            self.drawn = lines, self.size()

    def read_keys(self, seconds: float) -> str | None:
        """The keys that are pressed within this time; None if the terminal was closed."""
        with selectors.DefaultSelector() as selector:
            selector.register(self.fd, selectors.EVENT_READ)
            if not selector.select(seconds):
                return ""
        try:
            return os.read(self.fd, 64).decode(errors="replace") or None
        except OSError:  # EIO
            return None

    def _write(self, text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()


def exit_by_signal(number: int, _frame: object) -> None:
    sys.exit(128 + number)
