"""`tailboard up`, `api`, `worker` and `page`: start the programs on this machine."""

from __future__ import annotations

import errno
import http.client
import os
import re
import signal
import sys
import threading
import time
import webbrowser
from collections.abc import Callable, Mapping
from typing import NamedTuple, NoReturn
from urllib.parse import urlsplit

import click

from tailboard.addresses import check_address
from tailboard.cli.role_processes import Notice, RoleProcesses, StopRequest
from tailboard.cli.target import Remote
from tailboard.cli.terminal import INTERRUPTED, LocalCommand, WrongUsage
from tailboard.roles import ROOT
from tailboard.settings import Settings, parse_bind

ANSWER_INTERVAL = 0.1  # seconds between two checks whether a server answers
ANSWER_TIME = 5.0  # seconds for one check
PAGE_ADDRESS, PAGE_PORT = "127.0.0.1", 8501  # as in .streamlit/config.toml
# Arguments pass through to the program, which also has the help.
PASS_ON = {"ignore_unknown_options": True, "allow_interspersed_args": False}
PORT = click.IntRange(1, 65_535)
LOOPBACK_RE = re.compile(r"localhost|127(\.\d{1,3}){3}|::1")


class StartCommand(LocalCommand):
    """A command that starts a program on this machine. It says so if a server elsewhere is set."""

    def is_elsewhere(self, server: Remote) -> bool:
        return not LOOPBACK_RE.fullmatch(urlsplit(server.url).hostname or "")


class StartCommands(click.Group):
    command_class = StartCommand


commands = StartCommands()


def role_command(role: str, *arguments: str) -> list[str]:
    """The command line of a role."""
    if role != "page":
        return [sys.executable, str(ROOT / f"{role}.py"), *arguments]
    # -P: modules in the current folder must not replace those of the page.
    streamlit = [sys.executable, "-P", "-m", "streamlit", "run"]
    return [*streamlit, str(ROOT / "dashboard.py"), *arguments]


# --- One role -------------------------------------------------------------------------------------


@commands.command("api", context_settings=PASS_ON, add_help_option=False)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def api_command(arguments: tuple[str, ...]) -> None:
    """Start the API. Its settings are variables (TAILBOARD_BIND …)."""
    become("api", arguments)


@commands.command("worker", context_settings=PASS_ON, add_help_option=False)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def worker_command(arguments: tuple[str, ...]) -> None:
    """Start a worker. `tailboard worker --help` lists its options."""
    become("worker", arguments)


@commands.command("page", cls=click.Command, context_settings=PASS_ON, add_help_option=False)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def page_command(arguments: tuple[str, ...]) -> None:
    """Start the page, for the API at TAILBOARD_API. Its options are those of `streamlit run`."""
    become("page", arguments)


def become(role: str, arguments: tuple[str, ...]) -> NoReturn:
    """Replace this process with that of the role."""
    command = role_command(role, *arguments)
    os.execv(command[0], command)


# --- All roles ------------------------------------------------------------------------------------


class Addresses(NamedTuple):
    """Where the API and the page accept connections. A host can be a name or a wildcard."""

    api_host: str
    api_port: int
    page_host: str
    page_port: int

    def api_bind(self) -> str:
        return join(self.api_host, self.api_port)

    def api_url(self) -> str:
        return f"http://{join(reachable(self.api_host), self.api_port)}"

    def page_url(self) -> str:
        return f"http://{join(reachable(self.page_host), self.page_port)}"


@commands.command("up")
@click.option(
    "--slots",
    type=click.IntRange(1),
    default=os.cpu_count() or 1,
    show_default=True,
    help="How many jobs to run at once.",
)
@click.option("--port", type=PORT, help="Port of the API (default: TAILBOARD_BIND, or 5000).")
@click.option(
    "--page-port", type=PORT, help="Port of the page (default: STREAMLIT_SERVER_PORT, or 8501)."
)
@click.option("--open", "opens", is_flag=True, help="Open the page in a browser.")
def up_command(slots: int, port: int | None, page_port: int | None, opens: bool) -> None:
    """Start the API, a worker and the page.

    They work on the jobs folder in the current folder, or on TAILBOARD_STORAGE. Ctrl-C ends all
    three. Running jobs continue, and the next worker records how they end."""
    addresses = read_addresses(port, page_port)
    check_addresses(addresses)
    page_options = (
        f"--server.port={addresses.page_port}",
        f"--server.address={addresses.page_host}",
        "--logger.hideWelcomeMessage=true",  # this command prints the address
    )
    role_commands = {
        "api": role_command("api"),
        "worker": role_command("worker", f"--slots={slots}"),
        "page": role_command("page", *page_options),
    }
    own = {"TAILBOARD_BIND": addresses.api_bind(), "TAILBOARD_API": addresses.api_url()}
    roles = RoleProcesses(list(role_commands))
    report = roles.events.put
    threading.Thread(target=announce, args=(addresses, opens, report), daemon=True).start()
    roles.run(role_commands, {**os.environ, **own})
    if roles.failed is not None:
        raise click.ClickException(roles.describe_failure())
    if roles.stop_request == StopRequest(signal.SIGINT):
        sys.exit(INTERRUPTED)


def read_addresses(port: int | None, page_port: int | None) -> Addresses:
    """The addresses from the options and the environment. ClickException for a bad setting."""
    try:
        api_host, bind_port = parse_bind(Settings.read().bind)
    except ValueError as error:
        raise click.ClickException(str(error)) from None
    page_host = os.environ.get("STREAMLIT_SERVER_ADDRESS") or PAGE_ADDRESS
    return Addresses(
        api_host, port or bind_port, page_host, page_port or read_page_port(os.environ)
    )


def read_page_port(env: Mapping[str, str]) -> int:
    text = env.get("STREAMLIT_SERVER_PORT") or str(PAGE_PORT)
    if not re.fullmatch("[0-9]{1,5}", text) or not 0 < int(text) < 65_536:
        raise click.ClickException(
            f"STREAMLIT_SERVER_PORT must be a port from 1 to 65535, not {text!r:.60}"
        )
    return int(text)


def check_addresses(addresses: Addresses) -> None:
    """An error that names the option to use if a port is in use."""
    if addresses.api_port == addresses.page_port:
        raise WrongUsage("--port and --page-port must be different")
    check_option("--port", addresses.api_host, addresses.api_port)
    check_option("--page-port", addresses.page_host, addresses.page_port)


def check_option(option: str, host: str, port: int) -> None:
    """An error that names the option if no server can listen at its port."""
    try:
        check_address(host, port)
    except OSError as error:
        reason = f"{join(host, port)} cannot be used ({error.strerror})"
        if error.errno == errno.EADDRINUSE:
            reason = f"another program uses port {port}"
        raise click.ClickException(f"{reason}: choose another port with {option}") from None


def join(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def reachable(host: str) -> str:
    """The host for clients on this machine, if the server listens at `host`."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)


# --- The page's address ---------------------------------------------------------------------------


def announce(addresses: Addresses, opens: bool, report: Callable[[Notice], None]) -> None:
    """Report the address of the page once the API and the page answer, and open it in a browser if
    wanted. Runs in a thread."""
    wait_for_answer(addresses.api_host, addresses.api_port, "/healthz")
    wait_for_answer(addresses.page_host, addresses.page_port, "/")
    url = addresses.page_url()
    report(Notice(f"The page: {url} (Ctrl-C ends Tailboard; running jobs continue)"))
    if opens and not webbrowser.open(url):
        report(Notice("--open: no browser can be started here; open the address yourself"))


def wait_for_answer(host: str, port: int, path: str) -> None:
    """Wait until a server answers a request, with any status."""
    while True:
        connection = http.client.HTTPConnection(reachable(host), port, timeout=ANSWER_TIME)
        try:
            connection.request("GET", path)
            connection.getresponse()
            return
        except (OSError, http.client.HTTPException):
            time.sleep(ANSWER_INTERVAL)
        finally:
            connection.close()
