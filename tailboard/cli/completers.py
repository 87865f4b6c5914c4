"""What the shell completes: job IDs, saved commands, queues, named URLs and contexts.

Each completer is a `shell_complete` of click. If it fails, it completes nothing and prints no
error: the shell would show the error in the line that the user is typing."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr
from typing import Any

import click
from click.shell_completion import CompletionItem

from tailboard.cli.contexts import LOCAL, Contexts
from tailboard.cli.target import local_client, remote
from tailboard.client import Client
from tailboard.titles import short_title
from tailboard.values import CONTROL_RE

PATIENCE = 1.0  # seconds to wait for the server
MOST_JOBS = 50  # job IDs that are offered
ID_LENGTH = 24  # characters of a job's ID

Completer = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


def quiet(find: Callable[[str], Iterator[CompletionItem]]) -> Completer:
    """The completer that offers what `find` returns for the beginning of a word."""

    def complete(
        context: click.Context, _parameter: click.Parameter, begin: str
    ) -> list[CompletionItem]:
        try:
            with context.scope(cleanup=False), redirect_stderr(io.StringIO()):
                return [item for item in find(begin) if item.value.startswith(begin)]
        except (Exception, SystemExit):
            return []

    return complete


def quick_client() -> Client:
    """The client of the command that is being completed."""
    server = remote()
    if server is None:
        return local_client(writes=False)
    return Client(server.url, server.token, patience=PATIENCE)


def item(value: str, help_text: str) -> CompletionItem:
    """A value with one line about it, which zsh and fish show. Other users chose its text."""
    return CompletionItem(value, help=CONTROL_RE.sub(" ", help_text))


@quiet
def job_ids(begin: str) -> Iterator[CompletionItem]:
    """The newest jobs first."""
    query = {"id": begin[:ID_LENGTH] or None, "limit": MOST_JOBS}
    with quick_client() as client:
        for job in client.json("GET", "/jobs", "jobs", query=query)["jobs"]:
            title = short_title(job["name"], job["command"])
            yield item(job["id"], f"{job['status']}: {title}")


@quiet
def saved_names(_begin: str) -> Iterator[CompletionItem]:
    with quick_client() as client:
        for saved in client.saved():
            yield item(saved["saved"], short_title(None, saved["command"]))


@quiet
def queue_names(_begin: str) -> Iterator[CompletionItem]:
    with quick_client() as client:
        for queue in client.queues():
            paused = ", paused" if queue["paused"] else ""
            yield item(queue["queue"], f"{describe_queue(queue)}{paused}")


@quiet
def target_names(_begin: str) -> Iterator[CompletionItem]:
    with quick_client() as client:
        for target in client.notify_targets():
            yield item(target["name"], target["to"])


def describe_queue(queue: dict[str, Any]) -> str:
    """How many jobs of a queue wait and run, and how many can run at a time."""
    limit = "" if queue["limit"] is None else f" (limit {queue['limit']})"
    return f"{queue['queued']} queued, {queue['running']} running{limit}"


@quiet
def context_names(_begin: str) -> Iterator[CompletionItem]:
    for context in Contexts().by_name.values():
        yield item(context.name, context.url)
    yield item(LOCAL, "the jobs folder")
