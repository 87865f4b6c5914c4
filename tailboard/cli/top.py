"""`tailboard top`: the running jobs with what they use, again and again."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import click

from tailboard.cli.screen import Screen, has_terminal
from tailboard.cli.target import client, explain
from tailboard.cli.terminal import Commands, describe_error, echo_line, terminal_columns
from tailboard.cli.top_table import (
    KEYS,
    OutputRates,
    Sort,
    TopJob,
    as_object,
    screen_lines,
    sort_jobs,
    table_lines,
)
from tailboard.client import ApiError, Client
from tailboard.status import Status

POLL_INTERVAL = 2.0  # seconds
RATE_TIME = 1.0  # seconds between the two polls that the output rate of a single table needs
KEY_TIME = 0.25  # seconds after which the screen is drawn again: durations, the terminal's size

commands = Commands()


@commands.command("top")
@click.option(
    "--sort",
    type=click.Choice([str(sort) for sort in Sort]),
    default=str(Sort.CPU),
    show_default=True,
    help="What to sort by; the highest value comes first.",
)
@click.option("--once", is_flag=True, help="Print the jobs once.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per line, once.")
def top_command(sort: str, once: bool, as_json: bool) -> None:
    """Show the running jobs, like top: processor time (100% is a core), resident memory, output per
    second, for how long each has written nothing, and for how long it has been running. The keys c,
    m, o and s change the sorting, and q quits. If the output is not a terminal, the jobs are
    printed once."""
    poller = Poller(client())
    poller.poll()
    if has_terminal() and not once and not as_json:
        watch(poller, Sort(sort))
        return
    if poller.jobs:
        time.sleep(RATE_TIME)
        poller.poll()
    now = time.time()
    jobs = sort_jobs(poller.jobs, Sort(sort), now)
    if as_json:
        lines = [json.dumps(as_object(job, now)) for job in jobs]
    else:
        lines = table_lines(jobs, now, terminal_columns())
    for line in lines:
        echo_line(line)


class Poller:
    """Reads the running jobs, at first in the command's thread and then in its own."""

    def __init__(self, api: Client) -> None:
        self.api = api
        self.rates = OutputRates()
        self.jobs: list[TopJob] = []
        self.error: Exception | None = None  # of the last poll
        self.read_at = 0.0  # on the monotonic clock: when `jobs` was read

    def poll(self) -> None:
        """ApiError if the jobs cannot be read."""
        listed = [*self.api.jobs(status=str(Status.RUNNING))]
        self.read_at = time.monotonic()
        self.jobs = self.rates.read(listed, self.read_at)

    @contextmanager
    def in_thread(self) -> Iterator[None]:
        """Polls again and again. A server that does not respond then delays no key."""
        stopped = threading.Event()

        def run() -> None:
            while not stopped.wait(POLL_INTERVAL):
                try:
                    self.poll()
                    self.error = None
                except Exception as error:
                    self.error = error

        threading.Thread(target=run, daemon=True).start()
        try:
            yield
        finally:
            stopped.set()

    def note(self) -> str:
        """What is wrong; empty if all is well."""
        error = self.error
        if error is None:
            return ""
        age = time.monotonic() - self.read_at
        text = explain(error) if isinstance(error, ApiError) else describe_error(error)
        return f"{text}; the values are {age:.0f} s old"


def watch(poller: Poller, sort: Sort) -> None:
    """Show the jobs until the user quits."""
    with poller.in_thread(), Screen() as screen:
        while True:
            now, size = time.time(), screen.size()
            screen.draw(screen_lines(poller.jobs, sort, now, poller.note(), size))
            keys = screen.read_keys(KEY_TIME)
            if keys is None or "q" in keys.lower():
                return
            for key in keys.lower():
                sort = KEYS.get(key, sort)
