"""The values of a job's secret params: the file `secret-params` in its folder, encrypted.

The process that submits the job writes the file before the job exists. Each claim reads it. It is
deleted once the last attempt has started, and before the job ends in any other way. A job whose
values are gone never starts without them: it fails, and says why."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping

from tailboard.files import is_damage, read_small, write_new
from tailboard.job import Job
from tailboard.journal import parse_journal
from tailboard.sealed import Sealer

log = logging.getLogger("storage")

FILE = "secret-params"
NO_SHARED_KEY = (
    "with Redis, secret params need the setting TAILBOARD_SECRET_KEY; or use `secrets`, whose "
    "values are in files"
)


def seal_params(root: str, folder: str, values: Mapping[str, str]) -> None:
    """Write the values of a new job into its folder, and fsync them. Does nothing if there are
    none."""
    if values:
        encoded = {name: value.encode() for name, value in values.items()}
        write_new(f"{folder}/{FILE}", Sealer(root).seal(encoded))


def unseal_params(root: str, folder: str, job: Job) -> dict[bytes, bytes]:
    """The values of a claimed job, as its environment takes them. ValueError, whose message is a
    sentence, if they are missing or damaged."""
    if not job.secret_params:
        return {}
    names = ", ".join(job.secret_params)
    again = f"start {job.saved or 'its saved command'} again with {names}"
    try:
        found = Sealer(root).unseal(read_small(f"{folder}/{FILE}"))
    except FileNotFoundError:
        raise ValueError(f"its secret values are no longer stored; {again}") from None
    except (OSError, ValueError) as error:
        if isinstance(error, OSError) and not is_damage(error):
            raise
        raise ValueError(f"its secret values cannot be read: {error}; {again}") from None
    if found.keys() != set(job.secret_params):
        raise ValueError(f"its secret values do not fit its params; {again}")
    return {os.fsencode(name): value for name, value in found.items()}


def drop_params_if_started(folder: str, job: Job, attempt: int) -> None:
    """Delete the values once no further start of the job can need them: this `attempt` is its last
    and has started, which the `pid` in the journal proves. Before that line, a failed start puts
    the job back into its queue, and the same attempt starts again."""
    if not job.secret_params or attempt <= job.retries or not os.path.lexists(f"{folder}/{FILE}"):
        return
    if parse_journal(read_small(f"{folder}/journal"))[-1].pid is not None:
        drop_params(folder)


def drop_params(folder: str) -> None:
    """Delete the values in a job's folder, if there are any. An error is logged: a job must end
    even if it has replaced the file."""
    try:
        os.unlink(f"{folder}/{FILE}")
    except FileNotFoundError:
        pass
    except OSError as error:
        log.error("secret values remain path=%s reason=%r", f"{folder}/{FILE}", error.strerror)
