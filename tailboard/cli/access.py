"""`flask access` and `flask token`: show the access of each route, and manage tokens."""

from __future__ import annotations

import secrets

import click

from tailboard.cli.terminal import AppCommands, echo_line
from tailboard.web.operations import OPERATIONS
from tailboard.web.state import state
from tailboard.web.tokens import TOKEN_NAME, TOKEN_NAMES, change_token

TOKEN_BYTES = 32
commands = AppCommands()


@commands.command("access")
def access_command() -> None:
    """List the routes of the API: method, path, and what a request must present. Without
    TAILBOARD_TOKEN and TAILBOARD_TOKENS the API asks for neither token nor ticket; it then serves
    only programs on its own machine."""
    width = max(len(path) for _, path in OPERATIONS)
    for (method, path), operation in OPERATIONS.items():
        echo_line(f"{method.upper():6}  {path:{width}}  {operation.access}")


@commands.command("token")
@click.argument("name")
@click.option("--replace", is_flag=True, help="Replace NAME's token, which stops working.")
@click.option("--revoke", is_flag=True, help="Revoke NAME's token and make no new one.")
def token_command(name: str, replace: bool, revoke: bool) -> None:
    """Make a token for NAME in the file that TAILBOARD_TOKENS names, and print it. It is shown only
    once."""
    tokens = state().tokens
    if not tokens.path:
        raise click.ClickException("TAILBOARD_TOKENS must name the token file")
    if not TOKEN_NAME.fullmatch(name):
        raise click.ClickException(f"NAME must be {TOKEN_NAMES}")
    if replace and revoke:
        raise click.ClickException("give either --replace or --revoke, not both")
    token = None if revoke else secrets.token_urlsafe(TOKEN_BYTES)
    try:
        change_token(tokens, name, token, replace or revoke)
    except OSError as error:
        message = f"TAILBOARD_TOKENS: {tokens.path} cannot be used: {error.strerror}"
        raise click.ClickException(message) from None
    except ValueError as error:
        raise click.ClickException(str(error)) from None
    if token is None:
        echo_line(f"{name}'s token has been revoked", err=True)
        return
    echo_line(token)
    echo_line(
        f"{tokens.path} keeps only its SHA-256, so this token cannot be shown again", err=True
    )
