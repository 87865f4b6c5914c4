"""`tailboard access` and `tailboard token`: show what each route requires, and manage tokens."""

from __future__ import annotations

import os
import secrets

import click

from tailboard.access_role import Role
from tailboard.audit import Action, new_entry
from tailboard.cli.terminal import AppCommands, echo_line
from tailboard.cli.user import user_name
from tailboard.proxy_headers import USER_NAME, USER_NAMES
from tailboard.settings import is_redis
from tailboard.web.audit import command_actor, store_line
from tailboard.web.operation import Access
from tailboard.web.operations import OPERATIONS
from tailboard.web.state import state
from tailboard.web.tokens import (
    TokenFile,
    add_token,
    change_role,
    has_token,
    replace_token,
    revoke_token,
)

TOKEN_BYTES = 32
commands = AppCommands()


@commands.command("access")
def access_command() -> None:
    """List the routes of the API: method, path, the least role, and what a request must present.
    With the role `run`, only jobs that came from a saved command can be cancelled or rerun. Without
    TAILBOARD_TOKEN, TAILBOARD_TOKENS and TAILBOARD_USER_HEADER the API asks for neither token nor
    ticket; it then serves only programs on its own machine."""
    width = max(len(path) for _, path in OPERATIONS)
    for (method, path), operation in OPERATIONS.items():
        role = "-" if operation.access is Access.OPEN else operation.role
        echo_line(f"{method.upper():6}  {path:{width}}  {role:4}  {operation.access}")


@commands.command("token")
@click.argument("name")
@click.option("--replace", is_flag=True, help="Replace NAME's token, which stops working.")
@click.option("--revoke", is_flag=True, help="Revoke NAME's token and make no new one.")
@click.option(
    "--role",
    type=click.Choice([role.value for role in Role]),
    help="What the token allows: everything (all, the default); reading, starting saved commands, "
    "and cancelling and rerunning their jobs (run); or only reading (read). If NAME has a token, "
    "that token gets this role.",
)
def token_command(name: str, replace: bool, revoke: bool, role: str | None) -> None:
    """Make a token for NAME in the file that TAILBOARD_TOKENS names, and print it. It is shown only
    once."""
    tokens = state().tokens
    if not tokens.path:
        raise click.ClickException("TAILBOARD_TOKENS must name the token file")
    if not USER_NAME.fullmatch(name):
        raise click.ClickException(f"NAME must be {USER_NAMES}")
    if revoke and (replace or role):
        other = "--replace" if replace else "--role"
        raise click.ClickException(f"give either {other} or --revoke, not both")
    try:
        change_tokens(tokens, name, replace, revoke, Role(role) if role else None)
    except OSError as error:
        message = f"TAILBOARD_TOKENS: {tokens.path} cannot be used: {error.strerror}"
        raise click.ClickException(message) from None
    except ValueError as error:
        raise click.ClickException(str(error)) from None


def change_tokens(
    tokens: TokenFile, name: str, replace: bool, revoke: bool, role: Role | None
) -> None:
    """Do what the options say, and report it."""
    if revoke:
        revoke_token(tokens, name)
        record(Action.REVOKE, name)
        echo_line(f"{name}'s token has been revoked", err=True)
        return
    if role is not None and not replace and has_token(tokens, name):
        change_role(tokens, name, role)
        record(Action.ROLE, name, role)
        echo_line(f"{name} has the role {role} now; the token is the same as before", err=True)
        return
    token = secrets.token_urlsafe(TOKEN_BYTES)
    if replace:
        replace_token(tokens, name, token, role)
    else:
        role = role or Role.ALL
        add_token(tokens, name, token, role)
    try:
        echo_line(token)
        what = "keeps only its SHA-256, so this token cannot be shown again"
        echo_line(f"{tokens.path} {what}", err=True)
    finally:  # last: it waits for a storage that does not respond, and Ctrl-C would lose the token
        record(Action.REPLACE if replace else Action.MAKE, name, role)


def record(action: Action, name: str, role: Role | None = None) -> None:
    """Add a line to the audit log of the storage. `role`: the new one, if it was given. Before the
    first start of Tailboard there is no storage, and this command does not make one: it may run in
    any directory."""
    folder = state().settings.storage
    if not is_redis(folder) and not os.path.isdir(folder):
        where = f"the jobs folder {os.path.abspath(folder)} does not exist (TAILBOARD_STORAGE)"
        echo_line(f"this is not in the audit log: {where}", err=True)
        return
    subject = {"token": name} | ({} if role is None else {"role": role.value})
    store_line(new_entry(action, command_actor(user_name()), subject))
