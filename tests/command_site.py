"""The commands on a jobs folder, and on a server: the same tests run with both.

pytest loads this file as a plugin. The commands run in the process of the test, because a program
for each of them would take too long; on a server, they send real HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from conftest import JobMaker, Site, serve_site
from web import token_line

from tailboard.errors import WrongState
from tailboard.folder.folder_store import FolderStore

USER, USERS_TOKEN = "anna", "a-token-of-anna"

# If the tests run in the background, they ignore Ctrl-C, and this program would, too.
HEEDS_CTRL_C = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
from tailboard.command import main
main()
"""


class Tailboard:
    """Runs `tailboard` with some words as anna; `job_maker` makes the jobs that it finds."""

    def __init__(self, job_maker: JobMaker, env: dict[str, str]) -> None:
        self.job_maker, self.env = job_maker, env

    @property
    def storage(self) -> FolderStore:
        return self.job_maker.storage

    @property
    def folder(self) -> Path:
        return self.job_maker.folder

    def __call__(self, *words: str, text: str | None = None, **env: str) -> Result:
        from tailboard.cli.main import tailboard

        runner = CliRunner(env=self.env | env)
        return runner.invoke(tailboard, words, input=text, prog_name="tailboard")


@pytest.fixture(scope="session")
def command_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The API for the commands of all tests; it knows anna by her token."""
    base = tmp_path_factory.mktemp("commands")
    (base / "tokens").write_text(token_line(USER, USERS_TOKEN))
    with serve_site(base, TAILBOARD_TOKENS=str(base / "tokens")) as site:
        yield site


@pytest.fixture
def on_folder(folder: Path, home: dict[str, str]) -> Tailboard:
    """The commands on a folder of the test's own."""
    return Tailboard(JobMaker(folder), {"TAILBOARD_STORAGE": str(folder), **home})


@pytest.fixture
def on_server(command_site: Site, home: dict[str, str]) -> Iterator[Tailboard]:
    """The commands on a server, whose folder is empty."""
    env = {"TAILBOARD_API": command_site.url, "TAILBOARD_TOKEN": USERS_TOKEN}
    yield Tailboard(command_site.job_maker, env | home)
    remove_all(command_site.job_maker.storage)


@pytest.fixture
def home(tmp_path: Path) -> dict[str, str]:
    """Who runs the commands, and where they store contexts."""
    config = str(tmp_path / "config")
    return {"HOME": config, "XDG_CONFIG_HOME": config, "SUDO_USER": "", "LOGNAME": USER}


@pytest.fixture(params=["folder", "server"])
def tailboard(request: pytest.FixtureRequest) -> Tailboard:
    found: Tailboard = request.getfixturevalue(f"on_{request.param}")
    return found


def remove_all(storage: FolderStore) -> None:
    """Remove everything that a test has made, except jobs that are still running."""
    for command in storage.saved.list():
        storage.saved.delete(command.saved)
    for pause in storage.pauses.list():
        storage.pauses.resume(pause.queue)
    for name in storage.notices.targets():
        storage.notices.set_target(name, None)
    for queue in storage.limits.list():
        storage.limits.set(queue, None)
    for job in storage.list(limit=500)[0]:
        with suppress(WrongState):
            storage.cancel(job.id, "")
        with suppress(WrongState):
            storage.delete(job.id)
