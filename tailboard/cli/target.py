"""Where a command works: on a server, or on the jobs folder of this machine.

It works on a server if `--on` or TAILBOARD_CONTEXT names a context, if TAILBOARD_API is set, or
after `tailboard login`. Environment variables take precedence over stored contexts. `--on local`
and a TAILBOARD_STORAGE in the environment select the folder (or Redis)."""

from __future__ import annotations

import os
import re
from typing import NamedTuple

import click
import requests
from flask import Flask
from flask.cli import ScriptInfo

import storage
from tailboard.cli.contexts import LOCAL, Contexts, find_context
from tailboard.cli.in_process import LOCAL_URL, InProcessAdapter
from tailboard.cli.user import user_name
from tailboard.client import ApiError, Client
from tailboard.settings import API_URL_RE, Settings, is_redis

PATIENCE = 4.0  # seconds until a command reports that the server does not respond
CHOSEN = "tailboard.on"  # keys of click's `meta`, which all contexts of a command share
CLIENT = "tailboard.client"
DEFAULT_FOLDER = Settings().storage


class Remote(NamedTuple):
    """The server that a command works on. `context`: its name; empty if TAILBOARD_API names it."""

    url: str
    token: str
    context: str = ""


def client(writes: bool = False) -> Client:
    """The client of the running command, for its server or its folder. `writes`: the command
    submits or changes something, so the folder that TAILBOARD_STORAGE names need not exist."""
    meta = click.get_current_context().meta
    if CLIENT not in meta:
        server = remote()
        meta[CLIENT] = remote_client(server) if server else local_client(writes)
    found: Client = meta[CLIENT]
    return found


def remote_client(server: Remote) -> Client:
    return Client(server.url, server.token, patience=PATIENCE)


def local_client(writes: bool) -> Client:
    app = load_app()
    check_folder(app.extensions["tailboard"].settings.storage, writes)
    session = requests.Session()
    session.trust_env = False  # no proxy
    session.mount(LOCAL_URL, InProcessAdapter(app, user_name()))
    return Client(LOCAL_URL, "", session=session, patience=0)


def load_app() -> Flask:
    """The application on this machine's folder. It is made at most once for a command."""
    return click.get_current_context().ensure_object(ScriptInfo).load_app()


def check_folder(path: str, writes: bool) -> None:
    """An error if there is no jobs folder. A command that only reads never makes one, and neither
    does a command in a directory that happens to have none."""
    if is_redis(path) or os.path.isdir(path):
        return
    if writes and path != DEFAULT_FOLDER:
        storage.open_folder(path)
        return
    raise click.ClickException(
        f"no jobs folder: {os.path.abspath(path)} does not exist. `tailboard up` starts Tailboard "
        "in this directory; `tailboard login URL` connects to a server"
    )


# --- The server -----------------------------------------------------------------------------------


def remote() -> Remote | None:
    """The server that the command works on; None if it works on the folder."""
    chosen = click.get_current_context().meta.get(CHOSEN)
    if url := os.environ.get("TAILBOARD_API"):
        return Remote(check_url("TAILBOARD_API", url), os.environ.get("TAILBOARD_TOKEN", ""))
    name = chosen or os.environ.get("TAILBOARD_CONTEXT")
    if name == LOCAL or (not name and os.environ.get("TAILBOARD_STORAGE")):
        return None
    contexts = Contexts()
    name = name or contexts.current
    if name is None:
        return None
    context = find_context(contexts, name)
    return Remote(context.url, os.environ.get("TAILBOARD_TOKEN") or context.token, context.name)


def check_url(name: str, url: str) -> str:
    """The URL without a slash at its end; an error if it is not one of a server."""
    if not API_URL_RE.fullmatch(url):
        raise click.ClickException(f"{name} must be a URL like https://ci.example.org, not {url!r}")
    return re.sub("/+$", "", url)


def explain(error: ApiError) -> str:
    """The error as a sentence for the user of a command."""
    server = remote() if error.status == 401 else None
    if server is None:
        return str(error)
    if os.environ.get("TAILBOARD_TOKEN"):
        return f"the server at {server.url} refused the token in TAILBOARD_TOKEN"
    if server.token:
        return f"the server at {server.url} refused the token of context {server.context}"
    return (
        f"the server at {server.url} needs a token: set TAILBOARD_TOKEN, or use `tailboard login`"
    )
