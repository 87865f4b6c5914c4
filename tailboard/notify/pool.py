"""The processes that send messages, from the point of view of the process that starts them.

They are separate processes because a delivery has a deadline: a thread that waits for a slow server
cannot be ended, a process can. They also keep Apprise, which takes 60 MB, out of the worker, and
end when there is nothing to send."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from tailboard import intervals
from tailboard.roles import ROOT

MOST_OPEN = 20  # deliveries in one process at a time
MOST_PROCESSES = 3
IDLE_TIME = 5.0  # seconds without a delivery until a process is ended
TOO_SLOW = "no answer within {:.0f} s"
DIED = "the process that sends messages has ended"


class Answer(NamedTuple):
    """How a delivery has ended."""

    number: int  # of the delivery
    ok: bool
    text: str  # without secrets


class DeliveryProcess:
    """One process of tailboard/notify/deliver.py."""

    def __init__(self, lines: queue.SimpleQueue[Any]) -> None:
        """`lines` receives (this, a line that the process writes), and (this, None) at its end."""
        self.deadlines: dict[int, float] = {}  # of the open deliveries, on the monotonic clock
        self.is_full = False  # it gets no more deliveries
        self.used_at = time.monotonic()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tailboard.notify.deliver"],
            cwd=package_folder(),  # so that `-m` finds our package and nothing else first
            env=sender_environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # it could contain a URL
        )
        threading.Thread(target=self._read_lines, args=(lines,), daemon=True).start()

    def _read_lines(self, lines: queue.SimpleQueue[Any]) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as output:
            for line in output:
                lines.put((self, line))
        lines.put((self, None))

    def send(self, number: int, task: dict[str, Any]) -> None:
        """Begin a delivery. If the process has died, that is its answer."""
        self.used_at = time.monotonic()
        self.deadlines[number] = self.used_at + intervals.SEND_TIME
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):
            self.process.stdin.write(json.dumps(task | {"number": number}).encode() + b"\n")
            self.process.stdin.flush()

    def end(self) -> None:
        """Kill the process, with what it has not sent."""
        self.is_full = True
        self.process.kill()
        assert self.process.stdin is not None
        with suppress(OSError):
            self.process.stdin.close()
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(1)  # the worker's loop may collect it first


class DeliveryPool:
    """Sends messages in up to MOST_PROCESSES processes. A delivery that gets no answer in time
    fails; its process gets no more deliveries, and is killed when the others in it are done. To be
    used by one thread, except for `wake`."""

    def __init__(self) -> None:
        self.lines: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.processes: list[DeliveryProcess] = []
        self.last_number = 0

    def has_room(self) -> bool:
        """Can another delivery begin now?"""
        return self._process_with_room() is not None or len(self.processes) < MOST_PROCESSES

    def _process_with_room(self) -> DeliveryProcess | None:
        for process in self.processes:
            if not process.is_full and len(process.deadlines) < MOST_OPEN:
                return process
        return None

    def begin(self, task: dict[str, Any]) -> int:
        """Begin a delivery; returns its number. OSError if no process can be started."""
        process = self._process_with_room()
        if process is None:
            process = DeliveryProcess(self.lines)
            self.processes.append(process)
        self.last_number += 1
        process.send(self.last_number, task)
        return self.last_number

    def open_count(self) -> int:
        return sum(len(process.deadlines) for process in self.processes)

    def wake(self) -> None:
        """End a wait. Any thread can call this."""
        self.lines.put(None)

    def wait(self, timeout: float) -> Sequence[Answer]:
        """Wait for answers, or for `wake`, and at most for `timeout` seconds."""
        nearest = self._next_deadline() - time.monotonic()
        answers: list[Answer] = []
        with suppress(queue.Empty):
            answers += self._answers_in(self.lines.get(timeout=max(0.0, min(timeout, nearest))))
            while True:
                answers += self._answers_in(self.lines.get_nowait())
        return [*answers, *self._overdue()]

    def _next_deadline(self) -> float:
        idle = [p.used_at + IDLE_TIME for p in self.processes if not p.deadlines]
        return min([*(d for p in self.processes for d in p.deadlines.values()), *idle, 1e18])

    def _answers_in(self, item: Any) -> Iterator[Answer]:
        if item is None:
            return
        process, line = item
        if line is None:
            yield from self._give_up(process)
            return
        answer = json.loads(line)
        if process.deadlines.pop(answer["number"], None) is not None:
            process.used_at = time.monotonic()
            yield Answer(answer["number"], answer["ok"], answer["answer"])

    def _give_up(self, process: DeliveryProcess) -> Iterator[Answer]:
        """The process has died."""
        if process in self.processes:
            self.processes.remove(process)
            process.end()
        for number in process.deadlines:
            yield Answer(number, False, DIED)
        process.deadlines.clear()

    def _overdue(self) -> Iterator[Answer]:
        """Fail the deliveries whose time is up, and end the processes that are not needed."""
        now = time.monotonic()
        for process in list(self.processes):
            late = [number for number, deadline in process.deadlines.items() if deadline <= now]
            for number in late:
                process.is_full = True
                del process.deadlines[number]
                yield Answer(number, False, TOO_SLOW.format(intervals.SEND_TIME))
            is_idle = now >= process.used_at + IDLE_TIME
            if not process.deadlines and (process.is_full or is_idle):
                self.processes.remove(process)
                process.end()

    def close(self) -> None:
        """Kill the processes. What they were sending may or may not have arrived."""
        for process in self.processes:
            process.end()
        self.processes.clear()


def package_folder() -> str:
    """The folder that contains the package `tailboard`."""
    return str(ROOT.parents[1] if ROOT.name == "roles" else ROOT)


def sender_environment() -> dict[str, str]:
    """Our environment (which names proxies and certificates), without our own settings: they
    contain secrets."""
    return {name: value for name, value in os.environ.items() if not name.startswith("TAILBOARD_")}
