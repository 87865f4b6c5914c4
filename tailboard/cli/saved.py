"""`tailboard save`, `start` and `saved`: the saved commands.

`flask run` is a command of Flask, so a saved command is run by `start`. `pause` is for queues, so a
schedule is paused by `saved pause`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import click

from tailboard.cli.completers import job_ids, saved_names
from tailboard.cli.exports import export_command, import_command
from tailboard.cli.jobs import print_submitted
from tailboard.cli.options import follow_options, job_options, parse_pairs, read_script
from tailboard.cli.saved_text import describe_command, show_lines
from tailboard.cli.secret_values import read_secrets
from tailboard.cli.suggestions import did_you_mean
from tailboard.cli.target import client
from tailboard.cli.terminal import Commands, WrongUsage, echo_line, find, printable, submitter
from tailboard.client import ApiError
from tailboard.job import JobOptions
from tailboard.job_option import options_of
from tailboard.key_template import plain_template
from tailboard.saved_command import SAVED_NAMES, SAVED_RE

commands = Commands()


@contextmanager
def suggesting_a_name(name: str) -> Iterator[None]:
    """If there is no saved command with this name, the error suggests the nearest one."""
    try:
        if not SAVED_RE.fullmatch(name):  # not every text can be part of a URL
            raise ApiError(f"there is no saved command {name[:80]!r}", 404)
        yield
    except ApiError as error:
        if error.status != 404:
            raise
        known = [command["saved"] for command in client().saved()]
        message = f"{error}{did_you_mean(name, known)}"
        raise click.ClickException(printable(message)) from None


# --- save -----------------------------------------------------------------------------------------


@commands.command("save")
@click.argument("name", shell_complete=saved_names)
@click.argument("command", required=False)
@click.option(
    "--from",
    "job_id",
    metavar="ID",
    shell_complete=job_ids,
    help="Save what this job ran, instead of giving COMMAND.",
)
@click.option("--name", "job_name", help="Name for its jobs (default: NAME).")
@job_options
@click.option(
    "--param",
    "params",
    multiple=True,
    metavar="P[=DEFAULT]",
    help="A variable that each run can set. Can be given several times.",
)
@click.option(
    "--secret-param",
    "secret_params",
    multiple=True,
    metavar="P",
    help="A variable whose value each run must give, and which is never stored in plain text. Can "
    "be given several times.",
)
@click.option(
    "--choice",
    "choices",
    multiple=True,
    metavar="P=A,B,C",
    help="The values that the param P can have. Can be given several times, also for one param.",
)
@click.option(
    "--label",
    "labels",
    multiple=True,
    metavar="P=TEXT",
    help="A description of the param P for people. Can be given several times.",
)
@click.option("--cron", help="Its schedule, such as '0 3 * * *' or @daily.")
@click.option("--zone", help="Time zone of the schedule, such as Europe/Berlin (default: UTC).")
@click.option(
    "--then",
    metavar="NAME",
    shell_complete=saved_names,
    help="The saved command that starts after each run that has succeeded.",
)
@click.option("--ping", metavar="URL", help="A URL to call when a run starts and when it ends.")
def save_command_line(
    name: str,
    command: str | None,
    job_id: str | None,
    job_name: str | None,
    env: tuple[str, ...],
    params: tuple[str, ...],
    secret_params: tuple[str, ...],
    choices: tuple[str, ...],
    labels: tuple[str, ...],
    **given: Any,
) -> None:
    """Save COMMAND, a shell line (-: a script from standard input), as NAME. An existing command
    NAME is replaced. With --from, a variable of the job that becomes a param supplies the param's
    default."""
    if (command is None) == (job_id is None):
        raise WrongUsage("give either a COMMAND or --from ID")
    if not SAVED_RE.fullmatch(name):
        raise click.ClickException(f"the name of a saved command must be {SAVED_NAMES}")
    server = client(writes=True)
    definition: dict[str, Any] = {
        "command": read_script() if command == "-" else command,
        "env": {},
    }
    job = None if job_id is None else find(job_id)
    if job is not None:
        definition = definition_of_job(job)
    definition |= {field: value for field, value in given.items() if value is not None}
    definition["name"] = job_name or definition.get("name")
    definition["env"] = definition["env"] | parse_pairs("--env", env)
    definition["params"] = parse_params(params, secret_params, choices, labels, definition["env"])
    is_new = server.save(name, definition, like=None if job is None else job["id"])
    echo_line(f"{'saved' if is_new else 'replaced'} {name}")


def definition_of_job(job: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a job, as the definition of a saved command."""
    definition = {field: job[field] for field in options_of(JobOptions) if field in job}
    if job.get("key") is not None:
        definition["key"] = plain_template(job["key"])
    return definition


def parse_params(
    params: Sequence[str],
    secret_params: Sequence[str],
    choices: Sequence[str],
    labels: Sequence[str],
    env: dict[str, str],
) -> list[dict[str, Any]]:
    """The params as the API takes them. A param leaves `env`."""
    found = [parse_param(text, env) for text in params]
    for name in secret_params:
        env.pop(name, None)
        found.append({"name": name, "secret": True})
    known = {param["name"]: param for param in found}
    parts: list[tuple[str, str, Mapping[str, Any]]] = [
        ("--choice", "choices", parse_choices(choices)),
        ("--label", "label", parse_pairs("--label", tuple(labels))),
    ]
    for option, field, values in parts:
        for name, value in values.items():
            if name not in known:
                raise click.ClickException(f"{option}: there is no --param {name[:80]}")
            known[name][field] = value
    return found


def parse_param(text: str, env: dict[str, str]) -> dict[str, Any]:
    """A param from `P=DEFAULT`, or from `P`: its default is then the value of P in `env`. P leaves
    `env`."""
    name, has_default, default = text.partition("=")
    known = env.pop(name, None)
    return {"name": name, "default": default if has_default else known}


def parse_choices(given: Sequence[str]) -> dict[str, list[str]]:
    """The choices for each param, from texts such as P=A,B,C."""
    choices: dict[str, list[str]] = {}
    for text in given:
        name, has_values, values = text.partition("=")
        if not has_values:
            raise click.ClickException(f"--choice must be P=A,B,C, not {text[:80]!r}")
        choices.setdefault(name, []).extend(values.split(","))
    return choices


# --- start ----------------------------------------------------------------------------------------


@commands.command("start")
@click.argument("name", shell_complete=saved_names)
@click.argument("values", nargs=-1, metavar="[P=VALUE]...")
@click.option(
    "--secret",
    "secrets",
    multiple=True,
    metavar="P=-",
    help="Read the value of the secret param P from standard input. On a terminal, the command "
    "asks for each secret param.",
)
@follow_options
def start_command(
    name: str, values: tuple[str, ...], secrets: tuple[str, ...], follow: bool, wait: bool
) -> None:
    """Run the saved command NAME with these values, and print the job's ID."""
    given = parse_pairs("a value", values)
    server = client(writes=True)
    with suggesting_a_name(name):
        params = server.saved_command(name)["params"]
        given |= read_secrets(name, params, given, secrets)
        job = server.run_saved(name, given, submitted_by=submitter())
    print_submitted(job, follow, wait)


# --- saved ----------------------------------------------------------------------------------------


@commands.group("saved", invoke_without_command=True)
@click.pass_context
def saved_commands(context: click.Context) -> None:
    """List saved commands, or manage them and their schedules with the commands below."""
    if context.invoked_subcommand is not None:
        return
    for command in client().saved():
        echo_line(describe_command(command))


saved_commands.add_command(export_command)
saved_commands.add_command(import_command)


@saved_commands.command("show")
@click.argument("name", shell_complete=saved_names)
@click.option("--json", "as_json", is_flag=True, help="Print it as one JSON object.")
def show_saved_command(name: str, as_json: bool) -> None:
    """Show a saved command: what it runs, its params, its schedule and its last runs."""
    with suggesting_a_name(name):
        command = client().saved_command(name)
    for line in [json.dumps(command)] if as_json else show_lines(command):
        echo_line(line)


@saved_commands.command("delete")
@click.argument("name", shell_complete=saved_names)
def delete_saved_command(name: str) -> None:
    """Delete a saved command and keep its jobs."""
    server = client(writes=True)
    with suggesting_a_name(name):
        server.delete_saved(name)
    echo_line(name)


@saved_commands.command("pause")
@click.argument("name", shell_complete=saved_names)
def pause_saved_command(name: str) -> None:
    """Pause a saved command's schedule; it can still be started by hand."""
    set_paused(name, True)


@saved_commands.command("resume")
@click.argument("name", shell_complete=saved_names)
def resume_saved_command(name: str) -> None:
    """Resume a saved command's schedule, from now on."""
    set_paused(name, False)


def set_paused(name: str, paused: bool) -> None:
    server = client(writes=True)
    with suggesting_a_name(name):
        server.pause_saved(name, paused)
    echo_line(name)
