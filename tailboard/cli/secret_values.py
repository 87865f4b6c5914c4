"""The values of secret params for `tailboard start`: from standard input or a prompt, never from
the command line."""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import click

from tailboard.cli.terminal import printable

WHY_NOT = (
    "other users of this machine can see the command line, and your shell keeps it in its history"
)


def read_secrets(
    name: str, params: Sequence[Mapping[str, Any]], given: Collection[str], wanted: Sequence[str]
) -> dict[str, str]:
    """The value of each secret param of the saved command `name`. `given`: the names of the values
    on the command line; `wanted`: the texts of the options --secret. The error messages contain no
    value."""
    secret = [param["name"] for param in params if param.get("secret")]
    from_stdin = [parse_option(name, secret, text) for text in wanted]
    if shown := [each for each in secret if each in given]:
        raise click.ClickException(
            f"{shown[0]} is secret: {WHY_NOT}. Leave it out to be asked for it, or pipe it into "
            f"--secret {shown[0]}=-"
        )
    if sys.stdin.isatty():
        return {each: click.prompt(each, hide_input=True, err=True) for each in secret}
    piped = [each for each in from_stdin if each is not None]
    if len(piped) > 1:
        raise click.ClickException(
            f"only one value can come from standard input, not those of {' and '.join(piped)}"
        )
    if missing := [each for each in secret if each not in piped]:
        raise click.ClickException(
            f"there is no terminal to ask for {missing[0]}, which is secret: pipe its value into "
            f"--secret {missing[0]}=-"
        )
    return {each: read_value(each) for each in piped}


def parse_option(name: str, secret: Collection[str], text: str) -> str | None:
    """The param whose value is on standard input, from `P=-`; None for `P`, which only names it."""
    param, has_value, value = text.partition("=")
    if has_value and value != "-":
        raise click.ClickException(f"--secret must be P or P=-, without the value: {WHY_NOT}")
    if param not in secret:
        known = ", ".join(secret) or "none"
        message = f"--secret: {param[:80]!r} is not a secret param of {name}; these are: {known}"
        raise click.ClickException(printable(message))
    return param if has_value else None


def read_value(param: str) -> str:
    """The text on standard input, without its last newline."""
    content = sys.stdin.buffer.read()
    try:
        return content.removesuffix(b"\n").decode()
    except UnicodeDecodeError as error:
        message = f"the value of {param} must be UTF-8 text, but byte {error.start} is not"
        raise click.ClickException(message) from None
