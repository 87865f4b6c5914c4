"""Saved commands as text for people. A command's times are shown in the zone of its schedule."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from tailboard.cli.notify_text import rule_lines
from tailboard.cli.terminal import hanging_lines
from tailboard.job import JobOptions
from tailboard.job_option import Option, options_of
from tailboard.sizes import show_size
from tailboard.titles import command_text

LINE_LENGTH = 60  # characters of a command in a list


def describe_command(shown: dict[str, Any]) -> str:
    """A saved command in one line: its name, schedule, last run, params and command."""
    last = shown["last_run"]
    ran = "never ran"
    if last is not None:
        ran = f"{last['status']} {time_in_zone(last['submitted_at'], shown['zone'])}"
    if shown["skipped"]["count"]:
        ran += f", {shown['skipped']['count']} skipped"
    params = " ".join(param["name"] for param in shown["params"])
    line = " ".join(str(shown["command"]).split())[:LINE_LENGTH]
    times = describe_schedule(shown)
    then = f"then {shown['then']}" if shown.get("then") else ""
    return "  ".join(
        part for part in (shown["saved"], f"({times})", f"({ran})", params, then, line) if part
    )


def describe_schedule(shown: dict[str, Any]) -> str:
    """The schedule of a saved command, and its next run or that it is paused."""
    times = "no times" if shown["cron"] is None else f"{shown['cron']} {shown['zone']}"
    if shown["paused"]:
        return f"{times}, paused"
    if shown["next_run"] is None:
        return times
    return f"{times}, next {time_in_zone(shown['next_run'], shown['zone'])}"


def show_lines(shown: dict[str, Any]) -> Iterator[str]:
    """The lines of `tailboard saved show`: the fields that are set."""
    rows = [
        ("saved", shown["saved"]),
        *option_rows(shown),
        *(("param", describe_param(param)) for param in shown["params"]),
        ("schedule", describe_schedule(shown)),
        *([("then", shown["then"])] if shown.get("then") else []),
        *([("ping", shown["ping"])] if shown.get("ping") else []),
        *skipped_rows(shown),
        ("saved at", time_in_zone(shown["saved_at"], shown["zone"])),
        *(("run", describe_run(run, shown["zone"])) for run in shown["runs"]),
    ]
    width = max(len(label) for label, _ in rows)
    for label, text in rows:
        yield from hanging_lines(f"{label:{width}}  ", text)


def option_rows(shown: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """The options of its jobs that are set; each variable of `env` has a row of its own."""
    for name, option in options_of(JobOptions).items():
        value: Any = shown.get(name)
        if is_unset(value, option):
            continue
        if name == "notify":
            yield from ((name, line) for line in rule_lines(shown["notify"]))
        elif name == "command":
            yield name, command_text(value)
        elif option.kind == "bytes":
            yield name.replace("_", " "), show_size(value)
        elif name == "secrets":
            if value:
                yield name, " ".join(value)
        elif isinstance(value, dict):
            yield from ((name, f"{variable}={text}") for variable, text in value.items())
        else:
            yield name.replace("_", " "), "yes" if value is True else str(value)


def is_unset(value: Any, option: Option) -> bool:
    """Has this value of an option no effect? `nice` 0 has one: its default is the worker's."""
    return value in (None, "", {}) or (value == 0 and value == option.default)


def describe_param(param: dict[str, Any]) -> str:
    """A param: its name, default, choices and label. Values are quoted as in a shell."""
    default = param["default"]
    parts = [param["name"] if default is None else f"{param['name']}={shlex.quote(default)}"]
    if default is None:
        parts.append("secret" if param.get("secret") else "required")
    if param["choices"]:
        parts.append(f"one of {', '.join(map(shlex.quote, param['choices']))}")
    if param["label"]:
        parts.append(param["label"])
    return "  ".join(parts)


def skipped_rows(shown: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """How many scheduled runs were skipped, and why; nothing if none was."""
    skipped = shown["skipped"]
    if skipped["count"]:
        last = time_in_zone(skipped["last_at"], shown["zone"])
        yield "skipped", f"{skipped['count']}, last at {last} while {skipped['for_job']} was active"


def describe_run(run: dict[str, Any], zone: str) -> str:
    """One of the last runs: its ID, status, exit code and when it was submitted."""
    code = "" if run["exit_code"] is None else run["exit_code"]
    submitted = time_in_zone(run["submitted_at"], zone)
    return f"{run['id']}  {run['status']:9}  {code!s:>3}  {submitted}"


def time_in_zone(text: str, zone: str) -> str:
    """An RFC 3339 time as local time in a zone, to the minute, followed by the name of the zone. In
    UTC if this machine does not know the zone."""
    if zone == "UTC":
        return f"{text[:16]}Z"
    try:
        local = datetime.fromisoformat(text).astimezone(ZoneInfo(zone))
    except (KeyError, ValueError):
        return f"{text[:16]}Z"
    return f"{local:%Y-%m-%d %H:%M} {zone}"
