"""The environment of jobs: what they inherit from their worker, and what is taken away from it.

A job gets the environment that the worker had at its start, without the variables that exist only
to start and to configure Tailboard. docs/running-jobs.md lists them."""

from __future__ import annotations

import os
import sys
from collections.abc import Collection, Mapping

from tailboard.env_file import HONCHO

DEFAULT_PATH = "/usr/local/bin:/usr/bin:/bin"  # of jobs, if the worker has none of its own


def base_environment(
    named: Collection[str], from_file: Collection[str], env: Mapping[str, str] = os.environ
) -> dict[bytes, bytes]:
    """What every job inherits from the environment `env` of its worker. `named`: the variables that
    jobs get in any case (TAILBOARD_JOB_ENV). `from_file`: the variables that `.env` has set. The
    result is encoded once, here, instead of by Popen for each job."""
    removed = {*start_variables(env), *from_file} - {*named}
    kept = {name: value for name, value in env.items() if name and name not in removed}
    if "PATH" not in named:
        kept["PATH"] = without_own_programs(kept.get("PATH", ""))
    # Without PYTHONUNBUFFERED, Python's output would appear late.
    return encode_environment(kept | {"PYTHONUNBUFFERED": "1"})


def start_variables(env: Mapping[str, str]) -> set[str]:
    """The variables that were set to start and to configure Tailboard."""
    found = {name for name in env if name.startswith("TAILBOARD_")}
    found.add("_")  # shells set it to the program that they start: our own
    if HONCHO in env:  # honcho sets PORT, too; if the user had set one, honcho has replaced it
        found |= {HONCHO, "PORT"}
    if is_own_folder(env.get("VIRTUAL_ENV", ""), sys.prefix):
        found |= {"VIRTUAL_ENV", "VIRTUAL_ENV_PROMPT", "PS1"}  # as its `activate` has set them
    return found


def without_own_programs(path: str) -> str:
    """A PATH without the programs of the virtual environment in which this worker runs, so that
    `python` in a job is the user's Python."""
    folders = path.split(os.pathsep)
    kept = [folder for folder in folders if not is_own_folder(folder, f"{sys.prefix}/bin")]
    return os.pathsep.join(kept) or DEFAULT_PATH


def is_own_folder(folder: str, own: str) -> bool:
    """Is this the folder `own` of the virtual environment in which this worker runs? Not if it runs
    in none."""
    is_virtual = sys.prefix != sys.base_prefix
    return is_virtual and folder != "" and os.path.realpath(folder) == os.path.realpath(own)


def encode_environment(env: Mapping[str, str]) -> dict[bytes, bytes]:
    """The same as bytes. TypeError or ValueError for a name or value that cannot be encoded."""
    return {os.fsencode(name): os.fsencode(value) for name, value in env.items()}
