"""`tailboard notify`: the URLs that rules can name, and test messages."""

from __future__ import annotations

import sys

import click

from tailboard.cli.completers import target_names
from tailboard.cli.target import client
from tailboard.cli.terminal import Commands, echo_line
from tailboard.client import Client
from tailboard.notify_rules import check_target_name

STANDARD_INPUT = "-"
commands = Commands()


@commands.group("notify")
def notify_commands() -> None:
    """Name the URLs to which notifications are sent, and test them. Rules such as `--notify
    failed,lost=ops` then need no URL, which can contain a secret."""


@notify_commands.command("list")
def list_command() -> None:
    """List the named URLs. Only the beginning of a URL is shown."""
    targets = client().notify_targets()
    if not targets:
        echo_line("no URL has a name: `tailboard notify set NAME URL` names one", err=True)
    width = max((len(target["name"]) for target in targets), default=0)
    for target in targets:
        echo_line(f"{target['name']:{width}}  {target['to']}")


@notify_commands.command("set")
@click.argument("name", shell_complete=target_names)
@click.argument("url")
def set_command(name: str, url: str) -> None:
    """Name URL, an Apprise URL such as ntfys://… or mailtos://…, as NAME. If URL is -, it is read
    from standard input, so that it does not get into the history of the shell."""
    check_name(name)
    is_new = client(writes=True).set_notify_target(name, read_url(url))
    echo_line(f"{'saved' if is_new else 'replaced'} {name}")


@notify_commands.command("remove")
@click.argument("name", shell_complete=target_names)
def remove_command(name: str) -> None:
    """Remove the name of a URL."""
    check_name(name)
    server = client(writes=True)
    server.remove_notify_target(name)
    echo_line(name)
    for saved in commands_that_notify(server, name):
        echo_line(f"Note: the rules of {saved} still name it", err=True)


@notify_commands.command("test")
@click.argument("to", metavar="NAME|URL", shell_complete=target_names)
def test_command(to: str) -> None:
    """Send a test message to a named URL, or to a URL (-: read from standard input), and print the
    answer. Exits with 1 if the message was not accepted."""
    result = client().test_notification(read_url(to))
    if not result["ok"]:
        raise click.ClickException(f"{result['to']}: {result['answer']}")
    echo_line(f"{result['to']}: {result['answer']}")


def check_name(name: str) -> None:
    """An error if no URL can have this name: not every text can be part of a path."""
    try:
        check_target_name(name)
    except ValueError as error:
        raise click.ClickException(str(error)) from None


def commands_that_notify(server: Client, name: str) -> list[str]:
    """The saved commands whose rules have this name."""
    return [
        command["saved"]
        for command in server.saved()
        if any(rule["to"] == name for rule in command["notify"] or ())
    ]


def read_url(url: str) -> str:
    """The URL itself, or for `-` the first line of standard input."""
    if url != STANDARD_INPUT:
        return url
    if sys.stdin.isatty():
        line: str = click.prompt("URL", hide_input=True, err=True)
    else:
        line = sys.stdin.buffer.readline().decode(errors="replace")
    return line.strip()
