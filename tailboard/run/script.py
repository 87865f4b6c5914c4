"""Commands that begin with `#!`: the program that such a first line names runs them as a file."""

from __future__ import annotations

import os
import re

from tailboard.folder.claim import Claim

SHELL_WORDS = ["/bin/sh", "-c"]  # the program that runs a shell line


def command_words(claim: Claim) -> list[str]:
    """The program that a claimed job runs, and its arguments. If its command is a script, this
    writes the script's file. ValueError if the script's interpreter cannot run; OSError if the file
    cannot be written."""
    command = claim.job.command
    if not isinstance(command, str):
        return command
    if not command.startswith("#!"):
        return [*SHELL_WORDS, command]
    interpreter, *argument = parse_interpreter(command)
    program = find_interpreter(interpreter, claim.job.cwd)
    return [program, *argument, claim.write_script(os.fsencode(command))]


def parse_interpreter(script: str) -> list[str]:
    """The interpreter that the first line of a script names, and its argument, if any. Everything
    after the interpreter is one argument, as for the kernel (execve(2)). The kernel does not start
    the script itself, because it refuses to if the jobs folder is mounted with noexec. ValueError
    if the line names no interpreter."""
    line = script.removeprefix("#!").partition("\n")[0].strip(" \t")
    if not line:
        raise ValueError("the script's first line, #!, does not name an interpreter")
    if line.endswith("\r"):
        raise ValueError(
            f"the script's interpreter {line!r:.200} does not exist: "
            "end its lines with LF, not CR LF"
        )
    return re.split("[ \t]+", line, maxsplit=1)


def find_interpreter(interpreter: str, cwd: str | None) -> str:
    """The path of an interpreter, which can be relative to the job's working folder. ValueError if
    it cannot be run."""
    path = os.path.join(cwd or "", interpreter)
    if "/" not in interpreter:
        raise ValueError(
            f"the script's interpreter must be a path, such as /usr/bin/env {interpreter:.200}, "
            f"not {interpreter:.200}"
        )
    if not os.path.exists(path):
        raise ValueError(f"the script's interpreter {interpreter:.200} does not exist")
    if not os.access(path, os.X_OK) or os.path.isdir(path):
        raise ValueError(f"the script's interpreter {interpreter:.200} is not executable")
    return path
