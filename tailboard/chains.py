"""`then`: the saved command that starts after each run of another one that has succeeded."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace

from tailboard.errors import CommandNotFound
from tailboard.job import AfterStatus, Job
from tailboard.keys import own_key
from tailboard.saved_command import SavedCommand

log = logging.getLogger("storage")

LoadCommand = Callable[[str], SavedCommand]  # raises CommandNotFound
ThenOf = Callable[[str], str | None]  # the `then` of a saved command; None if there is none


def check_then(command: SavedCommand, load: LoadCommand) -> None:
    """ValueError if the saved command that `command.then` names does not exist, has secret params,
    or would lead back to `command`. A `then` that is already stored is always accepted: it must be
    possible to pause a command whose next one was deleted. `load` returns what is stored."""
    then_of = stored_then(load)
    if command.then is None or command.then == then_of(command.saved):
        return
    try:
        check_chain(command.saved, command.then, then_of)
        names = load(command.then).secret_names()
        if names:
            raise ValueError(
                f"{command.then} needs {', '.join(names)}, which is secret, for each run"
            )
    except (ValueError, CommandNotFound) as error:
        raise ValueError(f"then: {error}") from None


def stored_then(load: LoadCommand) -> ThenOf:
    def then_of(name: str) -> str | None:
        try:
            return load(name).then
        except CommandNotFound:
            return None

    return then_of


def check_chain(name: str, then: str, then_of: ThenOf) -> None:
    """ValueError if the chain that begins with `then` leads back to this saved command."""
    chain = chain_from(then, then_of)
    if name in chain:
        shown = ", ".join([name, *chain[: chain.index(name) + 1]])
        raise ValueError(f"{name} would start itself again ({shown})")


def chain_from(name: str, then_of: ThenOf) -> list[str]:
    """The names of the saved commands that start one after another, beginning with this one, up to
    the first one that does not exist, or before one that is already in the chain."""
    chain: list[str] = []
    following: str | None = name
    while following is not None and following not in chain:
        chain.append(following)
        following = then_of(following)
    return chain


def next_key(job_id: str) -> str:
    """The key of the run that follows this job: it makes sure that only one does."""
    return own_key(f"then:{job_id}")


def next_job(job: Job, load: LoadCommand) -> Job:
    """The run that follows this job, which has succeeded. It waits until that is recorded, so it
    can have the same key; a `job` that is deleted by then does not matter. CommandNotFound or
    ValueError if there can be none."""
    assert job.then is not None
    command = load(job.then)
    if command.then is not None:  # a person may have edited the files
        check_chain(command.saved, command.then, stored_then(load))
    names = [param.name for param in command.params]
    values = {name: job.values[name] for name in names if name in job.values}
    return replace(
        command.job(values),
        after=[job.id],
        after_status=AfterStatus.ENDED,
        submitted_by=job.submitted_by,
        submit_reason=f"after {job.id} succeeded",
    )


def not_started(job: Job, error: Exception) -> str:
    """Log why no run follows this job, which has succeeded; returns that as its reason."""
    reason = f"{(job.then or '')[:80]} did not start: {error}"
    log.warning("no next job=%s reason=%r", job.id, reason)
    return reason
