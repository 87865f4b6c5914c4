"""`flask save`, `flask start` and `flask saved`: the saved commands.

`flask run` is a command of Flask, so a saved command is run by `flask start`. `flask pause` is for
queues, so a schedule is paused by `flask saved pause`.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import click
from flask.cli import with_appcontext
from werkzeug.exceptions import HTTPException

from tailboard.cli.logs import follow_to_end
from tailboard.cli.options import job_options, parse_pairs, read_script
from tailboard.cli.terminal import AppCommands, LocalCommand, echo_line, find
from tailboard.cli.user import user_name
from tailboard.errors import WrongState
from tailboard.files import read_small, replace_file
from tailboard.saved_command import check_room, encode_command
from tailboard.web.actions import make_command, make_run, save_command
from tailboard.web.models import JobRequest
from tailboard.web.requests import parse_json
from tailboard.web.state import state
from tailboard.web.views import whole_commands

commands = AppCommands()


@commands.command("save")
@click.argument("name")
@click.argument("command", required=False)
@click.option(
    "--from", "job_id", metavar="ID", help="Save what this job ran, instead of giving COMMAND."
)
@click.option("--name", "label", help="Name for its jobs (default: NAME).")
@job_options
@click.option("--param", multiple=True, metavar="P[=DEFAULT]", help="Can be given several times.")
@click.option("--cron", help="Its schedule, such as '0 3 * * *' or @daily.")
@click.option("--zone", help="Time zone of the schedule, such as Europe/Berlin (default: UTC).")
def save_command_line(
    name: str,
    command: str | None,
    job_id: str | None,
    label: str | None,
    env: tuple[str, ...],
    param: tuple[str, ...],
    **given: Any,
) -> None:
    """Save COMMAND, a shell line (-: a script from standard input), as NAME. An existing command
    NAME is replaced. With --from, a variable of the job that becomes a param supplies the param's
    default."""
    if (command is None) == (job_id is None):
        raise click.ClickException("give either a COMMAND or --from ID")
    definition: dict[str, Any] = {
        "command": read_script() if command == "-" else command,
        "env": {},
    }
    if job_id is not None:
        job = state().store.get(find(job_id)["id"])
        definition = {field: getattr(job, field) for field in JobRequest.model_fields}
    definition |= {field: value for field, value in given.items() if value is not None}
    definition["name"] = label or definition.get("name")
    definition["env"] = definition["env"] | parse_pairs("--env", env)
    definition["params"] = [parse_param(text, definition["env"]) for text in param]
    is_new = save_command(name, definition)
    echo_line(f"{'saved' if is_new else 'replaced'} {name}")


def parse_param(text: str, env: dict[str, str]) -> dict[str, str | None]:
    """A param from `P=DEFAULT`, or from `P`: its default is then the value of P in `env`. P leaves
    `env`."""
    name, has_default, default = text.partition("=")
    known = env.pop(name, None)
    return {"name": name, "default": default if has_default else known}


@commands.command("start")
@click.argument("name")
@click.argument("values", nargs=-1, metavar="[P=VALUE]...")
@click.option("--follow", is_flag=True, help="Print the log; exit with the job's exit code.")
def start_command(name: str, values: tuple[str, ...], follow: bool) -> None:
    """Run the saved command NAME with these values, and print the job's ID."""
    job = state().store.submit(make_run(name, parse_pairs("a value", values), user_name()))
    echo_line(job.id, err=follow)
    if follow:
        follow_to_end(job.id)


@commands.group("saved", invoke_without_command=True)
@click.pass_context
@with_appcontext
def saved_commands(context: click.Context) -> None:
    """List saved commands, or manage them and their schedules with the commands below."""
    if context.invoked_subcommand is not None:
        return
    for shown in whole_commands():
        echo_line(describe_command(shown))


saved_commands.command_class = LocalCommand


def describe_command(shown: dict[str, Any]) -> str:
    """A saved command in one line: its name, schedule, last run, params and command."""
    times = "no times" if shown["cron"] is None else f"{shown['cron']} {shown['zone']}"
    if shown["paused"]:
        times += ", paused"
    elif shown["next_run"] is not None:
        times += f", next {time_in_zone(shown['next_run'], shown['zone'])}"
    last = shown["last_run"]
    ran = "never ran"
    if last is not None:
        ran = f"{last['status']} {time_in_zone(last['submitted_at'], shown['zone'])}"
    if shown["skipped"]["count"]:
        ran += f", {shown['skipped']['count']} skipped"
    params = " ".join(param["name"] for param in shown["params"])
    line = " ".join(str(shown["command"]).split())[:60]
    return "  ".join(
        part for part in (shown["saved"], f"({times})", f"({ran})", params, line) if part
    )


def time_in_zone(text: str, zone: str) -> str:
    """An RFC 3339 time as local time in a zone, to the minute, followed by the name of the zone."""
    if zone == "UTC":
        return f"{text[:16]}Z"
    return f"{datetime.fromisoformat(text).astimezone(ZoneInfo(zone)):%Y-%m-%d %H:%M} {zone}"


@saved_commands.command("delete")
@click.argument("name")
def delete_saved_command(name: str) -> None:
    """Delete a saved command and keep its jobs."""
    state().store.saved.delete(name)
    echo_line(name)


@saved_commands.command("pause")
@click.argument("name")
def pause_saved_command(name: str) -> None:
    """Pause a saved command's schedule; it can still be started by hand."""
    set_paused(name, True)


@saved_commands.command("resume")
@click.argument("name")
def resume_saved_command(name: str) -> None:
    """Resume a saved command's schedule, from now on."""
    set_paused(name, False)


def set_paused(name: str, paused: bool) -> None:
    command = state().store.saved.load(name)
    state().store.saved.save(replace(command, paused=paused))
    echo_line(name)


@saved_commands.command("export")
@click.argument("folder", type=click.Path(file_okay=False))
def export_command(folder: str) -> None:
    """Write each saved command to FOLDER/NAME.json, for example to keep it in git. Only you can
    read the files: `env` can contain secrets."""
    os.makedirs(folder, exist_ok=True)
    commands = {
        os.path.join(folder, f"{command.saved}.json"): command
        for command in state().store.saved.list()
    }
    for path in commands:
        if os.path.lexists(path) and not stat.S_ISREG(os.lstat(path).st_mode):
            raise click.ClickException(f"{path} is not a regular file: remove it first")
    for path, command in commands.items():
        replace_file(path, encode_command(command), private=True)
        echo_line(path)


@saved_commands.command("import")
@click.argument("folder", type=click.Path(exists=True, file_okay=False))
def import_command(folder: str) -> None:
    """Save each FOLDER/NAME.json, as written by `export`. If one is invalid, none is saved."""
    store = state().store
    names = sorted(name for name in os.listdir(folder) if re.fullmatch(r"[^.].*\.json", name))
    commands = [read_exported(os.path.join(folder, name)) for name in names]
    before = store.saved.list()
    sizes = {each.saved: len(encode_command(each)) for each in before}
    for name, definition in commands:
        sizes[name] = check_import(name, definition, sizes)
    known = {each.saved: each.definition() for each in before}
    for name, definition in commands:
        if known.get(name) == definition:
            echo_line(f"unchanged {name}")
            continue
        is_new = save_command(name, definition)
        echo_line(f"{'saved' if is_new else 'replaced'} {name}")


def check_import(name: str, definition: dict[str, Any], sizes: Mapping[str, int]) -> int:
    """The size of a definition in bytes. An error if there are too many saved commands or they are
    too large; `sizes` are those of all saved commands, by name."""
    size = len(encode_command(make_command(name, definition)))
    try:
        check_room(name, size, sizes)
    except (ValueError, WrongState) as error:
        raise click.ClickException(f"{name}: {error}") from None
    return size


def read_exported(path: str) -> tuple[str, dict[str, Any]]:
    """The name and the definition of the saved command in a file. An error names the file."""
    name = os.path.basename(path).removesuffix(".json")
    try:
        return name, make_command(name, parse_json(read_small(path))).definition()
    except OSError as error:
        why = "it is a symbolic link" if error.errno == errno.ELOOP else error.strerror
        raise click.ClickException(f"{path} cannot be read: {why}") from None
    except (ValueError, RecursionError) as error:
        raise click.ClickException(f"{path}: {error}") from None
    except HTTPException as error:
        raise click.ClickException(f"{path}: {error.description}") from None
