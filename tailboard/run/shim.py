"""The shim: the shell that outlives the worker and writes a job's exit code."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from typing import Any

from tailboard.folder.claim import Claim
from tailboard.run.script import command_words

SHELL = "/bin/sh"  # the program that runs the shim
SHIM_PATH = b"/usr/bin:/bin"  # the shim's PATH, to find `sleep`

# The shim lets a command outlive the worker. Its standard input is the locked journal of the job:
# once the shim is dead, the lock is free. Its standard error is the log. Its standard output is its
# gate, a pipe from which it reads a line before it does anything, so that it can start while its
# claim is being written to the disk. If the worker dies meanwhile, the pipe ends, and so does the
# shim. The traps are no-ops instead of "ignore", which the command would inherit. If a full disk
# refuses a line, the shim tries again until the line is written. Its first argument, made by
# `shim_environment`, sets the environment of the command and runs it. The command inherits neither
# the journal nor the gate nor any of our variables, and the shell's messages about signals do not
# reach the log.
SHIM = r"""trap : TERM INT HUP; exec 3>&2 2>/dev/null
read -r _ <&1 || exit
until printf '\n{"pid": %d}\n' $$ >&0; do sleep 1; done
(eval "$1") </dev/null >&3 2>&3 3>&-
code=$?; until printf '\n{"exit": %d}\n' $code >&0; do sleep 1; done
"""
# They mark the processes of a job and say where its files are.
JOB_VARIABLES = {"JOB_ID", "JOB_ATTEMPT", "JOB_STORAGE", "JOB_FILES"}
DETACHED = "TAILBOARD_DETACHED"  # marks a worker that a job has started and that outlives it
# Variables that have no effect on a shell, so the shim can have them, too.
SHARED_VARIABLES = (*map(os.fsencode, sorted(JOB_VARIABLES)), b"PWD")
# The variables that a shell can export: identifiers that are not read-only and whose values do not
# change by themselves, in dash, bash from 3.2 on (which macOS has) and busybox ash.
EXPORTED_RE = re.compile(
    rb"(?!(?:BASH\w*|SHELLOPTS|E?UID|PPID|GROUPS|DIRSTACK|FUNCN(?:AME|EST)|PIPESTATUS|S?RANDOM"
    rb"|SECONDS|EPOCH(?:SECONDS|REALTIME)|LINENO|HISTCMD|OPTIND|IFS|COMP_WORDBREAKS|EXECIGNORE)\Z)"
    rb"[A-Za-z_][A-Za-z0-9_]*"
)
LINKER_VARIABLES = (b"LD_", b"DYLD_", b"GLIBC_TUNABLES")  # they affect every program
ENV_PROGRAM = b"/usr/bin/env --"


def spawn(
    claim: Claim, env: Mapping[bytes, bytes], limit: Callable[[Claim, int], None]
) -> subprocess.Popen[bytes]:
    """Start the shim of a claimed job, whose command gets `env`, and open its gate once the claim
    is durable. So the disk and the start of the shim take their time in parallel. Before that,
    `limit` applies the job's limits to the shim, whose pid it gets. OSError, ValueError or
    TypeError if the job cannot start; then nothing of it has run."""
    gate, opener = os.pipe()
    try:
        process = start_shim(claim, env, gate)
    except BaseException:
        os.close(opener)
        raise
    finally:
        os.close(gate)
    try:
        limit(claim, process.pid)
        claim.make_durable()
        with suppress(BrokenPipeError):  # it was killed: `reap` finds that it never started
            os.write(opener, b"\n")
    except (OSError, ValueError):
        os.close(opener)
        process.wait()  # it ends because its gate is closed
        raise
    os.close(opener)
    return process


def start_shim(claim: Claim, env: Mapping[bytes, bytes], gate: int) -> subprocess.Popen[bytes]:
    """A shim that waits at this gate, the reading end of a pipe."""
    words = command_words(claim)
    with claim.open_log_for_append() as out:
        return subprocess.Popen(
            **shim_options(words, env),
            stdin=claim.shim_input(),
            stdout=gate,
            stderr=out,
            cwd=claim.job.cwd,
            start_new_session=True,
        )


def shim_options(words: Sequence[str], env: Mapping[bytes, bytes]) -> dict[str, Any]:
    """Options of Popen for a shim that runs a program with its arguments (`words`) in this
    environment. ValueError if the program cannot get that environment."""
    text, own = shim_environment(env)
    if ENV_PROGRAM in text and "=" in words[0]:
        raise ValueError("the program's name contains '=', which `env` takes for a variable")
    arguments = ["/bin/sh", "-c", SHIM, "tailboard", text, *words]
    return {"args": arguments, "executable": SHELL, "env": own}


def shim_environment(env: Mapping[bytes, bytes]) -> tuple[bytes, dict[bytes, bytes]]:
    """(the script that the shim evaluates to run its command in `env`, the shim's environment).

    Nothing in `env` may act on the shim's shell: functions, options or libraries could make it run
    the command repeatedly, or fail to record its end. So the shim gets each value under a neutral
    name, TAILBOARD_0 and so on. The script contains only names, and exports the values under their
    own names just before the command starts. The program `env` sets the few variables that a shell
    cannot export, which takes another exec. ValueError for a name that no variable can have."""
    own = {name: env[name] for name in SHARED_VARIABLES if name in env}
    private = [name for name in env if name not in SHARED_VARIABLES]
    by_env = {name for name in private if not can_export(name)}
    if by_env:  # these variables must not affect the program `env` either
        by_env.update(name for name in private if name.startswith(LINKER_VARIABLES))
    inert = {name: b"TAILBOARD_%d" % number for number, name in enumerate(private)}
    for name in private:
        own[inert[name]] = b"%b=%b" % (name, env[name]) if name in by_env else env[name]
    if b"PATH" in env:
        own[b"PATH"] = SHIM_PATH
    steps = [b"shift"]
    if by_env:
        operands = b" ".join(b'"$%b"' % inert[name] for name in private if name in by_env)
        steps.append(b'set -- %b %b "$@"' % (ENV_PROGRAM, operands))
    if len(by_env) < len(private):
        exports = (b'%b="$%b"' % (name, inert[name]) for name in private if name not in by_env)
        steps.append(b"export " + b" ".join(exports))
    # bash exports SHLVL. `exec`: the command is a program, and not one of the shell's own.
    unset = [*inert.values()] if b"SHLVL" in env else [*inert.values(), b"SHLVL"]
    steps += [b"unset " + b" ".join(unset), b'exec "$@"']
    return b"; ".join(steps), own


@lru_cache(1_000)
def can_export(name: bytes) -> bool:
    """Can every shell export this variable unchanged? ValueError if no variable can have the
    name."""
    if not name or b"=" in name:
        raise ValueError(f"{os.fsdecode(name)!r} cannot be the name of an environment variable")
    return EXPORTED_RE.fullmatch(name) is not None
