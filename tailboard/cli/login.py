"""`tailboard login`, `logout` and `whoami`: the servers that commands work on, and their tokens."""

from __future__ import annotations

import os
import sys
from typing import Any
from urllib.parse import urlsplit

import click

from tailboard import __version__
from tailboard.cli import target
from tailboard.cli.completers import context_names
from tailboard.cli.contexts import NAMES, Context, Contexts, change_contexts, find_context, is_name
from tailboard.cli.target import CHOSEN, check_url, client, remote
from tailboard.cli.terminal import Commands, WrongUsage, echo_line
from tailboard.client import ApiError, Client
from tailboard.client_http import is_this_machine
from tailboard.settings import is_redis
from tailboard.values import CONTROL_RE

# In the environment, they take precedence over what `login` stores.
VARIABLES = ("TAILBOARD_API", "TAILBOARD_TOKEN", "TAILBOARD_CONTEXT", "TAILBOARD_STORAGE")
ROLES = {
    "all": "all: may do everything",
    "run": "run: may read, start saved commands, and cancel and rerun their jobs",
    "read": "read: may only read",
}
commands = Commands()


# --- login ----------------------------------------------------------------------------------------


@commands.command("login")
@click.argument("url", required=False)
@click.option("--as", "name", metavar="NAME", help="The name for --on (default: the host).")
@click.option("--list", "is_list", is_flag=True, help="List the servers; * marks the current one.")
def login_command(url: str | None, name: str | None, is_list: bool) -> None:
    """Let all later commands work on the server at URL. Asks for the token, and stores it in a file
    that only you can read. If standard input is not a terminal, its first line is the token."""
    if CHOSEN in click.get_current_context().meta:
        raise WrongUsage("--on selects a server that is stored already; --as names a new one")
    if is_list and (url or name):
        raise WrongUsage("give either --list or a URL, not both")
    if is_list:
        list_contexts()
    elif url is None:
        raise WrongUsage("give the URL of a server, such as https://ci.example.org, or --list")
    else:
        log_in(check_url("URL", url), name)


def log_in(url: str, given_name: str | None) -> None:
    """Test a token for a server and make the server the current context."""
    name = context_name(url, given_name)
    check_other_server(Contexts(), name, url, given_name)  # before the user types a token
    warn_if_unencrypted(url)
    token, me = ask_for_token(url)
    with change_contexts() as contexts:
        contexts.by_name[name] = Context(name, url, token)
        contexts.current = name
    identity = me["name"] or describe_nameless(token)
    echo_line(f"logged in to {url} as {identity} (context {name})")
    for variable in VARIABLES:
        if os.environ.get(variable) not in (None, "", name):
            echo_line(f"Note: {variable} is set, and takes precedence over this login", err=True)


def context_name(url: str, given_name: str | None) -> str:
    """The name for the context of a new login."""
    name = given_name or urlsplit(url).hostname or ""
    if given_name is None and not is_name(name):  # an IPv6 address
        raise WrongUsage("--as must name this server, since its host is not valid as a name")
    if not is_name(name):
        raise WrongUsage(f"--as must be {NAMES}, not {name!r}")
    return name


def check_other_server(contexts: Contexts, name: str, url: str, given_name: str | None) -> None:
    """An error if the host's name is already that of another server, such as one at another
    port."""
    known = contexts.by_name.get(name)
    if known is not None and known.url != url and given_name is None:
        raise click.ClickException(
            f"context {name} is the server at {known.url}: choose another name with --as"
        )


def warn_if_unencrypted(url: str) -> None:
    parts = urlsplit(url)
    if parts.scheme == "http" and not is_this_machine(parts.hostname or ""):
        message = "http:// sends the token unencrypted, so anyone on the way can read it"
        echo_line(f"Warning: {message}", err=True)


def ask_for_token(url: str) -> tuple[str, dict[str, Any]]:
    """(the token, the answer of GET /me) for a server. The token is empty if it needs none."""
    with Client(url, "", patience=target.PATIENCE) as anonymous:
        try:
            return "", anonymous.me()
        except ApiError as error:
            if error.status != 401:
                raise
    token = read_token(url)
    with Client(url, token, patience=target.PATIENCE) as known:
        try:
            return token, known.me()
        except ApiError as error:
            if error.status != 401:
                raise
    raise click.ClickException(f"the server at {url} refused this token, so it was not stored")


def read_token(url: str) -> str:
    """The token that the user types, or the first line of standard input."""
    if sys.stdin.isatty():
        echo_line("`tailboard token NAME`, on the server, makes a token.", err=True)
        line: str = click.prompt(f"Token for {url}", hide_input=True, err=True)
    else:
        line = sys.stdin.buffer.readline().decode(errors="replace")
    token = line.strip()
    if not token:
        raise click.ClickException(f"the server at {url} needs a token, and none was given")
    if CONTROL_RE.search(token):
        raise click.ClickException("the token contains control characters")
    return token


def list_contexts() -> None:
    contexts = Contexts()
    if not contexts.by_name:
        echo_line("no servers: `tailboard login URL` adds one", err=True)
    width = max(map(len, contexts.by_name), default=0)
    for context in contexts.by_name.values():
        mark = "*" if context.name == contexts.current else " "
        echo_line(f"{mark} {context.name:{width}}  {context.url}")


# --- logout ---------------------------------------------------------------------------------------


@commands.command("logout")
@click.argument("name", required=False, shell_complete=context_names)
def logout_command(name: str | None) -> None:
    """Delete the stored token of the context NAME (default: the current one)."""
    chosen = click.get_current_context().meta.get(CHOSEN)
    if name and chosen:
        raise WrongUsage("give either NAME or --on, not both")
    name = name or chosen or os.environ.get("TAILBOARD_CONTEXT") or Contexts().current
    if name is None:
        raise click.ClickException("you are not logged in to a server")
    with change_contexts() as contexts:
        context = find_context(contexts, name)
        del contexts.by_name[name]
        if contexts.current == name:
            contexts.current = None
    echo_line(f"logged out of {context.url} (context {name})")


# --- whoami ---------------------------------------------------------------------------------------


@commands.command("whoami")
def whoami_command() -> None:
    """Show the server or the folder that commands work on, its version, and your name and role."""
    server = remote()
    me = client().me()
    version = me.get("version", "unknown")
    if version != __version__:
        version = f"{version} (this command: {__version__})"
    rows = {"server": server.url} if server else {"storage": describe_storage()}
    rows |= {
        "version": version,
        "name": me["name"] or describe_nameless(server.token if server else ""),
        "role": describe_role(me),
        "context": (server.context or "none: TAILBOARD_API is set") if server else "none",
    }
    for name, value in rows.items():
        echo_line(f"{name:7}  {value}")


def describe_storage() -> str:
    """The folder, or the host of Redis, that commands without a server work on."""
    storage: str = target.load_app().extensions["tailboard"].settings.storage
    if is_redis(storage):
        return f"Redis on {urlsplit(storage).hostname}"  # the URL can contain a password
    return os.path.abspath(storage)


def describe_role(me: dict[str, Any]) -> str:
    """What this visitor may do. Earlier versions have no roles: each token allows everything."""
    role = str(me.get("role", "all"))
    return ROLES.get(role, role)


def describe_nameless(token: str) -> str:
    """Who a visitor without a name is."""
    return "anyone with the shared token" if token else "anyone: the server needs no token"
